//! Names that people give to objects. A name is an attribute, never a key, path or URL.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::is_nfc;
use unicode_security::confusable_detection::skeleton;

/// The longest name, in characters. SMS allowed 50; labels of 63 octets (RFC 1035) are common today;
/// 128 leaves room for both and still fits a table.
pub const NAME_CHARS_MAX: usize = 128;

/// The name of an object or device: 1 to 128 characters, Unicode NFC, no control character, no `/`,
/// no blank at either end. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why some text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Nothing between the quotes.
    #[error("a name has at least one character")]
    Empty,
    /// More than [`NAME_CHARS_MAX`] characters.
    #[error("a name has at most {NAME_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A control character or a `/`.
    #[error("a name has no control character and no `/`: found {0:?}")]
    Forbidden(char),
    /// Blank at an end: two names would look alike.
    #[error("a name neither starts nor ends with a blank")]
    BlankAtEnd,
    /// Not in Unicode normalization form C.
    #[error("a name is in Unicode normalization form C (NFC)")]
    NotNormalized,
}

impl Name {
    /// A name that stands in this program's own text. It must be one.
    pub(crate) fn fixed(text: &'static str) -> Self {
        debug_assert!(Self::new(text).is_ok(), "{text:?} is no name");
        Self(text.to_owned())
    }

    /// Checks `text` and makes a name of it.
    pub fn new(text: impl Into<String>) -> Result<Self, NotAName> {
        let text = text.into();
        let chars = text.chars().count();
        if chars == 0 {
            return Err(NotAName::Empty);
        }
        if chars > NAME_CHARS_MAX {
            return Err(NotAName::TooLong(chars));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() || *c == '/') {
            return Err(NotAName::Forbidden(bad));
        }
        if text.trim() != text {
            return Err(NotAName::BlankAtEnd);
        }
        if !is_nfc(&text) {
            return Err(NotAName::NotNormalized);
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name looks like (Unicode TR 39 skeleton): two names with one skeleton are
    /// look-alikes, and the second is refused where names must be unique.
    pub fn look(&self) -> String {
        skeleton(&self.0).collect()
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, NotAName> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), NotAName>) {
        assert_eq!(Name::new(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn limits_of_a_name() {
        check("Adobe Reader 5 – français", Ok(()));
        check("", Err(NotAName::Empty));
        check(&"x".repeat(128), Ok(()));
        check(&"ä".repeat(129), Err(NotAName::TooLong(129)));
        check("a/b", Err(NotAName::Forbidden('/')));
        check("a\nb", Err(NotAName::Forbidden('\n')));
        check(" a", Err(NotAName::BlankAtEnd));
        check("e\u{301}", Err(NotAName::NotNormalized));
    }

    #[test]
    fn a_cyrillic_letter_does_not_make_another_name() {
        let latin = Name::new("paypal").unwrap();
        let cyrillic = Name::new("p\u{430}ypal").unwrap();
        assert_ne!(latin, cyrillic);
        assert_eq!(latin.look(), cyrillic.look());
    }
}
