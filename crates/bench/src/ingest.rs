//! One batch of each device, over [`CONNECTIONS`] connections, and how long that took.
//!
//! What is sent is made and signed before the clock starts, and every device has polled once, as a
//! device has before it has anything to say; so the site knows its ticket. A row counts when the
//! receipt that covers it has come.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::Full;
use muster_model::id::{AdvertisementId, Sequence};
use muster_model::name::Name;
use muster_model::wire::device::Receipt;
use muster_model::wire::seal::Sealed;
use muster_model::wire::{header, path};
use tokio::task::LocalSet;

use crate::connection::{Connection, Target};
use crate::device::Devices;
use crate::error::BenchError;
use crate::poll::{CONNECTIONS, learn, tickets};
use crate::report::batch;
use crate::site::Site;

/// The name of the assignment that the reports are about.
const ASSIGNMENT: &str = "first";

/// What a run brought.
pub(crate) struct Ingested {
    rows: usize,
    bytes: usize,
    took: Duration,
    /// Of each batch, from sending it to its receipt, sorted.
    waits: Vec<Duration>,
}

/// `ROWS_A_SECOND MEDIAN_MS P99_MS ROWS BYTES_A_ROW`.
impl fmt::Display for Ingested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = |share: f64| {
            let at = (self.waits.len() as f64 * share) as usize;
            self.waits.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3
        };
        let rate = self.rows as f64 / self.took.as_secs_f64();
        let size = self.bytes / self.rows.max(1);
        write!(f, "{rate:.0} {:.1} {:.1} {} {size}", wait(0.5), wait(0.99), self.rows)
    }
}

/// A batch that waits to be sent.
struct Ready {
    ticket: HeaderValue,
    batch: Bytes,
    messages: usize,
}

/// Sends the first batch of each of `devices`. Fails at the first that is not taken whole.
pub(crate) async fn ingest(
    site: &Site,
    advertisements: &[AdvertisementId],
    devices: Devices,
) -> Result<Ingested, BenchError> {
    if advertisements.is_empty() {
        return Err(BenchError::Empty("no advertisement to report about"));
    }
    let target = site.target()?;
    let mut connections = target.connect_many(CONNECTIONS).await?;
    let tickets = tickets(site, devices)?;
    connections = learn(&target, connections, &tickets).await?.0;
    let ready = make(site, advertisements, devices, tickets)?;
    let rows = ready.iter().map(|one| one.messages).sum();
    let bytes = ready.iter().map(|one| one.batch.len()).sum();
    let queue = Rc::new(RefCell::new(ready));
    let began = Instant::now();
    let senders = LocalSet::new();
    let mut tasks = Vec::with_capacity(CONNECTIONS);
    for connection in connections {
        tasks.push(senders.spawn_local(send(target.clone(), connection, queue.clone())));
    }
    senders.await;
    let took = began.elapsed();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await??);
    }
    waits.sort();
    Ok(Ingested { rows, bytes, took, waits })
}

fn make(
    site: &Site,
    advertisements: &[AdvertisementId],
    devices: Devices,
    tickets: Vec<HeaderValue>,
) -> Result<Vec<Ready>, BenchError> {
    let assignment = Name::new(ASSIGNMENT).map_err(|_| BenchError::Empty("no assignment"))?;
    let now = site.clock.wall();
    let made = devices.iter().zip(tickets).map(|(device, ticket)| {
        let (batch, messages) = batch(device, advertisements, &assignment, now)?;
        Ok(Ready { ticket, batch, messages })
    });
    made.collect()
}

/// Sends what is left in the queue, one batch after the other; answers how long each took.
async fn send(
    target: Target,
    mut connection: Connection,
    queue: Rc<RefCell<Vec<Ready>>>,
) -> Result<Vec<Duration>, BenchError> {
    let path = PathAndQuery::from_static(path::MESSAGES);
    let mut waits = Vec::new();
    loop {
        let Some(next) = queue.borrow_mut().pop() else { return Ok(waits) };
        let request = target
            .request(&path)
            .method(Method::POST)
            .header(header::TICKET, next.ticket)
            .header(http::header::CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(next.batch))
            .map_err(|_| BenchError::Header("content-type"))?;
        let began = Instant::now();
        let answer = connection.ask(request, StatusCode::OK).await?;
        waits.push(began.elapsed());
        check(&target, &answer.body, next.messages)?;
    }
}

/// The receipt covers the whole batch.
fn check(target: &Target, body: &[u8], messages: usize) -> Result<(), BenchError> {
    let sealed: Option<Sealed> = serde_json::from_slice(body).ok();
    let receipt = sealed.and_then(|sealed| sealed.peek::<Receipt>().ok());
    match receipt {
        Some(receipt) if receipt.through == Sequence(messages as u64) => Ok(()),
        _ => Err(BenchError::Content {
            address: target.to_string(),
            found: String::from_utf8_lossy(body).into_owned(),
            expected: "a receipt for the whole batch",
        }),
    }
}
