//! The words of a rule, and the text of literals: CEL's lexical rules.

use std::fmt;

use super::Comparison;
use super::parse::BadRule;

/// One word of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Dot,
    Not,
    And,
    Or,
    Compares(Comparison),
    Identifier(String),
    Number(i64),
    Text(String),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Open => f.write_str("`(`"),
            Token::Close => f.write_str("`)`"),
            Token::Dot => f.write_str("`.`"),
            Token::Not => f.write_str("`!`"),
            Token::And => f.write_str("`&&`"),
            Token::Or => f.write_str("`||`"),
            Token::Compares(how) => write!(f, "`{}`", how.sign()),
            Token::Identifier(name) => write!(f, "`{name}`"),
            Token::Number(number) => write!(f, "`{number}`"),
            Token::Text(_) => f.write_str("a text"),
            Token::End => f.write_str("the end"),
        }
    }
}

/// Splits `text` into words, each with the byte where it starts. Ends with [`Token::End`].
pub(super) fn split(text: &str) -> Result<Vec<(usize, Token)>, BadRule> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push((start, token));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn bad<T>(&self, at: usize, what: impl Into<String>) -> Result<T, BadRule> {
        Err(BadRule::new(self.text, at, what.into()))
    }

    /// Blanks, and comments from `//` to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks =
                rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
            self.at += blanks;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Result<Token, BadRule> {
        const SIGNS: [(&str, Token); 12] = [
            ("&&", Token::And),
            ("||", Token::Or),
            ("==", Token::Compares(Comparison::Equal)),
            ("!=", Token::Compares(Comparison::NotEqual)),
            ("<=", Token::Compares(Comparison::LessOrEqual)),
            (">=", Token::Compares(Comparison::GreaterOrEqual)),
            ("<", Token::Compares(Comparison::Less)),
            (">", Token::Compares(Comparison::Greater)),
            ("!", Token::Not),
            ("(", Token::Open),
            (")", Token::Close),
            (".", Token::Dot),
        ];
        let rest = self.rest();
        if let Some((sign, token)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(token.clone());
        }
        match rest.chars().next() {
            None => Ok(Token::End),
            Some('\'' | '"') => self.text_literal(false),
            Some('r' | 'R') if rest[1..].starts_with(['\'', '"']) => {
                self.at += 1;
                self.text_literal(true)
            }
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => Ok(self.identifier()),
            Some('=') => self.bad(self.at, "`=` does not compare; write `==`"),
            Some('&') => self.bad(self.at, "`&` joins nothing; write `&&`"),
            Some('|') => self.bad(self.at, "`|` joins nothing; write `||`"),
            Some(other) => self.bad(
                self.at,
                format!(
                    "{other:?} has no meaning here; allowed are == != < <= > >= && || ! ( ) texts, whole \
                     numbers, true, false and device.NAME"
                ),
            ),
        }
    }

    fn identifier(&mut self) -> Token {
        let rest = self.rest();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        self.at += end;
        Token::Identifier(rest[..end].to_owned())
    }

    /// A whole number of 64 bits, decimal or `0x`; CEL's other numbers are refused.
    fn number(&mut self) -> Result<Token, BadRule> {
        let start = self.at;
        let rest = self.rest();
        let (negative, digits) = match rest.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", rest),
        };
        let end =
            digits.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(digits.len());
        let digits = &digits[..end];
        self.at += negative.len() + end;
        let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(hex) if !hex.starts_with(['+', '-']) => {
                i64::from_str_radix(&format!("{negative}{hex}"), 16)
            }
            _ => format!("{negative}{digits}").parse(),
        };
        match parsed {
            Ok(number) => Ok(Token::Number(number)),
            Err(_) => self.bad(start, "a number is a whole one of 64 bits, like 42, -7 or 0xff"),
        }
    }

    /// A text in single or double quotes on one line; raw if an `r` stood in front.
    fn text_literal(&mut self, raw: bool) -> Result<Token, BadRule> {
        let start = self.at;
        let Some(quote) = self.rest().chars().next() else {
            return self.bad(start, "a text begins with a quote");
        };
        if self.rest().starts_with(&String::from(quote).repeat(3)) {
            return self
                .bad(start, "triple quotes are not allowed; write the text in one pair of quotes");
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            let Some(c) = self.rest().chars().next() else {
                return self.bad(start, "the text is never closed");
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(Token::Text(text)),
                '\n' | '\r' => {
                    return self.bad(at, "a text ends on its line; write a line end as \\n");
                }
                '\\' if !raw => text.push(self.escape(at)?),
                c => text.push(c),
            }
        }
    }

    /// What follows a backslash at byte `at`.
    fn escape(&mut self, at: usize) -> Result<char, BadRule> {
        const KNOWN: &str = "an escape is one of \\\\ \\' \\\" \\` \\? \\a \\b \\f \\n \\r \\t \\v \\xHH \\uHHHH \
                             \\UHHHHHHHH \\OOO";
        let Some(c) = self.rest().chars().next() else { return self.bad(at, KNOWN) };
        self.at += c.len_utf8();
        let (skip_back, length, radix) = match c {
            '\\' | '\'' | '"' | '`' | '?' => return Ok(c),
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            'x' | 'X' => (0, 2, 16),
            'u' => (0, 4, 16),
            'U' => (0, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return self.bad(at, KNOWN),
        };
        self.at -= skip_back;
        let digits = self.rest().get(..length).filter(|d| d.chars().all(|c| c.is_digit(radix)));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += length;
                Ok(c)
            }
            None => {
                self.bad(at, format!("this escape needs {length} digits of a character; {KNOWN}"))
            }
        }
    }
}

/// Writes `text` as a literal that reads back.
pub(super) fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    for c in text.chars() {
        match c {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\U{:08x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("'")
}
