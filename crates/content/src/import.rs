//! Makes a package of Muster out of Debian packages: install, remove, detect.
//!
//! The publisher's `package import` reads each FILE.deb with [`Deb::read`] and hands them in with
//! [`import`], the package itself first and what it needs after it. The content is the debs as they
//! are, scripts that never change, and lists for the scripts to read; so no name or path ever
//! becomes part of a command line. Nothing is run here.
//!
//! The programs work in two ways and say which one it was. When the root is `/`, dpkg installs,
//! removes and is asked. Otherwise the files are unpacked below the root, maintainer scripts are
//! not run, and digests decide; that is what a test fleet, or an image being built, needs.
//!
//! ```text
//! common.sh install.sh remove.sh detect.sh      the same for every import
//! NAME_VERSION_ARCHITECTURE.deb ...             as they came
//! lists/package, lists/depends                  name architecture version file start bytes unpack
//! lists/files.sha256, lists/conffiles.sha256    as sha256sum writes them
//! lists/links                                   path, tab, target
//! lists/folders, lists/all-folders              inner ones first; of the package, of all debs
//! lists/all-conffiles                           of all debs
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;

use muster_model::name::{Name, NotAName};
use muster_model::package::{Achieves, Detection, PackageManager, PackageSpec, Program};
use muster_model::period::Period;

use crate::deb::{Deb, DebKind};

/// Debian packages in one import. The whole closure of a desktop has some 2,000; one that large is
/// an image, not a package.
pub const IMPORT_DEBS_MAX: usize = 512;
/// How long install and remove may take: a large package on a slow disk, and its scripts.
const RUN_TIME: Period = Period::hours(1);
/// How long detection may take: it reads every file once.
const DETECTION_TIME: Period = Period::minutes(10);

const COMMON: &str = include_str!("import/common.sh");
const INSTALL: &str = include_str!("import/install.sh");
const REMOVE: &str = include_str!("import/remove.sh");
const DETECT: &str = include_str!("import/detect.sh");

/// A package as it was made: publish it with the tree that [`Import::files`] describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The name of the first Debian package.
    pub name: Name,
    /// Version, programs, detection. Add the content.
    pub spec: PackageSpec,
    /// The content, to be added to a [`crate::tree::TreeBuilder`].
    pub files: Vec<ImportFile>,
}

/// One file of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFile {
    /// Where in the tree.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub content: ImportContent,
}

/// What is in a file of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportContent {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of the Debian package at this place in the list that was handed in.
    Deb(usize),
}

/// Why no package is made of some Debian packages.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefused {
    /// None, or more than [`IMPORT_DEBS_MAX`].
    #[error("import {0} Debian packages: allowed are 1 to {IMPORT_DEBS_MAX}")]
    Count(usize),
    /// The same one twice, or in two versions.
    #[error("import Debian packages: {0} is among them twice")]
    Twice(String),
    /// For machines on which no agent runs.
    #[error("import {package}: no agent runs on architecture {architecture}")]
    Architecture {
        /// The Debian package.
        package: String,
        /// In Debian's words.
        architecture: String,
    },
    /// For two kinds of machines at once.
    #[error("import {package}: it is for {architecture}, what stands before it is for {other}")]
    TwoArchitectures {
        /// The Debian package.
        package: String,
        /// Its architecture.
        architecture: String,
        /// That of an earlier one.
        other: String,
    },
    /// Its name is no package's name.
    #[error("import a Debian package")]
    Name(#[source] NotAName),
}

/// Makes a package of `debs`: the first gives name, version and detection, the others are what it
/// needs. What is missing among them must be on the machine already.
pub fn import(debs: &[Deb]) -> Result<Import, ImportRefused> {
    if debs.len() > IMPORT_DEBS_MAX {
        return Err(ImportRefused::Count(debs.len()));
    }
    let Some((main, needs)) = debs.split_first() else { return Err(ImportRefused::Count(0)) };
    let mut packages = BTreeSet::new();
    if let Some(twice) = debs.iter().find(|deb| !packages.insert(&deb.package)) {
        return Err(ImportRefused::Twice(twice.package.clone()));
    }
    let platform = platform(debs)?;
    let name = Name::new(&main.package).map_err(ImportRefused::Name)?;
    let program = |name, script: &str, achieves, disk| -> Result<Program, ImportRefused> {
        let name = Name::new(name).map_err(ImportRefused::Name)?;
        Ok(Program {
            max_run_time: RUN_TIME,
            achieves,
            platform: Some(platform.to_owned()),
            disk,
            package_manager: Some(PackageManager::Dpkg),
            ..Program::new(name, vec!["sh".to_owned(), script.to_owned()])
        })
    };
    let spec = PackageSpec {
        version: main.version.clone(),
        content: None,
        programs: vec![
            program("install", "install.sh", Achieves::Present, Some(disk(debs)))?,
            program("remove", "remove.sh", Achieves::Absent, None)?,
        ],
        detection: Some(Detection {
            command_line: None,
            command: Some(vec!["sh".to_owned(), "detect.sh".to_owned()]),
            max_run_time: DETECTION_TIME,
        }),
        supersedes: Vec::new(),
        description: main.description.clone(),
        agent_release: None,
    };
    Ok(Import { name, spec, files: files(main, needs) })
}

