//! `site init|run|backup|restore`: the site's own machine.

use std::path::Path;

use muster_host::clock::Clock;
use muster_host::publish::read_limited;
use muster_host::quota::ByteSize;
use muster_model::id::EpochId;
use muster_site::backup::{self, Restore};

use crate::args::{SiteCommand, SiteInit};
use crate::error::{Failure, Outcome, Tried};
use crate::print::{out, say};

/// The longest passphrase file, in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4 * 1024;

/// Every `site` command but `settings`.
pub(crate) fn command(command: SiteCommand) -> Outcome {
    let runtime = tokio::runtime::Runtime::new().tried(|| "start".into())?;
    match command {
        SiteCommand::Init(args) => runtime.block_on(init(args)),
        SiteCommand::Run { data } => {
            let ran = muster_site::run(&data, crate::compose::device_protocol);
            runtime.block_on(ran).tried(|| format!("run the site in {}", data.display()))
        }
        SiteCommand::Backup { data, file, passphrase_file } => {
            runtime.block_on(back_up(&data, &file, passphrase_file.as_deref()))
        }
        SiteCommand::Restore { data, file, passphrase_file, database } => {
            runtime.block_on(restore(&data, &file, passphrase_file.as_deref(), database))
        }
        SiteCommand::Settings { .. } => Err(Failure::usage("settings are asked of the site")),
    }
}

async fn init(args: SiteInit) -> Outcome {
    let quota = args.quota.as_deref().map(str::parse::<ByteSize>).transpose();
    let data = args.data.clone();
    let options = muster_site::InitOptions {
        data: args.data,
        code: args.code,
        listen: args.listen,
        database: args.database,
        content: args.content,
        url: args.url,
        quota: quota.tried(|| "read --quota".into())?.map(|size| size.0),
    };
    let made =
        muster_site::init(options).await.tried(|| format!("make a site in {}", data.display()))?;
    out(format!("site {} is made in {}; its address is {}", made.code, data.display(), made.url));
    say(format!("start it with `muster site run --data {}`", data.display()));
    Ok(())
}

async fn back_up(data: &Path, file: &Path, passphrase_file: Option<&Path>) -> Outcome {
    let passphrase = passphrase(passphrase_file)?;
    let clock = Clock::from_env().tried(|| "read the clock's settings".into())?;
    let done = backup::write(data, file, passphrase.as_deref(), clock.wall())
        .await
        .tried(|| format!("back up the site in {}", data.display()))?;
    out(format!(
        "site {}: {} rows and {} objects in {}",
        done.code,
        done.rows,
        done.objects,
        file.display()
    ));
    say(match done.keys_sealed {
        true => format!("its keys are sealed in {}.keys; keep both, apart", file.display()),
        false => format!(
            "its keys are in {0}.keys, NOT sealed: whoever has that file is the site; use \
             --passphrase-file to seal them, and keep it apart from {0}",
            file.display()
        ),
    });
    Ok(())
}

async fn restore(
    data: &Path,
    file: &Path,
    passphrase_file: Option<&Path>,
    database: Option<String>,
) -> Outcome {
    let passphrase = passphrase(passphrase_file)?;
    let epoch = EpochId(uuid::Uuid::now_v7());
    let passphrase = passphrase.as_deref();
    let done = backup::restore(Restore { data, file, passphrase, database, epoch })
        .await
        .tried(|| format!("restore a site into {}", data.display()))?;
    out(format!(
        "site {} is restored in {} with {} rows, {} objects and a new epoch",
        done.code,
        data.display(),
        done.rows,
        done.objects
    ));
    say("devices notice the new epoch and send again what the backup does not know");
    Ok(())
}

fn passphrase(file: Option<&Path>) -> Outcome<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let tried = || format!("read the passphrase file {}", file.display());
    let text = String::from_utf8(read_limited(file, PASSPHRASE_BYTES_MAX).tried(tried)?);
    let text = text.tried(tried)?;
    Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
}
