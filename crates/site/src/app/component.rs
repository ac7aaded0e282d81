//! Parts of a site that a person holds still, to look at what waits or to do work beside it. Pausing
//! loses nothing: what is not done stays with who asked for it, or stays due.
//!
//! Each process of a site has its own, in its folder, so a paused one stays paused through a restart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use muster_host::components::{ComponentError, paused, set_paused};
use muster_model::api::{ComponentState, Page};

use super::change::{About, Change, Code};
use super::error::{Outcome, Refusal, Tried};
use super::{App, Who};

/// A part of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// Takes status messages of devices.
    StatusMessages,
    /// Holds rules against devices.
    CollectionEvaluator,
    /// Decides for obligations what nobody on a device will.
    Settlement,
}

impl Component {
    /// Every component.
    const ALL: [Component; 3] =
        [Component::StatusMessages, Component::CollectionEvaluator, Component::Settlement];

    fn name(self) -> &'static str {
        match self {
            Component::StatusMessages => "status-messages",
            Component::CollectionEvaluator => "collection-evaluator",
            Component::Settlement => "settlement",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Component::StatusMessages => {
                "takes status messages; while it is paused devices keep theirs and try again"
            }
            Component::CollectionEvaluator => {
                "holds rules against devices whose facts changed; paused: members stay as they are"
            }
            Component::Settlement => {
                "decides what expired, left or was deleted; paused: states stay as they are"
            }
        }
    }
}

/// The components of the site in `data`, and whether they are held still.
pub fn component_states(data: &Path) -> Result<Vec<ComponentState>, ComponentError> {
    Ok(states(&paused(data)?))
}

/// Pauses or resumes a component of the site in `data`, durably. A running process notices within
/// seconds; asked through its API it also says who did it.
pub fn set_component(data: &Path, name: &str, pause: bool) -> Result<(), ComponentError> {
    set_paused(data, &Component::ALL.map(Component::name), name, pause)
}

fn states(paused: &BTreeSet<String>) -> Vec<ComponentState> {
    let state = |one: Component| ComponentState {
        reason: None,
        name: one.name().to_owned(),
        state: if paused.contains(one.name()) { "paused" } else { "running" }.to_owned(),
        description: one.description().to_owned(),
    };
    Component::ALL.map(state).into()
}

/// Which components of this process are paused; a copy of the file in its folder.
pub(crate) struct Components {
    data: PathBuf,
    paused: Mutex<BTreeSet<String>>,
}

impl Components {
    /// The components of the site in `data`.
    pub(crate) fn open(data: &Path) -> Result<Self, ComponentError> {
        Ok(Self { data: data.to_path_buf(), paused: Mutex::new(paused(data)?) })
    }

    /// Whether nothing of it is done now.
    pub(crate) fn is_paused(&self, component: Component) -> bool {
        self.held().contains(component.name())
    }

    /// Reads the file again; answers whether it said something new.
    pub(crate) fn follow(&self) -> Result<bool, ComponentError> {
        let newest = paused(&self.data)?;
        let mut held = self.held();
        let changed = *held != newest;
        *held = newest;
        Ok(changed)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Every component of this process.
    pub(crate) fn component_list(&self) -> Page<ComponentState> {
        Page { items: states(&self.components.held()), next: None }
    }

    /// Pauses or resumes a component, durably. Doing it again does nothing.
    pub(crate) async fn component_set(&self, who: &Who, name: &str, pause: bool) -> Outcome<()> {
        let found = Component::ALL.into_iter().find(|one| one.name() == name);
        let component = found.ok_or_else(|| Refusal::not_found("component", name))?;
        if self.components.is_paused(component) == pause {
            return Ok(());
        }
        let mut change = Change::begin(self, who).await?;
        let (code, done) = match pause {
            true => (Code::ComponentPaused, "paused"),
            false => (Code::ComponentResumed, "resumed"),
        };
        change.say(code, About::default(), format!("component {name} {done}"));
        change.commit().await?;
        set_component(&self.components.data, name, pause).tried("save what is paused")?;
        self.components_follow()
    }

    /// Notices what was paused or resumed in the folder, and lets what was resumed go on at once.
    pub(crate) fn components_follow(&self) -> Outcome<()> {
        if self.components.follow().tried("read what is paused")? {
            self.pokes.evaluate.notify_one();
            self.pokes.settle.notify_one();
        }
        Ok(())
    }
}
