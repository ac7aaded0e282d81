//! Paths inside a tree, and where links inside it may lead.
//!
//! A [`TreePath`] that exists cannot leave the tree, whatever folder it is joined to; a link that
//! `link_stays_inside` approves of cannot either. Never looks at a disk.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::is_nfc;

/// Folders below each other. Leaves a recursive walk of any language far from its stack's end.
pub const DEPTH_MAX: usize = 32;
/// Bytes of one path; with a data folder in front it stays below Linux' `PATH_MAX` of 4096.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of one component: `NAME_MAX` of Linux and of every common file system.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// A relative path inside a tree: UTF-8 in normalization form C, components joined by `/`, none of
/// them empty, `.` or `..`, no control character. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// Why some text is not a path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATreePath {
    /// Nothing, an absolute path, or two slashes together or at the end.
    #[error("take {0:?} as a path: a component is empty")]
    EmptyComponent(String),
    /// `.` or `..`.
    #[error("take {0:?} as a path: it contains a `.` or `..`")]
    Dots(String),
    /// A NUL, a newline or the like.
    #[error("take {0:?} as a path: it contains a control character")]
    Control(String),
    /// The same text can be written in several ways; this is not the normal one.
    #[error("take {0:?} as a path: it is not in Unicode normalization form C")]
    NotNormalized(String),
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("take a path of {0} bytes: the most is {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// A component longer than [`COMPONENT_BYTES_MAX`].
    #[error("take {0:?} as a path: a component is longer than {COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong(String),
    /// Deeper than [`DEPTH_MAX`].
    #[error("take {0:?} as a path: it is deeper than {DEPTH_MAX}")]
    TooDeep(String),
}

impl TreePath {
    /// Checks `text` and makes a path of it.
    pub fn new(text: impl Into<String>) -> Result<Self, NotATreePath> {
        let text = text.into();
        if text.len() > PATH_BYTES_MAX {
            return Err(NotATreePath::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(NotATreePath::Control(text));
        }
        if text.split('/').any(str::is_empty) {
            return Err(NotATreePath::EmptyComponent(text));
        }
        if text.split('/').any(|component| component == "." || component == "..") {
            return Err(NotATreePath::Dots(text));
        }
        if text.split('/').any(|component| component.len() > COMPONENT_BYTES_MAX) {
            return Err(NotATreePath::ComponentTooLong(text));
        }
        if text.split('/').count() > DEPTH_MAX {
            return Err(NotATreePath::TooDeep(text));
        }
        if !is_nfc(&text) {
            return Err(NotATreePath::NotNormalized(text));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that holds it, unless that is the top of the tree.
    pub fn parent(&self) -> Option<TreePath> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The number of components, at least 1.
    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }
}

impl TryFrom<String> for TreePath {
    type Error = NotATreePath;
    fn try_from(text: String) -> Result<Self, NotATreePath> {
        Self::new(text)
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether a link leads inside, whatever other links of the tree it passes through.
///
/// `..` is allowed only in front, where it climbs through real folders (the link's own parents); a
/// later `..` could climb out of what another link leads to. By induction over the path every link
/// of the tree then ends inside it.
pub(crate) fn link_stays_inside(path: &TreePath, target: &str) -> bool {
    if target == "." {
        return true;
    }
    let up = target.split('/').take_while(|component| *component == "..").count();
    let down = target.splitn(up + 1, '/').nth(up);
    up < path.depth() && down.is_none_or(|down| TreePath::new(down).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn paths_that_could_leave_or_confuse_are_refused() {
        let check = |text: &str, said: &str| {
            let error = TreePath::new(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        };
        for good in ["a", "usr/bin/hello world", "..a/b..", "ü", "a\\b", "a:b"] {
            assert_eq!(path(good).as_str(), good);
        }
        check("", "empty");
        check("/etc/passwd", "empty");
        check("a//b", "empty");
        check("a/", "empty");
        check("../a", "`..`");
        check("a/../b", "`..`");
        check("./a", "`..`");
        check("a\0b", "control");
        check("a\nb", "control");
        check("u\u{308}", "normalization");
        check(&"x".repeat(256), "255");
        check(&["x"; 33].join("/"), "32");
        check(&"x/".repeat(600), "1024");
    }

    #[test]
    fn links_lead_inside() {
        let inside = |at: &str, target: &str| link_stays_inside(&path(at), target);
        for (at, target) in [
            ("l", "a"),
            ("l", "."),
            ("a/l", ".."),
            ("a/l", "../b/c"),
            ("a/b/l", "../.."),
            ("l", "..x"),
        ] {
            assert!(inside(at, target), "{at} -> {target}");
        }
        for (at, target) in [
            ("l", ".."),
            ("l", "/etc/passwd"),
            ("l", ""),
            ("l", "a/../../b"),
            ("a/l", "../.."),
            ("a/l", "../../b"),
            ("a/b/l", "../x/../.."),
            ("l", "a/"),
            ("l", "a//b"),
            ("l", "./a"),
            ("a/l", "../"),
            ("l", "a\nb"),
        ] {
            assert!(!inside(at, target), "{at} -> {target}");
        }
    }
}
