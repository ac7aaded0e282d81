//! Components: where each part of the agent stands, told whenever that changes.
//!
//! One pure function of the machine's state; the strongest reason is named. The site switches software
//! distribution by a setting, a person holds it still on the device, and neither ends a run.

use muster_model::component::{
    Component, ComponentState, INVENTORY, InstallPending, NotAvailable, RepairPending,
    SOFTWARE_DISTRIBUTION, UpgradeWaiting,
};
use muster_model::message::Body;
use muster_model::settings::Setting;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::maintenance::RepairStage;
use crate::saved::{ObligationRecord, Stage};

impl Agent {
    /// Says where the components stand if that changed. Not before the first policy: until then the
    /// site has offered nothing that could wait for one.
    pub(crate) fn pump_components(&mut self, draft: &mut Draft) {
        if !self.maintaining.told_paused || self.policy.is_none() {
            return;
        }
        let components = self.components();
        if components != self.memory.maintenance.components {
            self.memory.maintenance.components.clone_from(&components);
            self.say(draft, Body::Components { components });
        }
    }

    /// Where every component stands.
    pub(crate) fn components(&self) -> Vec<Component> {
        let inventory = ComponentState::NotAvailable { reason: NotAvailable::NotInThisVersion };
        [(SOFTWARE_DISTRIBUTION, self.software_distribution()), (INVENTORY, inventory)]
            .map(|(name, state)| Component { name: name.to_owned(), state })
            .to_vec()
    }

    fn software_distribution(&self) -> ComponentState {
        if !self.is_on(Setting::SoftwareDistribution) {
            return ComponentState::NotAvailable { reason: NotAvailable::SwitchedOff };
        }
        if self.paused {
            return ComponentState::Paused;
        }
        if self.memory.awaits_account {
            return ComponentState::InstallPending { reason: InstallPending::Account };
        }
        if self.policy.is_none() {
            return ComponentState::InstallPending { reason: InstallPending::Policy };
        }
        if let Some(reason) = self.repair_pending() {
            return ComponentState::RepairPending { reason };
        }
        if let Some(reason) = self.upgrade_pending() {
            return ComponentState::UpgradeWaiting { reason };
        }
        match (self.maintaining.upgrade_waits, self.turn_free()) {
            (false, _) => ComponentState::Installed,
            (true, true) => ComponentState::UpgradeWaiting { reason: UpgradeWaiting::Restart },
            (true, false) => ComponentState::UpgradeWaiting { reason: UpgradeWaiting::InUse },
        }
    }

    /// Where a release stands that is to be taken up.
    fn upgrade_pending(&self) -> Option<UpgradeWaiting> {
        let any = |is: fn(&ObligationRecord) -> bool| self.obligations.values().any(is);
        if any(|record| record.stage == Stage::Upgrading) {
            return Some(UpgradeWaiting::Trial);
        }
        any(ObligationRecord::waits_to_upgrade).then_some(UpgradeWaiting::InUse)
    }

    /// What waits longest for others is named first.
    fn repair_pending(&self) -> Option<RepairPending> {
        let repairs = &self.memory.maintenance.repairs;
        let any = |is: fn(&RepairStage) -> bool| repairs.iter().any(|record| is(&record.stage));
        if any(|stage| matches!(stage, RepairStage::InUse { .. })) {
            Some(RepairPending::InUse)
        } else if any(|stage| matches!(stage, RepairStage::Failed)) {
            Some(RepairPending::Retry)
        } else {
            (!repairs.is_empty()).then_some(RepairPending::UnderWay)
        }
    }
}

#[cfg(test)]
mod tests;
