//! Status messages: typed, numbered facts with severity, component and insertion values.
//!
//! A message is written in the transaction that makes the change it reports (law 3) and is known by
//! its place `(device, incarnation, sequence)`, never by a time or a random name. Numbers follow SMS
//! 2.0 where the meaning is the same (10002, 10005, 10006, 10008, 10018, 10022); ours start at 11000.

use serde::{Deserialize, Serialize};

use crate::clock::{Elapsed, Wall};
use crate::component::Component;
use crate::digest::Digest;
use crate::facts::Facts;
use crate::id::{AdvertisementId, BootId, DeviceId, Incarnation, Sequence};
use crate::name::Name;
use crate::program::Dependency;
use crate::state::{EvidenceKind, State, Word};
use crate::verification::{Repair, RepairState, Verification};

/// The largest message, in bytes of its JSON. Larger bodies travel as content (law 11).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The most of a program's output that a report carries from its beginning, in bytes.
pub const OUTPUT_HEAD_BYTES_MAX: usize = 2 * 1024;
/// The most of a program's output that a report carries from its end, in bytes.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 4 * 1024;
/// Both, and the line between them that says how much was left out.
pub const OUTPUT_BYTES_MAX: usize = OUTPUT_HEAD_BYTES_MAX + OUTPUT_TAIL_BYTES_MAX + 64;

/// One message of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who speaks.
    pub device: DeviceId,
    /// Which life of its memory.
    pub incarnation: Incarnation,
    /// The place in the stream, from 1, without a hole.
    pub sequence: Sequence,
    /// The device's wall clock.
    pub wall: Wall,
    /// The device's boot clock.
    pub elapsed: Elapsed,
    /// The boot that the boot clock belongs to.
    pub boot: BootId,
    /// The device's trusted time.
    pub trusted: Wall,
    /// What happened.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Body {
    /// The agent has started, and these are the device's facts.
    AgentStarted {
        /// The facts.
        facts: Facts,
    },
    /// The facts changed.
    FactsChanged {
        /// All of them.
        facts: Facts,
    },
    /// An obligation stands elsewhere than before.
    Obligation(Report),
    /// A policy was refused; the device goes on with the one it has.
    PolicyRefused {
        /// Why.
        why: String,
    },
    /// The agent's memory was lost or damaged; a new incarnation begins.
    MemoryLost {
        /// What was found.
        found: String,
        /// Messages of the damaged journal that could be read and follow in this stream.
        salvaged: u64,
    },
    /// Messages that made room: never outcomes.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The agent has looked at itself.
    Verified(Verification),
    /// Something that was found damaged is mended, or waits to be.
    Repair(Repair),
    /// A component stands elsewhere than before.
    Components {
        /// All of them.
        components: Vec<Component>,
    },
}

/// An obligation of the device, as it stands after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The revision of the advertisement that the device follows for it.
    pub revision: u32,
    /// Where it stands.
    pub state: State,
    /// Runs so far.
    pub attempt: u32,
    /// The run, if one was armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The exit code of the newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How the newest run ended, when the obligation goes on after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_ended: Option<State>,
    /// Exit code and detection contradict each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputed: Option<String>,
    /// The beginning and the end of the program's output, at most [`OUTPUT_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The run was of this program, which must succeed before the advertised one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
    /// The run was for this user, of a program that runs for each who is logged on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The users who had logged off before their turn, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub passed_over: String,
}

/// The n-th time of one assignment: an index, never a time. Written `first#1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Occurrence {
    /// The assignment's name; those of [`Occurrence::RESERVED`] are the site's.
    pub assignment: Name,
    /// From 1.
    pub n: u32,
}

impl Occurrence {
    /// The assignment of an advertisement that has none: the program is available.
    pub const AVAILABLE: &str = "(available)";
    /// The assignment of manual occurrences that `rerun` opens.
    pub const RERUN: &str = "(rerun)";
    /// The assignment of removals, where something is no longer advertised.
    pub const REMOVAL: &str = "(removal)";
    /// The names that no assignment of an advertisement bears.
    pub const RESERVED: [&str; 3] = [Self::AVAILABLE, Self::RERUN, Self::REMOVAL];

    /// Whether it takes off again what its advertisement installed.
    pub fn is_removal(&self) -> bool {
        self.assignment.as_str() == Self::REMOVAL
    }
}

impl std::fmt::Display for Occurrence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.assignment, self.n)
    }
}

impl std::str::FromStr for Occurrence {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("an occurrence is written ASSIGNMENT#N, not {text:?}");
        let (assignment, n) = text.rsplit_once('#').ok_or_else(refuse)?;
        let n = n.parse().ok().filter(|n| *n > 0).ok_or_else(refuse)?;
        Ok(Self { assignment: Name::new(assignment).map_err(|_| refuse())?, n })
    }
}

/// One execution of a program for one obligation: spent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Digest);

