//! What the site decides for devices that did not decide it: joining, leaving, an end of the
//! occurrence, a device that is gone.
//!
//! Every decision yields to a later word of the device ([`muster_model::state::judge`]); what the
//! device ended or is running now is left alone. Many devices at once are the shell's to portion:
//! each portion with its rows and deltas in one transaction, and the sums hold between any two.

use std::collections::BTreeMap;

use muster_model::clock::Wall;
use muster_model::id::AdvertisementId;
use muster_model::message::{Body, Message, Occurrence};
use muster_model::state::{Author, Expiry, Loss, State, Verdict, Waiting, Withdrawal, Word};

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
    /// What the advertisement installed is to be removed: from then on, if a grace time is given, or now.
    Removal {
        /// The end of the grace time.
        until: Option<Wall>,
    },
    /// It is advertised again, or its package is, before the removal began.
    TakeBack,
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
            Decision::Removal { until: Some(until) } => {
                State::Waiting { why: Waiting::Time, until: Some(until) }
            }
            Decision::TakeBack => State::Withdrawn { why: Withdrawal::AdvertisedAgain },
            Decision::Join | Decision::Name | Decision::Removal { until: None } => State::Targeted,
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

/// [`Decision::Join`] for a device that may not have heard that it had left: then it has no reason to
/// say anything again, so what it said last holds again. `last` is the message that the row rests on
/// ([`ObligationRow::place`]), if there is one and it is still stored.
pub fn rejoin(
    key: &Key,
    row: Option<&ObligationRow>,
    last: Option<&Message>,
    revision: u32,
    now: Wall,
) -> Option<Applied> {
    let left =
        |row: &&ObligationRow| row.decided == Author::Site && row.state == Decision::Leave.state();
    let report = last.and_then(|message| match &message.body {
        Body::Obligation(report) if report.state.word().is_unstarted() => Some((message, report)),
        _ => None,
    });
    match (row.filter(left), report) {
        (Some(row), Some((message, report))) => {
            let said = Said::by_device(message, report);
            Some(apply(key, Some(row), &said, now))
        }
        _ => decide(Decision::Join, key, row, revision, now),
    }
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
    use muster_model::state::NotApplicable;

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
        check(Leave, Some(State::RestartPending { why: None, detail: String::new() }), None);
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
    fn who_comes_back_unheard_stands_where_it_said_last() {
        let last = |state| message(7, Body::Obligation(report(state)));
        let check = |decided, last: Option<Message>, expected: Word| {
            let row = row(key(1), left(), decided);
            let applied = rejoin(&key(1), Some(&row), last.as_ref(), 1, Wall(10_000)).unwrap();
            assert_eq!(applied.row.state.word(), expected, "{last:?}");
        };
        let why = NotApplicable::Platform;
        check(Author::Site, Some(last(State::NotApplicable { why })), Word::NotApplicable);
        check(Author::Site, Some(last(State::Available)), Word::Available);
        check(Author::Site, None, Word::Targeted);
        // It has heard, and will say so when it hears that it is back.
        check(Author::Device, Some(last(left())), Word::Targeted);
        let stays = row(key(1), running(), Author::Device);
        assert_eq!(rejoin(&key(1), Some(&stays), Some(&last(running())), 1, Wall(0)), None);
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
