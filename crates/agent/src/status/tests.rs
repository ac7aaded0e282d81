//! The view of a device, read from what an agent would have left: with its agent and without.

use std::fs;
use std::path::PathBuf;

use muster_agent_core::input::Input;
use muster_host::publish;
use muster_host::run_file;
use muster_model::clock::{Elapsed, Now};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::BootId;
use muster_model::message::Body;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::identity::Der;
use crate::journal::{JOURNAL_FILE, Owner};

/// A folder of an enrolled device whose agent has started once and written its first messages.
struct Device {
    data: TempDir,
    journal: Journal,
    agent: Agent,
}

fn enrolment() -> Enrolment {
    Enrolment {
        device: DeviceId(Uuid::from_u128(7)),
        certificate: Der(b"none".to_vec()),
        ca: Der(Vec::new()),
        signing_certificate: Der(Vec::new()),
        site: "ABC".to_owned(),
        epoch: EpochId(Uuid::from_u128(8)),
        incarnation: Incarnation(3),
        next_incarnation: None,
        generation: 1,
        lost: None,
        held: false,
    }
}

fn enrol(data: &Path) {
    let mut identity =
        Identity::draw(Name::new("d1").unwrap(), "https://s:1".to_owned(), Digest::ZERO, None)
            .unwrap();
    identity.enrolment = Some(enrolment());
    identity.save(data).unwrap();
}

impl Device {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        enrol(data.path());
        let Enrolment { device, incarnation, .. } = enrolment();
        let owner = Owner { device, incarnation, because: None, salvaged: Vec::new() };
        let whose =
            Whose { device, incarnation, fresh_incarnation_because: None, salvaged: Vec::new() };
        let journal = Journal::create(data.path(), &owner).unwrap();
        let agent = Agent::restore(&whose, journal.load().unwrap());
        let mut this = Self { data, journal, agent };
        let started = Input::Started {
            boot: Clock::from_env().unwrap().boot_id().clone(),
            facts: Facts { agent_version: "1.2.3".to_owned(), ..Facts::default() },
            zone: jiff::tz::TimeZone::UTC,
            seed: 0,
            found: Vec::new(),
        };
        this.give(started);
        this
    }

    fn give(&mut self, input: Input) {
        let now = Now { wall: Wall(1_800_000_000_000), elapsed: Elapsed(1_000) };
        let step = self.agent.handle(now, input);
        self.journal.commit(&step).unwrap();
    }

    fn path(&self) -> &Path {
        self.data.path()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::to_value(status(self.path()).unwrap()).unwrap()
    }
}

#[test]
fn the_view_has_the_shape_that_scripts_read() {
    let device = Device::new();
    let json = device.json();
    for (pointer, value) in [
        ("/device", "00000000-0000-0000-0000-000000000007".into()),
        ("/name", "d1".into()),
        ("/site", "ABC".into()),
        ("/epoch", "00000000-0000-0000-0000-000000000008".into()),
        ("/incarnation", 3.into()),
        ("/url", "https://s:1".into()),
        ("/running", serde_json::Value::Null),
        ("/policy", serde_json::Value::Null),
        ("/lastHeard", serde_json::Value::Null),
        ("/trust/number", 0.into()),
        ("/trust/pinned", false.into()),
        ("/isolation", Isolation::of_this_machine().word().into()),
        ("/outbox/length", 1.into()),
        ("/outbox/oldest", "2027-01-15T08:00:00Z".into()),
        ("/components/0/name", "software-distribution".into()),
        ("/components/0/state", "install-pending".into()),
        ("/obligations", serde_json::json!([])),
    ] {
        assert_eq!(json.pointer(pointer), Some(&value), "{pointer} of {json:#}");
    }
    assert!(json["trustedTime"].is_string());
}

#[test]
fn it_is_read_beside_an_agent_that_writes_and_after_one_was_killed() {
    let mut device = Device::new();
    let changed = Facts { agent_version: "1.2.4".to_owned(), ..Facts::default() };
    device.give(Input::FactsChanged(changed));
    assert_eq!(device.json()["outbox"]["length"], 2);
    // The folder as a killed agent leaves it: the log is there, the shared memory is not.
    let left = tempfile::tempdir().unwrap();
    enrol(left.path());
    for name in [JOURNAL_FILE.to_owned(), format!("{JOURNAL_FILE}-wal")] {
        fs::copy(device.path().join(&name), left.path().join(&name)).unwrap();
    }
    assert_eq!(status(left.path()).unwrap().outbox.length, 2);
    drop(device.journal);
    assert_eq!(status(device.data.path()).unwrap().outbox.length, 2);
}

