//! Damage at every place of a real journal: the agent starts each time, and either goes on with all that
//! was saved or says what it found and begins the next incarnation with what was salvaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_agent_core::saved::Saved;
use muster_model::id::Incarnation;
use muster_model::message::Report;
use tempfile::TempDir;

use super::{Memory, open};
use crate::identity::IDENTITY_FILE;
use crate::journal::{JOURNAL_FILE, Salvaged};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/0.1/fleet.tar.gz");
/// The size of a page of SQLite.
const PAGE: usize = 4096;
/// Every byte of the file's header is damaged (sqlite.org/fileformat2.html, section 1.3).
const HEADER: usize = 100;
/// How many other places of each page that holds something.
const PLACES: usize = 2;

/// A device of release 0.1 that was killed with outcomes unsent and a program running.
struct Killed {
    dir: TempDir,
    /// What its journal held.
    saved: Saved,
}

impl Killed {
    /// Its journal as one file, the log folded in.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-xzf", FIXTURE, "-C"]).arg(dir.path()).args(["d1/identity.json"]);
        let done = tar.args(["d1/journal.db", "d1/journal.db-wal"]).status().unwrap();
        assert!(done.success(), "the fixture can be unpacked");
        let memory = open(&dir.path().join("d1")).unwrap();
        assert_eq!(memory.owner.because, None);
        let saved = memory.saved.clone();
        drop(memory);
        let killed = Self { dir, saved };
        assert!(!killed.path("journal.db-wal").exists(), "nothing is left in the log");
        killed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("d1").join(name)
    }

    fn journal(&self) -> Vec<u8> {
        std::fs::read(self.path(JOURNAL_FILE)).unwrap()
    }

    /// The folder of a copy whose journal holds `bytes`.
    fn with(&self, bytes: &[u8]) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(self.path(IDENTITY_FILE), copy.path().join(IDENTITY_FILE)).unwrap();
        std::fs::write(copy.path().join(JOURNAL_FILE), bytes).unwrap();
        copy
    }

    /// Starts on `bytes`; answers what was found, if the journal was given up.
    #[track_caller]
    fn check(&self, what: &str, bytes: &[u8]) -> Option<String> {
        let copy = self.with(bytes);
        let Memory { journal, owner, saved } =
            open(copy.path()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        drop(journal);
        match &owner.because {
            None => self.goes_on(what, &saved),
            Some(found) => {
                assert!(!found.is_empty() && owner.incarnation == Incarnation(2), "{what}");
                assert!(saved.memory.is_none() && saved.messages.is_empty(), "{what}");
                self.kept_aside(what, copy.path(), bytes);
                // What is handed on stood in the journal, in its order, and nothing else.
                let mut ours = reports(&self.saved).into_iter();
                for report in &owner.salvaged {
                    assert!(ours.any(|one| one == *report), "{what}: {report:?}");
                }
            }
        }
        owner.because
    }

    /// What is not noticed has changed nothing that decides.
    #[track_caller]
    fn goes_on(&self, what: &str, saved: &Saved) {
        assert_eq!(*saved, self.saved, "{what}: neither whole nor given up");
    }

    #[track_caller]
    fn kept_aside(&self, what: &str, data: &Path, bytes: &[u8]) {
        let aside = std::fs::read(data.join("journal.damaged-1.db")).unwrap();
        // Only a look lies between: SQLite may have written a header, never shortened the file.
        assert!(aside.len() >= bytes.len(), "{what}: its bytes are kept");
        let again = open(data).unwrap();
        assert_eq!(again.owner.incarnation, Incarnation(2), "{what}: a second start costs nothing");
    }
}

/// All that could be salvaged: without the memory it is not known what the site has.
fn reports(saved: &Saved) -> Vec<Report> {
    Salvaged { memory: None, messages: saved.messages.clone() }.reports()
}

/// Places to damage, the same in every run.
fn places() -> impl FnMut() -> usize {
    let mut state = 7_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    }
}

#[test]
fn a_damaged_header_never_keeps_the_agent_from_starting() {
    let killed = Killed::new();
    let whole = killed.journal();
    for at in 0..HEADER {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xa5;
        killed.check(&format!("header byte {at}"), &bytes);
    }
}

#[test]
fn damage_of_any_page_is_found_or_harmless() {
    let killed = Killed::new();
    let whole = killed.journal();
    let mut next = places();
    let mut found: BTreeMap<bool, usize> = BTreeMap::new();
    for page in 0..whole.len() / PAGE {
        let held = &whole[page * PAGE..(page + 1) * PAGE];
        if held.iter().all(|byte| *byte == 0) {
            continue;
        }
        for place in 0..PLACES {
            let mut bytes = whole.clone();
            // The head of the page, then anywhere in it; a byte that is no text, then a hundred.
            let at = page * PAGE + if place == 0 { next() % 12 } else { next() % PAGE };
            let length = if place % 2 == 0 { 1 } else { 100 };
            let end = (at + length).min(whole.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
            let noticed = killed.check(&format!("{length} bytes at {at}"), &bytes).is_some();
            *found.entry(noticed).or_default() += 1;
        }
    }
    assert!(found[&true] > 10, "damage that nobody notices proves nothing: {found:?}");
}

#[test]
fn a_journal_cut_anywhere_is_given_up_or_whole() {
    let killed = Killed::new();
    let whole = killed.journal();
    let mut next = places();
    let cuts = (0..40).map(|n| match n % 2 {
        0 => next() % whole.len(),
        _ => next() % (whole.len() / PAGE) * PAGE,
    });
    for length in cuts.chain([0, 1, 99, 100, PAGE - 1, PAGE]).collect::<Vec<_>>() {
        let found = killed.check(&format!("cut at {length}"), &whole[..length]);
        assert!(found.is_some() || length == whole.len(), "cut at {length} goes unnoticed");
    }
}
