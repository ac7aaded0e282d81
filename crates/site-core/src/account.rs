//! The account that a device without memory is given back, so that nothing runs twice.

use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::state::{State, Withdrawal};
use muster_model::wire::device::{Account, AccountEntry};

use crate::obligation::ObligationRow;

/// What the site knows of `device`'s obligations that ended or were started. `rows` are all rows of
/// the device; those that may still start from the beginning are left out, because the policy names
/// them.
pub fn account<'a>(
    device: DeviceId,
    incarnation: Incarnation,
    epoch: EpochId,
    rows: impl IntoIterator<Item = &'a ObligationRow>,
) -> Account {
    let entry = |row: &ObligationRow| AccountEntry {
        advertisement: row.key.advertisement,
        occurrence: row.key.occurrence.clone(),
        revision: row.revision,
        state: told(&row.state),
        attempt: row.attempt,
    };
    let matters = |row: &&ObligationRow| row.key.device == device && !may_start_anew(row);
    let obligations = rows.into_iter().filter(matters).map(entry).collect();
    Account { device, incarnation, epoch, obligations }
}

/// A removal that was taken back is to the device what it says of it itself: agents of release 0.1 cannot
/// read the site's reason.
fn told(state: &State) -> State {
    match state {
        State::Withdrawn { why: Withdrawal::AdvertisedAgain } => {
            State::Withdrawn { why: Withdrawal::LeftCollection }
        }
        other => other.clone(),
    }
}

/// Nothing of the obligation was ever started, and it may be.
fn may_start_anew(row: &ObligationRow) -> bool {
    let left = told(&row.state) == State::Withdrawn { why: Withdrawal::LeftCollection };
    (row.state.word().is_unstarted() || left) && row.attempt == 0
}

#[cfg(test)]
mod tests {
    use muster_model::state::{Author, Waiting, Word};

    use super::*;
    use crate::testing::*;

    #[test]
    fn what_ended_or_was_started_is_returned_and_the_rest_left_to_the_policy() {
        let mut retrying = row(key(1), waiting(Waiting::Retry), Author::Device);
        retrying.attempt = 2;
        let rows = [
            row(key(1), succeeded(), Author::Device),
            row(key(1), running(), Author::Device),
            retrying,
            row(key(1), waiting(Waiting::Disk), Author::Device),
            row(key(1), left(), Author::Site),
            row(key(2), succeeded(), Author::Device),
        ];
        let epoch = EpochId(Default::default());
        let account = account(device_id(1), Incarnation(2), epoch, &rows);
        let words: Vec<Word> = account.obligations.iter().map(|one| one.state.word()).collect();
        assert_eq!(words, [Word::Succeeded, Word::Running, Word::Waiting]);
    }
}
