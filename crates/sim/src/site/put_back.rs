//! Devices of which two histories were seen, at the site of a world: the real decisions, each one
//! transaction.

use std::sync::Arc;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation, Sequence};
use muster_model::message::Message;
use muster_model::settings::Setting;
use muster_site_core::device::Admission;
use muster_site_core::ingest::{Fork, Reading, StreamRow};
use muster_site_core::obligation::{Applied, Place};
use muster_site_core::put_back::{
    Claim, Hearing, Judged, Lives, Parted, Suspect, Watch, accept, doubt, is_outlived, judge,
    outlived_point, parted, undo,
};

use super::admin::by;
use super::store::Store;
use super::{Site, streams_of};
use crate::core::{Core, Node};
use crate::event::Ask;
use crate::plant::Plant;
use crate::sometimes::Rare;

/// Who holds a device that the site itself suspects.
const SITE: &str = "the site";

impl Site {
    /// A batch contradicts its stream, which is marked: the device is held, and goes on in its next life
    /// if it looks put back.
    pub(super) fn forked(&mut self, core: &mut Core, reading: &Reading) {
        let (id, of) = (reading.header.device, reading.header.incarnation);
        let first = Sequence(reading.header.first.0 - 1);
        let range = (id, of, first)..=(id, of, reading.header.last);
        let ours = self.store.messages.range(range).map(|((_, _, at), one)| (*at, one.chain));
        let parted = parted(&self.lives(id), reading, &ours.collect());
        let told = |Parted { from, .. }| self.machine_told(id, of, from);
        let machine = match reading.facts() {
            Some(facts) => facts.machine,
            None => parted.and_then(told),
        };
        self.judge(core, id, of, parted, machine);
    }

    /// A life asks that a newer one has followed: what it has said since is another history.
    fn outlived(&mut self, core: &mut Core, id: DeviceId, life: Incarnation) {
        let newer_since = self.store.devices.get(&id).and_then(|row| self.newest_since(row));
        let said =
            self.store.messages.range((id, life, Sequence(0))..=(id, life, Sequence(u64::MAX)));
        let newest = said.last().map(|(_, one)| one.received);
        let stream = self.store.streams.get(&(id, life));
        let parted = stream.zip(newest).zip(newer_since);
        let parted = parted.and_then(|((stream, at), since)| outlived_point(stream, at, since));
        match parted {
            Some(Parted { from, .. }) => {
                let machine = self.machine_told(id, life, from.next());
                self.judge(core, id, life, parted, machine);
            }
            None => self.hold_forked(core, id),
        }
    }

    fn judge(
        &mut self,
        core: &mut Core,
        id: DeviceId,
        of: Incarnation,
        parted: Option<Parted>,
        machine: Option<Digest>,
    ) {
        let Some(row) = self.store.devices.get(&id) else { return };
        if row.device.admission == Admission::Retired {
            return;
        }
        let by_person = matches!(&row.device.admission,
            Admission::Held { order } if order.by != SITE);
        let suspect = Suspect {
            incarnation: of,
            parted,
            known_machine: row.device.facts.machine,
            machine,
            held_by_person: by_person,
            next: Incarnation(row.granted.max(row.newest).0 + 1),
            now: core.wall(),
        };
        let judged = judge(&self.lives(id), &suspect);
        self.hold_forked(core, id);
        match judged {
            Judged::PutBack(claim) => self.claim_stands(core, id, of, &claim),
            Judged::Held(why) => core.note(Node::Site, format_args!("{}", why.text())),
        }
    }

    /// What the newest facts in a stream say, at or before `until`.
    fn machine_told(&self, id: DeviceId, life: Incarnation, until: Sequence) -> Option<Digest> {
        let stream = (id, life, Sequence(0))..=(id, life, until);
        let told = self.store.messages.range(stream).rev();
        let mut read = told.filter_map(|(_, one)| serde_json::from_slice(&one.bytes).ok());
        read.find_map(|message: Message| message.body.facts().map(|facts| facts.machine))?
    }

    fn claim_stands(&mut self, core: &mut Core, id: DeviceId, of: Incarnation, claim: &Claim) {
        let what = "hands out a life to a device that looks put back";
        self.change(core, id, what, |streams| {
            streams.iter_mut().filter(|stream| stream.incarnation == of).for_each(doubt);
            accept(streams, of, claim);
        });
        if let Some(row) = self.store.devices.get_mut(&id) {
            row.granted = row.granted.max(claim.life);
        }
    }

    /// What is made of a life that speaks, and what follows from it at once.
    pub(super) fn heard(&mut self, core: &mut Core, ask: &Ask) -> Hearing {
        let (id, life) = ask.speaker();
        let (lives, now, watch) = (self.lives(id), core.wall(), watch(core));
        let hearing = match ask {
            Ask::Post(_) => lives.hears_messages(life, now, watch),
            Ask::Poll { .. } | Ask::Account { .. } => lives.hears(life, now, watch),
        };
        match hearing {
            Hearing::Speaks if !matches!(ask, Ask::Post(_)) && self.is_outlived(id, life, now) => {
                self.outlived(core, id, life);
            }
            Hearing::Speaks | Hearing::Watched { .. } => {}
            Hearing::Begins => {
                self.mark(core, id, "begins to watch", |fork| fork.begin(now));
            }
            Hearing::Mends => self.mend(core, id),
            Hearing::GivesUp => self.give_up(core, id),
            Hearing::Doubted => self.outlived(core, id, life),
            Hearing::SecondMachine => self.second_machine(core, id),
        }
        hearing
    }

