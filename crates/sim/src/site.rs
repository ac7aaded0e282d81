//! The site of a world: the real decisions around a database in memory.
//!
//! Load, decide, write, commit, and only then answer: a crash before the commit leaves nothing, a
//! crash after it leaves everything but the answer.

pub(crate) mod admin;
mod put_back;
mod reconcile;
mod removal;
pub(crate) mod store;
mod transaction;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use muster_model::clock::Wall;
use muster_model::id::{DeviceId, EpochId, Incarnation, Sequence};
use muster_model::policy::PinnedProgram;
use muster_model::policy::{Due, Policy};
use muster_model::settings::Settings;
use muster_model::wire::batch::Batch;
use muster_model::wire::device::{Behind, SiteTime};
use muster_site_core::device::Admission;
use muster_site_core::edit::Walk;
use muster_site_core::ingest::{Ingest, Lookups, Reading, StreamRow, Taken, plan};
use muster_site_core::obligation::{Key, Planted};
use muster_site_core::put_back::{Hearing, Lives};
use muster_site_core::targeting::{
    DeviceSide, LiveAdvertisement, OpenOccurrence, SiteSide, SiteVersions, Timing, compile, tag,
};

use crate::core::{Core, Node};
use crate::event::{Answer, Ask, Call, Event};
use crate::plant::{Plant, plant_site};
use crate::scenario::Software;
use crate::seal::SealKey;
use crate::sometimes::Rare;
use crate::truth::Meant;
use store::{Advertised, DeviceRow, Store};

/// A poll that waits for something new.
struct HeldPoll {
    call: Call,
    device: DeviceId,
    incarnation: Incarnation,
    tag: Option<muster_model::digest::Digest>,
}

/// The site.
pub(crate) struct Site {
    /// The committed database.
    pub store: Store,
    /// What the site seals with.
    pub key: SealKey,
    process: Option<u64>,
    processes: u64,
    held: BTreeMap<u64, HeldPoll>,
    planted: Planted,
    backup: Option<(Store, Meant)>,
}

/// The keys of all streams of a device.
fn streams_of(device: DeviceId) -> std::ops::RangeInclusive<(DeviceId, Incarnation)> {
    (device, Incarnation(0))..=(device, Incarnation(u32::MAX))
}

/// The site's process ended in the middle.
pub(super) struct Cut;

impl Site {
    /// A site with an empty database.
    pub(crate) fn new(core: &mut Core, key: SealKey) -> Self {
        let planted = plant_site(core);
        Self {
            store: Store::new(EpochId(core.dice.uuid())),
            key,
            process: None,
            processes: 0,
            held: BTreeMap::new(),
            planted,
            backup: None,
        }
    }

    /// Starts the process, if there is none.
    pub(crate) fn start(&mut self, core: &mut Core) {
        if self.process.is_none() {
            self.processes += 1;
            self.process = Some(self.processes);
            core.note(Node::Site, format_args!("starts"));
        }
    }

    /// Ends the process. What was committed stays, whatever the machine does.
    pub(crate) fn crash(&mut self, core: &mut Core) {
        if self.process.take().is_none() {
            return;
        }
        core.note(Node::Site, format_args!("ends"));
        self.held.clear();
        let delay = core.dice.spread(500, core.scenario.faults.outage_most.max(1_000));
        core.queue.after(delay, Event::SiteStarts);
    }

    /// Whether its process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Takes a backup of the database.
    pub(crate) fn back_up(&mut self, core: &mut Core) {
        core.note(Node::Site, format_args!("is backed up at revision {}", self.store.revision));
        self.backup = Some((self.store.clone(), core.truth.meant.clone()));
    }

    /// Restores the newest backup into a new epoch.
    pub(crate) fn restore(&mut self, core: &mut Core) {
        let Some((backup, meant)) = self.backup.take() else { return };
        core.seen.world(Rare::Restored);
        core.note(Node::Site, format_args!("is restored at revision {}", backup.revision));
        self.crash(core);
        core.truth.meant = meant;
        // What was handed out since is not taken back: a device that lost its memory in between
        // speaks under an incarnation that the backup does not know.
        let granted: Vec<(DeviceId, Incarnation)> =
            self.store.devices.iter().map(|(id, row)| (*id, row.granted)).collect();
        self.store = backup;
        for (device, incarnation) in granted {
            if let Some(row) = self.store.devices.get_mut(&device) {
                row.granted = row.granted.max(incarnation);
            }
        }
        let epoch = EpochId(core.dice.uuid());
        if !core.is_planted(Plant::EpochKeptByRestore) {
            self.store.epoch = epoch;
        }
        core.truth.restored = true;
    }

