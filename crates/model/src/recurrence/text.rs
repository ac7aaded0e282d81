//! Reading a recurrence: the properties and values of RFC 5545 that have a meaning here, each of the
//! others refused by name.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;

use super::rule::{Frequency, Rule};
use super::{
    Clock, EVERY_BYTES_MAX, EVERY_COUNT_MAX, EVERY_DATES_MAX, EVERY_INTERVAL_MAX, Every, Parts,
    named_zone,
};
use crate::clock::Wall;

/// Why a text is no recurrence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotARecurrence {
    /// It is too long.
    #[error("a recurrence has at most {EVERY_BYTES_MAX} bytes, not {0}")]
    Long(usize),
    /// A property is missing, comes twice or means nothing here.
    #[error(
        "a recurrence is written like `DTSTART:20270101T020000` and, on the next line, \
         `RRULE:FREQ=WEEKLY;BYDAY=SA` (RFC 5545): {0}"
    )]
    Shape(String),
    /// A value cannot be read.
    #[error("{property} {value:?}: {why}")]
    Value {
        /// The property or rule part.
        property: String,
        /// What was written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two parts contradict each other.
    #[error("RRULE: {0}")]
    Contradiction(String),
    /// It has no time at all.
    #[error("the recurrence never falls due: no time of the rule is left")]
    Never,
}

type Read<T> = Result<T, NotARecurrence>;

const PROPERTIES: [&str; 4] = ["DTSTART", "RRULE", "RDATE", "EXDATE"];

/// One property: `NAME;PARAMETER=VALUE:VALUE`.
struct Line {
    name: String,
    parameters: Vec<(String, String)>,
    value: String,
}

impl FromStr for Every {
    type Err = NotARecurrence;

    fn from_str(text: &str) -> Read<Self> {
        if text.len() > EVERY_BYTES_MAX {
            return Err(NotARecurrence::Long(text.len()));
        }
        let lines = lines(text)?;
        let [start] = &lines.iter().filter(|line| line.name == "DTSTART").collect::<Vec<_>>()[..]
        else {
            return Err(shape("it needs exactly one DTSTART"));
        };
        let (clock, start) = read_start(start)?;
        let rules: Vec<&Line> = lines.iter().filter(|line| line.name == "RRULE").collect();
        let rule = match &rules[..] {
            [] => None,
            [line] => Some(read_rule(&line.value, &clock)?.resolved(start)),
            _ => return Err(shape("it has at most one RRULE")),
        };
        let mut also = read_dates(&lines, "RDATE", &clock)?;
        if rule.is_none() {
            // Without a rule the start is a time itself (section 3.8.5.2).
            if also.is_empty() {
                return Err(shape("it needs an RRULE or RDATE"));
            }
            also.insert(start);
        }
        let except = read_dates(&lines, "EXDATE", &clock)?;
        let written: Vec<String> = lines.iter().map(Line::text).collect();
        let text = written.join("\n");
        let every = Self(Arc::new(Parts { clock, start, rule, also, except, text }));
        every.next_civil(DateTime::MIN, true).ok_or(NotARecurrence::Never)?;
        Ok(every)
    }
}

impl Line {
    fn text(&self) -> String {
        let parameters: String =
            self.parameters.iter().map(|(name, value)| format!(";{name}={value}")).collect();
        format!("{}{parameters}:{}", self.name, self.value)
    }

    fn parameter(&self, wanted: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(name, _)| name == wanted)?;
        Some(&found.1)
    }
}

/// The properties, with folded lines made whole (section 3.1): what begins like no property goes on
/// from what stands before it.
fn lines(text: &str) -> Read<Vec<Line>> {
    let mut whole: Vec<String> = Vec::new();
    for piece in text.split_whitespace() {
        let upper = piece.to_ascii_uppercase();
        let name = upper.split([';', ':']).next().unwrap_or_default();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
        let begins = PROPERTIES.contains(&name)
            || is_name && upper.as_bytes().get(name.len()) == Some(&b':');
        match whole.last_mut() {
            Some(last) if !begins => last.push_str(piece),
            _ => whole.push(piece.to_owned()),
        }
    }
    whole.iter().map(|line| read_line(line)).collect()
}

fn read_line(text: &str) -> Read<Line> {
    let (head, value) =
        text.split_once(':').ok_or_else(|| shape(&format!("{:?} has no `:`", clipped(text))))?;
    let mut parts = head.split(';');
    let name = parts.next().unwrap_or_default().to_ascii_uppercase();
    if !PROPERTIES.contains(&name.as_str()) {
        let known = PROPERTIES.join(", ");
        return Err(shape(&format!("{:?} has no meaning here; known are {known}", clipped(&name))));
    }
    let mut parameters = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let key = key.to_ascii_uppercase();
        match (key.as_str(), value.to_ascii_uppercase().as_str()) {
            ("TZID", _) => {}
            // What is meant anyway.
            ("VALUE", "DATE-TIME") => continue,
            ("VALUE", _) => {
                return Err(value_error(&name, part, "only times have a meaning here, not dates"));
            }
            _ => return Err(value_error(&name, part, "the parameter has no meaning here")),
        }
        parameters.push((key, value.to_owned()));
    }
    Ok(Line { name, parameters, value: value.to_owned() })
}