#[test]
fn looking_changes_nothing() {
    let device = Device::new();
    let before = device.journal.load().unwrap();
    for _ in 0..2 {
        status(device.path()).unwrap();
        software(device.path()).unwrap();
        log(device.path()).unwrap();
    }
    assert_eq!(device.journal.load().unwrap(), before);
}

#[test]
fn the_log_tells_each_message_in_order_and_whether_the_site_has_it() {
    let mut device = Device::new();
    device.give(Input::PolicyRefused { why: "of another device".to_owned() });
    let rows = log(device.path()).unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (row.sequence.0, row.code, row.text.as_str())).collect();
    assert_eq!(
        told,
        [(1, 11_001, "agent 1.2.3 started"), (2, 11_003, "policy refused: of another device")]
    );
    assert_eq!(rows[1].severity, Severity::Error);
    assert!(rows.iter().all(|row| !row.acknowledged));

    let kept = &device.journal.load().unwrap().messages[0];
    assert!(log_row(kept, Sequence(1)).acknowledged);
    let strange = Kept { bytes: b"{\"later\":1}".to_vec(), ..kept.clone() };
    assert!(log_row(&strange, Sequence(0)).text.contains("cannot read"));
    assert!(matches!(
        serde_json::from_slice::<Message>(&kept.bytes).unwrap().body,
        Body::AgentStarted { .. }
    ));
}

#[test]
fn a_device_that_never_ran_has_a_view_and_one_without_identity_has_none() {
    let data = tempfile::tempdir().unwrap();
    let error = status(data.path()).unwrap_err();
    assert!(matches!(error, StatusError::Identity(IdentityError::NotEnrolled)), "{error}");
    enrol(data.path());
    let view = status(data.path()).unwrap();
    assert_eq!((view.outbox.length, view.running), (0, None));
    assert!(software(data.path()).unwrap().is_empty() && log(data.path()).unwrap().is_empty());
}

#[test]
fn a_damaged_journal_is_told_and_the_rest_is_shown() {
    let device = Device::new();
    let path: PathBuf = device.path().join(JOURNAL_FILE);
    drop(device.journal);
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    let view = status(device.data.path()).unwrap();
    assert!(view.trouble.iter().any(|why| why.contains("journal")), "{:?}", view.trouble);
    assert_eq!(view.name.as_str(), "d1");
    assert!(log(device.data.path()).is_err());
}

#[test]
fn a_run_file_counts_only_while_its_process_lives() {
    let device = Device::new();
    let own = std::process::id();
    let says = |pid| serde_json::json!({"pid": pid, "device": enrolment().device, "name": "d1"});
    let shown = run_file::RunFile::publish(device.path(), "agent", &says(own)).unwrap();
    assert_eq!(status(device.path()).unwrap().running, Some(own));
    drop(shown);
    assert_eq!(status(device.path()).unwrap().running, None);

    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    let dead = serde_json::to_vec(&says(pid)).unwrap();
    publish::durable_publish(&device.path().join("run/agent.json"), &dead).unwrap();
    assert_eq!(status(device.path()).unwrap().running, None);
}

#[test]
fn a_paused_component_says_so() {
    let device = Device::new();
    components::set_paused(device.path(), components::SOFTWARE_DISTRIBUTION, true).unwrap();
    assert_eq!(device.json()["components"][0]["state"], "paused");
}

#[test]
fn after_a_boot_trusted_time_goes_on_from_what_was_last_known() {
    let mut device = Device::new();
    let site_time = Wall(1_900_000_000_000);
    device.give(Input::NothingNew { site_time: Some(site_time) });
    let mut saved = device.journal.load().unwrap();
    let memory = saved.memory.as_mut().unwrap();
    memory.last_known = site_time;
    memory.boot = BootId("another".to_owned());
    let view = view_of(&enrolment(), saved).unwrap();
    assert_eq!(view.trusted_time, site_time);
}
