//! Values of parameters that a collection gives to what is advertised to it.

use muster_model::id::CollectionId;
use muster_model::object::Spec;
use muster_model::parameter::Values;
use muster_site_core::edit::check_parameters;

use super::advertisement;
use super::change::Change;
use super::error::{Outcome, Refusal};
use super::graph::object;
use super::live::package_spec;
use crate::store::Read;

/// The values that a collection gives.
pub(crate) async fn values(read: &mut Read, collection: CollectionId) -> Outcome<Values> {
    let Some(row) = read.object_load(collection.0).await? else { return Ok(Values::new()) };
    Ok(match object(&row)?.spec {
        Spec::Collection(spec) => spec.parameters,
        _ => Values::new(),
    })
}

/// The values of `collection` have changed: what is advertised to it is offered anew. Refuses, by the
/// name of the advertisement, values that a program does not allow.
pub(crate) async fn changed(change: &mut Change<'_>, collection: CollectionId) -> Outcome<()> {
    let values = values(&mut change.tx, collection).await?;
    for row in change.tx.advertisement_list_collection(collection).await? {
        let Some(found) = change.tx.object_load(row.id.0).await? else { continue };
        let Spec::Advertisement(spec) = object(&found)?.spec else { continue };
        let version = change.tx.package_version_load(row.package, &row.version).await?;
        let package = version.as_ref().map(package_spec).transpose()?;
        let program = package.as_ref().and_then(|package| package.program(row.program.as_str()));
        let Some(program) = program.filter(|program| !program.parameters.is_empty()) else {
            continue;
        };
        if let Some(problem) = check_parameters(program, &spec, &values).first() {
            let detail = format!("advertisement `{}`: {}", found.name, problem.detail);
            return Err(Refusal::invalid(&problem.field, detail).into());
        }
        advertisement::offer_changed(change, row.id).await?;
    }
    Ok(())
}
