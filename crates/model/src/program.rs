//! What a program demands of the machine beside its platform: power, link, user, and another program
//! before it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::advertisement::PackageRef;
use crate::name::Name;
use crate::package::{Achieves, AfterRunning, Program, RunWhen};
use crate::problem::Checks;

/// How many programs may stand before one another: far more than anybody has installed in a row.
pub const DEPENDENCIES_MAX: usize = 16;
/// The longest name of a user (useradd(8) and `LOGIN_NAME_MAX` agree on less than this).
pub const USER_CHARS_MAX: usize = 64;

/// What a machine may lack just now: it is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requires {
    /// Where its power comes from. Absent: from anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// What its network costs. Absent: whatever it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkCost>,
}

/// Where power comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// From the mains, or the machine has no battery.
    Ac,
}

/// What the network costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkCost {
    /// Nothing by the byte.
    Unmetered,
}

impl Requires {
    /// Nothing is required.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// As whom a program runs. Written `root`, `user:NAME` or `each-user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The superuser.
    Root,
    /// This user of the machine.
    User(String),
    /// Each user who is logged on when it starts, one after the other.
    EachUser,
}

impl RunAs {
    /// The name of the one user; `None`: it is each who is logged on.
    pub fn user(&self) -> Option<&str> {
        match self {
            RunAs::Root => Some("root"),
            RunAs::User(name) => Some(name),
            RunAs::EachUser => None,
        }
    }
}

impl Achieves {
    /// Whether the software is there afterwards.
    pub fn is_present(&self) -> bool {
        *self == Achieves::Present
    }
}

impl Program {
    /// Whether it runs once for each user who is logged on, and not once for the machine.
    pub fn runs_for_each_user(&self) -> bool {
        self.run_as == Some(RunAs::EachUser)
    }

    /// What says something of the machine contradicts a program that runs for each user.
    pub(crate) fn check_users(&self, at: &str, has_detection: bool, checks: &mut Checks) {
        if !self.runs_for_each_user() {
            return;
        }
        let field = |name: &str| format!("{at}.{name}");
        checks.that(
            !has_detection || self.achieves == Achieves::Nothing,
            &field("achieves"),
            "runAs is `each-user` and the package has a detection, which judges the machine and no \
             user: declare achieves `nothing`, so that each run is judged by its result or exit code",
        );
        checks.that(
            self.after_running == AfterRunning::None,
            &field("afterRunning"),
            "runAs is `each-user`: a restart between two users would log the next ones off; declare \
             afterRunning `none`",
        );
        checks.that(
            self.restart_codes.is_empty(),
            &field("restartCodes"),
            "runAs is `each-user`: no run for a user restarts the machine; leave restartCodes empty",
        );
        checks.that(
            self.run_when != RunWhen::NobodyLoggedOn,
            &field("runWhen"),
            "runAs is `each-user` but runWhen is `nobody-logged-on`: it could never run for anybody",
        );
    }
}

/// Some text does not say as whom to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAUser {
    /// Neither of the forms.
    #[error("runAs is `root`, `user:NAME` or `each-user`, not {0:?}")]
    Form(String),
    /// No name that a machine could know.
    #[error(
        "a user's name has 1 to {USER_CHARS_MAX} characters, no blank, `:` or `/`, unlike {0:?}"
    )]
    Name(String),
}

impl FromStr for RunAs {
    type Err = NotAUser;
    fn from_str(text: &str) -> Result<Self, NotAUser> {
        match text {
            "root" => return Ok(RunAs::Root),
            "each-user" => return Ok(RunAs::EachUser),
            _ => {}
        }
        let name = text.strip_prefix("user:").ok_or_else(|| NotAUser::Form(text.to_owned()))?;
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/';
        let length = name.chars().count();
        if length == 0 || length > USER_CHARS_MAX || name.contains(forbidden) {
            return Err(NotAUser::Name(name.chars().take(USER_CHARS_MAX).collect()));
        }
        Ok(RunAs::User(name.to_owned()))
    }
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunAs::Root => f.write_str("root"),
            RunAs::User(name) => write!(f, "user:{name}"),
            RunAs::EachUser => f.write_str("each-user"),
        }
    }
}

crate::text_serde!(RunAs);

/// A program of another package that must have succeeded before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// `NAME@VERSION`: the version is said, so that it can be pinned.
    pub package: PackageRef,
    /// A program of that package.
    pub program: Name,
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.program, self.package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_root_or_named_or_each_who_is_logged_on() {
        for text in ["root", "user:www-data", "user:ada.l", "each-user"] {
            assert_eq!(text.parse::<RunAs>().unwrap().to_string(), text);
        }
        for text in ["", "ada", "each", "user:", "user:a b", "user:a:b", "user:../x"] {
            assert!(text.parse::<RunAs>().is_err(), "{text:?}");
        }
        assert_eq!("root".parse::<RunAs>().unwrap().user(), Some("root"));
        assert_eq!(RunAs::EachUser.user(), None);
    }

    /// Holds a program for each user, with `more`, to what is said of `field`.
    #[track_caller]
    fn check(more: serde_json::Value, has_detection: bool, field: Option<&str>) {
        let mut program = serde_json::json!({"name": "go", "command": ["x"], "runAs": "each-user"});
        program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let program: Program = serde_json::from_value(program).unwrap();
        let mut checks = Checks::new();
        program.check_users("p", has_detection, &mut checks);
        let found: Vec<String> = checks.finish().into_iter().map(|problem| problem.field).collect();
        let expected: Vec<String> = field.map(|field| format!("p.{field}")).into_iter().collect();
        assert_eq!(found, expected, "{more}");
    }

    #[test]
    fn a_program_for_each_user_says_nothing_of_the_machine() {
        use serde_json::json;
        check(json!({}), false, None);
        check(json!({"achieves": "nothing"}), true, None);
        check(json!({"runWhen": "user-logged-on"}), false, None);
        check(json!({}), true, Some("achieves"));
        check(json!({"achieves": "absent"}), true, Some("achieves"));
        check(json!({"afterRunning": "agent-restarts"}), false, Some("afterRunning"));
        check(json!({"restartCodes": [102]}), false, Some("restartCodes"));
        check(json!({"runWhen": "nobody-logged-on"}), false, Some("runWhen"));
        check(json!({"runAs": "root", "afterRunning": "agent-restarts"}), true, None);
    }

    #[test]
    fn what_is_required_has_words_and_no_others() {
        let requires: Requires =
            serde_json::from_str(r#"{"power": "ac", "link": "unmetered"}"#).unwrap();
        assert_eq!(requires.power, Some(Power::Ac));
        assert!(serde_json::from_str::<Requires>(r#"{"power": "solar"}"#).is_err());
        assert!(serde_json::from_str::<Requires>(r#"{"colour": "red"}"#).is_err());
    }
}
