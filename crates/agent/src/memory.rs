//! The device's memory at start: the journal, or, if it was lost, the next incarnation's (DESIGN,
//! "A lost memory runs nothing twice").
//!
//! ```text
//! journal is whole ---------------------------------------------> go on
//! missing or damaged -> identity: next incarnation, why, where -> set aside -> new journal -> go on
//!                            (durable before anything moves, so each step may be repeated)
//! ```
//!
//! An incarnation is used only after the identity says so, so no two memories ever speak as one.

use std::path::Path;

use muster_agent_core::saved::Saved;
use muster_model::id::Incarnation;

use crate::identity::{Identity, IdentityError, LostMemory};
use crate::journal::{self, Journal, JournalError, Owner};

/// What the agent starts with.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The open journal.
    pub(crate) journal: Journal,
    /// Whose it is, and what was salvaged of the one before.
    pub(crate) owner: Owner,
    /// What it holds.
    pub(crate) saved: Saved,
}

/// The memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The journal.
    #[error("failed to open the device's memory")]
    Journal(#[from] JournalError),
    /// The identity.
    #[error("failed to open the device's memory")]
    Identity(#[from] IdentityError),
    /// The memory was lost twice and no renewal came in between: there is no incarnation to begin.
    /// Renewal brings one.
    #[error(
        "failed to begin a new memory ({found}): no incarnation is left until the site is reached"
    )]
    NoIncarnation {
        /// What was found in the place of the journal.
        found: String,
    },
}

/// Lays out the journal of a device that has just been enrolled. One that is there already is left
/// alone: enrolment is repeated.
pub(crate) fn begin(data: &Path, identity: &Identity) -> Result<(), MemoryError> {
    let enrolment = identity.enrolment.as_ref().ok_or(IdentityError::NotEnrolled)?;
    if data.join(journal::JOURNAL_FILE).exists() {
        return Ok(());
    }
    let (device, incarnation) = (enrolment.device, enrolment.incarnation);
    Journal::create(data, &Owner { device, incarnation, because: None, salvaged: Vec::new() })?;
    Ok(())
}

