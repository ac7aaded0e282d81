//! What is still to fetch of a package: a plan that can be dropped and made again at any time.
//!
//! The agent makes a [`FetchPlan`] from a believed manifest and a look at its store; nothing about
//! progress is remembered elsewhere, so a crash costs only what was in flight. The shell asks for
//! the [`FetchPlan::next`] object, hands in its bytes, stores them durably, and says so. An object
//! that fails goes to the end of the queue, so that a bad one never holds up the others. Knows
//! neither sources nor time; waiting before another round is the caller's decision.
//!
//! ```text
//! waiting --next--> in flight --received--> verified --stored--> done
//!    ^                  |                       |
//!    +---- failed, put back, refused bytes -----+      after TRIES_MAX: given up
//! ```

use std::collections::{BTreeMap, VecDeque};

use muster_model::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkRefused, check_object};
use crate::manifest::Manifest;

/// Objects asked for and not yet stored. Eight of them hide a round trip of 100 ms at 20 MB/s and
/// hold at most 2 MiB.
pub const IN_FLIGHT_MAX: usize = 8;
/// How often one object is tried in one plan. More of the same from the same source rarely helps;
/// the caller waits, or turns to another source, and makes a new plan.
pub const TRIES_MAX: u8 = 5;

/// One object to ask a source for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRequest {
    /// Its name.
    pub object: Digest,
    /// Its length in bytes; read no more than that from anybody.
    pub stored: u32,
}

/// Bytes that are the object they should be. Store them durably, then call [`FetchPlan::stored`].
#[derive(Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// The object's name.
    pub object: Digest,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// How far a plan is, over all distinct objects of the package, present ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Progress {
    /// Objects that are stored.
    pub objects_done: u64,
    /// Objects in all.
    pub objects: u64,
    /// Bytes that are stored, as sent.
    pub bytes_done: u64,
    /// Bytes in all, as sent.
    pub bytes: u64,
}

/// Where a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is something to ask for or to wait for.
    Fetching,
    /// Everything is stored.
    Complete,
    /// Nothing more can be asked for, and this many objects failed [`TRIES_MAX`] times.
    GivenUp {
        /// How many.
        objects: usize,
    },
}

/// What comes of an object that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It stands at the end of the queue again.
    Again,
    /// It has failed [`TRIES_MAX`] times.
    GivenUp,
}

/// Why an answer of the shell is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FetchRefused {
    /// Nobody asked for this object, or it was dealt with already.
    #[error("take object {object}: it is not one that was asked for")]
    NotAsked {
        /// The object.
        object: Digest,
    },
    /// Not the object's bytes. It counts as a failed try.
    #[error("take the bytes that came for an object")]
    Bytes {
        /// What comes of it.
        retry: Retry,
        /// What is wrong.
        #[source]
        source: ChunkRefused,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    Verified,
    Done,
    GivenUp,
}

#[derive(Clone, Debug)]
struct Slot {
    stored: u32,
    tries: u8,
    state: State,
}

/// The plan. Its size is that of the list of missing objects.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    slots: BTreeMap<Digest, Slot>,
    queue: VecDeque<Digest>,
    in_flight: usize,
    given_up: usize,
    progress: Progress,
}

impl FetchPlan {
    /// What is missing of `manifest`, in the order in which its files need it. `present` says
    /// whether an object is stored already; it is asked once for each distinct one.
    pub fn new(manifest: &Manifest, mut present: impl FnMut(&Digest) -> bool) -> Self {
        let mut plan = Self {
            slots: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: 0,
            given_up: 0,
            progress: Progress::default(),
        };
        for chunk in manifest.files().flat_map(|file| &file.chunks) {
            if plan.slots.contains_key(&chunk.object) {
                continue;
            }
            let mut slot = Slot { stored: chunk.stored, tries: 0, state: State::Waiting };
            plan.progress.objects += 1;
            plan.progress.bytes += u64::from(chunk.stored);
            if present(&chunk.object) {
                slot.state = State::Done;
                plan.progress.done(slot.stored);
            } else {
                plan.queue.push_back(chunk.object);
            }
            plan.slots.insert(chunk.object, slot);
        }
        plan
    }

