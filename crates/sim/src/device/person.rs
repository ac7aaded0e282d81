//! The people at a device: they log on and off, and ask for what is advertised.

use muster_agent_core::input::Input;
use muster_agent_core::step::Launch;
use muster_agent_core::user::Request;
use muster_model::package::RunWhen;

use super::Device;
use crate::core::Core;
use crate::event::Event;
use crate::scenario::{HOUR, MINUTE};
use crate::sometimes::Rare;

impl Device {
    /// Somebody does something. After healing nobody does any more.
    pub(crate) fn person(&mut self, core: &mut Core) {
        if !core.chaos {
            return;
        }
        match core.dice.below(3) {
            0 => self.ask(core),
            _ => self.log_on_or_off(core),
        }
        let delay = core.dice.spread(1, 2 * core.scenario.persons_every);
        core.queue.after(delay, Event::Person { device: self.index });
    }

    fn log_on_or_off(&mut self, core: &mut Core) {
        if core.scenario.for_each_user {
            return self.one_of_several(core);
        }
        match self.users.pop() {
            Some(user) => core.note(self.node(), format_args!("{user} logs off")),
            None => {
                self.users.push("ada".to_owned());
                core.note(self.node(), format_args!("ada logs on"));
            }
        }
        self.tell_sessions(core);
    }

    /// One of several people logs on, or off.
    fn one_of_several(&mut self, core: &mut Core) {
        let who = (*core.dice.pick(&["ada", "bo", "cy"]).unwrap_or(&"ada")).to_owned();
        match self.users.iter().position(|user| *user == who) {
            Some(at) => {
                self.users.remove(at);
                core.note(self.node(), format_args!("{who} logs off"));
            }
            None => {
                core.note(self.node(), format_args!("{who} logs on"));
                self.users.push(who);
            }
        }
        self.tell_sessions(core);
    }

    /// Tells the agent process, if one runs, who is logged on.
    pub(super) fn tell_sessions(&mut self, core: &mut Core) {
        let users = self.users.clone();
        if let Some(number) = self.process.as_ref().map(|process| process.number) {
            self.tell(core, number, Input::Sessions(users));
        }
    }

    fn ask(&mut self, core: &mut Core) {
        let known: Vec<_> =
            self.journal.read().obligations.keys().map(|key| key.advertisement).collect();
        let Some(advertisement) = core.dice.pick(&known).copied() else { return };
        let clocks = self.clocks(core);
        let Some(process) = &self.process else { return };
        let number = process.number;
        let request = match core.dice.per_mille(500) {
            true => Request::Install { advertisement },
            false => {
                let trusted = process.agent.view(clocks).trusted_time;
                let until = core.dice.spread(MINUTE, 3 * HOUR);
                let until = trusted.plus(std::time::Duration::from_millis(until));
                Request::Defer { advertisement, until }
            }
        };
        self.tell(core, number, Input::Asked(request));
    }

    /// Whether a program may start with the people who are here now.
    pub(crate) fn people_fit(&self, run_when: RunWhen) -> bool {
        match run_when {
            RunWhen::Any => true,
            RunWhen::UserLoggedOn => !self.users.is_empty(),
            RunWhen::NobodyLoggedOn => self.users.is_empty(),
        }
    }

    /// Whether nobody is logged on.
    pub(crate) fn is_deserted(&self) -> bool {
        self.users.is_empty()
    }

    /// Nothing is launched for which somebody must, or must not, be logged on.
    pub(super) fn check_run_when(&self, core: &mut Core, launch: &Launch) {
        if launch.user.as_ref().is_some_and(|user| !self.users.contains(user)) {
            let found = format!("{}: {:?} is not logged on", self.name, launch.user);
            core.violated("no launch for who is not there", found);
        }
        let run_when = launch.program.run_when;
        if run_when == RunWhen::Any {
            return;
        }
        core.seen.world(Rare::LaunchedForUsers);
        if !self.people_fit(run_when) {
            let found = format!("{}: {run_when:?}", self.name);
            core.violated("no launch against runWhen", found);
        }
    }
}
