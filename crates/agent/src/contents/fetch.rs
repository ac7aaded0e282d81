//! Fetching a package: its manifest first, believed before anything else is asked for; then what is
//! missing, several objects at once, each checked on arrival.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use muster_agent_core::input::{ContentNews, Manifested};
use muster_content::manifest::{MANIFEST_BYTES_MAX, Manifest};
use muster_content::plan::{FetchPlan, FetchRefused, Progress, Standing};
use muster_content::trust::{Trust, VerifiedManifest};
use muster_host::quota::disk_free;
use muster_model::digest::Digest;
use muster_model::policy::PinnedPackage;
use muster_model::state::{Rule, Waiting};
use tokio::time::Instant;

use super::store::StoreError;
use super::{Contents, FetchError, Inner, NotBelieved, ObjectSource, believe, manifested};
use crate::chain_of;
use crate::conditions::DISK_RESERVE_BYTES;

/// Failures one after the other, without an object in between, that end a round. With a link that is
/// down everything under way fails at once; asking for each of thousands of objects would tell no more.
pub(super) const FAILURES_IN_A_ROW_MAX: u32 = 8;
/// Progress is told when this much time has passed, or a hundredth has come since the last time.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Why a fetch ended without the package.
enum Halt {
    Refused { rule: Rule, why: String },
    Unavailable { wait: Waiting, why: String },
}

impl Contents {
    /// Fetches what is missing of `package` from `source`, and answers how that ended: `Ready`,
    /// `Refused` or `Unavailable`. On the way `news` is told the manifest and the progress.
    ///
    /// What is here already with the right bytes is not fetched again, what is damaged is replaced.
    /// When it answers `Ready`, everything is durable. May be dropped at any moment, and called again
    /// then; waiting before another try is the caller's. One fetch of a package at a time.
    pub async fn fetch(
        &self,
        package: &PinnedPackage,
        trust: &Trust,
        source: &dyn ObjectSource,
        news: impl FnMut(ContentNews) + Send,
    ) -> ContentNews {
        match self.fetch_all(package, trust, source, news).await {
            Ok(manifested) => ContentNews::Ready(Box::new(manifested)),
            Err(Halt::Refused { rule, why }) => ContentNews::Refused { rule, why },
            Err(Halt::Unavailable { wait, why }) => ContentNews::Unavailable { wait, why },
        }
    }

    async fn fetch_all(
        &self,
        package: &PinnedPackage,
        trust: &Trust,
        source: &dyn ObjectSource,
        mut news: impl FnMut(ContentNews) + Send,
    ) -> Result<Manifested, Halt> {
        let verified = self.fetch_manifest(package, trust, source).await?;
        let manifested = manifested(verified.manifest());
        news(ContentNews::Manifest(Box::new(manifested.clone())));
        let plan = self
            .blocking(move |inner| {
                let plan = inner.plan(verified.manifest());
                inner.check_room(plan.progress())?;
                Ok(plan)
            })
            .await?;
        self.fetch_objects(plan, source, &mut news).await?;
        self.blocking(|inner| Ok(inner.objects.sync()?)).await?;
        Ok(manifested)
    }

    /// The believed manifest, kept on disk as wanted.
    async fn fetch_manifest(
        &self,
        package: &PinnedPackage,
        trust: &Trust,
        source: &dyn ObjectSource,
    ) -> Result<VerifiedManifest, Halt> {
        let need = package.manifest;
        let (trust, signatures) = (trust.clone(), package.signatures.clone());
        if let Some(payload) = self.blocking(move |inner| Ok(inner.manifest_bytes(need)?)).await? {
            return self.blocking(move |_| Ok(believe(&trust, need, payload, &signatures)?)).await;
        }
        let payload = manifest_from(source, need).await?;
        self.blocking(move |inner| {
            let verified = believe(&trust, need, payload.clone(), &signatures)?;
            inner.want(need, &payload)?;
            Ok(verified)
        })
        .await
    }

    async fn fetch_objects(
        &self,
        mut plan: FetchPlan,
        source: &dyn ObjectSource,
        news: &mut (impl FnMut(ContentNews) + Send),
    ) -> Result<(), Halt> {
        let mut told = Told::tell(plan.progress(), news);
        let mut wire = Wire(Vec::new());
        let (mut in_a_row, mut last) = (0, String::new());
        while in_a_row < FAILURES_IN_A_ROW_MAX {
            while let Some(request) = plan.next() {
                wire.0.push((request.object, source.get(request.object, request.stored as usize)));
            }
            let Some((object, answer)) = wire.next().await else { break };
            match take(&mut plan, object, answer) {
                Ok(bytes) => {
                    self.blocking(move |inner| Ok(inner.objects.put(object, &bytes)?)).await?;
                    plan.stored(object).map_err(|error| no_content(chain_of(&error)))?;
                    in_a_row = 0;
                    told.perhaps(plan.progress(), news);
                }
                Err(why) => (in_a_row, last) = (in_a_row + 1, why),
            }
        }
        match plan.standing() {
            Standing::Complete => Ok(()),
            Standing::GivenUp { objects } => {
                Err(no_content(format!("{objects} objects did not come; the last: {last}")))
            }
            Standing::Fetching => Err(no_content(last)),
        }
    }

