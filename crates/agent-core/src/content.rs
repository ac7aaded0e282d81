//! Packages' content on this device: what is asked for, what is here, what nothing needs any more.
//!
//! Content is fetched once for all obligations that need it, ahead of their time, retried by back-off
//! while it is not to be had, and dropped when the last obligation that needs it has ended.

use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use muster_model::policy::PinnedPackage;
use muster_model::settings::Setting;
use muster_model::state::{Rule, State, Waiting, Word};
use std::collections::{BTreeMap, BTreeSet};

use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::draft::Draft;
use crate::input::{ContentNews, Manifested};
use crate::report::Told;
use crate::saved::{ContentRecord, ContentStanding, Key, ObligationRecord, Stage};
use crate::sometimes::Branch;
use crate::step::{Effect, Write};

/// Content by the digest of its manifest.
pub(crate) type Contents = BTreeMap<Digest, Content>;

/// A package's content: its row, and what a restart may forget.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) record: ContentRecord,
    /// The manifest, known before all content is here.
    pub(crate) manifested: Option<Manifested>,
    /// What fetching waits for.
    pub(crate) wait: Option<Waiting>,
    /// Since when a fetch has been under way, or its last progress.
    asked: Option<Elapsed>,
    /// When progress was last reported.
    told: Option<Elapsed>,
    retry: Backoff,
}

impl Content {
    pub(crate) fn new(record: ContentRecord) -> Self {
        let (manifested, wait, asked, told) = (None, None, None, None);
        Self { record, manifested, wait, asked, told, retry: Backoff::default() }
    }

    /// When fetching is tried again.
    pub(crate) fn deadline(&self) -> Option<Elapsed> {
        let idle = self.record.standing == ContentStanding::Fetching && self.asked.is_none();
        idle.then(|| self.retry.due())
    }

    /// The link came up: try again now.
    pub(crate) fn hasten(&mut self) {
        self.retry.hasten();
    }
}

impl Manifested {
    /// The program of that name.
    pub(crate) fn program(&self, name: &str) -> Option<&muster_model::package::Program> {
        self.programs.iter().find(|program| program.name.as_str() == name)
    }
}

/// Whether an obligation still needs its package's content.
pub(crate) fn needs_content(record: &ObligationRecord) -> bool {
    let rests = matches!(record.reported.word(), Word::Available | Word::NotApplicable);
    record.stage != Stage::Over && !rests
}

impl Agent {
    /// Whether content is being fetched.
    pub(crate) fn is_on_its_way(&self, manifest: &Digest) -> bool {
        let content = self.contents.get(manifest);
        content.is_some_and(|content| content.record.standing == ContentStanding::Fetching)
    }

    /// Makes sure that `package` is known as wanted; [`Agent::pump_contents`] asks for it.
    pub(crate) fn want_content(&mut self, draft: &mut Draft, package: &PinnedPackage) {
        if self.contents.contains_key(&package.manifest) {
            return;
        }
        let record =
            ContentRecord { package: package.clone(), standing: ContentStanding::Fetching };
        draft.write(Write::Content(Box::new(record.clone())));
        self.contents.insert(package.manifest, Content::new(record));
    }

    /// Takes over the signatures of `package` where the bytes are the same: a publisher's new key signs
    /// again what its old key signed, and what was refused for want of a signature is asked for again.
    pub(crate) fn content_signed_anew(&mut self, draft: &mut Draft, package: &PinnedPackage) {
        let Some(content) = self.contents.get_mut(&package.manifest) else { return };
        if content.record.package.signatures == package.signatures {
            return;
        }
        content.record.package.signatures.clone_from(&package.signatures);
        if let ContentStanding::Refused { rule: Rule::PublisherRefused, .. } =
            &content.record.standing
        {
            content.record.standing = ContentStanding::Fetching;
        }
        draft.write(Write::Content(Box::new(content.record.clone())));
    }

    /// Asks for what is needed and due, and drops what nothing needs.
    pub(crate) fn pump_contents(&mut self, draft: &mut Draft) {
        let needed: BTreeSet<Digest> = self
            .obligations
            .values()
            .filter(|record| needs_content(record))
            .flat_map(|record| record.manifests())
            .collect();
        let unneeded: Vec<Digest> =
            self.contents.keys().filter(|manifest| !needed.contains(manifest)).copied().collect();
        for manifest in unneeded {
            self.contents.remove(&manifest);
            draft.write(Write::ContentForgotten(manifest));
            draft.effect(Effect::DropContent(manifest));
        }
        for content in self.contents.values_mut() {
            if content.deadline().is_some_and(|due| due <= draft.now.elapsed) {
                content.asked = Some(draft.now.elapsed);
                draft.effect(Effect::Fetch(content.record.package.clone()));
            }
        }
    }