    /// The next object to ask for; none while [`IN_FLIGHT_MAX`] are under way or nothing waits.
    #[expect(
        clippy::should_implement_trait,
        reason = "a plan is no iterator: later calls may give more"
    )]
    pub fn next(&mut self) -> Option<ObjectRequest> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let object = self.queue.pop_front()?;
        let slot = self.slots.get_mut(&object)?;
        slot.state = State::InFlight;
        self.in_flight += 1;
        Some(ObjectRequest { object, stored: slot.stored })
    }

    /// Takes the bytes that came for an object. Wrong ones count as a failed try.
    pub fn received<'a>(
        &mut self,
        object: Digest,
        bytes: &'a [u8],
    ) -> Result<Store<'a>, FetchRefused> {
        let slot = self.slot(object, &[State::InFlight])?;
        if let Err(source) = check_object(object, slot.stored.into(), bytes) {
            let retry = self.failed(object)?;
            return Err(FetchRefused::Bytes { retry, source });
        }
        slot.state = State::Verified;
        Ok(Store { object, bytes })
    }

    /// The object is stored durably.
    pub fn stored(&mut self, object: Digest) -> Result<(), FetchRefused> {
        let slot = self.slot(object, &[State::Verified])?;
        slot.state = State::Done;
        let stored = slot.stored;
        self.in_flight -= 1;
        self.progress.done(stored);
        Ok(())
    }

    /// The object did not come, or could not be stored: one try is spent.
    pub fn failed(&mut self, object: Digest) -> Result<Retry, FetchRefused> {
        let slot = self.slot(object, &[State::InFlight, State::Verified])?;
        slot.tries += 1;
        if slot.tries < TRIES_MAX {
            self.put_back(object)?;
            return Ok(Retry::Again);
        }
        slot.state = State::GivenUp;
        self.in_flight -= 1;
        self.given_up += 1;
        Ok(Retry::GivenUp)
    }

    /// The request was called off, by a lost link or a pause: no try is spent.
    pub fn put_back(&mut self, object: Digest) -> Result<(), FetchRefused> {
        self.slot(object, &[State::InFlight, State::Verified])?.state = State::Waiting;
        self.in_flight -= 1;
        self.queue.push_back(object);
        Ok(())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match (self.queue.len() + self.in_flight, self.given_up) {
            (0, 0) => Standing::Complete,
            (0, objects) => Standing::GivenUp { objects },
            _ => Standing::Fetching,
        }
    }

    /// The objects that were given up.
    pub fn given_up(&self) -> impl Iterator<Item = Digest> {
        let given_up = self.slots.iter().filter(|(_, slot)| slot.state == State::GivenUp);
        given_up.map(|(object, _)| *object)
    }

    fn slot(&mut self, object: Digest, among: &[State]) -> Result<&mut Slot, FetchRefused> {
        let slot = self.slots.get_mut(&object).filter(|slot| among.contains(&slot.state));
        slot.ok_or(FetchRefused::NotAsked { object })
    }
}

