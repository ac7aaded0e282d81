//! The publisher's key: a file of its owner, beside the context file, never on a site.

use std::path::{Path, PathBuf};

use muster_model::name::Name;
use muster_model::sign::PrivateKey;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Outcome, Tried};

/// The largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;

/// A publisher's name and key.
#[derive(Debug)]
pub(crate) struct PublisherKey {
    pub(crate) name: Name,
    pub(crate) key: PrivateKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    /// The publisher's name in trust documents.
    publisher: Name,
    /// The Ed25519 seed, hex.
    seed: String,
}

/// The file that `--key` named, or the default.
pub(crate) fn path(named: Option<&Path>) -> Outcome<PathBuf> {
    match named {
        Some(path) => Ok(path.to_path_buf()),
        None => Ok(crate::context::path()?.with_file_name("publisher.key")),
    }
}

impl PublisherKey {
    /// A new key from the system's random source.
    pub(crate) fn draw(name: Name) -> Outcome<Self> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| Failure::new("failed to draw a key: the system has no randomness"))?;
        Ok(Self { name, key: PrivateKey::from_seed(seed) })
    }

    /// Reads the key, or `None` if there is no file. Refuses a file that others can read.
    pub(crate) fn find(path: &Path) -> Outcome<Option<Self>> {
        let tried = || format!("read the publisher's key {}", path.display());
        if !path.exists() {
            return Ok(None);
        }
        let bytes = muster_host::publish::read_private(path, KEY_FILE_BYTES_MAX).tried(tried)?;
        let file: KeyFile = serde_json::from_slice(&bytes).tried(tried)?;
        let mut seed = [0; 32];
        hex::decode_to_slice(&file.seed, &mut seed).tried(tried)?;
        Ok(Some(Self { name: file.publisher, key: PrivateKey::from_seed(seed) }))
    }

    /// Reads the key that must be there.
    pub(crate) fn load(named: Option<&Path>) -> Outcome<Self> {
        let path = path(named)?;
        Self::find(&path)?.ok_or_else(|| {
            Failure::new(format!("there is no publisher's key at {}", path.display()))
                .hint("run `muster publisher init`, or name the key with `--key FILE`")
        })
    }

    /// Writes the key durably, mode 0600. Refuses to overwrite one.
    pub(crate) fn create(&self, path: &Path) -> Outcome {
        self.write(path, muster_host::publish::durable_create_new)
    }

    /// Writes the key in place of the one before it.
    pub(crate) fn replace(&self, path: &Path) -> Outcome {
        self.write(path, muster_host::publish::durable_publish)
    }

    fn write(
        &self,
        path: &Path,
        publish: fn(&Path, &[u8]) -> Result<(), muster_host::publish::PublishError>,
    ) -> Outcome {
        let tried = || format!("write the publisher's key {}", path.display());
        let file = KeyFile { publisher: self.name.clone(), seed: hex::encode(self.key.seed()) };
        let text = serde_json::to_vec_pretty(&file).tried(tried)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).tried(tried)?;
        }
        publish(path, &text).tried(tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_never_overwritten_by_create() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("publisher.key");
        let key = PublisherKey::draw(Name::new("ada").unwrap()).unwrap();
        key.create(&path).unwrap();
        let read = PublisherKey::find(&path).unwrap().unwrap();
        assert_eq!((read.name, read.key.public()), (key.name.clone(), key.key.public()));
        assert!(key.create(&path).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("publisher.key");
        PublisherKey::draw(Name::new("ada").unwrap()).unwrap().create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(PublisherKey::find(&path).is_err());
    }
}
