//! Releases of the agent on the machine's behalf: laid out, given their trial, passed.

use std::sync::Arc;
use std::time::Duration;

use muster_agent_core::input::Input;
use muster_agent_core::upgrade::ReleaseNews;
use muster_agent_core::versions::Event;
use muster_model::digest::Digest;
use muster_model::period::Period;
use muster_model::policy::PinnedPackage;
use muster_model::state::Waiting;

use super::{Driver, Setup};
use crate::chain_of;
use crate::contents::{UnpackError, remove_copy};
use crate::mailbox::News;
use crate::versions::{self, VersionsError};

/// The pause before a file that could not be replaced is replaced again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Why a release is not on trial.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("failed to unpack the release")]
    Unpack(#[from] UnpackError),
    #[error("failed to lay the release out")]
    LayOut(#[from] VersionsError),
    #[error("laying the release out broke off")]
    BrokeOff,
}

impl NotTaken {
    fn wait(&self) -> Option<Waiting> {
        match self {
            NotTaken::Unpack(UnpackError::Disk { .. }) => Some(Waiting::Disk),
            NotTaken::Unpack(UnpackError::Unavailable { .. } | UnpackError::Store(_)) => {
                Some(Waiting::Content)
            }
            NotTaken::LayOut(VersionsError::Publish(error)) if error.is_disk_full() => {
                Some(Waiting::Disk)
            }
            NotTaken::BrokeOff => Some(Waiting::Content),
            NotTaken::Unpack(_) | NotTaken::LayOut(_) => None,
        }
    }
}

impl Driver {
    /// Lays a release out and gives it a trial. Then the driver ends; until then all goes on.
    pub(super) fn take_up(&mut self, package: PinnedPackage, trial: Period) {
        let (setup, mailbox) = (self.setup.clone(), self.mailbox.clone());
        self.tasks.spawn(async move {
            let manifest = package.manifest;
            match setup.take_up(package, trial).await {
                Ok(()) => mailbox.put_news(News::TakenUp).await,
                Err(error) => {
                    let (wait, why) = (error.wait(), chain_of(&error));
                    let news = ReleaseNews::NotTaken { wait, why };
                    mailbox.put(Input::Release { manifest, news }).await;
                }
            }
        });
    }

    /// The release that runs stands from now on. Tried again until that is durable: nothing else can
    /// end its trial well.
    pub(super) fn trial_passed(&mut self, manifest: Digest) {
        let setup = self.setup.clone();
        self.answer(async move {
            while let Err(why) = setup.change_version(Event::Passed { manifest }).await {
                tracing::error!(%why, "the trial is not passed yet");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Input::Release { manifest, news: ReleaseNews::Passed }
        });
    }

    /// That the version before is back has been said.
    pub(super) fn return_told(&mut self, manifest: Digest) {
        let setup = self.setup.clone();
        self.tasks.spawn(async move {
            if let Err(why) = setup.change_version(Event::Told { manifest }).await {
                tracing::warn!(%why, "that a release returned will be told again");
            }
        });
    }
}

impl Setup {
    async fn take_up(
        self: &Arc<Self>,
        package: PinnedPackage,
        trial: Period,
    ) -> Result<(), NotTaken> {
        versions::prepare(&self.data)?;
        self.unpack(&package, versions::unpacked(&self.data)).await?;
        let setup = self.clone();
        let laid_out = tokio::task::spawn_blocking(move || {
            let release = versions::lay_out(&setup.data, package.manifest, package.version)?;
            if let Err(error) = remove_copy(&versions::unpacked(&setup.data)) {
                tracing::warn!(%error, "an unpacked release stays until the next start");
            }
            versions::change(&setup.data, Event::Begin { release, trial })
        });
        laid_out.await.map_err(|_| NotTaken::BrokeOff)??;
        Ok(())
    }

    async fn change_version(self: &Arc<Self>, event: Event) -> Result<(), String> {
        let setup = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            versions::change(&setup.data, event).map(drop).map_err(|error| chain_of(&error))
        });
        changed.await.unwrap_or_else(|_| Err("the change broke off".to_owned()))
    }
}
