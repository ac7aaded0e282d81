//! `/messages`, also as they come (server-sent events), and `/audit`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use http::Method;
use muster_model::api::{MessageView, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, Page};
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::Severity;
use muster_site_core::roles::Action;
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::extract::{Asked, Window};
use crate::app::App;
use crate::app::error::Outcome;
use crate::app::message::START;
use crate::store::MessageFilter;

/// How often a follower looks.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

type Site = State<Arc<App>>;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(
            (Method::GET, "/messages"),
            Action::MessagesRead,
            "Status messages, ascending; the newest, or those after a cursor (`start`: all)",
            "Page",
            page,
        )
        .query(&["device", "advertisement", "severity", "after", "limit"]),
        Endpoint::new(
            (Method::GET, "/messages/follow"),
            Action::MessagesRead,
            "Status messages as they come, as server-sent events",
            "text/event-stream",
            follow,
        )
        .query(&["device", "advertisement", "severity", "after"]),
        Endpoint::new((Method::GET, "/audit"), Action::AuditRead, "Who did what", "Page", audit)
            .query(&["limit", "cursor"]),
    ]
}

#[derive(Clone, Deserialize)]
struct Query {
    device: Option<DeviceId>,
    advertisement: Option<AdvertisementId>,
    severity: Option<Severity>,
    after: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

impl Query {
    fn filter(&self) -> MessageFilter {
        MessageFilter {
            device: self.device,
            advertisement: self.advertisement,
            severity: self.severity,
        }
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX)
    }
}

async fn page(State(app): Site, Asked(query): Asked<Query>) -> Outcome<Answer<Page<MessageView>>> {
    let after = query.cursor.as_deref().or(query.after.as_deref());
    Ok(Answer(app.message_page(&query.filter(), after, query.limit()).await?))
}

async fn follow(
    State(app): Site,
    Asked(query): Asked<Query>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(PAGE_ITEMS_DEFAULT as usize);
    tokio::spawn(feed(app, query, sender));
    Sse::new(Events(receiver)).keep_alive(KeepAlive::default())
}

/// Sends messages until the follower is gone.
async fn feed(
    app: Arc<App>,
    query: Query,
    sender: tokio::sync::mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut after = query.after.clone();
    loop {
        let limit = if after.is_some() { PAGE_ITEMS_MAX } else { 1 };
        match app.message_page(&query.filter(), after.as_deref(), limit).await {
            Ok(page) => {
                // Without a place to start from, only what comes from now on is told.
                let tell = after.is_some();
                for view in page.items {
                    after = Some(view.cursor.clone());
                    let Ok(data) = serde_json::to_string(&view) else { continue };
                    let event = Event::default().id(view.cursor).data(data);
                    if tell && sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                // Nothing was there yet, so whatever comes is new.
                after.get_or_insert_with(|| START.to_owned());
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a follower waits");
            }
        }
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
    }
}

/// A channel's far end as the stream that axum sends.
struct Events(tokio::sync::mpsc::Receiver<Result<Event, Infallible>>);

impl Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn audit(
    State(app): Site,
    Asked(window): Asked<Window>,
) -> Outcome<Answer<Page<MessageView>>> {
    Ok(Answer(app.audit_page(window.cursor.as_deref(), window.limit()).await?))
}
