//! Credentials that were looked up, until any credential changes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_site_core::occurrence::Revision;

use super::Who;

/// People and pipelines that are remembered; beyond it all are looked up anew.
const CREDENTIALS_MAX: usize = 10_000;

/// Who shows which credential, as of the revision of the last change of any credential.
#[derive(Default)]
pub(crate) struct Credentials(Mutex<(Revision, HashMap<Digest, Known>)>);

/// Somebody, and until when the credential is good.
type Known = (Who, Option<Wall>);

impl Credentials {
    /// Who it is, if the credential is known at `revision` and good at `now`.
    pub(crate) fn get(&self, digest: &Digest, revision: Revision, now: Wall) -> Option<Who> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, known) = &*held;
        let (who, expires) = known.get(digest).filter(|_| *of == revision)?;
        expires.is_none_or(|expires| now < expires).then(|| who.clone())
    }

    pub(crate) fn put(&self, digest: Digest, revision: Revision, who: Known) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, known) = &mut *held;
        if *of != revision || known.len() >= CREDENTIALS_MAX {
            known.clear();
            *of = revision;
        }
        known.insert(digest, who);
    }
}
