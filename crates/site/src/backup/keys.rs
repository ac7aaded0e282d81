//! The key files of a backup, apart from the rest and sealed to a passphrase.
//!
//! PBKDF2 with HMAC-SHA-256 and 600,000 rounds (OWASP's figure of 2023) makes the key, ChaCha20-
//! Poly1305 (RFC 8439) seals; both are *ring*'s. A fresh salt makes a fresh key for each backup, so
//! that one nonce is never used twice with a key.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::publish::{durable_create_new, durable_publish, read_limited, read_private};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::BackupError;

/// The shortest passphrase.
pub const PASSPHRASE_CHARS_MIN: usize = 8;
const ROUNDS: u32 = 600_000;
const KEYS_BYTES_MAX: u64 = 256 * 1024;
const KEYS_FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeysFile {
    format: u32,
    /// Absent: not sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
    /// The key files by name, as JSON of base64; sealed or not.
    payload: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seal {
    salt: String,
    rounds: NonZeroU32,
}

/// Copies every file of the folder `keys` into `file`, durably, mode 0600.
pub(super) fn save(keys: &Path, file: &Path, passphrase: Option<&str>) -> Result<(), BackupError> {
    let io = |source| BackupError::Io { what: "read the keys in", path: keys.into(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(keys).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        files.insert(name.to_owned(), STANDARD.encode(read_limited(&path, KEYS_BYTES_MAX)?));
    }
    let mut payload = serde_json::to_vec(&files).unwrap_or_default();
    let seal = match passphrase {
        None => None,
        Some(passphrase) => Some(seal(passphrase, &mut payload)?),
    };
    let found = KeysFile { format: KEYS_FORMAT, seal, payload: STANDARD.encode(payload) };
    let text = serde_json::to_vec_pretty(&found).unwrap_or_default();
    Ok(durable_create_new(file, &text)?)
}

/// Writes the key files of `file` into the folder `keys`; answers whether they were sealed.
pub(super) fn load(
    file: &Path,
    keys: &Path,
    passphrase: Option<&str>,
) -> Result<bool, BackupError> {
    let damaged = |why: &str| BackupError::Damaged { path: file.into(), why: why.to_owned() };
    if !file.exists() {
        return Err(BackupError::NoKeys(file.into()));
    }
    let text = read_private(file, KEYS_BYTES_MAX)?;
    let found: KeysFile = serde_json::from_slice(&text).map_err(|_| damaged("it holds no keys"))?;
    let mut payload = STANDARD.decode(found.payload).map_err(|_| damaged("not base64"))?;
    let sealed = found.seal.is_some();
    if let Some(seal) = found.seal {
        let passphrase = passphrase.ok_or_else(|| BackupError::Sealed(file.into()))?;
        payload = open(passphrase, &seal, payload)
            .ok_or_else(|| BackupError::WrongPassphrase(file.into()))?;
    }
    let files: BTreeMap<String, String> =
        serde_json::from_slice(&payload).map_err(|_| damaged("it holds no keys"))?;
    for (name, bytes) in files {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        if !plain || name.starts_with('.') {
            return Err(damaged("a key file has a strange name"));
        }
        let bytes = STANDARD.decode(bytes).map_err(|_| damaged("not base64"))?;
        durable_publish(&keys.join(name), &bytes)?;
    }
    Ok(sealed)
}

fn seal(passphrase: &str, payload: &mut Vec<u8>) -> Result<Seal, BackupError> {
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(BackupError::WeakPassphrase);
    }
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| BackupError::Random)?;
    let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
    let key = derive(passphrase, &salt, rounds).ok_or(BackupError::Random)?;
    key.seal_in_place_append_tag(nonce(), Aad::empty(), payload)
        .map_err(|_| BackupError::Random)?;
    Ok(Seal { salt: STANDARD.encode(salt), rounds })
}

fn open(passphrase: &str, seal: &Seal, mut payload: Vec<u8>) -> Option<Vec<u8>> {
    let salt = STANDARD.decode(&seal.salt).ok()?;
    let key = derive(passphrase, &salt, seal.rounds)?;
    let plain = key.open_in_place(nonce(), Aad::empty(), &mut payload).ok()?;
    Some(plain.to_vec())
}

fn derive(passphrase: &str, salt: &[u8], rounds: NonZeroU32) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    let passphrase = passphrase.as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut key);
    UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
}

/// Each key seals exactly once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, std::path::PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let keys = temp.path().join("keys");
        muster_host::publish::create_private_dir(&keys).unwrap();
        durable_publish(&keys.join("ca.key"), b"secret of the CA").unwrap();
        (temp, keys)
    }

    #[test]
    fn sealed_keys_open_with_their_passphrase_only() {
        let (temp, keys) = keys();
        let (file, new) = (temp.path().join("b.keys"), temp.path().join("new"));
        muster_host::publish::create_private_dir(&new).unwrap();
        save(&keys, &file, Some("correct horse")).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&STANDARD.encode("secret of the CA")));
        assert!(matches!(load(&file, &new, None), Err(BackupError::Sealed(_))));
        let wrong = load(&file, &new, Some("battery staple"));
        assert!(matches!(wrong, Err(BackupError::WrongPassphrase(_))));
        assert!(load(&file, &new, Some("correct horse")).unwrap());
        assert_eq!(std::fs::read(new.join("ca.key")).unwrap(), b"secret of the CA");
    }

    #[test]
    fn a_weak_passphrase_is_refused() {
        let (temp, keys) = keys();
        let refused = save(&keys, &temp.path().join("b.keys"), Some("short"));
        assert!(matches!(refused, Err(BackupError::WeakPassphrase)));
    }
}
