//! A device as an agent would have left it, damaged in one place at a time: the check that must see it
//! does, no other, and the look itself changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use muster_agent_core::input::{Input, Manifested};
use muster_agent_core::saved::{ContentRecord, ContentStanding};
use muster_agent_core::step::{Step, Write};
use muster_agent_core::{Agent, Identity as Whose};
use muster_host::pki::{Ca, PeerKind};
use muster_host::publish::create_private_dir;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, EpochId, Incarnation};
use muster_model::name::Name;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::contents::CONTENT_DIR;
use crate::contents::testing::Package;
use crate::identity::Der;
use crate::journal::{JOURNAL_FILE, Journal, Owner};
use crate::trust_store::TrustStore;

const DEVICE: DeviceId = DeviceId(Uuid::from_u128(7));

/// A device that has run, and has one package ready.
struct Device {
    data: TempDir,
    manifest: Digest,
    object: PathBuf,
}

impl Device {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let path = data.path();
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        enrol(path);
        TrustStore::begin(path, None).unwrap();
        for folder in FOLDERS {
            create_private_dir(&path.join(folder)).unwrap();
        }
        let package = Package::of("hello", b"something");
        let manifest = package.pinned.manifest;
        for (digest, bytes) in &package.objects {
            let kind = if *digest == manifest { "manifests" } else { "objects" };
            store(path, kind, *digest, bytes);
        }
        let object = file(path, "objects", package.chunks()[0]);
        remember(path, &package);
        Self { data, manifest, object }
    }

    fn path(&self) -> &Path {
        self.data.path()
    }

    /// Every file and folder, with what it holds and when it was last changed.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(path) = open.pop() {
            let seen = fs::symlink_metadata(&path).unwrap();
            if seen.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let bytes = if seen.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path, (seen.mode(), seen.mtime_nsec(), bytes));
        }
        all
    }

    /// Looks; holds the look to its promise; answers the checks that failed, and what can be mended.
    #[track_caller]
    fn failed(&self) -> (Vec<String>, Vec<Fault>) {
        let before = self.everything();
        let Findings { checks, faults } = findings(self.path());
        assert_eq!(self.everything(), before, "a look changes nothing");
        assert_eq!(checks.len(), 14);
        let failed = checks.into_iter().filter(|check| !check.ok);
        let failed = failed.inspect(|check| assert!(!check.remedy.is_empty(), "{check:?}"));
        (failed.map(|check| check.name).collect(), faults)
    }
}

/// Where content lies: `contents` says how.
fn file(data: &Path, kind: &str, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    data.join(CONTENT_DIR).join(kind).join(&name[..2]).join(&name)
}

fn store(data: &Path, kind: &str, digest: Digest, bytes: &[u8]) {
    let path = file(data, kind, digest);
    create_private_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
}

fn enrol(data: &Path) {
    let name = Name::new("d1").unwrap();
    let mut identity = Identity::draw(name, "https://s:1".to_owned(), Digest::ZERO, None).unwrap();
    let now = Clock::from_env().unwrap().wall();
    let ca = Ca::create("ABC", now).unwrap();
    let key = identity.key().unwrap().public();
    let issued = ca.issue_client(PeerKind::Device, DEVICE.0, &key, now).unwrap();
    identity.enrolment = Some(Enrolment {
        device: DEVICE,
        certificate: Der(issued.certificate.to_vec()),
        ca: Der(Vec::new()),
        signing_certificate: Der(Vec::new()),
        site: "ABC".to_owned(),
        epoch: EpochId(Uuid::from_u128(8)),
        incarnation: Incarnation(1),
        next_incarnation: None,
        generation: 1,
        lost: None,
        held: false,
    });
    identity.save(data).unwrap();
}

/// A journal of an agent that has started once and has the package ready.
fn remember(data: &Path, package: &Package) {
    let incarnation = Incarnation(1);
    let owner = Owner { device: DEVICE, incarnation, because: None, salvaged: Vec::new() };
    let mut journal = Journal::create(data, &owner).unwrap();
    let whose = Whose {
        device: DEVICE,
        incarnation,
        fresh_incarnation_because: None,
        salvaged: Vec::new(),
    };
    let clock = Clock::from_env().unwrap();
    let mut agent = Agent::restore(&whose, journal.load().unwrap());
    let started = Input::Started {
        boot: clock.boot_id().clone(),
        facts: Facts::default(),
        zone: jiff::tz::TimeZone::UTC,
        seed: 0,
        found: Vec::new(),
    };
    journal.commit(&agent.handle(clock.now(), started)).unwrap();
    let manifested = Manifested { programs: Vec::new(), detection: None, size: 9, release: None };
    let standing = ContentStanding::Ready { manifested };
    let record = ContentRecord { package: package.pinned.clone(), standing };
    let writes = vec![Write::Content(Box::new(record))];
    journal.commit(&Step { writes, effects: Vec::new() }).unwrap();
}

/// Damages a device and holds what is found against `failed` and `faults`.
#[track_caller]
fn check(damage: impl FnOnce(&Device), failed: &[&str], faults: &[Fault]) {
    let device = Device::new();
    damage(&device);
    let (found, mendable) = device.failed();
    assert_eq!(found, failed);
    assert_eq!(mendable, faults);
}

fn open(path: &Path) {
    let more = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(more)).unwrap();
}

fn mode(path: &str) -> Fault {
    Fault::Mode { path: path.to_owned() }
}

#[test]
fn a_device_that_is_as_it_should_be_is_told_so() {
    check(|_| (), &[], &[]);
    let device = Device::new();
    let view = verify(device.path()).unwrap();
    assert_eq!((view.ok, view.device), (true, Some(DEVICE)));
    let names: Vec<&str> = view.checks.iter().map(|check| check.name.as_str()).collect();
    assert!(names.contains(&"content") && names.contains(&"run-folders"), "{names:?}");
}