    /// Somebody calls.
    pub(crate) fn called(&mut self, core: &mut Core, call: Call) {
        if self.process.is_none() {
            core.answer(Node::Site, &call, Answer::Unavailable);
            return;
        }
        let hearing = self.heard(core, &call.ask);
        if self.process.is_none() {
            return;
        }
        match &call.ask {
            Ask::Post(batch) => {
                let batch = batch.clone();
                if let Ok(answer) = self.take(core, &batch, &call) {
                    core.answer(Node::Site, &call, answer);
                }
            }
            Ask::Poll { device, incarnation, tag, wait } => {
                let held = HeldPoll {
                    device: *device,
                    incarnation: *incarnation,
                    tag: *tag,
                    call: call.clone(),
                };
                let wait = (*wait).min(self.poll_most(core, *device));
                self.hold(core, held, wait);
            }
            Ask::Account { .. } if !matches!(hearing, Hearing::Speaks | Hearing::Mends) => {
                core.answer(Node::Site, &call, Answer::Kept("not while it is watched"));
            }
            Ask::Account { device, incarnation } => {
                let (epoch, rows) = (self.store.epoch, self.store.rows.values());
                let account =
                    muster_site_core::account::account(*device, *incarnation, epoch, rows);
                let answer = Answer::Account(self.key.seal(&account));
                core.answer(Node::Site, &call, answer);
            }
        }
    }

    fn take(&mut self, core: &mut Core, batch: &Batch, call: &Call) -> Result<Answer, Cut> {
        let Some(row) = self.store.devices.get(&batch.header.device) else {
            return Ok(Answer::Kept("no such device"));
        };
        let Ok(chains) = batch.verify(&row.key) else {
            return Ok(Answer::Kept("not signed by the device"));
        };
        let stream_key = (batch.header.device, batch.header.incarnation);
        let stream = self.store.streams.get(&stream_key).cloned();
        let stream = stream.unwrap_or_else(|| StreamRow::new(stream_key.0, stream_key.1));
        let reading = Reading::new(batch.clone(), chains);
        self.open_reported(core, &reading)?;
        let Some(row) = self.store.devices.get(&batch.header.device) else {
            return Ok(Answer::Kept("no such device"));
        };
        let lookups = self.lookups(core, row, &reading);
        let doubted = core.truth.copied.contains(&stream_key.0).then(|| reading.clone());
        let ingest = plan(&stream, reading, lookups);
        for branch in ingest.fired().iter() {
            core.seen.mark("site", &branch);
        }
        match ingest {
            Ingest::Taken(taken) => {
                let answer = self.commit(core, *taken, call)?;
                if let Some(reading) = doubted {
                    self.went_on(core, &reading);
                }
                Ok(answer)
            }
            Ingest::Watched => Ok(Answer::Unavailable),
            Ingest::Behind { through } => {
                Ok(Answer::Behind(Behind { epoch: self.store.epoch, through }))
            }
            Ingest::Forked { stream } => {
                let copied = core.truth.copied.contains(&stream.device);
                if core.truth.is_honest(stream.device) && !copied {
                    let found = format!(
                        "stream {}/{}: {:?}",
                        stream.device, stream.incarnation, stream.fork
                    );
                    core.violated("no fork without a copy", found);
                }
                self.store.streams.insert(stream_key, *stream);
                if let Some(reading) = doubted {
                    self.forked(core, &reading);
                }
                Ok(Answer::Kept("forked"))
            }
            Ingest::UnknownIncarnation { said, granted } => {
                let copied = core.truth.copied.contains(&batch.header.device);
                if core.truth.is_honest(batch.header.device) && !copied {
                    let found = format!("incarnation {said} speaks, {granted} is granted");
                    core.violated("no unknown incarnation", found);
                }
                Ok(Answer::Kept("unknown incarnation"))
            }
        }
    }

    fn lookups(&self, core: &Core, device: &DeviceRow, reading: &Reading) -> Lookups {
        let store = &self.store;
        let touched = reading.touched();
        let rows =
            touched.iter().filter_map(|key| Some((key.clone(), store.rows.get(key)?.clone())));
        let header = &reading.header;
        let last = (header.device, header.incarnation, header.last);
        Lookups {
            rows: rows.collect(),
            targeted: touched.iter().filter(|key| store.is_targeted(key)).cloned().collect(),
            chain_at_last: store.messages.get(&last).map(|message| message.chain),
            granted: device.granted,
            newest: device.newest,
            newest_since: self.newest_since(device),
            lives: Lives::of(store.streams.range(streams_of(header.device)).map(|(_, one)| one)),
            now: core.wall(),
            planted: self.planted.clone(),
        }
    }

