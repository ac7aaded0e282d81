//! Content and detection on the machine's behalf.

use std::path::PathBuf;
use std::sync::Arc;

use muster_agent_core::input::{ContentNews, Found, Input};
use muster_agent_core::saved::Key;
use muster_model::digest::Digest;
use muster_model::package::Detection;
use muster_model::policy::PinnedPackage;
use muster_model::state::Rule;

use super::{Driver, Setup};
use crate::contents::{UnpackError, remove_copy};
use crate::env::Purpose;
use crate::mailbox::Mailbox;

/// The folder of private copies for detections, in the data folder.
pub(super) const DETECT_DIR: &str = "detect";

impl Driver {
    /// Fetches a package. One that is being fetched already goes on.
    pub(super) fn fetch(&mut self, package: PinnedPackage) {
        let manifest = package.manifest;
        self.setup.packages.insert(package.clone());
        if self.fetches.get(&manifest).is_some_and(|fetch| !fetch.is_finished()) {
            return;
        }
        let (setup, mailbox) = (self.setup.clone(), self.mailbox.clone());
        let fetch = self.tasks.spawn(async move {
            let news = setup.fetch(&package, &mailbox).await;
            mailbox.put(Input::Content { manifest, news }).await;
        });
        self.fetches.insert(manifest, fetch);
    }

    pub(super) fn drop_content(&mut self, manifest: Digest) {
        self.setup.packages.remove(manifest);
        if let Some(fetch) = self.fetches.remove(&manifest) {
            fetch.abort();
        }
        let setup = self.setup.clone();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = setup.contents.drop_package(manifest) {
                tracing::warn!(%manifest, why = %crate::chain_of(&error), "content stays");
            }
        });
    }

    /// Runs a detection in a copy of its own, which goes with it.
    pub(super) fn detect(&mut self, key: Key, manifest: Digest, detection: Detection) {
        let name = self.advertisement_name(&key);
        let Some(package) = self.setup.packages.get(manifest) else {
            let found = Found::Error("its package is not kept".to_owned());
            return self.answer(async move { Input::Detected { key, found } });
        };
        let (setup, folder) = (self.setup.clone(), self.detect_folder(&key));
        self.answer(async move {
            let found = setup.detect(&package, &detection, &key, &name, folder).await;
            Input::Detected { key, found }
        });
    }

    /// The copy for a detection is gone already unless a crash left it.
    pub(super) fn release(&mut self, key: &Key) {
        let folder = self.detect_folder(key);
        self.tasks.spawn_blocking(move || {
            if let Err(error) = remove_copy(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a copy stays");
            }
        });
    }

    fn detect_folder(&self, key: &Key) -> PathBuf {
        let (advertisement, occurrence) = (key.advertisement, key.occurrence.to_string());
        let parts = [advertisement.0.as_bytes().as_slice(), occurrence.as_bytes()];
        let name = Digest::of_parts("muster/detect/v1", &parts).short();
        self.setup.data.join(DETECT_DIR).join(name)
    }

    fn advertisement_name(&self, key: &Key) -> String {
        let view = self.agent.view(self.setup.clock.now());
        let own = view
            .obligations
            .into_iter()
            .find(|one| one.advertisement == key.advertisement && one.occurrence == key.occurrence);
        own.map(|one| one.name).unwrap_or_default()
    }
}

impl Setup {
    /// Fetches what is missing of a package, telling the machine of progress.
    pub(super) async fn fetch(&self, package: &PinnedPackage, mailbox: &Mailbox) -> ContentNews {
        let manifest = package.manifest;
        let tell = |news| mailbox.offer(Input::Content { manifest, news });
        let mut news =
            self.contents.fetch(package, &self.trust.trust(), &self.transport, tell).await;
        if let ContentNews::Refused { rule: Rule::PublisherRefused, .. } = &news
            && let Some(newer) = self.packages.newer(package, self.trust.number()).await
        {
            let trust = self.trust.trust();
            news = self.contents.fetch(&newer, &trust, &self.transport, tell).await;
        }
        match (news, self.trust.refused()) {
            // Whoever signed it may stand in a document that was not believed.
            (ContentNews::Refused { rule: Rule::PublisherRefused, why }, Some(refused)) => {
                let why = format!("{why} ({refused})");
                ContentNews::Refused { rule: Rule::PublisherRefused, why }
            }
            (news, _) => news,
        }
    }

    /// Unpacks a package into `target`, checking every byte. What has gone missing here since it was
    /// fetched is fetched again, once; a publisher is refused only by what belongs together.
    pub(super) async fn unpack(
        self: &Arc<Self>,
        package: &PinnedPackage,
        target: PathBuf,
    ) -> Result<(), UnpackError> {
        let first = self.try_unpack(package, target.clone()).await;
        match &first {
            Err(UnpackError::Refused { rule: Rule::PublisherRefused, .. }) => {
                match self.packages.newer(package, self.trust.number()).await {
                    Some(newer) => self.try_unpack(&newer, target).await,
                    None => first,
                }
            }
            Err(UnpackError::Unavailable { .. }) => {
                let source = &self.transport;
                self.contents.fetch(package, &self.trust.trust(), source, |_| ()).await;
                self.try_unpack(package, target).await
            }
            _ => first,
        }
    }

    async fn try_unpack(
        self: &Arc<Self>,
        package: &PinnedPackage,
        target: PathBuf,
    ) -> Result<(), UnpackError> {
        let (setup, package, path) = (self.clone(), package.clone(), target.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let trust = setup.trust.trust();
            setup.contents.unpack(package.manifest, &package.signatures, &trust, &target)
        });
        match unpacked.await {
            Ok(unpacked) => unpacked.map(|_| ()),
            Err(broken) => Err(UnpackError::Io { path, source: std::io::Error::other(broken) }),
        }
    }

    async fn detect(
        self: &Arc<Self>,
        package: &PinnedPackage,
        detection: &Detection,
        key: &Key,
        advertisement_name: &str,
        folder: PathBuf,
    ) -> Found {
        let (content, tmp) = (folder.join("content"), folder.join("tmp"));
        if let Err(error) = muster_host::publish::create_private_dir(&folder) {
            return Found::Error(crate::chain_of(&error));
        }
        match self.unpack(package, content.clone()).await {
            Ok(()) => {}
            Err(UnpackError::Refused { why, .. }) => return Found::ContentRefused(why),
            Err(error) => return Found::Error(crate::chain_of(&error)),
        }
        if let Err(error) = muster_host::publish::create_private_dir(&tmp) {
            return Found::Error(crate::chain_of(&error));
        }
        let purpose = Purpose {
            advertisement: key.advertisement,
            advertisement_name,
            content: &content,
            tmp: &tmp,
            run: None,
        };
        let variables = self.surroundings.variables(&purpose);
        let found = crate::detect::detect(&content, detection, variables).await;
        let removed = tokio::task::spawn_blocking(move || remove_copy(&folder)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!("the copy of a detection stays until the next start");
        }
        found
    }
}
