//! The lives of a device's memory: who of them may speak, and who is watched.

use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::id::{Incarnation, Sequence};
use muster_model::policy::PutBack;

use super::{Claim, Suspicion, VOUCHED_FOR};
use crate::ingest::{Fork, StreamRow};
use crate::obligation::Place;

/// A device whose time is further ahead of the site's has not heard it, and when its messages were written
/// is not known.
const AHEAD_MOST: Duration = Duration::from_secs(300);
/// Of a device under suspicion no poll is held for longer, so that a machine that is on speaks within
/// it.
pub const WATCHED_POLL_MOST: Duration = Duration::from_secs(60);

/// What the process of a life asked before it ended may be on its way for so long.
const ASKED_LATE_MOST: Duration = Duration::from_secs(600);

/// How the other lives are watched. Beginning it changes the device's policy, which wakes whoever has a
/// poll held; from then on a machine that is on polls within [`poll`](Self::poll).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    poll: Duration,
}

impl Watch {
    /// The watch of a site whose setting `pollWait` is this.
    pub fn of(poll_wait: Duration) -> Self {
        Self { poll: poll_wait.min(WATCHED_POLL_MOST) }
    }

    /// How long a poll of a device under suspicion is held at most.
    pub fn poll(self) -> Duration {
        self.poll
    }

    /// What the machine that was put back had asked before may be on its way for so long.
    fn settle(self) -> Duration {
        self.poll / 2
    }

    /// So long the others have to be silent.
    pub(super) fn silent(self) -> Duration {
        self.poll * 3
    }
}

/// What the site makes of a life that speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It may.
    Speaks,
    /// The life that was handed out to a put-back machine speaks for the first time.
    Begins,
    /// It waits for its word until then, in the site's time.
    Watched {
        /// The end of the watch.
        until: Wall,
    },
    /// The others were silent: the device is to be mended now.
    Mends,
    /// The life that was handed out was never taken up, and a newer one than its own goes on: the claim is to
    /// be given up now.
    GivesUp,
    /// A life asks that has ended: the machine was put back once more, or there is a second one. Its
    /// messages will tell.
    Doubted,
    /// A life speaks beside the one that is watched: there are two machines.
    SecondMachine,
}

/// The lives of a device's memory whose histories were doubted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(Vec<(Incarnation, Fork)>);

