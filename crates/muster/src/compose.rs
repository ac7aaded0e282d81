//! The access point inside a site's process: the HTTP face of the device protocol over the site
//! itself, joined here because neither crate may know the other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use muster_access_point::{Presented, Refusal, Reply, Upstream};
use muster_model::digest::Digest;
use muster_site::{DeviceRefusal, DeviceReply, DeviceService};

/// The routes of the device protocol over a site in this process.
pub(crate) fn device_protocol(site: DeviceService) -> Router {
    muster_access_point::router(Arc::new(InProcess(site)))
}

/// A site in this process as an access point's upstream.
struct InProcess(DeviceService);

type Answer = Result<Reply, Refusal>;

fn presented(who: Presented) -> muster_site::Presented {
    muster_site::Presented { ticket: who.ticket, peer: who.peer }
}

fn answer(answer: Result<DeviceReply, DeviceRefusal>) -> Answer {
    match answer {
        Ok(DeviceReply::Document(document)) => Ok(Reply::Document(document)),
        Ok(DeviceReply::Tagged { tag, document }) => Ok(Reply::Tagged { tag, document }),
        Ok(DeviceReply::NothingNew) => Ok(Reply::NothingNew),
        Ok(DeviceReply::Object(bytes)) => Ok(Reply::Object(bytes)),
        Ok(DeviceReply::Behind(document)) => Ok(Reply::Behind(document)),
        Err(DeviceRefusal { status, kind, detail, limit }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let refusal = Refusal::new(status, kind, detail);
            Err(Refusal { limit: limit.map(str::to_owned), ..refusal })
        }
    }
}

#[async_trait]
impl Upstream for InProcess {
    fn site_time(&self) -> Option<HeaderValue> {
        self.0.site_time()
    }

    async fn enroll(&self, body: Bytes) -> Answer {
        answer(self.0.enroll(body).await)
    }

    async fn renew(&self, body: Bytes) -> Answer {
        answer(self.0.renew(body).await)
    }

    async fn policy(&self, who: Presented, known: Option<Digest>, wait: Duration) -> Answer {
        answer(self.0.policy(presented(who), known, wait).await)
    }

    async fn messages(&self, who: Presented, batch: Bytes) -> Answer {
        answer(self.0.messages(presented(who), batch).await)
    }

    async fn account(&self, who: Presented) -> Answer {
        answer(self.0.account(presented(who)).await)
    }

    async fn content(&self, who: Presented, digest: Digest) -> Answer {
        answer(self.0.content(presented(who), digest).await)
    }

    async fn trust(&self, who: Presented, number: u64) -> Answer {
        answer(self.0.trust(presented(who), number).await)
    }
}
