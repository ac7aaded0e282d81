//! Occurrences and who is targeted by them.
//!
//! Membership is kept as intervals of site revisions. Whoever is a member while an occurrence is
//! open is targeted by it for ever; leaving changes the obligation's state, never its existence.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::advertisement::At;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::message::Occurrence;
use serde::{Deserialize, Serialize};

use crate::recurrence::Here;

/// A revision of the site: each committed change takes the next one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A device is a member of a collection from `from` on, and before `until` if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// The collection.
    pub collection: CollectionId,
    /// The device.
    pub device: DeviceId,
    /// The revision that made it a member.
    pub from: Revision,
    /// The revision that ended it.
    pub until: Option<Revision>,
}

/// An occurrence is open for a collection from `opened` on, and before `closed` if that is known. An
/// edit that moves the advertisement to another collection closes one span and opens the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// The collection.
    pub collection: CollectionId,
    /// The revision that opened it.
    pub opened: Revision,
    /// The revision that closed it.
    pub closed: Option<Revision>,
}

impl Span {
    /// Whether the span is open.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether a member during `interval` is targeted through this span: both are half open, and
    /// they share a revision.
    pub fn targets(&self, interval: &Interval) -> bool {
        self.collection == interval.collection
            && self.closed.is_none_or(|closed| interval.from < closed)
            && interval.until.is_none_or(|until| self.opened < until)
    }
}

/// An occurrence of an advertisement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OccurrenceRow {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// Which one.
    pub occurrence: Occurrence,
    /// When it falls due; `None`: never by itself (available).
    pub due: Option<At>,
    /// Who is meant, by collection and revision. Empty for an occurrence whose devices were named
    /// one by one (`rerun`): there each targeted device has a row from the start.
    pub spans: Vec<Span>,
    /// The revision that announced it: the order of occurrences of one advertisement.
    pub announced: Revision,
}

impl OccurrenceRow {
    /// One in which devices are named, whoever is a member: it has no spans, is due at once, and targets
    /// who has a row in it.
    pub fn named(advertisement: AdvertisementId, occurrence: Occurrence, at: Revision) -> Self {
        Self { advertisement, occurrence, due: Some(At::Now), spans: Vec::new(), announced: at }
    }

    /// Whether it is mandatory.
    pub fn is_mandatory(&self) -> bool {
        self.due.is_some()
    }

    /// Whether new members are targeted.
    pub fn is_open(&self) -> bool {
        self.spans.iter().any(Span::is_open)
    }

    /// Whether a device with these intervals (of any collections) is targeted. A device that has a
    /// row is, whatever its intervals.
    pub fn targets(&self, intervals: &[Interval]) -> bool {
        self.spans.iter().any(|span| intervals.iter().any(|interval| span.targets(interval)))
    }
}

/// The devices that an occurrence targets by membership. `intervals` may be those of all devices.
pub fn targeted<'a>(
    occurrence: &OccurrenceRow,
    intervals: impl IntoIterator<Item = &'a Interval>,
) -> BTreeSet<DeviceId> {
    intervals
        .into_iter()
        .filter(|interval| occurrence.spans.iter().any(|span| span.targets(interval)))
        .map(|interval| interval.device)
        .collect()
}

/// The occurrences in the order in which a device's newest one is looked for, the last one first: open
/// ones that are due, then open ones to come, then closed ones.
pub fn in_order(rows: &[OccurrenceRow], here: &Here<'_>) -> Vec<Occurrence> {
    let mut rows: Vec<(&OccurrenceRow, Revision)> =
        rows.iter().map(|row| (row, fell_due(rows, row))).collect();
    rows.sort_by_key(|(row, fell_due)| {
        // An occurrence of named devices has no span that could close.
        let open = row.is_open() || row.spans.is_empty();
        let is_due = row.due.is_some_and(|due| here.has_come(due));
        (open, is_due, *fell_due, &row.occurrence)
    });
    rows.into_iter().map(|(row, _)| row.occurrence.clone()).collect()
}

