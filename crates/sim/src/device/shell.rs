//! Decide, save, then act: one input of the agent, with every place where it can be cut short.

use muster_agent_core::input::{ContentNews, Found, Input, Manifested};
use muster_agent_core::saved::Key;
use muster_agent_core::step::{Effect, Step, Write};
use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use muster_model::policy::PinnedPackage;
use muster_model::release::AgentRelease;
use muster_model::state::{Rule, Waiting};

use super::Device;
use super::hazard::is_copied;
use crate::core::{Core, Crash, Moment};
use crate::event::Event;
use crate::plant::Plant;
use crate::queue::Time;
use crate::sometimes::Rare;

/// The device is no longer what it was when the step began: nothing more of it happens.
pub(super) struct Cut;

impl Device {
    /// Tells the agent process `number` something, if it still runs, and does what follows from it.
    pub(crate) fn tell(&mut self, core: &mut Core, number: u64, input: Input) {
        let clocks = self.clocks(core);
        let node = self.node();
        let Some(process) = self.process.as_mut().filter(|process| process.number == number) else {
            return;
        };
        if core.record.is_kept() {
            core.note(node, format_args!("hears {}", brief(&input)));
        }
        let step = process.agent.handle(clocks, input);
        if self.carry_out(core, step).is_ok() {
            self.await_deadline(core);
        }
    }

    /// The deadline `due` has come, unless a newer one was set since.
    pub(crate) fn tick(&mut self, core: &mut Core, number: u64, due: Time) {
        let process = self.process.as_mut().filter(|process| process.number == number);
        let Some(process) = process.filter(|process| process.tick == Some(due)) else { return };
        process.tick = None;
        self.tell(core, number, Input::Tick);
    }

    fn carry_out(&mut self, core: &mut Core, step: Step) -> Result<(), Cut> {
        if core.is_planted(Plant::ActedBeforeSynced) {
            self.journal.write(step.writes);
        } else {
            self.save(core, step.writes)?;
        }
        for effect in step.effects {
            if let Some(crash) = core.crash() {
                core.seen.world(Rare::KilledAfterWrite);
                self.crash(core, crash);
                return Err(Cut);
            }
            self.perform(core, effect)?;
        }
        if core.is_planted(Plant::ActedBeforeSynced) {
            if let Some((crash, _)) = core.crash_at_write() {
                self.crash(core, crash);
                return Err(Cut);
            }
            self.journal.sync();
            self.note_durable(core);
        }
        Ok(())
    }

    /// One transaction of the journal: there as a whole and durable when this returns.
    fn save(&mut self, core: &mut Core, writes: Vec<Write>) -> Result<(), Cut> {
        if core.is_planted(Plant::MessageInSecondWrite) {
            let tells = |write: &Write| matches!(write, Write::Memory(_) | Write::Message(_));
            let (told, changed) = writes.into_iter().partition(tells);
            self.save_at_once(core, changed)?;
            return self.save_at_once(core, told);
        }
        self.save_at_once(core, writes)
    }

    fn save_at_once(&mut self, core: &mut Core, writes: Vec<Write>) -> Result<(), Cut> {
        if writes.is_empty() {
            return Ok(());
        }
        self.check_places(core, &writes);
        self.check_time(core, &writes);
        self.check_upgrades_begin(core, &writes);
        if !self.has_room(&writes) {
            core.seen.world(Rare::ReserveSpent);
            if core.is_planted(Plant::FullDiskUnnoticed) {
                return Ok(());
            }
            // What could not be saved is dropped with all that it asked for.
            self.kill_agent(core);
            return Err(Cut);
        }
        let crash = core.crash_at_write();
        if let Some((crash, Moment::Before)) = crash {
            core.seen.world(Rare::KilledBeforeWrite);
            self.crash(core, crash);
            return Err(Cut);
        }
        if core.record.is_kept() {
            core.note(self.node(), format_args!("saves {}", brief_writes(&writes)));
        }
        self.journal.write(writes);
        if let Some((crash, Moment::Unsynced)) = crash {
            core.seen.world(match crash {
                Crash::Kill => Rare::KilledUnsynced,
                Crash::PowerCut => Rare::PowerCutUnsynced,
            });
            self.crash(core, crash);
            return Err(Cut);
        }
        self.journal.sync();
        self.note_durable(core);
        if let Some((crash, Moment::After)) = crash {
            self.crash(core, crash);
            return Err(Cut);
        }
        Ok(())
    }

