//! Recurring assignments at the site: which of their occurrences are open, without anybody counting.
//!
//! ```text
//! n falls due:    n+1 opens; all before n close, and whoever never started them has missed them
//! a device is ahead (its clock, its zone, cut off from us):  it opened n itself, and we open it too
//! ```
//!
//! An occurrence is its number, never its time: an edit of the rule moves the time of what has not
//! fallen due, and numbers go on. Local times of devices are seen in the site's own zone here; each
//! device judges by its own, and its later word counts.

use std::collections::{BTreeMap, VecDeque};

use jiff::tz::TimeZone;
use muster_model::advertisement::{At, Schedule};
use muster_model::clock::Wall;
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::policy::Recurrence;
use muster_model::recurrence::{Clock, EVERY_LOOKS_MAX, Every};

use crate::occurrence::{Interval, OccurrenceRow, Revision, Span};

/// Occurrences of one rule that are opened at once: of more that fell due while the site was down, the
/// newest. An older one exists where a device reports it.
pub const CATCH_UP_MAX: usize = 500;
/// A device may report an occurrence so many beyond the newest one that the site knows. More are no
/// schedule but a broken clock, and are set aside.
pub const REPORTED_AHEAD_MAX: u32 = 1_000;

/// The site's time and zone.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The site's time.
    pub now: Wall,
    /// The zone that devices' local times are seen in.
    pub zone: &'a TimeZone,
}

impl Here<'_> {
    /// The instant of a due time; `None`: it is no time, or beyond the calendar.
    pub fn instant(&self, at: At) -> Option<Wall> {
        match at {
            At::Instant(time) => Some(time),
            At::Local(civil) => Clock::Floating.place(civil, self.zone),
            At::Now | At::StartUp | At::LogOn => None,
        }
    }

    /// Whether it has fallen due. What is no time has from the beginning.
    pub fn has_come(&self, at: At) -> bool {
        self.instant(at).is_none_or(|time| time <= self.now)
    }
}

/// What `turn` looks at beside the rows.
#[derive(Clone, Copy, Debug)]
pub struct Turning<'a> {
    /// The rules of the advertisement.
    pub rules: &'a [Recurrence],
    /// From then on nothing falls due.
    pub expires: Option<Wall>,
    /// The site's time and zone.
    pub here: Here<'a>,
}

impl Turning<'_> {
    /// When [`turn`] has something to do next, as far as these open occurrences tell; `None`: never.
    pub fn next<'r>(&self, open: impl IntoIterator<Item = (&'r Occurrence, At)>) -> Option<Wall> {
        let mut newest: BTreeMap<&Name, (u32, At)> = BTreeMap::new();
        for (occurrence, due) in open {
            let known = newest.entry(&occurrence.assignment).or_insert((occurrence.n, due));
            if known.0 < occurrence.n {
                *known = (occurrence.n, due);
            }
        }
        let recurs = |name: &Name| self.rules.iter().any(|rule| rule.assignment == *name);
        let dues = newest.into_iter().filter(|(name, _)| recurs(name)).map(|(_, (_, due))| due);
        dues.filter_map(|due| self.here.instant(due)).min()
    }
}

/// The occurrences of an advertisement as they are at the site's time; what changes takes revision
/// `at`. `None`: nothing changes.
pub fn turn(
    rows: &[OccurrenceRow],
    turning: &Turning<'_>,
    at: Revision,
) -> Option<Vec<OccurrenceRow>> {
    let mut turned = rows.to_vec();
    for rule in turning.rules {
        turn_rule(&mut turned, rule, turning, at);
    }
    (turned != rows).then_some(turned)
}