    /// When the newest life of a device was first heard.
    pub(super) fn newest_since(&self, row: &DeviceRow) -> Option<Wall> {
        let range = (row.device.id, row.newest, Sequence(0))..;
        let (place, first) = self.store.messages.range(range).next()?;
        ((place.0, place.1) == (row.device.id, row.newest)).then_some(first.received)
    }

    fn commit(&mut self, core: &mut Core, taken: Taken, call: &Call) -> Result<Answer, Cut> {
        let receipt = taken.stream.receipt(self.store.epoch);
        let answer = Answer::Receipt(self.key.seal(&receipt));
        if core.is_planted(Plant::AcknowledgedBeforeCommit) {
            core.answer(Node::Site, call, answer.clone());
        }
        if core.crash().is_some() {
            core.seen.world(Rare::SiteCrashedBeforeCommit);
            self.crash(core);
            return Err(Cut);
        }
        crate::check::committed(core, &self.store, &taken);
        if let Some(names) = &mut self.planted.short_names {
            names.extend(taken.short_names.iter().copied());
        }
        self.store.take(&taken, core.wall());
        crate::check::sums_of(core, &self.store, &taken);
        if core.crash().is_some() {
            core.seen.world(Rare::SiteCrashedAfterCommit);
            self.crash(core);
            return Err(Cut);
        }
        if core.is_planted(Plant::AcknowledgedBeforeCommit) {
            return Err(Cut);
        }
        Ok(answer)
    }

    fn hold(&mut self, core: &mut Core, poll: HeldPoll, wait: u64) {
        let Some(device) = self.store.devices.get_mut(&poll.device) else {
            core.answer(Node::Site, &poll.call, Answer::Unavailable);
            return;
        };
        if device.device.admission == Admission::Retired {
            core.answer(Node::Site, &poll.call, Answer::Unavailable);
            return;
        }
        // The next incarnation is handed out before it is needed.
        let spare = Incarnation(poll.incarnation.0 + 1);
        device.granted = device.granted.max(spare);
        let id = poll.call.id;
        self.held.insert(id, poll);
        if !self.answer_if_new(core, id) {
            let process = self.processes;
            core.queue.after(wait, Event::PollHeld { process, call: id });
        }
    }

    /// Tells everybody who waits for it that there is something new.
    pub(crate) fn wake(&mut self, core: &mut Core) {
        let held: Vec<u64> = self.held.keys().copied().collect();
        for id in held {
            self.answer_if_new(core, id);
        }
    }

    /// A poll has been held long enough.
    pub(crate) fn poll_held(&mut self, core: &mut Core, process: u64, call: u64) {
        if self.process != Some(process) {
            return;
        }
        if let Some(poll) = self.held.remove(&call) {
            let answer = Answer::NothingNew { time: self.time(core), receipt: None };
            core.answer(Node::Site, &poll.call, answer);
        }
    }

    fn answer_if_new(&mut self, core: &mut Core, id: u64) -> bool {
        let Some(poll) = self.held.get(&id) else { return false };
        let now = self.tag_of(poll.device);
        if poll.tag == Some(now) {
            return false;
        }
        let policy = self.policy(core, poll.device, now);
        let next_incarnation = Some(Incarnation(poll.incarnation.0 + 1));
        let answer = Answer::Policy {
            tag: now,
            sealed: self.key.seal(&policy),
            time: Some(self.time(core)),
            receipt: None,
            next_incarnation,
        };
        if let Some(poll) = self.held.remove(&id) {
            core.answer(Node::Site, &poll.call, answer);
        }
        true
    }

    fn time(&self, core: &Core) -> muster_model::wire::seal::Sealed {
        self.key.seal(&SiteTime { time: core.wall(), epoch: self.store.epoch })
    }

    fn tag_of(&self, device: DeviceId) -> muster_model::digest::Digest {
        let store = &self.store;
        let site = SiteVersions { epoch: store.epoch, settings: 0, trust: 1, halt: store.halted.1 };
        let own = store.devices.get(&device).map_or(0, |row| row.version);
        let versions = store
            .memberships(device)
            .into_iter()
            .map(|id| (id, store.collections.get(&id).map_or(0, |row| row.policy_version)));
        tag(&site, own, &versions.collect())
    }

