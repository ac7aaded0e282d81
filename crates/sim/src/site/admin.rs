//! What administrators do, and what the site decides by itself: each one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_model::clock::Wall;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::object::{Object, Spec};
use muster_model::package::PackageSpec;
use muster_model::policy::Order;
use muster_model::release::AgentRelease;
use muster_site_core::decision::Decision;
use muster_site_core::device::Admission;
use muster_site_core::edit::{
    AdvertisementLookups, PublishedVersion, close, next_rerun, plan_advertisement,
};
use muster_site_core::membership::{Clauses, Collection, Definition};
use muster_site_core::obligation::Key;
use muster_site_core::removal::is_answer;

use super::store::{CollectionRow, DeviceRow};
use super::transaction::live;
use super::{Site, put_back};
use crate::core::{Core, Node};
use crate::kind::Kind;
use crate::offline;
use crate::scenario::{HOUR, MINUTE, SECOND, Software, known_name};
use crate::sometimes::Rare;

/// Collections beside `all`.
const COLLECTIONS: usize = 3;
/// Live advertisements at once: more would only make worlds slower.
const ADVERTISEMENTS_MAX: usize = 8;

/// Something an administrator does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Advertise,
    Edit,
    Stop,
    Resume,
    Halt,
    Unhalt,
    Rerun,
    Delete,
    Revoke,
    Join,
    Leave,
    Hold,
    Release,
    Retire,
    BackUp,
    OpenWindow,
    CloseWindow,
}

/// Deeds as often as they are done.
const DEEDS: [(Deed, u64); 17] = [
    (Deed::Advertise, 30),
    (Deed::Edit, 12),
    (Deed::Stop, 9),
    (Deed::Resume, 10),
    (Deed::Halt, 3),
    (Deed::Unhalt, 4),
    (Deed::Rerun, 8),
    (Deed::Delete, 5),
    (Deed::Revoke, 2),
    (Deed::Join, 20),
    (Deed::Leave, 20),
    (Deed::Hold, 3),
    (Deed::Release, 4),
    (Deed::Retire, 1),
    (Deed::BackUp, 4),
    (Deed::OpenWindow, 12),
    (Deed::CloseWindow, 5),
];

impl Site {
    /// Fills the empty database: devices and collections.
    pub(crate) fn found(&mut self, core: &mut Core, devices: Vec<DeviceRow>) {
        let ids: Vec<DeviceId> = devices.iter().map(|row| row.device.id).collect();
        self.store.devices = devices.into_iter().map(|row| (row.device.id, row)).collect();
        let all = CollectionId(core.dice.uuid());
        let mut made = vec![(all, "all".to_owned(), Definition::All)];
        for n in 1..=COLLECTIONS {
            let members = ids.iter().filter(|_| core.dice.per_mille(500)).copied().collect();
            let clauses = Clauses { members, ..Clauses::default() };
            let id = CollectionId(core.dice.uuid());
            made.push((id, format!("collection-{n}"), Definition::Clauses(clauses)));
        }
        // One collection by other collections: the members of the first that are not in the second.
        let clauses =
            Clauses { include: vec![made[1].0], exclude: vec![made[2].0], ..Clauses::default() };
        let id = CollectionId(core.dice.uuid());
        made.push((id, "collection-of-collections".to_owned(), Definition::Clauses(clauses)));
        for (id, name, definition) in made {
            let collection = Collection { id, name: known_name(&name), definition };
            self.store.collections.insert(id, CollectionRow { collection, policy_version: 0 });
        }
        self.transact(core, "founds the site", |staged, _| {
            ids.iter().for_each(|device| staged.evaluate(*device));
        });
    }