    fn is_outlived(&self, id: DeviceId, life: Incarnation, now: Wall) -> bool {
        let row = self.store.devices.get(&id).filter(|row| life < row.newest);
        row.and_then(|row| self.newest_since(row)).is_some_and(|since| is_outlived(since, now))
    }

    /// How long a poll of a device is held at most.
    pub(super) fn poll_most(&self, core: &Core, id: DeviceId) -> u64 {
        let is_claimed = self.lives(id).claim().is_some();
        if is_claimed { watch(core).poll().as_millis() as u64 } else { u64::MAX }
    }

    /// Messages that go on with a history that has ended are a second machine's.
    pub(super) fn went_on(&mut self, core: &mut Core, reading: &Reading) {
        let (id, life) = (reading.header.device, reading.header.incarnation);
        let goes_on = |written| self.lives(id).goes_on(life, written);
        if reading.written().is_some_and(goes_on) {
            self.second_machine(core, id);
        }
    }

    fn second_machine(&mut self, core: &mut Core, id: DeviceId) {
        core.seen.world(Rare::SecondMachine);
        self.mark(core, id, "sees two machines", |fork| {
            if fork.claim.is_some() {
                fork.refuse();
            }
        });
        self.hold_forked(core, id);
    }

    fn mark(&mut self, core: &mut Core, id: DeviceId, what: &str, mark: impl Fn(&mut Fork)) {
        self.change(core, id, what, |streams| {
            streams.iter_mut().filter_map(|stream| stream.fork.as_mut()).for_each(mark);
        });
    }

    /// Changes the streams of a device, and with them its policy, unless they are so already.
    fn change(
        &mut self,
        core: &mut Core,
        id: DeviceId,
        what: &str,
        change: impl FnOnce(&mut [StreamRow]),
    ) {
        let mut after: Vec<StreamRow> = streams(&self.store, id).cloned().collect();
        change(&mut after);
        if streams(&self.store, id).eq(&after) {
            return;
        }
        self.transact(core, what, |staged, _| {
            for stream in &after {
                staged.store.streams.insert((id, stream.incarnation), stream.clone());
            }
            staged.touch(id);
        });
    }

    fn mend(&mut self, core: &mut Core, id: DeviceId) {
        let (now, counts) = (core.wall(), core.is_planted(Plant::PutBackCounts));
        self.transact(core, "mends a device that was put back", |staged, _| {
            forks(&mut staged.store, id).for_each(|fork| fork.mend(now));
            let lives = Lives::of(streams(&staged.store, id));
            let rows = staged.store.rows.values().filter(|row| row.key.device == id);
            let undone: Vec<Applied> =
                rows.filter(|_| !counts).filter_map(|row| undo(row, &lives, now)).collect();
            undone.iter().for_each(|one| staged.store.apply(one, true));
            for ((device, incarnation, sequence), message) in &mut staged.store.messages {
                let place = Place { incarnation: *incarnation, sequence: *sequence };
                if *device == id && !counts && lives.is_undone(place) {
                    Arc::make_mut(message).late = true;
                }
            }
            admit(&mut staged.store, id);
            staged.touch(id);
        });
        let is_mended = self.lives(id).claim().is_none();
        if is_mended {
            core.seen.world(Rare::PutBackMended);
        }
    }

    fn give_up(&mut self, core: &mut Core, id: DeviceId) {
        self.transact(core, "gives up a claim that nobody takes up", |staged, _| {
            forks(&mut staged.store, id).for_each(Fork::give_up);
            admit(&mut staged.store, id);
            staged.touch(id);
        });
    }

    pub(super) fn lives(&self, id: DeviceId) -> Lives {
        Lives::of(streams(&self.store, id))
    }

    /// Two histories of a device were seen: it is held until it is mended, or somebody has looked at it.
    fn hold_forked(&mut self, core: &mut Core, device: DeviceId) {
        let row = self.store.devices.get(&device).map(|row| &row.device.admission);
        if row != Some(&Admission::Admitted) {
            return;
        }
        core.seen.world(Rare::ForkHeld);
        self.transact(core, "holds a device with two histories", |staged, _| {
            if let Some(row) = staged.store.devices.get_mut(&device) {
                row.device.admission = Admission::Held { order: by(SITE, false) };
            }
            staged.touch(device);
        });
    }
}

/// Admits a device that the site itself holds.
fn admit(store: &mut Store, id: DeviceId) {
    if let Some(row) = store.devices.get_mut(&id)
        && matches!(&row.device.admission, Admission::Held { order } if order.by == SITE)
    {
        row.device.admission = Admission::Admitted;
    }
}

fn watch(core: &Core) -> Watch {
    Watch::of(core.scenario.settings.get(Setting::PollWait).duration())
}

/// A person clears every suspicion about a device.
pub(super) fn settle(store: &mut Store, id: DeviceId, now: Wall) {
    forks(store, id).filter(|fork| fork.is_suspect()).for_each(|fork| fork.settle(now));
}

fn streams(store: &Store, id: DeviceId) -> impl Iterator<Item = &StreamRow> {
    store.streams.range(streams_of(id)).map(|(_, stream)| stream)
}

fn forks(store: &mut Store, id: DeviceId) -> impl Iterator<Item = &mut Fork> {
    store.streams.range_mut(streams_of(id)).filter_map(|(_, stream)| stream.fork.as_mut())
}
