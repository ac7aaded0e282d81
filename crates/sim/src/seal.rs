//! Seals of the simulated site: a keyed digest in place of an Ed25519 signature.
//!
//! What is simulated is who may seal, not how: nobody but the site has the key, and every reader
//! checks. Batches of devices carry real signatures.

use muster_model::digest::Digest;
use muster_model::sign::Signature;
use muster_model::wire::seal::Sealed;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The site's key.
#[derive(Clone, Copy)]
pub(crate) struct SealKey(pub Digest);

impl SealKey {
    /// Seals `document`.
    pub(crate) fn seal<T: Serialize>(&self, document: &T) -> Sealed {
        let payload = serde_json::to_string(document).unwrap_or_default();
        let signature = self.signature(&payload);
        Sealed { payload, signature }
    }

    /// Reads a document that this key sealed; anything else is nothing.
    pub(crate) fn open<T: DeserializeOwned>(&self, sealed: &Sealed) -> Option<T> {
        if sealed.signature != self.signature(&sealed.payload) {
            return None;
        }
        sealed.peek().ok()
    }

    fn signature(&self, payload: &str) -> Signature {
        let half = Digest::of_parts("sim/seal", &[self.0.as_bytes(), payload.as_bytes()]);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(half.as_bytes());
        Signature(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_sealed_opens() {
        let key = SealKey(Digest::of(b"site"));
        let sealed = key.seal(&7);
        assert_eq!(key.open::<i32>(&sealed), Some(7));
        assert_eq!(SealKey(Digest::of(b"other")).open::<i32>(&sealed), None);
        let bent = Sealed { payload: "8".into(), ..sealed };
        assert_eq!(key.open::<i32>(&bent), None);
    }
}
