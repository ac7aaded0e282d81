//! What the two engines say differently, all of it.

use super::db::{Conn, Read};

/// The pieces of SQL that are not one text for both engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Lite,
    Pg,
}

impl Dialect {
    /// Ends a `SELECT` that locks the rows of `table` until the transaction ends. SQLite has one
    /// writer at a time, who holds everything.
    pub(crate) fn for_update(self, table: &str) -> String {
        match self {
            Dialect::Lite => String::new(),
            Dialect::Pg => format!(" FOR NO KEY UPDATE OF {table}"),
        }
    }

    /// As [`Dialect::for_update`], but leaves out rows that somebody else holds.
    pub(crate) fn for_update_skip_locked(self) -> &'static str {
        match self {
            Dialect::Lite => "",
            Dialect::Pg => " FOR UPDATE SKIP LOCKED",
        }
    }
}

impl Read {
    pub(crate) fn dialect(&self) -> Dialect {
        match self.conn {
            Conn::Lite(_) => Dialect::Lite,
            Conn::Pg(_) => Dialect::Pg,
        }
    }
}
