//! A machine that was put back to a snapshot goes on by itself; a machine of which there are two goes
//! on nowhere.
//!
//! Both show themselves in the same way: a batch that contradicts what the site has of its stream. What
//! tells them apart is the machine that speaks, and silence:
//!
//! ```text
//! contradiction -> held --other machine, unknown, nothing in common--> held, for a person
//!                    \--same machine--> claim: the next life is handed out
//!                                         | the next life speaks for the first time
//!                                         v
//!                                       watched --an older life speaks--> copied: held, for a person
//!                                         | silence for as long as three polls
//!                                         v
//!                                       mended: what was told after the fork is undone
//! ```
//!
//! Until it is mended the device is held, and the next life is given neither its account nor a receipt,
//! so it starts nothing. An older life that asks from then on holds the device again, until its messages
//! tell whether the machine was put back once more or there is a second one. The site's shell keeps all of
//! this with the streams and asks here; the simulator does the same.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{Incarnation, Sequence};
use muster_model::state::{Author, State, Verdict, Word};
use serde::{Deserialize, Serialize};

use crate::branch::Fired;
use crate::ingest::{Fork, Reading, StreamRow};
use crate::obligation::{Applied, ObligationRow};

mod lives;

pub(crate) use lives::is_written_since;
pub use lives::{Hearing, Lives, WATCHED_POLL_MOST, Watch, is_outlived};

/// The cause of `rolled-back`.
pub const SNAPSHOT: &str = "snapshot";
/// Put-backs of one stream that are remembered. Only those to ever newer snapshots of one life are apart
/// from each other; of more the oldest is forgotten, and with it that messages of it which are still on
/// their way are undone.
pub const MENDED_MAX: usize = 16;

/// For how long the word of a person counts that there is one machine: longer than a machine that is on waits
/// between two tries to send.
pub const VOUCHED_FOR: Duration = Duration::from_secs(24 * 3_600);

/// How far a suspicion has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspicion {
    /// The device is held.
    #[default]
    Open,
    /// Two machines have spoken: held until a person says otherwise.
    Copied,
    /// There is none any more: it was mended, or a person has cleared it.
    Settled,
}

/// A history that says to be that of a machine which was put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The newest message that both histories have.
    pub from: Sequence,
    /// The chain of the history that claims after the first message of its own: whose claim it is.
    pub mark: Digest,
    /// The life that is handed out to it.
    pub life: Incarnation,
    /// When it was handed out, in the site's time.
    pub since: Wall,
    /// When that life spoke for the first time, in the site's time: since then the others are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Wall>,
}

/// A put-back that was mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mended {
    /// The newest message of the stream that still counts.
    pub from: Sequence,
    /// The life that goes on instead. What comes after `from` in any life below it is undone.
    pub life: Incarnation,
    /// When, in the site's time.
    pub at: Wall,
}

/// What tells a put-back machine from a copied one, at a fork.
#[derive(Clone, Copy, Debug)]
pub struct Suspect {
    /// The life whose stream is contradicted.
    pub incarnation: Incarnation,
    /// Where the histories part ([`fork_point`]); `None`: nothing that both still have is the same.
    pub parted: Option<Parted>,
    /// What binds the device to its machine, as the site's history says.
    pub known_machine: Option<Digest>,
    /// The same, as the history says that contradicts it: in the batch, or at or before the message after which
    /// it parts.
    pub machine: Option<Digest>,
    /// A person holds the device.
    pub held_by_person: bool,
    /// The life that would be handed out: above all that ever were.
    pub next: Incarnation,
    /// The site's time.
    pub now: Wall,
}

/// Where two histories part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parted {
    /// The newest message that both have.
    pub from: Sequence,
    /// The chain after the first message that only the contradicting one has.
    pub mark: Digest,
}

/// What the site makes of a contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// A machine that was put back, as far as can be told: the claim stands.
    PutBack(Claim),
    /// It stays held.
    Held(Why),
}