fn read_start(line: &Line) -> Read<(Clock, DateTime)> {
    let (time, utc) = read_time("DTSTART", &line.value)?;
    let clock = match (line.parameter("TZID"), utc) {
        (None, false) => Clock::Floating,
        (None, true) => Clock::Utc,
        (Some(_), true) => {
            return Err(value_error(
                "DTSTART",
                &line.value,
                "it has TZID and `Z`: one is too much",
            ));
        }
        (Some(name), false) => {
            if named_zone(name).is_none() {
                let why = "no time zone is called that: a zone has a name like Europe/Vienna";
                return Err(value_error("TZID", name, why));
            }
            Clock::Zone(name.to_owned())
        }
    };
    Ok((clock, time))
}

/// The times of every line of that name, as the clock of the start shows them.
fn read_dates(lines: &[Line], name: &str, clock: &Clock) -> Read<BTreeSet<DateTime>> {
    let mut times = BTreeSet::new();
    for line in lines.iter().filter(|line| line.name == name) {
        for value in line.value.split(',') {
            let (time, utc) = read_time(name, value)?;
            let own = match clock {
                Clock::Zone(zone) => line.parameter("TZID") == Some(zone.as_str()) && !utc,
                Clock::Utc => line.parameter("TZID").is_none() && utc,
                Clock::Floating => line.parameter("TZID").is_none() && !utc,
            };
            times.insert(match (own, utc) {
                (true, _) => time,
                (false, true) => shown_by(clock, name, value, time)?,
                (false, false) => {
                    return Err(value_error(name, value, "it must name the zone of DTSTART"));
                }
            });
        }
    }
    if times.len() > EVERY_DATES_MAX {
        return Err(shape(&format!("{name} holds at most {EVERY_DATES_MAX} times")));
    }
    Ok(times)
}

/// A time in UTC as `clock` shows it.
fn shown_by(clock: &Clock, name: &str, value: &str, utc: DateTime) -> Read<DateTime> {
    if *clock == Clock::Floating {
        let why = "DTSTART is the device's local time, so this is, too: without `Z`";
        return Err(value_error(name, value, why));
    }
    let instant = Clock::Utc.place(utc, &TimeZone::UTC).unwrap_or(Wall(0));
    let civil = clock.civil(instant, &TimeZone::UTC);
    civil.ok_or_else(|| value_error(name, value, "it is beyond the calendar"))
}

fn read_time(property: &str, text: &str) -> Read<(DateTime, bool)> {
    let (bare, utc) = match text.strip_suffix(['Z', 'z']) {
        Some(bare) => (bare, true),
        None => (text, false),
    };
    let digits = |c: char| c.is_ascii_digit() || c == 'T';
    let time = (bare.len() == 15 && bare.chars().all(digits)).then(|| bare.parse().ok()).flatten();
    let why = "a time is written like 20270131T080000, with `Z` for UTC";
    time.map(|time| (time, utc)).ok_or_else(|| value_error(property, text, why))
}

fn read_rule(text: &str, clock: &Clock) -> Read<Rule> {
    let mut rule = Rule::new(Frequency::Daily);
    let mut frequency = None;
    let mut seen = BTreeSet::new();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| value_error("RRULE", part, "it has no `=`"))?;
        let name = name.to_ascii_uppercase();
        if !seen.insert(name.clone()) {
            return Err(value_error("RRULE", part, "the part comes twice"));
        }
        match name.as_str() {
            "FREQ" => frequency = Some(read_frequency(value)?),
            "INTERVAL" => rule.interval = number(&name, value, 1, EVERY_INTERVAL_MAX.into())?,
            "COUNT" => rule.count = Some(number(&name, value, 1, EVERY_COUNT_MAX.into())? as u32),
            "UNTIL" => rule.until = Some(read_until(value, clock)?),
            "WKST" => rule.week_start = read_weekday(&name, value)?,
            "BYMONTH" => rule.months = numbers(&name, value, 1, 12, false)?,
            "BYWEEKNO" => rule.week_numbers = numbers(&name, value, 1, 53, true)?,
            "BYYEARDAY" => rule.year_days = numbers(&name, value, 1, 366, true)?,
            "BYMONTHDAY" => rule.month_days = numbers(&name, value, 1, 31, true)?,
            "BYDAY" => rule.week_days = read_days(value)?,
            "BYHOUR" => rule.hours = numbers(&name, value, 0, 23, false)?,
            "BYMINUTE" => rule.minutes = numbers(&name, value, 0, 59, false)?,
            "BYSECOND" => rule.seconds = numbers(&name, value, 0, 59, false)?,
            "BYSETPOS" => rule.positions = numbers(&name, value, 1, 366, true)?,
            _ => return Err(value_error("RRULE", part, "the part has no meaning here")),
        }
    }
    rule.frequency = frequency.ok_or_else(|| shape("RRULE needs FREQ"))?;
    match contradiction(&rule) {
        None => Ok(rule),
        Some(why) => Err(NotARecurrence::Contradiction(why.to_owned())),
    }
}

