//! The client of `/api/v1`: bearer credential, pinned CA, problem documents turned into failures.

use std::fmt::Display;

use muster_host::client::{self, ClientError, Timeouts};
use muster_host::clock::Clock;
use muster_host::problem::Problem;
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::api::{PAGE_ITEMS_MAX, Page, Resolve, Resolved};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::context::Context;
use crate::error::{Exit, Failure, Outcome, Tried};
use crate::events::Events;

/// The largest answer that is read, in bytes: a page of a thousand messages of 64 KiB.
const ANSWER_BYTES_MAX: usize = 80 * 1024 * 1024;

/// A connection to a site's API.
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    credential: String,
}

/// Values of a query string.
#[derive(Default, Clone)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// No value.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets or replaces a value; `None` leaves it out.
    pub(crate) fn set(&mut self, name: &'static str, value: Option<impl Display>) {
        self.0.retain(|(other, _)| *other != name);
        if let Some(value) = value {
            self.0.push((name, value.to_string()));
        }
    }
}

/// A request that was refused, or never answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As a command's failure.
    failure: Box<Failure>,
    /// The exit code it means.
    pub(crate) exit: Exit,
    /// What the site said.
    pub(crate) detail: String,
    /// Whether the same request may succeed later.
    pub(crate) is_transient: bool,
    /// Whether the credential is good for nothing.
    pub(crate) is_unauthorised: bool,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The document of an `apply`, and the field in it.
    pub(crate) at: Option<(usize, String)>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        *refusal.failure
    }
}

type Answered<T> = Result<T, Refusal>;

impl Api {
    /// A client for the site of a context.
    pub(crate) fn new(context: &Context) -> Outcome<Self> {
        let pin = context.ca_pin.parse().tried(|| "read the CA pin of the context".into())?;
        let clock = Clock::from_env().tried(|| "read the clock's settings".into())?;
        let now = TrustedNow::new(move || Some(clock.wall()));
        let tried = || format!("set up the connection to {}", context.url);
        let tls = client_config(Trust::Pin(pin), now, None).tried(tried)?;
        let http = client::http_client(tls, Timeouts::default()).tried(tried)?;
        let base = format!("{}/api/v1", context.url.trim_end_matches('/'));
        Ok(Self { http, base, credential: context.credential.clone() })
    }

    /// `GET`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Answered<T> {
        self.send(self.http.get(self.url(path)).query(&query.0), path).await
    }

    /// `POST` of JSON.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Answered<T> {
        self.send(self.http.post(self.url(path)).json(body), path).await
    }

    /// `PATCH` of JSON.
    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Answered<T> {
        self.send(self.http.patch(self.url(path)).json(body), path).await
    }

    /// `PUT` of bytes.
    pub(crate) async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> Answered<()> {
        self.send(self.http.put(self.url(path)).body(bytes), path).await
    }

    /// `DELETE`.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Answered<T> {
        self.send(self.http.delete(self.url(path)), path).await
    }

    /// All items of a list, page by page, at most `limit`.
    pub(crate) async fn all<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        limit: Option<u32>,
    ) -> Answered<Vec<T>> {
        let most = limit.map_or(usize::MAX, |limit| limit as usize);
        let mut query = query.clone();
        query.set("limit", Some(limit.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX)));
        let mut items = Vec::new();
        loop {
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            match page.next {
                Some(cursor) if items.len() < most => query.set("cursor", Some(cursor)),
                _ => break,
            }
        }
        items.truncate(most);
        Ok(items)
    }

    /// A stream of server-sent events.
    pub(crate) async fn events(&self, path: &str, query: &Query) -> Answered<Events> {
        let request = self.http.get(self.url(path)).query(&query.0).bearer_auth(&self.credential);
        let answer = client::send(request).await.map_err(|error| self.refusal(error))?;
        Ok(Events::new(answer))
    }

    /// The bytes of one object.
    pub(crate) async fn get_bytes(&self, path: &str) -> Answered<Vec<u8>> {
        let request = self.http.get(self.url(path)).bearer_auth(&self.credential);
        let answer = client::send(request).await.map_err(|error| self.refusal(error))?;
        let bytes = client::read_body(answer, ANSWER_BYTES_MAX)
            .await
            .tried(|| format!("read the answer of {}{path}", self.base))?;
        Ok(bytes.to_vec())
    }

    /// The id of what a person named; an ambiguous name is an error that lists the ids.
    pub(crate) async fn resolve(&self, kind: &str, name: &str) -> Answered<Uuid> {
        let request = Resolve { kind: kind.to_owned(), name: name.to_owned() };
        let found: Resolved = self.post("/resolve", &request).await?;
        Ok(found.id)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
    ) -> Answered<T> {
        let answered = client::send(request.bearer_auth(&self.credential)).await;
        let answer = answered.map_err(|error| self.refusal(error))?;
        let bytes = client::read_body(answer, ANSWER_BYTES_MAX)
            .await
            .tried(|| format!("read the answer of {}{path}", self.base))?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        Ok(serde_json::from_slice(text)
            .tried(|| format!("understand the answer of {}{path}", self.base))?)
    }

    /// A refusal for a person. Only who can be reached refuses; everything else is a failure.
    fn refusal(&self, error: ClientError) -> Refusal {
        let is_transient = error.is_transient();
        let refusal: Refusal = match error {
            ClientError::Refused { problem, .. } => refused(*problem),
            other => Failure::new(format!("failed to reach {}", self.base))
                .because(&other)
                .hint("is the site running? `muster login` changes the address")
                .into(),
        };
        Refusal { is_transient, ..refusal }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        Self {
            exit: failure.exit,
            failure: Box::new(failure),
            detail,
            is_transient: false,
            is_unauthorised: false,
            hint: None,
            at: None,
        }
    }
}

/// A problem document as a failure: what is wrong with the input exits as a usage error does.
fn refused(problem: Problem) -> Refusal {
    let detail = problem.detail.map_or_else(|| problem.title.clone(), String::from);
    let is_unauthorised = problem.status == 401;
    let mut failure = Failure::new(match &problem.field {
        Some(field) => format!("{field}: {detail}"),
        None => detail.clone(),
    });
    if matches!(problem.status, 400 | 413 | 422) {
        failure = failure.exit(Exit::Usage);
    }
    if is_unauthorised {
        failure = failure.hint("run `muster login` again");
    }
    let hint = problem.hint.as_ref().map(ToString::to_string);
    if let Some(hint) = &hint {
        failure = failure.hint(hint.clone());
    }
    let field = problem.field.map(String::from).unwrap_or_default();
    let at = problem.document.map(|document| (document as usize, field));
    Refusal {
        exit: failure.exit,
        failure: Box::new(failure),
        detail,
        is_transient: false,
        is_unauthorised,
        hint,
        at,
    }
}

/// Text that becomes one segment of a path: ids only.
pub(crate) fn segment(id: &str) -> Outcome<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match !id.is_empty() && id.len() <= 64 && id.chars().all(plain) {
        true => Ok(id),
        false => Err(Failure::usage(format!("`{id}` is no id"))),
    }
}