/// Opens the memory of the enrolled device of `data`.
pub(crate) fn open(data: &Path) -> Result<Memory, MemoryError> {
    let (mut identity, mut enrolment) = Identity::load_enrolled(data)?;
    let found = match open_journal(data, &identity) {
        Ok(memory) => {
            if enrolment.lost.take().is_some() {
                identity.enrolment = Some(enrolment);
                identity.save(data)?;
            }
            return Ok(memory);
        }
        Err(error @ (JournalError::Damaged { .. } | JournalError::Missing { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    let found = found.to_string();
    let lost = match enrolment.lost.clone() {
        // The identity moved on already, and the new journal did not come to stand.
        Some(lost) => lost,
        None => {
            let lost = LostMemory { found: found.clone(), set_aside: journal::free_name(data)? };
            if !enrolment.begin_next_incarnation(lost.clone()) {
                return Err(MemoryError::NoIncarnation { found });
            }
            identity.enrolment = Some(enrolment.clone());
            identity.save(data)?;
            lost
        }
    };
    tracing::error!(found = %lost.found, set_aside = %lost.set_aside, "the memory was lost");
    let salvaged = journal::set_aside(data, &lost.set_aside)?;
    let owner = Owner {
        device: enrolment.device,
        incarnation: enrolment.incarnation,
        because: Some(lost.found),
        salvaged: salvaged.reports(),
    };
    Journal::create(data, &owner)?;
    let memory = open_journal(data, &identity)?;
    enrolment.lost = None;
    identity.enrolment = Some(enrolment);
    identity.save(data)?;
    Ok(memory)
}

/// Moves the identity to `life`, because the memory is `found` to be no longer the device's own. Durable on
/// return; the next [`open`] sets the journal aside.
pub(crate) fn give_up(data: &Path, life: Incarnation, found: &str) -> Result<(), MemoryError> {
    let (mut identity, mut enrolment) = Identity::load_enrolled(data)?;
    let lost = LostMemory { found: found.to_owned(), set_aside: journal::free_name(data)? };
    enrolment.next_incarnation = Some(life);
    enrolment.begin_next_incarnation(lost);
    identity.enrolment = Some(enrolment);
    Ok(identity.save(data)?)
}

/// Opens the journal if it is the device's own, of the incarnation in use. Another one, put in its
/// place, is no better than a damaged one.
fn open_journal(data: &Path, identity: &Identity) -> Result<Memory, JournalError> {
    let journal = Journal::open(data)?;
    let owner = journal.owner()?;
    let own = identity.enrolment.as_ref().is_some_and(|enrolment| {
        (enrolment.device, enrolment.incarnation) == (owner.device, owner.incarnation)
    });
    if !own {
        return Err(JournalError::Damaged {
            path: data.join(journal::JOURNAL_FILE),
            found: format!(
                "it is that of device {}, incarnation {}",
                owner.device, owner.incarnation
            ),
        });
    }
    let saved = journal.load()?;
    Ok(Memory { journal, owner, saved })
}

#[cfg(test)]
mod damage;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Der, Enrolment};
    use muster_model::digest::Digest;
    use muster_model::id::{DeviceId, EpochId};
    use muster_model::name::Name;
    use tempfile::TempDir;

    fn enrolled() -> TempDir {
        let data = tempfile::tempdir().unwrap();
        let name = Name::new("d1").unwrap();
        let mut identity =
            Identity::draw(name, "https://s".into(), Digest::of(b"ca"), None).unwrap();
        identity.enrolment = Some(Enrolment {
            device: DeviceId(uuid::Uuid::from_u128(7)),
            certificate: Der(Vec::new()),
            ca: Der(Vec::new()),
            signing_certificate: Der(Vec::new()),
            site: "ABC".into(),
            epoch: EpochId(uuid::Uuid::nil()),
            incarnation: Incarnation(1),
            next_incarnation: Some(Incarnation(2)),
            generation: 0,
            lost: None,
            held: false,
        });
        identity.save(data.path()).unwrap();
        begin(data.path(), &identity).unwrap();
        data
    }

    fn incarnation(data: &TempDir) -> (Incarnation, Option<Incarnation>) {
        let (_, enrolment) = Identity::load_enrolled(data.path()).unwrap();
        assert_eq!(enrolment.lost, None);
        (enrolment.incarnation, enrolment.next_incarnation)
    }

    fn lose(data: &TempDir) {
        for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
            let _ = std::fs::remove_file(data.path().join(name));
        }
    }

    #[test]
    fn a_whole_journal_goes_on_in_the_same_incarnation() {
        let data = enrolled();
        let memory = open(data.path()).unwrap();
        assert_eq!((memory.owner.because, incarnation(&data).0), (None, Incarnation(1)));
    }

    #[test]
    fn a_missing_journal_begins_the_next_incarnation_once() {
        let data = enrolled();
        lose(&data);
        let memory = open(data.path()).unwrap();
        assert!(memory.owner.because.unwrap().contains("missing"));
        assert_eq!(memory.owner.incarnation, Incarnation(2));
        drop(memory.journal);
        // Until the machine has written its first message, the next start tells the same.
        let again = open(data.path()).unwrap();
        assert!(again.owner.because.is_some());
        assert_eq!(incarnation(&data), (Incarnation(2), None));
    }

    #[test]
    fn a_second_loss_waits_for_the_site() {
        let data = enrolled();
        lose(&data);
        drop(open(data.path()).unwrap());
        lose(&data);
        assert!(matches!(open(data.path()), Err(MemoryError::NoIncarnation { .. })));
        assert_eq!(incarnation(&data), (Incarnation(2), None));
    }

    #[test]
    fn a_crash_between_identity_and_journal_costs_no_incarnation() {
        let data = enrolled();
        lose(&data);
        let (mut identity, mut enrolment) = Identity::load_enrolled(data.path()).unwrap();
        let set_aside = "journal.damaged-1.db".into();
        enrolment.begin_next_incarnation(LostMemory { found: "gone".into(), set_aside });
        identity.enrolment = Some(enrolment);
        identity.save(data.path()).unwrap();
        let memory = open(data.path()).unwrap();
        assert_eq!(memory.owner.because.as_deref(), Some("gone"));
        assert_eq!(incarnation(&data), (Incarnation(2), None));
    }

    #[test]
    fn a_memory_that_is_given_up_is_set_aside_whole_and_the_next_life_says_why() {
        let data = enrolled();
        give_up(data.path(), Incarnation(7), "put back").unwrap();
        let memory = open(data.path()).unwrap();
        assert_eq!(memory.owner.because.as_deref(), Some("put back"));
        assert_eq!(incarnation(&data), (Incarnation(7), None));
        assert!(data.path().join("journal.damaged-1.db").exists());
    }

    #[test]
    fn a_journal_of_another_device_is_set_aside() {
        let (data, other) = (enrolled(), tempfile::tempdir().unwrap());
        let owner = Owner {
            device: DeviceId(uuid::Uuid::from_u128(8)),
            incarnation: Incarnation(1),
            because: None,
            salvaged: Vec::new(),
        };
        drop(Journal::create(other.path(), &owner).unwrap());
        lose(&data);
        std::fs::copy(other.path().join("journal.db"), data.path().join("journal.db")).unwrap();
        let memory = open(data.path()).unwrap();
        assert_eq!(memory.owner.incarnation, Incarnation(2));
        assert!(data.path().join("journal.damaged-1.db").exists());
    }
}
