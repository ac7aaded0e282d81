//! The order in which collections are evaluated: each after those it names.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::id::CollectionId;
use muster_model::name::Name;

use super::{Collection, Definition};

/// Why collections cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphRefused {
    /// A collection leads back to itself.
    #[error("collections lead back to themselves: {}", path(.0))]
    Cycle(Vec<Name>),
    /// A collection names one that does not exist.
    #[error("collection `{of}` names a collection that does not exist: {missing}")]
    Missing {
        /// The one that names it.
        of: Name,
        /// What it names.
        missing: CollectionId,
    },
}

fn path(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(" -> ")
}

/// The ids in such an order, or what is wrong with the links.
pub(super) fn order(
    by_id: &BTreeMap<CollectionId, Collection>,
) -> Result<Vec<CollectionId>, GraphRefused> {
    let mut ordering = Ordering { by_id, done: BTreeSet::new(), order: Vec::new() };
    for id in by_id.keys() {
        ordering.visit(*id)?;
    }
    Ok(ordering.order)
}

/// A depth-first walk of the links.
struct Ordering<'a> {
    by_id: &'a BTreeMap<CollectionId, Collection>,
    done: BTreeSet<CollectionId>,
    order: Vec<CollectionId>,
}

impl Ordering<'_> {
    /// Visits `start` and all it leads to. A stack of its own: a long chain of collections must not
    /// end the process.
    fn visit(&mut self, start: CollectionId) -> Result<(), GraphRefused> {
        let mut path: Vec<(CollectionId, Vec<CollectionId>)> = Vec::new();
        self.enter(start, &mut path)?;
        while let Some((id, pending)) = path.last_mut() {
            let id = *id;
            match pending.pop() {
                Some(link) => self.enter(link, &mut path)?,
                None => {
                    self.done.insert(id);
                    self.order.push(id);
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn enter(
        &self,
        id: CollectionId,
        path: &mut Vec<(CollectionId, Vec<CollectionId>)>,
    ) -> Result<(), GraphRefused> {
        if self.done.contains(&id) {
            return Ok(());
        }
        let Some(collection) = self.by_id.get(&id) else {
            let of = path.last().and_then(|(of, _)| self.by_id.get(of));
            return match of {
                Some(of) => Err(GraphRefused::Missing { of: of.name.clone(), missing: id }),
                None => Ok(()),
            };
        };
        if let Some(start) = path.iter().position(|(seen, _)| *seen == id) {
            let ids = path[start..].iter().map(|(id, _)| *id).chain([id]);
            let names = ids.filter_map(|id| self.by_id.get(&id)).map(|one| one.name.clone());
            return Err(GraphRefused::Cycle(names.collect()));
        }
        let links = match &collection.definition {
            Definition::All => Vec::new(),
            Definition::Clauses(clauses) => clauses.links().collect(),
        };
        path.push((id, links));
        Ok(())
    }
}
