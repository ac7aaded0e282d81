//! Packages and their programs: what a publisher says of software, and signs.
//!
//! Everything that can execute stands here: command line, environment-free arguments, detection,
//! re-run rule. A site chooses among signed programs; it never writes one (law 8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::notice::Notice;
use crate::parameter::{self, Parameter, ParameterName};
use crate::period::Period;
use crate::problem::{Checks, Problem};
use crate::program::{Dependency, Requires, RunAs};
use crate::release::AgentRelease;
use crate::rule::Rule;

/// The longest version text, in characters.
pub const VERSION_CHARS_MAX: usize = 128;
/// Programs in one package.
pub const PROGRAMS_MAX: usize = 64;
/// Words in one command line.
pub const COMMAND_WORDS_MAX: usize = 256;
/// Bytes in one command line, all words together; well below Linux' limit of 128 KiB a word.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;
/// The most attempts a program may have.
pub const ATTEMPTS_MAX: u32 = 100;
/// The longest time a program may run.
pub const RUN_TIME_MAX: Period = Period::days(7);
/// The longest time a detection may run (accounting of the field: a detection is a read-only look).
pub const DETECTION_TIME_MAX: Period = Period::minutes(10);
/// The longest time between TERM and KILL: what shuts down longer than this hangs.
pub const GRACE_MAX: Period = Period::hours(1);
/// Bytes in one program's requirements.
pub const REQUIREMENTS_BYTES_MAX: usize = 2 * 1024;
/// Bytes in the path of a program's working directory.
pub const START_IN_BYTES_MAX: usize = 1024;
/// Steps in a back-off between attempts.
pub const RETRY_STEPS_MAX: usize = 16;

/// `kind: Package`, `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackageSpec {
    /// The version, compared byte for byte.
    pub version: String,
    /// A folder or file beside the manifest (a path), or the digest that `export` writes. Absent:
    /// the package carries no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The ways to run the package. Left out for an agent release, which has one that is implied.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// How to tell whether the software is there. Without it the exit code decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    /// Names of packages that this one replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<Name>,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its content is the agent's own program: who is meant by its advertisement takes that up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_release: Option<AgentRelease>,
}

/// One way to run a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// Unique in its package.
    pub name: Name,
    /// Split into words without a shell (POSIX quoting). Exactly one of this and `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The words themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// After this long the program is ended: TERM, then KILL.
    #[serde(default = "default_run_time")]
    pub max_run_time: Period,
    /// What happens to the machine afterwards.
    #[serde(default)]
    pub after_running: AfterRunning,
    /// What an interrupted run may do.
    #[serde(default)]
    pub rerun: Rerun,
    /// Runs in all for one obligation, failed and interrupted ones together. Default 3; with
    /// `rerun: never` it is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Waits between attempts; the last one repeats.
    #[serde(default = "default_retry_delays")]
    pub retry_delays: Vec<Period>,
    /// Exit codes that mean success.
    #[serde(default = "default_success_codes")]
    pub success_codes: Vec<i32>,
    /// Exit codes that mean success once the machine has restarted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_codes: Vec<i32>,
    /// What the program achieves, which is what detection is held against.
    #[serde(default)]
    pub achieves: Achieves,
    /// The platform it runs on: `linux`, `linux/x86_64`, `linux/aarch64`, `windows`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Who must or must not be logged on.
    #[serde(default)]
    pub run_when: RunWhen,
    /// What whoever is logged on is given before a mandatory start. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// Bytes of disk that the run needs beside its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// The package manager whose lock must be free before a run starts; a held one is
    /// `waiting(package-manager)`, never a spent attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_manager: Option<PackageManager>,
    /// The working directory, a folder of the content. Absent: the content itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_in: Option<String>,
    /// Between TERM and KILL. Absent: the device's `termGrace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Period>,
    /// A rule over the device's facts ([`crate::rule`]). Where it does not certainly hold, the
    /// program is not applicable. Absent or empty: it is for every machine of its platform.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requirements: String,
    /// What the machine may lack just now, and is waited for.
    #[serde(default, skip_serializing_if = "Requires::is_nothing")]
    pub requires: Requires,
    /// Its publisher holds it back: nothing of it starts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// As whom it runs. Absent: as the agent does, which is root unless the device was set up without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAs>,
    /// The program that must have succeeded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Dependency>,
    /// What can be said to it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<ParameterName, Parameter>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How to tell whether the software is there: exit 0 present, 1 absent, anything else an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Detection {
    /// Split into words without a shell. Exactly one of this and `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The words themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// After this long the detection is ended and counts as an error.
    #[serde(default = "default_detection_time")]
    pub max_run_time: Period,
}

