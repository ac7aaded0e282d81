//! The programs that must succeed before an advertised one, looked up among what is published; and who
//! depends on a package.

use muster_model::id::PackageId;
use muster_model::name::Name;
use muster_model::object::Kind as ObjectKind;
use muster_model::package::Program;
use muster_model::policy::{Order, PinnedPackage, PinnedProgram};
use muster_model::problem::Problem;
use muster_model::program::Dependency;
use muster_site_core::edit::{PublishedVersion, Walk};

use super::error::{Outcome, Refusal};
use super::live::package_spec;
use crate::store::{AdvertisementRow, Read};

/// What goes before a program, and what bears on it.
#[derive(Debug, Default)]
pub(crate) struct GoesBefore {
    /// Pinned, in the order in which it runs.
    pub(crate) pinned: Vec<PinnedProgram>,
    /// The packages that it is of.
    pub(crate) packages: Vec<PackageId>,
    /// Somebody revoked one of the versions.
    pub(crate) revoked: Option<Order>,
}

/// Pins what goes before `program` of `package` for an advertisement; the problem if it cannot be
/// pinned, or is revoked and was not pinned (`kept`) before.
pub(crate) async fn pin(
    read: &mut Read,
    package: &Name,
    program: &Program,
    kept: bool,
) -> Outcome<Result<Vec<PinnedProgram>, Problem>> {
    let mut walk = Walk::new(package, program);
    while let Some(wanted) = walk.wants().cloned() {
        let found = look_up(read, &wanted).await?.map(|(_, version, _)| PublishedVersion {
            revoked: version.revoked && !kept,
            ..version
        });
        if let Err(problem) = walk.take(found.as_ref()) {
            return Ok(Err(problem));
        }
    }
    Ok(Ok(walk.finish()))
}

/// What goes before a program that is advertised already: a version that was revoked since holds the
/// whole advertisement. What cannot be pinned any more is left out, and devices then wait for it.
pub(crate) async fn pinned(
    read: &mut Read,
    package: &Name,
    program: &Program,
) -> Outcome<GoesBefore> {
    let mut found = GoesBefore::default();
    let mut walk = Walk::new(package, program);
    while let Some(wanted) = walk.wants().cloned() {
        let Some((id, version, revoked)) = look_up(read, &wanted).await? else { break };
        found.packages.push(id);
        found.revoked = found.revoked.or(revoked);
        if walk.take(Some(&PublishedVersion { revoked: false, ..version })).is_err() {
            break;
        }
    }
    found.pinned = walk.finish();
    Ok(found)
}

async fn look_up(
    read: &mut Read,
    wanted: &Dependency,
) -> Outcome<Option<(PackageId, PublishedVersion, Option<Order>)>> {
    let name = &wanted.package.name;
    let Some(object) = read.object_find(ObjectKind::Package, name).await? else { return Ok(None) };
    let id = PackageId(object.id);
    let version = wanted.package.version.as_deref().unwrap_or_default();
    let Some(row) = read.package_version_load(id, version).await? else { return Ok(None) };
    let version = PublishedVersion {
        spec: package_spec(&row)?,
        pinned: PinnedPackage {
            name: object.name,
            version: row.version,
            manifest: row.manifest,
            signatures: row.signatures,
        },
        revoked: row.revoked.is_some(),
    };
    Ok(Some((id, version, row.revoked)))
}

/// Refuses another name for a package that others depend on: theirs is the name that is signed.
pub(crate) async fn check_rename(read: &mut Read, package: PackageId, name: &Name) -> Outcome<()> {
    let Some((row, _)) = dependents(read, package).await?.into_iter().next() else { return Ok(()) };
    let by = read.object_load(row.id.0).await?.map_or(row.program.clone(), |found| found.name);
    let detail = format!(
        "package `{name}` goes before the program of advertisement `{by}`, whose publisher signed \
         this name"
    );
    Err(Refusal::conflict(detail).into())
}

/// The live advertisements whose program needs a program of `package` before it, and which version.
pub(crate) async fn dependents(
    read: &mut Read,
    package: PackageId,
) -> Outcome<Vec<(AdvertisementRow, String)>> {
    let mut dependents = Vec::new();
    for row in read.advertisement_list_live().await? {
        let version = read.package_version_load(row.package, &row.version).await?;
        let own = read.object_load(row.package.0).await?;
        let (Some(version), Some(own)) = (version, own) else { continue };
        let spec = package_spec(&version)?;
        let program = spec.program(row.program.as_str());
        let Some(program) = program.filter(|one| one.depends_on.is_some()) else { continue };
        let before = pinned(read, &own.name, program).await?;
        let of = before.packages.iter().zip(before.pinned.iter().rev());
        let needed = of.filter(|(id, _)| **id == package).map(|(_, one)| &one.package.version);
        dependents.extend(needed.map(|version| (row.clone(), version.clone())));
    }
    Ok(dependents)
}
