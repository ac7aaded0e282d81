//! What tests are made of: identities, facts, policies, programs, exits.

use muster_model::advertisement::{At, OfflineFor};
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{AdvertisementId, BootId, Incarnation};
use muster_model::message::{Message, RunId};
use muster_model::package::{Detection, Program};
use muster_model::parameter::Values;
use muster_model::period::Period;
use muster_model::policy::{Due, Offer, Order, POLICY_FORMAT, PinnedPackage, Policy};
use muster_model::release::AgentRelease;
use muster_model::settings::Settings;

use super::{DEVICE, EPOCH, NOON, World};
use crate::agent::Identity;
use crate::input::{Ending, Exit, FoundRun, Manifested, RunEvidence};
use crate::saved::{Kept, Key};
use crate::step::Launch;

pub(crate) fn read(kept: &Kept) -> Message {
    let message: Message = serde_json::from_slice(&kept.bytes).expect("a message");
    assert_eq!(message.sequence, kept.sequence);
    message
}

pub(crate) fn identity() -> Identity {
    Identity {
        device: DEVICE,
        incarnation: Incarnation(1),
        fresh_incarnation_because: None,
        salvaged: Vec::new(),
    }
}

pub(crate) fn facts() -> Facts {
    Facts { os: "linux".into(), arch: "x86_64".into(), name: "d1".into(), ..Facts::default() }
}

pub(super) fn policy() -> Policy {
    Policy {
        format: POLICY_FORMAT,
        device: DEVICE,
        epoch: EPOCH,
        revision: 0,
        tag: Digest::ZERO,
        issued: NOON,
        trust: 1,
        settings: Settings::default(),
        held: None,
        put_back: None,
        halted: None,
        advertisements: Vec::new(),
        windows: Vec::new(),
    }
}

pub(crate) fn advertisement(n: u128) -> AdvertisementId {
    AdvertisementId(uuid::Uuid::from_u128(n))
}

pub(crate) fn key(n: u128) -> Key {
    Key { advertisement: advertisement(n), occurrence: "first#1".parse().unwrap() }
}

pub(crate) fn order() -> Option<Order> {
    Some(Order { by: "ada".into(), reason: String::new(), kill: false })
}

/// A program called `install`, with `more` on top of its defaults.
pub(crate) fn program(more: serde_json::Value) -> Program {
    let mut program = serde_json::json!({"name": "install", "commandLine": "sh install.sh"});
    program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(program).unwrap()
}

pub(crate) fn detection() -> Detection {
    serde_json::from_value(serde_json::json!({"command": ["sh", "detect.sh"]})).unwrap()
}

pub(crate) fn exited(code: i32) -> Exit {
    ended(Ending::Exited { code })
}

pub(crate) fn ended(ending: Ending) -> Exit {
    Exit { ending, output: String::new(), result: None }
}

/// The folder of a run of the first incarnation, for the offer `n` of a world, as `evidence` shows it.
pub(crate) fn found_run(offer: &Offer, manifested: &Manifested, evidence: RunEvidence) -> FoundRun {
    let (incarnation, attempt) = (Incarnation(1), 1);
    let occurrence = offer.occurrences[0].occurrence.clone();
    let (advertisement, revision) = (offer.advertisement, offer.revision);
    let launch = Launch {
        run: RunId::of(DEVICE, incarnation, advertisement, revision, &occurrence, attempt),
        launch: 1,
        key: Key { advertisement, occurrence },
        advertisement_name: offer.name.to_string(),
        attempt,
        uncounted: 0,
        revision,
        package: offer.package.clone(),
        program: manifested.programs[0].clone(),
        detection: manifested.detection.clone(),
        boot: BootId("boot-1".into()),
        grace: std::time::Duration::from_secs(1),
        start_by: None,
        parameters: Values::default(),
        dependency: false,
        dependencies: Vec::new(),
        user: None,
        turns: Vec::new(),
    };
    FoundRun { launch, evidence }
}

impl World {
    /// An offer, due at once, of a package with `program` and perhaps a detection.
    pub(crate) fn package(&mut self, n: u128, program: Program, detects: bool) -> Offer {
        let detection = detects.then(detection);
        let manifested =
            Manifested { programs: vec![program.clone()], detection, size: 1, release: None };
        let text = serde_json::to_vec(&manifested).unwrap();
        let manifest = Digest::of_parts("test", &[&n.to_le_bytes(), &text]);
        self.programs.insert(manifest, manifested);
        Offer {
            advertisement: advertisement(n),
            name: format!("ad-{n}").parse_name(),
            revision: 1,
            package: PinnedPackage {
                name: "hello".to_owned().parse_name(),
                version: "1".into(),
                manifest,
                signatures: Vec::new(),
            },
            program: program.name,
            occurrences: vec![Due { occurrence: "first#1".parse().unwrap(), at: Some(At::Now) }],
            recurrences: Vec::new(),
            late: Default::default(),
            splay: Period::default(),
            expires: None,
            offline_for: OfflineFor::AtMost(Period::days(30)),
            emergency: false,
            stopped: None,
            revoked: None,
            conflict: None,
            superseded: None,
            achieves: Default::default(),
            supersedes: Vec::new(),
            notice: None,
            dependencies: Vec::new(),
            parameters: Default::default(),
        }
    }

    /// An offer, due at once, of an agent release.
    pub(crate) fn release(&mut self, n: u128, version: &str, release: AgentRelease) -> Offer {
        let program = AgentRelease::program();
        let mut offer = self.package(n, program, false);
        offer.package.version = version.to_owned();
        if let Some(manifested) = self.programs.get_mut(&offer.package.manifest) {
            manifested.release = Some(release);
        }
        offer
    }

    /// The same with all defaults and a detection.
    pub(crate) fn hello(&mut self, n: u128) -> Offer {
        self.package(n, program(serde_json::json!({})), true)
    }
}

/// What tests make of an offer.
pub(crate) trait Recur {
    /// Its first occurrence becomes the first of this rule, due at the time after noon.
    fn recur(&mut self, every: &str);
}

impl Recur for Offer {
    fn recur(&mut self, every: &str) {
        let every: muster_model::recurrence::Every = every.parse().unwrap();
        for due in &mut self.occurrences {
            due.at = every.first_from(NOON, &jiff::tz::TimeZone::UTC);
        }
        let assignment = key(1).occurrence.assignment;
        self.recurrences = vec![muster_model::policy::Recurrence { assignment, every }];
    }
}

trait ParseName {
    fn parse_name(self) -> muster_model::name::Name;
}

impl ParseName for String {
    fn parse_name(self) -> muster_model::name::Name {
        muster_model::name::Name::new(self).unwrap()
    }
}