fn turn_rule(
    rows: &mut Vec<OccurrenceRow>,
    rule: &Recurrence,
    turning: &Turning<'_>,
    at: Revision,
) {
    // What an edit closed has a time that the rule no longer has.
    let known: BTreeMap<u32, At> = of(rows, &rule.assignment)
        .filter(|row| row.is_open())
        .filter_map(|row| Some((row.occurrence.n, row.due?)))
        .collect();
    let lowest =
        of(rows, &rule.assignment).filter(|row| row.is_open()).min_by_key(|row| row.occurrence.n);
    let Some((lowest, open)) = lowest.and_then(|row| {
        let open = row.spans.iter().find(|span| span.is_open())?;
        Some((row.clone(), *open))
    }) else {
        return;
    };
    let (mut n, mut due) = (lowest.occurrence.n, lowest.due);
    let mut fallen = None;
    let mut missing: VecDeque<(u32, At)> = VecDeque::new();
    for _ in 0..EVERY_LOOKS_MAX {
        let Some(time) = due.filter(|time| turning.here.has_come(*time)) else { break };
        fallen = Some(n);
        let next = match known.get(&(n + 1)) {
            Some(next) => Some(*next),
            None => next_before(&rule.every, time, turning),
        };
        let Some(next) = next else { break };
        n += 1;
        due = Some(next);
        if !known.contains_key(&n) {
            missing.push_back((n, next));
            if missing.len() > CATCH_UP_MAX {
                missing.pop_front();
            }
        }
    }
    let Some(fallen) = fallen else { return };
    for row in rows.iter_mut().filter(|row| row.occurrence.assignment == rule.assignment) {
        if row.occurrence.n < fallen {
            crate::edit::close(row, at);
        }
    }
    for (n, due) in missing {
        // What was missed before it could be announced is still accounted for: it was open for one
        // revision.
        let closed = (n < fallen).then_some(Revision(at.0 + 1));
        let span = Span { collection: open.collection, opened: at, closed };
        let occurrence = Occurrence { assignment: rule.assignment.clone(), n };
        if let Some(row) = rows.iter_mut().find(|row| row.occurrence == occurrence) {
            row.due = Some(due);
            row.spans.push(span);
            continue;
        }
        rows.push(OccurrenceRow {
            advertisement: lowest.advertisement,
            occurrence,
            due: Some(due),
            spans: vec![span],
            announced: at,
        });
    }
}

/// The time after `due` that comes before the advertisement expires.
fn next_before(every: &Every, due: At, turning: &Turning<'_>) -> Option<At> {
    let next = every.after(due, turning.here.zone)?;
    let over = |expires| turning.here.instant(next).is_none_or(|time| time >= expires);
    (!turning.expires.is_some_and(over)).then_some(next)
}

/// The occurrences that members of a collection share, of one assignment.
fn of<'r>(rows: &'r [OccurrenceRow], assignment: &Name) -> impl Iterator<Item = &'r OccurrenceRow> {
    rows.iter().filter(move |row| row.occurrence.assignment == *assignment && !row.spans.is_empty())
}

/// Whether a closed occurrence was closed because a later one fell due: who never started it has missed
/// it. Otherwise its assignment was removed.
pub fn is_passed(rows: &[OccurrenceRow], occurrence: &Occurrence) -> bool {
    let closed = |row: &OccurrenceRow| match row.is_open() {
        true => None,
        false => row.spans.iter().filter_map(|span| span.closed).max(),
    };
    let Some(row) = rows.iter().find(|row| row.occurrence == *occurrence) else { return false };
    let Some(own) = closed(row) else { return false };
    of(rows, &occurrence.assignment)
        .filter(|later| later.occurrence.n > occurrence.n)
        .any(|later| closed(later).is_none_or(|at| at > own))
}

