//! Rules over a device's facts: a small, strict part of CEL, three-valued, so that what is not known
//! never holds. Collections mean machines by them, programs say which machines they are for.
//!
//! ```text
//! or    := and ('||' and)*
//! and   := equal ('&&' equal)*
//! equal := unary (('==' | '!=' | '<' | '<=' | '>' | '>=') unary)?
//! unary := '!' unary | '(' or ')' | literal | 'device' '.' NAME
//! ```
//!
//! Syntax, escapes and precedence are CEL's (cel-spec, langdef.md). Whatever else CEL has (chained
//! comparisons, macros, functions, other numbers) is refused with its position, so that a later version
//! can give it its CEL meaning. A value is unknown where CEL has an error: a fact is missing, or kinds
//! do not fit (`1 == 'a'`, `!'a'`). `&&` and `||` absorb unknowns from either side, as CEL's absorb
//! errors: Kleene's strong logic.
//!
//! The parser is our own: the `cel` crate brings the whole language, which would have to be refused again
//! construct by construct, and its errors cannot say what is allowed here.

mod lex;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::facts::Fact;

pub use parse::BadRule;

/// How deep parentheses and `!` may nest: far beyond what a person reads, far below what a stack
/// holds.
pub const RULE_DEPTH_MAX: usize = 64;

/// A rule, parsed. Its length is limited where specs are read
/// ([`crate::collection::QUERY_BYTES_MAX`],
/// [`crate::package::REQUIREMENTS_BYTES_MAX`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    root: Expr,
}

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    Literal(Fact),
    Fact(String),
    Not(Box<Expr>),
    Compare {
        how: Comparison,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// Two or more operands, so that a long chain needs no deep stack.
    And(Vec<Expr>),
    /// As `And`.
    Or(Vec<Expr>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of Kleene's logic. The order is the order of truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Certainly not.
    No,
    /// A fact is missing, or kinds do not fit.
    Unknown,
    /// Certainly.
    Yes,
}

impl Truth {
    /// Both: the lesser of the two.
    pub fn and(self, other: Truth) -> Truth {
        self.min(other)
    }

    /// Either: the greater of the two.
    pub fn or(self, other: Truth) -> Truth {
        self.max(other)
    }

    /// Yes and no change places; unknown stays.
    #[expect(
        clippy::should_implement_trait,
        reason = "beside `and` and `or`, which have no operator"
    )]
    pub fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
            Truth::Yes => Truth::No,
        }
    }
}

impl From<bool> for Truth {
    fn from(yes: bool) -> Self {
        if yes { Truth::Yes } else { Truth::No }
    }
}

impl Rule {
    /// Reads a rule. Facts other than `os`, `arch`, `name` and `agentVersion` are those that a device
    /// adds (`facts.d`); a name that no device has is unknown everywhere.
    pub fn parse(text: &str) -> Result<Self, BadRule> {
        parse::parse(text).map(|root| Self { root })
    }

    /// Whether the rule holds where `fact` answers the device's facts.
    pub fn holds(&self, fact: &dyn Fn(&str) -> Option<Fact>) -> Truth {
        truth(&self.root, fact)
    }

    /// The names of the facts that the rule looks at, each once.
    pub fn facts(&self) -> Vec<&str> {
        let mut names = Vec::new();
        collect(&self.root, &mut names);
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn truth(expr: &Expr, fact: &dyn Fn(&str) -> Option<Fact>) -> Truth {
    match expr {
        Expr::And(all) => all.iter().fold(Truth::Yes, |sofar, expr| sofar.and(truth(expr, fact))),
        Expr::Or(any) => any.iter().fold(Truth::No, |sofar, expr| sofar.or(truth(expr, fact))),
        Expr::Not(inner) => truth(inner, fact).not(),
        Expr::Compare { how, left, right } => match (value(left, fact), value(right, fact)) {
            (Some(left), Some(right)) => how.compare(&left, &right),
            _ => Truth::Unknown,
        },
        Expr::Literal(_) | Expr::Fact(_) => match value(expr, fact) {
            Some(Fact::Flag(flag)) => flag.into(),
            _ => Truth::Unknown,
        },
    }
}

/// The value of an operand; `None` is unknown.
fn value(expr: &Expr, fact: &dyn Fn(&str) -> Option<Fact>) -> Option<Fact> {
    match expr {
        Expr::Literal(literal) => Some(literal.clone()),
        Expr::Fact(name) => fact(name),
        logical => match truth(logical, fact) {
            Truth::Yes => Some(Fact::Flag(true)),
            Truth::No => Some(Fact::Flag(false)),
            Truth::Unknown => None,
        },
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    /// Numbers by value, texts by code points, false before true, as CEL orders them; values of two
    /// kinds have no order.
    fn compare(self, left: &Fact, right: &Fact) -> Truth {
        let order = match (left, right) {
            (Fact::Flag(left), Fact::Flag(right)) => left.cmp(right),
            (Fact::Number(left), Fact::Number(right)) => left.cmp(right),
            (Fact::Text(left), Fact::Text(right)) => left.cmp(right),
            _ => return Truth::Unknown,
        };
        let holds = match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        };
        holds.into()
    }
}

fn collect<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::Literal(_) => {}
        Expr::Fact(name) => names.push(name),
        Expr::Not(inner) => collect(inner, names),
        Expr::Compare { left, right, .. } => {
            collect(left, names);
            collect(right, names);
        }
        Expr::And(list) | Expr::Or(list) => list.iter().for_each(|expr| collect(expr, names)),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

/// Prints with the fewest parentheses that read back to the same expression.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Literal(Fact::Flag(flag)) => write!(f, "{flag}"),
            Expr::Literal(Fact::Number(number)) => write!(f, "{number}"),
            Expr::Literal(Fact::Text(text)) => lex::write_text(f, text),
            Expr::Fact(name) => write!(f, "device.{name}"),
            Expr::Not(inner) => {
                f.write_str("!")?;
                write_operand(f, inner, UNARY)
            }
            Expr::Compare { how, left, right } => {
                write_operand(f, left, UNARY)?;
                write!(f, " {} ", how.sign())?;
                write_operand(f, right, UNARY)
            }
            Expr::And(list) => write_list(f, list, " && ", COMPARE),
            Expr::Or(list) => write_list(f, list, " || ", AND),
        }
    }
}

const AND: u8 = 2;
const COMPARE: u8 = 3;
const UNARY: u8 = 4;

fn binding(expr: &Expr) -> u8 {
    match expr {
        Expr::Or(_) => 1,
        Expr::And(_) => AND,
        Expr::Compare { .. } => COMPARE,
        Expr::Not(_) | Expr::Literal(_) | Expr::Fact(_) => UNARY,
    }
}

fn write_operand(f: &mut fmt::Formatter<'_>, expr: &Expr, least: u8) -> fmt::Result {
    if binding(expr) < least { write!(f, "({expr})") } else { write!(f, "{expr}") }
}

fn write_list(f: &mut fmt::Formatter<'_>, list: &[Expr], sign: &str, least: u8) -> fmt::Result {
    for (i, expr) in list.iter().enumerate() {
        if i > 0 {
            f.write_str(sign)?;
        }
        write_operand(f, expr, least)?;
    }
    Ok(())
}
