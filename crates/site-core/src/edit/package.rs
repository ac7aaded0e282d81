//! Publishing a package version.

use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::problem::Problem;

use super::problem;

/// What publishing a version does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// It is new.
    New,
    /// The very same bytes are published already: nothing is to be done.
    Same,
}

/// Decides on `version` of package `name` with this manifest. `published` is the manifest under the
/// same name and version, if there is one. A published version is never replaced.
pub fn plan_publish(
    name: &Name,
    version: &str,
    manifest: Digest,
    published: Option<Digest>,
) -> Result<Publish, Problem> {
    match published {
        None => Ok(Publish::New),
        Some(same) if same == manifest => Ok(Publish::Same),
        Some(other) => Err(problem(
            "spec.version",
            format!(
                "{name}@{version} is published with other bytes (manifest {}, this one {}); give \
                 this one a version of its own",
                other.short(),
                manifest.short()
            ),
        )),
    }
}
