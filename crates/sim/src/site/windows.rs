//! What administrators do about maintenance windows and freezes.

use muster_model::id::CollectionId;
use muster_model::window::Window;

use super::Site;
use crate::core::{Core, Node};
use crate::hours::Hours;
use crate::sometimes::Rare;

/// Windows and freezes at once.
const WINDOWS_MAX: usize = 6;

impl Site {
    /// Somebody gives a collection a window or a freeze.
    pub(super) fn open_window(&mut self, core: &mut Core) {
        if !core.scenario.windows || self.store.windows.len() >= WINDOWS_MAX {
            return;
        }
        let collections: Vec<CollectionId> = self.store.collections.keys().copied().collect();
        let Some(collection) = core.dice.pick(&collections).copied() else { return };
        let (hours, mut document) = Hours::draw(core);
        let name = format!("window-{}", core.truth.hours.len() + 1);
        document["name"] = name.clone().into();
        let window: Window = match serde_json::from_value(document.clone()) {
            Ok(window) => window,
            Err(why) => {
                core.note(Node::Site, format_args!("cannot read {document}: {why}"));
                return core.violated("the simulator", format!("{document}: {why}"));
            }
        };
        core.seen.world(Rare::WindowGiven);
        core.truth.hours.insert(name.clone(), hours);
        self.transact(core, &format!("gives {collection} {document}"), |staged, _| {
            staged.store.windows.insert(name, (collection, window));
            staged.offered_changed(collection);
        });
    }

    /// Somebody takes one away again.
    pub(super) fn close_window(&mut self, core: &mut Core) {
        let names: Vec<String> = self.store.windows.keys().cloned().collect();
        let Some(name) = core.dice.pick(&names).cloned() else { return };
        self.take_away(core, &[name]);
    }

    /// Windows in which something would wait for ever.
    pub(super) fn close_hopeless_windows(&mut self, core: &mut Core) {
        let (hours, room) = (&core.truth.hours, core.scenario.room());
        let hopeless = |name: &&String| hours.get(*name).is_none_or(|one| !one.ends_well(room));
        let names: Vec<String> = self.store.windows.keys().filter(hopeless).cloned().collect();
        if !names.is_empty() {
            self.take_away(core, &names);
        }
    }

    fn take_away(&mut self, core: &mut Core, names: &[String]) {
        self.transact(core, &format!("takes away {}", names.join(", ")), |staged, _| {
            for name in names {
                if let Some((collection, _)) = staged.store.windows.remove(name) {
                    staged.offered_changed(collection);
                }
            }
        });
    }
}
