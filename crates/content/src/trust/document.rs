//! The trust document: who may publish, in numbered editions that vouch for each other.
//!
//! `muster publisher init|add|revoke|rotate` makes the next [`TrustDocument`]; a site stores and
//! hands out [`SignedTrust`]; [`super::Trust`] decides whom to believe. A document that exists is
//! valid in itself; whether it is the right next one is not its business.

use std::collections::BTreeSet;

use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical};
use crate::envelope::{KeySignature, base64_bytes};

/// The format this code writes, and the only one it reads.
pub const TRUST_FORMAT: u32 = 1;
/// Publishers in one document. A person can still read the list that protects every machine.
pub const PUBLISHERS_MAX: usize = 64;
/// Bytes of one encoded document: 64 publishers with the longest names.
pub const TRUST_BYTES_MAX: usize = 64 * 1024;

/// Somebody who may publish: a name for people, a key for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// Unique in its document.
    pub name: Name,
    /// Unique in its document.
    pub key: PublicKey,
}

/// One numbered edition of the list of publishers. Keeps the exact bytes it was read from or
/// encoded to; its digest is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDocument {
    fields: Fields,
    payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: u32,
    number: u64,
    threshold: u32,
    publishers: Vec<Publisher>,
    previous: Option<Digest>,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// What the next document changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustChange {
    /// One more publisher.
    Add(Publisher),
    /// One publisher less. Packages that only they signed are refused from then on.
    Revoke(Name),
    /// The same publisher with another key.
    Rotate(Publisher),
    /// Another number of signatures for every later document.
    Threshold(u32),
}

/// Why something is not a trust document.
#[derive(Debug, thiserror::Error)]
pub enum NotATrustDocument {
    /// Longer than [`TRUST_BYTES_MAX`].
    #[error("take a trust document of {0} bytes: the most is {TRUST_BYTES_MAX}")]
    TooLong(usize),
    /// Not the canonical encoding of anything.
    #[error("read the trust document")]
    NotCanonical(#[source] NotCanonical),
    /// A format that this version does not know.
    #[error("read a trust document of format {0}: this version reads format {TRUST_FORMAT}")]
    OtherFormat(u32),
    /// A field that is missing, unknown or of another type.
    #[error("read the trust document's fields")]
    Fields(#[source] serde_json::Error),
    /// The value cannot be encoded.
    #[error("encode the trust document")]
    Encode(#[source] serde_json::Error),
    /// Number 0, or no higher number left.
    #[error("number a trust document {0}: numbers start at 1")]
    Number(u64),
    /// Number 1 has one publisher, a threshold of 1 and nothing before it; every other number has
    /// a document before it.
    #[error(
        "take trust document {0}: number 1, and only it, has nothing before it; it names one \
         publisher and has threshold 1"
    )]
    First(u64),
    /// Nobody, or more than [`PUBLISHERS_MAX`].
    #[error("take {0} publishers: allowed are 1 to {PUBLISHERS_MAX}")]
    Publishers(usize),
    /// Zero, or more signatures than there are keys: no document could ever follow.
    #[error(
        "take a threshold of {threshold}: with {publishers} publishers allowed are 1 to \
         {publishers}"
    )]
    Threshold {
        /// The threshold.
        threshold: u32,
        /// Publishers listed.
        publishers: usize,
    },
    /// One name for two publishers.
    #[error("take publisher {0:?}: that name stands twice")]
    NameTwice(Name),
    /// One key under two names would count as two people.
    #[error("take publisher {0:?}: their key stands under another name too")]
    KeyTwice(Name),
    /// Nobody of that name to revoke or to rotate.
    #[error("find publisher {0:?} in the trust document")]
    NoSuchPublisher(Name),
}

impl TrustDocument {
    /// Document number 1: its one publisher vouches for everything later.
    pub fn first(publisher: Publisher) -> Result<Self, NotATrustDocument> {
        Fields {
            format: TRUST_FORMAT,
            number: 1,
            threshold: 1,
            publishers: vec![publisher],
            previous: None,
        }
        .encode()
    }

    /// The document after this one, with `changes` made in order. It still needs the signatures of
    /// [`TrustDocument::threshold`] publishers of *this* one.
    pub fn next(&self, changes: &[TrustChange]) -> Result<Self, NotATrustDocument> {
        let number = self.number().checked_add(1).ok_or(NotATrustDocument::Number(u64::MAX))?;
        let previous = Some(self.digest());
        let mut fields = Fields { number, previous, ..self.fields.clone() };
        for change in changes {
            fields.change(change)?;
        }
        fields.encode()
    }

