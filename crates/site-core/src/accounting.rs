//! The accounting of an advertisement: one state per targeted device, and states that always sum.
//!
//! From counters (one occurrence, any number of devices) or from rows one by one ([`Tally`]); both
//! lead to the same [`Accounting`]. The marks `silent`, `overdue` and `disputed` lie over the states and
//! are counted apart: they depend on the time of asking and are never stored.

use std::collections::BTreeMap;

use muster_model::clock::Wall;
use muster_model::settings::{Setting, Settings};
use muster_model::state::{State, Word};
use serde::{Deserialize, Serialize};

use crate::obligation::CounterDelta;

/// How many devices stand where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accounting {
    /// Devices that the advertisement ever targeted.
    pub targeted: u64,
    /// Devices that are members of its collection now.
    pub members: u64,
    /// Targeted devices by state; sums to `targeted`. Without states that no device is in.
    pub states: BTreeMap<Word, u64>,
    /// Devices that carry a mark.
    pub marks: MarkCounts,
}

/// How many devices carry each mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkCounts {
    /// Unfinished, and not heard of for `silentAfter`.
    pub silent: u64,
    /// Unfinished without expiry for `overdueAfter`.
    pub overdue: u64,
    /// Exit code and detection contradict each other.
    pub disputed: u64,
}

/// Counters and membership contradict each other: never to be smoothed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsDiffer {
    /// More devices have a row than are targeted.
    #[error("{rows} devices have a row, but only {targeted} are targeted")]
    MoreRowsThanTargeted {
        /// By membership.
        targeted: u64,
        /// By the counters.
        rows: u64,
    },
    /// A counter fell below zero.
    #[error("the counter of `{word}` is {count}")]
    Negative {
        /// The state.
        word: Word,
        /// The count.
        count: i64,
    },
}

/// Rows by state, as the counters of one occurrence say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<Word, i64>);

impl Counts {
    /// The sum of deltas.
    pub fn of<'a>(deltas: impl IntoIterator<Item = &'a CounterDelta>) -> Self {
        let mut counts = Self::default();
        for delta in deltas {
            counts.add(delta.word, delta.delta);
        }
        counts
    }

    /// Adds `delta` rows to `word`.
    pub fn add(&mut self, word: Word, delta: i64) {
        *self.0.entry(word).or_default() += delta;
        self.0.retain(|_, count| *count != 0);
    }
}

/// The accounting of one occurrence: `targeted` devices by membership (and by name), of which those
/// that have a row are in `rows`. The difference is `targeted`: meant, and nothing said yet.
pub fn summary(
    targeted: u64,
    members: u64,
    rows: &Counts,
    marks: MarkCounts,
) -> Result<Accounting, SumsDiffer> {
    let mut states: BTreeMap<Word, u64> = BTreeMap::new();
    for (word, count) in &rows.0 {
        let negative = |_| SumsDiffer::Negative { word: *word, count: *count };
        states.insert(*word, u64::try_from(*count).map_err(negative)?);
    }
    let with_row = states.values().sum();
    let silent_so_far = targeted
        .checked_sub(with_row)
        .ok_or(SumsDiffer::MoreRowsThanTargeted { targeted, rows: with_row })?;
    *states.entry(Word::Targeted).or_default() += silent_so_far;
    states.retain(|_, count| *count > 0);
    Ok(Accounting { targeted, members, states, marks })
}

/// An accounting counted device by device.
#[derive(Clone, Debug, Default)]
pub struct Tally(Accounting);

impl Tally {
    /// Counts one targeted device.
    pub fn add(&mut self, word: Word, marks: &Marks) {
        let Accounting { targeted, states, marks: counts, .. } = &mut self.0;
        *targeted += 1;
        *states.entry(word).or_default() += 1;
        counts.silent += u64::from(marks.silent.is_some());
        counts.overdue += u64::from(marks.overdue.is_some());
        counts.disputed += u64::from(marks.disputed.is_some());
    }

    /// The sums.
    pub fn finish(mut self, members: u64) -> Accounting {
        self.0.members = members;
        self.0
    }
}

/// What lies over a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marks {
    /// The device was last heard of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Wall>,
    /// The obligation is overdue since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<Wall>,
    /// Exit code and detection contradict each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputed: Option<String>,
}

/// What the marks of an obligation depend on.
#[derive(Clone, Debug)]
pub struct Marked<'a> {
    /// Where it stands.
    pub state: &'a State,
    /// What its row says of a dispute.
    pub disputed: Option<&'a str>,
    /// When the device was last heard of, or enrolled.
    pub last_contact: Wall,
    /// When the device was first targeted, or the occurrence fell due if that was later.
    pub pending_since: Wall,
    /// The advertisement's expiry.
    pub expires: Option<Wall>,
}

/// Whether somebody still waits for an obligation in this state.
pub fn is_pending(word: Word) -> bool {
    !word.is_complete() && word != Word::Available
}