/// Why a contradiction is left to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It comes from another machine.
    OtherMachine,
    /// One of the histories does not say which machine it is of.
    MachineUnknown,
    /// The histories have nothing in common that both still have.
    NothingInCommon,
    /// A third history, or an older life, speaks beside the one that is watched; or one that has ended goes
    /// on with its own history.
    SecondMachine,
    /// A life that has ended asks.
    EndedLife,
    /// A person holds the device.
    Person,
}

impl Why {
    /// The sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Why::OtherMachine => "two histories of its messages come from two machines",
            Why::MachineUnknown => {
                "two histories of its messages were seen, and not both say of which machine they are"
            }
            Why::NothingInCommon => {
                "two histories of its messages were seen that have nothing in common any more"
            }
            Why::SecondMachine => "two machines speak as this device",
            Why::EndedLife => "a life of its memory speaks that had ended with a snapshot",
            Why::Person => "a person holds it, and two histories of its messages were seen",
        }
    }
}

/// The sentence for people about a device whose claim stands.
pub fn watched(claim: &Claim, watch: Watch) -> String {
    let until = match claim.begun {
        Some(begun) => format!("before {}", begun.plus(watch.silent())),
        None => "after its first word".to_owned(),
    };
    format!("it looks put back to a snapshot: it goes on if no second machine speaks {until}")
}

/// Where `reading` parts from what the site has: a history whose claim stands, where it said; another as
/// [`fork_point`] finds.
pub fn parted(
    lives: &Lives,
    reading: &Reading,
    ours: &BTreeMap<Sequence, Digest>,
) -> Option<Parted> {
    let claim = lives.claim().filter(|(of, _)| *of == reading.header.incarnation);
    let same = claim.filter(|(_, one)| reading.chain_at(one.from.next()) == Some(one.mark));
    match same {
        Some((_, claim)) => Some(Parted { from: claim.from, mark: claim.mark }),
        None => fork_point(reading, ours),
    }
}

/// Where `reading` parts from what the site has: `ours` are the chains that are stored with the messages
/// of its stream, from the one before its first on.
fn fork_point(reading: &Reading, ours: &BTreeMap<Sequence, Digest>) -> Option<Parted> {
    let known = |at: Sequence| match at {
        Sequence(0) => Some(Digest::ZERO),
        at => ours.get(&at).copied(),
    };
    let mut from = Sequence(reading.header.first.0 - 1);
    if known(from)? != reading.header.before {
        return None;
    }
    while from < reading.header.last {
        let next = from.next();
        let theirs = reading.chain_at(next)?;
        if known(next) != Some(theirs) {
            return Some(Parted { from, mark: theirs });
        }
        from = next;
    }
    None
}

/// Where the history of a life that goes on after its end parts from the site's, if it has said anything since:
/// before the newest of its messages. When that was written is not known: the first word of a boot has the
/// time that the machine remembered.
pub fn outlived_point(
    stream: &StreamRow,
    newest_received: Wall,
    newer_since: Wall,
) -> Option<Parted> {
    let from = Sequence(stream.through.0.checked_sub(1)?);
    (newer_since < newest_received).then_some(Parted { from, mark: stream.head })
}

/// The mark of a life's stream as of one that goes on after its end.
pub fn doubt(stream: &mut StreamRow) {
    let (at, head) = (stream.through, stream.head);
    stream.fork.get_or_insert_with(|| Fork::at(at, Digest::ZERO, head));
}

/// Decides about a device whose stream is contradicted. The same history that asks again is given the
/// same life.
pub fn judge(lives: &Lives, suspect: &Suspect) -> Judged {
    let Suspect { parted, known_machine, machine, .. } = *suspect;
    if suspect.held_by_person {
        return Judged::Held(Why::Person);
    }
    if lives.is_copied() {
        return Judged::Held(Why::SecondMachine);
    }
    let Some(Parted { from, mark }) = parted else {
        return Judged::Held(Why::NothingInCommon);
    };
    match lives.claim() {
        Some((of, claim)) if (of, claim.mark) == (suspect.incarnation, mark) => {
            return Judged::PutBack(claim.clone());
        }
        // Whoever claimed first and has not begun was put back once more, or is refused when it begins.
        Some((_, Claim { begun: Some(_), .. })) => return Judged::Held(Why::SecondMachine),
        Some(_) | None => {}
    }
    match (known_machine, machine) {
        _ if lives.is_vouched(suspect.incarnation, suspect.now) => {}
        (Some(known), Some(said)) if known == said => {}
        (Some(_), Some(_)) => return Judged::Held(Why::OtherMachine),
        _ => return Judged::Held(Why::MachineUnknown),
    }
    let (life, since) = (suspect.next, suspect.now);
    Judged::PutBack(Claim { from, mark, life, since, begun: None })
}

