//! What the tests of content share: packages that a publisher signed, and an access point in memory
//! that alters, loses and breaks off.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use muster_content::manifest::{Manifest, SignedManifest};
use muster_content::tree::TreeBuilder;
use muster_content::trust::{Accepted, Publisher, Trust, TrustDocument};
use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::policy::{KeySignature, PinnedPackage};
use muster_model::sign::PrivateKey;

use super::{FetchError, ObjectSource};

pub(crate) type Objects = BTreeMap<Digest, Vec<u8>>;

/// What a source does to what it is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Alter,
    Truncate,
    Lengthen,
    Lose,
    BreakOff,
    Stall,
}

/// An access point in memory.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) objects: Objects,
    pub(crate) faults: Mutex<BTreeMap<Digest, Fault>>,
    pub(crate) all: Option<Fault>,
    pub(crate) asked: Mutex<Vec<Digest>>,
    pub(crate) under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
}

impl Source {
    pub(crate) fn of(objects: &Objects) -> Self {
        Self { objects: objects.clone(), ..Self::default() }
    }

    pub(crate) fn fault(self, object: Digest, fault: Fault) -> Self {
        self.faults.lock().unwrap().insert(object, fault);
        self
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl ObjectSource for Source {
    async fn get(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        self.asked.lock().unwrap().push(digest);
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let fault = self.faults.lock().unwrap().get(&digest).copied().or(self.all);
        let bytes = self.objects.get(&digest).cloned();
        let mut bytes = bytes.ok_or_else(|| FetchError::NotFound("404".to_owned()))?;
        match fault {
            None => {}
            Some(Fault::Alter) => bytes[0] ^= 1,
            Some(Fault::Truncate) => bytes.truncate(bytes.len() / 2),
            Some(Fault::Lengthen) => bytes.push(0),
            Some(Fault::Lose) => return Err(FetchError::NotFound("404".to_owned())),
            Some(Fault::BreakOff) => return Err(FetchError::Unavailable("reset".to_owned())),
            Some(Fault::Stall) => std::future::pending().await,
        }
        if bytes.len() > max { Err(FetchError::TooLarge) } else { Ok(bytes) }
    }
}

/// `bytes` bytes that do not compress and differ with `seed` (splitmix64).
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    std::iter::repeat_with(move || next().to_le_bytes()).flatten().take(bytes).collect()
}

pub(crate) fn publisher() -> PrivateKey {
    PrivateKey::from_seed([1; 32])
}

pub(crate) fn trust() -> Trust {
    let ada = Publisher { name: Name::new("ada").unwrap(), key: publisher().public() };
    let first = TrustDocument::first(ada).unwrap().sign(&publisher());
    match Trust::unpinned().accept(&first).unwrap() {
        Accepted::Newer(trust) => trust,
        Accepted::Same => unreachable!(),
    }
}

/// A package of a script, a folder that only its owner enters, a link, and `big` as a file.
pub(crate) struct Package {
    pub(crate) pinned: PinnedPackage,
    pub(crate) objects: Objects,
}

impl Package {
    pub(crate) fn of(name: &str, big: &[u8]) -> Self {
        Self::signed_by(&publisher(), name, big)
    }

    pub(crate) fn signed_by(key: &PrivateKey, name: &str, big: &[u8]) -> Self {
        let mut objects = Objects::new();
        let mut tree = TreeBuilder::new(|object, bytes: &[u8]| {
            objects.insert(object, bytes.to_vec());
            Ok(())
        });
        tree.add_folder("etc", 0o500).unwrap();
        tree.add_folder("etc/inner", 0o755).unwrap();
        tree.add_file("etc/inner/big", 0o644, big).unwrap();
        tree.add_file("install.sh", 0o755, &b"echo hello\n"[..]).unwrap();
        tree.add_file("empty", 0o640, &b""[..]).unwrap();
        tree.add_symlink("link", "etc/inner/big").unwrap();
        let spec = serde_json::from_value(serde_json::json!({
            "version": "1",
            "programs": [{"name": "install", "command": ["sh", "install.sh"]}],
        }));
        let name = Name::new(name).unwrap();
        let tree = tree.finish().unwrap();
        let manifest = Manifest::new(name.clone(), spec.unwrap(), tree).unwrap();
        let signed = SignedManifest::sign(manifest.encode().unwrap(), key);
        let pinned = pin(name, &signed);
        objects.insert(pinned.manifest, signed.payload);
        Self { pinned, objects }
    }

    /// The objects without the manifest, the largest first.
    pub(crate) fn chunks(&self) -> Vec<Digest> {
        let mut chunks: Vec<_> = self.objects.iter().collect();
        chunks.retain(|(object, _)| **object != self.pinned.manifest);
        chunks.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.len()));
        chunks.into_iter().map(|(object, _)| *object).collect()
    }
}

pub(crate) fn pin(name: Name, signed: &SignedManifest) -> PinnedPackage {
    let signatures = signed.signatures.iter();
    PinnedPackage {
        name,
        version: "1".to_owned(),
        manifest: signed.digest(),
        signatures: signatures
            .map(|one| KeySignature { key: one.key, signature: one.signature })
            .collect(),
    }
}
