//! `accounting`, `why`, `wait`: what became of it on each machine.

use std::time::{Duration, Instant};

use muster_model::api::{AccountingAnswer, Finding, Page, WaitAnswer, WhyAnswer};
use muster_model::object::Kind;
use muster_model::plural::counted;

use crate::api::{Api, Query};
use crate::args;
use crate::error::{Exit, Failure, Outcome};
use crate::print::{answer, dash, out, say, table, time};

/// How often `wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `accounting ADVERTISEMENT`, `accounting verify`.
pub(crate) async fn accounting(api: &Api, args: args::Accounting) -> Outcome {
    if args.advertisement == "verify" {
        return verify(api, args).await;
    }
    let found = load(api, &args).await?;
    answer(args.format.output, &found, draw)
}

async fn load(api: &Api, args: &args::Accounting) -> Outcome<AccountingAnswer> {
    let id = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    let wanted = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut query = Query::new();
    query.set("state", args.state);
    query.set("occurrence", args.occurrence.as_deref());
    query.set("all", args.all.then_some(true));
    query.set("limit", args.limit);
    let path = format!("/advertisements/{id}/accounting");
    let mut found: AccountingAnswer = api.get(&path, &query).await?;
    while found.devices.len() < wanted {
        let Some(cursor) = found.next.take() else { break };
        query.set("cursor", Some(cursor));
        let page: AccountingAnswer = api.get(&path, &query).await?;
        found.devices.extend(page.devices);
        found.next = page.next;
    }
    found.devices.truncate(wanted);
    Ok(found)
}

fn draw(found: &AccountingAnswer) {
    out(format!(
        "{}: {} targeted, {}, as of {}",
        found.advertisement,
        found.targeted,
        counted(found.members, "member"),
        found.as_of
    ));
    for (state, count) in &found.states {
        out(format!("  {count:>8}  {state}"));
    }
    for (mark, count) in found.marks.iter().filter(|(_, count)| **count > 0) {
        out(format!("  {count:>8}  marked {mark}"));
    }
    if found.devices.is_empty() {
        return;
    }
    out("");
    let rows = found.devices.iter().map(|device| {
        [
            device.name.clone(),
            device.state.to_string(),
            dash(device.reason.clone()),
            device.occurrence.to_string(),
            device.attempt.to_string(),
            time(device.since),
            device.marks.join(", "),
        ]
    });
    table(&["device", "state", "reason", "occurrence", "attempt", "since", "marks"], rows);
}

async fn verify(api: &Api, args: args::Accounting) -> Outcome {
    let found: Page<Finding> = api.get("/accounting/verify", &Query::new()).await?;
    answer(args.format.output, &found, |found| {
        for finding in &found.items {
            let verdict = if finding.ok { "ok    " } else { "BROKEN" };
            out(format!("{verdict} {}: {}", finding.check, finding.detail));
        }
    })?;
    match found.items.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        broken => Err(Failure::new(format!("{broken} invariants are broken"))
            .hint("the lines marked BROKEN name what and where")),
    }
}

/// `why DEVICE ADVERTISEMENT`.
pub(crate) async fn why(api: &Api, args: args::Why) -> Outcome {
    let device = api.resolve("device", &args.device).await?;
    let advertisement = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    let mut query = Query::new();
    query.set("device", Some(device));
    let found: WhyAnswer = api.get(&format!("/advertisements/{advertisement}/why"), &query).await?;
    answer(args.format.output, &found, |found| {
        let state = dash(found.state);
        let reason = found.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        out(format!("{} and {}: {state}{reason}", found.name, found.advertisement));
        for step in &found.chain {
            out(format!("  {:<12} {}: {}", step.verdict, step.step, step.because));
        }
        let when = found.next.at.map(|at| format!(" at {at}")).unwrap_or_default();
        out(format!("next: {}{when}", found.next.what));
    })
}

/// `wait ADVERTISEMENT --for CONDITION --timeout T`.
pub(crate) async fn wait(api: &Api, args: args::Wait) -> Outcome {
    let id = api.resolve(Kind::Advertisement.word(), &args.advertisement).await?;
    let mut query = Query::new();
    query.set("for", Some(args.condition.as_str()));
    let deadline = Instant::now() + args.timeout.duration();
    let mut shown = String::new();
    loop {
        let answered = api.get::<WaitAnswer>(&format!("/advertisements/{id}/wait"), &query).await;
        match answered {
            Ok(found) if found.met => {
                return answer(args.format.output, &found, |found| out(found.sentence()));
            }
            Ok(found) => {
                let now = found.sentence();
                if crate::print::watched() && now != shown {
                    say(&now);
                }
                shown = now;
            }
            // The site may be coming back: the deadline still counts.
            Err(failed) if failed.exit == Exit::Usage => return Err(failed.into()),
            Err(failed) if Instant::now() >= deadline => return Err(failed.into()),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "`{}` is not {} after {}: {shown}",
                args.advertisement, args.condition, args.timeout
            ))
            .exit(Exit::TimedOut)
            .hint(format!("`muster accounting {}` shows each device", args.advertisement)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
