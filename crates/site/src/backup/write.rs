//! Writes a backup: one look at the rows, then the content that they name and all other.

use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;

use muster_host::objects::{DirStore, ObjectStore};
use muster_host::publish::Draft;
use muster_model::clock::Wall;
use tar::{Builder, Header};

use super::{About, BACKUP_FORMAT, BackupError, Report, keys, keys_path};
use crate::folder::Folder;
use crate::store::{Db, Read, TableShape};

/// The compression level: backups are mostly content that is compressed already.
const ZSTD_LEVEL: i32 = 3;

/// Objects listed at once.
const OBJECTS_AT_ONCE: usize = 1_000;

type Archive<'a> = Builder<zstd::Encoder<'a, BufWriter<&'a mut Draft>>>;

/// Backs the site at `data` up into `file` and `file.keys`. The site may run meanwhile. Durable on
/// return; on failure neither file exists.
pub async fn write(
    data: &Path,
    file: &Path,
    passphrase: Option<&str>,
    now: Wall,
) -> Result<Report, BackupError> {
    let folder = Folder::at(data);
    let config = folder.config()?;
    let keys_file = keys_path(file);
    for path in [file, &keys_file] {
        if path.exists() {
            return Err(BackupError::Exists(path.into()));
        }
    }
    let db = Db::open(folder.database(&config)).await?;
    let mut read = db.read().await?;
    let site = read.site_load().await?.ok_or_else(|| damaged(data, "it has no row of its own"))?;
    let about = About {
        format: BACKUP_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        code: site.code.clone(),
        epoch: site.epoch,
        created: now,
    };
    let mut draft = Draft::beside(file, 0o600)?;
    let io = |source| BackupError::Io { what: "write the backup", path: file.into(), source };
    let encoder = zstd::Encoder::new(BufWriter::new(&mut draft), ZSTD_LEVEL).map_err(io)?;
    let mut archive = Builder::new(encoder);
    append(&mut archive, "backup.json", &json(&about)).map_err(io)?;
    append(&mut archive, "site.json", &json(&config)).map_err(io)?;
    let mut rows = 0;
    for table in read.tables().await? {
        rows += append_rows(&mut archive, &mut read, &table, file).await?;
    }
    drop(read);
    let objects = append_content(&mut archive, &folder.content(&config), file).await?;
    let encoder = archive.into_inner().map_err(io)?;
    encoder.finish().and_then(|mut writer| writer.flush()).map_err(io)?;
    keys::save(&folder.keys_dir(), &keys_file, passphrase)?;
    draft.publish_new()?;
    db.close().await;
    Ok(Report { code: site.code, rows, objects, keys_sealed: passphrase.is_some() })
}

fn damaged(path: &Path, why: &str) -> BackupError {
    BackupError::Damaged { path: path.into(), why: why.to_owned() }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn append(archive: &mut Archive<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    append_stream(archive, name, bytes.len() as u64, bytes)
}

fn append_stream(
    archive: &mut Archive<'_>,
    name: &str,
    size: u64,
    bytes: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o600);
    archive.append_data(&mut header, name, bytes)
}

/// Rows go through a scratch file, since an entry begins with its length.
async fn append_rows(
    archive: &mut Archive<'_>,
    read: &mut Read,
    table: &TableShape,
    file: &Path,
) -> Result<u64, BackupError> {
    let io = |source| BackupError::Io { what: "write the backup", path: file.into(), source };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut scratch = tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(io)?;
    let mut writer = BufWriter::new(&mut scratch);
    let (mut rows, mut failed) = (0, None);
    read.dump(table, |row| {
        let written = serde_json::to_writer(&mut writer, &row)
            .map_err(io::Error::from)
            .and_then(|()| writer.write_all(b"\n"));
        rows += 1;
        failed = written.err();
        failed.is_none()
    })
    .await?;
    if let Some(source) = failed {
        return Err(io(source));
    }
    writer.flush().map_err(io)?;
    drop(writer);
    let size = scratch.stream_position().map_err(io)?;
    scratch.rewind().map_err(io)?;
    append_stream(archive, &format!("rows/{}.jsonl", table.name), size, scratch.take(size))
        .map_err(io)?;
    Ok(rows)
}

async fn append_content(
    archive: &mut Archive<'_>,
    content: &Path,
    file: &Path,
) -> Result<u64, BackupError> {
    let io = |source| BackupError::Io { what: "write the backup", path: file.into(), source };
    let store = DirStore::open(content, None)?;
    let (mut after, mut objects) = (None, 0);
    loop {
        let stored = store.list(after, OBJECTS_AT_ONCE).await?;
        let Some(last) = stored.last() else { return Ok(objects) };
        after = Some(last.digest);
        for object in &stored {
            let bytes = store.get(object.digest).await?;
            append(archive, &format!("content/{}", object.digest), &bytes).map_err(io)?;
            objects += 1;
        }
    }
}