/// The marks over an obligation at `now`.
pub fn marks(marked: &Marked<'_>, now: Wall, settings: &Settings) -> Marks {
    let pending = is_pending(marked.state.word());
    let quiet = silent_before(now, settings);
    let late = overdue_before(now, settings);
    let silent = pending && marked.last_contact < quiet;
    let overdue = pending && marked.expires.is_none() && marked.pending_since < late;
    let overdue_after = settings.get(Setting::OverdueAfter).duration();
    Marks {
        silent: silent.then_some(marked.last_contact),
        overdue: overdue.then(|| marked.pending_since.plus(overdue_after)),
        disputed: marked.disputed.map(str::to_owned),
    }
}

/// A device last heard of before this instant is silent.
pub fn silent_before(now: Wall, settings: &Settings) -> Wall {
    earlier(now, settings.get(Setting::SilentAfter).duration())
}

/// An obligation pending since before this instant, without expiry, is overdue.
pub fn overdue_before(now: Wall, settings: &Settings) -> Wall {
    earlier(now, settings.get(Setting::OverdueAfter).duration())
}

fn earlier(now: Wall, by: std::time::Duration) -> Wall {
    Wall(now.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

impl Accounting {
    /// Every targeted device has ended or is not of the kind.
    pub fn is_complete(&self) -> bool {
        self.count(Word::is_complete) == self.targeted
    }

    /// As complete, but who may start it himself or is silent is not waited for.
    pub fn is_settled(&self) -> bool {
        let settled = self.count(|word| !is_pending(word));
        settled + self.marks.silent >= self.targeted
    }

    /// The sum of the states that `of` picks.
    pub fn count(&self, of: impl Fn(Word) -> bool) -> u64 {
        self.states.iter().filter(|(word, _)| of(**word)).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use muster_model::state::Waiting;

    use super::*;
    use crate::testing::*;

    const DAY: i64 = 86_400_000;

    fn counts(counts: &[(Word, i64)]) -> Counts {
        Counts(counts.iter().copied().collect())
    }

    #[test]
    fn who_has_no_row_is_targeted_and_the_states_sum() {
        let rows = counts(&[(Word::Succeeded, 3), (Word::Targeted, 1)]);
        let accounting = summary(10, 9, &rows, MarkCounts::default()).unwrap();
        assert_eq!(accounting.states[&Word::Targeted], 7);
        assert_eq!(accounting.count(|_| true), 10);
        assert!(!accounting.is_complete());
    }

    #[test]
    fn contradictions_are_named_never_smoothed_over() {
        let more = summary(1, 1, &counts(&[(Word::Failed, 2)]), MarkCounts::default());
        assert_eq!(more, Err(SumsDiffer::MoreRowsThanTargeted { targeted: 1, rows: 2 }));
        let below = summary(1, 1, &counts(&[(Word::Failed, -1)]), MarkCounts::default());
        assert_eq!(below, Err(SumsDiffer::Negative { word: Word::Failed, count: -1 }));
    }

    #[test]
    fn a_tally_of_devices_says_what_the_counters_say() {
        let mut tally = Tally::default();
        tally.add(Word::Succeeded, &Marks::default());
        tally.add(Word::Targeted, &Marks { silent: Some(Wall(1)), ..Marks::default() });
        let marks = MarkCounts { silent: 1, ..MarkCounts::default() };
        let counted = summary(2, 2, &counts(&[(Word::Succeeded, 1)]), marks);
        assert_eq!(Ok(tally.finish(2)), counted);
    }

    #[test]
    fn keys_are_the_words_that_people_see() {
        let rows = counts(&[(Word::NotApplicable, 1)]);
        let accounting = summary(1, 1, &rows, MarkCounts::default()).unwrap();
        let json = serde_json::to_value(accounting).unwrap();
        assert_eq!(json["states"]["not-applicable"], 1);
    }

    /// The marks on the hundredth day of a device and obligation that spoke and began on these days.
    #[track_caller]
    fn check(
        state: State,
        heard: i64,
        pending: i64,
        expires: Option<Wall>,
        expected: (bool, bool),
    ) {
        let marked = Marked {
            state: &state,
            disputed: None,
            last_contact: Wall(heard * DAY),
            pending_since: Wall(pending * DAY),
            expires,
        };
        let marks = marks(&marked, Wall(100 * DAY), &Settings::default());
        assert_eq!((marks.silent.is_some(), marks.overdue.is_some()), expected, "{state}");
    }

    #[test]
    fn marks_lie_over_what_is_pending() {
        check(waiting(Waiting::Disk), 98, 69, None, (true, true));
        check(waiting(Waiting::Disk), 99, 70, None, (false, false));
        check(waiting(Waiting::Disk), 98, 69, Some(Wall(101 * DAY)), (true, false));
        check(succeeded(), 1, 1, None, (false, false));
        check(State::Available, 1, 1, None, (false, false));
        check(running(), 1, 1, None, (true, true));
    }

    #[test]
    fn settled_waits_neither_for_users_nor_for_the_silent() {
        let rows = counts(&[(Word::Succeeded, 1), (Word::Available, 1)]);
        let mut accounting = summary(3, 3, &rows, MarkCounts::default()).unwrap();
        assert!(!accounting.is_settled());
        accounting.marks.silent = 1;
        assert!(accounting.is_settled() && !accounting.is_complete());
    }
}
