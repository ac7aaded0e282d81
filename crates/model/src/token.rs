//! Enrolment tokens: a secret that lets somebody in, beside the pins of what it lets into.
//!
//! Written `muster1.` and base64url of a small JSON object. The site stores only the digest of the
//! secret. The pins are not secret; they make the first contact as sure as every later one: no trust
//! on first use.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::TokenId;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "muster1.";
/// The longest token text. A whole token has about 350 characters.
pub const TOKEN_CHARS_MAX: usize = 1024;
/// The longest secret, in characters.
const SECRET_CHARS_MAX: usize = 128;

/// A token as its bearer holds it. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Which token.
    pub id: TokenId,
    /// 128 random bits, hex: what the bearer knows.
    pub secret: String,
    /// The digest of the public key (SubjectPublicKeyInfo) of the site's CA.
    pub ca: Digest,
    /// The newest trust document at the time the token was made; `None` while there was none.
    pub trust: Option<TrustPin>,
}

/// The pin of a trust document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustPin {
    /// Its number.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
}

/// Text that is not a token. Does not repeat the text: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a token: it begins with `{TOKEN_PREFIX}` and is printed whole by `muster token create`"
)]
pub struct NotAToken;

/// The JSON inside: short names, because people copy tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    i: TokenId,
    s: String,
    c: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<Digest>,
    #[serde(default, skip_serializing_if = "is_zero")]
    n: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Token {
    /// What travels to the site: id and secret, without the pins.
    pub fn claim(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// What the site stores of a secret.
    pub fn secret_digest(secret: &str) -> Digest {
        Digest::of_parts("muster/token-secret/v1", &[secret.as_bytes()])
    }

    /// Splits what [`Token::claim`] wrote.
    pub fn read_claim(claim: &str) -> Result<(TokenId, String), NotAToken> {
        let (id, secret) = claim.split_once('.').ok_or(NotAToken)?;
        let id = id.parse().map_err(|_| NotAToken)?;
        if secret.is_empty() || secret.len() > SECRET_CHARS_MAX {
            return Err(NotAToken);
        }
        Ok((id, secret.to_owned()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = Body {
            i: self.id,
            s: self.secret.clone(),
            c: self.ca,
            t: self.trust.map(|pin| pin.digest),
            n: self.trust.map_or(0, |pin| pin.number),
        };
        let json = serde_json::to_vec(&body).map_err(|_| fmt::Error)?;
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
        let encoded = text.strip_prefix(TOKEN_PREFIX).ok_or(NotAToken)?;
        if text.len() > TOKEN_CHARS_MAX {
            return Err(NotAToken);
        }
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotAToken)?;
        let body: Body = serde_json::from_slice(&json).map_err(|_| NotAToken)?;
        let trust = body.t.map(|digest| TrustPin { number: body.n, digest });
        let token = Token { id: body.i, secret: body.s, ca: body.c, trust };
        Token::read_claim(&token.claim())?;
        Ok(token)
    }
}

crate::text_serde!(Token);

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: TokenId(uuid::Uuid::from_u128(5)),
            secret: "s3cret".into(),
            ca: Digest::of(b"ca"),
            trust: Some(TrustPin { number: 3, digest: Digest::of(b"trust") }),
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
    fn what_travels_holds_no_pin_and_reads_back() {
        let token = token();
        assert_eq!(Token::read_claim(&token.claim()), Ok((token.id, "s3cret".to_owned())));
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
