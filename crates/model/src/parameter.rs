//! Typed parameters: declared and signed by a program's publisher, given a value by an advertisement
//! or a collection, and passed to the program as environment and in no other way.
//!
//! The declaration bounds what a site may say (law 8): a value that it does not allow is refused at
//! `apply`, and again on the device, which believes only the signed declaration.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use crate::problem::{Checks, Problem};

/// Parameters of one program.
pub const PARAMETERS_MAX: usize = 64;
/// The longest text that a parameter takes, in bytes: 64 of them stay far below what one exec takes.
pub const VALUE_BYTES_MAX: usize = 1_024;
/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Texts that a choice offers.
pub const CHOICES_MAX: usize = 256;
/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// What a compiled pattern may take, in bytes; matching is linear in the text, whatever the pattern.
const PATTERN_SIZE_MAX: usize = 256 * 1024;
/// What stands before the name in a program's environment.
pub const VARIABLE_PREFIX: &str = "MUSTER_PARAM_";

/// The name of a parameter: letters, digits and `_`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterName(String);

/// Some text is not the name of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a parameter's name has 1 to {NAME_CHARS_MAX} letters, digits and `_` and begins with a letter, \
     unlike {0:?}"
)]
pub struct NotAParameterName(String);

/// What a parameter is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are their types")]
pub enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
}

/// Values by name, as an advertisement or a collection gives them.
pub type Values = BTreeMap<ParameterName, Value>;

/// What a parameter takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// Text on one line.
    #[default]
    Text,
    /// A whole number of 64 bits.
    Number,
    /// One of `choices`.
    Choice,
    /// True or false, passed as `true` or `false`.
    Flag,
}

/// One parameter as its program declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameter {
    /// What it takes.
    #[serde(default, rename = "type")]
    pub kind: Type,
    /// A regular expression that the whole of a text must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What a choice is among.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it is if nobody gives a value. Absent: the variable is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Somebody must give a value.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl ParameterName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The variable that carries it: `installMode` is `MUSTER_PARAM_INSTALLMODE`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.0.to_ascii_uppercase())
    }
}

impl FromStr for ParameterName {
    type Err = NotAParameterName;
    fn from_str(text: &str) -> Result<Self, NotAParameterName> {
        let letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if letter && rest && text.len() <= NAME_CHARS_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAParameterName(text.chars().take(NAME_CHARS_MAX).collect()))
        }
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => flag.fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Text(text) => f.write_str(text),
        }
    }
}

crate::text_serde!(ParameterName);

impl Parameter {
    /// Why `value` is none that this parameter takes.
    pub fn refuses(&self, value: &Value) -> Option<String> {
        match (self.kind, value) {
            (Type::Flag, Value::Flag(_)) | (Type::Number, Value::Number(_)) => None,
            (Type::Flag, _) => Some(format!("takes true or false, not `{value}`")),
            (Type::Number, _) => Some(format!("takes a whole number, not `{value}`")),
            (Type::Choice, Value::Text(text)) if self.choices.contains(text) => None,
            (Type::Choice, _) => {
                Some(format!("takes one of {}, not `{value}`", self.choices.join(", ")))
            }
            (Type::Text, Value::Text(text)) => self.refuses_text(text),
            (Type::Text, _) => Some(format!("takes a text, not `{value}`; put it in quotes")),
        }
    }

    fn refuses_text(&self, text: &str) -> Option<String> {
        if text.len() > VALUE_BYTES_MAX {
            return Some(format!("takes at most {VALUE_BYTES_MAX} bytes, not {}", text.len()));
        }
        if text.chars().any(char::is_control) {
            return Some("takes a text on one line, without control characters".to_owned());
        }
        let pattern = self.pattern.as_deref()?;
        match whole(pattern) {
            Ok(regex) if regex.is_match(text) => None,
            _ => Some(format!("takes what matches `{pattern}`, unlike `{text}`")),
        }
    }

    fn check(&self, at: &str, checks: &mut Checks) {
        let field = |name: &str| format!("{at}.{name}");
        let choice = self.kind == Type::Choice;
        checks.range(
            &field("choices"),
            "choices",
            self.choices.len(),
            usize::from(choice),
            if choice { CHOICES_MAX } else { 0 },
        );
        for (i, text) in self.choices.iter().enumerate() {
            let plain = Parameter::default();
            let fault = plain.refuses(&Value::Text(text.clone()));
            checks.that(fault.is_none(), &field(&format!("choices[{i}]")), &said(fault));
        }
        if let Some(pattern) = &self.pattern {
            checks.that(
                self.kind == Type::Text,
                &field("pattern"),
                "pattern is for type `text`; the type here is another",
            );
            checks.range(&field("pattern"), "bytes", pattern.len(), 1, PATTERN_BYTES_MAX);
            let fault = whole(pattern).err().map(|why| why.to_string());
            checks.that(fault.is_none(), &field("pattern"), &said(fault));
        }
        if let Some(default) = &self.default {
            checks.that(
                !self.required,
                &field("required"),
                "required is true beside a default: nobody would ever have to give a value",
            );
            let fault = self.refuses(default);
            checks.that(fault.is_none(), &field("default"), &said(fault));
        }
    }
}

fn said(fault: Option<String>) -> String {
    fault.unwrap_or_default()
}

/// `pattern` as it must match the whole of a text.
fn whole(pattern: &str) -> Result<regex::Regex, regex::Error> {
    RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_SIZE_MAX).build()
}