impl Lives {
    /// Those of a device, from its streams.
    pub fn of<'a>(streams: impl IntoIterator<Item = &'a StreamRow>) -> Self {
        let doubted = |row: &StreamRow| Some((row.incarnation, row.fork.clone()?));
        Self(streams.into_iter().filter_map(doubted).collect())
    }

    /// Whether a message at `place` tells what was undone by a put-back.
    pub fn is_undone(&self, place: Place) -> bool {
        self.0.iter().any(|(life, fork)| {
            fork.mended.iter().any(|mended| is_after(place, *life, mended.from, mended.life))
        })
    }

    /// What the site makes of `life`, which speaks `now`.
    pub fn hears(&self, life: Incarnation, now: Wall, watch: Watch) -> Hearing {
        if self.is_refused(life) {
            return Hearing::SecondMachine;
        }
        let ends = |(_, fork): &(_, Fork)| fork.mended.iter().any(|mended| life < mended.life);
        let Some((of, claim)) = self.claim() else {
            return if self.0.iter().any(ends) { Hearing::Doubted } else { Hearing::Speaks };
        };
        // A memory that is lost meanwhile is followed by a life beyond.
        let is_its = life >= claim.life;
        if self.is_copied() {
            return if is_its { Hearing::SecondMachine } else { Hearing::Speaks };
        }
        match (is_its, claim.begun) {
            (true, None) => Hearing::Begins,
            (true, Some(begun)) => match begun.plus(watch.silent()) {
                until if now < until => Hearing::Watched { until },
                _ => Hearing::Mends,
            },
            // Whoever claims asks at once. What speaks is its memory after one more loss.
            (false, None) if of < life && claim.since.plus(ASKED_LATE_MOST) < now => {
                Hearing::GivesUp
            }
            // It may still be the machine that claims, which has not yet heard.
            (false, None) => Hearing::Speaks,
            (false, Some(begun)) if now < begun.plus(watch.settle()) => Hearing::Speaks,
            (false, Some(_)) => Hearing::SecondMachine,
        }
    }

    /// What the site makes of messages of `life`. Those of a life that has ended may have been kept by an
    /// access point: when they were written tells ([`goes_on`](Self::goes_on)).
    pub fn hears_messages(&self, life: Incarnation, now: Wall, watch: Watch) -> Hearing {
        match self.is_claims(life) || self.is_refused(life) {
            true => self.hears(life, now, watch),
            false => Hearing::Speaks,
        }
    }

    /// Whether messages of `life`, the newest of them of the trusted time `newest`, prove a second
    /// machine: they go on with a history that has ended, or is doubted. What an access point had kept
    /// since before proves nothing.
    pub fn goes_on(&self, life: Incarnation, newest: Wall) -> bool {
        self.0.iter().any(|(of, fork)| {
            let ended = fork.mended.iter().any(|one| life < one.life && one.at < newest);
            let claim = fork.claim.as_ref().filter(|_| fork.suspicion == Suspicion::Open);
            // Of a claim that nobody takes up nobody knows whether its machine is still there.
            let claim = claim.filter(|one| life < one.life && (life <= *of || one.begun.is_some()));
            ended || claim.is_some_and(|one| one.since < newest)
        })
    }

    /// Whether `life` is of the machine that claims.
    pub fn is_claims(&self, life: Incarnation) -> bool {
        self.claim().is_some_and(|(_, claim)| claim.life <= life)
    }

    /// Whether a life was handed out for a claim that gave way to another.
    pub fn is_refused(&self, life: Incarnation) -> bool {
        self.0.iter().any(|(_, fork)| fork.refused.contains(&life))
    }

    /// Whether a person has said, not long before `now`, that there is one machine, though two histories of
    /// `life` were seen.
    pub(super) fn is_vouched(&self, life: Incarnation, now: Wall) -> bool {
        let said = |(of, fork): &(_, Fork)| fork.vouched.filter(|_| *of == life);
        self.0.iter().filter_map(said).any(|at| at <= now && now < at.plus(VOUCHED_FOR))
    }

    /// Two machines have spoken, and no person has settled it.
    pub fn is_copied(&self) -> bool {
        self.0.iter().any(|(_, fork)| fork.suspicion == Suspicion::Copied)
    }

    /// What the device's policy says to the machine that claims, while nothing speaks against it.
    pub fn told(&self) -> Option<PutBack> {
        let (of, claim) = self.claim().filter(|_| !self.is_copied())?;
        let (sequence, chain, life) = (claim.from.next(), claim.mark, claim.life);
        Some(PutBack { incarnation: of, sequence, chain, life })
    }

    /// Whether `life` was handed out to a machine that was put back: its certificate may be older than
    /// the newest that the site has issued.
    pub fn is_handed_out(&self, life: Incarnation) -> bool {
        let mended = |(_, fork): &(_, Fork)| fork.mended.iter().any(|one| one.life == life);
        self.is_claims(life) || self.0.iter().any(mended)
    }

    /// The claim that stands, and of which life's stream.
    pub fn claim(&self) -> Option<(Incarnation, &Claim)> {
        self.0.iter().find_map(|(life, fork)| Some((*life, fork.claim.as_ref()?)))
    }
}

/// Whether a life that asks `now` goes on though a newer one, first heard at `newer_since`, has followed it: its
/// process had ended by then.
pub fn is_outlived(newer_since: Wall, now: Wall) -> bool {
    newer_since.plus(ASKED_LATE_MOST) < now
}

/// Whether a message that was `written` then, in the device's trusted time, is from after `since`.
pub(crate) fn is_written_since(since: Wall, written: Wall, now: Wall) -> bool {
    since < written && written <= now.plus(AHEAD_MOST)
}

/// Whether `place` lies after message `from` of `life`, and in a life below `below`.
fn is_after(place: Place, life: Incarnation, from: Sequence, below: Incarnation) -> bool {
    place > Place { incarnation: life, sequence: from } && place.incarnation < below
}
