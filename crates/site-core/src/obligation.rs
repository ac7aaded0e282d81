//! One obligation of the ledger: what a word about it changes, in its row and in the counters.
//!
//! ```text
//! no row (targeted) --device or site speaks--> row --judge--> applied: row and counters move
//!                                                        \--> late: nothing moves, the message is kept
//! ```
//!
//! Called for each report that is taken and for each decision of the site. Row and counter changes
//! belong into one transaction: then the sums hold at every commit.

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Message, Occurrence, Report, RunId};
use muster_model::state::{Author, State, Verdict, Withdrawal, Word, judge};
use serde::{Deserialize, Serialize};

use crate::branch::{Branch, Fired};

/// Which obligation: device x advertisement x occurrence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// The occurrence of it.
    pub occurrence: Occurrence,
    /// The device.
    pub device: DeviceId,
}

/// The place of a message within one device's streams; a later one compares greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Which life of the device's memory.
    pub incarnation: Incarnation,
    /// Which message of it.
    pub sequence: Sequence,
}

impl Place {
    /// The place of a message.
    pub fn of(message: &Message) -> Self {
        Self { incarnation: message.incarnation, sequence: message.sequence }
    }
}

/// The row of an obligation. Written when the device first says something or the site decides
/// something; until then the obligation is `targeted` and has no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObligationRow {
    /// Which obligation.
    pub key: Key,
    /// The revision of the advertisement that it follows or ended under.
    pub revision: u32,
    /// Where it stands.
    pub state: State,
    /// Who said so.
    pub decided: Author,
    /// Since when it stands there: the device's trusted time, or the site's.
    pub since: Wall,
    /// When the site last wrote the row, in the site's time.
    pub updated: Wall,
    /// Runs so far.
    pub attempt: u32,
    /// The newest run.
    pub run: Option<RunId>,
    /// The exit code of the newest run.
    pub exit_code: Option<i32>,
    /// Exit code and detection contradict each other.
    pub disputed: Option<String>,
    /// The last message of the device that moved the row; `None` while only the site has spoken.
    pub place: Option<Place>,
}

/// A word about an obligation, by its device or by the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Where it is said to stand.
    pub state: State,
    /// Who says so.
    pub author: Author,
    /// Under which revision of the advertisement.
    pub revision: u32,
    /// Runs so far; `None` where the speaker does not know (the site).
    pub attempt: Option<u32>,
    /// The newest run.
    pub run: Option<RunId>,
    /// The exit code of the newest run.
    pub exit_code: Option<i32>,
    /// Exit code and detection contradict each other.
    pub disputed: Option<String>,
    /// When it was said: the device's trusted time, or the site's.
    pub at: Wall,
    /// The message that says it; `None` for the site.
    pub place: Option<Place>,
}

impl Said {
    /// What `report` says, which `message` carries.
    pub fn by_device(message: &Message, report: &Report) -> Self {
        Self {
            state: report.state.clone(),
            author: Author::Device,
            revision: report.revision,
            attempt: Some(report.attempt),
            run: report.run,
            exit_code: report.exit_code.or(report.state.exit_code()),
            disputed: report.disputed.clone(),
            at: message.trusted,
            place: Some(Place { incarnation: message.incarnation, sequence: message.sequence }),
        }
    }

    /// The site's decision, made at `at` under `revision` of the advertisement.
    pub fn by_site(state: State, revision: u32, at: Wall) -> Self {
        Self {
            state,
            author: Author::Site,
            revision,
            attempt: None,
            run: None,
            exit_code: None,
            disputed: None,
            at,
            place: None,
        }
    }
}

/// A change of one counter. Appended in the transaction that writes the row; the sum of the deltas
/// of an occurrence and word is the number of rows in that word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterDelta {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The bare state.
    pub word: Word,
    /// Rows more (positive) or fewer (negative).
    pub delta: i64,
}

/// What follows from a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The row as it is from now on. Equal to what it was if the word came late.
    pub row: ObligationRow,
    /// Whether the word moved it.
    pub verdict: Verdict,
    /// The word that the row had before; `None` if there was no row.
    pub before: Option<Word>,
    /// Rare branches gone through.
    pub fired: Fired,
}

impl Applied {
    /// What the counters gain and lose by it: nothing, one, or one gain and one loss.
    pub fn deltas(&self) -> Vec<CounterDelta> {
        deltas_between(&self.row, self.before)
    }
}

/// The counter changes of a row that stood at `before` (`None`: there was none) and is now `row`.
pub fn deltas_between(row: &ObligationRow, before: Option<Word>) -> Vec<CounterDelta> {
    let now = row.state.word();
    if before == Some(now) {
        return Vec::new();
    }
    let delta = |word, delta| CounterDelta {
        advertisement: row.key.advertisement,
        occurrence: row.key.occurrence.clone(),
        word,
        delta,
    };
    before.map(|word| delta(word, -1)).into_iter().chain([delta(now, 1)]).collect()
}