/// The revision from which it counts among those of its advertisement. One of a rule falls due when the
/// next one is announced; any other does at its own announcement.
fn fell_due(rows: &[OccurrenceRow], row: &OccurrenceRow) -> Revision {
    let follows = |other: &&OccurrenceRow| {
        other.occurrence.assignment == row.occurrence.assignment
            && other.occurrence.n == row.occurrence.n.saturating_add(1)
            && !row.spans.is_empty()
    };
    rows.iter().find(follows).map_or(row.announced, |next| next.announced)
}

/// The occurrence that `accounting A` shows for each device: the newest one among those that target it.
/// `targeted` answers which devices an occurrence targets.
pub fn newest_by_device<'a>(
    occurrences: &'a [OccurrenceRow],
    here: &Here<'_>,
    targeted: impl Fn(&OccurrenceRow) -> BTreeSet<DeviceId>,
) -> BTreeMap<DeviceId, &'a OccurrenceRow> {
    let order = in_order(occurrences, here);
    let mut newest: BTreeMap<DeviceId, &OccurrenceRow> = BTreeMap::new();
    for occurrence in &order {
        let Some(row) = occurrences.iter().find(|row| row.occurrence == *occurrence) else {
            continue;
        };
        newest.extend(targeted(row).into_iter().map(|device| (device, row)));
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[track_caller]
    fn check(member: (u64, Option<u64>), open: (u64, Option<u64>), expected: bool) {
        let row = occurrence_row(open.0, open.1);
        let interval = interval(1, 1, member.0, member.1);
        assert_eq!(row.targets(&[interval]), expected, "{member:?} in {open:?}");
    }

    #[test]
    fn a_member_while_it_is_open_is_targeted_for_ever() {
        check((5, None), (9, None), true);
        check((5, Some(10)), (9, None), true);
        check((12, None), (9, None), true);
        check((12, None), (9, Some(13)), true);
    }

    #[test]
    fn who_left_before_or_came_after_is_not() {
        check((5, Some(9)), (9, None), false);
        check((5, Some(8)), (9, None), false);
        check((13, None), (9, Some(13)), false);
    }

    #[test]
    fn an_interval_of_another_collection_targets_nobody() {
        assert!(!occurrence_row(1, None).targets(&[interval(2, 1, 1, None)]));
    }

    #[test]
    fn moving_to_another_collection_keeps_whom_the_first_one_targeted() {
        let mut row = occurrence_row(1, Some(5));
        row.spans.push(Span { collection: collection_id(2), opened: Revision(5), closed: None });
        let intervals = [interval(1, 1, 1, None), interval(1, 2, 6, None), interval(2, 3, 1, None)];
        let expected = BTreeSet::from([device_id(1), device_id(3)]);
        assert_eq!(targeted(&row, &intervals), expected);
    }

    #[test]
    fn what_is_to_come_hides_nothing_and_what_fell_due_last_is_newest() {
        let mut tomorrow = recurring(2, 2_000, 4, None);
        let rows = |tomorrow: &OccurrenceRow| {
            let mut rerun = occurrence_row(5, None);
            rerun.occurrence = occurrence("(rerun)#1");
            rerun.spans.clear();
            [recurring(1, 1_000, 1, None), tomorrow.clone(), rerun]
        };
        let order = |rows: &[OccurrenceRow], now| -> Vec<String> {
            in_order(rows, &here(now)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(order(&rows(&tomorrow), 1_500), ["nightly#2", "nightly#1", "(rerun)#1"]);
        tomorrow.announced = Revision(4);
        let mut rows = rows(&tomorrow).to_vec();
        rows.push(recurring(3, 3_000, 6, None));
        assert_eq!(order(&rows, 2_500).last().unwrap(), "nightly#2");
    }

    #[test]
    fn each_device_shows_the_newest_occurrence_that_targets_it() {
        let first = occurrence_row(1, None);
        let mut again = occurrence_row(4, None);
        again.occurrence = occurrence("second#1");
        let all = [device_id(1), device_id(2)];
        let rows = [first, again];
        let newest = newest_by_device(&rows, &here(0), |row| match row.announced.0 {
            1 => BTreeSet::from(all),
            _ => BTreeSet::from([device_id(2)]),
        });
        let names: Vec<String> = newest.values().map(|row| row.occurrence.to_string()).collect();
        assert_eq!(names, ["first#1", "second#1"]);
    }
}
