//! The manifest of a package names every byte of it: content, modes, programs and detection.
//!
//! A publisher builds a [`Manifest`], encodes it once and signs those bytes. The encoding is an
//! object like any other, named by its digest (the *manifest digest*, which advertisements pin);
//! signatures travel beside that digest, so that a package can be signed again after a key was
//! rotated without becoming another package. Whether a signer is believed is decided in
//! [`crate::trust`]. Never believes anybody itself.

use std::collections::BTreeMap;

use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::package::PackageSpec;
use muster_model::problem::Problem;
use muster_model::release::PROGRAM_FILE;
use muster_model::sign::{Domain, PrivateKey};
use serde::{Deserialize, Serialize};

use crate::canonical::{self, NotCanonical};
use crate::entry::{Entry, FileNode, Node, NotATree, check_tree};
use crate::envelope::{KeySignature, base64_bytes};

/// The format this code writes, and the only one it reads. A format that says more gets the next
/// number, so that an older agent refuses it by name instead of passing over a field.
pub const MANIFEST_FORMAT: u32 = 1;
/// Bytes of one encoded manifest: about 125,000 chunks, 8 GB of content at the average chunk.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An immutable package. A value that exists is valid: its spec has no fault, its tree is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(Fields);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: u32,
    name: Name,
    spec: PackageSpec,
    tree: Vec<Entry>,
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Why something is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum NotAManifest {
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error("take a manifest of {0} bytes: the most is {MANIFEST_BYTES_MAX}; split the package")]
    TooLong(usize),
    /// Not the canonical encoding of anything.
    #[error("read the manifest")]
    NotCanonical(#[source] NotCanonical),
    /// A format that this version does not know.
    #[error("read a manifest of format {0}: this version reads format {MANIFEST_FORMAT}")]
    OtherFormat(u32),
    /// A field that is missing, unknown or of another type.
    #[error("read the manifest's fields")]
    Fields(#[source] serde_json::Error),
    /// The value cannot be encoded.
    #[error("encode the manifest")]
    Encode(#[source] serde_json::Error),
    /// The spec has faults.
    #[error("take the package's spec: {}", list(.0))]
    Spec(Vec<Problem>),
    /// The spec still names content by path; in a manifest the tree stands in its place.
    #[error("take the package's spec: spec.content is set beside the tree")]
    ContentBesideTree,
    /// An agent release without its program.
    #[error(
        "take the package's tree: an agent release has its program as the executable file \
         `{PROGRAM_FILE}` at the top of its content"
    )]
    NoProgram,
    /// The tree is none.
    #[error("take the package's tree")]
    Tree(#[source] NotATree),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

impl Manifest {
    /// The package `name` with the programs and detection of `spec` over the content `tree`, which
    /// is in rising order of paths (see [`crate::tree`]). The spec's `content` is dropped: a path
    /// on the publisher's disk is nobody else's business.
    pub fn new(name: Name, spec: PackageSpec, tree: Vec<Entry>) -> Result<Self, NotAManifest> {
        let spec = PackageSpec { content: None, ..spec };
        Fields { format: MANIFEST_FORMAT, name, spec, tree }.check()
    }

    /// Reads and checks an encoded manifest. Check its digest or signature before.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAManifest> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(NotAManifest::TooLong(bytes.len()));
        }
        canonical::check(bytes).map_err(NotAManifest::NotCanonical)?;
        let Head { format } = serde_json::from_slice(bytes).map_err(NotAManifest::Fields)?;
        if format != MANIFEST_FORMAT {
            return Err(NotAManifest::OtherFormat(format));
        }
        serde_json::from_slice::<Fields>(bytes).map_err(NotAManifest::Fields)?.check()
    }

    /// The bytes to sign, store and name. Made once: after that the bytes are the package.
    pub fn encode(&self) -> Result<Vec<u8>, NotAManifest> {
        let bytes = canonical::encode(&self.0).map_err(NotAManifest::Encode)?;
        match bytes.len() {
            ..=MANIFEST_BYTES_MAX => Ok(bytes),
            long => Err(NotAManifest::TooLong(long)),
        }
    }

    /// The package's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Version, programs, detection and the rest; `content` is always absent.
    pub fn spec(&self) -> &PackageSpec {
        &self.0.spec
    }

    /// The content, in rising order of paths.
    pub fn tree(&self) -> &[Entry] {
        &self.0.tree
    }

    /// The files of the tree, in its order.
    pub fn files(&self) -> impl Iterator<Item = &FileNode> {
        self.0.tree.iter().filter_map(|entry| match &entry.node {
            Node::File(file) => Some(file),
            _ => None,
        })
    }

    /// Every distinct object that the content needs, with its stored bytes. The encoded manifest
    /// itself is one more.
    pub fn objects(&self) -> BTreeMap<Digest, u32> {
        let chunks = self.files().flat_map(|file| &file.chunks);
        chunks.map(|chunk| (chunk.object, chunk.stored)).collect()
    }

    /// Bytes on disk once unpacked: the sum over all files.
    pub fn content_bytes(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }

    /// The digest of the content alone, which `export` writes in place of its path: two packages
    /// with the same tree share it.
    pub fn content_digest(&self) -> Result<Digest, NotAManifest> {
        let bytes = canonical::encode(&self.0.tree).map_err(NotAManifest::Encode)?;
        Ok(Digest::of(&bytes))
    }
}

impl Fields {
    fn check(self) -> Result<Manifest, NotAManifest> {
        if self.spec.content.is_some() {
            return Err(NotAManifest::ContentBesideTree);
        }
        match self.spec.check() {
            problems if problems.is_empty() => {}
            problems => return Err(NotAManifest::Spec(problems)),
        }
        check_tree(&self.tree).map_err(NotAManifest::Tree)?;
        if self.spec.agent_release.is_some() && !self.tree.iter().any(is_program) {
            return Err(NotAManifest::NoProgram);
        }
        Ok(Manifest(self))
    }
}

