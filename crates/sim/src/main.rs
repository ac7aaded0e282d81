//! `muster-sim`: runs worlds and says what broke.
//!
//! ```text
//! muster-sim [--seeds FROM..TO] [--devices N] [--jobs N] [--world KIND] [--plant NAME] [--rare N] [--seed N] [--log]
//! ```
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use muster_sim::campaign::{Report, campaign};
use muster_sim::plant::Plant;
use muster_sim::world::{Options, run};

const USAGE: &str = "\
usage: muster-sim [--seeds FROM..TO] [--devices N] [--jobs N] [--world KIND] [--plant NAME] [--rare N]
       muster-sim --seed N [--log] [--devices N] [--world KIND] [--plant NAME]
       muster-sim --list

Runs one simulated fleet per seed and checks the invariants after each step.
  --seeds FROM..TO  the seeds to run (default 0..1000)
  --seed N          one seed; with --log its whole record is printed
  --devices N       the most devices in a fleet (default 10)
  --jobs N          threads (default 2)
  --world KIND      chaos (default), nightly, losses, upgrades or offline; with --plant that of the bug
  --plant NAME      switches a bug on, which must be found
  --rare N          fails if a rare branch that such worlds must show fired in fewer than N of them
  --list            lists the planted bugs and their kinds of world
exit status: 0 no violation, 1 violations or too little seen, 2 usage";

struct Arguments {
    seeds: (u64, u64),
    one: Option<u64>,
    log: bool,
    jobs: usize,
    rare: u64,
    options: Options,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--list"] {
        let line = |plant: &Plant| format!("{:8} {}", plant.kind().name(), plant.name());
        say(&Plant::ALL.iter().map(line).collect::<Vec<_>>().join("\n"));
        return ExitCode::SUCCESS;
    }
    match parse(&words) {
        Ok(arguments) => match arguments.one {
            Some(seed) => run_one(seed, &arguments),
            None => run_many(&arguments),
        },
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}"));
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: (0, 1_000),
        one: None,
        log: false,
        jobs: 2,
        rare: 0,
        options: Options::default(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: &String| {
            text.parse::<u64>().map_err(|_| format!("{word} takes a number, not `{text}`"))
        };
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let range = text.split_once("..");
                let (from, to) =
                    range.ok_or_else(|| format!("--seeds takes FROM..TO, not `{text}`"))?;
                arguments.seeds = (number(&from.to_owned())?, number(&to.to_owned())?);
            }
            "--seed" => arguments.one = Some(number(value()?)?),
            "--devices" => arguments.options.devices = number(value()?)?.clamp(1, 1_000) as usize,
            "--jobs" => arguments.jobs = number(value()?)?.clamp(1, 64) as usize,
            "--rare" => arguments.rare = number(value()?)?,
            "--world" => arguments.options.kind = Some(value()?.parse()?),
            "--plant" => arguments.options.plant = Some(value()?.parse()?),
            "--log" => arguments.log = true,
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(arguments)
}

fn run_one(seed: u64, arguments: &Arguments) -> ExitCode {
    let ended = run(seed, &Options { record: arguments.log, ..arguments.options });
    say(&ended.record);
    match &ended.violation {
        Some(violation) => {
            say(&format!("seed {seed}: {violation}"));
            ExitCode::from(1)
        }
        None => {
            say(&format!(
                "seed {seed}: {} steps, {} executions, no violation",
                ended.steps, ended.executions
            ));
            ExitCode::SUCCESS
        }
    }
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let (from, to) = arguments.seeds;
    let report = campaign(from, to, &arguments.options, arguments.jobs, false);
    say(&text(&report));
    let short = report.seen.short_of(arguments.rare, arguments.options.kind());
    for (name, count) in &short {
        say(&format!("`{name}` fired in {count} worlds, not in {}", arguments.rare));
    }
    ExitCode::from(u8::from(!report.broken.is_empty() || !short.is_empty()))
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .broken
        .iter()
        .filter_map(|ended| Some(format!("seed {}: {}", ended.seed, ended.violation.as_ref()?)))
        .collect();
    lines.push("rare branches, and in how many worlds each fired:".to_owned());
    lines.extend(report.seen.table().iter().map(|(name, count)| format!("  {count:>6}  {name}")));
    lines.push(format!(
        "{} seeds, {} violations, {} steps, {} executions",
        report.seeds,
        report.broken.len(),
        report.steps,
        report.executions
    ));
    lines.join("\n")
}

/// Prints to standard output; a closed pipe is nobody's loss.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
