//! Packages on the device's disk: fetched by digest, verified on arrival, verified again at each use.
//!
//! ```text
//! DATA/content/
//!   manifests/ab/abcd...   what is wanted: one encoded manifest for each package, named by its digest
//!   objects/ef/ef01...     the chunks that they name, each once however many packages share it
//! ```
//!
//! The driver fetches with [`Contents::fetch`], makes a private copy for each run and each detection
//! with [`Contents::unpack`], and drops what nothing needs any more. The network is an
//! [`ObjectSource`]: nothing that comes from there is believed before its digest fits and a publisher
//! of the trust document has signed the manifest that names it.
//!
//! Nothing here says whether content is complete; that is seen by looking, so a crash costs what was
//! in flight and no record can be wrong. Single objects are not synced (a package has thousands): one
//! sync of the file system comes before a package is called ready, and what a power cut damages all
//! the same no longer has its digest and is fetched again.

mod copy;
mod fetch;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use muster_agent_core::input::Manifested;
use muster_content::manifest::{MANIFEST_BYTES_MAX, Manifest, SignedManifest};
use muster_content::trust::{ManifestRefused, Trust, VerifiedManifest};
use muster_host::publish::PublishError;
use muster_host::quota::Quota;
use muster_model::digest::Digest;
use muster_model::policy::KeySignature;
use muster_model::state::Rule;

use crate::chain_of;
pub use copy::remove_copy;
pub(crate) use copy::{LET_THROUGH, give_copy, let_through};
use store::Store;
pub use store::StoreError;
pub use unpack::UnpackError;

/// The folder in the data folder.
pub const CONTENT_DIR: &str = "content";

/// Where objects come from: the access points, seen through the transport.
#[async_trait]
pub trait ObjectSource: Send + Sync {
    /// The bytes of the object `digest`, of which at most `max` are read. Whether they are the right
    /// ones is checked by the caller. Answers in bounded time.
    async fn get(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError>;
}

/// Why an object did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody could be asked, or the answer broke off.
    #[error("the access point could not be asked: {0}")]
    Unavailable(String),
    /// Whoever was asked does not have it.
    #[error("the access point does not have it: {0}")]
    NotFound(String),
    /// More bytes than it can have.
    #[error("more came than the object can have")]
    TooLarge,
}

/// The packages on this device's disk. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Contents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    manifests: Store,
    objects: Store,
    /// Held while what is wanted changes: a package becomes wanted wholly before or wholly after
    /// objects are swept away, so that no fetch counts on an object that is about to go.
    wanted: Mutex<()>,
}

/// What a look at a manifest's signatures came to, other than belief.
#[derive(Debug)]
enum NotBelieved {
    /// It will never be used.
    Refused { rule: Rule, why: String },
    /// It may be, later.
    NotYet { why: String },
}

impl Contents {
    /// The packages of the agent whose folder is `data`. What is stored counts against `quota`, which
    /// knows what is there already. Makes the folders; reads none of the content.
    pub fn open(data: &Path, quota: Option<Arc<Quota>>) -> Result<Self, PublishError> {
        let dir = data.join(CONTENT_DIR);
        let manifests = Store::open(dir.join("manifests"), quota.clone())?;
        let objects = Store::open(dir.join("objects"), quota)?;
        Ok(Self(Arc::new(Inner { dir, manifests, objects, wanted: Mutex::new(()) })))
    }

    /// Makes a private copy of a package at `into`, and answers what its manifest says.
    ///
    /// Everything is verified again: the manifest by `trust` and `signatures`, each object and each
    /// file by its digest as it is written. `into` is made with mode 0700; what an earlier try left
    /// there is removed first, and nothing is left after an error. The copy is not synced: after a
    /// crash it is made again. Blocks, and needs the memory of a few chunks.
    ///
    /// On [`UnpackError::Unavailable`] what is on disk is missing or damaged: fetch again, which heals
    /// it, and then unpack again.
    pub fn unpack(
        &self,
        manifest: Digest,
        signatures: &[KeySignature],
        trust: &Trust,
        into: &Path,
    ) -> Result<Manifested, UnpackError> {
        unpack::unpack(&self.0, manifest, signatures, trust, into)
    }