/// What happens to the machine after a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterRunning {
    /// Nothing.
    #[default]
    None,
    /// The agent restarts the machine.
    AgentRestarts,
    /// The program restarts the machine itself.
    ProgramRestarts,
}

/// What an interrupted run may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rerun {
    /// Never start again: at most one execution.
    Never,
    /// Start again if detection says that the goal is not reached.
    #[default]
    IfNotDetected,
    /// Start again: the program is idempotent.
    Always,
}

/// What a program achieves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Achieves {
    /// The software is there.
    #[default]
    Present,
    /// The software is gone.
    Absent,
    /// Nothing that detection could see.
    Nothing,
}

/// Who must or must not be logged on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunWhen {
    /// Whether or not somebody is logged on.
    #[default]
    Any,
    /// Only when nobody is.
    NobodyLoggedOn,
    /// Only when somebody is.
    UserLoggedOn,
}

/// A package manager whose lock a program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageManager {
    /// Debian's dpkg: `/var/lib/dpkg/lock-frontend` and `/var/lib/dpkg/lock`.
    Dpkg,
}

fn default_run_time() -> Period {
    Period::hours(1)
}
fn default_detection_time() -> Period {
    Period::secs(30)
}
fn default_success_codes() -> Vec<i32> {
    vec![0]
}
fn default_retry_delays() -> Vec<Period> {
    vec![Period::minutes(15), Period::hours(1), Period::hours(4)]
}

impl PackageSpec {
    /// The program of that name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name.as_str() == name)
    }

    /// The spec with what it implies: the program of an agent release.
    pub fn completed(mut self) -> Self {
        if self.agent_release.is_some() && self.programs.is_empty() {
            self.programs.push(AgentRelease::program());
        }
        self
    }

    /// Every fault of the spec, each naming its field and limit.
    pub fn check(&self) -> Vec<Problem> {
        let mut checks = Checks::new();
        let version = self.version.chars().count();
        checks.range("spec.version", "characters", version, 1, VERSION_CHARS_MAX);
        checks.that(
            !self.version.chars().any(|c| c.is_control() || c == '@' || c == '/'),
            "spec.version",
            "a version has no control character, `@` or `/`",
        );
        checks.range("spec.programs", "programs", self.programs.len(), 1, PROGRAMS_MAX);
        for (i, program) in self.programs.iter().enumerate() {
            let at = format!("spec.programs[{i}]");
            let earlier = self.programs[..i].iter().any(|other| other.name == program.name);
            checks.that(!earlier, &format!("{at}.name"), "two programs have this name");
            program.check(&at, self.detection.is_some(), &mut checks);
        }
        if self.agent_release.is_some() {
            AgentRelease::check(self, &mut checks);
        }
        if let Some(detection) = &self.detection {
            check_command(
                &mut checks,
                "spec.detection",
                &detection.command_line,
                &detection.command,
            );
            checks.period(
                "spec.detection.maxRunTime",
                detection.max_run_time,
                Period::secs(1),
                DETECTION_TIME_MAX,
            );
        }
        checks.finish()
    }
}

