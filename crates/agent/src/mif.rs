//! Reads a status MIF: how a program says in the format of the DMTF whether it succeeded.
//!
//! ```text
//! START COMPONENT
//!   NAME = "WORKSTATION"
//!   START GROUP
//!     NAME = "ComponentID"  ID = 1  CLASS = "DMTF|ComponentID|1.0"
//!     START ATTRIBUTE  NAME = "Product"  ID = 2  TYPE = STRING(64)  VALUE = "hello"  END ATTRIBUTE
//!     ...
//!   END GROUP
//!   START GROUP
//!     NAME = "InstallStatus"  ID = 2  CLASS = "MICROSOFT|JOBSTATUS|1.0"
//!     START ATTRIBUTE  NAME = "Status"  ID = 1  TYPE = STRING(32)  VALUE = "Success"  END ATTRIBUTE
//!     START ATTRIBUTE  NAME = "Description"  ID = 2  TYPE = STRING(128)  VALUE = "..."  END ATTRIBUTE
//!   END GROUP
//! END COMPONENT
//! ```
//!
//! The grammar is that of the DMI specification 2.0s (DSP0001), section 3: keywords in any case, `//`
//! comments, literals with C's escapes that may be continued by another literal, ISO 8859-1 or
//! Unicode with a byte order mark. Blocks that say nothing here (enums, tables, paths) are passed
//! over. Called by the supervisor on whatever a program left behind: no bytes are a panic, and every
//! loop goes forward through them.

use std::collections::BTreeMap;

/// The group that says how it went.
const STATUS_CLASS: &str = "MICROSOFT|JOBSTATUS|1.0";
/// The group that says what it is about.
const COMPONENT_CLASS: &str = "DMTF|ComponentID|1.0";
/// How deep blocks nest: a component, a group, an attribute, its enumeration, and room.
const DEPTH_MAX: usize = 16;
/// The bytes that every MIF may begin with, so that it is not taken for JSON.
const MARKS: [&[u8]; 3] = [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"];

/// What a status MIF says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatusMif {
    /// Success or failure.
    pub(crate) succeeded: bool,
    /// A line for people.
    pub(crate) description: String,
    /// The product that it says it is about; empty if it does not say.
    pub(crate) product: String,
    /// Its version; empty if it does not say.
    pub(crate) version: String,
}

/// Why some bytes are no status MIF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAStatusMif {
    /// The grammar is broken.
    #[error("line {line}: {what}")]
    Grammar {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is no group of the status class, or it has no `Status`.
    #[error("it has no group {STATUS_CLASS} with an attribute Status")]
    NoStatus,
    /// The status is another word.
    #[error("its Status is {0:?}, neither Success nor Failed")]
    OtherStatus(String),
}

/// Whether `bytes` begin like a MIF rather than like a JSON document.
pub(crate) fn looks_like_one(bytes: &[u8]) -> bool {
    let text = decode(bytes);
    let mut lexer = Lexer::new(&text);
    matches!(lexer.next(), Ok(Token::Word(word)) if word == "START")
        || (MARKS.iter().any(|mark| bytes.starts_with(mark)) && !text.trim_start().starts_with('{'))
}

/// Reads a status MIF.
pub(crate) fn parse(bytes: &[u8]) -> Result<StatusMif, NotAStatusMif> {
    let text = decode(bytes);
    let groups = groups(&text)?;
    let of = |class: &str| groups.iter().find(|group| group.class.eq_ignore_ascii_case(class));
    let status = of(STATUS_CLASS).ok_or(NotAStatusMif::NoStatus)?;
    let word = status.value("Status").ok_or(NotAStatusMif::NoStatus)?;
    let succeeded = match word {
        word if word.eq_ignore_ascii_case("Success") => true,
        word if word.eq_ignore_ascii_case("Failed") => false,
        other => return Err(NotAStatusMif::OtherStatus(other.chars().take(64).collect())),
    };
    let component = |name| of(COMPONENT_CLASS).and_then(|group| group.value(name)).unwrap_or("");
    Ok(StatusMif {
        succeeded,
        description: status.value("Description").unwrap_or("").to_owned(),
        product: component("Product").to_owned(),
        version: component("Version").to_owned(),
    })
}

/// The attributes of one group, by their names in lower case.
#[derive(Default)]
struct Group {
    class: String,
    values: BTreeMap<String, String>,
}

impl Group {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
}

/// ISO 8859-1, or Unicode if a byte order mark says so. Bytes that are none of it become replacement
/// characters, as they can only stand in literals and comments.
fn decode(bytes: &[u8]) -> String {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // Written by a program of today: what is UTF-8 throughout is not meant as anything else.
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        },
    }
}

