//! Policy polls that are answered "nothing new", in turn with another server's 304.
//!
//! Every device's ticket and policy was fetched once before the clock starts. Both servers are asked
//! by the same code over the same number of kept TLS 1.3 connections, as fast as they answer; the
//! figure is the CPU time of the server's own processes, which does not depend on how fast.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use muster_model::wire::{header, path};
use tokio::task::LocalSet;

use crate::connection::{Connection, Target};
use crate::cpu;
use crate::device::Devices;
use crate::error::BenchError;
use crate::site::Site;

/// Connections to each server.
pub(crate) const CONNECTIONS: usize = 64;

/// The server that stands beside the site.
pub(crate) struct Other {
    /// What it answers 304 for.
    pub(crate) url: String,
    /// Its processes.
    pub(crate) pids: Vec<u32>,
}

/// A conditional request, but for the host: headers by name.
type Conditional = Vec<(HeaderName, HeaderValue)>;

/// One side of a pair, ready to be asked.
struct Side {
    target: Target,
    path: PathAndQuery,
    requests: Rc<Vec<Conditional>>,
    pids: Vec<u32>,
    connections: Vec<Connection>,
}

/// Runs `rounds` after one that warms up, and prints a line for each: CPU microseconds a poll of the
/// site, of the other server, and polls a second of both.
pub(crate) async fn poll(
    site: &Site,
    pid: u32,
    other: &Other,
    rounds: u32,
    length: Duration,
    devices: Devices,
) -> Result<(), BenchError> {
    let mut ours = our_side(site, pid, devices).await?;
    let mut theirs = their_side(site, other).await?;
    for round in 0..=rounds {
        let (our_cost, our_rate) = ours.run(length).await?;
        let (their_cost, their_rate) = theirs.run(length).await?;
        if round > 0 {
            println!("{our_cost:.2} {their_cost:.2} {our_rate:.0} {their_rate:.0}");
        }
    }
    Ok(())
}

async fn our_side(site: &Site, pid: u32, devices: Devices) -> Result<Side, BenchError> {
    let target = site.target()?;
    let tickets = tickets(site, devices)?;
    let connections = target.connect_many(CONNECTIONS).await?;
    let (began, before) = (Instant::now(), cpu::used(&[pid])?);
    let (connections, tags) = learn(&target, connections, &tickets).await?;
    let cost = (cpu::used(&[pid])? - before).as_secs_f64() * 1e6 / tags.len() as f64;
    eprintln!(
        "{} policies compiled, sealed and fetched in {:.1} s, {cost:.0} us of CPU each",
        tags.len(),
        began.elapsed().as_secs_f64()
    );
    let requests = tickets.into_iter().zip(tags).map(|(ticket, tag)| {
        let mut headers = poll_headers(ticket);
        headers.push((http::header::IF_NONE_MATCH, tag));
        headers
    });
    let requests = Rc::new(requests.collect());
    let path = PathAndQuery::from_static(path::POLICY);
    Ok(Side { target, path, requests, pids: vec![pid], connections })
}

async fn their_side(site: &Site, other: &Other) -> Result<Side, BenchError> {
    let target = site.other(&other.url)?;
    let mut connections = target.connect_many(CONNECTIONS).await?;
    let path = target.path.clone();
    let first = connections.first_mut().ok_or(BenchError::Empty("no connection"))?;
    let answer = first.ask(get(&target, &path, &[])?, StatusCode::OK).await?;
    let tag = etag(&target, &answer.headers)?;
    let requests = Rc::new(vec![vec![(http::header::IF_NONE_MATCH, tag)]]);
    Ok(Side { target, path, requests, pids: other.pids.clone(), connections })
}

