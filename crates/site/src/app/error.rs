//! Why a use case did not do what was asked: refusals for people and programs, and faults of ours.
//!
//! A [`Refusal`] is told whole; a fault is logged whole and told as one sentence, because its text
//! may name what the asker must not know.

use muster_model::problem::Problem;

use crate::store::StoreError;

/// The result of a use case.
pub(crate) type Outcome<T> = Result<T, AppError>;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// It was refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else of ours failed.
    #[error("failed to {0}")]
    Fault(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Which kind of refusal; decides the HTTP status and the `type` of the problem document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody, or nobody we know: names nothing.
    Unauthorised,
    /// Known, but not allowed.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The name is borne by several.
    Ambiguous,
    /// It contradicts what is there.
    Conflict,
    /// The input is wrong.
    Invalid,
    /// More than a named limit.
    Limit,
    /// `If-Match` names another revision.
    Stale,
    /// Too much is going on just now.
    Busy,
    /// No room is left.
    Full,
}

/// A refusal, in the parts of a problem document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The field that is wrong.
    pub(crate) field: Option<String>,
    /// The place of the document in an `apply`.
    pub(crate) document: Option<usize>,
    /// The name of the limit that was reached.
    pub(crate) limit: Option<&'static str>,
    /// The ids that an ambiguous name stands for.
    pub(crate) ids: Vec<String>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            hint: None,
            field: None,
            document: None,
            limit: None,
            ids: Vec::new(),
        }
    }

    pub(crate) fn not_found(what: &str, which: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("no {what} is called `{which}`"))
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::Invalid, detail) }
    }

    /// The first fault of an input, and all of them in the sentence.
    pub(crate) fn problems(problems: &[Problem]) -> Self {
        let field = problems.first().map(|problem| problem.field.clone());
        let detail = match problems {
            [one] => one.detail.clone(),
            all => all.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "),
        };
        Self { field, ..Self::new(Kind::Invalid, detail) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, document: usize) -> Self {
        self.document = Some(document);
        self
    }

    pub(crate) fn limit(mut self, name: &'static str) -> Self {
        self.limit = Some(name);
        self
    }

    pub(crate) fn ids(mut self, ids: impl IntoIterator<Item = impl ToString>) -> Self {
        self.ids = ids.into_iter().map(|id| id.to_string()).collect();
        self
    }
}

impl From<Refusal> for AppError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Turns an error of ours into a fault with a word of what was tried.
pub(crate) trait Tried<T> {
    fn tried(self, what: &'static str) -> Outcome<T>;
}

impl<T, E> Tried<T> for Result<T, E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn tried(self, what: &'static str) -> Outcome<T> {
        self.map_err(|error| AppError::Fault(what, Box::new(error)))
    }
}
