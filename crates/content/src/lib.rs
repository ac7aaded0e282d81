//! Content: what a package is made of, whom to believe about it, and how it comes back together.
//!
//! Floor 2 of the house: everything here is a decision or a transformation of bytes that the caller
//! hands in. It opens no file, no socket and no clock, so that the publisher, the site, the access
//! point and the agent share it, and a test can damage anything.
//!
//! # From a publisher's folder to a machine
//!
//! | step | who | module |
//! | --- | --- | --- |
//! | cut files into compressed chunks, each an object named by its digest | publisher | [`tree`], [`chunk`] |
//! | name every byte, mode, program and detection in one immutable document | publisher | [`manifest`] |
//! | sign those bytes | publisher | [`manifest::SignedManifest`] |
//! | decide who may publish, in numbered documents that vouch for each other | publishers | [`trust`] |
//! | believe a manifest, or say by name why not | site, agent | [`trust::Trust`] |
//! | fetch what is missing, in any number of attempts | agent | [`plan`] |
//! | rebuild the tree, verifying every object and every file | agent | [`assemble`] |
//! | make all of the above from a Debian package | publisher | [`deb`], [`import`] |
//!
//! # What holds
//!
//! - Bytes are checked before they are understood: an object by its digest before it is
//!   decompressed, a manifest by its signature before it is parsed.
//! - What is read has one encoding ([`canonical`]) and one meaning: unknown fields, second
//!   spellings and second entries are refused.
//! - What a publisher can sign, an agent can unpack: both use [`entry::check_tree`].
//! - Every size has a named limit, and reaching it is an error that names it.
//!
//! ```
//! use muster_content::assemble::{FileCheck, Step, steps};
//! use muster_content::manifest::{Manifest, SignedManifest};
//! use muster_content::plan::{FetchPlan, Standing};
//! use muster_content::tree::TreeBuilder;
//! use muster_content::trust::{Accepted, Publisher, Trust, TrustDocument};
//! use muster_model::{name::Name, sign::PrivateKey};
//! use std::collections::BTreeMap;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The publisher: content, manifest, signature, and the first trust document.
//! let mut published = BTreeMap::new();
//! let mut tree = TreeBuilder::new(|object, bytes: &[u8]| {
//!     published.insert(object, bytes.to_vec());
//!     Ok(())
//! });
//! tree.add_file("go.sh", 0o755, &b"echo hello\n"[..])?;
//! let spec = serde_json::from_str(
//!     r#"{"version": "1", "programs": [{"name": "go", "command": ["sh", "go.sh"]}]}"#,
//! )?;
//! let manifest = Manifest::new(Name::new("hello")?, spec, tree.finish()?)?;
//! let key = PrivateKey::from_seed([1; 32]);
//! let signed = SignedManifest::sign(manifest.encode()?, &key);
//! let ada = Publisher { name: Name::new("ada")?, key: key.public() };
//! let first = TrustDocument::first(ada)?.sign(&key);
//!
//! // The agent: whom to believe, what to fetch, what to write.
//! let Accepted::Newer(trust) = Trust::unpinned().accept(&first)? else { unreachable!() };
//! let verified = trust.verify_manifest(&signed)?;
//! let mut plan = FetchPlan::new(verified.manifest(), |_| false);
//! while let Some(request) = plan.next() {
//!     plan.received(request.object, &published[&request.object])?;
//!     plan.stored(request.object)?;
//! }
//! assert_eq!(plan.standing(), Standing::Complete);
//! for step in steps(verified.manifest().tree()) {
//!     let Step::File { file, .. } = step else { continue };
//!     let mut check = FileCheck::new(file);
//!     while let Some(chunk) = check.needs() {
//!         assert_eq!(&*check.take(&published[&chunk.object])?, b"echo hello\n");
//!     }
//!     check.finish()?;
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod assemble;
pub mod canonical;
pub mod chunk;
pub mod deb;
pub mod entry;
pub mod envelope;
pub mod import;
pub mod manifest;
pub mod path;
pub mod plan;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod trust;
