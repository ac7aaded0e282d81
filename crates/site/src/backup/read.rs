//! Reads a backup into an empty folder and an empty database.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use muster_host::objects::{DirStore, ObjectStore};
use muster_model::digest::Digest;
use muster_model::id::EpochId;
use serde_json::{Map, Value};
use tar::{Archive, Entry};

use super::{About, BACKUP_FORMAT, BackupError, ROW_BYTES_MAX, Report, keys, keys_path};
use crate::folder::{Folder, SiteConfig};
use crate::store::{Db, Location, SQLITE_FILE, TableShape, Tx};

/// Rows that are loaded at once.
const ROWS_AT_ONCE: usize = 1_000;
/// The largest object of content.
const OBJECT_BYTES_MAX: u64 = muster_host::objects::OBJECT_BYTES_MAX;
/// The largest small entry (`backup.json`, `site.json`).
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// What a restore is given.
#[derive(Clone, Debug)]
pub struct Restore<'a> {
    /// An empty folder, or none yet.
    pub data: &'a Path,
    /// The backup.
    pub file: &'a Path,
    /// What opens the keys, if they are sealed.
    pub passphrase: Option<&'a str>,
    /// An empty PostgreSQL database; without it the site keeps its state in SQLite, unless the backup
    /// is of a PostgreSQL site.
    pub database: Option<String>,
    /// The new epoch, drawn by the caller.
    pub epoch: EpochId,
}

type Source<'a> = zstd::Decoder<'a, BufReader<BufReader<File>>>;

/// Makes a site of a backup. The configuration is written last: before that there is no site in the
/// folder, and the same call may be made again on an empty one.
pub async fn restore(ask: Restore<'_>) -> Result<Report, BackupError> {
    let damaged = |why: &str| BackupError::Damaged { path: ask.file.into(), why: why.to_owned() };
    let io = |source| BackupError::Io { what: "read the backup", path: ask.file.into(), source };
    let source = BufReader::new(File::open(ask.file).map_err(io)?);
    let mut archive = Archive::new(zstd::Decoder::new(source).map_err(io)?);
    let mut entries = archive.entries().map_err(io)?;
    let mut head = |name: &str| -> Result<Vec<u8>, BackupError> {
        let entry = entries.next().ok_or_else(|| damaged("it ends early"))?;
        let mut entry = entry.map_err(|_| damaged("it is no backup of Muster"))?;
        let found = entry_name(&entry).ok_or_else(|| damaged("it is no backup of Muster"))?;
        if found != name {
            return Err(damaged("it is no backup of Muster"));
        }
        whole(&mut entry, HEAD_BYTES_MAX).ok_or_else(|| damaged("its head is cut short"))
    };
    let about: About = serde_json::from_slice(&head("backup.json")?)
        .map_err(|_| damaged("its head cannot be read"))?;
    if about.format > BACKUP_FORMAT {
        return Err(damaged("a newer version wrote it"));
    }
    let config: SiteConfig = serde_json::from_slice(&head("site.json")?)
        .map_err(|_| damaged("its configuration cannot be read"))?;
    let config = configure(config, ask.database.clone())?;

    let folder = Folder::at(ask.data);
    folder.make()?;
    let sealed = keys::load(&keys_path(ask.file), &folder.keys_dir(), ask.passphrase)?;
    folder.keys()?;
    let location = match &config.database {
        Some(url) => Location::Postgres(url.clone()),
        None => Location::Sqlite(ask.data.join(SQLITE_FILE)),
    };
    let db = Db::open(location).await?;
    let mut tx = db.begin().await?;
    if tx.site_load().await?.is_some() {
        return Err(BackupError::DatabaseTaken);
    }
    let tables = tx.tables().await?;
    tx.empty(&tables).await?;
    let store = DirStore::open(&folder.content(&config), None)?;
    let (mut rows, mut objects) = (0, 0);
    for entry in entries {
        let mut entry = entry.map_err(|_| damaged("it is cut short"))?;
        let name = entry_name(&entry).ok_or_else(|| damaged("an entry has no name"))?;
        if let Some(table) = name.strip_prefix("rows/").and_then(|n| n.strip_suffix(".jsonl")) {
            let table = tables.iter().find(|known| known.name == table);
            let table = table.ok_or_else(|| damaged(&format!("{name} is of no table")))?;
            rows += load(&mut tx, table, entry, ask.file).await?;
        } else if let Some(digest) = name.strip_prefix("content/") {
            let digest: Digest =
                digest.parse().map_err(|_| damaged(&format!("{name} is no object")))?;
            let bytes = whole(&mut entry, OBJECT_BYTES_MAX);
            let bytes = bytes.ok_or_else(|| damaged(&format!("{name} is cut short")))?;
            store.put(digest, bytes.into()).await?;
            objects += 1;
        } else {
            return Err(damaged(&format!("{name} is none of its parts")));
        }
    }
    tx.renumber(&tables).await?;
    let mut site = tx.site_load().await?.ok_or_else(|| damaged("it holds no site"))?;
    site.epoch = ask.epoch;
    tx.site_update(&site).await?;
    tx.commit().await?;
    db.close().await;
    folder.save_config(&config)?;
    Ok(Report { code: about.code, rows, objects, keys_sealed: sealed })
}

/// The restored site keeps its address; content goes below its folder.
fn configure(config: SiteConfig, database: Option<String>) -> Result<SiteConfig, BackupError> {
    if config.database.is_some() && database.is_none() {
        return Err(BackupError::NoDatabase);
    }
    Ok(SiteConfig { database, content: None, ..config })
}

fn entry_name(entry: &Entry<'_, Source<'_>>) -> Option<String> {
    let path: PathBuf = entry.path().ok()?.into_owned();
    path.to_str().map(str::to_owned)
}

fn whole(entry: &mut Entry<'_, Source<'_>>, most: u64) -> Option<Vec<u8>> {
    let size = entry.size();
    if size > most {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
    entry.take(most).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

async fn load(
    tx: &mut Tx,
    table: &TableShape,
    entry: Entry<'_, Source<'_>>,
    file: &Path,
) -> Result<u64, BackupError> {
    let damaged = |why: &str| BackupError::Damaged {
        path: file.into(),
        why: format!("the rows of {}: {why}", table.name),
    };
    let mut lines = BufReader::new(entry);
    let (mut rows, mut count) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let most = ROW_BYTES_MAX as u64;
        let read = (&mut lines).take(most).read_until(b'\n', &mut line);
        if read.map_err(|_| damaged("cut short"))? == 0 {
            break;
        }
        let row: Map<String, Value> =
            serde_json::from_slice(&line).map_err(|why| damaged(&why.to_string()))?;
        rows.push(row);
        count += 1;
        if rows.len() == ROWS_AT_ONCE {
            tx.load(table, &rows).await?;
            rows.clear();
        }
    }
    tx.load(table, &rows).await?;
    Ok(count)
}
