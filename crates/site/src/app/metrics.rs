//! What this process counts, and the figures that it reads when it is asked: Prometheus text.
//!
//! Names are few and their labels closed lists: no device, no advertisement, no address.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::App;
use super::error::Outcome;
use super::ingest::Ingested;

/// Counters of this process.
#[derive(Default)]
pub(crate) struct Metrics {
    batches_taken: AtomicU64,
    batches_behind: AtomicU64,
    batches_forked: AtomicU64,
    batches_refused: AtomicU64,
    messages: AtomicU64,
    polls_new: AtomicU64,
    polls_nothing: AtomicU64,
    polls_refused: AtomicU64,
    content_bytes: AtomicU64,
    enrolled: AtomicU64,
}

/// How a poll ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Poll {
    New,
    Nothing,
    Refused,
}

impl Metrics {
    /// A batch was decided upon.
    pub(crate) fn batch(&self, ingested: &Ingested, messages: u64) {
        let counter = match ingested {
            Ingested::Taken(_) => {
                self.messages.fetch_add(messages, Ordering::Relaxed);
                &self.batches_taken
            }
            Ingested::Behind(_) => &self.batches_behind,
            Ingested::Forked(_) => &self.batches_forked,
            Ingested::Watched | Ingested::UnknownIncarnation { .. } | Ingested::UnknownDevice => {
                &self.batches_refused
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A poll was answered.
    pub(crate) fn poll(&self, poll: Poll) {
        let counter = match poll {
            Poll::New => &self.polls_new,
            Poll::Nothing => &self.polls_nothing,
            Poll::Refused => &self.polls_refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Content went out.
    pub(crate) fn content(&self, bytes: usize) {
        self.content_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A device enrolled.
    pub(crate) fn enrolled(&self) {
        self.enrolled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Text in the Prometheus exposition format, version 0.0.4.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: u64) {
        let _ = match label {
            Some((label, word)) => writeln!(self.0, "{name}{{{label}=\"{word}\"}} {value}"),
            None => writeln!(self.0, "{name} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, None, value);
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, of: &[(&str, &AtomicU64)]) {
        self.family(name, "counter", help);
        for (word, counter) in of {
            self.sample(name, Some((label, word)), counter.load(Ordering::Relaxed));
        }
    }
}

impl App {
    /// The page that `/metrics` answers. Figures of the whole site are read from the database.
    pub(crate) async fn metrics_page(&self) -> Outcome<String> {
        let metrics = &self.metrics;
        let mut page = Page::default();
        page.family("muster_build_info", "gauge", "The version of the program.");
        page.sample("muster_build_info", Some(("version", env!("CARGO_PKG_VERSION"))), 1);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.one(
            "muster_messages_total",
            "counter",
            "Messages in batches that were taken.",
            load(&metrics.messages),
        );
        page.counters(
            "muster_batches_total",
            "Batches by what became of them.",
            "outcome",
            &[
                ("taken", &metrics.batches_taken),
                ("behind", &metrics.batches_behind),
                ("forked", &metrics.batches_forked),
                ("refused", &metrics.batches_refused),
            ],
        );
        page.counters(
            "muster_polls_total",
            "Polls by their answer.",
            "answer",
            &[
                ("policy", &metrics.polls_new),
                ("nothing-new", &metrics.polls_nothing),
                ("refused", &metrics.polls_refused),
            ],
        );
        page.one(
            "muster_content_bytes_total",
            "counter",
            "Bytes of content sent to devices.",
            load(&metrics.content_bytes),
        );
        page.one(
            "muster_enrolments_total",
            "counter",
            "Enrolments that were answered with an identity.",
            load(&metrics.enrolled),
        );
        page.one(
            "muster_polls_held",
            "gauge",
            "Polls held open by this process.",
            self.waiters.len() as u64,
        );
        page.one(
            "muster_inbound_batches",
            "gauge",
            "Batches that wait to be written by this process.",
            self.committer.waiting() as u64,
        );
        self.site_figures(&mut page).await?;
        Ok(page.0)
    }

    async fn site_figures(&self, page: &mut Page) -> Outcome<()> {
        let mut read = self.db.read().await?;
        page.family("muster_devices", "gauge", "Devices by standing.");
        for (standing, count) in read.device_counts().await? {
            page.sample("muster_devices", Some(("standing", &standing)), count);
        }
        let waiting = read.set_aside_count().await?;
        page.one("muster_set_aside", "gauge", "Items set aside that wait for a person.", waiting);
        let (gaps, missing) = read.gap_count().await?;
        page.one("muster_stream_gaps", "gauge", "Holes in streams of messages.", gaps);
        page.one("muster_messages_missing", "gauge", "Messages in those holes.", missing);
        let revision = read.revision_newest().await?;
        page.one("muster_revision", "gauge", "The site's newest revision.", revision.0);
        let bytes = read.content_bytes().await?;
        page.one("muster_content_stored_bytes", "gauge", "Bytes of stored content.", bytes);
        Ok(())
    }
}