    fn perform(&mut self, core: &mut Core, effect: Effect) -> Result<(), Cut> {
        match effect {
            Effect::Poll { tag, wait } => self.poll(core, tag, wait),
            Effect::Send(unsigned) => self.send(core, unsigned),
            Effect::FetchAccount => self.fetch_account(core),
            Effect::Fetch(package) => self.fetch(core, package),
            Effect::CheckConditions { key, .. } => {
                let hindered = core.hindered().then(|| {
                    let hindrances = [
                        Waiting::Disk,
                        Waiting::PackageManager,
                        Waiting::Power,
                        Waiting::Link,
                        Waiting::RunAs,
                    ];
                    *core.dice.pick(&hindrances).unwrap_or(&Waiting::Disk)
                });
                let blocked = if self.is_full() { Some(Waiting::Disk) } else { hindered };
                self.later(core, Input::Conditions { key, blocked });
            }
            Effect::Detect { key, manifest, .. } => self.detect(core, key, manifest),
            Effect::Arm(launch) => return self.arm(core, *launch),
            Effect::Inspect(run) => self.inspect(core, run),
            Effect::Restart => self.order_restart(core),
            Effect::Verify => self.verify(core),
            Effect::Repair(fault) => self.repair(core, fault),
            Effect::Stop(run) => self.stop(core, run),
            Effect::Clean(run) => self.clean(core, run),
            Effect::Discard(run) => self.discard(core, run),
            Effect::GoOnAs(life) => return self.go_on_as(core, life),
            Effect::TakeUp { package, trial } => return self.take_up(core, package, trial),
            Effect::TrialPassed(manifest) => return self.trial_passed(core, manifest),
            Effect::ReturnTold(manifest) => return self.return_told(core, manifest),
            Effect::DropContent(_) | Effect::Release(_) | Effect::Tell(_) => {}
        }
        Ok(())
    }

    /// Tells this agent process something after a while.
    pub(super) fn later(&mut self, core: &mut Core, input: Input) {
        let delay = core.slowly();
        self.after(core, delay, input);
    }

    fn after(&mut self, core: &mut Core, delay: u64, input: Input) {
        let Some(process) = &self.process else { return };
        let (device, process) = (self.index, process.number);
        core.queue.after(delay, Event::Agent { device, process, input: Box::new(input) });
    }

    fn fetch(&mut self, core: &mut Core, package: PinnedPackage) {
        let manifest = package.manifest;
        let software =
            core.scenario.software.iter().find(|one| one.package.manifest == manifest).cloned();
        let news = match software {
            _ if core.hindered() => ContentNews::Unavailable {
                wait: if core.dice.per_mille(300) { Waiting::Disk } else { Waiting::Content },
                why: "not now".to_owned(),
            },
            Some(software) => match software.refused {
                Some(rule) => ContentNews::Refused { rule, why: "as planned".to_owned() },
                None => ContentNews::Ready(Box::new(Manifested {
                    release: software.release.map(|_| AgentRelease::default()),
                    programs: software.programs(),
                    detection: software.detection,
                    size: 1_000,
                })),
            },
            None => ContentNews::Refused {
                rule: Rule::ContentRefused,
                why: "no such package".to_owned(),
            },
        };
        let wait = core.slowly();
        if core.dice.per_mille(300) {
            let progress = ContentNews::Progress { have: 400, of: 1_000 };
            self.after(core, wait / 2, Input::Content { manifest, news: progress });
        }
        self.after(core, wait, Input::Content { manifest, news });
    }

    fn detect(&mut self, core: &mut Core, key: Key, manifest: Digest) {
        let errors = core
            .scenario
            .software
            .iter()
            .find(|one| one.package.manifest == manifest)
            .map_or(0, |one| one.detection_error_per_mille);
        let present = self.software.get(&manifest).copied().unwrap_or(false);
        let found = match present {
            _ if core.dice.per_mille(errors) => Found::Error("exit 7".to_owned()),
            true => Found::Present,
            false => Found::Absent,
        };
        self.later(core, Input::Detected { key, found });
    }

    /// Queues an event for the deadline that the agent asks for.
    fn await_deadline(&mut self, core: &mut Core) {
        let booted_at = self.machine.booted_at;
        let device = self.index;
        let Some(process) = &mut self.process else { return };
        let Some(Elapsed(elapsed)) = process.agent.next_deadline() else { return };
        // A deadline in the past is due with the next tick of the clock.
        let due = booted_at.saturating_add(elapsed).max(core.now() + 1);
        if process.tick.is_some_and(|queued| queued <= due && queued > core.now()) {
            return;
        }
        process.tick = Some(due);
        let event = Event::AgentTick { device, process: process.number, due };
        core.queue.after(due - core.now(), event);
    }

