//! The versions of the agent on this device: each in a folder of its own, and one file that says which of
//! them stands.
//!
//! ```text
//! DATA/versions/standing.json     muster_agent_core::versions::Versions, replaced by rename
//! DATA/versions/MANIFEST/muster   a release's program, named by the digest of its manifest
//! DATA/versions/unpacked          the content of a release that is being laid out
//! ```
//!
//! Nothing that may run is ever written over: a release is laid out beside the others, durably, before
//! the file names it, and goes when the file names it no more. One process at a time changes the file: the agent
//! that holds the folder, or whoever keeps watch over a trial ([`crate::trial`]), who lets the release on
//! trial speak while it lives.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use muster_agent_core::versions::{Event, Footing, Phase, Release, Versions};
use muster_host::failpoint::{self, Point, When};
use muster_host::publish::{self, Draft, PRIVATE_DIR, PublishError, ReadError};
use muster_model::digest::{Digest, Hasher};
use muster_model::release::PROGRAM_FILE;
use serde::Serialize;

use crate::chain_of;
use crate::contents::remove_copy;

/// The folder in the data folder.
pub(crate) const VERSIONS_DIR: &str = "versions";
/// Where the content of a release is unpacked.
const UNPACKED_DIR: &str = "unpacked";
const STANDING_FILE: &str = "standing.json";
/// Three releases and a sentence.
const STANDING_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a program that are read at once.
const READ_BYTES: usize = 128 * 1024;
/// By this variable a release is told which one it is, when it is executed.
pub(crate) const RELEASE_VARIABLE: &str = "MUSTER_RELEASE";
/// The version of this program.
pub(crate) const INSTALLED: &str = env!("CARGO_PKG_VERSION");

