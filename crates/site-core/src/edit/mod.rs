//! What applying or deleting an object would change, and what forbids it.
//!
//! A plan leaves nothing to choose: the shell writes it, or prints it for `--dry-run` and `diff`. Every
//! refusal is a [`Problem`] that names the field and, where two settings contradict each other, both.

mod advertisement;
mod collection;
mod dependency;
mod occurrences;
mod package;
mod removal;
#[cfg(test)]
mod tests;
mod window;

use muster_model::name::Name;
use muster_model::object::{Kind, Metadata, Object};
use muster_model::problem::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use advertisement::{
    AdvertisementLookups, AdvertisementPlan, AdvertisementRow, PublishedVersion, Rival,
    check_parameters, given_values, plan_advertisement,
};
pub use collection::{CollectionLookups, CollectionPlan, plan_collection};
pub use dependency::Walk;
pub use occurrences::{Forecast, OccurrencePlan, close, forecast, next_rerun};
pub use package::{Publish, plan_publish};
pub use removal::removal_values;
pub use window::{WindowLookups, WindowPlan, plan_window};

/// How an applied object relates to the stored one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// There was none.
    Created,
    /// It says the same: nothing is to be written.
    Unchanged,
    /// These fields differ.
    Updated {
        /// In the order of their paths.
        fields: Vec<FieldChange>,
    },
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The path from the top of the document: `spec.assignments[0].at`.
    pub field: String,
    /// What is stored; absent if the field is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What is applied; absent if the field is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// Compares `object` with what is stored.
pub fn compare(stored: Option<&Object>, object: &Object) -> Change {
    let Some(stored) = stored else { return Change::Created };
    let (mut old, mut new) = (stored.to_value(), object.to_value());
    for document in [&mut old, &mut new] {
        // `formerly` tells which object is meant; it is no property of it.
        if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("formerly");
        }
    }
    let mut fields = Vec::new();
    differences("", Some(&old), Some(&new), &mut fields);
    if fields.is_empty() { Change::Unchanged } else { Change::Updated { fields } }
}

fn differences(at: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                differences(&path, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for i in 0..old.len().max(new.len()) {
                differences(&format!("{at}[{i}]"), old.get(i), new.get(i), found);
            }
        }
        (old, new) => {
            found.push(FieldChange { field: at.to_owned(), old: old.cloned(), new: new.cloned() })
        }
    }
}

/// Which stored object is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which<T> {
    /// None: a new one.
    New,
    /// The one of that name.
    Same(T),
    /// The one that was called `from`: it keeps id and history.
    Renamed {
        /// The object.
        id: T,
        /// Its name until now.
        from: Name,
    },
}

/// Finds the object that `metadata` means: by its name, else by the name it had before.
pub fn identify<T>(metadata: &Metadata, by_name: impl Fn(&Name) -> Option<T>) -> Which<T> {
    if let Some(id) = by_name(&metadata.name) {
        return Which::Same(id);
    }
    let former = metadata.formerly.as_ref().and_then(|name| Some((by_name(name)?, name)));
    match former {
        Some((id, from)) => Which::Renamed { id, from: from.clone() },
        None => Which::New,
    }
}

/// Refuses a new name that looks like another one of its kind. `others` are the names with the same
/// [`Name::look`].
pub fn look_alike<'a>(
    name: &Name,
    others: impl IntoIterator<Item = &'a Name>,
) -> Result<(), Problem> {
    let twin = others.into_iter().find(|other| *other != name && other.look() == name.look());
    match twin {
        None => Ok(()),
        Some(twin) => Err(Problem {
            field: "metadata.name".into(),
            detail: format!(
                "`{name}` looks like `{twin}`, which exists: people could not tell them apart"
            ),
        }),
    }
}

/// Why an object cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefused {
    /// Others need it.
    #[error("{} `{name}` is used by {}", .kind.word(), list(.users))]
    InUse {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
        /// Who needs it.
        users: Vec<(Kind, Name)>,
    },
    /// It is the site's own.
    #[error("collection `{0}` always exists")]
    Always(Name),
}

fn list(users: &[(Kind, Name)]) -> String {
    let names: Vec<String> =
        users.iter().map(|(kind, name)| format!("{} `{name}`", kind.word())).collect();
    names.join(", ")
}

/// Checks that an object may be deleted. `users` are the objects that name it and still live: for a
/// package or collection its advertisements, for a collection also collections and windows.
pub fn check_delete(
    kind: Kind,
    name: &Name,
    users: Vec<(Kind, Name)>,
) -> Result<(), DeleteRefused> {
    if kind == Kind::Collection && crate::membership::is_all(name) {
        return Err(DeleteRefused::Always(name.clone()));
    }
    if users.is_empty() {
        return Ok(());
    }
    Err(DeleteRefused::InUse { kind, name: name.clone(), users })
}

fn problem(field: &str, detail: impl Into<String>) -> Problem {
    Problem { field: field.to_owned(), detail: detail.into() }
}
