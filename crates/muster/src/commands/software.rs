//! `agent software list|install|defer` and `agent install`: what the people at the device may ask of it.
//!
//! A request is left in the agent's folder and taken by the agent, at once if it runs. What will become
//! of it is told before that, by the same decision that the agent will take.

use std::path::Path;
use std::time::{Duration, Instant};

use muster_agent::status::{self, SoftwareRow};
use muster_agent::{Promise, Request, Stands, requests};
use muster_model::api::Page;
use muster_model::id::AdvertisementId;
use muster_model::period::Period;
use muster_model::state::Word;

use crate::args::{Output, Software, SoftwareCommand, Waiting};
use crate::error::{Exit, Failure, Outcome, Tried};
use crate::print::{answer, dash, out, say, table, time};

/// How often the device is looked at while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Every `agent software` command.
pub(crate) fn command(args: Software) -> Outcome {
    let data = args.data.ok_or_else(|| {
        Failure::usage("`muster agent software` needs the agent's folder")
            .hint("give it with `--data DIR`")
    })?;
    match args.action {
        None | Some(SoftwareCommand::List) => list(&data, args.output),
        Some(SoftwareCommand::Install { name, waiting }) => install(&data, &name, waiting),
        Some(SoftwareCommand::Defer { name, time }) => defer(&data, &name, time),
    }
}

fn list(data: &Path, output: Output) -> Outcome {
    answer(output, &Page { items: rows(data)?, next: None }, |page| {
        let rows = page.items.iter().map(|row| {
            [
                row.name.to_string(),
                dash(row.package.as_ref()),
                row.program.clone(),
                row.occurrence.to_string(),
                row.state.to_string(),
                reason(row),
                dash(row.mandatory),
                time(row.latest),
                row.attempt.to_string(),
                time(Some(row.since)),
            ]
        });
        let head = [
            "advertisement",
            "package",
            "program",
            "occurrence",
            "state",
            "reason",
            "mandatory",
            "latest start",
            "attempt",
            "since",
        ];
        table(&head, rows);
    })
}

/// The rest of a state; of a program that runs for each user, and has not ended, how many it has run for.
fn reason(row: &SoftwareRow) -> String {
    let served = row.users.iter().filter(|turn| turn.stands == Stands::Served).count();
    let users = (!row.users.is_empty() && !row.state.is_terminal())
        .then(|| format!("{served} of {} users served", row.users.len()));
    let said: Vec<String> = row.reason.iter().cloned().chain(users).collect();
    dash((!said.is_empty()).then(|| said.join("; ")))
}

/// Starts what is advertised under `name`, and waits for its end if somebody wants that.
pub(crate) fn install(data: &Path, name: &str, waiting: Waiting) -> Outcome {
    let advertisement = find(data, name)?;
    let promise = ask(data, name, &Request::Install { advertisement })?;
    out(match promise {
        Promise::Starts => format!("{name} starts as soon as its content is here"),
        Promise::StartsAfter(why) => format!("{name} starts when this is over: waiting({why})"),
        Promise::Runs => format!("{name} has been started already"),
        Promise::PutOff { until } => format!("{name} starts {until}"),
        Promise::Verifies => "the agent verifies itself".to_owned(),
    });
    match waiting.wait {
        true => await_end(data, name, advertisement, waiting.timeout),
        false => {
            say("`muster agent software` shows how it goes");
            Ok(())
        }
    }
}

fn defer(data: &Path, name: &str, period: Period) -> Outcome {
    let advertisement = find(data, name)?;
    let now = status::trusted_time(data).tried(|| reading(data))?;
    let until = now.plus(period.duration());
    if let Promise::PutOff { until } = ask(data, name, &Request::Defer { advertisement, until })? {
        out(format!("{name} is put off until {until}"));
    }
    Ok(())
}

/// Leaves a request, unless it would be refused. Answers what will become of it.
fn ask(data: &Path, name: &str, request: &Request) -> Outcome<Promise> {
    let weighed = status::weigh(data, request).tried(|| reading(data))?;
    let promise = weighed.tried(|| format!("ask for {name}"))?;
    if promise != Promise::Runs {
        requests::leave(data, request).tried(|| format!("ask for {name}"))?;
    }
    if !status::is_running(data) {
        say("the agent does not run: it takes the request when it starts");
    }
    Ok(promise)
}

/// The advertisement that somebody means: by its name or id, or by the name of its package if only one
/// advertisement offers that.
fn find(data: &Path, name: &str) -> Outcome<AdvertisementId> {
    let rows = rows(data)?;
    let known = |row: &&SoftwareRow| row.name == name || row.advertisement.to_string() == name;
    if let Some(row) = rows.iter().find(known) {
        return Ok(row.advertisement);
    }
    let of_package = |row: &SoftwareRow| {
        row.package
            .as_deref()
            .and_then(|package| package.rsplit_once('@'))
            .is_some_and(|p| p.0 == name)
    };
    let mut found: Vec<AdvertisementId> =
        rows.iter().filter(|row| of_package(row)).map(|row| row.advertisement).collect();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(format!("nothing called `{name}` is advertised to this device"))
            .hint("`muster agent software` lists what is")),
        _ => Err(Failure::new(format!("several advertisements offer the package `{name}`"))
            .hint("give the name of one of them; `muster agent software` lists them")),
    }
}

fn await_end(data: &Path, name: &str, advertisement: AdvertisementId, most: Period) -> Outcome {
    let deadline = Instant::now() + most.duration();
    loop {
        let rows = rows(data)?;
        let of_it = || rows.iter().filter(|row| row.advertisement == advertisement);
        let row = of_it().find(|row| !row.state.is_complete()).or_else(|| of_it().next_back());
        if let Some(row) = row.filter(|row| row.state.is_complete()) {
            return ended(name, row);
        }
        if Instant::now() >= deadline {
            let stands = row.map_or("gone".to_owned(), shown);
            let text = format!("{name} has not ended within {most}: it stands at {stands}");
            return Err(Failure::new(text).exit(Exit::TimedOut));
        }
        // The journal wakes nobody; this is one look at a time, until the deadline.
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn ended(name: &str, row: &SoftwareRow) -> Outcome {
    match row.state {
        Word::Succeeded => {
            out(format!("{name} {}", shown(row)));
            Ok(())
        }
        _ => Err(Failure::new(format!("{name} {}", shown(row)))),
    }
}

fn shown(row: &SoftwareRow) -> String {
    match &row.reason {
        Some(reason) => format!("{}({reason})", row.state),
        None => row.state.to_string(),
    }
}

fn rows(data: &Path) -> Outcome<Vec<SoftwareRow>> {
    status::software(data).tried(|| reading(data))
}

fn reading(data: &Path) -> String {
    format!("read the state of the device in {}", data.display())
}