    /// An administrator does something.
    pub(crate) fn administer(&mut self, core: &mut Core) {
        if !self.is_up() {
            return;
        }
        let mut at = core.dice.below(DEEDS.iter().map(|(_, weight)| weight).sum());
        let deed = DEEDS.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let Some((deed, _)) = deed else { return };
        match deed {
            Deed::Advertise => self.advertise(core),
            Deed::Edit => self.edit(core),
            Deed::Stop => self.order(core, true),
            Deed::Resume => self.order(core, false),
            Deed::Halt => self.halt(core, true),
            Deed::Unhalt => self.halt(core, false),
            Deed::Rerun => self.rerun(core),
            Deed::Delete => self.delete(core),
            Deed::Revoke => self.revoke(core),
            Deed::Join => self.move_member(core, true),
            Deed::Leave => self.move_member(core, false),
            Deed::Hold => self.admit(core, true),
            Deed::Release => self.admit(core, false),
            Deed::Retire => self.retire(core),
            Deed::BackUp => self.back_up(core),
            Deed::OpenWindow => self.open_window(core),
            Deed::CloseWindow => self.close_window(core),
        }
        self.reconcile(core);
    }

    /// Everything that a person holds back goes on; what was stopped may stay so.
    pub(crate) fn let_go(&mut self, core: &mut Core) {
        self.halt(core, false);
        self.close_hopeless_windows(core);
        self.transact(core, "lets everybody go on", |staged, dice| {
            let at = staged.at.0;
            let ids: Vec<DeviceId> = staged.store.devices.keys().copied().collect();
            ids.into_iter().for_each(|id| put_back::settle(&mut staged.store, id, staged.now));
            for row in staged.store.devices.values_mut() {
                if matches!(row.device.admission, Admission::Held { .. }) {
                    row.device.admission = Admission::Admitted;
                    row.version = at;
                }
            }
            let ids: Vec<AdvertisementId> = staged.live();
            for id in ids {
                if dice.per_mille(700) {
                    staged.set_stopped(id, None);
                }
            }
        });
    }

    fn advertise(&mut self, core: &mut Core) {
        let live = self.store.advertisements.values().filter(|one| !one.deleted).count();
        if live >= ADVERTISEMENTS_MAX {
            return;
        }
        let id = AdvertisementId(core.dice.uuid());
        let name = format!("advertisement-{}", self.store.advertisements.len() + 1);
        self.apply(core, id, &name);
    }

    fn edit(&mut self, core: &mut Core) {
        let live: Vec<AdvertisementId> = live(&self.store);
        let Some(id) = core.dice.pick(&live).copied() else { return };
        let name = self.store.advertisements[&id].row.object.metadata.name.to_string();
        self.apply(core, id, &name);
    }

    fn apply(&mut self, core: &mut Core, id: AdvertisementId, name: &str) {
        let number = core.dice.below(core.scenario.software.len() as u64) as usize;
        let software = core.scenario.software[number].clone();
        let names: Vec<(CollectionId, String)> = self
            .store
            .collections
            .iter()
            .map(|(id, row)| (*id, row.collection.name.to_string()))
            .collect();
        let Some((collection, named)) = core.dice.pick(&names).cloned() else { return };
        let document = document(core, name, &software, &named);
        self.apply_document(core, (id, name), number, (collection, &named), document);
    }

