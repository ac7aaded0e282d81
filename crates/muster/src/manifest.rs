//! Manifests from files: read, checked field by field, and kept with the lines that they came from.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use muster_model::object::{Kind, Object};

use crate::error::{Failure, Outcome, Tried};
use crate::yaml::{self, Document, FILE_BYTES_MAX};

/// What `-` is called in messages.
const STDIN_SHOWN: &str = "(standard input)";
/// Files that one folder may hold for one `apply`.
const FILES_MAX: usize = 10_000;

/// One object and where it stands.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) object: Object,
    pub(crate) file: PathBuf,
    document: Document,
}

impl Manifest {
    /// `FILE:LINE` of a field.
    pub(crate) fn place(&self, field: &str) -> String {
        format!("{}:{}", self.file.display(), self.document.line(field))
    }

    /// The document for the site, with the revision that its author saw, if it says so.
    pub(crate) fn request(&self) -> serde_json::Value {
        let mut value = self.object.to_value();
        if let Some(seen) = Object::expected_revision(&self.document.value) {
            value["metadata"]["revision"] = seen.into();
        }
        value
    }

    /// The folder that relative paths of the manifest start from.
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }
}

/// Reads all objects of files and folders. Packages come first, then collections, then
/// advertisements, so that each finds what it names. All faults are shown at once.
pub(crate) fn load(paths: &[PathBuf]) -> Outcome<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut faults = Vec::new();
    for file in files(paths)? {
        let documents = documents(&file)?;
        let file = if is_stdin(&file) { PathBuf::from(STDIN_SHOWN) } else { file };
        for document in documents {
            match Object::from_value(document.value.clone()) {
                Ok(object) => manifests.push(Manifest { object, file: file.clone(), document }),
                Err(problems) => faults.extend(problems.into_iter().map(|problem| {
                    let line = document.line(&problem.field);
                    format!("{}:{line}: {problem}", file.display())
                })),
            }
        }
    }
    if !faults.is_empty() {
        return Err(Failure::usage(faults.join("\nerror: ")));
    }
    if manifests.is_empty() {
        return Err(Failure::usage(format!(
            "no manifest in {}",
            crate::commands::objects::shown(paths)
        )));
    }
    manifests.sort_by_key(|manifest| match manifest.object.kind() {
        Kind::Package => 0,
        Kind::Collection => 1,
        Kind::MaintenanceWindow => 2,
        Kind::Advertisement => 3,
    });
    Ok(manifests)
}

/// Reads the one package of a file.
pub(crate) fn load_package(file: &Path) -> Outcome<Manifest> {
    let mut packages: Vec<Manifest> = load(&[file.to_path_buf()])?
        .into_iter()
        .filter(|manifest| manifest.object.kind() == Kind::Package)
        .collect();
    match (packages.len(), packages.pop()) {
        (1, Some(package)) => Ok(package),
        (n, _) => Err(Failure::usage(format!(
            "{} holds {n} packages; `package publish` takes exactly one",
            file.display()
        ))
        .hint("`muster apply -f FILE` takes any number of objects")),
    }
}

fn documents(file: &Path) -> Outcome<Vec<Document>> {
    let shown = if is_stdin(file) { STDIN_SHOWN.into() } else { file.display().to_string() };
    let tried = || format!("read the manifest {shown}");
    let mut text = String::new();
    // One byte more shows that there is more.
    let read = match is_stdin(file) {
        true => std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_string(&mut text),
        false => {
            let file = std::fs::File::open(file).tried(tried)?;
            file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
        }
    };
    if read.tried(tried)? as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{shown} is too long: a manifest has at most {FILE_BYTES_MAX} bytes (FILE_BYTES_MAX)"
        )));
    }
    yaml::read(&text)
        .map_err(|fault| Failure::usage(format!("{shown}:{}: {}", fault.line, fault.why)))
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn files(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let tried = || format!("list the folder {}", path.display());
        for entry in std::fs::read_dir(path).tried(tried)? {
            let file = entry.tried(tried)?.path();
            let is_manifest =
                file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
            if is_manifest && file.is_file() {
                files.push(file);
            }
        }
    }
    files.sort();
    if files.len() > FILES_MAX {
        return Err(Failure::usage(format!("more than {FILES_MAX} manifests (FILES_MAX)")));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Outcome<Vec<Manifest>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.yaml");
        std::fs::write(&file, text).unwrap();
        load(&[file])
    }

    #[test]
    fn a_fault_names_file_line_field_and_range() {
        let failed = check(
            "apiVersion: muster/v1\nkind: Package\nmetadata: {name: hello}\nspec:\n  version: \"1\"\n  \
             programs:\n    - name: go\n      commandLine: sh x\n      maxRunTime: 9d\n",
        )
        .unwrap_err()
        .to_string();
        assert!(failed.contains("m.yaml:9: spec.programs[0].maxRunTime"), "{failed}");
        assert!(failed.contains("at most 7d"), "{failed}");
    }

    #[test]
    fn packages_come_before_what_names_them() {
        let manifests = check(
            "apiVersion: muster/v1\nkind: Collection\nmetadata: {name: c}\nspec: {}\n---\n\
             apiVersion: muster/v1\nkind: Package\nmetadata: {name: p}\nspec: {version: \"1\", \
             programs: [{name: go, command: [x]}]}\n",
        )
        .unwrap();
        assert_eq!(manifests[0].object.kind(), Kind::Package);
    }
}
