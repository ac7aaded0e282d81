//! A device that looks at itself, finds damage now and then, and mends it or fails to.

use muster_agent_core::input::Input;
use muster_agent_core::maintenance::{Fault, Findings};
use muster_model::verification::Check;

use super::Device;
use super::run::Lock;
use crate::core::Core;
use crate::plant::Plant;

impl Device {
    /// The look at the agent's own files. While the world is unkind it finds something damaged, be it
    /// what a run uses.
    pub(super) fn verify(&mut self, core: &mut Core) {
        let mut faults = Vec::new();
        if core.hindered() {
            let software = core.scenario.software.len() as u64;
            let which = core.dice.below(software.max(1)) as usize;
            let damaged = core.scenario.software.get(which).map(|one| one.package.manifest);
            faults.extend(damaged.map(|manifest| Fault::Content { manifest }));
        }
        if core.hindered() {
            faults.push(Fault::FolderMissing { folder: "runs".to_owned() });
        }
        let check = Check {
            name: "world".to_owned(),
            ok: faults.is_empty(),
            detail: format!("{} faults", faults.len()),
            remedy: String::new(),
        };
        self.later(core, Input::Verified(Findings { checks: vec![check], faults }));
        if core.is_planted(Plant::VerifyKillsRun) {
            self.plant_kill(core);
        }
    }

    /// The repair of one of its files.
    pub(super) fn repair(&mut self, core: &mut Core, fault: Fault) {
        let failed = core.hindered().then(|| "not now".to_owned());
        self.later(core, Input::Repaired { fault, failed });
    }

    /// The planted bug: it stops the part of the agent that follows programs, and with it what runs,
    /// and puts things in order behind it. Nobody is told.
    fn plant_kill(&mut self, core: &mut Core) {
        let running = self.supervisors.iter().find(|(_, one)| one.is_running());
        let Some((supervisor, run)) = running.map(|(id, one)| (*id, one.run())) else { return };
        core.note(self.node(), format_args!("verify ends run {run} (planted)"));
        self.supervisors.remove(&supervisor);
        if let Some(folder) = self.folders.get_mut(&run) {
            folder.set_lock(Lock::Free);
        }
        if let Some(process) = &mut self.process {
            process.followed.remove(&run);
        }
    }
}