impl Program {
    /// A program with the default of every field but its name and its words.
    pub fn new(name: Name, command: Vec<String>) -> Self {
        Self {
            name,
            command_line: None,
            command: Some(command),
            max_run_time: default_run_time(),
            after_running: AfterRunning::default(),
            rerun: Rerun::default(),
            attempts: None,
            retry_delays: default_retry_delays(),
            success_codes: default_success_codes(),
            restart_codes: Vec::new(),
            achieves: Achieves::default(),
            platform: None,
            run_when: RunWhen::default(),
            notice: None,
            disk: None,
            package_manager: None,
            start_in: None,
            grace: None,
            requirements: String::new(),
            requires: Requires::default(),
            disabled: false,
            run_as: None,
            depends_on: None,
            parameters: BTreeMap::new(),
        }
    }

    /// The words to execute. Empty only in a spec that [`PackageSpec::check`] refuses.
    pub fn words(&self) -> Vec<String> {
        words(&self.command_line, &self.command)
    }

    /// Runs in all for one obligation.
    pub fn attempts(&self) -> u32 {
        match (self.rerun, self.attempts) {
            (Rerun::Never, _) => 1,
            (_, declared) => declared.unwrap_or(3),
        }
    }

    /// The wait after `attempt` runs (from 1) have ended.
    pub fn retry_delay(&self, attempt: u32) -> Period {
        let step = (attempt.max(1) as usize - 1).min(self.retry_delays.len().saturating_sub(1));
        self.retry_delays.get(step).copied().unwrap_or(Period::minutes(15))
    }

    fn check(&self, at: &str, has_detection: bool, checks: &mut Checks) {
        check_command(checks, at, &self.command_line, &self.command);
        let field = |name: &str| format!("{at}.{name}");
        checks.period(&field("maxRunTime"), self.max_run_time, Period::secs(1), RUN_TIME_MAX);
        if let Some(attempts) = self.attempts {
            let most = if self.rerun == Rerun::Never { 1 } else { ATTEMPTS_MAX };
            checks.that(
                (1..=most).contains(&attempts),
                &field("attempts"),
                &match self.rerun {
                    Rerun::Never => format!(
                        "attempts is {attempts} but rerun is `never`, which allows exactly 1"
                    ),
                    _ => format!("attempts is {attempts}; allowed are 1 to {ATTEMPTS_MAX}"),
                },
            );
        }
        checks.range(&field("retryDelays"), "steps", self.retry_delays.len(), 1, RETRY_STEPS_MAX);
        checks.range(&field("successCodes"), "codes", self.success_codes.len(), 1, 256);
        self.check_codes(at, checks);
        self.check_demands(at, checks);
        self.check_users(at, has_detection, checks);
        checks.that(
            !(self.rerun == Rerun::IfNotDetected
                && self.attempts.is_some_and(|n| n > 1)
                && self.achieves == Achieves::Nothing
                && has_detection),
            &field("achieves"),
            "achieves is `nothing` but rerun is `if-not-detected`: detection could never allow or \
             forbid a re-run; use rerun `always` or `never`",
        );
        if let Some(notice) = &self.notice {
            notice.check(&field("notice"), checks);
            checks.that(
                self.run_when != RunWhen::NobodyLoggedOn,
                &field("notice"),
                "notice is given but runWhen is `nobody-logged-on`: nobody could ever see it",
            );
        }
        if let Some(platform) = &self.platform {
            checks.that(
                matches!(
                    platform.as_str(),
                    "linux" | "linux/x86_64" | "linux/aarch64" | "windows" | "windows/x86_64"
                ),
                &field("platform"),
                "a platform is linux, linux/x86_64, linux/aarch64, windows or windows/x86_64",
            );
        }
    }

