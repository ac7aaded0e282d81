//! `agent enroll|run|leave|generalize|status|verify|log`: the device's own machine, also without its site.

use std::path::Path;

use muster_agent::{EnrollOptions, RunOptions};
use muster_host::quota::ByteSize;
use muster_model::api::Page;

use super::login::read_token;
use crate::args::{AgentCommand, Enroll, Output};
use crate::error::{Outcome, Tried};
use crate::print::{answer, for_user, out, say, table, time};

/// Every `agent` command.
pub(crate) fn command(command: AgentCommand) -> Outcome {
    match command {
        AgentCommand::Enroll(args) => enroll(*args),
        AgentCommand::Run { data, session_source } => {
            let source = session_source.as_ref().map(std::path::absolute).transpose();
            let session_source = source.tried(|| "read --session-source".into())?;
            let options = RunOptions { data: data.clone(), supervisor: None, session_source };
            muster_agent::run(options).tried(|| format!("run the agent in {}", data.display()))
        }
        AgentCommand::Leave { data } => {
            let left =
                muster_agent::leave(&data).tried(|| format!("leave with {}", data.display()))?;
            out(match left.device {
                Some(device) => format!("{device} is given up; enrol again for a new identity"),
                None => "there was no identity".to_owned(),
            });
            Ok(())
        }
        AgentCommand::Generalize(args) => super::generalize::command(args),
        AgentCommand::Status { data, format } => status(&data, format.output),
        AgentCommand::Verify { data, format } => super::verify::command(&data, format.output),
        AgentCommand::Software(args) => super::software::command(args),
        AgentCommand::Install(args) => {
            super::software::install(&args.data, &args.name, args.waiting)
        }
        AgentCommand::Log { data, name: None, format, .. } => log(&data, format.output),
        AgentCommand::Log { data, name: Some(name), all, format } => {
            printed(&data, &name, all, format.output)
        }
    }
}

fn enroll(args: Enroll) -> Outcome {
    let source = &args.token;
    let token = read_token(source.token.as_deref(), source.token_file.as_deref())?;
    let unpinned = token.trust.is_none();
    let quota = args.quota.as_deref().map(str::parse::<ByteSize>).transpose();
    let site = args.site.clone();
    let options = EnrollOptions {
        data: args.data,
        site: args.site,
        token,
        name: args.name,
        root: args.root,
        quota: quota.tried(|| "read --quota".into())?,
        session_source: args.session_source,
        restart_command: args.restart_command,
        settings: args.settings,
    };
    let done = muster_agent::enroll(options).tried(|| format!("enrol at {site}"))?;
    let already = if done.already { "already " } else { "" };
    out(format!("{} is {already}enrolled at site {} as {}", done.name, done.site, done.device));
    if done.held {
        say("it waits for `muster device approve`");
    }
    if unpinned && !done.already {
        say("warning: the token pins no publisher; the first trust document will be believed");
    }
    Ok(())
}

fn status(data: &Path, output: Output) -> Outcome {
    let found = muster_agent::status::status(data)
        .tried(|| format!("read the state of the device in {}", data.display()))?;
    let output = if output == Output::Table { Output::Yaml } else { output };
    answer(output, &found, |_| ())
}

fn printed(data: &Path, name: &str, all: bool, output: Output) -> Outcome {
    let mut items = muster_agent::status::output(data, name)
        .tried(|| format!("read what `{name}` printed on the device in {}", data.display()))?;
    if !all {
        items.drain(..items.len().saturating_sub(1));
    }
    if items.is_empty() {
        say(format!("nothing of `{name}` has run"));
    }
    answer(output, &Page { items, next: None }, |page| {
        for item in &page.items {
            if all {
                let user = for_user(item.user.as_deref());
                out(format!(
                    "--- {} attempt {}{user}: {}",
                    item.occurrence, item.attempt, item.state
                ));
            }
            out(item.output.as_deref().unwrap_or("").trim_end_matches('\n'));
        }
    })
}

fn log(data: &Path, output: Output) -> Outcome {
    let items = muster_agent::status::log(data)
        .tried(|| format!("read the messages of the device in {}", data.display()))?;
    answer(output, &Page { items, next: None }, |page| {
        let rows = page.items.iter().map(|row| {
            [
                time(Some(row.at)),
                row.severity.word().to_owned(),
                row.code.to_string(),
                row.sequence.to_string(),
                if row.acknowledged { "received" } else { "waiting" }.to_owned(),
                row.text.clone(),
            ]
        });
        table(&["time", "severity", "code", "sequence", "site", "message"], rows);
    })
}