/// One word of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A keyword, in capitals, or any other bare word or number.
    Word(String),
    /// A literal, all its continuations together.
    Literal(String),
    Equals,
    /// A bracket or comma: sizes of types and lists of keys, which nothing here needs.
    Other,
    End,
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    fn bad<T>(&self, what: &'static str) -> Result<T, NotAStatusMif> {
        Err(NotAStatusMif::Grammar { line: self.line, what })
    }

    fn advance(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    /// Blanks, and comments from `//` to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let blank = |c: char| c.is_whitespace() || c == '\0' || c == '\u{1a}';
            let blanks = self.rest.len() - self.rest.trim_start_matches(blank).len();
            self.advance(blanks);
            if !self.rest.starts_with("//") {
                return;
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn next(&mut self) -> Result<Token, NotAStatusMif> {
        self.skip_blanks();
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        match first {
            '"' => self.literal(),
            '=' => {
                self.advance(1);
                Ok(Token::Equals)
            }
            c if is_word(c) => {
                let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                let word = self.rest[..length].to_ascii_uppercase();
                self.advance(length);
                Ok(Token::Word(word))
            }
            c => {
                self.advance(c.len_utf8());
                Ok(Token::Other)
            }
        }
    }

    /// A literal, and those that continue it.
    fn literal(&mut self) -> Result<Token, NotAStatusMif> {
        let mut text = String::new();
        while self.rest.starts_with('"') {
            self.advance(1);
            self.piece(&mut text)?;
            self.skip_blanks();
        }
        Ok(Token::Literal(text))
    }

    fn piece(&mut self, text: &mut String) -> Result<(), NotAStatusMif> {
        loop {
            let Some(c) = self.rest.chars().next() else {
                return self.bad("a literal is never closed");
            };
            if c == '\n' {
                return self.bad("a literal ends on its line");
            }
            self.advance(c.len_utf8());
            match c {
                '"' => return Ok(()),
                '\\' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
    }

    /// C's escapes; an unknown one stands for its character.
    fn escape(&mut self) -> Result<char, NotAStatusMif> {
        let Some(c) = self.rest.chars().next() else {
            return self.bad("a literal is never closed");
        };
        let digits = |from: &str, radix, most: usize| {
            from.chars().take(most).take_while(|c| c.is_digit(radix)).count()
        };
        let (skip, length, radix) = match c {
            'x' | 'X' => (1, digits(&self.rest[1..], 16, 4), 16),
            '0'..='7' => (0, digits(self.rest, 8, 3), 8),
            _ => (0, 0, 10),
        };
        if length > 0 {
            let code = u32::from_str_radix(&self.rest[skip..skip + length], radix);
            self.advance(skip + length);
            return Ok(code.ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.advance(c.len_utf8());
        Ok(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            other => other,
        })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')
}

/// Every group of the file, with the values of its attributes.
fn groups(text: &str) -> Result<Vec<Group>, NotAStatusMif> {
    let mut lexer = Lexer::new(text);
    let mut blocks: Vec<String> = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut attribute = (String::new(), String::new());
    loop {
        let word = match lexer.next()? {
            Token::Word(word) => word,
            Token::End if blocks.is_empty() => return Ok(groups),
            Token::End => return lexer.bad("a block is never ended"),
            _ => continue,
        };
        match word.as_str() {
            "START" => {
                let Token::Word(kind) = lexer.next()? else {
                    return lexer.bad("START is followed by the kind of a block");
                };
                match kind.as_str() {
                    "GROUP" => groups.push(Group::default()),
                    "ATTRIBUTE" => attribute = Default::default(),
                    _ => {}
                }
                blocks.push(kind);
                if blocks.len() > DEPTH_MAX {
                    return lexer.bad("blocks nest too deep");
                }
            }
            "END" => {
                let Token::Word(kind) = lexer.next()? else {
                    return lexer.bad("END is followed by the kind of a block");
                };
                if blocks.pop() != Some(kind.clone()) {
                    return lexer.bad("END is of another block than the one that is open");
                }
                if let (true, Some(group)) = (kind == "ATTRIBUTE", groups.last_mut()) {
                    let (name, value) = std::mem::take(&mut attribute);
                    // The first of a name counts, as the lowest id would.
                    group.values.entry(name.to_ascii_lowercase()).or_insert(value);
                }
            }
            "NAME" | "CLASS" | "VALUE" => {
                let Some(value) = assigned(&mut lexer)? else { continue };
                match (blocks.last().map(String::as_str), word.as_str()) {
                    (Some("GROUP"), "CLASS") => {
                        if let Some(group) = groups.last_mut() {
                            group.class = value;
                        }
                    }
                    (Some("ATTRIBUTE"), "NAME") => attribute.0 = value,
                    (Some("ATTRIBUTE"), "VALUE") => attribute.1 = value,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// What is assigned to a statement; `None` if that is not a literal, a word or a number.
fn assigned(lexer: &mut Lexer<'_>) -> Result<Option<String>, NotAStatusMif> {
    if lexer.next()? != Token::Equals {
        return lexer.bad("a statement has no `=`");
    }
    Ok(match lexer.next()? {
        Token::Literal(text) => Some(text),
        Token::Word(word) => Some(word),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
