//! What an edit does to the occurrences of an advertisement, and to how many devices.
//!
//! An assignment's name keeps its occurrences: editing its time moves what is unstarted, only a new
//! name makes new ones. A name that was removed and comes back opens its old occurrence again, so
//! nothing runs twice merely because somebody edited; a rule goes on from the number that it had.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::advertisement::{AdvertisementSpec, At, Schedule};
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::name::Name;
use muster_model::object::Spec;
use muster_model::recurrence::Every;
use muster_model::state::{State, Withdrawal};

use super::AdvertisementRow;
use crate::obligation::ObligationRow;
use crate::occurrence::{OccurrenceRow, Revision, Span};
use crate::recurrence::{Here, introduced};

/// What becomes of the occurrences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OccurrencePlan {
    /// New ones, and those that open again.
    pub opened: Vec<(Occurrence, Option<At>)>,
    /// Those that stay open, with the time that holds from now on.
    pub kept: Vec<(Occurrence, Option<At>)>,
    /// Open ones whose assignment was removed.
    pub closed: Vec<Occurrence>,
    /// The collection until now, if the advertisement moves to another one.
    pub moved_from: Option<CollectionId>,
    collection: Option<CollectionId>,
}

impl OccurrencePlan {
    pub(super) fn new(
        rows: &[OccurrenceRow],
        spec: &AdvertisementSpec,
        stored: Option<&AdvertisementRow>,
        collection: CollectionId,
        here: &Here<'_>,
    ) -> Self {
        let wanted = wanted(spec);
        let before = stored.and_then(|row| match &row.object.spec {
            Spec::Advertisement(spec) => Some(spec.named_assignments()),
            _ => None,
        });
        let before: BTreeMap<Name, Schedule> = before.into_iter().flatten().collect();
        let mut plan = Self {
            moved_from: stored.map(|row| row.collection).filter(|old| *old != collection),
            collection: Some(collection),
            ..Self::default()
        };
        // Occurrences that `rerun` opened name their devices: they have no span, and are no assignment's.
        for row in rows.iter().filter(|row| row.is_open()) {
            match wanted.get(&row.occurrence.assignment) {
                Some(None) => plan.kept.push((row.occurrence.clone(), None)),
                Some(Some(Schedule::Once(at))) if is_newest_open(rows, &row.occurrence) => {
                    plan.kept.push((row.occurrence.clone(), Some(*at)));
                }
                Some(Some(rule @ Schedule::Every(_)))
                    if before.get(&row.occurrence.assignment) == Some(rule)
                        || row.due.is_none_or(|due| here.has_come(due)) =>
                {
                    plan.kept.push((row.occurrence.clone(), row.due));
                }
                // What a new rule says of an occurrence to come is seen below.
                Some(Some(Schedule::Every(_))) => {}
                Some(Some(Schedule::Once(_))) | None => plan.closed.push(row.occurrence.clone()),
            }
        }
        for (assignment, schedule) in wanted {
            let is_kept = plan.kept.iter().any(|(kept, _)| kept.assignment == assignment);
            let all = rows.iter().filter(|row| row.occurrence.assignment == assignment);
            let all: Vec<&OccurrenceRow> = all.collect();
            match schedule {
                Some(rule) if is_kept && before.get(&assignment) == Some(&rule) => {}
                Some(Schedule::Every(every)) => plan.introduce(&assignment, &every, &all, here),
                _ if is_kept => {}
                schedule => {
                    let n = all.iter().map(|row| row.occurrence.n).max().unwrap_or(1);
                    let at = schedule.and_then(|schedule| match schedule {
                        Schedule::Once(at) => Some(at),
                        Schedule::Every(_) => None,
                    });
                    plan.opened.push((Occurrence { assignment, n }, at));
                }
            }
        }
        plan
    }

    /// Follows a rule that is new, or another one than before. `rows` are those of the assignment.
    fn introduce(
        &mut self,
        assignment: &Name,
        every: &Every,
        rows: &[&OccurrenceRow],
        here: &Here<'_>,
    ) {
        for (n, due) in introduced(every, rows, here) {
            let known = rows.iter().find(|row| row.occurrence.n == n);
            let is_open = known.is_some_and(|row| row.is_open());
            let occurrence = Occurrence { assignment: assignment.clone(), n };
            match (is_open, due) {
                (true, Some(due)) => self.kept.push((occurrence, Some(due))),
                (true, None) => self.closed.push(occurrence),
                (false, Some(due)) => self.opened.push((occurrence, Some(due))),
                (false, None) => {}
            }
        }
    }

    /// Nothing opens, closes or moves.
    pub fn is_quiet(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty() && self.moved_from.is_none()
    }