    /// Trusted time lags behind true time or keeps up with it. It is ahead only before a first contact,
    /// when it is all that the wall clock says.
    fn check_time(&self, core: &mut Core, writes: &[Write]) {
        let heard = writes.iter().any(|write| match write {
            Write::Memory(memory) => memory.last_heard.is_some(),
            _ => false,
        });
        let newest = writes.iter().filter_map(|write| match write {
            Write::Message(kept) => Some(kept.written),
            _ => None,
        });
        let truly = core.wall();
        if let Some(ahead) = newest.max().filter(|written| heard && *written > truly) {
            let found = format!("{}: it takes {truly} for {ahead}", self.name);
            core.violated("trusted time is never ahead", found);
        }
    }

    /// No place of the stream may ever be written twice with different content.
    fn check_places(&self, core: &mut Core, writes: &[Write]) {
        if is_copied(core, self.id) {
            return;
        }
        let stream = (self.id, self.incarnation);
        for write in writes {
            let Write::Message(kept) = write else { continue };
            let known = core.truth.chain(stream, kept.sequence);
            if known.is_some_and(|chain| chain != kept.chain) {
                let found = format!("{}: place {} is written again", self.name, kept.sequence);
                core.violated("idempotency", found);
            }
        }
    }

    /// Notes what has become durable, and that nothing durable has gone.
    pub(super) fn note_durable(&mut self, core: &mut Core) {
        let durable = self.journal.durable();
        let Some(memory) = &durable.memory else { return };
        if memory.incarnation == self.incarnation {
            self.memory_lost = None;
            self.salvaged.clear();
        }
        let stream = (memory.device, memory.incarnation);
        if is_copied(core, self.id) {
            let chains: Vec<_> = durable.messages.values().map(|kept| kept.chain).collect();
            core.truth.chains_of_copies.extend(chains.iter().copied());
            return self.note_past(chains);
        }
        let chains = core.truth.chains.entry(stream).or_default();
        let noted = muster_model::id::Sequence(chains.len() as u64);
        for (sequence, kept) in durable.messages.range(noted.next()..) {
            if sequence.0 != chains.len() as u64 + 1 {
                let found = format!("{}: {sequence} follows {}", self.name, chains.len());
                core.violated("contiguity", found);
                return;
            }
            chains.push(kept.chain);
        }
        if memory.head < noted {
            let found =
                format!("{}: {noted} was durable, now {} is the last", self.name, memory.head);
            core.violated("custody", found);
        }
    }
}

/// An input in one line.
fn brief(input: &Input) -> String {
    match input {
        Input::PolicyArrived { policy, .. } => {
            let offers: Vec<String> = policy
                .advertisements
                .iter()
                .map(|offer| {
                    let due: Vec<String> =
                        offer.occurrences.iter().map(|due| due.occurrence.to_string()).collect();
                    format!("{} rev {} [{}]", offer.name, offer.revision, due.join(" "))
                })
                .collect();
            format!(
                "policy {} revision {}: {}",
                policy.tag.short(),
                policy.revision,
                offers.join(", ")
            )
        }
        Input::Content { manifest, news: ContentNews::Ready(_) } => {
            format!("content {} is here", manifest.short())
        }
        Input::ReceiptArrived(receipt) => format!("receipt through {}", receipt.through),
        other => format!("{other:?}"),
    }
}

/// Writes in one line.
fn brief_writes(writes: &[Write]) -> String {
    let line = |write: &Write| match write {
        Write::Memory(memory) => format!("memory(head {})", memory.head),
        Write::Obligation(record) => {
            format!(
                "{} {} {} [{:?}]",
                record.name, record.key.occurrence, record.reported, record.stage
            )
        }
        Write::Policy(policy) => format!("policy revision {}", policy.revision),
        Write::Run(record) => format!("run {} launch {}", record.run, record.launch),
        Write::Content(record) => format!("content {}", record.package.name),
        Write::Message(kept) => {
            format!("message {} {}", kept.sequence, String::from_utf8_lossy(&kept.bytes))
        }
        other => format!("{other:?}"),
    };
    writes.iter().map(line).collect::<Vec<_>>().join("; ")
}