    /// Runs `work` where it may block. Dropping the future lets it finish and loses its answer.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Halt> + Send + 'static,
    ) -> Result<T, Halt> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_| Err(no_content("the agent is ending".to_owned())))
    }
}

impl Inner {
    fn plan(&self, manifest: &Manifest) -> FetchPlan {
        let sizes = manifest.objects();
        FetchPlan::new(manifest, |object| {
            sizes.get(object).is_some_and(|stored| self.objects.holds(*object, (*stored).into()))
        })
    }

    /// Looks whether what is missing can fit at all, before a byte of it is fetched.
    fn check_room(&self, progress: Progress) -> Result<(), Halt> {
        let missing = progress.bytes.saturating_sub(progress.bytes_done);
        // A disk that cannot be measured is found to be full when something is written.
        let free = disk_free(&self.dir).unwrap_or(u64::MAX);
        if missing == 0 || free >= missing.saturating_add(DISK_RESERVE_BYTES) {
            return Ok(());
        }
        let why = format!(
            "{missing} bytes are to be fetched; {free} are free, of which {DISK_RESERVE_BYTES} are \
             kept for the agent itself"
        );
        Err(Halt::Unavailable { wait: Waiting::Disk, why })
    }
}

async fn manifest_from(source: &dyn ObjectSource, need: Digest) -> Result<Vec<u8>, Halt> {
    let failed = |why: String| no_content(format!("failed to fetch manifest {need}: {why}"));
    let payload = source.get(need, MANIFEST_BYTES_MAX).await;
    let payload = payload.map_err(|error| failed(error.to_string()))?;
    match Digest::of(&payload) {
        found if found == need => Ok(payload),
        found => Err(failed(format!("its digest does not match: {found} came"))),
    }
}

/// Checks what came for an object; the text says why it is of no use. Either way the plan knows.
fn take(
    plan: &mut FetchPlan,
    object: Digest,
    answer: Result<Vec<u8>, FetchError>,
) -> Result<Vec<u8>, String> {
    let failed = |why: String| format!("failed to fetch object {object}: {why}");
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(error) => {
            let spent = plan.failed(object);
            return Err(failed(spent.map_or_else(|e| chain_of(&e), |_| error.to_string())));
        }
    };
    match plan.received(object, &bytes) {
        Ok(_) => Ok(bytes),
        Err(FetchRefused::Bytes { source, .. }) => {
            Err(failed(format!("its digest does not match: {source}")))
        }
        Err(error) => Err(failed(chain_of(&error))),
    }
}

fn no_content(why: String) -> Halt {
    Halt::Unavailable { wait: Waiting::Content, why }
}

impl From<NotBelieved> for Halt {
    fn from(not_believed: NotBelieved) -> Self {
        match not_believed {
            NotBelieved::Refused { rule, why } => Halt::Refused { rule, why },
            NotBelieved::NotYet { why } => no_content(why),
        }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        let wait = if error.is_full() { Waiting::Disk } else { Waiting::Content };
        Halt::Unavailable { wait, why: chain_of(&error) }
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// The requests under way; the plan bounds how many.
struct Wire<'a>(Vec<(Digest, Answer<'a>)>);

impl Wire<'_> {
    /// The next answer; `None` when nothing is under way.
    async fn next(&mut self) -> Option<(Digest, Result<Vec<u8>, FetchError>)> {
        poll_fn(|context| {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            for at in 0..self.0.len() {
                let (object, request) = &mut self.0[at];
                if let Poll::Ready(answer) = request.as_mut().poll(context) {
                    let object = *object;
                    drop(self.0.remove(at));
                    return Poll::Ready(Some((object, answer)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What was last told of the progress, and when.
struct Told {
    bytes: u64,
    at: Instant,
}

impl Told {
    fn tell(progress: Progress, news: &mut impl FnMut(ContentNews)) -> Self {
        news(ContentNews::Progress { have: progress.bytes_done, of: progress.bytes });
        Self { bytes: progress.bytes_done, at: Instant::now() }
    }

    fn perhaps(&mut self, progress: Progress, news: &mut impl FnMut(ContentNews)) {
        let step = progress.bytes.div_ceil(100);
        if progress.bytes_done - self.bytes >= step || self.at.elapsed() >= PROGRESS_EVERY {
            *self = Self::tell(progress, news);
        }
    }
}
