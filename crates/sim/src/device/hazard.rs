//! What happens to the memory of a device: it is lost or damaged, put back to an older state, copied
//! to a second machine, or there is no room for it to grow.

use std::collections::{BTreeMap, BTreeSet};

use muster_agent_core::step::Write;
use muster_agent_core::versions::Versions;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Report, RunId};

use super::Device;
use super::run::RunFolder;
use super::shell::Cut;
use crate::core::Core;
use crate::disk::Disk;
use crate::event::Event;
use crate::journal::Journal;
use crate::plant::Plant;
use crate::queue::Time;
use crate::scenario::MINUTE;
use crate::sometimes::Rare;

/// The boots of a copied machine are counted from here, so that no two machines share a boot id.
const BOOTS_OF_COPY: u64 = 1_000_000;

/// A disk at one moment: what a power cut then would have left.
pub(super) struct Snapshot {
    journal: Disk<Journal>,
    incarnation: Incarnation,
    next_incarnation: Option<Incarnation>,
    memory_lost: Option<String>,
    salvaged: Vec<Report>,
    software: BTreeMap<Digest, bool>,
    reached: BTreeSet<Digest>,
    folders: BTreeMap<RunId, RunFolder>,
    versions: Versions,
    past: BTreeSet<Digest>,
}

impl Device {
    /// The journal is lost; the next agent begins a new incarnation. Only if one is in reserve. Now and
    /// then the whole disk is lost, and the run folders with it; now and then a part of the journal can
    /// still be read.
    pub(crate) fn lose_memory(&mut self, core: &mut Core, site_through: Sequence) {
        let Some(next) = self.next_incarnation.take() else { return };
        if self.journal.read().memory.is_none() {
            self.next_incarnation = Some(next);
            return;
        }
        core.seen.world(Rare::MemoryLost);
        core.note(self.node(), format_args!("loses its journal; goes on as incarnation {next}"));
        self.kill_agent(core);
        let stream = (self.id, self.incarnation);
        let head = core.truth.head(stream);
        core.truth.lost_streams.insert(stream, head);
        let untold = site_through < head;
        let whole_disk = core.dice.per_mille(250);
        if whole_disk {
            self.lose_folders(core);
        } else if core.dice.per_mille(500) {
            self.salvage(core);
        }
        // A restored site has forgotten what it relieved the device of, and with that its run folder.
        if untold && (whole_disk || core.truth.restored) {
            for key in self.journal.read().obligations.keys() {
                core.truth.destroyed.insert((self.index, key.clone()));
            }
        }
        self.journal.wipe();
        if !core.is_planted(Plant::IncarnationKeptAfterLoss) {
            self.incarnation = next;
        }
        self.memory_lost = Some("the journal was gone".to_owned());
    }

    /// The journal is damaged in the middle: what stands before that, and the site may not have, is
    /// handed on.
    fn salvage(&mut self, core: &mut Core) {
        let journal = self.journal.read();
        let relieved = journal.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
        let unrelieved: Vec<_> = journal.messages.range(relieved.next()..).collect();
        let readable = core.dice.below(unrelieved.len() as u64 + 1) as usize;
        let messages = unrelieved.into_iter().take(readable);
        let bodies = messages
            .filter_map(|(_, kept)| serde_json::from_slice::<Message>(&kept.bytes).ok())
            .map(|message| message.body);
        self.salvaged = bodies
            .filter_map(|body| match body {
                Body::Obligation(report) => Some(report),
                _ => None,
            })
            .collect();
        if !self.salvaged.is_empty() {
            core.seen.world(Rare::Salvaged);
        }
    }

    /// The run folders are lost too.
    fn lose_folders(&mut self, core: &mut Core) {
        core.seen.world(Rare::DiskLost);
        core.note(self.node(), format_args!("loses its whole disk"));
        self.cut_power(core);
        self.folders.clear();
        core.truth.disks_lost.insert(self.index);
    }

    /// The site has another history of this device, as of a machine that was put back: it goes on in the
    /// life that the site handed out.
    pub(super) fn go_on_as(&mut self, core: &mut Core, life: Incarnation) -> Result<(), Cut> {
        core.note(self.node(), format_args!("was put back; goes on as incarnation {life}"));
        self.kill_agent(core);
        // Whoever reads the journal knows which of its messages the site has.
        self.salvaged = self.unrelieved().collect();
        self.journal.wipe();
        (self.incarnation, self.next_incarnation) = (life, None);
        self.memory_lost = Some("the machine was put back to a snapshot".to_owned());
        Err(Cut)
    }

    fn unrelieved(&self) -> impl Iterator<Item = Report> {
        let journal = self.journal.read();
        let relieved = journal.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
        let messages = journal.messages.range(relieved.next()..);
        messages
            .filter_map(|(_, kept)| serde_json::from_slice::<Message>(&kept.bytes).ok())
            .filter_map(|message| match message.body {
                Body::Obligation(report) => Some(report),
                _ => None,
            })
    }