    /// The occurrences as they are after the edit, which takes site revision `at`. Those not named in
    /// the plan come back as they were.
    pub fn rows(
        &self,
        advertisement: AdvertisementId,
        rows: &[OccurrenceRow],
        at: Revision,
    ) -> Vec<OccurrenceRow> {
        let mut rows = rows.to_vec();
        let Some(collection) = self.collection else { return rows };
        let open = Span { collection, opened: at, closed: None };
        for row in &mut rows {
            if self.closed.contains(&row.occurrence) {
                close(row, at);
            }
            if let Some((_, due)) = self.kept.iter().find(|(kept, _)| *kept == row.occurrence) {
                row.due = *due;
                if self.moved_from.is_some() {
                    close(row, at);
                    row.spans.push(open);
                }
            }
        }
        for (occurrence, due) in &self.opened {
            match rows.iter_mut().find(|row| row.occurrence == *occurrence) {
                Some(row) => {
                    row.due = *due;
                    row.spans.push(open);
                }
                None => rows.push(OccurrenceRow {
                    advertisement,
                    occurrence: occurrence.clone(),
                    due: *due,
                    spans: vec![open],
                    announced: at,
                }),
            }
        }
        rows
    }
}

/// Whether no later occurrence of the assignment is open.
fn is_newest_open(rows: &[OccurrenceRow], occurrence: &Occurrence) -> bool {
    !rows.iter().any(|row| {
        row.is_open()
            && row.occurrence.assignment == occurrence.assignment
            && row.occurrence.n > occurrence.n
    })
}

/// The assignments of `spec` by name; one without any is available.
fn wanted(spec: &AdvertisementSpec) -> BTreeMap<Name, Option<Schedule>> {
    let mut wanted: BTreeMap<Name, Option<Schedule>> =
        spec.named_assignments().into_iter().map(|(name, at)| (name, Some(at))).collect();
    if wanted.is_empty() {
        wanted.extend(Name::new(Occurrence::AVAILABLE).ok().map(|name| (name, None)));
    }
    wanted
}

/// Closes what is open of `row` at revision `at`.
pub fn close(row: &mut OccurrenceRow, at: Revision) {
    for span in row.spans.iter_mut().filter(|span| span.is_open()) {
        span.closed = Some(at);
    }
}

/// The next manual occurrence of an advertisement: for exactly the devices that get a row with it.
pub fn next_rerun(
    advertisement: AdvertisementId,
    rows: &[OccurrenceRow],
    at: Revision,
) -> Option<OccurrenceRow> {
    let assignment = Name::new(Occurrence::RERUN).ok()?;
    let reruns = rows.iter().filter(|row| row.occurrence.assignment == assignment);
    let n = reruns.map(|row| row.occurrence.n).max().unwrap_or(0) + 1;
    Some(OccurrenceRow::named(advertisement, Occurrence { assignment, n }, at))
}

/// To how many devices an edit matters: what `apply --dry-run` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Devices that would start something for the first time.
    pub start: u64,
    /// Devices that have run something of this advertisement and would run it once more.
    pub rerun: u64,
    /// Devices for which something unstarted would be withdrawn.
    pub withdraw: u64,
}

/// Counts devices. `rows` are all obligations of the advertisement that have a row; `before` and
/// `after` are the members of its collection until now and from now on.
pub fn forecast(
    plan: &OccurrencePlan,
    rows: &[ObligationRow],
    before: &BTreeSet<DeviceId>,
    after: &BTreeSet<DeviceId>,
) -> Forecast {
    let by_key: BTreeMap<(&Occurrence, DeviceId), &State> =
        rows.iter().map(|row| ((&row.key.occurrence, row.key.device), &row.state)).collect();
    let ran: BTreeSet<DeviceId> =
        rows.iter().filter(|row| row.attempt > 0).map(|row| row.key.device).collect();
    let unstarted = |occurrence: &Occurrence, device: DeviceId| {
        by_key.get(&(occurrence, device)).is_none_or(|state| state.word().is_unstarted())
    };
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    let mut starting: BTreeSet<DeviceId> = BTreeSet::new();
    let mut withdrawn: BTreeSet<DeviceId> = BTreeSet::new();
    let moving = plan.moved_from.is_some();
    for (occurrence, _) in plan.opened.iter().filter(|(_, at)| at.is_some()) {
        starting.extend(after.iter().filter(|device| unstarted(occurrence, **device)));
    }
    for occurrence in &plan.closed {
        withdrawn.extend(before.iter().filter(|device| unstarted(occurrence, **device)));
    }
    for (occurrence, at) in plan.kept.iter().filter(|_| moving) {
        let newly = |device: &&DeviceId| {
            by_key.get(&(occurrence, **device)).is_none_or(|state| **state == left)
        };
        if at.is_some() {
            starting.extend(after.difference(before).filter(newly));
        }
        withdrawn.extend(before.difference(after).filter(|device| unstarted(occurrence, **device)));
    }
    let rerun = starting.intersection(&ran).count() as u64;
    Forecast { start: starting.len() as u64 - rerun, rerun, withdraw: withdrawn.len() as u64 }
}