    fn policy(
        &self,
        core: &mut Core,
        device: DeviceId,
        tag: muster_model::digest::Digest,
    ) -> Policy {
        let store = &self.store;
        let open = self.open_occurrences(device);
        let wanted: BTreeSet<_> = open.iter().map(|one| one.advertisement).collect();
        let live: Vec<LiveAdvertisement> = store
            .advertisements
            .iter()
            .filter(|(id, _)| wanted.contains(id))
            .map(|(id, advertised)| self.live(core, *id, advertised))
            .collect();
        let (live, open) = self.with_removals(core, device, live, open);
        let held = store.devices.get(&device).and_then(|row| match &row.device.admission {
            Admission::Held { order } => Some(order.clone()),
            _ => None,
        });
        let site = SiteSide {
            epoch: store.epoch,
            revision: store.revision,
            settings: core.scenario.settings.clone(),
            trust: 1,
            halted: store.halted.0.clone(),
        };
        let memberships = store.memberships(device);
        let windows = store.windows.values().filter(|(id, _)| memberships.contains(id));
        let windows = windows.map(|(_, window)| window.clone()).collect();
        let put_back = held.as_ref().and_then(|_| self.lives(device).told());
        let settings = Settings::default();
        let side = DeviceSide { device, settings, held, put_back, windows };
        compile(&site, &side, &live, &open, tag, core.wall())
    }

    /// What is open for a device: by membership now, or because `rerun` named it.
    fn open_occurrences(&self, device: DeviceId) -> Vec<OpenOccurrence> {
        let store = &self.store;
        let memberships = store.memberships(device);
        let mut open = Vec::new();
        for (id, advertised) in store.advertisements.iter().filter(|(_, one)| !one.deleted) {
            for row in &advertised.row.occurrences {
                let member = row
                    .spans
                    .iter()
                    .any(|span| span.is_open() && memberships.contains(&span.collection));
                let key = Key { advertisement: *id, occurrence: row.occurrence.clone(), device };
                let named = row.spans.is_empty()
                    && !row.occurrence.is_removal()
                    && store.rows.contains_key(&key);
                if member || named {
                    let due = Due { occurrence: row.occurrence.clone(), at: row.due };
                    open.push(OpenOccurrence { advertisement: *id, due });
                }
            }
        }
        open
    }

    fn live(
        &self,
        core: &Core,
        advertisement: muster_model::id::AdvertisementId,
        advertised: &Advertised,
    ) -> LiveAdvertisement {
        let row = &advertised.row;
        let software = &core.scenario.software[advertised.software];
        let spec = match &row.object.spec {
            muster_model::object::Spec::Advertisement(spec) => Some(spec),
            _ => None,
        };
        LiveAdvertisement {
            advertisement,
            name: row.object.metadata.name.clone(),
            revision: row.revision,
            collection: row.collection,
            package: row.package.clone(),
            program: software.program.name.clone(),
            achieves: software.program.achieves,
            supersedes: software.supersedes.clone(),
            expires: spec.and_then(|spec| spec.expires),
            offline_for: spec.map(|spec| spec.offline_for).unwrap_or_default(),
            notice: spec.and_then(|spec| spec.notice),
            emergency: spec.is_some_and(|spec| spec.emergency),
            timing: spec.map(timing).unwrap_or_default(),
            stopped: advertised.stopped.clone(),
            revoked: advertised.revoked.clone(),
            dependencies: goes_before(core, software),
            parameters: Default::default(),
        }
    }
}

/// What an advertisement says of time.
pub(crate) fn timing(spec: &muster_model::advertisement::AdvertisementSpec) -> Timing {
    let recurrences = muster_site_core::recurrence::rules(spec.named_assignments());
    Timing { recurrences, late: spec.late, splay: spec.splay }
}

/// What goes before a software's program, as the product pins it.
fn goes_before(core: &Core, software: &Software) -> Vec<PinnedProgram> {
    let mut walk = Walk::new(&software.package.name, &software.program);
    while let Some(wanted) = walk.wants() {
        let is = |one: &&Software| one.package.name == wanted.package.name;
        let found = core.scenario.software.iter().find(is).map(admin::published);
        if walk.take(found.as_ref()).is_err() {
            break;
        }
    }
    walk.finish()
}
