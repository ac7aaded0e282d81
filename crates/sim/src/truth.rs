//! What really happened, as nobody inside the world can know it: which programs were executed, and
//! which messages were ever durable.

use std::collections::{BTreeMap, BTreeSet};

use muster_agent_core::input::Ending;
use muster_agent_core::saved::Key;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, DeviceId, Incarnation, Sequence};
use muster_model::message::{Occurrence, RunId};
use muster_model::package::Rerun;

use muster_site_core::occurrence::Revision;

use crate::hours::Hours;
use crate::queue::Time;
use crate::site::store::Store;

/// Whom each occurrence was ever meant for.
pub(crate) type Meant = BTreeMap<(AdvertisementId, Occurrence), BTreeSet<DeviceId>>;

/// One execution of a program.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// Where.
    pub device: usize,
    /// For what.
    pub key: Key,
    /// Under which run.
    pub run: RunId,
    /// As which attempt.
    pub attempt: u32,
    /// For whom, of a program that runs for each user.
    pub user: Option<String>,
    /// What its program allows.
    pub rerun: Rerun,
    /// Of which package.
    pub manifest: Digest,
    /// It found the package manager's lock held and did nothing.
    pub(crate) idle: bool,
    /// Its supervisor was ended while it ran: no exit record can exist.
    pub(crate) cut: bool,
    /// How it ended, if it ended by itself and its supervisor saw it.
    pub ended: Option<Ending>,
    /// When it began; from its end on, when that was.
    pub at: Time,
}

/// Everything that nobody inside can know.
#[derive(Default)]
pub(crate) struct Truth {
    /// All executions, in order.
    pub executions: Vec<Execution>,
    /// The chain at each place of each stream, from the moment it was durable on the device.
    pub chains: BTreeMap<(DeviceId, Incarnation), Vec<Digest>>,
    /// Devices whose whole disk was lost.
    pub disks_lost: BTreeSet<usize>,
    /// Obligations of which a device's lost disk knew more than the site, or its lost journal more
    /// than a restored site: nobody can know any more what was executed for them.
    pub destroyed: BTreeSet<(usize, Key)>,
    /// Streams whose journal was lost, and the last message that was durable.
    pub lost_streams: BTreeMap<(DeviceId, Incarnation), Sequence>,
    /// The end of what the site ever committed of each stream, restored or not.
    pub ever_taken: BTreeMap<(DeviceId, Incarnation), Sequence>,
    /// Whom each occurrence was ever meant for.
    pub meant: Meant,
    /// Every window and freeze there ever was, by its name.
    pub hours: BTreeMap<String, Hours>,
    /// Devices that follow no protocol.
    pub rogues: BTreeSet<DeviceId>,
    /// Devices of which there are, or were, two machines or two pasts under one identity.
    pub copied: BTreeSet<DeviceId>,
    /// Those of them whose disk was copied to a second machine.
    pub cloned: BTreeSet<DeviceId>,
    /// Every chain that was ever durable on such a device.
    pub chains_of_copies: BTreeSet<Digest>,
    /// How often a running agent was told that its facts changed, by stream: each is a word that is due.
    pub facts_changed: BTreeMap<(DeviceId, Incarnation), u64>,
    /// The site was restored from a backup.
    pub restored: bool,
}

impl Truth {
    /// The chain that was durable at this place.
    pub(crate) fn chain(
        &self,
        stream: (DeviceId, Incarnation),
        sequence: Sequence,
    ) -> Option<Digest> {
        let index = usize::try_from(sequence.0.checked_sub(1)?).ok()?;
        self.chains.get(&stream)?.get(index).copied()
    }

    /// The last message of a stream that was ever durable.
    pub(crate) fn head(&self, stream: (DeviceId, Incarnation)) -> Sequence {
        Sequence(self.chains.get(&stream).map_or(0, |chains| chains.len() as u64))
    }

    /// From now on two machines or two pasts speak as `device`.
    pub(crate) fn copy(&mut self, device: DeviceId) {
        self.copied.insert(device);
        let known = self.chains.iter().filter(|((id, _), _)| *id == device);
        self.chains_of_copies.extend(known.flat_map(|(_, chains)| chains.iter().copied()));
    }

    /// Whether this chain was durable at this place on an honest device.
    pub(crate) fn was_written(
        &self,
        stream: (DeviceId, Incarnation),
        sequence: Sequence,
        chain: Digest,
    ) -> bool {
        self.chain(stream, sequence) == Some(chain) || self.chains_of_copies.contains(&chain)
    }

    /// Whether a device runs the real agent.
    pub(crate) fn is_honest(&self, device: DeviceId) -> bool {
        !self.rogues.contains(&device)
    }

    /// Remembers whom each open occurrence means now. Who was meant once is meant for ever.
    pub(crate) fn remember_meant(&mut self, store: &Store) {
        for row in store.occurrences() {
            let meant = self.meant.entry((row.advertisement, row.occurrence.clone())).or_default();
            for span in row.spans.iter().filter(|span| span.is_open()) {
                meant.extend(store.members(span.collection));
            }
            // Opened for the members of one moment, which may be long ago.
            let moment = |closed: Revision| closed.0.saturating_sub(1);
            for (span, closed) in row.spans.iter().filter_map(|span| Some((span, span.closed?))) {
                if span.opened.0 == moment(closed) {
                    let then = store.intervals.iter().filter(|one| {
                        one.collection == span.collection
                            && one.from <= span.opened
                            && one.until.is_none_or(|until| until > span.opened)
                    });
                    meant.extend(then.map(|interval| interval.device));
                }
            }
            if row.spans.is_empty() {
                let named = store.rows.keys().filter(|key| {
                    key.advertisement == row.advertisement && key.occurrence == row.occurrence
                });
                meant.extend(named.map(|key| key.device));
            }
        }
    }

    /// Executions of one run.
    pub(crate) fn of_run(&self, run: RunId) -> usize {
        self.executions.iter().filter(|execution| execution.run == run).count()
    }

    /// Executions for one obligation.
    pub(crate) fn of_obligation<'a>(
        &'a self,
        device: usize,
        key: &'a Key,
    ) -> impl Iterator<Item = &'a Execution> {
        self.executions.iter().filter(move |one| one.device == device && one.key == *key)
    }
}