    /// What is said last before nobody is heard for sixty days: everybody goes on, and each day has its chore.
    pub(crate) fn last_word(&mut self, core: &mut Core) {
        self.let_go(core);
        let all = |row: &&CollectionRow| matches!(row.collection.definition, Definition::All);
        let Some(all) = self.store.collections.values().find(all) else { return };
        let (all, named) = (all.collection.id, all.collection.name.to_string());
        let (wall, chaos) = (core.wall(), core.scenario.chaos);
        let every = rule(&mut core.dice, wall, chaos, true);
        let software = &core.scenario.software[offline::CHORE];
        let document = serde_json::json!({
            "apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": "chore"},
            "spec": {
                "package": software.package.name, "program": software.program.name,
                "collection": named, "offlineFor": "unlimited",
                "assignments": [{"name": "daily", "every": every}],
            },
        });
        let id = AdvertisementId(core.dice.uuid());
        self.apply_document(core, (id, "chore"), offline::CHORE, (all, &named), document);
    }

    fn apply_document(
        &mut self,
        core: &mut Core,
        (id, name): (AdvertisementId, &str),
        number: usize,
        (collection, named): (CollectionId, &str),
        document: serde_json::Value,
    ) {
        let software = core.scenario.software[number].clone();
        let object = match Object::from_value(document) {
            Ok(object) => object,
            Err(why) => {
                core.note(Node::Site, format_args!("cannot read {name}: {why:?}"));
                return;
            }
        };
        let Spec::Advertisement(spec) = object.spec.clone() else { return };
        let stored = self.store.advertisements.get(&id).map(|one| &one.row);
        let versions = [published(&software)];
        let lookups = AdvertisementLookups {
            versions: Some(&versions),
            collection: Some(collection),
            members: 1,
            members_on: &|_| 1,
            rivals: &[],
            windows: &[],
            grace: Duration::ZERO,
            values: &Default::default(),
            now: core.wall(),
            zone: &jiff::tz::TimeZone::UTC,
        };
        match plan_advertisement(stored, &object, &spec, &lookups) {
            Ok(plan) => {
                let what = format!("applies {name} of {} to {named}", software.package.name);
                self.transact(core, &what, |staged, _| staged.write_plan(id, number, object, plan));
            }
            Err(why) => core.note(Node::Site, format_args!("refuses {name}: {why:?}")),
        }
    }

    fn order(&mut self, core: &mut Core, stop: bool) {
        let live: Vec<AdvertisementId> = live(&self.store);
        let Some(id) = core.dice.pick(&live).copied() else { return };
        let kill = core.dice.per_mille(700);
        let what = if stop { "stops an advertisement" } else { "resumes an advertisement" };
        self.transact(core, what, |staged, _| {
            staged.set_stopped(id, stop.then(|| by("ann", kill)));
        });
    }

    fn halt(&mut self, core: &mut Core, halt: bool) {
        if self.store.halted.0.is_some() == halt {
            return;
        }
        let kill = core.dice.per_mille(600);
        let what = if halt { "halts everything" } else { "lets everything go on" };
        self.transact(core, what, |staged, _| {
            staged.store.halted = (halt.then(|| by("bob", kill)), staged.at.0);
        });
    }

    fn rerun(&mut self, core: &mut Core) {
        let live: Vec<AdvertisementId> = live(&self.store);
        let Some(id) = core.dice.pick(&live).copied() else { return };
        let ended: BTreeSet<DeviceId> = self
            .store
            .rows
            .values()
            .filter(|row| row.key.advertisement == id && row.state.word().is_terminal())
            .filter(|row| self.store.is_admitted(row.key.device))
            .map(|row| row.key.device)
            .collect();
        if ended.is_empty() {
            return;
        }
        self.transact(core, "opens a manual occurrence", |staged, dice| {
            let at = staged.at;
            let Some(one) = staged.store.advertisements.get_mut(&id) else { return };
            let Some(row) = next_rerun(id, &one.row.occurrences, at) else { return };
            let occurrence = row.occurrence.clone();
            one.row.occurrences.push(row);
            for device in ended.into_iter().filter(|_| dice.per_mille(700)) {
                let key = Key { advertisement: id, occurrence: occurrence.clone(), device };
                staged.decide(Decision::Name, &key);
                staged.touch(device);
            }
        });
    }

    fn delete(&mut self, core: &mut Core) {
        let live: Vec<AdvertisementId> = live(&self.store);
        let Some(id) = core.dice.pick(&live).copied() else { return };
        self.transact(core, "deletes an advertisement", |staged, _| {
            let at = staged.at;
            let Some(one) = staged.store.advertisements.get_mut(&id) else { return };
            one.deleted = true;
            one.row.occurrences.iter_mut().for_each(|row| close(row, at));
            let collection = one.row.collection;
            let occurrences: Vec<Occurrence> =
                one.row.occurrences.iter().map(|row| row.occurrence.clone()).collect();
            let keys: Vec<Key> = occurrences
                .iter()
                .filter(|one| !one.is_removal())
                .flat_map(|one| staged.store.keys_of(id, one))
                .collect();
            for key in keys {
                staged.decide(Decision::Delete, &key);
                staged.touch(key.device);
            }
            staged.offered_changed(collection);
        });
    }

    fn revoke(&mut self, core: &mut Core) {
        let number = core.dice.below(core.scenario.software.len() as u64) as usize;
        self.transact(core, "revokes a package", |staged, _| {
            let ids = staged.live();
            for id in ids {
                let one = staged.store.advertisements.get_mut(&id);
                let Some(one) = one.filter(|one| one.software == number) else { continue };
                one.revoked = Some(by("carl", false));
                staged.offer_changed(id);
            }
        });
    }

    fn move_member(&mut self, core: &mut Core, join: bool) {
        let named: Vec<CollectionId> = self
            .store
            .collections
            .iter()
            .filter(|(_, row)| matches!(&row.collection.definition, Definition::Clauses(c) if c.include.is_empty()))
            .map(|(id, _)| *id)
            .collect();
        let devices: Vec<DeviceId> = self.store.devices.keys().copied().collect();
        let (Some(id), Some(device)) =
            (core.dice.pick(&named).copied(), core.dice.pick(&devices).copied())
        else {
            return;
        };
        core.seen.world(if join { Rare::JoinedLate } else { Rare::Left });
        let what =
            format!("{} {device} in a collection", if join { "puts" } else { "has no longer" });
        self.transact(core, &what, |staged, _| {
            let Some(row) = staged.store.collections.get_mut(&id) else { return };
            let Definition::Clauses(clauses) = &mut row.collection.definition else { return };
            if join {
                clauses.members.insert(device);
            } else {
                clauses.members.remove(&device);
            }
            staged.evaluate(device);
        });
    }

    fn admit(&mut self, core: &mut Core, hold: bool) {
        let devices: Vec<DeviceId> = self.store.devices.keys().copied().collect();
        let Some(device) = core.dice.pick(&devices).copied() else { return };
        let what = if hold { "holds a device" } else { "releases a device" };
        self.transact(core, what, |staged, _| {
            let Some(row) = staged.store.devices.get_mut(&device) else { return };
            let admission = &mut row.device.admission;
            match (hold, &admission) {
                (true, Admission::Admitted) => {
                    *admission = Admission::Held { order: by("dora", false) };
                }
                (false, Admission::Held { .. }) => {
                    *admission = Admission::Admitted;
                    put_back::settle(&mut staged.store, device, staged.now);
                }
                _ => return,
            }
            staged.touch(device);
        });
    }

    fn retire(&mut self, core: &mut Core) {
        let devices: Vec<DeviceId> = self.store.devices.keys().copied().collect();
        let Some(device) = core.dice.pick(&devices).copied() else { return };
        self.transact(core, "retires a device", |staged, _| {
            let keys: Vec<Key> = staged
                .store
                .occurrences()
                .map(|row| Key {
                    advertisement: row.advertisement,
                    occurrence: row.occurrence.clone(),
                    device,
                })
                .filter(|key| staged.store.is_targeted(key))
                .filter(|key| staged.store.rows.get(key).is_none_or(is_answer))
                .collect();
            keys.iter().for_each(|key| staged.decide(Decision::Retire, key));
            if let Some(row) = staged.store.devices.get_mut(&device) {
                row.device.admission = Admission::Retired;
            }
            staged.touch(device);
            staged.evaluate(device);
        });
    }
}