impl RunId {
    /// The id of this attempt, a function of what it is for: the same after any restart.
    pub fn of(
        device: DeviceId,
        incarnation: Incarnation,
        advertisement: AdvertisementId,
        revision: u32,
        occurrence: &Occurrence,
        attempt: u32,
    ) -> Self {
        Self(Digest::of_parts(
            "muster/run/v1",
            &[
                device.0.as_bytes(),
                &incarnation.0.to_le_bytes(),
                advertisement.0.as_bytes(),
                &revision.to_le_bytes(),
                occurrence.to_string().as_bytes(),
                &attempt.to_le_bytes(),
            ],
        ))
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_string()[..32])
    }
}

crate::text_serde!(Occurrence);

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Info,
    /// Worth a look.
    Warning,
    /// Something did not work.
    Error,
}

impl Severity {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What stands beside a message's body in tables and filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The number, stable for ever.
    pub code: u16,
    /// How much it matters.
    pub severity: Severity,
    /// The component that speaks.
    pub component: &'static str,
    /// The sentence for people.
    pub text: String,
}

const DISTRIBUTION: &str = "software-distribution";
const AGENT: &str = "agent";

impl Body {
    /// The number of [`Body::AgentStarted`].
    pub const STARTED: u16 = 11_001;
    /// The number of [`Body::FactsChanged`].
    pub const FACTS_CHANGED: u16 = 11_002;
    /// The number of [`Body::Verified`].
    pub const VERIFIED: u16 = 11_030;
    /// The number of [`Body::Components`].
    pub const COMPONENTS: u16 = 11_032;

    /// Number, severity, component and sentence of this message.
    pub fn status(&self) -> Status {
        use Severity::{Error, Info, Warning};
        let (code, severity, component, text) = match self {
            Body::AgentStarted { facts } => {
                (Self::STARTED, Info, AGENT, format!("agent {} started", facts.agent_version))
            }
            Body::FactsChanged { .. } => {
                (Self::FACTS_CHANGED, Info, AGENT, "facts changed".to_owned())
            }
            Body::PolicyRefused { why } => (11_003, Error, AGENT, format!("policy refused: {why}")),
            Body::MemoryLost { found, salvaged } => (
                11_004,
                Warning,
                AGENT,
                format!("memory lost: {found}; {salvaged} messages salvaged"),
            ),
            Body::Dropped { count } => {
                (11_005, Warning, AGENT, format!("{count} messages dropped to make room"))
            }
            Body::Verified(found) => {
                let severity = if found.is_ok() { Info } else { Warning };
                (Self::VERIFIED, severity, AGENT, found.to_string())
            }
            Body::Repair(repair) => {
                let failed = matches!(repair.state, RepairState::Failed { .. });
                (11_031, if failed { Warning } else { Info }, AGENT, repair.to_string())
            }
            Body::Components { components } => {
                let stand: Vec<String> = components.iter().map(Component::to_string).collect();
                (Self::COMPONENTS, Info, AGENT, format!("components: {}", stand.join(", ")))
            }
            Body::Obligation(report) => return report.status(),
        };
        Status { code, severity, component, text }
    }

    /// The facts of the machine that the message tells.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Body::AgentStarted { facts } | Body::FactsChanged { facts } => Some(facts),
            _ => None,
        }
    }

    /// The advertisement that the message is about.
    pub fn advertisement(&self) -> Option<AdvertisementId> {
        match self {
            Body::Obligation(report) => Some(report.advertisement),
            _ => None,
        }
    }
}

