//! Agent releases: packages that carry the agent's own program, and how their versions are ordered.
//!
//! A release is published, signed and advertised like any other package. Its one program, called
//! [`UPGRADE`], is implied by [`PackageSpec::agent_release`](crate::package::PackageSpec): nobody
//! writes a command line for it, because the agent takes the release up itself, on trial, and goes
//! back to the version before if that fails.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::package::{PackageSpec, Program};
use crate::period::Period;
use crate::problem::Checks;

/// The file of the content that is the program.
pub const PROGRAM_FILE: &str = "muster";
/// The name of a release's one program, for advertisements.
pub const UPGRADE: &str = "upgrade";
/// Numbers in a version: one more than any scheme in use has.
pub const VERSION_NUMBERS_MAX: usize = 5;

/// `spec.agentRelease` of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentRelease {
    /// It may take the place of a newer version. Signed with the rest: nobody but a publisher can make
    /// an agent go back behind what it was given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downgrade: bool,
}

/// A version of the agent: numbers between dots, compared one by one; what is not there is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Vec<u64>);

/// Text that is no version of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the version of an agent release is 1 to {VERSION_NUMBERS_MAX} numbers between dots such as \
     1.4.2, so that older and newer can be told, not {0:?}"
)]
pub struct NotAVersion(String);

impl AgentRelease {
    /// The one program of a release: what is executed once the release is taken up, for people. The
    /// agent adds where its folder is.
    pub fn program() -> Program {
        let words = [PROGRAM_FILE, "agent", "run"].map(str::to_owned).to_vec();
        Program {
            attempts: Some(1),
            max_run_time: Period::minutes(5),
            ..Program::new(Name::fixed(UPGRADE), words)
        }
    }

    /// Whether a device whose agent is `running` must not take up `version`: it would go back, and no
    /// publisher signed that. A version that is none, as of a build nobody released, is the oldest.
    pub fn refuses(&self, running: &str, version: &str) -> bool {
        let order = match (version.parse::<Version>(), running.parse::<Version>()) {
            (Ok(version), Ok(running)) => version.cmp(&running),
            // Only a build that nobody released has another version: any release is newer.
            _ => Ordering::Greater,
        };
        order == Ordering::Less && !self.downgrade
    }

    /// What a spec with a release must be, beside what any spec must be.
    pub(crate) fn check(spec: &PackageSpec, checks: &mut Checks) {
        checks.that(
            spec.programs == [Self::program()],
            "spec.programs",
            "an agent release has no programs of its own: the agent takes it up itself, as `upgrade`",
        );
        checks.that(
            spec.detection.is_none(),
            "spec.detection",
            "an agent release has no detection: the agent knows its own version",
        );
        if let Err(bad) = spec.version.parse::<Version>() {
            checks.that(false, "spec.version", &bad.to_string());
        }
    }
}

impl FromStr for Version {
    type Err = NotAVersion;
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u64>().ok()).flatten()
        };
        let refused = || NotAVersion(text.chars().take(40).collect());
        let mut numbers: Vec<u64> =
            text.split('.').map(number).collect::<Option<_>>().ok_or_else(refused)?;
        if numbers.len() > VERSION_NUMBERS_MAX {
            return Err(refused());
        }
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Ok(Self(numbers))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // Trailing noughts are gone, so the longer of two with the same beginning is the higher.
        self.0.cmp(&other.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(if numbers.is_empty() { "0" } else { "" })?;
        f.write_str(&numbers.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(spec: serde_json::Value, field: &str, said: &str) {
        let spec: PackageSpec = serde_json::from_value(spec).unwrap();
        let problems = spec.completed().check();
        let found = problems.iter().any(|p| p.field == field && p.detail.contains(said));
        assert!(found, "{problems:#?}");
    }

    #[test]
    fn a_release_is_a_version_and_its_program_is_implied() {
        let spec: PackageSpec =
            serde_json::from_value(json!({"version": "0.2.0", "agentRelease": {}})).unwrap();
        let spec = spec.completed();
        assert_eq!(spec.check(), []);
        assert_eq!(spec.programs[0].name.as_str(), UPGRADE);
        // What `get` answers can be applied again.
        let again: PackageSpec =
            serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        assert_eq!((again.clone().completed(), again.check()), (spec, vec![]));
    }

    #[test]
    fn what_a_release_cannot_have_is_refused_by_field() {
        let release = |more: serde_json::Value| {
            let mut spec = json!({"version": "2", "agentRelease": {}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let own = json!({"programs": [{"name": "upgrade", "command": ["sh", "evil.sh"]}]});
        check(release(own), "spec.programs", "takes it up itself");
        let detection = json!({"detection": {"command": ["true"]}});
        check(release(detection), "spec.detection", "its own version");
        for bad in ["2-rc1", "v2", "2..1", "1.2.3.4.5.6", ""] {
            check(release(json!({"version": bad})), "spec.version", "such as 1.4.2");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.10") > version("0.9.9"));
        assert_eq!(version("1.0"), version("1"));
        assert!(version("1.0.1") > version("1"));
        assert_eq!(
            (version("1.20.0").to_string(), version("0").to_string()),
            ("1.20".into(), "0".into())
        );
    }

    #[test]
    fn only_a_publisher_makes_an_agent_go_back() {
        let (plain, back) = (AgentRelease::default(), AgentRelease { downgrade: true });
        assert!(plain.refuses("0.3", "0.2") && !back.refuses("0.3", "0.2"));
        assert!(!plain.refuses("0.3", "0.3.0") && !plain.refuses("0.3", "0.4"));
        assert!(!plain.refuses("0.3-dev", "0.2"));
    }
}
