//! Verification and repair on the machine's behalf, beside everything else that goes on.

use muster_agent_core::input::Input;
use muster_agent_core::maintenance::Fault;

use super::Driver;
use crate::{chain_of, repair, verify};

impl Driver {
    /// Looks at the agent's own files, in a thread of its own: content is read byte by byte.
    pub(super) fn verify(&mut self) {
        let setup = self.setup.clone();
        self.answer(async move {
            let looked = tokio::task::spawn_blocking(move || verify::findings(&setup.data)).await;
            Input::Verified(looked.unwrap_or_else(|_| verify::broken_off("the look broke off")))
        });
    }

    pub(super) fn repair(&mut self, fault: Fault) {
        let setup = self.setup.clone();
        self.answer(async move {
            let wanted = fault.clone();
            let mend = move || repair::mend(&setup.data, &wanted).map_err(|error| chain_of(&error));
            let mended = tokio::task::spawn_blocking(mend).await;
            let failed = mended.unwrap_or_else(|_| Err("the repair broke off".to_owned())).err();
            Input::Repaired { fault, failed }
        });
    }
}
