//! Publishing: what is there after success, after refusal, and on a full disk.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::Ordering;

use super::draft::{DRAFT_PREFIX, DRAFTS};
use super::*;
use crate::small_disk::SmallDisk;

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_published_replaces_what_was_there_and_leaves_no_draft() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    for bytes in [b"old".as_slice(), b"new"] {
        durable_publish(&path, bytes).unwrap();
        assert_eq!(read_limited(&path, 3).unwrap(), bytes);
    }
    assert_eq!(mode_of(&path), PRIVATE_FILE);
    assert_eq!(names(dir.path()), ["identity"]);
}

#[test]
fn the_mode_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    durable_publish_mode(&path, b"", 0o777).unwrap();
    assert_eq!(mode_of(&path), 0o777);
}

#[test]
fn a_new_file_never_replaces_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("entered");
    durable_create_new(&path, b"first").unwrap();
    let refused = durable_create_new(&path, b"second").unwrap_err();
    assert!(matches!(refused, PublishError::Exists { .. }), "{refused}");
    assert_eq!(read_limited(&path, 9).unwrap(), b"first");
    assert_eq!(names(dir.path()), ["entered"]);
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::beside(&dir.path().join("big"), PRIVATE_FILE).unwrap();
    draft.write(b"half of it").unwrap();
    drop(draft);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn removing_tells_whether_it_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    durable_publish(&path, b"").unwrap();
    assert!(durable_remove(&path).unwrap());
    assert!(!durable_remove(&path).unwrap());
}

#[test]
fn drafts_of_the_dead_go_and_those_of_the_living_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    let dead_pid = dead.id();
    dead.wait().unwrap();
    let mut living = Command::new("sleep").arg("60").spawn().unwrap();
    let stays = format!("{DRAFT_PREFIX}{}-0", living.id());
    let goes = [dead_pid, std::process::id()].map(|pid| format!("{DRAFT_PREFIX}{pid}-7"));
    for name in goes.iter().chain([&stays, &"mine".to_owned()]) {
        fs::write(dir.path().join(name), b"").unwrap();
    }
    let removed = remove_stale_drafts(dir.path());
    living.kill().unwrap();
    living.wait().unwrap();
    assert_eq!(removed.unwrap(), 2);
    assert_eq!(names(dir.path()), [stays, "mine".to_owned()]);
}

#[test]
fn a_namesakes_drafts_do_not_stop_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let next = DRAFTS.load(Ordering::Relaxed);
    for number in next..next + 100 {
        let name = format!("{DRAFT_PREFIX}{}-{number}", std::process::id());
        fs::write(dir.path().join(name), b"").unwrap();
    }
    durable_publish(&dir.path().join("x"), b"x").unwrap();
}

#[test]
fn folders_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    create_private_dir(&path).unwrap();
    create_private_dir(&path).unwrap();
    assert_eq!([mode_of(&path), mode_of(&dir.path().join("a"))], [PRIVATE_DIR; 2]);
}

#[test]
fn a_larger_file_is_refused_and_a_missing_one_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    assert!(matches!(read_limited(&path, 4), Err(ReadError::Missing { .. })));
    assert_eq!(read_if_there(&path, 4).unwrap(), None);
    durable_publish(&path, b"12345").unwrap();
    assert!(matches!(read_limited(&path, 4), Err(ReadError::TooLarge { limit: 4, .. })));
    assert_eq!(read_if_there(&path, 5).unwrap().unwrap(), b"12345");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    durable_publish_mode(&path, b"k", 0o640).unwrap();
    assert!(matches!(read_private(&path, 9), Err(ReadError::TooOpen { mode: 0o640, .. })));
    durable_publish(&path, b"k").unwrap();
    assert_eq!(read_private(&path, 9).unwrap(), b"k");
}

#[test]
fn a_full_disk_is_named_and_costs_nothing_that_was_there() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("identity");
    durable_publish(&path, b"old").unwrap();
    let refused = durable_publish(&path, &[7; 128 * 1024]).unwrap_err();
    assert!(refused.is_disk_full() && !refused.is_fatal(), "{refused:?}");
    assert_eq!(read_limited(&path, 9).unwrap(), b"old");
    assert_eq!(names(disk.path()), ["identity"]);
    durable_publish(&path, b"new").unwrap();
}

#[test]
fn what_was_laid_out_can_be_written_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("exit");
    let mut draft = Draft::beside(&path, PRIVATE_FILE).unwrap();
    draft.reserve(8 * 1024).unwrap();
    let mut greedy = Draft::beside(&disk.path().join("greedy"), PRIVATE_FILE).unwrap();
    while greedy.write(&[7; 4096]).is_ok() {}
    draft.fill(b"exit 0").unwrap();
    draft.publish().unwrap();
    assert_eq!(read_limited(&path, 8 * 1024).unwrap().trim_ascii_end(), b"exit 0");
}

#[test]
fn a_move_that_a_crash_cut_short_is_finished_and_a_taken_name_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    durable_publish(&from, b"1").unwrap();
    std::fs::hard_link(&from, &to).unwrap();
    durable_move_new(&from, &to).unwrap();
    assert_eq!(names(dir.path()), ["to"]);
    durable_publish(&from, b"2").unwrap();
    assert!(matches!(durable_move_new(&from, &to), Err(PublishError::Exists { .. })));
    assert_eq!(
        (read_limited(&from, 9).unwrap(), read_limited(&to, 9).unwrap()),
        (b"2".into(), b"1".into())
    );
}
