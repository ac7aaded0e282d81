//! `muster doctor`: what a person would look at first when a site does not do as it should.

use muster_model::api::{Finding, Page};
use muster_site_core::accounting::silent_before;

use super::App;
use super::error::Outcome;
use super::policy::site_row;
use crate::store::DEVICE_PAGE_MAX;

/// Room for content below which the site says so.
const ROOM_BYTES_LEAST: u64 = 256 * 1024 * 1024;
/// Deltas of counters that may wait to be folded; more say that the task that folds them does not run.
const DELTAS_MAX: u64 = 1_000_000;

impl App {
    /// Every check with what it found.
    pub(crate) async fn doctor(&self) -> Outcome<Page<Finding>> {
        let mut items = vec![self.check_database().await, self.check_room().await];
        items.push(self.check_follows());
        let mut read = self.db.read().await?;
        let site = site_row(&mut read).await?;
        items.push(finding(
            "publishers",
            site.trust_number > 0,
            match site.trust_number {
                0 => "there is no publisher: `muster publisher init` makes one".to_owned(),
                number => format!("trust document {number}"),
            },
        ));
        let set_aside = read.set_aside_count().await?;
        items.push(finding(
            "set-aside",
            set_aside == 0,
            format!("{set_aside} items wait for a person; `muster set-aside list` names them"),
        ));
        let (gaps, missing) = read.gap_count().await?;
        items.push(finding(
            "streams",
            gaps == 0,
            format!("{gaps} holes in streams, {missing} messages in them"),
        ));
        let deltas = read.counter_delta_count().await?;
        items.push(finding(
            "counters",
            deltas <= DELTAS_MAX,
            format!("{deltas} changes of counters wait to be folded"),
        ));
        drop(read);
        items.push(self.check_silent(&site.settings).await?);
        Ok(Page { items, next: None })
    }

    async fn check_database(&self) -> Finding {
        match self.db.check_durable().await {
            Ok(()) => {
                finding("database", true, format!("{} acknowledges what it wrote", self.database))
            }
            Err(error) => finding("database", false, error.to_string()),
        }
    }

    async fn check_room(&self) -> Finding {
        match self.objects.free_bytes().await {
            Ok(bytes) => finding(
                "room",
                bytes >= ROOM_BYTES_LEAST,
                format!("{} MiB are left for content", bytes / (1024 * 1024)),
            ),
            Err(error) => finding("room", false, error.to_string()),
        }
    }

    fn check_follows(&self) -> Finding {
        let detail = match self.is_fresh() {
            true => "this process follows the site's revisions".to_owned(),
            false => "this process has not read the site's revisions for 5 s".to_owned(),
        };
        finding("revisions", self.is_fresh(), detail)
    }

    async fn check_silent(&self, settings: &muster_model::settings::Settings) -> Outcome<Finding> {
        let before = silent_before(self.now(), settings);
        let mut read = self.db.read().await?;
        let (mut silent, mut all, mut after) = (0, 0, None);
        loop {
            let page = read.device_list(after, DEVICE_PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.device.id);
            let live: Vec<_> = page.iter().filter(|row| row.retired_at.is_none()).collect();
            let ids: Vec<_> = live.iter().map(|row| row.device.id).collect();
            let contacts = read.contact_load_many(&ids).await?;
            let heard: std::collections::HashMap<_, _> =
                contacts.into_iter().map(|row| (row.device, row.at)).collect();
            all += live.len();
            silent += live
                .iter()
                .filter(|row| {
                    let at = heard.get(&row.device.id).copied().unwrap_or(row.enrolled_at);
                    at < before
                })
                .count();
        }
        let detail = format!("{silent} of {all} devices are silent");
        Ok(finding("devices", silent == 0, detail))
    }
}

fn finding(check: &str, ok: bool, detail: String) -> Finding {
    Finding { check: check.to_owned(), ok, detail }
}
