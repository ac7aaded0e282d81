//! The journal against real files: what was committed is there, what is damaged is set aside.
#![allow(clippy::unwrap_used)]

use muster_agent_core::saved::Memory;
use muster_model::clock::{TrustedTime, Wall};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::BootId;
use muster_model::wire::batch::chain;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

fn owner() -> Owner {
    Owner {
        device: DeviceId(uuid::Uuid::from_u128(7)),
        incarnation: Incarnation(1),
        because: None,
        salvaged: Vec::new(),
    }
}

fn memory(head: u64, chain: Digest) -> Memory {
    Memory {
        device: owner().device,
        incarnation: Incarnation(1),
        head: Sequence(head),
        chain,
        relieved: Sequence(0),
        epoch: None,
        epochs_left: Vec::new(),
        forgotten: None,
        time: TrustedTime::default(),
        last_known: Wall(0),
        last_heard: None,
        boot: BootId("b".into()),
        facts: Facts::default(),
        awaits_account: false,
        maintenance: Default::default(),
        gave_way: Default::default(),
        let_go: None,
    }
}

/// A step that writes the n-th message of a chain of `text`s.
fn step(n: u64, text: &str) -> Step {
    let before = (1..n).fold(Digest::ZERO, |head, _| chain(head, text.as_bytes()));
    let head = chain(before, text.as_bytes());
    let message =
        Kept { sequence: Sequence(n), bytes: text.into(), chain: head, written: Wall(n as i64) };
    Step {
        writes: vec![Write::Message(message), Write::Memory(Box::new(memory(n, head)))],
        effects: Vec::new(),
    }
}

fn journal_of(messages: u64) -> (TempDir, Journal) {
    let data = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(data.path(), &owner()).unwrap();
    for n in 1..=messages {
        journal.commit(&step(n, "text")).unwrap();
    }
    (data, journal)
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let (data, journal) = journal_of(3);
    let before = journal.load().unwrap();
    assert_eq!(before.messages.len(), 3);
    drop(journal);
    let again = Journal::open(data.path()).unwrap();
    assert_eq!(again.owner().unwrap(), owner());
    assert_eq!(again.load().unwrap(), before);
    assert_eq!(Journal::open_read_only(data.path()).unwrap().load().unwrap(), before);
}

#[test]
fn a_sequence_number_is_never_used_twice_and_its_step_is_not_saved_in_part() {
    let (_data, mut journal) = journal_of(2);
    let before = journal.load().unwrap();
    let mut twice = step(2, "text");
    twice.writes.reverse();
    assert!(journal.commit(&twice).is_err());
    assert_eq!(journal.load().unwrap(), before);
}

