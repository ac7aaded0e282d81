//! A sealed document: exact JSON text and a signature over it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sign::{Domain, PrivateKey, PublicKey, Signature};

/// JSON text and a signature over its exact bytes. Verified before it is parsed, never re-serialised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The document as text.
    pub payload: String,
    /// Over the bytes of `payload`.
    pub signature: Signature,
}

/// Why a sealed document is refused.
#[derive(Debug, thiserror::Error)]
pub enum SealRefused {
    /// Not signed by the key that was expected.
    #[error("the document is not signed by the key {0}")]
    Signature(String),
    /// Signed, but not a document this version reads.
    #[error("the document is signed but cannot be read")]
    Payload(#[source] serde_json::Error),
    /// Not even an envelope.
    #[error("this is not a sealed document")]
    Envelope,
}

impl Sealed {
    /// Seals `document`.
    pub fn seal<T: Serialize>(
        key: &PrivateKey,
        domain: Domain,
        document: &T,
    ) -> Result<Self, serde_json::Error> {
        let payload = serde_json::to_string(document)?;
        let signature = key.sign(domain, payload.as_bytes());
        Ok(Self { payload, signature })
    }

    /// Checks the signature, then reads the document.
    pub fn open<T: DeserializeOwned>(
        &self,
        key: &PublicKey,
        domain: Domain,
    ) -> Result<T, SealRefused> {
        key.verify(domain, self.payload.as_bytes(), &self.signature)
            .map_err(|_| SealRefused::Signature(key.id()))?;
        self.peek()
    }

    /// Reads the document without checking: for choosing the key, never for acting on it.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<T, SealRefused> {
        serde_json::from_str(&self.payload).map_err(SealRefused::Payload)
    }

    /// One line of text for a header.
    pub fn to_header(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads what [`Sealed::to_header`] wrote.
    pub fn from_header(text: &str) -> Result<Self, SealRefused> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealRefused::Envelope)?;
        serde_json::from_slice(&bytes).map_err(|_| SealRefused::Envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_altered_byte_is_refused() {
        let key = PrivateKey::from_seed([1; 32]);
        let mut sealed = Sealed::seal(&key, Domain::Policy, &vec![1, 2]).unwrap();
        assert_eq!(sealed.open::<Vec<i32>>(&key.public(), Domain::Policy).unwrap(), [1, 2]);
        assert_eq!(Sealed::from_header(&sealed.to_header()).unwrap(), sealed);
        sealed.payload = "[1,3]".into();
        assert!(sealed.open::<Vec<i32>>(&key.public(), Domain::Policy).is_err());
    }
}