    fn check_demands(&self, at: &str, checks: &mut Checks) {
        let field = |name: &str| format!("{at}.{name}");
        if let Some(grace) = self.grace {
            checks.period(&field("grace"), grace, Period::secs(1), GRACE_MAX);
        }
        if let Some(folder) = &self.start_in {
            checks.range(&field("startIn"), "bytes", folder.len(), 1, START_IN_BYTES_MAX);
            let inside = !folder.starts_with('/') && !folder.split('/').any(|part| part == "..");
            checks.that(
                inside && !folder.contains('\0'),
                &field("startIn"),
                "startIn is a folder of the content: a relative path without `..`",
            );
        }
        let bytes = self.requirements.len();
        checks.range(&field("requirements"), "bytes", bytes, 0, REQUIREMENTS_BYTES_MAX);
        if let Some(Err(bad)) = self.requirement() {
            checks.that(false, &field("requirements"), &bad.to_string());
        }
        if let Some(dependency) = &self.depends_on {
            checks.that(
                dependency.package.version.is_some(),
                &field("dependsOn.package"),
                "a dependency names its version, as NAME@VERSION: it is pinned with this package",
            );
        }
        parameter::check(&self.parameters, &field("parameters"), checks);
    }

    /// The rule that a machine must meet, if there is one; a fault only in a spec that
    /// [`PackageSpec::check`] refuses.
    pub fn requirement(&self) -> Option<Result<Rule, crate::rule::BadRule>> {
        (!self.requirements.trim().is_empty()).then(|| Rule::parse(&self.requirements))
    }

    fn check_codes(&self, at: &str, checks: &mut Checks) {
        let windows = self.platform.as_deref().is_some_and(|p| p.starts_with("windows"));
        for (list, codes) in
            [("successCodes", &self.success_codes), ("restartCodes", &self.restart_codes)]
        {
            for (i, code) in codes.iter().enumerate() {
                checks.that(
                    windows || (0..=255).contains(code),
                    &format!("{at}.{list}[{i}]"),
                    &format!(
                        "exit code {code} cannot occur on Linux, where codes are 0 to 255; declare \
                         platform `windows` if the program is for it"
                    ),
                );
            }
        }
        if let Some(code) = self.restart_codes.iter().find(|c| self.success_codes.contains(c)) {
            checks.that(
                false,
                &format!("{at}.restartCodes"),
                &format!("exit code {code} stands in successCodes and restartCodes"),
            );
        }
    }
}

impl Detection {
    /// The words to execute.
    pub fn words(&self) -> Vec<String> {
        words(&self.command_line, &self.command)
    }
}

fn words(line: &Option<String>, list: &Option<Vec<String>>) -> Vec<String> {
    match (list, line) {
        (Some(words), _) => words.clone(),
        (None, Some(line)) => shell_words::split(line).unwrap_or_default(),
        (None, None) => Vec::new(),
    }
}