/// Opens an occurrence that a device reports and the site has not opened, or not for this device: it
/// was ahead of us, or had not heard yet that it left. `rule` is that of the assignment, if it still
/// has one. Answers the row as it is from revision `at` on; `None`: the device was never meant by an
/// earlier occurrence of the assignment, or the number is beyond [`REPORTED_AHEAD_MAX`].
pub fn admit(
    rows: &[OccurrenceRow],
    reported: &Occurrence,
    intervals: &[Interval],
    rule: Option<&Every>,
    here: &Here<'_>,
    at: Revision,
) -> Option<OccurrenceRow> {
    let known = rows.iter().find(|row| row.occurrence == *reported);
    if known.is_some_and(|row| row.spans.is_empty() || row.targets(intervals)) {
        return None;
    }
    let earlier: Vec<&OccurrenceRow> =
        of(rows, &reported.assignment).filter(|row| row.occurrence.n < reported.n).collect();
    let newest = earlier.iter().max_by_key(|row| row.occurrence.n)?;
    let ahead = reported.n - newest.occurrence.n;
    if ahead > REPORTED_AHEAD_MAX || newest.due.is_none() {
        return None;
    }
    let due = (0..ahead).try_fold(newest.due?, |due, _| rule?.after(due, here.zone));
    // What the rule does not have, because it was edited meanwhile, nobody else is to do.
    let span = span_for(&earlier, intervals, at, due.is_some() || known.is_some())?;
    if let Some(known) = known {
        let mut row = known.clone();
        row.spans.push(span);
        return Some(row);
    }
    Some(OccurrenceRow {
        advertisement: newest.advertisement,
        occurrence: reported.clone(),
        due: due.or(newest.due),
        spans: vec![span],
        announced: at,
    })
}

/// The span that targets a device which an earlier occurrence targeted: open if that one is, the device
/// is still a member and the rule goes on; otherwise the last revision in which both held.
fn span_for(
    earlier: &[&OccurrenceRow],
    intervals: &[Interval],
    at: Revision,
    goes_on: bool,
) -> Option<Span> {
    let through = |row: &&OccurrenceRow| {
        let pairs = row.spans.iter().flat_map(|span| intervals.iter().map(move |own| (span, own)));
        let ends = pairs.filter(|(span, own)| span.targets(own)).map(|(span, own)| {
            let end = [span.closed, own.until].into_iter().flatten().min();
            let end = end.or((!goes_on).then_some(at));
            (end.is_none(), end, span.collection)
        });
        ends.max()
    };
    let (still, end, collection) = earlier.iter().filter_map(through).max()?;
    let opened = match end {
        Some(end) if !still => Revision(end.0.saturating_sub(1)),
        _ => at,
    };
    Some(Span { collection, opened, closed: end })
}

/// What `apply` makes of a rule that is new, or another one than before, for the occurrences `rows` of
/// its assignment: the numbers that have not fallen due, each with its time, or `None` where the rule
/// has no time for it. What has fallen due stays as it was announced.
pub(crate) fn introduced(
    every: &Every,
    rows: &[&OccurrenceRow],
    here: &Here<'_>,
) -> Vec<(u32, Option<At>)> {
    let first = every.first_from(here.now, here.zone);
    let Some(newest) = rows.iter().max_by_key(|row| row.occurrence.n) else {
        return vec![(1, first)];
    };
    let to_come = |row: &&&OccurrenceRow| row.due.is_some_and(|due| !here.has_come(due));
    let open = rows.iter().filter(|row| row.is_open()).filter(to_come);
    let lowest = open.min_by_key(|row| row.occurrence.n).or(Some(newest).filter(to_come));
    let after = |due: Option<At>| due.and_then(|due| every.after(due, here.zone));
    let Some(lowest) = lowest else {
        // The time that fell due last is not announced again.
        let next = if newest.due == first { after(first) } else { first };
        return vec![(newest.occurrence.n + 1, next)];
    };
    let times = std::iter::successors(Some(first), |due| Some(after(*due)));
    (lowest.occurrence.n..=newest.occurrence.n).zip(times).collect()
}

/// The rules among the assignments.
pub fn rules(assignments: Vec<(Name, Schedule)>) -> Vec<Recurrence> {
    let recurring = |(assignment, schedule)| match schedule {
        Schedule::Every(every) => Some(Recurrence { assignment, every }),
        Schedule::Once(_) => None,
    };
    assignments.into_iter().filter_map(recurring).collect()
}

#[cfg(test)]
mod tests;
