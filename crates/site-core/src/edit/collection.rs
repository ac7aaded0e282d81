//! Applying a collection.

use std::collections::BTreeMap;

use muster_model::collection::CollectionSpec;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::name::Name;
use muster_model::object::Object;
use muster_model::problem::Problem;

use super::{Change, compare, problem};
use crate::membership::{
    Binding, Clauses, Collection, Definition, Graph, GraphRefused, bind, is_all,
};
use muster_model::rule::Rule;

/// What the shell answers for a plan.
pub struct CollectionLookups<'a> {
    /// The collection of a name; `all` among them.
    pub by_name: &'a dyn Fn(&Name) -> Option<CollectionId>,
    /// The devices that bear a name, retired ones excluded.
    pub devices: &'a dyn Fn(&Name) -> Vec<DeviceId>,
    /// Member names that this collection bound before, to devices that are not retired.
    pub bound: &'a BTreeMap<Name, DeviceId>,
    /// All collections as they are stored, `all` among them; this one may be among them too.
    pub others: Vec<Collection>,
}

/// What applying a collection does.
#[derive(Clone, Debug)]
pub struct CollectionPlan {
    /// How it differs from what is stored. Names may bind even if nothing differs.
    pub change: Change,
    /// The collection, ready for evaluation.
    pub collection: Collection,
    /// What each member name stands for from now on. None is ambiguous.
    pub bindings: BTreeMap<Name, Binding>,
    /// All collections with this one in its new form: what to evaluate.
    pub graph: Graph,
}

impl CollectionPlan {
    /// Member names that no device bears.
    pub fn unresolved(&self) -> impl Iterator<Item = &Name> {
        let unresolved = |(_, binding): &(&Name, &Binding)| **binding == Binding::Unresolved;
        self.bindings.iter().filter(unresolved).map(|(name, _)| name)
    }
}

/// Plans the collection `id`, called `name` and specified by `spec`, of which `object` is the whole.
pub fn plan_collection(
    id: CollectionId,
    stored: Option<&Object>,
    object: &Object,
    spec: &CollectionSpec,
    lookups: CollectionLookups<'_>,
) -> Result<CollectionPlan, Vec<Problem>> {
    let name = &object.metadata.name;
    if is_all(name) {
        return Err(vec![problem("metadata.name", "`all` always exists and cannot be changed")]);
    }
    let mut problems = Vec::new();
    let query = match spec.query.trim() {
        "" => None,
        text => {
            Rule::parse(text).map_err(|bad| problem("spec.query", bad.to_string())).map_or_else(
                |bad| {
                    problems.push(bad);
                    None
                },
                Some,
            )
        }
    };
    let mut link = |field: &str, name: &Name| match (lookups.by_name)(name) {
        Some(id) => Some(id),
        None => {
            problems.push(problem(field, format!("there is no collection `{name}`")));
            None
        }
    };
    let mut links = |field: &str, names: &[Name]| -> Vec<CollectionId> {
        names.iter().filter_map(|name| link(field, name)).collect()
    };
    let include = links("spec.include", &spec.include);
    let exclude = links("spec.exclude", &spec.exclude);
    let limit_to = links("spec.limitTo", std::slice::from_ref(&spec.limit_to)).pop();
    let bindings = bind(&spec.members, lookups.bound, lookups.devices);
    problems.extend(bindings.iter().filter_map(|(name, binding)| ambiguous(name, binding)));
    let bound = |binding: &Binding| match binding {
        Binding::Bound(device) => Some(*device),
        _ => None,
    };
    let members = bindings.values().filter_map(bound).collect();
    let clauses = Clauses { members, query, include, exclude, limit_to };
    let collection =
        Collection { id, name: name.clone(), definition: Definition::Clauses(clauses) };
    if !problems.is_empty() {
        return Err(problems);
    }
    let others = lookups.others.into_iter().filter(|other| other.id != id);
    let graph = Graph::new(others.chain([collection.clone()])).map_err(|why| vec![cyclic(&why)])?;
    Ok(CollectionPlan { change: compare(stored, object), collection, bindings, graph })
}

fn ambiguous(name: &Name, binding: &Binding) -> Option<Problem> {
    let Binding::Ambiguous(devices) = binding else { return None };
    let ids: Vec<String> = devices.iter().map(DeviceId::to_string).collect();
    Some(problem(
        "spec.members",
        format!("several devices are called `{name}`: {}", ids.join(", ")),
    ))
}

fn cyclic(why: &GraphRefused) -> Problem {
    let field = match why {
        GraphRefused::Cycle(_) => "spec.include, spec.exclude, spec.limitTo",
        GraphRefused::Missing { .. } => "spec",
    };
    problem(field, why.to_string())
}
