//! Words to expressions: one function per level of the grammar.

use std::fmt;

use crate::facts::Fact;

use super::lex::{Token, split};
use super::{Expr, RULE_DEPTH_MAX};

/// Text that is not a rule: where, what, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRule {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub what: String,
    /// The line itself.
    pub excerpt: String,
}

impl std::error::Error for BadRule {}

/// Characters of the faulty line that are shown.
const EXCERPT_CHARS_MAX: usize = 200;

impl BadRule {
    pub(super) fn new(text: &str, at: usize, what: String) -> Self {
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: text[line_start..at].chars().count() + 1,
            what,
            excerpt: line.chars().take(EXCERPT_CHARS_MAX).collect(),
        }
    }
}

/// Two further lines point at the fault.
impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)?;
        if self.column <= EXCERPT_CHARS_MAX {
            write!(f, "\n  {}\n  {:>2$}", self.excerpt, '^', self.column)?;
        }
        Ok(())
    }
}

pub(super) fn parse(text: &str) -> Result<Expr, BadRule> {
    let mut parser = Parser { text, tokens: split(text)?, at: 0, depth: 0 };
    let expr = parser.or()?;
    match parser.peek() {
        Token::End => Ok(expr),
        Token::Close => parser.bad("this `)` closes nothing"),
        other => parser.bad(format!("expected `&&`, `||`, a comparison or the end, found {other}")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // `split` ends with `End`, and nothing moves past it.
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn takes(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.take();
        }
        found
    }

    fn bad<T>(&self, what: impl Into<String>) -> Result<T, BadRule> {
        let at = self.tokens.get(self.at).map_or(self.text.len(), |(at, _)| *at);
        Err(BadRule::new(self.text, at, what.into()))
    }

    fn or(&mut self) -> Result<Expr, BadRule> {
        let first = self.and()?;
        let mut list = vec![first];
        while self.takes(&Token::Or) {
            list.push(self.and()?);
        }
        Ok(single_or(list, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, BadRule> {
        let first = self.compare()?;
        let mut list = vec![first];
        while self.takes(&Token::And) {
            list.push(self.compare()?);
        }
        Ok(single_or(list, Expr::And))
    }

    fn compare(&mut self) -> Result<Expr, BadRule> {
        let left = self.unary()?;
        let Token::Compares(how) = *self.peek() else { return Ok(left) };
        self.take();
        let right = self.unary()?;
        if matches!(self.peek(), Token::Compares(_)) {
            return self.bad("comparisons do not chain; put one side in parentheses");
        }
        Ok(Expr::Compare { how, left: Box::new(left), right: Box::new(right) })
    }

    fn unary(&mut self) -> Result<Expr, BadRule> {
        self.depth += 1;
        if self.depth > RULE_DEPTH_MAX {
            return self.bad(format!(
                "nested too deep; parentheses and `!` nest at most {RULE_DEPTH_MAX} deep (RULE_DEPTH_MAX)"
            ));
        }
        let expr = match self.peek() {
            Token::Not => {
                self.take();
                self.unary().map(|inner| Expr::Not(Box::new(inner)))
            }
            Token::Open => self.parenthesis(),
            _ => self.operand(),
        };
        self.depth -= 1;
        expr
    }

    fn parenthesis(&mut self) -> Result<Expr, BadRule> {
        self.take();
        let inner = self.or()?;
        if !self.takes(&Token::Close) {
            return self.bad(format!("expected `)`, found {}", self.peek()));
        }
        Ok(inner)
    }

    fn operand(&mut self) -> Result<Expr, BadRule> {
        let expr = match self.peek() {
            Token::Text(text) => Expr::Literal(Fact::Text(text.clone())),
            Token::Number(number) => Expr::Literal(Fact::Number(*number)),
            Token::Identifier(name) => match name.as_str() {
                "true" => Expr::Literal(Fact::Flag(true)),
                "false" => Expr::Literal(Fact::Flag(false)),
                "device" => return self.fact(),
                other => {
                    let what = format!(
                        "`{other}` is not known here; facts are written device.NAME, texts in quotes"
                    );
                    return self.bad(what);
                }
            },
            other => {
                let what = format!(
                    "expected device.NAME, a text in quotes, a number, true, false, `!` or `(`, found {other}"
                );
                return self.bad(what);
            }
        };
        self.take();
        Ok(expr)
    }

    fn fact(&mut self) -> Result<Expr, BadRule> {
        self.take();
        if !self.takes(&Token::Dot) {
            return self.bad("a fact is written device.NAME, for example device.os");
        }
        let Token::Identifier(name) = self.peek().clone() else {
            return self.bad(format!("expected the name of a fact, found {}", self.peek()));
        };
        self.take();
        match self.peek() {
            Token::Dot => self.bad("facts have no parts; a fact is written device.NAME"),
            Token::Open => self.bad("functions are not allowed in rules"),
            _ => Ok(Expr::Fact(name)),
        }
    }
}

/// The one operand itself, or the list.
fn single_or(mut list: Vec<Expr>, make: impl Fn(Vec<Expr>) -> Expr) -> Expr {
    match (list.len(), list.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            list.extend(last);
            make(list)
        }
    }
}