/// The platform that all of them run on.
fn platform(debs: &[Deb]) -> Result<&'static str, ImportRefused> {
    let mut machine: Option<&Deb> = None;
    for deb in debs.iter().filter(|deb| deb.architecture != "all") {
        let (package, architecture) = (deb.package.clone(), deb.architecture.clone());
        match machine {
            Some(other) if other.architecture != architecture => {
                let other = other.architecture.clone();
                return Err(ImportRefused::TwoArchitectures { package, architecture, other });
            }
            Some(_) => {}
            None => machine = Some(deb),
        }
    }
    match machine.map(|deb| (deb, deb.architecture.as_str())) {
        None => Ok("linux"),
        Some((_, "amd64")) => Ok("linux/x86_64"),
        Some((_, "arm64")) => Ok("linux/aarch64"),
        Some((deb, architecture)) => Err(ImportRefused::Architecture {
            package: deb.package.clone(),
            architecture: architecture.to_owned(),
        }),
    }
}

/// Bytes that the installed files take: what they are, or what the packages say if that is more.
fn disk(debs: &[Deb]) -> u64 {
    let size = |deb: &Deb| -> u64 {
        let sizes = deb.files.iter().map(|file| match file.kind {
            DebKind::File { size, .. } => size,
            _ => 0,
        });
        sizes.fold(0, u64::saturating_add).max(deb.installed_bytes)
    };
    debs.iter().map(size).fold(0, u64::saturating_add)
}

fn files(main: &Deb, needs: &[Deb]) -> Vec<ImportFile> {
    let all = || std::iter::once(main).chain(needs);
    let conffiles: BTreeSet<&str> = main.conffiles.iter().map(String::as_str).collect();
    let all_conffiles = all().flat_map(|deb| &deb.conffiles).map(String::as_str);
    let texts = [
        ("common.sh", COMMON.to_owned()),
        ("install.sh", INSTALL.to_owned()),
        ("remove.sh", REMOVE.to_owned()),
        ("detect.sh", DETECT.to_owned()),
        ("lists/package", deb_line(main)),
        ("lists/depends", needs.iter().map(deb_line).collect()),
        ("lists/files.sha256", digests(main, |path| !conffiles.contains(path))),
        ("lists/conffiles.sha256", digests(main, |path| conffiles.contains(path))),
        ("lists/links", links(main)),
        ("lists/folders", folders(std::iter::once(main))),
        ("lists/all-folders", folders(all())),
        ("lists/all-conffiles", lines(all_conffiles)),
    ];
    let texts = texts.into_iter().map(|(path, text)| ImportFile {
        path: path.to_owned(),
        mode: if path.ends_with(".sh") { 0o755 } else { 0o644 },
        content: ImportContent::Bytes(text.into_bytes()),
    });
    let debs = all().enumerate().map(|(place, deb)| ImportFile {
        path: deb.file_name(),
        mode: 0o644,
        content: ImportContent::Deb(place),
    });
    texts.chain(debs).collect()
}

/// Fields that have neither blanks nor quotes, as [`Deb::read`] made sure. `tail -c +N` counts from
/// one.
fn deb_line(deb: &Deb) -> String {
    let Deb { package, architecture, version, data, .. } = deb;
    let (file, start, unpack) = (deb.file_name(), data.offset + 1, data.compression.command());
    format!("{package} {architecture} {version} {file} {start} {} {unpack}\n", data.bytes)
}

/// What `sha256sum -c` reads.
fn digests(deb: &Deb, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for file in deb.files.iter().filter(|file| wanted(&file.path)) {
        if let DebKind::File { digest, .. } = file.kind {
            let _ = writeln!(text, "{digest}  {}", file.path);
        }
    }
    text
}

fn links(deb: &Deb) -> String {
    let mut text = String::new();
    for file in &deb.files {
        if let DebKind::Symlink { target } = &file.kind {
            let _ = writeln!(text, "{}\t{target}", file.path);
        }
    }
    text
}

/// Every folder that something of `debs` stands in or is, inner ones first.
fn folders<'a>(debs: impl Iterator<Item = &'a Deb>) -> String {
    let mut folders = BTreeSet::new();
    for file in debs.flat_map(|deb| &deb.files) {
        folders.extend(file.path.match_indices('/').map(|(end, _)| &file.path[..end]));
        if file.kind == DebKind::Folder {
            folders.insert(file.path.as_str());
        }
    }
    lines(folders.into_iter().rev())
}

fn lines<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.flat_map(|item| [item, "\n"]).collect()
}

#[cfg(test)]
mod tests;