pub(super) fn by(who: &str, kill: bool) -> Order {
    Order { by: who.to_owned(), reason: "because".to_owned(), kill }
}

pub(super) fn published(software: &Software) -> PublishedVersion {
    PublishedVersion {
        pinned: software.package.clone(),
        spec: PackageSpec {
            version: software.package.version.clone(),
            content: None,
            programs: software.programs(),
            detection: software.detection.clone(),
            supersedes: software.supersedes.clone(),
            description: String::new(),
            agent_release: software.release.map(|_| AgentRelease::default()),
        },
        revoked: false,
    }
}

/// A rule that ends some hours later, so that nothing is to come for ever: in UTC, or on each device's
/// own clock.
fn rule(dice: &mut crate::dice::Dice, wall: Wall, chaos: u64, is_offline: bool) -> String {
    let minutes: &[u64] = if is_offline { &offline::RULE_MINUTES } else { &[10, 30, 90] };
    let minutes = *dice.pick(minutes).unwrap_or(&30);
    let clock = *dice.pick(&["Z", ""]).unwrap_or(&"Z");
    let civil = |at: Wall| {
        let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        instant.strftime("%Y%m%dT%H%M%S").to_string()
    };
    let (least, most) = match is_offline {
        true => (chaos / 2, chaos),
        false => (MINUTE, chaos.min(4 * HOUR)),
    };
    let lasts = Duration::from_millis(3 * HOUR + dice.between(least, most));
    let (start, end) = (civil(wall), civil(wall.plus(lasts)));
    format!("DTSTART:{start}{clock} RRULE:FREQ=MINUTELY;INTERVAL={minutes};UNTIL={end}{clock}")
}

