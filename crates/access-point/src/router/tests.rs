//! The routes pass on what came within their limits, and refuse the rest by name.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use super::*;
use async_trait::async_trait;
use tower::ServiceExt;

/// An upstream that notes what it was asked and answers "nothing new".
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl Noting {
    fn note(&self, what: String) -> Answer {
        self.0.lock().unwrap().push(what);
        Ok(Reply::NothingNew)
    }
}

#[async_trait]
impl Upstream for Noting {
    fn site_time(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("sealed-time"))
    }
    async fn enroll(&self, body: Bytes) -> Answer {
        self.note(format!("enroll {}", body.len()))
    }
    async fn renew(&self, body: Bytes) -> Answer {
        self.note(format!("renew {}", body.len()))
    }
    async fn policy(&self, _: Presented, known: Option<Digest>, wait: Duration) -> Answer {
        self.note(format!("policy {} {wait:?}", known.is_some()))
    }
    async fn messages(&self, _: Presented, batch: Bytes) -> Answer {
        self.note(format!("messages {}", batch.len()))
    }
    async fn account(&self, who: Presented) -> Answer {
        self.note(format!("account {:?}", who.ticket))
    }
    async fn content(&self, _: Presented, digest: Digest) -> Answer {
        self.note(format!("content {}", digest.short()))
    }
    async fn trust(&self, _: Presented, number: u64) -> Answer {
        self.note(format!("trust {number}"))
    }
}

/// Sends one request; `expected` is the status and what the upstream was asked.
#[track_caller]
fn check(request: http::request::Builder, body: Vec<u8>, expected: (u16, &str)) {
    let upstream = Arc::new(Noting::default());
    let request = request.body(Body::from(body)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(router(upstream.clone()).oneshot(request)).unwrap();
    assert_eq!(response.headers()[device_header::SITE_TIME], "sealed-time");
    let asked = upstream.0.lock().unwrap().join(", ");
    assert_eq!((response.status().as_u16(), asked.as_str()), expected);
}

fn get(uri: &str) -> http::request::Builder {
    http::Request::get(uri)
}

fn post(uri: &str) -> http::request::Builder {
    http::Request::post(uri)
}

#[test]
fn the_longest_body_passes_and_one_byte_more_names_the_limit() {
    check(post(path::MESSAGES), vec![0; BATCH_BYTES_MAX], (304, "messages 4194304"));
    check(post(path::MESSAGES), vec![0; BATCH_BYTES_MAX + 1], (413, ""));
    check(post(path::ENROLL), vec![0; ENROLMENT_BYTES_MAX + 1], (413, ""));
    check(post(path::RENEW), vec![0; ENROLMENT_BYTES_MAX], (304, "renew 262144"));
    let refusal = Refusal::too_long("BATCH_BYTES_MAX", BATCH_BYTES_MAX);
    let problem = serde_json::to_value(refusal).unwrap();
    assert_eq!(problem["limit"], "BATCH_BYTES_MAX");
    assert_eq!(problem["type"], "urn:muster:problem:limit");
}

#[test]
fn a_poll_is_held_as_long_as_the_device_prefers_within_limits() {
    check(get(path::POLICY), vec![], (304, "policy false 50s"));
    let tag = format!("\"{}\"", Digest::of(b"tag"));
    let poll =
        |prefer| get(path::POLICY).header("if-none-match", tag.clone()).header("prefer", prefer);
    check(poll("respond-async, wait=3"), vec![], (304, "policy true 3s"));
    check(poll("wait=99999").version(Version::HTTP_2), vec![], (304, "policy true 3600s"));
    // HTTP/1.1 has no pings that would keep a silent connection open.
    check(poll("wait=99999"), vec![], (304, "policy true 50s"));
    check(poll("wait=soon"), vec![], (304, "policy true 50s"));
    check(get(path::POLICY).header("if-none-match", "\"x\""), vec![], (400, ""));
}

#[test]
fn what_is_no_digest_or_number_is_refused_with_the_sites_time() {
    let digest = Digest::of(b"object");
    let found = format!("content {}", digest.short());
    check(get(&format!("{}/{digest}", path::CONTENT)), vec![], (304, &found));
    check(get(&format!("{}/ABC", path::CONTENT)), vec![], (400, ""));
    check(get(&format!("{}/3", path::TRUST)), vec![], (304, "trust 3"));
    check(get(&format!("{}/-1", path::TRUST)), vec![], (400, ""));
    check(get("/agent/v1/nothing"), vec![], (404, ""));
}
