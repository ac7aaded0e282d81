//! `query`: one question in SQL; and `schema`, what manifests look like.

use std::io::Read;

use muster_model::api::{QueryAnswer, QueryRequest};
use serde_json::Value;

use crate::api::Api;
use crate::args::{self, Output};
use crate::error::{Outcome, Tried};
use crate::print::{answer, say, table};

/// The longest question that is read from standard input, in bytes; the site refuses longer ones.
const QUERY_BYTES_MAX: u64 = 1 << 20;

/// `query "select ..."`.
pub(crate) async fn query(api: &Api, args: args::Query) -> Outcome {
    let query = match args.query.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(QUERY_BYTES_MAX)
                .read_to_string(&mut text)
                .tried(|| "read the query from standard input".into())?;
            text
        }
        _ => args.query,
    };
    let found: QueryAnswer = api.post("/query", &QueryRequest { query }).await?;
    answer(args.format.output, &found, |found| {
        let head: Vec<&str> = found.columns.iter().map(String::as_str).collect();
        table(&head, found.rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>()));
    })?;
    if found.truncated {
        say(format!("warning: only the first {} rows; there are more", found.rows.len()));
    }
    Ok(())
}

/// One value in a table.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `schema`.
pub(crate) fn schema(format: args::Format) -> Outcome {
    let output = if format.output == Output::Table { Output::Json } else { format.output };
    answer(output, &muster_model::schema::schema(), |_| ())
}