    /// Reads and checks an encoded document.
    pub fn parse(payload: &[u8]) -> Result<Self, NotATrustDocument> {
        if payload.len() > TRUST_BYTES_MAX {
            return Err(NotATrustDocument::TooLong(payload.len()));
        }
        canonical::check(payload).map_err(NotATrustDocument::NotCanonical)?;
        let Head { format } = serde_json::from_slice(payload).map_err(NotATrustDocument::Fields)?;
        if format != TRUST_FORMAT {
            return Err(NotATrustDocument::OtherFormat(format));
        }
        let fields: Fields = serde_json::from_slice(payload).map_err(NotATrustDocument::Fields)?;
        fields.check()?;
        Ok(Self { fields, payload: payload.to_vec() })
    }

    /// Its place in the chain, from 1.
    pub fn number(&self) -> u64 {
        self.fields.number
    }

    /// How many distinct keys of this document must sign the next one.
    pub fn threshold(&self) -> usize {
        self.fields.threshold as usize
    }

    /// Who may publish.
    pub fn publishers(&self) -> &[Publisher] {
        &self.fields.publishers
    }

    /// The publisher whose key this is.
    pub fn publisher(&self, key: &PublicKey) -> Option<&Publisher> {
        self.fields.publishers.iter().find(|publisher| publisher.key == *key)
    }

    /// The digest of the document before it; none for number 1.
    pub fn previous(&self) -> Option<Digest> {
        self.fields.previous
    }

    /// The bytes that are signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The digest of those bytes: what a token carries.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// Signs the document. More signatures are added with [`SignedTrust::add`].
    pub fn sign(&self, key: &PrivateKey) -> SignedTrust {
        let signature = KeySignature::make(key, Domain::Trust, &self.payload);
        SignedTrust { payload: self.payload.clone(), signatures: vec![signature] }
    }
}

impl Fields {
    fn change(&mut self, change: &TrustChange) -> Result<(), NotATrustDocument> {
        let place = |fields: &Self, name: &Name| {
            let found = fields.publishers.iter().position(|publisher| publisher.name == *name);
            found.ok_or_else(|| NotATrustDocument::NoSuchPublisher(name.clone()))
        };
        match change {
            TrustChange::Add(publisher) => self.publishers.push(publisher.clone()),
            TrustChange::Revoke(name) => {
                let at = place(self, name)?;
                self.publishers.remove(at);
            }
            TrustChange::Rotate(publisher) => {
                let at = place(self, &publisher.name)?;
                self.publishers[at] = publisher.clone();
            }
            TrustChange::Threshold(threshold) => self.threshold = *threshold,
        }
        Ok(())
    }

    fn encode(self) -> Result<TrustDocument, NotATrustDocument> {
        self.check()?;
        let payload = canonical::encode(&self).map_err(NotATrustDocument::Encode)?;
        match payload.len() {
            ..=TRUST_BYTES_MAX => Ok(TrustDocument { fields: self, payload }),
            long => Err(NotATrustDocument::TooLong(long)),
        }
    }

    fn check(&self) -> Result<(), NotATrustDocument> {
        let Self { number, threshold, publishers, previous, .. } = self;
        if *number == 0 {
            return Err(NotATrustDocument::Number(0));
        }
        if !(1..=PUBLISHERS_MAX).contains(&publishers.len()) {
            return Err(NotATrustDocument::Publishers(publishers.len()));
        }
        if !(1..=publishers.len()).contains(&(*threshold as usize)) {
            let (threshold, publishers) = (*threshold, publishers.len());
            return Err(NotATrustDocument::Threshold { threshold, publishers });
        }
        let looks_first = previous.is_none() && publishers.len() == 1 && *threshold == 1;
        if (*number == 1 && !looks_first) || (*number > 1 && previous.is_none()) {
            return Err(NotATrustDocument::First(*number));
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for Publisher { name, key } in publishers {
            if !names.insert(name) {
                return Err(NotATrustDocument::NameTwice(name.clone()));
            }
            if !keys.insert(key) {
                return Err(NotATrustDocument::KeyTwice(name.clone()));
            }
        }
        Ok(())
    }
}

/// An encoded trust document and what was signed over it. Says nothing about whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTrust {
    /// The encoded document.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// Signatures over exactly these bytes.
    pub signatures: Vec<KeySignature>,
}

