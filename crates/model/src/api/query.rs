//! Questions in SQL: `POST /api/v1/query`.

use serde::{Deserialize, Serialize};

use crate::clock::Wall;

/// One question over the tables that `docs/reference.md` lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One `select`.
    pub query: String,
}

/// The answer: a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryAnswer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, each with a value for every column.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// The moment of the one snapshot that all rows are of.
    pub as_of: Wall,
    /// There were more rows than one answer holds.
    pub truncated: bool,
}