/// Switches of the simulator's planted bugs.
#[cfg(feature = "planted")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Every word is applied, also to what has ended.
    pub terminal_moved_back: bool,
    /// Messages are stored under a short random name, and a name that is taken counts as delivered:
    /// the names that are taken.
    pub short_names: Option<std::collections::BTreeSet<u8>>,
    /// A batch that does not follow what the site has is taken all the same.
    pub holes_taken: bool,
    /// What the site has already is taken once more.
    pub duplicates_taken: bool,
    /// Two histories under one stream are not compared.
    pub forks_unseen: bool,
    /// What a machine did before it was put back to a snapshot still counts.
    pub put_back_counts: bool,
}

/// Applies `said` to the obligation `key`, whose row is `row` if there is one. `now` is the site's
/// time. The device must be targeted by the occurrence; who is not is a stray and never gets here.
pub fn apply(key: &Key, row: Option<&ObligationRow>, said: &Said, now: Wall) -> Applied {
    apply_judged(key, row, said, now, verdict(row, said))
}

/// As [`apply`], with the planted bugs that are switched on.
#[cfg(feature = "planted")]
pub fn apply_planted(
    key: &Key,
    row: Option<&ObligationRow>,
    said: &Said,
    now: Wall,
    planted: &Planted,
) -> Applied {
    let verdict = if planted.terminal_moved_back { Verdict::Applied } else { verdict(row, said) };
    apply_judged(key, row, said, now, verdict)
}

fn verdict(row: Option<&ObligationRow>, said: &Said) -> Verdict {
    let Some(row) = row else { return Verdict::Applied };
    // A set-aside message that is taken later, or an older life of the memory that comes in through
    // a relay, may still bring an end; whatever else it says is the past.
    let older = matches!((said.place, row.place), (Some(new), Some(known)) if new < known);
    if older && !said.state.word().is_terminal() {
        return Verdict::Late;
    }
    judge(&row.state, row.decided, &said.state, said.author)
}

fn apply_judged(
    key: &Key,
    row: Option<&ObligationRow>,
    said: &Said,
    now: Wall,
    verdict: Verdict,
) -> Applied {
    let before = row.map(|row| row.state.word());
    let mut fired = Fired::default();
    let row = match (row, verdict) {
        (Some(row), Verdict::Late) => {
            fired.mark(Branch::Late);
            row.clone()
        }
        (row, _) => {
            mark_rare(row, said, &mut fired);
            moved(key, row, said, now)
        }
    };
    Applied { row, verdict, before, fired }
}

fn mark_rare(row: Option<&ObligationRow>, said: &Said, fired: &mut Fired) {
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    if said.author == Author::Site && said.state.word() == Word::Withdrawn {
        fired.mark(Branch::Withdrawn);
    }
    let Some(row) = row else { return };
    if row.state == left && said.state.word() != Word::Withdrawn {
        fired.mark(Branch::Rejoin);
    }
    if row.decided == Author::Site
        && row.state.word().is_terminal()
        && said.author == Author::Device
        && row.state != said.state
    {
        fired.mark(Branch::EndUndone);
    }
}

fn moved(key: &Key, row: Option<&ObligationRow>, said: &Said, now: Wall) -> ObligationRow {
    let since = match row {
        Some(row) if same_standing(&row.state, &said.state) => row.since,
        _ => said.at,
    };
    let site = said.author == Author::Site;
    // The site knows nothing of runs: what the device said of them stays.
    let kept = row.filter(|_| site);
    ObligationRow {
        key: key.clone(),
        revision: said.revision,
        state: said.state.clone(),
        decided: said.author,
        since,
        updated: now,
        attempt: said.attempt.unwrap_or_else(|| row.map_or(0, |row| row.attempt)),
        run: kept.map_or(said.run, |row| row.run),
        exit_code: kept.map_or(said.exit_code, |row| row.exit_code),
        disputed: kept.map_or_else(|| said.disputed.clone(), |row| row.disputed.clone()),
        place: said.place.or(row.and_then(|row| row.place)),
    }
}

