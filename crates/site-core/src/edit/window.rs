//! Applying a maintenance window or freeze.

use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::id::CollectionId;
use muster_model::name::Name;
use muster_model::object::Object;
use muster_model::package::Program;
use muster_model::problem::Problem;
use muster_model::window::{MaintenanceWindowSpec, WINDOWS_MAX, Window};

use super::{Change, compare, problem};
use crate::window::too_short;

/// What the shell answers for a plan.
pub struct WindowLookups<'a> {
    /// The collection; `None` if there is no such collection.
    pub collection: Option<CollectionId>,
    /// The other windows and freezes of that collection.
    pub others: &'a [Window],
    /// What is advertised to it and is no emergency: the advertisement's name, and its program.
    pub programs: &'a [(Name, Program)],
    /// How long a program has between TERM and KILL, by the site's settings.
    pub grace: Duration,
    /// The site's time.
    pub now: Wall,
}

/// What applying a window does.
#[derive(Clone, Debug)]
pub struct WindowPlan {
    /// How it differs from what is stored.
    pub change: Change,
    /// Whose devices keep to it from now on.
    pub collection: CollectionId,
    /// What will not work as somebody might expect; nothing of it forbids the change.
    pub warnings: Vec<String>,
}

/// Plans a window. `object` is the whole, `spec` its spec.
pub fn plan_window(
    stored: Option<&Object>,
    object: &Object,
    spec: &MaintenanceWindowSpec,
    lookups: &WindowLookups<'_>,
) -> Result<WindowPlan, Vec<Problem>> {
    let Some(collection) = lookups.collection else {
        let detail = format!("there is no collection `{}`", spec.collection);
        return Err(vec![problem("spec.collection", detail)]);
    };
    if lookups.others.len() >= WINDOWS_MAX {
        let detail = format!(
            "collection `{}` has {} windows and freezes already; at most {WINDOWS_MAX}",
            spec.collection,
            lookups.others.len()
        );
        return Err(vec![problem("spec.collection", detail)]);
    }
    let window = spec.window(&object.metadata.name);
    let all: Vec<Window> = lookups.others.iter().cloned().chain(window).collect();
    let short = |(name, program): &(Name, Program)| {
        let why = too_short(&spec.collection, &all, program, lookups.grace, lookups.now)?;
        Some(format!("advertisement `{name}`: {why}"))
    };
    Ok(WindowPlan {
        change: compare(stored, object),
        collection,
        warnings: lookups.programs.iter().filter_map(short).collect(),
    })
}