/// The versions could not be read, changed or laid out.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// The file could not be read.
    #[error("failed to read which version of the agent stands")]
    Read(#[from] ReadError),
    /// It could not be replaced, or a program not be laid out.
    #[error("failed to change which version of the agent stands")]
    Publish(#[from] PublishError),
    /// It could not be written as JSON.
    #[error("failed to write down which version of the agent stands")]
    Json(#[from] serde_json::Error),
    /// The release has no program.
    #[error("the release has no file `{PROGRAM_FILE}`")]
    NoProgram,
    /// A program could not be read.
    #[error("failed to read the program {path}")]
    Program {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Which version of the agent runs, and what is under way: for `agent status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// The version that runs, or would be started.
    pub version: String,
    /// `current`, `on-trial(V, start N of M)` or `returned(V: WHY)`.
    pub state: String,
    /// The release that it is; absent if it is the program that was installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// The version that ran before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// The release that this process is, as it was told when it was executed; `None`: it is the program
/// that was installed.
pub(crate) fn own_release() -> Option<Digest> {
    std::env::var(RELEASE_VARIABLE).ok()?.parse().ok()
}

/// The versions in `data`. What cannot be understood counts as none, and is logged: the installed program
/// is always there to go on with.
pub(crate) fn load(data: &Path) -> Result<Versions, VersionsError> {
    let bytes = publish::read_if_there(&file(data), STANDING_BYTES_MAX)?;
    let Some(bytes) = bytes else { return Ok(Versions::default()) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(%error, "which version stands is not understood; the installed one does");
        Versions::default()
    }))
}

/// Applies an event; what it leads to is durable on return.
pub(crate) fn change(data: &Path, event: Event) -> Result<Versions, VersionsError> {
    let before = load(data)?;
    let after = before.clone().next(event);
    if after != before {
        let bytes = serde_json::to_vec_pretty(&after)?;
        failpoint::hit(Point::VersionsSwap, When::Before);
        publish::durable_publish(&file(data), &bytes)?;
        failpoint::hit(Point::VersionsSwap, When::After);
    }
    Ok(after)
}

/// What the machine of this process is told. What cannot be read is as if nothing were under way.
pub(crate) fn footing(data: &Path) -> Footing {
    let versions = load(data).unwrap_or_else(|error| {
        tracing::error!(why = %chain_of(&error), "which version stands is not known");
        Versions::default()
    });
    versions.footing(own_release(), INSTALLED)
}

/// The version that this process is.
pub(crate) fn running(data: &Path) -> String {
    match own_release() {
        None => INSTALLED.to_owned(),
        Some(_) => footing(data).version,
    }
}

/// Where the program of a release lies.
pub(crate) fn program(data: &Path, manifest: Digest) -> PathBuf {
    folder(data, manifest).join(PROGRAM_FILE)
}

/// Where a release is unpacked.
pub(crate) fn unpacked(data: &Path) -> PathBuf {
    data.join(VERSIONS_DIR).join(UNPACKED_DIR)
}

/// Makes the folder of all versions; durable on return.
pub(crate) fn prepare(data: &Path) -> Result<(), VersionsError> {
    Ok(publish::create_private_dir(&data.join(VERSIONS_DIR))?)
}

/// Lays the program of an unpacked release out in its own folder, durably, and answers what to name.
pub(crate) fn lay_out(
    data: &Path,
    manifest: Digest,
    version: String,
) -> Result<Release, VersionsError> {
    let from = unpacked(data).join(PROGRAM_FILE);
    if !from.symlink_metadata().is_ok_and(|seen| seen.is_file()) {
        return Err(VersionsError::NoProgram);
    }
    publish::create_private_dir(&folder(data, manifest))?;
    let mut draft = Draft::beside(&program(data, manifest), PRIVATE_DIR)?;
    let program = read_through(&from, |bytes| draft.write(bytes).map_err(VersionsError::from))?;
    draft.publish()?;
    let current = load(data)?.current;
    let over = current.map_or_else(|| INSTALLED.to_owned(), |current| current.over);
    Ok(Release { manifest, version, program, over })
}

/// Whether the program of a release is the one that was laid out.
pub(crate) fn is_sound(data: &Path, release: &Release) -> bool {
    let program = program(data, release.manifest);
    read_through(&program, |_| Ok(())).is_ok_and(|digest| digest == release.program)
}

/// Removes the folders that nothing names.
pub(crate) fn sweep(data: &Path) {
    let Ok(versions) = load(data) else { return };
    let kept: Vec<String> = versions.kept().map(|one| one.manifest.to_string()).collect();
    let entries = std::fs::read_dir(data.join(VERSIONS_DIR)).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder
            && !kept.contains(&name)
            && let Err(error) = remove_copy(&entry.path())
        {
            tracing::warn!(%error, "a version that nothing names stays");
        }
    }
}

/// What `agent status` shows: of the process `running`, if one runs.
pub(crate) fn view(data: &Path, running: Option<&crate::AgentFile>) -> VersionView {
    let versions = load(data).unwrap_or_default();
    let (current, previous) = (&versions.current, &versions.previous);
    let stands = || current.as_ref().map_or(INSTALLED, |release| &release.version).to_owned();
    let state = match &versions.phase {
        Phase::Settled => "current".to_owned(),
        Phase::OnTrial { release, starts, .. } => {
            let most = muster_agent_core::versions::STARTS_MAX;
            format!("on-trial({}, start {starts} of {most})", release.version)
        }
        Phase::Returned { release, why } => format!("returned({}: {why})", release.version),
    };
    VersionView {
        version: running.and_then(|agent| agent.version.clone()).unwrap_or_else(stands),
        state,
        release: match running {
            Some(agent) => agent.release,
            None => current.as_ref().map(|release| release.manifest),
        },
        previous: previous.as_ref().map(|release| release.version.clone()),
    }
}

fn folder(data: &Path, manifest: Digest) -> PathBuf {
    data.join(VERSIONS_DIR).join(manifest.to_string())
}

fn file(data: &Path) -> PathBuf {
    data.join(VERSIONS_DIR).join(STANDING_FILE)
}

/// Reads a program piece by piece, and answers the digest of it all.
fn read_through(
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), VersionsError>,
) -> Result<Digest, VersionsError> {
    let failed = |source| VersionsError::Program { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finish()),
            read => {
                hasher.update(&buffer[..read]);
                take(&buffer[..read])?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::period::Period;
    use std::fs;

    fn laid_out(data: &Path, n: u8) -> Release {
        prepare(data).unwrap();
        fs::create_dir_all(unpacked(data)).unwrap();
        fs::write(unpacked(data).join(PROGRAM_FILE), [n; 300_000]).unwrap();
        lay_out(data, Digest::of(&[n]), format!("0.{n}")).unwrap()
    }

    #[test]
    fn a_release_is_laid_out_beside_the_others_and_stays_while_it_is_named() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        let (one, two) = (laid_out(data, 1), laid_out(data, 2));
        assert_eq!((one.program, one.over.as_str()), (Digest::of(&[1; 300_000]), INSTALLED));
        assert!(is_sound(data, &one) && is_sound(data, &two));
        let trial = Period::secs(1);
        change(data, Event::Begin { release: two.clone(), trial }).unwrap();
        sweep(data);
        assert!(is_sound(data, &two) && !program(data, one.manifest).exists());
        assert!(!unpacked(data).exists());
        fs::write(program(data, two.manifest), "another").unwrap();
        assert!(!is_sound(data, &two), "what was altered is not started");
    }

    #[test]
    fn a_release_without_the_program_is_refused_and_a_damaged_file_is_none() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        prepare(data).unwrap();
        fs::create_dir_all(unpacked(data)).unwrap();
        let refused = lay_out(data, Digest::of(b"x"), "2".into()).unwrap_err();
        assert!(refused.to_string().contains("no file `muster`"));
        fs::write(file(data), "{").unwrap();
        assert_eq!(load(data).unwrap(), Versions::default());
        assert_eq!(view(data, None).state, "current");
    }
}
