//! Reconcilers: tasks without input that bring the site to where what is stored says it should be.
//!
//! Each runs by time and sooner when it is poked; doing it twice, or in two processes at once, does
//! nothing more. A failure is logged and tried again at the next turn, so none of them ends before the
//! process does.

use std::sync::Arc;
use std::time::Duration;

use muster_host::pki::server_names;
use muster_host::quota::folder_bytes;
use muster_host::tls::ServerCertificate;
use muster_model::clock::Wall;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::app::component::Component;
use crate::app::error::{Outcome, Tried};
use crate::role::Room;

/// How often contacts are written: how late a device's last contact may be in an answer.
const CONTACTS_EVERY: Duration = Duration::from_secs(2);
/// How often counters are folded, so that sums are added up from few rows.
const FOLD_EVERY: Duration = Duration::from_secs(2);
/// Counter deltas in one transaction.
const FOLD_MAX: u32 = 10_000;
/// How often rules are held against devices whose facts changed, without being poked.
const EVALUATE_EVERY: Duration = Duration::from_secs(10);
/// How often expired advertisements are looked for.
const SETTLE_EVERY: Duration = Duration::from_secs(10);
/// How often the folder is asked which components are paused.
const COMPONENTS_EVERY: Duration = Duration::from_secs(1);
/// How often the folder is measured against its quota.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// How often the server's certificate is looked at; it lives for months.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(3_600);

/// What the server's certificate is made of, and when the next one is due.
pub(crate) struct Server {
    pub(crate) certificate: ServerCertificate,
    pub(crate) host: String,
    pub(crate) renew_at: Wall,
}

/// Starts every task. They end when `stop` is cancelled; the caller then writes what waits.
pub(crate) fn start(
    app: &Arc<App>,
    server: Server,
    room: Option<Room>,
    stop: &CancellationToken,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    let run = |task| {
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled_owned(task).await })
    };
    run(Box::pin(follow(app.clone())) as Task);
    run(Box::pin(contacts(app.clone())));
    run(Box::pin(fold(app.clone())));
    run(Box::pin(evaluate(app.clone())));
    run(Box::pin(settle(app.clone())));
    run(Box::pin(components(app.clone())));
    run(Box::pin(renew(app.clone(), server)));
    if let Some(room) = room {
        run(Box::pin(measure(room)));
    }
    tasks.spawn(release(app.clone(), stop.clone()));
    tasks
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Logs a failure of a task; its next turn tries again.
fn note(task: &'static str, outcome: Outcome<()>) {
    if let Err(error) = outcome {
        tracing::warn!(task, error = &error as &dyn std::error::Error, "a task tries again");
    }
}

/// Follows the site's revisions: at least every second, and as soon as one is announced.
async fn follow(app: Arc<App>) {
    let mut revisions = app.revisions();
    while revisions.later_than(app.index.revision()).await.is_some() {
        let outcome = app.follow_newest().await;
        let failed = outcome.is_err();
        note("follow", outcome);
        if failed {
            tokio::time::sleep(crate::store::REVISION_POLL_MAX).await;
        }
    }
}

async fn contacts(app: Arc<App>) {
    loop {
        tokio::time::sleep(CONTACTS_EVERY).await;
        note("contacts", app.contacts_flush().await);
    }
}

async fn fold(app: Arc<App>) {
    loop {
        tokio::time::sleep(FOLD_EVERY).await;
        note("fold", fold_all(&app).await);
    }
}

async fn fold_all(app: &App) -> Outcome<()> {
    loop {
        let mut tx = app.db.begin().await?;
        let folded = tx.counter_fold(FOLD_MAX).await?;
        tx.commit().await?;
        if folded < u64::from(FOLD_MAX) {
            return Ok(());
        }
    }
}

async fn evaluate(app: Arc<App>) {
    loop {
        if !app.components.is_paused(Component::CollectionEvaluator) {
            note("evaluate", app.evaluate_pending().await);
        }
        poked(&app.pokes.evaluate, EVALUATE_EVERY).await;
    }
}

async fn settle(app: Arc<App>) {
    note("settle", app.unsettle_all().await);
    note("settle", app.hold_all_forked().await);
    loop {
        let mut next = None;
        if !app.components.is_paused(Component::Settlement) {
            let turned = app.turn_occurrences().await;
            next = turned.as_ref().ok().copied().flatten();
            note("settle", turned.map(drop));
            note("settle", app.settle().await);
            let removed = app.settle_removals().await;
            next = next.into_iter().chain(removed.as_ref().ok().copied().flatten()).min();
            note("settle", removed.map(drop));
        }
        let next = next.map_or(SETTLE_EVERY, |next| next.since(app.now()));
        poked(&app.pokes.settle, next.min(SETTLE_EVERY)).await;
        note("settle", app.unsettle_expired().await);
    }
}

async fn components(app: Arc<App>) {
    loop {
        tokio::time::sleep(COMPONENTS_EVERY).await;
        note("components", app.components_follow());
    }
}

async fn poked(notify: &Notify, every: Duration) {
    let _ = tokio::time::timeout(every, notify.notified()).await;
}

/// Makes the server's next certificate when two thirds of its life are over.
async fn renew(app: Arc<App>, mut server: Server) {
    loop {
        tokio::time::sleep(CERTIFICATE_EVERY).await;
        let now = app.now();
        if now < server.renew_at {
            continue;
        }
        let renewed = app.keys.ca.issue_server(&server_names(&server.host), now);
        let renewed = renewed.tried("issue the server's certificate").and_then(|identity| {
            server.renew_at = identity.renew_at;
            server.certificate.replace(identity).tried("serve with the new certificate")
        });
        note("certificate", renewed);
    }
}

/// Measures the folder, so that what the database takes counts against the quota, too.
async fn measure(room: Room) {
    loop {
        tokio::time::sleep(MEASURE_EVERY).await;
        let folder = room.folder.clone();
        match tokio::task::spawn_blocking(move || folder_bytes(&folder)).await {
            Ok(Ok(used)) => room.quota.measured(used),
            Ok(Err(error)) => note("measure", Err(error).tried("measure the folder")),
            // The process is ending.
            Err(_) => return,
        }
    }
}

/// Lets held polls go when the process is to end, so that their devices look for another at once.
async fn release(app: Arc<App>, stop: CancellationToken) {
    stop.cancelled().await;
    app.waiters.wake_all();
}