/// Whether it is the program of an agent release, which its owner may execute.
fn is_program(entry: &Entry) -> bool {
    let executable = matches!(&entry.node, Node::File(file) if file.mode.bits() & 0o100 != 0);
    executable && entry.path.as_str() == PROGRAM_FILE
}

/// An encoded manifest and what was signed over it. Says nothing about whether to believe it; see
/// [`crate::trust::Trust::verify_manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedManifest {
    /// The encoded manifest.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// Signatures over exactly these bytes.
    pub signatures: Vec<KeySignature>,
}

impl SignedManifest {
    /// Signs an encoded manifest with a publisher's key.
    pub fn sign(payload: Vec<u8>, key: &PrivateKey) -> Self {
        let signature = KeySignature::make(key, Domain::Manifest, &payload);
        Self { payload, signatures: vec![signature] }
    }

    /// The manifest digest: what advertisements pin.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{file, folder, link};
    use serde_json::{Value, json};

    pub(crate) fn spec() -> PackageSpec {
        serde_json::from_value(json!({
            "version": "2.10",
            "content": "./hello",
            "programs": [{"name": "install", "commandLine": "sh install.sh"}],
            "detection": {"command": ["sh", "detect.sh"]},
        }))
        .unwrap()
    }

    pub(crate) fn manifest() -> Manifest {
        let tree = vec![folder("bin"), file("bin/go", b"content"), link("go", "bin/go")];
        Manifest::new(Name::new("hello").unwrap(), spec(), tree).unwrap()
    }

    /// `manifest()` as JSON, changed, in canonical bytes.
    fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value = serde_json::from_slice(&manifest().encode().unwrap()).unwrap();
        change(&mut value);
        canonical::encode(&value).unwrap()
    }

    #[track_caller]
    fn refused(bytes: &[u8], said: &str) {
        let error = Manifest::parse(bytes).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        assert!(text.contains(said), "{text}");
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let bytes = manifest().encode().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest());
        assert_eq!(Manifest::parse(&bytes).unwrap().encode().unwrap(), bytes);
        assert_eq!(manifest().content_bytes(), 7);
        assert_eq!(manifest().objects(), BTreeMap::from([(Digest::of(b"content"), 7)]));
        assert_eq!(manifest().spec().content, None);
    }

    #[test]
    fn a_manifest_of_the_first_release_is_still_read() {
        let golden = include_bytes!("golden/manifest-1.json").trim_ascii_end();
        let manifest = Manifest::parse(golden).unwrap();
        assert_eq!(manifest.name().as_str(), "hello");
        assert_eq!(manifest.spec().programs[0].words(), ["sh", "install.sh"]);
        assert_eq!(manifest.tree(), self::manifest().tree());
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        refused(&changed(|m| m["colour"] = json!(1)), "unknown field `colour`");
        refused(&changed(|m| m["spec"]["colour"] = json!(1)), "unknown field `colour`");
        refused(&changed(|m| m["tree"][0]["colour"] = json!(1)), "unknown field `colour`");
        refused(&changed(|m| m["tree"][0]["node"]["folder"]["c"] = json!(1)), "unknown field `c`");
        refused(&changed(|m| m["tree"][1]["node"]["file"]["c"] = json!(1)), "unknown field `c`");
        let chunk = |m: &mut Value| m["tree"][1]["node"]["file"]["chunks"][0]["c"] = json!(1);
        refused(&changed(chunk), "unknown field `c`");
    }

    #[test]
    fn a_newer_format_is_named_and_not_guessed_at() {
        let newer = |m: &mut Value| {
            m["format"] = json!(2);
            m["colour"] = json!(1);
        };
        refused(&changed(newer), "a manifest of format 2");
    }

    #[test]
    fn whatever_could_not_be_made_is_refused() {
        refused(&changed(|m| m["spec"]["content"] = json!("./x")), "beside the tree");
        refused(&changed(|m| m["spec"]["programs"] = json!([])), "spec.programs");
        refused(&changed(|m| m["name"] = json!("a/b")), "no `/`");
        refused(&changed(|m| m["tree"][1]["path"] = json!("bin/../../x")), "`..`");
        refused(&changed(|m| m["tree"][2]["node"]["symlink"]["target"] = json!("/")), "leave");
        refused(&changed(|m| m["tree"][1]["node"]["file"]["mode"] = json!("4755")), "setuid");
        let mut spaced = manifest().encode().unwrap();
        spaced.push(b'\n');
        refused(&spaced, "not what the canonical form has");
    }

    #[test]
    fn a_release_of_the_agent_carries_its_program() {
        let release = |tree| {
            let spec = serde_json::from_value(json!({"version": "0.2", "agentRelease": {}}));
            let spec: PackageSpec = spec.unwrap();
            Manifest::new(Name::new("agent").unwrap(), spec.completed(), tree)
        };
        let program = |mode: &str| {
            let mut entry = file("muster", b"program");
            if let Node::File(file) = &mut entry.node {
                file.mode = mode.parse().unwrap();
            }
            vec![entry]
        };
        assert!(release(program("0755")).is_ok());
        let refused = release(program("0644")).unwrap_err();
        assert!(refused.to_string().contains("executable file `muster`"), "{refused}");
        assert!(matches!(release(Vec::new()), Err(NotAManifest::NoProgram)));
    }

    #[test]
    fn a_manifest_longer_than_the_limit_is_refused_unread() {
        refused(&vec![b' '; MANIFEST_BYTES_MAX + 1], "the most is 16777216");
    }
}
