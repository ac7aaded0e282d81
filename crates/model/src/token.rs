//! Tokens that let somebody in: a secret, and the pins that make the first contact safe.
//!
//! ```text
//! muster1.<base64url of JSON {"i": id, "s": secret, "c": CA pin, "t": trust digest, "n": number}>
//! ```
//!
//! The site stores the secret's digest only. Who holds a token knows which CA and which trust document
//! to believe, so enrolment is safe through an access point or a proxy that nobody trusts.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::TokenId;

/// What every token of this version starts with.
pub const TOKEN_PREFIX: &str = "muster1.";
/// The longest token; a whole one has about 350 characters.
pub const TOKEN_CHARS_MAX: usize = 1024;
/// The longest secret, in characters.
pub const SECRET_CHARS_MAX: usize = 128;

/// A token. Printed by `Display`, which is the only place that shows the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Which one it is at the site.
    #[serde(rename = "i")]
    pub id: TokenId,
    /// The secret.
    #[serde(rename = "s")]
    pub secret: String,
    /// The SHA-256 of the public key of the site's CA.
    #[serde(rename = "c")]
    pub ca_pin: Digest,
    /// The trust document that was the newest when the token was made; `None` if there was none.
    #[serde(rename = "t", default)]
    pub trust: Option<Digest>,
    /// The number of that document; 0 if there was none.
    #[serde(rename = "n", default)]
    pub trust_number: u64,
}

/// Text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token starts with `{TOKEN_PREFIX}` and is copied whole, as `muster token create` prints it")]
pub struct NotAToken;

impl Token {
    /// What the holder presents to the site: id and secret, without the pins, which are the holder's
    /// concern.
    pub fn presented(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Splits what [`Token::presented`] made.
    pub fn split(presented: &str) -> Result<(TokenId, &str), NotAToken> {
        let (id, secret) = presented.split_once('.').ok_or(NotAToken)?;
        let id = id.parse().map_err(|_| NotAToken)?;
        if secret.is_empty() || secret.len() > SECRET_CHARS_MAX {
            return Err(NotAToken);
        }
        Ok((id, secret))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, ..)", self.id)
    }
}

impl FromStr for Token {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        let body = text.strip_prefix(TOKEN_PREFIX).ok_or(NotAToken)?;
        if text.len() > TOKEN_CHARS_MAX {
            return Err(NotAToken);
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| NotAToken)?;
        let token: Token = serde_json::from_slice(&json).map_err(|_| NotAToken)?;
        Token::split(&token.presented())?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: TokenId(uuid::Uuid::from_u128(5)),
            secret: "s3cret".into(),
            ca_pin: Digest::of(b"ca"),
            trust: Some(Digest::of(b"trust")),
            trust_number: 1,
        }
    }

    #[test]
    fn a_token_reads_back_as_printed() {
        let token = token();
        let printed = token.to_string();
        assert_eq!(printed.parse(), Ok(token.clone()));
        assert_eq!(format!("{printed}\n").parse(), Ok(token));
    }

    #[test]
    fn what_is_presented_holds_no_pin_and_reads_back() {
        let token = token();
        assert_eq!(Token::split(&token.presented()), Ok((token.id, "s3cret")));
    }

    #[test]
    fn cut_or_foreign_text_is_refused() {
        let printed = token().to_string();
        for bad in ["", "muster1.", "muster2.AAAA", &printed[..printed.len() - 4], "muster1.!!"] {
            assert_eq!(bad.parse::<Token>(), Err(NotAToken), "{bad}");
        }
        let empty = Token { secret: String::new(), ..token() };
        assert_eq!(empty.to_string().parse::<Token>(), Err(NotAToken));
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        assert!(!format!("{:?}", token()).contains("s3cret"));
    }
}
