//! Restarts that the agent orders: a command that may fail, a machine that goes down a while later, or
//! not at all.

use muster_agent_core::input::{Input, RestartTry};

use super::Device;
use crate::core::Core;
use crate::event::Event;
use crate::scenario::MINUTE;
use crate::sometimes::Rare;

impl Device {
    /// The agent orders a restart of the machine.
    pub(super) fn order_restart(&mut self, core: &mut Core) {
        if let Some(run) = self.supervised() {
            let found = format!("{}: a restart is ordered while run {run} goes on", self.name);
            core.violated("a restart that is asked for cuts nothing short", found);
        }
        if core.hindered() {
            let why = "not allowed".to_owned();
            return self.later(core, Input::RestartTried(RestartTry::Failed { why }));
        }
        core.seen.world(Rare::RestartOrdered);
        self.later(core, Input::RestartTried(RestartTry::Begun));
        // Something may hold the shutdown up for ever; the agent has to notice.
        if !(core.chaos && core.dice.per_mille(150)) {
            let delay = core.dice.spread(1_000, MINUTE);
            let event = Event::Restarts { device: self.index, boots: self.boots() };
            core.queue.after(delay, event);
        }
    }

    /// The machine goes down as ordered `boots` boots after the first.
    pub(crate) fn restarts(&mut self, core: &mut Core, boots: u64) {
        if self.boots() == boots {
            self.cut_power(core);
        }
    }
}
