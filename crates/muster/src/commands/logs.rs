//! `logs`: what programs printed on a device, as far as reports carried it to the site.

use muster_model::api::{MessageView, PAGE_ITEMS_MAX, Page};
use muster_model::clock::Wall;
use muster_model::message::{Body, Message, Occurrence, Report, RunId};
use muster_model::object::Kind;
use muster_model::program::Dependency;
use serde::Serialize;

use crate::api::{Api, Query};
use crate::args;
use crate::error::{Failure, Outcome};
use crate::print::{answer, for_user, out};

/// What one run printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunOutput {
    /// The run.
    run_id: RunId,
    occurrence: Occurrence,
    attempt: u32,
    /// The program that ran, where it was one that goes before the advertised one.
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency: Option<Dependency>,
    /// The user whom it was for, of a program that runs for each who is logged on.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// How it ended.
    ended: String,
    /// When the device said so, in its trusted time.
    at: Wall,
    /// The beginning and the end of what it printed.
    output: String,
}

/// `logs DEVICE ADVERTISEMENT`.
pub(crate) async fn logs(api: &Api, args: args::Logs) -> Outcome {
    let mut query = Query::new();
    query.set("device", Some(api.resolve("device", &args.device).await?));
    let advertisement = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    query.set("advertisement", Some(advertisement));
    query.set("limit", Some(PAGE_ITEMS_MAX));
    let page: Page<MessageView> = api.get("/messages", &query).await?;
    let mut items: Vec<RunOutput> = page.items.into_iter().filter_map(run_output).collect();
    if !args.all {
        items.drain(..items.len().saturating_sub(1));
    }
    if items.is_empty() {
        let what = format!("no run of `{}` has ended on `{}`", args.advertisement, args.device);
        let hint = format!("`muster why {} {}` says why", args.device, args.advertisement);
        return Err(Failure::new(what).hint(hint));
    }
    answer(args.format.output, &Page { items, next: None }, |page| {
        for item in &page.items {
            if args.all {
                let user = for_user(item.user.as_deref());
                let RunOutput { occurrence, attempt, ended, .. } = item;
                out(format!("--- {occurrence} attempt {attempt}{user}: {ended}"));
            }
            out(item.output.trim_end_matches('\n'));
        }
    })
}

/// The run whose end a message tells, if it tells one.
fn run_output(view: MessageView) -> Option<RunOutput> {
    let message: Message = serde_json::from_value(view.body).ok()?;
    let Body::Obligation(report) = message.body else { return None };
    let Report { run, occurrence, attempt, dependency, user, state, .. } = report;
    let Report { attempt_ended, output, .. } = report;
    let ended = attempt_ended.unwrap_or(state);
    let over = ended.word().is_terminal() || !output.is_empty();
    Some(RunOutput {
        run_id: run.filter(|_| over)?,
        occurrence,
        attempt,
        dependency,
        user,
        ended: ended.to_string(),
        at: view.trusted,
        output,
    })
}
