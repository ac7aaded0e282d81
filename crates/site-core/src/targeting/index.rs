//! The policy tag of every device, in memory.
//!
//! A tag is the digest of the site's versions, the device's own version, and the policy version of
//! each collection it is in (law 7). Devices in the same collections share one interned set with a
//! digest of its own, so a device costs an id, a version and an index (about 60 bytes), a tag costs
//! one lookup and one hash, and a change of what is offered to a collection touches the sets that
//! contain it, never the devices.
//!
//! Fed from the database in revision order by the shell; answers are exactly [`tag`] of what it was
//! fed, which is what a site process that has not read for too long computes from the database.

use std::collections::BTreeMap;

use muster_model::digest::Digest;
use muster_model::id::{CollectionId, DeviceId, EpochId};

/// The versions that every device's tag covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteVersions {
    /// The site's epoch.
    pub epoch: EpochId,
    /// Moves when a setting of the site changes.
    pub settings: u64,
    /// The number of the newest trust document.
    pub trust: u64,
    /// Moves when everything is halted or resumed.
    pub halt: u64,
}

impl SiteVersions {
    fn digest(&self) -> Digest {
        Digest::of_parts(
            "muster/tag/site/v1",
            &[
                self.epoch.0.as_bytes(),
                &self.settings.to_le_bytes(),
                &self.trust.to_le_bytes(),
                &self.halt.to_le_bytes(),
            ],
        )
    }
}

/// The tag of a device with version `own` in `collections`, each with its policy version.
pub fn tag(site: &SiteVersions, own: u64, collections: &BTreeMap<CollectionId, u64>) -> Digest {
    let set = set_digest(collections.iter().map(|(id, version)| (*id, *version)));
    device_tag(site.digest(), own, set)
}

fn device_tag(site: Digest, own: u64, set: Digest) -> Digest {
    Digest::of_parts("muster/tag/v1", &[site.as_bytes(), &own.to_le_bytes(), set.as_bytes()])
}

/// The digest of collections in ascending order of their ids.
fn set_digest(collections: impl Iterator<Item = (CollectionId, u64)>) -> Digest {
    let bytes: Vec<u8> = collections
        .flat_map(|(id, version)| id.0.into_bytes().into_iter().chain(version.to_le_bytes()))
        .collect();
    Digest::of_parts("muster/tag/collections/v1", &[&bytes])
}

/// The tags of all devices.
#[derive(Clone, Debug)]
pub struct PolicyIndex {
    site: SiteVersions,
    site_digest: Digest,
    devices: BTreeMap<DeviceId, DeviceEntry>,
    /// The policy version of each collection. One that was never fed has version 0.
    collections: BTreeMap<CollectionId, u64>,
    /// Interned sets of collections, ascending; a slot whose `users` is 0 is free.
    sets: Vec<CollectionSet>,
    by_members: BTreeMap<Vec<CollectionId>, u32>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct DeviceEntry {
    own: u64,
    set: u32,
}

#[derive(Clone, Debug)]
struct CollectionSet {
    members: Vec<CollectionId>,
    digest: Digest,
    users: u32,
}

impl PolicyIndex {
    /// An index that knows no device.
    pub fn new(site: SiteVersions) -> Self {
        Self {
            site,
            site_digest: site.digest(),
            devices: BTreeMap::new(),
            collections: BTreeMap::new(),
            sets: Vec::new(),
            by_members: BTreeMap::new(),
            free: Vec::new(),
        }
    }

    /// The tag of `device`; `None` if the index does not know it.
    pub fn tag(&self, device: DeviceId) -> Option<Digest> {
        let entry = self.devices.get(&device)?;
        let set = self.sets.get(entry.set as usize)?;
        Some(device_tag(self.site_digest, entry.own, set.digest))
    }

    /// The site's versions.
    pub fn site(&self) -> &SiteVersions {
        &self.site
    }

    /// How many devices are known.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether no device is known.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The collections of `device`, ascending.
    pub fn collections_of(&self, device: DeviceId) -> Option<&[CollectionId]> {
        let entry = self.devices.get(&device)?;
        self.sets.get(entry.set as usize).map(|set| set.members.as_slice())
    }

