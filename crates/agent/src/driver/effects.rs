//! What the machine asks for, and who does it.

use muster_agent_core::input::Input;
use muster_agent_core::saved::Key;
use muster_agent_core::step::Effect;
use muster_host::quota::folder_bytes;
use muster_model::package::Program;
use muster_model::state::Waiting;

use super::{Driver, Ended, Setup};
use crate::desktop;

impl Driver {
    /// Carries out effects in order. Each that is answered is answered by letter, in bounded time.
    pub(super) fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let transport = self.setup.transport.clone();
        match effect {
            Effect::Poll { tag, wait } => {
                let mailbox = self.mailbox.clone();
                self.tasks.spawn(async move {
                    match transport.poll(tag, wait).await {
                        Ok(input) => mailbox.put(input).await,
                        Err(error) => mailbox.fatal(&error).await,
                    }
                });
            }
            Effect::Send(unsigned) => {
                self.answer(async move { transport.deliver(unsigned).await });
            }
            Effect::FetchAccount => self.answer(async move { transport.account().await }),
            Effect::Fetch(package) => self.fetch(package),
            Effect::DropContent(manifest) => self.drop_content(manifest),
            Effect::CheckConditions { key, program, size } => self.check(key, program, size),
            Effect::Detect { key, manifest, detection } => self.detect(key, manifest, *detection),
            Effect::Arm(launch) => self.prepare(launch),
            Effect::Inspect(run) => self.inspect(run),
            Effect::Tell(telling) => {
                let (setup, zone) = (self.setup.clone(), self.zone.clone());
                // Nothing waits for it: a desktop that hangs keeps a thread for some seconds.
                tokio::task::spawn_blocking(move || {
                    desktop::tell(&setup.sessions, &telling, &zone)
                });
            }
            // A release that is to be started finds out by itself.
            Effect::GoOnAs(life) => {
                self.follows.get_or_insert(Ended::PutBack(life));
            }
            Effect::Restart => self.restart_machine(),
            Effect::TakeUp { package, trial } => self.take_up(package, trial),
            Effect::TrialPassed(manifest) => self.trial_passed(manifest),
            Effect::ReturnTold(manifest) => self.return_told(manifest),
            Effect::Verify => self.verify(),
            Effect::Repair(fault) => self.repair(fault),
            Effect::Stop(run) => self.stop(run),
            Effect::Clean(run) => self.clean(run),
            Effect::Discard(run) => self.discard(run),
            Effect::Release(key) => self.release(&key),
        }
    }

    /// Runs a question in a task; its answer goes to the machine.
    pub(super) fn answer(&mut self, question: impl Future<Output = Input> + Send + 'static) {
        let mailbox = self.mailbox.clone();
        self.tasks.spawn(async move { mailbox.put(question.await).await });
    }

    /// The journal's reserve is looked at here, because nobody else may touch it.
    fn check(&mut self, key: Key, program: Box<Program>, size: u64) {
        if !self.journal.has_reserve() {
            let blocked = Some(Waiting::Disk);
            return self.answer(async move { Input::Conditions { key, blocked } });
        }
        let setup = self.setup.clone();
        self.answer(async move {
            let look = move || {
                setup.measure();
                setup.conditions.look(&program, size)
            };
            let looked = tokio::task::spawn_blocking(look).await;
            // A look that broke off saw nothing that stands in the way.
            Input::Conditions { key, blocked: looked.ok().flatten() }
        });
    }
}

impl Setup {
    /// Brings the quota up to what the folder takes: journals, copies and programs grow by themselves.
    fn measure(&self) {
        if let Some(quota) = &self.quota {
            match folder_bytes(&self.data) {
                Ok(used) => quota.measured(used),
                Err(error) => tracing::warn!(why = %crate::chain_of(&error), "quota not measured"),
            }
        }
    }
}