impl SignedTrust {
    /// Adds the signature of one more publisher; the same key again replaces its signature.
    pub fn add(&mut self, key: &PrivateKey) {
        let signature = KeySignature::make(key, Domain::Trust, &self.payload);
        self.signatures.retain(|other| other.key != signature.key);
        self.signatures.push(signature);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::trust::tests::{key, publisher};

    fn first() -> TrustDocument {
        TrustDocument::first(publisher("ada", 1)).unwrap()
    }

    #[track_caller]
    fn refused(outcome: Result<TrustDocument, NotATrustDocument>, said: &str) {
        let error = outcome.unwrap_err();
        let source = std::error::Error::source(&error).map(|s| s.to_string()).unwrap_or_default();
        let text = format!("{error}: {source}");
        assert!(text.contains(said), "{text}");
    }

    fn parse(change: impl FnOnce(&mut Value)) -> Result<TrustDocument, NotATrustDocument> {
        let mut value = serde_json::from_slice(first().payload()).unwrap();
        change(&mut value);
        TrustDocument::parse(&canonical::encode(&value).unwrap())
    }

    #[test]
    fn changes_make_the_next_document() {
        let next = first()
            .next(&[
                TrustChange::Add(publisher("bob", 2)),
                TrustChange::Rotate(publisher("ada", 3)),
                TrustChange::Threshold(2),
            ])
            .unwrap();
        assert_eq!((next.number(), next.threshold()), (2, 2));
        assert_eq!(next.previous(), Some(first().digest()));
        assert_eq!(next.publishers(), [publisher("ada", 3), publisher("bob", 2)]);
        assert_eq!(TrustDocument::parse(next.payload()).unwrap(), next);
        assert_eq!(next.publisher(&key(1).public()), None);
    }

    #[test]
    fn a_document_that_nothing_could_follow_is_not_made() {
        let revoke = |name: &str| TrustChange::Revoke(Name::new(name).unwrap());
        refused(first().next(&[revoke("ada")]), "0 publishers");
        refused(first().next(&[revoke("eve")]), "find publisher \"eve\"");
        refused(first().next(&[TrustChange::Threshold(2)]), "allowed are 1 to 1");
        let two = [TrustChange::Add(publisher("bob", 2)), TrustChange::Threshold(2)];
        refused(first().next(&two).unwrap().next(&[revoke("bob")]), "threshold of 2");
        let many: Vec<_> =
            (2..=65).map(|n| TrustChange::Add(publisher(&format!("p{n}"), n))).collect();
        refused(first().next(&many), "65 publishers");
    }

    // CVE-2026-23992 (go-tuf): with a threshold of 0 or less nothing was verified.
    #[test]
    fn threshold_zero_is_refused() {
        refused(first().next(&[TrustChange::Threshold(0)]), "threshold of 0");
        refused(parse(|d| d["threshold"] = json!(0)), "threshold of 0");
        refused(parse(|d| d["threshold"] = json!(-1)), "invalid value");
    }

    // One key under two ids or names would count as two people.
    #[test]
    fn a_key_under_two_names_is_refused() {
        refused(first().next(&[TrustChange::Add(publisher("eve", 1))]), "under another name");
        refused(first().next(&[TrustChange::Add(publisher("ada", 2))]), "stands twice");
    }

    #[test]
    fn number_one_is_alone_at_the_start() {
        refused(parse(|d| d["number"] = json!(0)), "numbers start at 1");
        refused(parse(|d| d["number"] = json!(2)), "only it, has nothing before it");
        refused(parse(|d| d["previous"] = json!(Digest::ZERO)), "only it, has nothing before it");
        refused(
            parse(|d| {
                let second = json!(publisher("eve", 9));
                d["publishers"].as_array_mut().unwrap().push(second);
            }),
            "names one publisher",
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        refused(parse(|d| d["colour"] = json!(1)), "unknown field");
        refused(parse(|d| d["format"] = json!(2)), "format 2");
        refused(TrustDocument::parse(&vec![b'['; TRUST_BYTES_MAX + 1]), "the most is 65536");
        let mut spaced = first().payload().to_vec();
        spaced.insert(1, b' ');
        refused(TrustDocument::parse(&spaced), "canonical form");
    }

    #[test]
    fn the_bytes_of_a_document_never_change() {
        let golden = include_str!("../golden/trust-1.json").trim_end();
        assert_eq!(String::from_utf8_lossy(first().payload()), golden);
    }
}
