//! A journal that cannot be believed is set aside with all its bytes, never deleted, and what can
//! still be read of it is handed on.

use std::path::{Path, PathBuf};

use muster_agent_core::saved::{Kept, Memory};
use muster_host::publish;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::Sequence;
use muster_model::message::{Body, Message, Report};
use muster_model::wire::batch::chain;
use rusqlite::{Connection, OpenFlags, Row};

use super::{JOURNAL_FILE, JournalError};

/// All messages in order.
pub(super) const MESSAGES: &str =
    "SELECT sequence, bytes, chain, written FROM message ORDER BY sequence";
/// A journal is a file and its logs.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];
/// A journal is damaged once in a while, not a thousand times: then somebody has to look.
const SET_ASIDE_MAX: u32 = 1_000;

/// What could be read of a journal that was set aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Salvaged {
    /// The memory, if that record can be read.
    pub memory: Option<Memory>,
    /// The messages that can be read and follow one another, from the oldest.
    pub messages: Vec<Kept>,
}

impl Salvaged {
    /// The reports of obligations that the site has not acknowledged, oldest first.
    pub fn reports(&self) -> Vec<Report> {
        let relieved = self.memory.as_ref().map_or(Sequence(0), |memory| memory.relieved);
        let unrelieved = self.messages.iter().filter(|message| message.sequence > relieved);
        let bodies = unrelieved
            .filter_map(|kept| serde_json::from_slice::<Message>(&kept.bytes).ok())
            .map(|message| message.body);
        let reports = bodies.filter_map(|body| match body {
            Body::Obligation(report) => Some(report),
            _ => None,
        });
        reports.collect()
    }
}

/// A name under which a journal of `data` can be set aside. Chosen, and noted durably, before the
/// journal moves, so that a crash in between loses sight of nothing.
pub fn free_name(data: &Path) -> Result<String, JournalError> {
    (1..=SET_ASIDE_MAX)
        .map(|n| format!("journal.damaged-{n}.db"))
        .find(|name| PARTS.iter().all(|part| !with_suffix(&data.join(name), part).exists()))
        .ok_or_else(|| JournalError::TooManySetAside { path: data.to_owned() })
}

/// Moves what there is of the journal of `data` to `name`, and reads what can be read there. May be
/// repeated. There is no journal afterwards; that is durable on return.
pub fn set_aside(data: &Path, name: &str) -> Result<Salvaged, JournalError> {
    let (journal, target) = (data.join(JOURNAL_FILE), data.join(name));
    // The file before its log: a crash in between leaves no journal that has lost its newest part.
    for suffix in PARTS {
        let (part, aside) = (with_suffix(&journal, suffix), with_suffix(&target, suffix));
        if part.exists() {
            publish::durable_move_new(&part, &aside)
                .map_err(|source| JournalError::SetAside { path: journal.clone(), source })?;
        }
    }
    Ok(read(&target).unwrap_or_default())
}

/// Reads as far as it goes: the first unreadable or unchained message ends it.
fn read(path: &Path) -> rusqlite::Result<Salvaged> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let memory = connection
        .query_row("SELECT body FROM one WHERE name = 'memory'", [], |row| row.get::<_, String>(0))
        .ok()
        .and_then(|body| serde_json::from_str(&body).ok());
    let mut messages: Vec<Kept> = Vec::new();
    let mut statement = connection.prepare(MESSAGES)?;
    let mut rows = statement.query([])?;
    while let Ok(Some(row)) = rows.next() {
        let Ok(next) = kept(row) else { break };
        let follows = messages.last().is_none_or(|last| {
            next.sequence == last.sequence.next() && next.chain == chain(last.chain, &next.bytes)
        });
        if !follows {
            break;
        }
        messages.push(next);
    }
    Ok(Salvaged { memory, messages })
}

/// One row of [`MESSAGES`].
pub(super) fn kept(row: &Row) -> rusqlite::Result<Kept> {
    let sequence: i64 = row.get(0)?;
    Ok(Kept {
        sequence: Sequence(sequence.unsigned_abs()),
        bytes: row.get(1)?,
        chain: Digest::from_bytes(row.get(2)?),
        written: Wall(row.get(3)?),
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