impl Report {
    /// Number and severity by state; the sentence is the state with its reason.
    fn status(&self) -> Status {
        use Severity::{Error, Info, Warning};
        let (code, severity) = match &self.state {
            State::Succeeded { evidence } if evidence.rule == EvidenceKind::ResultFile => {
                (10_009, Info)
            }
            State::Succeeded { .. } => (10_008, Info),
            State::NotApplicable { .. } => (10_018, Warning),
            other => match other.word() {
                Word::Accepted if self.dependency.is_some() => (11_022, Info),
                Word::Accepted if self.user.is_some() => (11_023, Info),
                Word::Accepted => (10_002, Info),
                Word::Running => (10_005, Info),
                Word::Failed => (10_006, Error),
                Word::RestartPending => (10_022, Info),
                Word::Available => (11_010, Info),
                Word::Waiting if self.attempt_ended.is_some() => (11_021, Warning),
                Word::Waiting => (11_011, Info),
                Word::Downloading => (11_012, Info),
                Word::TimedOut => (11_013, Error),
                Word::Interrupted => (11_014, Error),
                Word::Expired => (11_015, Warning),
                Word::Superseded => (11_016, Info),
                Word::Withdrawn => (11_017, Info),
                Word::RolledBack => (11_018, Error),
                Word::Lost => (11_019, Error),
                Word::Targeted | Word::Succeeded | Word::NotApplicable => (11_020, Info),
            },
        };
        let severity = if self.disputed.is_some() { Warning.max(severity) } else { severity };
        let mut text = self.state.to_string();
        let user = self.user.as_ref().map(|user| format!(" for {user}")).unwrap_or_default();
        text = match (&self.attempt_ended, &self.dependency) {
            (Some(ended), Some(dependency)) => {
                format!("{dependency}, which goes before, ended {ended}{user}; {text}")
            }
            (Some(ended), None) => format!("attempt {}{user} ended {ended}; {text}", self.attempt),
            (None, Some(dependency)) => format!("{text}{user}: {dependency}, which goes before"),
            (None, None) => format!("{text}{user}"),
        };
        if !self.passed_over.is_empty() {
            text = format!("{text}, logged off before their turn: {}", self.passed_over);
        }
        if let Some(why) = &self.disputed {
            text = format!("{text}, disputed: {why}");
        }
        Status { code, severity, component: DISTRIBUTION, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Evidence, Failure, Rule};

    fn report(state: State) -> Report {
        Report {
            advertisement: AdvertisementId(uuid::Uuid::from_u128(1)),
            occurrence: "first#1".parse().unwrap(),
            revision: 1,
            state,
            attempt: 1,
            run: None,
            exit_code: None,
            attempt_ended: None,
            disputed: None,
            output: String::new(),
            dependency: None,
            user: None,
            passed_over: String::new(),
        }
    }

    #[test]
    fn a_run_for_a_user_names_the_user_and_the_end_names_who_had_left() {
        let check = |report: &Report, code: u16, text: &str| {
            let status = report.status();
            assert_eq!((status.code, status.text.as_str()), (code, text));
        };
        let success = |rule, exit_code| State::Succeeded { evidence: Evidence { rule, exit_code } };
        let mut of_ada = report(State::Running { attempt: 1 });
        of_ada.user = Some("ada".to_owned());
        check(&of_ada, 10_005, "running(attempt 1) for ada");
        of_ada.state = State::Accepted;
        of_ada.attempt_ended = Some(success(EvidenceKind::ExitCode, Some(0)));
        check(&of_ada, 11_023, "attempt 1 for ada ended succeeded(exit-code); accepted");
        of_ada.state = success(EvidenceKind::UsersLeft, None);
        of_ada.passed_over = "bo, cy".to_owned();
        let text = "attempt 1 for ada ended succeeded(exit-code); succeeded(users-left), \
                    logged off before their turn: bo, cy";
        check(&of_ada, 10_008, text);
    }

    #[test]
    fn a_failure_is_an_error_and_a_dispute_at_least_a_warning() {
        let failed = State::Failed {
            code: Failure { rule: Rule::NotDetected, exit_code: Some(0), detail: String::new() },
        };
        let status = Body::Obligation(report(failed)).status();
        assert_eq!((status.code, status.severity), (10_006, Severity::Error));
        let mut disputed = report(State::Accepted);
        disputed.disputed = Some("exit code 1 but detected".into());
        assert_eq!(disputed.status().severity, Severity::Warning);
    }

    #[test]
    fn a_body_reads_back_as_written() {
        let body = Body::Obligation(report(State::Running { attempt: 1 }));
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<Body>(&json).unwrap(), body, "{json}");
    }

    #[test]
    fn a_check_that_failed_is_a_warning_and_names_itself() {
        use crate::verification::{Check, VerifiedBy};
        let check = |ok| Check {
            name: "disk".into(),
            ok,
            detail: "3 bytes are free".into(),
            remedy: String::new(),
        };
        let of = |ok| {
            let verification = Verification { by: VerifiedBy::Person, checks: vec![check(ok)] };
            Body::Verified(verification).status()
        };
        assert_eq!((of(true).code, of(true).severity), (Body::VERIFIED, Severity::Info));
        assert_eq!(of(false).severity, Severity::Warning);
        assert!(of(false).text.contains("disk (3 bytes are free)"), "{}", of(false).text);
    }

    #[test]
    fn occurrences_are_an_index() {
        let occurrence: Occurrence = "every #2#17".parse().unwrap();
        assert_eq!((occurrence.assignment.as_str(), occurrence.n), ("every #2", 17));
        assert!("first#0".parse::<Occurrence>().is_err());
        assert!("first".parse::<Occurrence>().is_err());
    }

    #[test]
    fn a_run_id_differs_with_each_part() {
        let run = |revision, n, attempt| {
            RunId::of(
                DeviceId(uuid::Uuid::nil()),
                Incarnation(1),
                AdvertisementId(uuid::Uuid::nil()),
                revision,
                &Occurrence { assignment: Name::new("a1").unwrap(), n },
                attempt,
            )
        };
        assert_eq!(run(1, 1, 1), run(1, 1, 1));
        assert_ne!(run(1, 1, 1), run(2, 1, 1));
        assert_ne!(run(1, 1, 1), run(1, 2, 1));
        assert_ne!(run(1, 1, 1), run(1, 1, 2));
    }
}