#[test]
fn a_journal_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (data, _journal) = journal_of(1);
    for name in [JOURNAL_FILE, "journal.db-wal"] {
        let mode = std::fs::metadata(data.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_journal_that_is_there_is_not_replaced() {
    let (data, _journal) = journal_of(1);
    assert!(matches!(Journal::create(data.path(), &owner()), Err(JournalError::File { .. })));
}

#[test]
fn a_launch_is_unmade_until_its_folder_is_whole() {
    let (_data, mut journal) = journal_of(1);
    let run = RunId(Digest::of(b"run"));
    assert!(!journal.launch_unmade(run).unwrap(), "a run that this journal never armed");
    journal.connection.execute("INSERT INTO launch VALUES (?1, 0)", [run.to_string()]).unwrap();
    assert!(journal.launch_unmade(run).unwrap());
    journal.launch_made(run).unwrap();
    assert!(!journal.launch_unmade(run).unwrap());
}

#[test]
fn a_newer_format_that_shuts_us_out_is_refused_and_left_alone() {
    let (data, journal) = journal_of(1);
    schema::set_meta(&journal.connection, "oldestWriter", "2").unwrap();
    drop(journal);
    assert!(matches!(Journal::open(data.path()), Err(JournalError::TooNew { oldest: 2, .. })));
    // A newer format that lets this version write is fine: that is what going back needs.
    let raw = Connection::open(data.path().join(JOURNAL_FILE)).unwrap();
    schema::set_meta(&raw, "oldestWriter", "1").unwrap();
    schema::set_meta(&raw, "format", "9").unwrap();
    drop(raw);
    assert_eq!(Journal::open(data.path()).unwrap().load().unwrap().messages.len(), 1);
}

/// Damages the journal's file, and answers what opening or loading it then says.
#[track_caller]
fn damaged(damage: impl Fn(&Path)) -> (TempDir, String) {
    let (data, journal) = journal_of(50);
    drop(journal);
    damage(&data.path().join(JOURNAL_FILE));
    let error = Journal::open(data.path()).and_then(|journal| journal.load()).unwrap_err();
    match error {
        JournalError::Damaged { found, .. } => (data, found),
        JournalError::Missing { .. } => (data, "missing".into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_of_damage_is_seen_and_set_aside() {
    let cut = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let zero = |path: &Path| std::fs::write(path, vec![0; 40_000]).unwrap();
    let empty = |path: &Path| std::fs::write(path, b"").unwrap();
    let gone = |path: &Path| std::fs::remove_file(path).unwrap();
    let altered = |path: &Path| {
        let raw = Connection::open(path).unwrap();
        raw.execute("UPDATE message SET bytes = x'00' WHERE sequence = 30", []).unwrap();
    };
    let headless = |path: &Path| {
        let raw = Connection::open(path).unwrap();
        raw.execute("DELETE FROM message WHERE sequence = 50", []).unwrap();
    };
    let garbled = |path: &Path| {
        let raw = Connection::open(path).unwrap();
        raw.execute("UPDATE one SET body = '{' WHERE name = 'memory'", []).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(Damage, usize); 7] = [
        (&cut, 0),
        (&zero, 0),
        (&empty, 0),
        (&gone, 0),
        (&altered, 29),
        (&headless, 49),
        (&garbled, 50),
    ];
    for (case, (damage, readable)) in cases.into_iter().enumerate() {
        let (data, found) = damaged(damage);
        let name = free_name(data.path()).unwrap();
        let salvaged = set_aside(data.path(), &name).unwrap();
        assert!(salvaged.messages.len() >= readable, "case {case}: {found}");
        assert_eq!(data.path().join(name).exists(), found != "missing", "case {case}");
        assert!(!data.path().join(JOURNAL_FILE).exists(), "case {case}");
        let fresh = Owner { incarnation: Incarnation(2), because: Some(found), ..owner() };
        let journal = Journal::create(data.path(), &fresh).unwrap();
        assert_eq!(journal.owner().unwrap(), fresh);
    }
}

#[test]
fn what_is_set_aside_twice_keeps_both() {
    let (data, journal) = journal_of(2);
    drop(journal);
    let first = free_name(data.path()).unwrap();
    assert_eq!(set_aside(data.path(), &first).unwrap().messages.len(), 2);
    assert_eq!(set_aside(data.path(), &first).unwrap().messages.len(), 2, "repeated after a crash");
    drop(Journal::create(data.path(), &owner()).unwrap());
    let second = free_name(data.path()).unwrap();
    assert_ne!(first, second);
    assert_eq!(set_aside(data.path(), &second).unwrap().messages.len(), 0);
    assert!(data.path().join(first).exists() && data.path().join(second).exists());
}

/// A file system of `bytes`, for as long as the value lives; `None` if this user may not mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn of(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        if !mount.is_ok_and(|mount| mount.status.success()) {
            println!("skipped: mounting a small disk is not permitted here");
            return None;
        }
        Some(Self(dir))
    }

    /// Fills it to the last block.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("full")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn on_a_full_disk_outcomes_still_fit_into_the_reserve() {
    let Some(disk) = SmallDisk::of(8 * 1024 * 1024) else { return };
    drop(Journal::create(disk.0.path(), &owner()).unwrap());
    // The reserve is that of a process, not of the file alone.
    let mut journal = Journal::open(disk.0.path()).unwrap();
    journal.commit(&step(1, "text")).unwrap();
    assert!(journal.has_reserve());
    disk.fill();
    let outcome = "x".repeat(60_000);
    let mut written = 0;
    for n in 2..=12 {
        let mut next = step(n, &outcome);
        // The chain of `step` is that of equal texts, the first one here was another.
        next.writes.retain(|write| matches!(write, Write::Message(_)));
        match journal.commit(&next) {
            Ok(()) => written += 1,
            Err(error) => panic!("outcome {n} after {written}: {error:?}"),
        }
    }
    assert!(!journal.has_reserve(), "what is spent is not there twice");
    let mut refused = false;
    for n in 13..=200 {
        let mut next = step(n, &outcome);
        next.writes.retain(|write| matches!(write, Write::Message(_)));
        if let Err(error) = journal.commit(&next) {
            refused = matches!(error, JournalError::DiskFull { .. });
            break;
        }
    }
    assert!(refused, "in the end it is named as a full disk");
    std::fs::remove_file(disk.0.path().join("full")).unwrap();
    assert!(journal.has_reserve(), "room that comes back is taken");
}

/// How many of three messages are left when the log is damaged at its second frame.
fn left_after_damage_of_the_log(settled: bool) -> usize {
    let (data, mut journal) = journal_of(3);
    assert!(!settled || journal.settle());
    journal.commit(&step(4, "text")).unwrap();
    // What a kill leaves: closing would move the log into the file.
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(data.path().join(name), copy.path().join(name)).unwrap();
    }
    let log = copy.path().join("journal.db-wal");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[5_000..7_000].fill(0xa5);
    std::fs::write(&log, bytes).unwrap();
    // A journal that is noticed to be damaged is none of this test's.
    let saved = Journal::open(copy.path()).and_then(|journal| journal.load());
    saved.map_or(0, |saved| saved.messages.len())
}

#[test]
fn damage_of_the_log_forgets_nothing_that_was_settled() {
    assert!(left_after_damage_of_the_log(true) >= 3);
    assert!(left_after_damage_of_the_log(false) < 3, "or there is nothing to settle");
}