/// What section 3.3.10 forbids.
fn contradiction(rule: &Rule) -> Option<&'static str> {
    use Frequency::{Daily, Monthly, Weekly, Yearly};
    let frequency = rule.frequency;
    let counted_days = rule.week_days.iter().any(|(n, _)| n.is_some());
    let by_any = !(rule.months.is_empty()
        && rule.week_numbers.is_empty()
        && rule.year_days.is_empty()
        && rule.month_days.is_empty()
        && rule.week_days.is_empty()
        && rule.hours.is_empty()
        && rule.minutes.is_empty()
        && rule.seconds.is_empty());
    let rules = [
        (rule.count.is_some() && rule.until.is_some(), "COUNT and UNTIL exclude each other"),
        (
            !rule.week_numbers.is_empty() && frequency != Yearly,
            "BYWEEKNO has a meaning with FREQ=YEARLY only",
        ),
        (
            !rule.year_days.is_empty() && matches!(frequency, Daily | Weekly | Monthly),
            "BYYEARDAY has no meaning with FREQ=DAILY, WEEKLY or MONTHLY",
        ),
        (
            !rule.month_days.is_empty() && frequency == Weekly,
            "BYMONTHDAY has no meaning with FREQ=WEEKLY",
        ),
        (
            counted_days && !matches!(frequency, Monthly | Yearly),
            "BYDAY with a number, like 2TU, has a meaning with FREQ=MONTHLY or YEARLY only",
        ),
        (
            counted_days && !rule.week_numbers.is_empty(),
            "BYDAY with a number, like 2TU, has no meaning beside BYWEEKNO",
        ),
        (!rule.positions.is_empty() && !by_any, "BYSETPOS needs another BY part to pick from"),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
}

fn read_frequency(text: &str) -> Read<Frequency> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "SECONDLY" => Frequency::Secondly,
        "MINUTELY" => Frequency::Minutely,
        "HOURLY" => Frequency::Hourly,
        "DAILY" => Frequency::Daily,
        "WEEKLY" => Frequency::Weekly,
        "MONTHLY" => Frequency::Monthly,
        "YEARLY" => Frequency::Yearly,
        _ => {
            let why = "known are SECONDLY, MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY";
            return Err(value_error("FREQ", text, why));
        }
    })
}

/// The last time of a rule. Of a rule in a zone it is written in UTC (section 3.3.10).
fn read_until(text: &str, clock: &Clock) -> Read<DateTime> {
    let (time, utc) = read_time("UNTIL", text)?;
    match (clock, utc) {
        (Clock::Floating, false) | (Clock::Utc, true) => Ok(time),
        (Clock::Zone(_), true) => shown_by(clock, "UNTIL", text, time),
        (Clock::Floating, true) => shown_by(clock, "UNTIL", text, time),
        (Clock::Utc | Clock::Zone(_), false) => {
            Err(value_error("UNTIL", text, "it is written in UTC, with `Z`"))
        }
    }
}

fn read_days(text: &str) -> Read<Vec<(Option<i16>, Weekday)>> {
    let read = |day: &str| {
        let at = day.len().saturating_sub(2);
        let (n, name) = if day.is_char_boundary(at) { day.split_at(at) } else { ("", day) };
        let weekday = read_weekday("BYDAY", name)?;
        let n = if n.is_empty() { None } else { Some(signed("BYDAY", n, 1, 53, true)?) };
        Ok((n, weekday))
    };
    text.split(',').map(read).collect()
}

fn read_weekday(property: &str, text: &str) -> Read<Weekday> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return Err(value_error(property, text, "days are MO, TU, WE, TH, FR, SA, SU")),
    })
}

fn numbers(property: &str, text: &str, least: i16, most: i16, minus: bool) -> Read<BTreeSet<i16>> {
    text.split(',').map(|one| signed(property, one, least, most, minus)).collect()
}

/// A number from `least` to `most`; with `minus` also counted from the end.
fn signed(property: &str, text: &str, least: i16, most: i16, minus: bool) -> Read<i16> {
    let fits = |n: &i16| (least..=most).contains(n) || minus && (least..=most).contains(&n.abs());
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    let found = plain.then(|| text.parse::<i16>().ok()).flatten().filter(fits);
    found.ok_or_else(|| {
        let end = if minus { ", or with a minus from the end" } else { "" };
        value_error(property, text, &format!("it is a number from {least} to {most}{end}"))
    })
}

fn number(property: &str, text: &str, least: i64, most: i64) -> Read<i64> {
    let found = text.parse::<i64>().ok().filter(|n| (least..=most).contains(n));
    let why = format!("it is a number from {least} to {most}");
    found.ok_or_else(|| value_error(property, text, &why))
}

fn shape(why: &str) -> NotARecurrence {
    NotARecurrence::Shape(why.to_owned())
}

fn value_error(property: &str, value: &str, why: &str) -> NotARecurrence {
    NotARecurrence::Value {
        property: property.to_owned(),
        value: clipped(value),
        why: why.to_owned(),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}
