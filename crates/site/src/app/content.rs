//! Objects by digest: uploading what a package needs, handing it out.

use bytes::Bytes;
use muster_content::manifest::MANIFEST_BYTES_MAX;
use muster_host::objects::ObjectError;
use muster_model::api::{MissingAnswer, MissingRequest, PAGE_ITEMS_MAX};
use muster_model::digest::Digest;

use super::App;
use super::error::{AppError, Kind, Outcome, Refusal};
use crate::store::ContentRow;

/// Bytes of one uploaded object: the largest manifest; chunks are far smaller.
pub(crate) const UPLOAD_BYTES_MAX: usize = MANIFEST_BYTES_MAX;

impl App {
    /// Stores an object; durable on return. Storing it again does nothing.
    pub(crate) async fn object_put(&self, digest: Digest, bytes: Bytes) -> Outcome<()> {
        let length = bytes.len() as u64;
        let stored = self.objects.put(digest, bytes).await;
        stored.inspect_err(|error| self.end_if_fatal(error)).map_err(|error| match error {
            ObjectError::Mismatch { .. } => Refusal::invalid("body", error.to_string()).into(),
            error if error.is_full() => {
                let detail = "the site has no room left for content";
                Refusal::new(Kind::Full, detail).hint("raise --quota, or make room").into()
            }
            error => AppError::Fault("store an object", Box::new(error)),
        })?;
        let mut tx = self.db.begin().await?;
        let row = ContentRow { digest, bytes: length, stored_at: self.now() };
        tx.content_insert_many(&[row]).await?;
        Ok(tx.commit().await?)
    }

    /// Which of these objects the site lacks.
    pub(crate) async fn objects_missing(&self, request: MissingRequest) -> Outcome<MissingAnswer> {
        if request.digests.len() > PAGE_ITEMS_MAX as usize {
            let detail = format!("at most {PAGE_ITEMS_MAX} digests in one request");
            return Err(Refusal::new(Kind::Limit, detail).limit("PAGE_ITEMS_MAX").into());
        }
        let mut read = self.db.read().await?;
        let stored = read.content_load_many(&request.digests).await?;
        let stored: std::collections::HashSet<Digest> =
            stored.into_iter().map(|row| row.digest).collect();
        let mut missing = request.digests;
        missing.retain(|digest| !stored.contains(digest));
        Ok(MissingAnswer { missing })
    }

    /// The bytes of an object.
    pub(crate) async fn object_get(&self, digest: Digest) -> Outcome<Bytes> {
        self.objects.get(digest).await.map_err(|error| match error {
            ObjectError::Missing(digest) => {
                Refusal::new(Kind::NotFound, format!("there is no object {digest}")).into()
            }
            error => AppError::Fault("read an object", Box::new(error)),
        })
    }
}
