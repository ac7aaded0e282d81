//! Who is a member of what.
//!
//! ```text
//! member = ((named or query or included) and within limitTo) and not excluded
//! ```
//!
//! Decided device by device, three-valued throughout: a collection holds a device only if the answer
//! is a certain yes, so a missing fact adds nobody and an exclusion that cannot be decided excludes
//! (fail closed). One device over all collections is the unit of work; a whole evaluation is that for
//! each device, so the two can never disagree. A graph with a cycle or a missing link is refused as a
//! whole, and then no membership changes.

mod binding;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use muster_model::collection::ALL;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::name::Name;

use crate::device::Device;
use muster_model::rule::{Rule, Truth};

pub use binding::{Binding, bind};
pub use order::GraphRefused;

/// A collection, ready for evaluation: links and members by id, the query parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// Its name, for people.
    pub name: Name,
    /// Whom it holds.
    pub definition: Definition,
}

/// Whom a collection holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Every admitted device: the collection `all`.
    All,
    /// What the clauses say.
    Clauses(Clauses),
}

/// The clauses of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clauses {
    /// The devices that member names were bound to.
    pub members: BTreeSet<DeviceId>,
    /// The query.
    pub query: Option<Rule>,
    /// Collections whose members are members here.
    pub include: Vec<CollectionId>,
    /// Collections whose members are not.
    pub exclude: Vec<CollectionId>,
    /// Only its members can be members here; `None` is the collection `all`.
    pub limit_to: Option<CollectionId>,
}

impl Clauses {
    fn links(&self) -> impl Iterator<Item = CollectionId> {
        self.include.iter().chain(&self.exclude).chain(&self.limit_to).copied()
    }
}

/// Collections in an order in which each stands after those it names.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    ordered: Vec<Collection>,
}

/// How one device stands to one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is a member by name.
    pub named: bool,
    /// The query holds for it.
    pub query: Truth,
    /// It is a member of an included collection.
    pub included: Truth,
    /// It is a member of the limiting collection.
    pub within: Truth,
    /// It is a member of an excluded collection.
    pub excluded: Truth,
    /// All together. Only [`Truth::Yes`] is a member.
    pub member: Truth,
}

/// How many devices each clause of a collection adds and takes: what `apply` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members by name.
    pub named: u64,
    /// Devices for which the query holds.
    pub query: u64,
    /// Devices for which the query cannot be decided: a fact is missing, or of another kind.
    pub query_unknown: u64,
    /// Members of included collections.
    pub included: u64,
    /// Devices that `limitTo` took away again.
    pub limited: u64,
    /// Devices that `exclude` took away again.
    pub excluded: u64,
    /// Members in the end.
    pub members: u64,
}

/// A collection as evaluated over all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Its members.
    pub members: BTreeSet<DeviceId>,
    /// What each clause did.
    pub counts: Counts,
}

impl Graph {
    /// Orders the collections, or says what is wrong with them.
    pub fn new(collections: impl IntoIterator<Item = Collection>) -> Result<Self, GraphRefused> {
        let mut by_id: BTreeMap<CollectionId, Collection> =
            collections.into_iter().map(|one| (one.id, one)).collect();
        let order = order::order(&by_id)?;
        Ok(Self { ordered: order.iter().filter_map(|id| by_id.remove(id)).collect() })
    }

    /// The collections, each after those it names.
    pub fn collections(&self) -> &[Collection] {
        &self.ordered
    }

    /// How `device` stands to every collection.
    pub fn standings(&self, device: &Device) -> BTreeMap<CollectionId, Standing> {
        let mut standings: BTreeMap<CollectionId, Standing> = BTreeMap::new();
        for collection in &self.ordered {
            let standing = stand(collection, device, &standings);
            standings.insert(collection.id, standing);
        }
        standings
    }

    /// The collections that `device` is a member of.
    pub fn memberships(&self, device: &Device) -> BTreeSet<CollectionId> {
        let standings = self.standings(device).into_iter();
        standings.filter(|(_, standing)| standing.member == Truth::Yes).map(|(id, _)| id).collect()
    }

    /// Every collection over all devices.
    pub fn evaluate<'a>(
        &self,
        devices: impl IntoIterator<Item = &'a Device>,
    ) -> BTreeMap<CollectionId, Evaluated> {
        let mut evaluated: BTreeMap<CollectionId, Evaluated> =
            self.ordered.iter().map(|one| (one.id, Evaluated::default())).collect();
        for device in devices {
            for (id, standing) in self.standings(device) {
                if let Some(collection) = evaluated.get_mut(&id) {
                    collection.count(device.id, &standing);
                }
            }
        }
        evaluated
    }
}

fn stand(
    collection: &Collection,
    device: &Device,
    known: &BTreeMap<CollectionId, Standing>,
) -> Standing {
    let admitted = Truth::from(device.admission.is_admitted());
    let Definition::Clauses(clauses) = &collection.definition else {
        return Standing {
            named: false,
            query: Truth::No,
            included: Truth::No,
            within: admitted,
            excluded: Truth::No,
            member: admitted,
        };
    };
    let member_of = |id: &CollectionId| known.get(id).map_or(Truth::Unknown, |one| one.member);
    let any = |ids: &[CollectionId]| ids.iter().map(member_of).fold(Truth::No, Truth::or);
    let named = clauses.members.contains(&device.id);
    let query = match &clauses.query {
        Some(rule) => rule.holds(&|name| device.fact(name)),
        None => Truth::No,
    };
    let included = any(&clauses.include);
    let excluded = any(&clauses.exclude);
    let within = admitted.and(clauses.limit_to.as_ref().map_or(Truth::Yes, member_of));
    let meant = Truth::from(named).or(query).or(included);
    let member = meant.and(within).and(excluded.not());
    Standing { named, query, included, within, excluded, member }
}

impl Evaluated {
    fn count(&mut self, device: DeviceId, standing: &Standing) {
        let counts = &mut self.counts;
        let meant = Truth::from(standing.named).or(standing.query).or(standing.included);
        counts.named += u64::from(standing.named);
        counts.query += u64::from(standing.query == Truth::Yes);
        counts.query_unknown += u64::from(standing.query == Truth::Unknown);
        counts.included += u64::from(standing.included == Truth::Yes);
        if meant == Truth::Yes {
            let inside = standing.within == Truth::Yes;
            counts.limited += u64::from(!inside);
            counts.excluded += u64::from(inside && standing.excluded != Truth::No);
        }
        if standing.member == Truth::Yes {
            counts.members += 1;
            self.members.insert(device);
        }
    }
}

/// What changed between two sets of members, or of memberships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change<T> {
    /// Only in the new set.
    pub joins: Vec<T>,
    /// Only in the old set.
    pub leaves: Vec<T>,
}

impl<T> Change<T> {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }
}

/// What changed from `old` to `new`, in order.
pub fn diff<T: Ord + Copy>(old: &BTreeSet<T>, new: &BTreeSet<T>) -> Change<T> {
    Change {
        joins: new.difference(old).copied().collect(),
        leaves: old.difference(new).copied().collect(),
    }
}

/// Whether `name` is the collection that always exists.
pub fn is_all(name: &Name) -> bool {
    name.as_str() == ALL
}