    /// Removes a package: its manifest, and the objects that no other wanted package names. Nothing
    /// may fetch or unpack it any more. Repeating it, or naming what is not there, is no error. Blocks.
    pub fn drop_package(&self, manifest: Digest) -> Result<(), StoreError> {
        self.0.sweep(|wanted| *wanted != manifest)
    }

    /// Removes everything that none of the packages `wanted` needs: to be called at start, since the
    /// order to drop one may have been lost in a crash. Nothing may be fetching. Blocks.
    pub fn keep_only(&self, wanted: &BTreeSet<Digest>) -> Result<(), StoreError> {
        self.0.sweep(|manifest| wanted.contains(manifest))
    }
}

/// Whether a package lies whole on the disk of `data`: its manifest, and every object that it names,
/// with the bytes that it names. Changes nothing; needs no [`Contents`]. Reads every byte.
pub(crate) fn is_whole(data: &Path, manifest: Digest) -> bool {
    let dir = data.join(CONTENT_DIR);
    let (manifests, objects) = (Store::at(dir.join("manifests")), Store::at(dir.join("objects")));
    let bytes = manifests.read(manifest, MANIFEST_BYTES_MAX as u64).ok().flatten();
    let bytes = bytes.filter(|bytes| Digest::of(bytes) == manifest);
    let Some(parsed) = bytes.and_then(|bytes| Manifest::parse(&bytes).ok()) else { return false };
    parsed.objects().into_iter().all(|(object, size)| objects.holds(object, u64::from(size)))
}

impl Inner {
    /// The encoded manifest at hand; `None` if it is missing or damaged.
    fn manifest_bytes(&self, manifest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.manifests.read(manifest, MANIFEST_BYTES_MAX as u64)?;
        Ok(bytes.filter(|bytes| Digest::of(bytes) == manifest))
    }

    /// Notes that a package is wanted, and keeps its manifest.
    fn want(&self, manifest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let _changing = self.changing();
        self.manifests.put(manifest, bytes)
    }

    fn sweep(&self, keep: impl Fn(&Digest) -> bool) -> Result<(), StoreError> {
        let _changing = self.changing();
        let (kept, unwanted): (Vec<_>, Vec<_>) = self.manifests.list()?.into_iter().partition(keep);
        let mut needed = BTreeSet::new();
        for manifest in kept {
            // One that cannot be read is fetched again, and so is what it needs.
            let bytes = self.manifest_bytes(manifest)?;
            let parsed = bytes.and_then(|bytes| Manifest::parse(&bytes).ok());
            needed.extend(parsed.iter().flat_map(|manifest| manifest.objects().into_keys()));
        }
        for object in self.objects.list()? {
            if !needed.contains(&object) {
                self.objects.remove(object)?;
            }
        }
        // Last: a sweep that is cut short is repeated by whoever finds the manifest.
        unwanted.into_iter().try_for_each(|manifest| self.manifests.remove(manifest))
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // It guards no value that a panic could have left half changed.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides whether to believe `payload`, whose digest has been checked to be `need`.
fn believe(
    trust: &Trust,
    need: Digest,
    payload: Vec<u8>,
    signatures: &[KeySignature],
) -> Result<VerifiedManifest, NotBelieved> {
    let signatures = signatures
        .iter()
        .map(|KeySignature { key, signature }| muster_content::envelope::KeySignature {
            key: *key,
            signature: *signature,
        })
        .collect();
    let signed = SignedManifest { payload, signatures };
    trust.verify_named_manifest(need, &signed).map_err(|refused| {
        let why = chain_of(&refused);
        match refused {
            ManifestRefused::NoTrustDocument | ManifestRefused::DigestMismatch { .. } => {
                NotBelieved::NotYet { why }
            }
            ManifestRefused::Unsigned
            | ManifestRefused::StrangerSigned { .. }
            | ManifestRefused::AlteredPayload(_)
            | ManifestRefused::TooManySignatures(_) => {
                NotBelieved::Refused { rule: Rule::PublisherRefused, why }
            }
            ManifestRefused::Malformed(_) => {
                NotBelieved::Refused { rule: Rule::ContentRefused, why }
            }
        }
    })
}

/// What the machine needs of a manifest.
fn manifested(manifest: &Manifest) -> Manifested {
    Manifested {
        programs: manifest.spec().programs.clone(),
        detection: manifest.spec().detection.clone(),
        size: manifest.content_bytes(),
        release: manifest.spec().agent_release,
    }
}
