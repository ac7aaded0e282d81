//! Credentials that were looked up, until any credential changes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_model::digest::Digest;
use muster_site_core::occurrence::Revision;

use super::Who;

/// People and pipelines that are remembered; beyond it all are looked up anew.
const CREDENTIALS_MAX: usize = 10_000;

/// Who shows which credential, as of the revision of the last change of any credential.
#[derive(Default)]
pub(crate) struct Credentials(Mutex<(Revision, HashMap<Digest, Who>)>);

impl Credentials {
    pub(crate) fn get(&self, digest: &Digest, revision: Revision) -> Option<Who> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, known) = &*held;
        if *of == revision { known.get(digest).cloned() } else { None }
    }

    pub(crate) fn put(&self, digest: Digest, revision: Revision, who: Who) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, known) = &mut *held;
        if *of != revision || known.len() >= CREDENTIALS_MAX {
            known.clear();
            *of = revision;
        }
        known.insert(digest, who);
    }
}
