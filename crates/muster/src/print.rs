//! Printing: standard output is data, standard error is talk.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::args::Output;
use crate::error::{Outcome, Tried};

/// A line of data.
pub(crate) fn out(line: impl std::fmt::Display) {
    // A reader that went away (`muster ... | head`) is no failure of ours.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line of data; answers whether somebody still reads.
pub(crate) fn try_out(line: impl std::fmt::Display) -> bool {
    writeln!(std::io::stdout().lock(), "{line}").is_ok()
}

/// A line of talk.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether a person watches.
pub(crate) fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints `value` as asked; `table` draws it for people.
pub(crate) fn answer<T: Serialize>(output: Output, value: &T, table: impl FnOnce(&T)) -> Outcome {
    match output {
        Output::Table => table(value),
        Output::Json => {
            out(serde_json::to_string_pretty(value).tried(|| "print the answer as JSON".into())?);
        }
        Output::Yaml => {
            let value = serde_json::to_value(value).tried(|| "print the answer as YAML".into())?;
            let _ = write!(std::io::stdout().lock(), "{}", crate::yaml::write(&value));
        }
    }
    Ok(())
}

/// Prints rows in columns as wide as they need to be: lines stay whole when piped.
pub(crate) fn table<R: IntoIterator<Item = String>>(
    head: &[&str],
    rows: impl IntoIterator<Item = R>,
) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|word| word.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        out(line.trim_end());
    }
}

/// A time for people, or a dash.
pub(crate) fn time(time: Option<muster_model::clock::Wall>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}

/// Text, or a dash.
pub(crate) fn dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Whom a run was for, behind its attempt; nothing if it was for nobody in particular.
pub(crate) fn for_user(user: Option<&str>) -> String {
    user.map(|user| format!(" for {user}")).unwrap_or_default()
}
