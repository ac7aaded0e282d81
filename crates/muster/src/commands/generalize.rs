//! `agent generalize`: a folder for golden images.

use muster_agent::identity::Identity;
use muster_agent::{FirstBoot, GeneralizeOptions};

use super::login::read_token;
use crate::args::Generalize;
use crate::error::{Failure, Outcome, Tried};
use crate::print::{answer, out, say};

/// `agent generalize`.
pub(crate) fn command(args: Generalize) -> Outcome {
    let first_boot = first_boot(&args)?;
    let options = GeneralizeOptions { data: args.data.clone(), first_boot, discard: args.discard };
    let done = muster_agent::generalize(&options)
        .tried(|| format!("make {} a folder for images", args.data.display()))?;
    answer(args.format.output, &done, |done| match &done.enrols_at {
        Some(site) => out(format!("each copy enrols at {site} at its first boot")),
        None => out("copies have no identity until `muster agent enroll` gives them one"),
    })?;
    if done.discarded > 0 {
        say(format!("warning: {} outcomes were given up", done.discarded));
    }
    if let Some(device) = done.device {
        say(format!("hint: `muster device retire {device}` at the site: this was its identity"));
    }
    Ok(())
}

fn first_boot(args: &Generalize) -> Outcome<Option<FirstBoot>> {
    if args.token.is_none() && args.token_file.is_none() {
        return match args.site {
            Some(_) => Err(Failure::usage("--site without a token").hint(
                "`muster token create --uses COPIES --ttl 30d` makes one; --token-file FILE",
            )),
            None => Ok(None),
        };
    }
    let token = read_token(args.token.as_deref(), args.token_file.as_deref())?;
    let own = || {
        let identity = Identity::load(&args.data)
            .tried(|| format!("read the identity in {}", args.data.display()))?;
        identity.map(|identity| identity.site_url).ok_or_else(|| {
            Failure::usage("no site for the copies").hint("give --site URL: there is no identity")
        })
    };
    let site = args.site.clone().map_or_else(own, Ok)?;
    Ok(Some(FirstBoot::new(site, &token)))
}
