//! What the site decides for devices that did not decide it: joining, leaving, an end of the
//! occurrence, a device that is gone.
//!
//! Every decision yields to a later word of the device ([`muster_model::state::judge`]); what the
//! device ended or is running now is left alone. Many devices at once are the shell's to portion:
//! each portion with its rows and deltas in one transaction, and the sums hold between any two.

use std::collections::BTreeMap;

use muster_model::clock::Wall;
use muster_model::id::AdvertisementId;
use muster_model::message::Occurrence;
use muster_model::state::{Expiry, Loss, State, Verdict, Withdrawal, Word};

use crate::obligation::{Applied, CounterDelta, Key, ObligationRow, Said, apply};

/// A decision about an obligation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The device left the collection, or the advertisement moved to another one.
    Leave,
    /// The device came back: opens again what leaving withdrew, and nothing else.
    Join,
    /// The advertisement was deleted.
    Delete,
    /// The assignment was removed from the advertisement.
    RemoveAssignment,
    /// The advertisement expired.
    Expire,
    /// The next occurrence fell due first.
    Miss,
    /// The device was retired.
    Retire,
    /// The device was enrolled anew under another id.
    Reinstall,
    /// `rerun` named the device: its row is what targets it.
    Name,
}

impl Decision {
    /// Where it leads.
    pub fn state(self) -> State {
        match self {
            Decision::Leave => State::Withdrawn { why: Withdrawal::LeftCollection },
            Decision::Delete => State::Withdrawn { why: Withdrawal::Deleted },
            Decision::RemoveAssignment => State::Withdrawn { why: Withdrawal::AssignmentRemoved },
            Decision::Expire => State::Expired { why: Expiry::Advertisement },
            Decision::Miss => State::Expired { why: Expiry::Missed },
            Decision::Retire => State::Lost { cause: Loss::Retired },
            Decision::Reinstall => State::Lost { cause: Loss::Reinstalled },
            Decision::Join | Decision::Name => State::Targeted,
        }
    }

    /// Whether it says anything about an obligation with this row at all.
    fn concerns(self, row: Option<&ObligationRow>) -> bool {
        match (self, row) {
            // Without a row a member is targeted already.
            (Decision::Join, None) => false,
            (Decision::Join, Some(row)) => row.state == Decision::Leave.state(),
            (Decision::Name, Some(_)) => false,
            (decision, Some(row)) => row.state != decision.state(),
            (_, None) => true,
        }
    }
}

/// Applies `decision` to the obligation `key`, which is targeted, at the site's time `now`. `None`:
/// it changes nothing, because the device runs it, ended it, or it stands there already.
pub fn decide(
    decision: Decision,
    key: &Key,
    row: Option<&ObligationRow>,
    revision: u32,
    now: Wall,
) -> Option<Applied> {
    if !decision.concerns(row) {
        return None;
    }
    let said = Said::by_site(decision.state(), revision, now);
    Some(apply(key, row, &said, now)).filter(|applied| applied.verdict == Verdict::Applied)
}

/// The deltas of many decisions, one for each occurrence and word, none of zero.
pub fn merged<'a>(applied: impl IntoIterator<Item = &'a Applied>) -> Vec<CounterDelta> {
    let mut sums: BTreeMap<(AdvertisementId, Occurrence, Word), i64> = BTreeMap::new();
    for delta in applied.into_iter().flat_map(Applied::deltas) {
        let key = (delta.advertisement, delta.occurrence, delta.word);
        *sums.entry(key).or_default() += delta.delta;
    }
    sums.into_iter()
        .filter(|(_, delta)| *delta != 0)
        .map(|((advertisement, occurrence, word), delta)| CounterDelta {
            advertisement,
            occurrence,
            word,
            delta,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use muster_model::state::{Author, Waiting};

    use super::*;
    use crate::testing::*;

    fn stands(state: State) -> ObligationRow {
        let author = if state.word() == Word::Withdrawn { Author::Site } else { Author::Device };
        row(key(1), state, author)
    }

    #[track_caller]
    fn check(decision: Decision, row: Option<State>, expected: Option<Word>) {
        let row = row.map(stands);
        let applied = decide(decision, &key(1), row.as_ref(), 1, Wall(10_000));
        let word = applied.map(|applied| applied.row.state.word());
        assert_eq!(word, expected, "{decision:?} of {row:?}");
    }

    #[test]
    fn leaving_withdraws_what_is_unstarted_and_nothing_else() {
        use Decision::Leave;
        check(Leave, None, Some(Word::Withdrawn));
        check(Leave, Some(waiting(Waiting::Disk)), Some(Word::Withdrawn));
        check(Leave, Some(running()), None);
        check(Leave, Some(State::RestartPending), None);
        check(Leave, Some(succeeded()), None);
        check(Leave, Some(left()), None);
    }

    #[test]
    fn joining_opens_only_what_leaving_withdrew() {
        use Decision::Join;
        check(Join, None, None);
        check(Join, Some(left()), Some(Word::Targeted));
        check(Join, Some(Decision::Delete.state()), None);
        check(Join, Some(running()), None);
        check(Join, Some(failed()), None);
    }

    #[test]
    fn a_retired_device_loses_what_has_not_ended() {
        use Decision::Retire;
        check(Retire, None, Some(Word::Lost));
        check(Retire, Some(running()), Some(Word::Lost));
        check(Retire, Some(succeeded()), None);
    }

    #[test]
    fn naming_writes_the_row_that_targets() {
        check(Decision::Name, None, Some(Word::Targeted));
        check(Decision::Name, Some(State::Accepted), None);
        check(Decision::Name, Some(running()), None);
    }

    #[test]
    fn deltas_of_many_devices_are_one_per_word() {
        let left: Vec<Applied> = (1..=3)
            .filter_map(|n| {
                let row = (n > 1).then(|| row(key(n), State::Accepted, Author::Device));
                decide(Decision::Leave, &key(n), row.as_ref(), 1, Wall(0))
            })
            .collect();
        let deltas: Vec<_> = merged(&left).iter().map(|one| (one.word, one.delta)).collect();
        assert_eq!(deltas, [(Word::Accepted, -2), (Word::Withdrawn, 3)]);
    }
}