impl Progress {
    fn done(&mut self, stored: u32) {
        self.objects_done += 1;
        self.bytes_done += u64::from(stored);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::manifest::tests::spec;
    use crate::testing::{Objects, noise, tree_of};
    use muster_model::name::Name;
    use proptest::prelude::*;

    /// Two files that share most of their content.
    fn package() -> (Manifest, Objects) {
        let mut content = noise(4, 900_000);
        let one = content.clone();
        content.splice(..0, *b"in front");
        let (tree, objects) = tree_of(&[("one", &one), ("two", &content)]);
        (Manifest::new(Name::new("p").unwrap(), spec(), tree).unwrap(), objects)
    }

    fn fetch(plan: &mut FetchPlan, objects: &Objects) {
        while let Some(ObjectRequest { object, .. }) = plan.next() {
            plan.received(object, &objects[&object]).unwrap();
            plan.stored(object).unwrap();
        }
    }

    #[test]
    fn every_object_is_asked_for_once_in_order() {
        let (manifest, objects) = package();
        let mut plan = FetchPlan::new(&manifest, |_| false);
        let mut asked = Vec::new();
        while let Some(request) = plan.next() {
            asked.push(request.object);
            assert_eq!(request.stored as usize, objects[&request.object].len());
            plan.received(request.object, &objects[&request.object]).unwrap();
            plan.stored(request.object).unwrap();
        }
        let mut expected = Vec::new();
        for chunk in manifest.files().flat_map(|file| &file.chunks) {
            if !expected.contains(&chunk.object) {
                expected.push(chunk.object);
            }
        }
        assert_eq!(asked, expected);
        assert_eq!(plan.standing(), Standing::Complete);
        let bytes = objects.values().map(|bytes| bytes.len() as u64).sum();
        let objects = objects.len() as u64;
        let all = Progress { objects_done: objects, objects, bytes_done: bytes, bytes };
        assert_eq!(plan.progress(), all);
    }

    #[test]
    fn what_is_present_is_done_from_the_start() {
        let (manifest, objects) = package();
        let first = manifest.files().next().unwrap();
        let present: BTreeSet<_> = first.chunks.iter().map(|chunk| chunk.object).collect();
        let mut plan = FetchPlan::new(&manifest, |object| present.contains(object));
        assert_eq!(plan.progress().objects_done, present.len() as u64);
        let mut asked = 0;
        while let Some(ObjectRequest { object, .. }) = plan.next() {
            assert!(!present.contains(&object));
            plan.received(object, &objects[&object]).unwrap();
            plan.stored(object).unwrap();
            asked += 1;
        }
        assert!((1..=3).contains(&asked), "{asked} objects for eight bytes in front");
        let nothing_missing = FetchPlan::new(&manifest, |_| true);
        assert_eq!(nothing_missing.standing(), Standing::Complete);
    }

    #[test]
    fn requests_in_flight_are_bounded() {
        let (manifest, _) = package();
        let mut plan = FetchPlan::new(&manifest, |_| false);
        let asked: Vec<_> = std::iter::from_fn(|| plan.next()).collect();
        assert_eq!(asked.len(), IN_FLIGHT_MAX);
        plan.put_back(asked[0].object).unwrap();
        assert!(plan.next().is_some() && plan.next().is_none());
    }

    #[test]
    fn a_bad_object_waits_behind_the_others_and_is_given_up_in_the_end() {
        let (manifest, objects) = package();
        let mut plan = FetchPlan::new(&manifest, |_| false);
        let bad = plan.queue[0];
        let (mut asked, mut outcomes) = (Vec::new(), Vec::new());
        while let Some(ObjectRequest { object, .. }) = plan.next() {
            asked.push(object);
            if object != bad {
                plan.received(object, &objects[&object]).unwrap();
                plan.stored(object).unwrap();
                continue;
            }
            match plan.received(object, b"<html>") {
                Err(FetchRefused::Bytes { retry, .. }) => outcomes.push(retry),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(asked.iter().rposition(|object| *object != bad), Some(objects.len() - 1));
        assert_eq!(outcomes, [[Retry::Again; 4].as_slice(), &[Retry::GivenUp]].concat());
        assert_eq!(plan.standing(), Standing::GivenUp { objects: 1 });
        assert_eq!(plan.given_up().collect::<Vec<_>>(), [bad]);
        assert_eq!(plan.progress().objects_done, plan.progress().objects - 1);
    }

    #[test]
    fn answers_nobody_asked_for_are_refused() {
        let (manifest, objects) = package();
        let mut plan = FetchPlan::new(&manifest, |_| false);
        let (object, bytes) = objects.first_key_value().unwrap();
        assert!(plan.received(*object, bytes).is_err());
        assert!(plan.stored(*object).is_err());
        let asked = plan.next().unwrap().object;
        assert!(plan.stored(asked).is_err(), "stored before it was received");
        plan.received(asked, &objects[&asked]).unwrap();
        assert!(plan.received(asked, &objects[&asked]).is_err());
        plan.stored(asked).unwrap();
        assert!(plan.failed(asked).is_err() && plan.put_back(asked).is_err());
    }

    #[test]
    fn an_object_that_cannot_be_stored_is_fetched_again() {
        let (manifest, objects) = package();
        let mut plan = FetchPlan::new(&manifest, |_| false);
        let asked = plan.next().unwrap().object;
        plan.received(asked, &objects[&asked]).unwrap();
        assert_eq!(plan.failed(asked).unwrap(), Retry::Again);
        assert_eq!(plan.progress().objects_done, 0);
        fetch(&mut plan, &objects);
        assert_eq!(plan.standing(), Standing::Complete);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever order of failures, aborts and crashes: in the end it is complete or it says
        /// what it gave up, and the figures fit.
        #[test]
        fn any_course_of_events_ends(events in prop::collection::vec(0u8..6, 0..200)) {
            let (manifest, objects) = package();
            let mut store = BTreeSet::new();
            let mut plan = FetchPlan::new(&manifest, |_| false);
            for event in events {
                if event == 0 {
                    plan = FetchPlan::new(&manifest, |object| store.contains(object));
                }
                let Some(ObjectRequest { object, .. }) = plan.next() else { continue };
                match event {
                    1 => drop(plan.received(object, b"bad")),
                    2 => plan.put_back(object).unwrap(),
                    3 => drop(plan.failed(object).unwrap()),
                    _ => {
                        store.insert(plan.received(object, &objects[&object]).unwrap().object);
                        plan.stored(object).unwrap();
                    }
                }
            }
            fetch(&mut plan, &objects);
            let given_up = plan.given_up().count();
            prop_assert!(plan.standing() != Standing::Fetching);
            prop_assert_eq!(plan.progress().objects_done as usize + given_up, objects.len());
        }
    }
}
