//! Which machine the agent runs on: what tells a machine that was put back to a snapshot from most copies
//! of it. Never an identity: that is the device's key.
//!
//! The operating system's machine-id(5), which a copied disk has in common with the original, and the
//! number that the firmware gives, which most hypervisors make anew for a copied machine. Of a machine
//! that tells neither nothing is known.

use std::path::Path;

use muster_host::publish;
use muster_model::digest::Digest;

/// Overrides what names the machine: several devices of one machine, for tests.
const MACHINE_VARIABLE: &str = "MUSTER_MACHINE";
/// What names the installed system (systemd's machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";
/// What the firmware calls the machine (SMBIOS 3.7, 7.2.1); only root may read it.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";
/// More than either of them needs.
const NAME_BYTES_MAX: u64 = 1024;

/// A digest of what names the machine; `None` if nothing does.
pub(crate) fn digest() -> Option<Digest> {
    if let Some(said) = std::env::var_os(MACHINE_VARIABLE) {
        return digest_of(&[said.as_encoded_bytes()]);
    }
    let read = |path| publish::read_limited(Path::new(path), NAME_BYTES_MAX).unwrap_or_default();
    digest_of(&[&read(MACHINE_ID), &read(PRODUCT_UUID)])
}

fn digest_of(names: &[&[u8]]) -> Option<Digest> {
    let says = names.iter().any(|name| !name.is_empty());
    says.then(|| Digest::of_parts("muster/machine/v2", names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_with_another_number_is_another_machine_and_nothing_names_none() {
        assert_eq!(digest_of(&[b"", b""]), None);
        assert_eq!(digest_of(&[b"id", b"1"]), digest_of(&[b"id", b"1"]));
        assert_ne!(digest_of(&[b"id", b"1"]), digest_of(&[b"id", b"2"]));
        assert_ne!(digest_of(&[b"id", b""]), digest_of(&[b"", b"id"]));
    }
}