#[test]
fn what_is_no_agents_folder_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(verify(empty.path()), Err(VerifyError::NoAgent(_))));
}

#[test]
fn missing_folders_are_found_and_can_be_mended() {
    let missing = |folder: &str| Fault::FolderMissing { folder: folder.to_owned() };
    check(
        |device| {
            fs::remove_dir(device.path().join("requests")).unwrap();
            fs::remove_dir(device.path().join("runs")).unwrap();
        },
        &["folders"],
        &[missing("runs"), missing("requests")],
    );
}

#[test]
fn before_the_first_run_nothing_is_missing() {
    check(
        |device| {
            fs::remove_dir_all(device.path().join(CONTENT_DIR)).unwrap();
            fs::remove_dir(device.path().join("requests")).unwrap();
            fs::remove_file(device.path().join(JOURNAL_FILE)).unwrap();
            let (device_id, incarnation) = (DEVICE, Incarnation(1));
            let owner =
                Owner { device: device_id, incarnation, because: None, salvaged: Vec::new() };
            drop(Journal::create(device.path(), &owner).unwrap());
        },
        &[],
        &[],
    );
}

#[test]
fn others_permissions_are_found_and_can_be_taken_back() {
    check(
        |device| {
            open(&device.path().join("content/objects"));
            open(&device.path().join(JOURNAL_FILE));
        },
        &["permissions"],
        &[mode("content/objects"), mode(JOURNAL_FILE)],
    );
    check(|device| open(device.path()), &["permissions"], &[mode(".")]);
    // A program that ran as another user was let through.
    check(
        |device| {
            for folder in [device.path(), &device.path().join(crate::RUNS_DIR)] {
                crate::contents::let_through(folder).unwrap();
            }
        },
        &[],
        &[],
    );
}

#[test]
fn an_identity_that_others_can_read_or_that_is_none_is_found() {
    check(
        |device| open(&device.path().join("identity.json")),
        &["identity", "permissions", "certificate"],
        &[mode("identity.json")],
    );
    check(
        |device| {
            fs::write(device.path().join("identity.json"), "{}").unwrap();
        },
        &["identity", "certificate"],
        &[],
    );
}

#[test]
fn settings_that_cannot_be_read_are_found() {
    check(
        |device| {
            let path = device.path().join("settings.json");
            fs::write(&path, "{nothing").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        },
        &["settings"],
        &[],
    );
}

#[test]
fn a_damaged_journal_is_found_and_nobody_touches_it() {
    check(
        |device| {
            let path = device.path().join(JOURNAL_FILE);
            let mut bytes = fs::read(&path).unwrap();
            bytes[4096..32_768].fill(0xa5);
            fs::write(path, bytes).unwrap();
        },
        &["journal", "outbox"],
        &[],
    );
    check(
        |device| fs::remove_file(device.path().join(JOURNAL_FILE)).unwrap(),
        &["journal", "outbox"],
        &[],
    );
}

#[test]
fn damaged_and_missing_content_is_found_and_is_fetched_again() {
    let device = Device::new();
    let content = Fault::Content { manifest: device.manifest };
    fs::write(&device.object, "other bytes").unwrap();
    assert_eq!(device.failed(), (vec!["content".to_owned()], vec![content.clone()]));
    fs::remove_file(&device.object).unwrap();
    assert_eq!(device.failed(), (vec!["content".to_owned()], vec![content.clone()]));
    fs::remove_dir_all(device.path().join("content/manifests")).unwrap();
    let (failed, faults) = device.failed();
    assert_eq!(failed, ["folders", "content"]);
    assert!(faults.contains(&content), "{faults:?}");
}

#[test]
fn trust_that_is_gone_is_found() {
    check(
        |device| fs::remove_file(device.path().join("trust/standing.json")).unwrap(),
        &["trust"],
        &[],
    );
}

#[test]
fn a_certificate_that_has_expired_is_found_by_trusted_time() {
    let device = Device::new();
    let mut look = look(device.path()).unwrap().0;
    assert!(device::certificate(&look).0.ok);
    let memory = look.memory.as_mut().unwrap().saved.memory.as_mut().unwrap();
    let now = look.clock.now();
    memory.time.learn(Wall(now.wall.0 + 40 * 86_400_000), now);
    let check = device::certificate(&look).0;
    assert!(!check.ok && check.detail.starts_with("it expired at"), "{check:?}");
    // The same clock is 40 days behind the site's.
    look.memory.as_mut().unwrap().saved.memory.as_mut().unwrap().last_heard = Some(Wall(1));
    let check = device::clock(&look).0;
    assert!(!check.ok && check.detail.contains("40d behind"), "{check:?}");
    // And the first message has waited since.
    let check = memory::outbox(&look).0;
    assert!(!check.ok && check.detail.contains("1 messages wait"), "{check:?}");
}

#[test]
fn a_quota_that_is_used_up_is_found() {
    check(
        |device| {
            let quota = Some(muster_host::quota::ByteSize(64 * 1024));
            Config { quota, ..Config::default() }.save(device.path()).unwrap();
        },
        &["disk"],
        &[],
    );
}

#[test]
fn a_look_takes_no_lock_of_the_folder_or_of_a_run() {
    use muster_host::lock::FolderLock;
    let device = Device::new();
    let _agent = FolderLock::take(device.path(), "agent run").unwrap();
    let run = crate::run_folder::RunFolder::at(device.path().join("runs/1234"));
    run.create().unwrap();
    let _supervisor = run.lock().unwrap().unwrap();
    assert_eq!(device.failed(), (Vec::new(), Vec::new()));
}