    /// Settings, trust or a halt changed.
    pub fn site_changed(&mut self, site: SiteVersions) {
        self.site = site;
        self.site_digest = site.digest();
    }

    /// What is offered to `collection` changed: its policy version is `version`.
    pub fn collection_offered_changed(&mut self, collection: CollectionId, version: u64) {
        self.collections.insert(collection, version);
        let versions = &self.collections;
        for set in &mut self.sets {
            if set.members.binary_search(&collection).is_ok() {
                set.digest = digest_of_members(&set.members, versions);
            }
        }
    }

    /// `device` is known, has version `own`, and is in `collections` (any order).
    pub fn device_changed(
        &mut self,
        device: DeviceId,
        own: u64,
        collections: impl IntoIterator<Item = CollectionId>,
    ) {
        let mut members: Vec<CollectionId> = collections.into_iter().collect();
        members.sort_unstable();
        members.dedup();
        let set = self.intern(members);
        if let Some(old) = self.devices.insert(device, DeviceEntry { own, set }) {
            self.release(old.set);
        }
    }

    /// `device` has version `own`; its collections stay. Nothing happens if it is not known.
    pub fn own_version_changed(&mut self, device: DeviceId, own: u64) {
        if let Some(entry) = self.devices.get_mut(&device) {
            entry.own = own;
        }
    }

    /// `device` joined some collections and left others. Nothing happens if it is not known.
    pub fn membership_changed(
        &mut self,
        device: DeviceId,
        joins: &[CollectionId],
        leaves: &[CollectionId],
    ) {
        let Some(entry) = self.devices.get(&device).copied() else { return };
        let Some(known) = self.collections_of(device) else { return };
        let kept = known.iter().filter(|id| !leaves.contains(id)).chain(joins).copied();
        let members: Vec<CollectionId> = kept.collect();
        self.device_changed(device, entry.own, members);
    }

    /// `device` is gone.
    pub fn device_removed(&mut self, device: DeviceId) {
        if let Some(entry) = self.devices.remove(&device) {
            self.release(entry.set);
        }
    }

    fn intern(&mut self, members: Vec<CollectionId>) -> u32 {
        if let Some(at) = self.by_members.get(&members) {
            if let Some(set) = self.sets.get_mut(*at as usize) {
                set.users += 1;
            }
            return *at;
        }
        let digest = digest_of_members(&members, &self.collections);
        let set = CollectionSet { members: members.clone(), digest, users: 1 };
        let at = match self.free.pop() {
            Some(at) => {
                self.sets[at as usize] = set;
                at
            }
            None => {
                self.sets.push(set);
                // As many sets as devices at most, and a site has far fewer than 2^32 devices.
                (self.sets.len() - 1) as u32
            }
        };
        self.by_members.insert(members, at);
        at
    }

    fn release(&mut self, at: u32) {
        let Some(set) = self.sets.get_mut(at as usize) else { return };
        set.users -= 1;
        if set.users == 0 {
            self.by_members.remove(&std::mem::take(&mut set.members));
            self.free.push(at);
        }
    }
}

fn digest_of_members(members: &[CollectionId], versions: &BTreeMap<CollectionId, u64>) -> Digest {
    let version = |id: &CollectionId| versions.get(id).copied().unwrap_or(0);
    set_digest(members.iter().map(|id| (*id, version(id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn sets_that_no_device_is_in_are_used_again() {
        let epoch = EpochId(Default::default());
        let mut index = PolicyIndex::new(SiteVersions { epoch, settings: 1, trust: 1, halt: 0 });
        for n in 1..=100 {
            index.device_changed(device_id(1), 1, [collection_id(n)]);
            index.device_changed(device_id(2), 1, [collection_id(n), collection_id(0)]);
        }
        assert_eq!(index.by_members.len(), 2);
        // One more per device: the new set is made before the old one is let go.
        assert!(index.sets.len() <= 4, "{}", index.sets.len());
    }
}
