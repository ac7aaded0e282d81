//! Member names and the devices they stand for.

use std::collections::BTreeMap;

use muster_model::id::DeviceId;
use muster_model::name::Name;

/// A member name and the devices it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Exactly this device, from now on whatever it is called.
    Bound(DeviceId),
    /// No device bears the name. It stays unbound until the next `apply`, so that a stranger who later
    /// claims the name gains nothing.
    Unresolved,
    /// Several devices bear the name: refused, by their ids.
    Ambiguous(Vec<DeviceId>),
}

/// Binds member names to devices. A name that `kept` has bound before stays with its device;
/// `by_name` answers the devices, retired ones excluded, that bear a name now.
pub fn bind<'a>(
    names: impl IntoIterator<Item = &'a Name>,
    kept: &BTreeMap<Name, DeviceId>,
    by_name: impl Fn(&Name) -> Vec<DeviceId>,
) -> BTreeMap<Name, Binding> {
    let bind_one = |name: &Name| match (kept.get(name), by_name(name).as_slice()) {
        (Some(device), _) => Binding::Bound(*device),
        (None, []) => Binding::Unresolved,
        (None, [device]) => Binding::Bound(*device),
        (None, several) => Binding::Ambiguous(several.to_vec()),
    };
    names.into_iter().map(|name| (name.clone(), bind_one(name))).collect()
}