    /// Notes what this machine has told and still knows of, on a device of which there were two pasts.
    pub(super) fn note_past(&mut self, chains: impl IntoIterator<Item = Digest>) {
        self.past.extend(chains);
    }

    /// Whether the machine, as it is now, has ever said the message with that chain.
    pub(crate) fn has_said(&self, chain: Digest) -> bool {
        self.past.contains(&chain)
    }

    fn snapshot(&self, core: &Core) -> Snapshot {
        // Of a device with two pasts only its own count.
        let is_first = !is_copied(core, self.id);
        let own = core.truth.chains.iter().filter(|((id, _), _)| is_first && *id == self.id);
        let durable = self.journal.durable().messages.values().map(|kept| kept.chain);
        let past = own.flat_map(|(_, chains)| chains.iter().copied()).chain(durable);
        Snapshot {
            past: past.chain(self.past.iter().copied()).collect(),
            journal: self.journal.copy(),
            incarnation: self.incarnation,
            next_incarnation: self.next_incarnation,
            memory_lost: self.memory_lost.clone(),
            salvaged: self.salvaged.clone(),
            software: self.software.clone(),
            reached: self.reached.clone(),
            folders: self.folders.iter().map(|(run, one)| (*run, one.copy())).collect(),
            versions: self.versions.clone(),
        }
    }

    fn put_back(&mut self, snapshot: Snapshot) {
        self.journal = snapshot.journal;
        self.incarnation = snapshot.incarnation;
        self.next_incarnation = snapshot.next_incarnation;
        self.memory_lost = snapshot.memory_lost;
        self.salvaged = snapshot.salvaged;
        self.software = snapshot.software;
        self.reached = snapshot.reached;
        self.folders = snapshot.folders;
        self.versions = snapshot.versions;
        self.past = snapshot.past;
    }

    /// Somebody takes a snapshot of the virtual machine or, if there is one, puts the machine back to
    /// it.
    pub(crate) fn snapshot_or_roll_back(&mut self, core: &mut Core) {
        let Some(snapshot) = self.snapshot.take() else {
            core.note(self.node(), format_args!("is copied to a snapshot"));
            self.snapshot = Some(Box::new(self.snapshot(core)));
            return;
        };
        core.seen.world(Rare::RolledBack);
        core.note(self.node(), format_args!("is put back to its snapshot"));
        self.cut_power(core);
        core.truth.copy(self.id);
        if snapshot.versions.current != self.versions.current {
            core.seen.world(Rare::VersionRolledBack);
        }
        self.put_back(*snapshot);
    }

    /// A second machine with a copy of this one's disk, switched off.
    pub(crate) fn cloned(&self, index: usize, core: &mut Core) -> Device {
        core.seen.world(Rare::Cloned);
        core.note(self.node(), format_args!("its disk is copied to device-{index}"));
        core.truth.copy(self.id);
        let mut copy = Device::new(index, core, self.site_key);
        copy.id = self.id;
        copy.name = self.name.clone();
        copy.key = self.key.clone();
        copy.facts = Facts { machine: copy.machine_of_copy(self), ..self.facts.clone() };
        copy.machine.boots = BOOTS_OF_COPY;
        copy.put_back(self.snapshot(core));
        core.truth.cloned.insert(self.id);
        copy
    }

    /// Half of the copied machines cannot be told from the original.
    fn machine_of_copy(&self, original: &Device) -> Option<Digest> {
        if self.index.is_multiple_of(2) { self.facts.machine } else { original.facts.machine }
    }

    /// Something else fills the disk: of the journal only its reserve is left.
    pub(crate) fn fill_disk(&mut self, core: &mut Core, lasts: Time) {
        core.seen.world(Rare::DiskFull);
        let reserve = core.dice.spread(500, 50_000);
        core.note(self.node(), format_args!("its disk is full but for {reserve} bytes"));
        self.reserve = Some(reserve);
        core.queue.after(lasts.max(MINUTE), Event::DiskFreed { device: self.index });
    }

    /// There is room again.
    pub(crate) fn free_disk(&mut self, core: &mut Core) {
        if self.reserve.take().is_some() {
            core.note(self.node(), format_args!("its disk has room again"));
        }
    }

    /// Whether nothing but the reserve is left, so that nothing new may be armed.
    pub(super) fn is_full(&self) -> bool {
        self.reserve.is_some()
    }

    /// Takes the room for `writes` out of the reserve; false if it is not there.
    pub(super) fn has_room(&mut self, writes: &[Write]) -> bool {
        let Some(reserve) = &mut self.reserve else { return true };
        let bytes = writes.iter().map(|write| match write {
            Write::Message(kept) => kept.bytes.len() as u64,
            _ => 200,
        });
        match reserve.checked_sub(bytes.sum()) {
            Some(left) => *reserve = left,
            None => return false,
        }
        true
    }
}

/// Who a copied machine claims to be.
pub(crate) fn is_copied(core: &Core, device: DeviceId) -> bool {
    core.truth.copied.contains(&device)
}
