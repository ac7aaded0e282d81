//! What `muster wait --for` waits for: `complete`, `settled`, `succeeded>=95%`, `failed=0`, `silent<10`.

use std::fmt;
use std::str::FromStr;

use muster_model::state::Word;

use crate::accounting::Accounting;

/// A condition over an accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// [`Accounting::is_complete`].
    Complete,
    /// [`Accounting::is_settled`].
    Settled,
    /// A count held against a number.
    Count {
        /// Of what.
        of: Counted,
        /// How.
        comparison: Comparison,
        /// Against how many.
        than: Amount,
    },
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the marks are documented at `MarkCounts`")]
pub enum Counted {
    /// Devices in a state.
    State(Word),
    Silent,
    Overdue,
    Disputed,
}

/// How two numbers are held against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are their signs")]
pub enum Comparison {
    AtLeast,
    AtMost,
    NotEqual,
    More,
    Fewer,
    Equal,
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many devices.
    Devices(u64),
    /// So many of a hundred targeted devices.
    Percent(u8),
}

/// Longest first, so that `>=` is not read as `>`.
const SIGNS: [(&str, Comparison); 7] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    (">", Comparison::More),
    ("<", Comparison::Fewer),
    ("=", Comparison::Equal),
];

/// Text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCondition {
    /// Neither a word nor a comparison.
    #[error(
        "a condition is `complete`, `settled`, or a state or mark with a number, like \
         `succeeded>=95%` or `failed=0`, not {0:?}"
    )]
    Shape(String),
    /// Neither a state nor a mark.
    #[error(
        "{0:?} is neither a state nor a mark; states: {states}; marks: silent, overdue, disputed",
        states = states()
    )]
    Counted(String),
    /// Not a number of devices or a percentage.
    #[error("{0:?} is not a whole number of devices or a percentage from 0% to 100%")]
    Amount(String),
}

fn states() -> String {
    Word::ALL.map(Word::as_str).join(", ")
}

impl Condition {
    /// Whether `accounting` fulfils it.
    pub fn is_met(&self, accounting: &Accounting) -> bool {
        let Condition::Count { of, comparison, than } = self else {
            return match self {
                Condition::Complete => accounting.is_complete(),
                _ => accounting.is_settled(),
            };
        };
        let count = match of {
            Counted::State(word) => accounting.states.get(word).copied().unwrap_or(0),
            Counted::Silent => accounting.marks.silent,
            Counted::Overdue => accounting.marks.overdue,
            Counted::Disputed => accounting.marks.disputed,
        };
        // Both sides times a hundred, so that no percentage is rounded.
        let (count, than) = match than {
            Amount::Devices(devices) => (u128::from(count), u128::from(*devices)),
            Amount::Percent(percent) => {
                (u128::from(count) * 100, u128::from(*percent) * u128::from(accounting.targeted))
            }
        };
        match comparison {
            Comparison::AtLeast => count >= than,
            Comparison::AtMost => count <= than,
            Comparison::NotEqual => count != than,
            Comparison::More => count > than,
            Comparison::Fewer => count < than,
            Comparison::Equal => count == than,
        }
    }
}

impl FromStr for Condition {
    type Err = BadCondition;
    fn from_str(text: &str) -> Result<Self, BadCondition> {
        match text.trim() {
            "complete" => return Ok(Self::Complete),
            "settled" => return Ok(Self::Settled),
            _ => {}
        }
        let split = |(sign, comparison): &(&str, Comparison)| {
            text.split_once(sign).map(|(left, right)| (left.trim(), *comparison, right.trim()))
        };
        let shape = || BadCondition::Shape(text.chars().take(80).collect());
        let (of, comparison, than) = SIGNS.iter().find_map(split).ok_or_else(shape)?;
        Ok(Self::Count { of: of.parse()?, comparison, than: than.parse()? })
    }
}

impl FromStr for Counted {
    type Err = BadCondition;
    fn from_str(text: &str) -> Result<Self, BadCondition> {
        Ok(match text {
            "silent" => Self::Silent,
            "overdue" => Self::Overdue,
            "disputed" => Self::Disputed,
            state => Self::State(
                state
                    .parse()
                    .map_err(|_| BadCondition::Counted(text.chars().take(40).collect()))?,
            ),
        })
    }
}

impl FromStr for Amount {
    type Err = BadCondition;
    fn from_str(text: &str) -> Result<Self, BadCondition> {
        let refuse = || BadCondition::Amount(text.chars().take(40).collect());
        match text.strip_suffix('%') {
            Some(percent) => percent
                .trim_end()
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Self::Percent)
                .ok_or_else(refuse),
            None => text.parse().map(Self::Devices).map_err(|_| refuse()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Complete => f.write_str("complete"),
            Condition::Settled => f.write_str("settled"),
            Condition::Count { of, comparison, than } => {
                match of {
                    Counted::State(word) => write!(f, "{word}")?,
                    Counted::Silent => f.write_str("silent")?,
                    Counted::Overdue => f.write_str("overdue")?,
                    Counted::Disputed => f.write_str("disputed")?,
                }
                let sign = SIGNS.iter().rev().find(|(_, one)| one == comparison);
                f.write_str(sign.map_or("=", |(sign, _)| sign))?;
                match than {
                    Amount::Devices(devices) => write!(f, "{devices}"),
                    Amount::Percent(percent) => write!(f, "{percent}%"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::{Counts, MarkCounts, summary};

    /// 19 of 20 succeeded, one failed.
    #[track_caller]
    fn check(text: &str, expected: bool) {
        let counts = Counts([(Word::Succeeded, 19), (Word::Failed, 1)].into());
        let accounting = summary(20, 20, &counts, MarkCounts::default()).unwrap();
        let condition: Condition = text.parse().unwrap();
        assert_eq!(condition.is_met(&accounting), expected, "{text}");
        assert_eq!(condition.to_string().parse(), Ok(condition));
    }

    #[test]
    fn conditions_hold_or_not() {
        check("complete", true);
        check("settled", true);
        check("succeeded>=95%", true);
        check("succeeded > 95%", false);
        check("succeeded>=19", true);
        check("failed=0", false);
        check("failed==1", true);
        check("failed!=1", false);
        check("waiting<1", true);
        check("failed<=5%", true);
        check("silent=0", true);
        check("not-applicable=0", true);
    }

    #[test]
    fn nobody_targeted_is_every_percentage() {
        let nobody = Accounting::default();
        assert!("succeeded>=95%".parse::<Condition>().unwrap().is_met(&nobody));
        assert!(Condition::Complete.is_met(&nobody));
    }

    #[test]
    fn refusals_say_what_is_allowed() {
        let refusal = |text: &str| text.parse::<Condition>().unwrap_err().to_string();
        assert!(refusal("done").contains("`complete`, `settled`"));
        assert!(refusal("done=1").contains("not-applicable"));
        assert!(refusal("failed=101%").contains("0% to 100%"));
        assert!(refusal("failed=-1").contains("whole number"));
        assert!(refusal("failed=").contains("whole number"));
    }
}
