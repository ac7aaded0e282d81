//! Requests of the device's users: left in a folder, durably, and taken by the agent, running now or
//! later.
//!
//! `DATA/requests/DIGEST.json`. A request is known by what it says, so leaving it twice leaves one. Who
//! can write to the agent's folder may ask; an agent listens on nothing, not even on the machine itself.

use std::fs;
use std::path::{Path, PathBuf};

use muster_agent_core::user::Request;
use muster_host::publish::{self, PublishError};
use muster_model::digest::Digest;

/// The folder in the data folder.
pub(crate) const REQUESTS_DIR: &str = "requests";
/// A request is two words, an id and a time.
const REQUEST_BYTES_MAX: u64 = 4096;
/// Requests that wait for the agent: more than people at one device ask for before it starts again.
const REQUESTS_MAX: usize = 64;

/// A request could not be left.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There are too many.
    #[error("{REQUESTS_MAX} requests wait for the agent already; does it run?")]
    TooMany,
    /// The file could not be written.
    #[error("failed to leave the request for the agent")]
    Save(#[from] PublishError),
    /// It cannot be written as JSON.
    #[error("failed to write the request down")]
    Json(#[from] serde_json::Error),
}

/// A request that lies in the folder.
#[derive(Debug)]
pub(crate) struct Left {
    /// Its file.
    pub(crate) path: PathBuf,
    /// What it asks for.
    pub(crate) request: Request,
}

/// Leaves a request in `data`; durable on return. The file is gone when the agent has taken it.
pub fn leave(data: &Path, request: &Request) -> Result<PathBuf, RequestError> {
    let folder = data.join(REQUESTS_DIR);
    publish::create_private_dir(&folder)?;
    let bytes = serde_json::to_vec(request)?;
    let path = folder.join(format!("{}.json", Digest::of(&bytes)));
    if files(&folder).len() >= REQUESTS_MAX && !path.exists() {
        return Err(RequestError::TooMany);
    }
    publish::durable_publish(&path, &bytes)?;
    Ok(path)
}

/// The first request that lies in `data`. What cannot be read is set aside with its bytes, so that it
/// never keeps the next one from being taken.
pub(crate) fn first(data: &Path) -> Option<Left> {
    let files = files(&data.join(REQUESTS_DIR));
    files.into_iter().find_map(|path| {
        let bytes = publish::read_if_there(&path, REQUEST_BYTES_MAX).ok().flatten();
        let request = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match request {
            Some(request) => Some(Left { path, request }),
            None => {
                set_aside(&path);
                None
            }
        }
    })
}

/// A second file of the same name goes: the first one shows what is wrong.
fn set_aside(path: &Path) {
    tracing::warn!(file = %path.display(), "a request that cannot be read is set aside");
    if publish::durable_move_new(path, &path.with_extension("bad")).is_err() {
        let _ = publish::durable_remove(path);
    }
}

/// Removes a request that was taken; false if its file stays.
pub(crate) fn taken(path: &Path) -> bool {
    let removed = publish::durable_remove(path);
    if let Err(error) = &removed {
        tracing::warn!(why = %crate::chain_of(error), "a request that was taken stays");
    }
    removed.is_ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::id::AdvertisementId;

    fn install(n: u128) -> Request {
        Request::Install { advertisement: AdvertisementId(uuid::Uuid::from_u128(n)) }
    }

    #[test]
    fn a_request_waits_until_it_is_taken_and_twice_is_once() {
        let data = tempfile::tempdir().unwrap();
        assert!(first(data.path()).is_none());
        leave(data.path(), &install(1)).unwrap();
        let path = leave(data.path(), &install(1)).unwrap();
        let left = first(data.path()).unwrap();
        assert_eq!((left.request, &left.path), (install(1), &path));
        assert!(taken(&path));
        assert!(first(data.path()).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_blocks_nothing() {
        let data = tempfile::tempdir().unwrap();
        leave(data.path(), &install(1)).unwrap();
        let folder = data.path().join(REQUESTS_DIR);
        fs::write(folder.join("0.json"), "no request").unwrap();
        assert_eq!(first(data.path()).unwrap().request, install(1));
        assert_eq!(fs::read_to_string(folder.join("0.bad")).unwrap(), "no request");
    }

    #[test]
    fn a_full_folder_refuses_by_name() {
        let data = tempfile::tempdir().unwrap();
        for n in 0..REQUESTS_MAX as u128 {
            leave(data.path(), &install(n)).unwrap();
        }
        assert!(matches!(leave(data.path(), &install(999)), Err(RequestError::TooMany)));
        leave(data.path(), &install(1)).unwrap();
    }
}