    /// Whether content is here, as far as the machine knows; `None` if nothing needs it any more, or it
    /// will never be used.
    pub(crate) fn is_here(&self, manifest: &Digest) -> Option<bool> {
        match &self.contents.get(manifest)?.record.standing {
            ContentStanding::Ready { .. } => Some(true),
            ContentStanding::Fetching => Some(false),
            ContentStanding::Refused { .. } => None,
        }
    }

    /// Content that was here turned out to be damaged: what is missing of it is fetched again.
    pub(crate) fn fetch_again(&mut self, draft: &mut Draft, manifest: Digest) {
        let Some(content) = self.contents.get_mut(&manifest) else { return };
        if let ContentStanding::Ready { manifested } = &content.record.standing {
            content.manifested = Some(manifested.clone());
        }
        content.asked = None;
        content.record.standing = ContentStanding::Fetching;
        draft.write(Write::Content(Box::new(content.record.clone())));
    }

    /// Takes news of content. News of content that nothing needs any more is ignored.
    pub(crate) fn content_news(&mut self, draft: &mut Draft, manifest: Digest, news: ContentNews) {
        if !self.contents.contains_key(&manifest) {
            return self.ignore("news of content that nothing needs");
        }
        match news {
            ContentNews::Progress { have, of } => self.content_progress(draft, manifest, have, of),
            ContentNews::Manifest(manifested) => {
                if let Some(content) = self.contents.get_mut(&manifest) {
                    content.manifested = Some(*manifested);
                }
            }
            ContentNews::Ready(manifested) => {
                let manifested = *manifested;
                self.content_stands(draft, manifest, ContentStanding::Ready { manifested });
            }
            ContentNews::Refused { rule, why } => {
                self.fired.note(Branch::ContentRefused);
                self.content_stands(draft, manifest, ContentStanding::Refused { rule, why });
            }
            ContentNews::Unavailable { wait, why } => {
                self.content_unavailable(draft, manifest, wait, why);
            }
        }
    }

    /// The content on disk is not what the manifest says: nothing of it runs any more.
    pub(crate) fn content_altered(&mut self, draft: &mut Draft, manifest: Digest, why: String) {
        self.fired.note(Branch::ContentRefused);
        let standing = ContentStanding::Refused { rule: Rule::ContentRefused, why };
        self.content_stands(draft, manifest, standing);
    }

    fn content_stands(&mut self, draft: &mut Draft, manifest: Digest, standing: ContentStanding) {
        let Some(content) = self.contents.get_mut(&manifest) else { return };
        content.asked = None;
        content.wait = None;
        content.record.standing = standing;
        draft.write(Write::Content(Box::new(content.record.clone())));
    }

    fn content_unavailable(
        &mut self,
        draft: &mut Draft,
        manifest: Digest,
        wait: Waiting,
        why: String,
    ) {
        self.fired.note(Branch::ContentUnavailable);
        let most = self.setting(Setting::ContentRetryMost);
        let now = draft.now.elapsed;
        let Some(content) = self.contents.get_mut(&manifest) else { return };
        if content.record.standing != ContentStanding::Fetching {
            return self.ignore("content that is here was said to be unavailable");
        }
        let began = content.asked.take().unwrap_or(now);
        content.wait = Some(wait);
        content.retry.failed(began, now, most, &mut self.jitter);
        self.contact.trouble = Some(format!("content {}: {why}", manifest.short()));
    }

    /// Progress is told at most every [`Setting::ProgressEvery`]: it is worth a message, not a flood.
    fn content_progress(&mut self, draft: &mut Draft, manifest: Digest, have: u64, of: u64) {
        let every = self.setting(Setting::ProgressEvery);
        let now = draft.now.elapsed;
        let Some(content) = self.contents.get_mut(&manifest) else { return };
        if content.record.standing != ContentStanding::Fetching {
            return;
        }
        // Bytes arrive: the next failure starts a new outage.
        content.retry.succeeded(now);
        content.asked = Some(now);
        let resumed = content.wait.take().is_some();
        let fresh = content.told.is_none_or(|told| now.since(told) >= every);
        if !fresh && !resumed {
            return;
        }
        content.told = Some(now);
        let fetching: Vec<Key> = self
            .obligations
            .values()
            .filter(|record| record.stage == Stage::Fetching)
            .filter(|record| record.manifests().any(|one| one == manifest))
            .map(|record| record.key.clone())
            .collect();
        for key in fetching {
            self.report(draft, &key, State::Downloading { have, of }, Told::default());
        }
    }
}

#[cfg(test)]
mod tests;