/// Lets `claim`, of the life `of`, stand in the streams of its device. Another that stood there is
/// refused.
pub fn accept(streams: &mut [StreamRow], of: Incarnation, claim: &Claim) {
    for row in streams {
        let is_its = row.incarnation == of;
        let Some(fork) = &mut row.fork else { continue };
        if let Some(other) = fork.claim.take_if(|other| !is_its || other.life != claim.life) {
            fork.refused.push(other.life);
        }
        if is_its {
            fork.claim = Some(claim.clone());
            fork.vouched = None;
        }
    }
}

impl Fork {
    /// The device has spoken in the life that was handed out.
    pub fn begin(&mut self, now: Wall) {
        if let Some(claim) = &mut self.claim {
            claim.begun.get_or_insert(now);
        }
    }

    /// The claim is found true: what the stream told after it parted is undone.
    pub fn mend(&mut self, now: Wall) {
        let Some(claim) = self.claim.take() else { return };
        // Whatever was undone before and lies after it is undone by this one, too.
        self.mended.retain(|one| one.from < claim.from);
        self.mended.push(Mended { from: claim.from, life: claim.life, at: now });
        let excess = self.mended.len().saturating_sub(MENDED_MAX);
        self.mended.drain(..excess);
        self.suspicion = Suspicion::Settled;
    }

    /// Nobody takes the claim up.
    pub fn give_up(&mut self) {
        if self.claim.take().is_some() {
            self.suspicion = Suspicion::Settled;
        }
    }

    /// The claim is found false: two machines have spoken.
    pub fn refuse(&mut self) {
        self.suspicion = Suspicion::Copied;
    }

    /// A person has cleared the suspicion: there is one machine. If it is the one that claims, it begins
    /// once more, and the others have to be silent; if it is another, that one goes on. If none claims, the
    /// next history that contradicts may, whatever machine it is of ([`VOUCHED_FOR`]).
    pub fn settle(&mut self, now: Wall) {
        self.suspicion = Suspicion::Settled;
        match &mut self.claim {
            Some(claim) => claim.begun = None,
            None => self.vouched = Some(now),
        }
    }
}

/// What becomes of a row that rests on an undone message. `None`: it does not, or the site has decided
/// it. An end by a run, or by detection, is undone with the machine; so is a run that was under way. What
/// ended without either stays, as the site's word. What was open is open: the device says where it stands.
pub fn undo(row: &ObligationRow, lives: &Lives, now: Wall) -> Option<Applied> {
    if row.decided == Author::Site || !row.place.is_some_and(|place| lives.is_undone(place)) {
        return None;
    }
    let before = row.state.word();
    let state = match before {
        Word::Succeeded
        | Word::Failed
        | Word::TimedOut
        | Word::Interrupted
        | Word::RolledBack
        | Word::Running
        | Word::RestartPending => State::RolledBack { cause: SNAPSHOT.to_owned() },
        Word::Expired | Word::Superseded | Word::Withdrawn | Word::Lost => row.state.clone(),
        Word::Targeted
        | Word::Accepted
        | Word::Available
        | Word::NotApplicable
        | Word::Waiting
        | Word::Downloading => State::Targeted,
    };
    let since = if state == row.state { row.since } else { now };
    let row = ObligationRow {
        state,
        decided: Author::Site,
        since,
        updated: now,
        disputed: None,
        ..row.clone()
    };
    let (verdict, fired) = (Verdict::Applied, Fired::default());
    Some(Applied { row, verdict, before: Some(before), fired })
}

#[cfg(test)]
mod tests;
