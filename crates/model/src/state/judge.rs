//! Precedence: whose word moves an obligation, the device's or its site's.

use serde::{Deserialize, Serialize};

use super::{State, Withdrawal, Word};

/// Who said that an obligation stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    /// The device, in its message stream.
    Device,
    /// The site, for a device that did not say it.
    Site,
}

/// What becomes of a word about an obligation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the new state.
    Applied,
    /// The obligation had ended already: kept in the history, marked late, counted nowhere.
    Late,
}

/// Whether a word by `author` moves an obligation that stands at `current` (as `decided` said).
///
/// The one rule of precedence: nobody moves what the device ended, except that the device itself may
/// say that a success was undone; the device moves everything else; the site moves only what was
/// never started, and it may declare lost what has not ended. `withdrawn(left-collection)`, and of a
/// removal `withdrawn(advertised-again)`, are the ends that the opposite opens again, for both. A device
/// says the first of everything that it is no longer offered; where the site has ended the obligation it
/// knows the better reason, which stays.
pub fn judge(current: &State, decided: Author, new: &State, author: Author) -> Verdict {
    if let State::Withdrawn { why: Withdrawal::LeftCollection } = current {
        return Verdict::Applied;
    }
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    if current.word().is_terminal() && decided == Author::Site && *new == left {
        return Verdict::Late;
    }
    if let State::Withdrawn { why: Withdrawal::AdvertisedAgain } = current {
        return Verdict::Applied;
    }
    let ended_by_device = current.word().is_terminal() && decided == Author::Device;
    let undone = matches!(current, State::Succeeded { .. }) && new.word() == Word::RolledBack;
    let applies = match author {
        Author::Device => !ended_by_device || undone,
        Author::Site => {
            !current.word().is_terminal()
                && (current.word().is_unstarted() || new.word() == Word::Lost)
        }
    };
    if applies { Verdict::Applied } else { Verdict::Late }
}
