//! Whom the device believes, kept outside the journal: a lost memory forgets no publisher (law 8).
//!
//! `DATA/trust/standing.json` is what the device acts on; `DATA/trust/NUMBER.json` are the documents as
//! they came, for people. Moves only forward, one number at a time, and only after the new standing is
//! durable. Decides nothing itself: [`Trust`] does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_content::trust::{
    Accepted, SignedTrust, TRUST_BYTES_MAX, Trust, TrustPin, TrustRefused,
};
use muster_host::publish::{self, PublishError, ReadError};
use muster_model::token;
use serde::{Deserialize, Serialize};

/// The folder in the data folder.
pub const TRUST_DIR: &str = "trust";
/// A document in base64 inside JSON.
const STANDING_BYTES_MAX: u64 = 4 * TRUST_BYTES_MAX as u64;

/// The trust of this device. Clones share it.
#[derive(Clone, Debug)]
pub struct TrustStore {
    folder: PathBuf,
    standing: Arc<Mutex<Standing>>,
}

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Standing {
    trust: Trust,
    /// The number of the document that is to come next.
    next: u64,
    /// Why the document that the site offered last was not believed.
    #[serde(default)]
    refused: Option<String>,
}

/// The trust could not be kept or moved on.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The standing could not be read.
    #[error("failed to load whom this device trusts")]
    Read(#[from] ReadError),
    /// The standing could not be written.
    #[error("failed to save whom this device trusts")]
    Save(#[from] PublishError),
    /// The standing holds something else.
    #[error("failed to understand {path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A document is not believed.
    #[error("failed to accept trust document {number}")]
    Refused {
        /// Its number.
        number: u64,
        /// Why.
        #[source]
        source: TrustRefused,
    },
}

impl TrustStore {
    /// Begins to trust: with the pin of a token, or without one. Durable on return. What is there
    /// already stays.
    pub fn begin(data: &Path, pin: Option<token::TrustPin>) -> Result<Self, TrustError> {
        publish::create_private_dir(&data.join(TRUST_DIR))?;
        if let Some(store) = Self::try_load(data)? {
            return Ok(store);
        }
        let standing = match pin {
            Some(pin) => Standing {
                trust: Trust::pinned(TrustPin { number: pin.number, digest: pin.digest }),
                next: pin.number,
                refused: None,
            },
            None => Standing { trust: Trust::unpinned(), next: 1, refused: None },
        };
        let store = Self::of(data, standing);
        store.save(&store.lock())?;
        Ok(store)
    }

    /// The trust in `data`. Without any, nobody is believed until the first document comes.
    pub fn load(data: &Path, pin: Option<token::TrustPin>) -> Result<Self, TrustError> {
        match Self::try_load(data)? {
            Some(store) => Ok(store),
            None => Self::begin(data, pin),
        }
    }

    pub(crate) fn try_load(data: &Path) -> Result<Option<Self>, TrustError> {
        let path = data.join(TRUST_DIR).join("standing.json");
        let Some(bytes) = publish::read_if_there(&path, STANDING_BYTES_MAX)? else {
            return Ok(None);
        };
        let standing =
            serde_json::from_slice(&bytes).map_err(|source| TrustError::Json { path, source })?;
        Ok(Some(Self::of(data, standing)))
    }

    fn of(data: &Path, standing: Standing) -> Self {
        Self { folder: data.join(TRUST_DIR), standing: Arc::new(Mutex::new(standing)) }
    }

    /// What is believed now.
    pub fn trust(&self) -> Trust {
        self.lock().trust.clone()
    }

    /// The number of the document that is held; 0 is none.
    pub fn number(&self) -> u64 {
        self.lock().trust.number()
    }

    /// The number of the document to ask for next.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Why the document that was offered last was not believed, if so.
    pub fn refused(&self) -> Option<String> {
        self.lock().refused.clone()
    }

    /// Takes an offered document. Durable on return, before anybody acts on it.
    pub fn accept(&self, offered: &SignedTrust) -> Result<(), TrustError> {
        let mut standing = self.lock();
        let number = standing.next;
        match standing.trust.accept(offered) {
            Ok(Accepted::Same) => Ok(()),
            Ok(Accepted::Newer(trust)) => {
                self.keep(trust.number(), offered)?;
                let next = Standing { next: trust.number() + 1, trust, refused: None };
                self.save(&next)?;
                *standing = next;
                Ok(())
            }
            Err(source) => {
                let refused = TrustError::Refused { number, source };
                let mut noted = standing.clone();
                noted.refused = Some(crate::chain_of(&refused));
                if noted.refused != standing.refused {
                    self.save(&noted)?;
                    *standing = noted;
                }
                Err(refused)
            }
        }
    }

    /// Takes an offered document if it is the next one; otherwise nothing is noted, and the answer says
    /// why it was not taken.
    pub fn accept_if_next(&self, offered: &SignedTrust) -> Result<(), TrustError> {
        let standing = self.lock().clone();
        let accepted = standing.trust.accept(offered);
        let number = standing.next;
        accepted.map_err(|source| TrustError::Refused { number, source })?;
        self.accept(offered)
    }

    fn keep(&self, number: u64, document: &SignedTrust) -> Result<(), TrustError> {
        let path = self.folder.join(format!("{number}.json"));
        let json = serde_json::to_vec(document)
            .map_err(|source| TrustError::Json { path: path.clone(), source })?;
        Ok(publish::durable_publish(&path, &json)?)
    }

    fn save(&self, standing: &Standing) -> Result<(), TrustError> {
        let path = self.folder.join("standing.json");
        let json = serde_json::to_vec(standing)
            .map_err(|source| TrustError::Json { path: path.clone(), source })?;
        Ok(publish::durable_publish(&path, &json)?)
    }

    /// A panic of another holder leaves the standing whole: it is replaced, never changed in place.
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_content::trust::{Publisher, TrustChange, TrustDocument};
    use muster_model::name::Name;
    use muster_model::sign::PrivateKey;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed([seed; 32])
    }

    fn publisher(seed: u8) -> Publisher {
        Publisher { name: Name::new(format!("p{seed}")).unwrap(), key: key(seed).public() }
    }

    /// Documents 1 and 2: the second adds a publisher.
    fn chain() -> (TrustDocument, TrustDocument) {
        let first = TrustDocument::first(publisher(1)).unwrap();
        let second = first.next(&[TrustChange::Add(publisher(2))]).unwrap();
        (first, second)
    }

    #[test]
    fn a_chain_is_followed_and_remembered() {
        let data = tempfile::tempdir().unwrap();
        let (first, second) = chain();
        let store = TrustStore::begin(data.path(), None).unwrap();
        assert_eq!((store.number(), store.next()), (0, 1));
        store.accept(&first.sign(&key(1))).unwrap();
        store.accept(&second.sign(&key(1))).unwrap();
        let again = TrustStore::load(data.path(), None).unwrap();
        assert_eq!((again.number(), again.next()), (2, 3));
        assert!(!again.trust().is_pinned());
        assert!(data.path().join(TRUST_DIR).join("2.json").exists());
    }

    #[test]
    fn a_pin_is_where_the_chain_begins() {
        let data = tempfile::tempdir().unwrap();
        let (first, second) = chain();
        let pin = token::TrustPin { number: 2, digest: second.digest() };
        let store = TrustStore::begin(data.path(), Some(pin)).unwrap();
        assert_eq!(store.next(), 2);
        assert!(store.accept(&first.sign(&key(1))).is_err());
        store.accept(&second.sign(&key(1))).unwrap();
        assert!(store.trust().is_pinned());
    }

    #[test]
    fn a_document_that_a_stranger_signed_changes_nothing_and_is_told() {
        let data = tempfile::tempdir().unwrap();
        let (first, second) = chain();
        let store = TrustStore::begin(data.path(), None).unwrap();
        store.accept(&first.sign(&key(1))).unwrap();
        assert!(store.accept(&second.sign(&key(9))).is_err());
        let again = TrustStore::load(data.path(), None).unwrap();
        assert_eq!(again.number(), 1);
        assert!(again.refused().unwrap().contains("trust document 2"), "{:?}", again.refused());
        again.accept(&second.sign(&key(1))).unwrap();
        assert_eq!((again.number(), again.refused()), (2, None));
    }

    #[test]
    fn beginning_again_forgets_nothing() {
        let data = tempfile::tempdir().unwrap();
        let (first, _) = chain();
        TrustStore::begin(data.path(), None).unwrap().accept(&first.sign(&key(1))).unwrap();
        assert_eq!(TrustStore::begin(data.path(), None).unwrap().number(), 1);
    }
}