/// An advertisement as somebody would write it.
fn document(
    core: &mut Core,
    name: &str,
    software: &Software,
    collection: &str,
) -> serde_json::Value {
    let is_offline = core.scenario.kind == Kind::Offline;
    let chaos =
        if is_offline { core.scenario.chaos } else { core.scenario.chaos.min(2 * 24 * HOUR) };
    let wall = core.wall();
    let dice = &mut core.dice;
    let mut assignments = Vec::new();
    for _ in 0..*dice.pick(&[0, 1, 1, 1, 1, 2]).unwrap_or(&1) {
        let at = match dice.per_mille(600) {
            true => "now".to_owned(),
            false => {
                let later = dice.spread(MINUTE, chaos);
                wall.plus(Duration::from_millis(later)).to_string()
            }
        };
        let names = ["first", "second", "third"];
        let named = dice.pick(&names).copied().unwrap_or("first");
        if !assignments.iter().any(|one: &serde_json::Value| one["name"] == named) {
            assignments.push(match dice.per_mille(300) {
                true => {
                    serde_json::json!({"name": named, "every": rule(dice, wall, chaos, is_offline)})
                }
                false => serde_json::json!({"name": named, "at": at}),
            });
        }
    }
    let mut spec = serde_json::json!({
        "package": software.package.name, "program": software.program.name,
        "collection": collection, "assignments": assignments,
    });
    if dice.per_mille(250) {
        let expires = wall.plus(Duration::from_millis(chaos + dice.spread(MINUTE, chaos)));
        spec["expires"] = expires.to_string().into();
    } else if dice.per_mille(150) {
        let soon = wall.plus(Duration::from_millis(dice.spread(30 * SECOND, chaos)));
        spec["expires"] = soon.to_string().into();
    }
    if dice.per_mille(300) {
        spec["late"] = (*dice.pick(&["run-late", "skip", "ask"]).unwrap_or(&"skip")).into();
        spec["splay"] = (*dice.pick(&["0s", "3m", "9m"]).unwrap_or(&"0s")).into();
    }
    if is_offline {
        spec["offlineFor"] = "unlimited".into();
    } else if dice.per_mille(250) {
        spec["offlineFor"] = "20m".into();
    }
    if software.uninstall.is_some() {
        // Nothing is drawn, so that worlds without removals stay as they were. What one assignment installs
        // is gone at once, so that there is time for it to come back.
        let after = ["5m", "0s", "1h"][assignments_of(&spec) % 3];
        spec["removal"] = serde_json::json!({"program": "uninstall", "after": after});
    }
    if core.scenario.windows && core.dice.per_mille(150) {
        spec["emergency"] = true.into();
    }
    serde_json::json!({
        "apiVersion": "muster/v1", "kind": "Advertisement",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn assignments_of(spec: &serde_json::Value) -> usize {
    spec["assignments"].as_array().map_or(0, Vec::len)
}
