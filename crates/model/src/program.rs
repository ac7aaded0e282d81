//! What a program demands of the machine beside its platform: power, link, user, and another program
//! before it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::advertisement::PackageRef;
use crate::name::Name;

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

/// As whom a program runs. Written `root` or `user:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The superuser.
    Root,
    /// This user of the machine.
    User(String),
}

impl RunAs {
    /// The name of the user.
    pub fn user(&self) -> &str {
        match self {
            RunAs::Root => "root",
            RunAs::User(name) => name,
        }
    }
}

/// Some text does not say as whom to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAUser {
    /// Neither of the forms.
    #[error("runAs is `root` or `user:NAME`, not {0:?}")]
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
        if text == "root" {
            return Ok(RunAs::Root);
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
    fn a_user_is_root_or_named() {
        for text in ["root", "user:www-data", "user:ada.l"] {
            assert_eq!(text.parse::<RunAs>().unwrap().to_string(), text);
        }
        for text in ["", "ada", "each-user", "user:", "user:a b", "user:a:b", "user:../x"] {
            assert!(text.parse::<RunAs>().is_err(), "{text:?}");
        }
        assert_eq!("root".parse::<RunAs>().unwrap().user(), "root");
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