/// Every fault of a program's declarations. `at` is their field.
pub(crate) fn check(declared: &BTreeMap<ParameterName, Parameter>, at: &str, checks: &mut Checks) {
    checks.range(at, "parameters", declared.len(), 0, PARAMETERS_MAX);
    let mut variables = BTreeMap::new();
    for (name, parameter) in declared {
        let field = format!("{at}.{name}");
        if let Some(other) = variables.insert(name.variable(), name) {
            let detail = format!("`{name}` and `{other}` would both be {}", name.variable());
            checks.that(false, &field, &detail);
        }
        parameter.check(&field, checks);
    }
}

/// The values that a program runs with: those `given`, else the defaults. Every fault names the
/// parameter below `at`.
pub fn resolve(
    declared: &BTreeMap<ParameterName, Parameter>,
    given: &Values,
    at: &str,
) -> Result<Values, Vec<Problem>> {
    let mut checks = Checks::new();
    let mut values = Values::new();
    for (name, value) in given {
        let fault = match declared.get(name) {
            Some(parameter) => parameter.refuses(value),
            None => Some(format!("is no parameter of the program, which has {}", list(declared))),
        };
        checks.that(fault.is_none(), &format!("{at}.{name}"), &said(fault));
        values.insert(name.clone(), value.clone());
    }
    for (name, parameter) in declared {
        let missing = parameter.required && !given.contains_key(name);
        checks.that(!missing, &format!("{at}.{name}"), "is required and has no value");
        if let (Some(default), false) = (&parameter.default, values.contains_key(name)) {
            values.insert(name.clone(), default.clone());
        }
    }
    let problems = checks.finish();
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn list(declared: &BTreeMap<ParameterName, Parameter>) -> String {
    match declared.is_empty() {
        true => "none".to_owned(),
        false => declared.keys().map(ParameterName::as_str).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared() -> BTreeMap<ParameterName, Parameter> {
        serde_json::from_value(json!({
            "mode": {"type": "choice", "choices": ["full", "small"], "default": "small"},
            "port": {"type": "number"},
            "host": {"pattern": "[a-z0-9.]+", "required": true},
            "quiet": {"type": "flag"},
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(given: serde_json::Value, expected: Result<&str, &str>) {
        let given: Values = serde_json::from_value(given).unwrap();
        let shown = |values: Values| {
            let one = |(name, value): (&ParameterName, &Value)| format!("{name}={value}");
            values.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        let found = resolve(&declared(), &given, "spec.parameters").map(shown);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(problems), Err(said)) => {
                let text = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
                assert!(text.contains(said), "{text}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn values_that_the_declaration_allows_stand_beside_its_defaults() {
        check(json!({"host": "a.b"}), Ok("host=a.b mode=small"));
        let all = json!({"host": "a", "mode": "full", "port": -7, "quiet": true});
        check(all, Ok("host=a mode=full port=-7 quiet=true"));
    }

    #[test]
    fn what_the_declaration_does_not_allow_is_refused_with_the_reason() {
        check(json!({}), Err("spec.parameters.host: is required"));
        check(json!({"host": "a; rm -rf /"}), Err("takes what matches `[a-z0-9.]+`"));
        check(json!({"host": "a\nb"}), Err("on one line"));
        check(json!({"host": "x".repeat(1025)}), Err("at most 1024 bytes"));
        check(json!({"host": 1}), Err("takes a text, not `1`; put it in quotes"));
        check(json!({"host": "a", "mode": "huge"}), Err("one of full, small, not `huge`"));
        check(json!({"host": "a", "port": "x"}), Err("takes a whole number"));
        check(json!({"host": "a", "quiet": "yes"}), Err("takes true or false"));
        check(json!({"host": "a", "colour": "red"}), Err("which has host, mode, port, quiet"));
    }

    #[test]
    fn a_pattern_holds_for_the_whole_text_whatever_it_says_itself() {
        let parameter = Parameter { pattern: Some("a|b".to_owned()), ..Parameter::default() };
        assert_eq!(parameter.refuses(&Value::Text("a".to_owned())), None);
        assert!(parameter.refuses(&Value::Text("axb".to_owned())).is_some());
    }

    #[track_caller]
    fn refused(declared: serde_json::Value, field: &str, said: &str) {
        let declared = serde_json::from_value(declared).unwrap();
        let mut checks = Checks::new();
        super::check(&declared, "parameters", &mut checks);
        let found = checks.finish();
        let known = found.iter().any(|p| p.field == field && p.detail.contains(said));
        assert!(known, "{found:#?}");
    }

    #[test]
    fn declarations_that_can_never_work_are_refused() {
        refused(json!({"a": {"type": "choice"}}), "parameters.a.choices", "1 to 256");
        refused(json!({"a": {"choices": ["x"]}}), "parameters.a.choices", "0 to 0");
        refused(json!({"a": {"pattern": "("}}), "parameters.a.pattern", "unclosed group");
        refused(json!({"a": {"type": "flag", "pattern": "x"}}), "parameters.a.pattern", "`text`");
        refused(json!({"a": {"default": 1}}), "parameters.a.default", "takes a text");
        let both = json!({"a": {"default": "x", "required": true}});
        refused(both, "parameters.a.required", "beside a default");
        refused(json!({"a": {}, "A": {}}), "parameters.a", "MUSTER_PARAM_A");
    }

    #[test]
    fn a_name_is_one_of_the_environment() {
        assert_eq!("dir_2".parse::<ParameterName>().unwrap().variable(), "MUSTER_PARAM_DIR_2");
        for text in ["", "2a", "a-b", "a b", "ä", &"x".repeat(65)] {
            assert!(text.parse::<ParameterName>().is_err(), "{text:?}");
        }
    }
}