/// Whether two states are one standing for people: progress and the time of the next look do not
/// begin a new one.
fn same_standing(old: &State, new: &State) -> bool {
    match (old, new) {
        (State::Downloading { .. }, State::Downloading { .. }) => true,
        (State::Waiting { why: old, .. }, State::Waiting { why: new, .. }) => old == new,
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use muster_model::state::{Loss, Waiting};

    use super::*;
    use crate::testing::*;

    fn at(incarnation: u32, sequence: u64) -> Place {
        Place { incarnation: Incarnation(incarnation), sequence: Sequence(sequence) }
    }

    fn said(state: State, place: Option<Place>) -> Said {
        let author = if place.is_some() { Author::Device } else { Author::Site };
        Said { author, place, ..Said::by_site(state, 1, Wall(7_000)) }
    }

    /// Applies a word to a row, and checks where the row stands and what the counters gain.
    #[track_caller]
    fn check(
        row: Option<&ObligationRow>,
        word: Said,
        expected: (&State, Verdict),
        counters: &[(Word, i64)],
    ) -> Applied {
        let applied = apply(&key(1), row, &word, Wall(10_000));
        assert_eq!((&applied.row.state, applied.verdict), expected);
        let deltas: Vec<_> = applied.deltas().iter().map(|one| (one.word, one.delta)).collect();
        assert_eq!(deltas, counters);
        applied
    }

    #[test]
    fn the_first_word_adds_one_row_and_takes_none_away() {
        let first = said(State::Accepted, Some(at(1, 1)));
        check(None, first, (&State::Accepted, Verdict::Applied), &[(Word::Accepted, 1)]);
    }

    #[test]
    fn progress_within_one_word_moves_no_counter_and_begins_no_new_standing() {
        let old = row(key(1), State::Downloading { have: 1, of: 9 }, Author::Device);
        let more = State::Downloading { have: 5, of: 9 };
        let word = said(more.clone(), Some(at(1, 2)));
        let applied = check(Some(&old), word, (&more, Verdict::Applied), &[]);
        assert_eq!((applied.row.since, applied.row.updated), (old.since, Wall(10_000)));
        let other = row(key(1), waiting(Waiting::Disk), Author::Device);
        let word = said(waiting(Waiting::Turn), Some(at(1, 2)));
        let applied = check(Some(&other), word, (&waiting(Waiting::Turn), Verdict::Applied), &[]);
        assert_eq!(applied.row.since, Wall(7_000));
    }

    #[test]
    fn an_end_stays_and_the_row_does_not_move() {
        let ended = row(key(1), succeeded(), Author::Device);
        let word = said(running(), Some(at(1, 9)));
        let applied = check(Some(&ended), word, (&succeeded(), Verdict::Late), &[]);
        assert_eq!(applied.row, ended);
        assert!(applied.fired.has(Branch::Late));
    }

    #[test]
    fn what_the_site_declared_yields_to_a_late_outcome() {
        let lost = row(key(1), State::Lost { cause: Loss::Retired }, Author::Site);
        let word = said(succeeded(), Some(at(1, 9)));
        let gained = [(Word::Lost, -1), (Word::Succeeded, 1)];
        let applied = check(Some(&lost), word, (&succeeded(), Verdict::Applied), &gained);
        assert!(applied.fired.has(Branch::EndUndone));
    }

    #[test]
    fn coming_back_opens_what_leaving_withdrew() {
        let gone = row(key(1), left(), Author::Site);
        let back = said(State::Targeted, None);
        let gained = [(Word::Withdrawn, -1), (Word::Targeted, 1)];
        let applied = check(Some(&gone), back, (&State::Targeted, Verdict::Applied), &gained);
        assert!(applied.fired.has(Branch::Rejoin));
    }

    #[test]
    fn an_older_message_brings_only_an_end() {
        let mut known = row(key(1), waiting(Waiting::Retry), Author::Device);
        known.place = Some(at(2, 4));
        let past = said(running(), Some(at(1, 30)));
        check(Some(&known), past, (&waiting(Waiting::Retry), Verdict::Late), &[]);
        let outcome = said(succeeded(), Some(at(1, 31)));
        let gained = [(Word::Waiting, -1), (Word::Succeeded, 1)];
        let applied = check(Some(&known), outcome, (&succeeded(), Verdict::Applied), &gained);
        assert_eq!(applied.row.place, Some(at(1, 31)));
    }

    #[test]
    fn a_decision_of_the_site_keeps_what_the_device_said_of_its_runs() {
        let mut known = row(key(1), waiting(Waiting::Retry), Author::Device);
        known.attempt = 2;
        known.exit_code = Some(3);
        known.disputed = Some("why".into());
        let word = said(left(), None);
        let gained = [(Word::Waiting, -1), (Word::Withdrawn, 1)];
        let applied = check(Some(&known), word, (&left(), Verdict::Applied), &gained).row;
        assert_eq!((applied.attempt, applied.exit_code), (2, Some(3)));
        assert_eq!((applied.disputed, applied.place), (known.disputed, known.place));
    }
}