impl Side {
    /// Asks for `length`; answers CPU microseconds a request, and requests a second.
    async fn run(&mut self, length: Duration) -> Result<(f64, f64), BenchError> {
        let (began, before) = (Instant::now(), cpu::used(&self.pids)?);
        let next = Rc::new(Cell::new(0));
        let askers = LocalSet::new();
        let tasks: Vec<_> = std::mem::take(&mut self.connections)
            .into_iter()
            .map(|connection| {
                let (target, path) = (self.target.clone(), self.path.clone());
                let (requests, next) = (self.requests.clone(), next.clone());
                askers.spawn_local(async move {
                    ask_until(began + length, target, path, connection, &requests, &next).await
                })
            })
            .collect();
        askers.await;
        for task in tasks {
            self.connections.push(task.await??);
        }
        let took = began.elapsed().as_secs_f64();
        let used = cpu::used(&self.pids)? - before;
        let asked = next.get() as f64;
        Ok((used.as_secs_f64() * 1e6 / asked, asked / took))
    }
}

/// Asks the next of `requests`, round and round, until `deadline`; gives the connection back.
async fn ask_until(
    deadline: Instant,
    target: Target,
    path: PathAndQuery,
    mut connection: Connection,
    requests: &[Conditional],
    next: &Cell<usize>,
) -> Result<Connection, BenchError> {
    while Instant::now() < deadline {
        let at = next.get();
        next.set(at + 1);
        let request = get(&target, &path, &requests[at % requests.len()])?;
        connection.ask(request, StatusCode::NOT_MODIFIED).await?;
    }
    Ok(connection)
}

/// The tickets of `devices`, in order.
pub(crate) fn tickets(site: &Site, devices: Devices) -> Result<Vec<HeaderValue>, BenchError> {
    let now = site.clock.wall();
    devices.iter().map(|device| device.ticket(site.epoch, now)).collect()
}

/// Fetches the policy behind each ticket over all of `connections`; answers them, and the policies'
/// tags in the order of the tickets.
pub(crate) async fn learn(
    target: &Target,
    connections: Vec<Connection>,
    tickets: &[HeaderValue],
) -> Result<(Vec<Connection>, Vec<HeaderValue>), BenchError> {
    let askers = LocalSet::new();
    let share = tickets.len().div_ceil(connections.len().max(1)).max(1);
    let mut shares: Vec<Vec<HeaderValue>> = tickets.chunks(share).map(<[_]>::to_vec).collect();
    shares.resize(connections.len(), Vec::new());
    let tasks: Vec<_> = connections
        .into_iter()
        .zip(shares)
        .map(|(connection, share)| {
            askers.spawn_local(fetch_tags(target.clone(), connection, share))
        })
        .collect();
    askers.await;
    let (mut connections, mut tags) = (Vec::new(), Vec::new());
    for task in tasks {
        let (connection, found) = task.await??;
        connections.push(connection);
        tags.extend(found);
    }
    Ok((connections, tags))
}

async fn fetch_tags(
    target: Target,
    mut connection: Connection,
    tickets: Vec<HeaderValue>,
) -> Result<(Connection, Vec<HeaderValue>), BenchError> {
    let path = PathAndQuery::from_static(path::POLICY);
    let mut tags = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        let request = get(&target, &path, &poll_headers(ticket))?;
        let answer = connection.ask(request, StatusCode::OK).await?;
        tags.push(etag(&target, &answer.headers)?);
    }
    Ok((connection, tags))
}

fn poll_headers(ticket: HeaderValue) -> Conditional {
    let ticket = (HeaderName::from_static(header::TICKET), ticket);
    let at_once = (HeaderName::from_static(header::PREFER), HeaderValue::from_static("wait=0"));
    vec![ticket, at_once]
}

fn get(
    target: &Target,
    path: &PathAndQuery,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Request<Full<Bytes>>, BenchError> {
    let request = headers.iter().fold(target.request(path), |request, (name, value)| {
        request.header(name.clone(), value.clone())
    });
    request.body(Full::default()).map_err(|_| BenchError::Header("host"))
}

fn etag(target: &Target, headers: &http::HeaderMap) -> Result<HeaderValue, BenchError> {
    headers.get(http::header::ETAG).cloned().ok_or_else(|| BenchError::Content {
        address: target.to_string(),
        found: "no ETag".to_owned(),
        expected: "a document with its tag",
    })
}
