//! `package import FILE.deb`: a Debian package, with what it needs, as a package of Muster.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_content::deb::Deb;
use muster_content::import::{IMPORT_DEBS_MAX, Import, ImportContent, import};
use muster_content::tree::TreeBuilder;
use muster_model::name::Name;
use muster_model::object::{Metadata, Object, Spec};

use crate::error::{Failure, Outcome, Tried};
use crate::print::say;
use crate::spool::Spool;

/// Reads the Debian package, finds what it needs if asked, and cuts everything into a spool.
pub(crate) fn debian(
    file: &Path,
    with_depends: bool,
    name: Option<Name>,
) -> Outcome<(Object, Spool)> {
    let fetched = tempfile::tempdir().tried(|| "make a scratch folder".into())?;
    let mut found = vec![(file.to_path_buf(), read(file)?)];
    if with_depends {
        found = with_needed(found, fetched.path())?;
    }
    let (files, debs): (Vec<PathBuf>, Vec<Deb>) = found.into_iter().unzip();
    let made = import(&debs).tried(|| format!("make a package of {}", file.display()))?;
    let spool = cut(&made, &files)?;
    let metadata =
        Metadata { name: name.unwrap_or(made.name), labels: Default::default(), formerly: None };
    Ok((Object { metadata, spec: Spec::Package(made.spec) }, spool))
}

fn read(file: &Path) -> Outcome<Deb> {
    let tried = || format!("read the Debian package {}", file.display());
    let mut source = File::open(file).tried(tried)?;
    Deb::read(&mut source).tried(tried)
}

fn cut(made: &Import, files: &[PathBuf]) -> Outcome<Spool> {
    let mut spool = Spool::new()?;
    let mut tree = TreeBuilder::new(spool.writer());
    for file in &made.files {
        let tried = || format!("package {}", file.path);
        match &file.content {
            ImportContent::Bytes(bytes) => {
                tree.add_file(&file.path, file.mode, bytes.as_slice()).tried(tried)?;
            }
            ImportContent::Deb(at) => {
                let path = files.get(*at).ok_or_else(|| Failure::new("a package is missing"))?;
                let source = File::open(path).tried(tried)?;
                tree.add_file(&file.path, file.mode, source).tried(tried)?;
            }
        }
    }
    spool.entries = tree.finish().tried(|| "make the tree of the package".into())?;
    Ok(spool)
}

/// Adds everything that the first package needs, found beside it or downloaded by apt. Each is taken
/// once; of alternatives the first that can be had.
fn with_needed(mut found: Vec<(PathBuf, Deb)>, fetched: &Path) -> Outcome<Vec<(PathBuf, Deb)>> {
    let folder = match found[0].0.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut seen: BTreeSet<String> = BTreeSet::from([found[0].1.package.clone()]);
    let mut open: VecDeque<Vec<String>> = needed(&found[0].1).into();
    while let Some(alternatives) = open.pop_front() {
        if alternatives.iter().any(|package| seen.contains(package)) {
            continue;
        }
        if found.len() >= IMPORT_DEBS_MAX {
            return Err(Failure::new(format!(
                "more than {IMPORT_DEBS_MAX} packages are needed (IMPORT_DEBS_MAX)"
            )));
        }
        let path = obtain(&alternatives, &folder, fetched)?;
        let deb = read(&path)?;
        say(format!("with {} {}", deb.package, deb.version));
        seen.extend([deb.package.clone(), alternatives[0].clone()]);
        open.extend(needed(&deb));
        found.push((path, deb));
    }
    Ok(found)
}

/// The package names of each dependency: `a | b (>= 2), c:any` is `[[a, b], [c]]`.
fn needed(deb: &Deb) -> Vec<Vec<String>> {
    [&deb.pre_depends, &deb.depends]
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(|choice| {
            choice
                .split('|')
                .filter_map(|one| one.split_whitespace().next())
                .map(|one| one.split(':').next().unwrap_or(one).to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|choice| !choice.is_empty())
        .collect()
}

fn obtain(alternatives: &[String], folder: &Path, fetched: &Path) -> Outcome<PathBuf> {
    if let Some(path) = alternatives.iter().find_map(|package| beside(folder, package)) {
        return Ok(path);
    }
    let mut said = String::new();
    for package in alternatives {
        let done = Command::new("apt-get")
            .args(["download", "--quiet", package])
            .current_dir(fetched)
            .output()
            .tried(|| format!("run apt-get to download {package}"))?;
        if let (true, Some(path)) = (done.status.success(), beside(fetched, package)) {
            return Ok(path);
        }
        said.push_str(String::from_utf8_lossy(&done.stderr).trim());
    }
    Err(Failure::new(format!("failed to find {}: {said}", alternatives.join(" or ")))
        .hint(format!("put its .deb into {}, or run `apt-get update`", folder.display())))
}

/// `PACKAGE_*.deb` in a folder.
fn beside(folder: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && name.ends_with(".deb")
        })
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_with_their_alternatives() {
        let deb = |depends: &str| Deb {
            depends: depends.into(),
            pre_depends: String::new(),
            package: "x".into(),
            version: "1".into(),
            architecture: "all".into(),
            description: String::new(),
            maintainer: String::new(),
            installed_bytes: 0,
            conffiles: Vec::new(),
            has_maintainer_scripts: false,
            files: Vec::new(),
            data: muster_content::deb::DataArchive {
                offset: 0,
                bytes: 0,
                compression: muster_content::deb::Compression::None,
            },
        };
        assert_eq!(
            needed(&deb("libc6 (>= 2.34), a:any | b (<< 3), c")),
            [vec!["libc6"], vec!["a", "b"], vec!["c"]]
        );
        assert!(needed(&deb("")).is_empty());
    }
}
