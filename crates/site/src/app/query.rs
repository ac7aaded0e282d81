//! Questions in SQL over what is meant for people.

use std::time::Duration;

use muster_model::api::{QueryAnswer, QueryRequest};
use tokio::sync::Semaphore;

use super::App;
use super::error::{AppError, Kind, Outcome, Refusal};
use crate::store::{QueryError, Table};

/// How long one question may run: a person waits for it.
const QUERY_TIME_MAX: Duration = Duration::from_secs(10);
/// Questions that run at once; everything else needs the readers of the database, too.
const QUERIES_AT_ONCE: usize = 2;

/// The places for questions.
pub(crate) struct QueryPlaces(Semaphore);

impl Default for QueryPlaces {
    fn default() -> Self {
        Self(Semaphore::new(QUERIES_AT_ONCE))
    }
}

impl App {
    /// Answers one question from one snapshot.
    pub(crate) async fn query(&self, request: QueryRequest) -> Outcome<QueryAnswer> {
        let Ok(_place) = self.query_places.0.try_acquire() else {
            let detail = format!("{QUERIES_AT_ONCE} questions are being answered; try again");
            return Err(Refusal::new(Kind::Busy, detail).limit("QUERIES_AT_ONCE").into());
        };
        let as_of = self.now();
        let mut read = self.db.read().await?;
        let found = read.query(&request.query, QUERY_TIME_MAX).await;
        let Table { columns, rows, truncated } = found.map_err(refused)?;
        Ok(QueryAnswer { columns, rows, as_of, truncated })
    }
}

fn refused(error: QueryError) -> AppError {
    let detail = error.to_string();
    let refusal = Refusal::invalid("query", detail.clone());
    match error {
        QueryError::Store(error) => error.into(),
        QueryError::NoThread(why) => AppError::Fault("read a query", Box::new(why)),
        QueryError::TooLong => refusal.limit("QUERY_BYTES_MAX").into(),
        QueryError::TooManyWords(_) => refusal.limit("QUERY_WORDS_MAX").into(),
        QueryError::TooSlow(_) => Refusal::new(Kind::Limit, detail)
            .limit("QUERY_TIME_MAX")
            .hint("ask for less: a condition on `received`, `since` or a device")
            .into(),
        QueryError::NotAQuestion | QueryError::Refused(_) => refusal.into(),
    }
}