fn check_command(checks: &mut Checks, at: &str, line: &Option<String>, list: &Option<Vec<String>>) {
    checks.that(
        line.is_some() != list.is_some(),
        &format!("{at}.commandLine"),
        "give exactly one of commandLine and command",
    );
    if let Some(Err(_)) = line.as_deref().map(shell_words::split) {
        checks.that(false, &format!("{at}.commandLine"), "a quote is opened and never closed");
        return;
    }
    let words = words(line, list);
    let field = format!("{at}.{}", if list.is_some() { "command" } else { "commandLine" });
    checks.range(&field, "words", words.len(), 1, COMMAND_WORDS_MAX);
    let bytes = words.iter().map(String::len).sum();
    checks.range(&field, "bytes", bytes, 1, COMMAND_BYTES_MAX);
    checks.that(
        words.first().is_none_or(|word| !word.is_empty()),
        &field,
        "the first word, the program to run, is empty",
    );
    checks.that(!words.iter().any(|word| word.contains('\0')), &field, "a word holds a NUL byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(program: serde_json::Value) -> PackageSpec {
        serde_json::from_value(serde_json::json!({
            "version": "1",
            "programs": [program],
            "detection": {"command": ["sh", "detect.sh"]},
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(program: serde_json::Value, field: &str, said: &str) {
        let problems = package(program).check();
        assert!(
            problems.iter().any(|p| p.field == field && p.detail.contains(said)),
            "{problems:#?}"
        );
    }

    #[test]
    fn defaults_make_a_whole_program() {
        let spec =
            package(serde_json::json!({"name": "go", "commandLine": "sh 'my install.sh' -q"}));
        assert_eq!(spec.check(), []);
        let program = spec.program("go").unwrap();
        assert_eq!(program.words(), ["sh", "my install.sh", "-q"]);
        assert_eq!((program.attempts(), program.rerun), (3, Rerun::IfNotDetected));
        assert_eq!(program.retry_delay(1), Period::minutes(15));
        assert_eq!(program.retry_delay(9), Period::hours(4));
    }

    #[test]
    fn settings_that_can_never_work_are_refused() {
        let go = |more: serde_json::Value| {
            let mut program = serde_json::json!({"name": "go", "commandLine": "x"});
            program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            program
        };
        let at = |field: &str| format!("spec.programs[0].{field}");
        let never = go(serde_json::json!({"rerun": "never", "attempts": 2}));
        check(never, &at("attempts"), "exactly 1");
        let code = go(serde_json::json!({"restartCodes": [3010]}));
        check(code, &at("restartCodes[0]"), "0 to 255");
        let both = go(serde_json::json!({"restartCodes": [0]}));
        check(both, &at("restartCodes"), "successCodes and restartCodes");
        let two = go(serde_json::json!({"command": ["x"]}));
        check(two, &at("commandLine"), "exactly one");
        let quote = serde_json::json!({"name": "go", "commandLine": "sh 'x"});
        check(quote, &at("commandLine"), "never closed");
        let long = go(serde_json::json!({"maxRunTime": "8d"}));
        check(long, &at("maxRunTime"), "at most 7d");
        let late = go(serde_json::json!({"notice": {"countdown": "25h"}}));
        check(late, &at("notice.countdown"), "at most 1d");
        let early = go(serde_json::json!({"notice": {"countdown": "1h", "deferUntil": "10m"}}));
        check(early, &at("notice.deferUntil"), "countdown is 1h");
        let nobody = go(serde_json::json!({"notice": {}, "runWhen": "nobody-logged-on"}));
        check(nobody, &at("notice"), "nobody could ever see it");
    }

    #[test]
    fn demands_are_checked_by_field() {
        let at = |field: &str| format!("spec.programs[0].{field}");
        let with = |field: &str, value: serde_json::Value| {
            let mut program = serde_json::json!({"name": "go", "commandLine": "x"});
            program[field] = value;
            program
        };
        check(with("grace", "2h".into()), &at("grace"), "at most 1h");
        check(with("startIn", "../up".into()), &at("startIn"), "without `..`");
        check(with("startIn", "/etc".into()), &at("startIn"), "relative path");
        check(with("requirements", "device.os = 'x'".into()), &at("requirements"), "`==`");
        let newest = serde_json::json!({"package": "base", "program": "install"});
        check(with("dependsOn", newest), &at("dependsOn.package"), "NAME@VERSION");
        let choice = serde_json::json!({"mode": {"type": "choice"}});
        check(with("parameters", choice), &at("parameters.mode.choices"), "1 to 256");
    }

    #[test]
    fn what_is_not_said_is_not_written() {
        let spec = package(serde_json::json!({"name": "go", "command": ["x"]}));
        let written = serde_json::to_value(&spec.programs[0]).unwrap();
        let new = Program::new(spec.programs[0].name.clone(), vec!["x".to_owned()]);
        assert_eq!((&written, &spec.programs[0]), (&serde_json::to_value(&new).unwrap(), &new));
        for field in [
            "startIn",
            "grace",
            "requirements",
            "requires",
            "disabled",
            "runAs",
            "dependsOn",
            "parameters",
        ] {
            assert_eq!(written.get(field), None, "{field}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let spec = serde_json::json!({"version": "1", "programs": [], "colour": "red"});
        let error = serde_json::from_value::<PackageSpec>(spec).unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
    }
}
