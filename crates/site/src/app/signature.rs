//! Further signatures over published versions: a publisher's new key vouches for what its old key
//! signed. The bytes, and so the digest, stay as they are.

use muster_content::trust::{SIGNATURES_MAX, TrustDocument};
use muster_model::api::{SignAnswer, SignRequest};
use muster_model::id::PackageId;
use muster_model::object::Kind as ObjectKind;
use muster_model::policy::KeySignature;
use muster_model::sign::Domain;

use super::change::{About, Change, Code};
use super::error::{Outcome, Refusal};
use super::object::live_row;
use super::{App, Who, advertisement};
use crate::store::Subject;

impl App {
    /// Adds signatures to a published version. Each must fit the stored manifest; whether its key is
    /// believed is for the trust document to say, which may come later. Signatures of keys that are
    /// believed no more make room. Adding what is there does nothing.
    pub(crate) async fn package_sign(
        &self,
        who: &Who,
        id: PackageId,
        request: SignRequest,
    ) -> Outcome<SignAnswer> {
        self.check_fit(id, &request).await?;
        let trust = self.trust().await?;
        let mut change = Change::begin(self, who).await?;
        let found = live_row(&mut change.tx, ObjectKind::Package, id.0, None).await?;
        let version = &request.version;
        let row = change.tx.package_version_load(id, version).await?;
        let row = row.ok_or_else(|| Refusal::not_found("version", version))?;
        let (signatures, added) = joined(&row.signatures, &request.signatures, trust.document());
        if signatures.len() > SIGNATURES_MAX {
            let detail = format!("a manifest has at most {SIGNATURES_MAX} signatures");
            return Err(Refusal::invalid("signatures", detail).limit("SIGNATURES_MAX").into());
        }
        if added == 0 {
            return Ok(SignAnswer { added });
        }
        change.tx.package_version_sign(id, version, &signatures).await?;
        for row in change.tx.advertisement_list_package(id).await? {
            if row.version == *version {
                advertisement::offer_changed(&mut change, row.id).await?;
            }
        }
        change.concerns(Subject::Package(id.0));
        let keys: Vec<String> = request.signatures.iter().map(|one| one.key.id()).collect();
        let said = format!("package {}@{version} signed also by {}", found.name, keys.join(", "));
        change.say(Code::VersionSigned, About::default(), said);
        change.commit().await?;
        Ok(SignAnswer { added })
    }

    /// Refuses signatures that do not fit the stored manifest, which never changes.
    async fn check_fit(&self, id: PackageId, request: &SignRequest) -> Outcome<()> {
        let mut read = self.db.read().await?;
        let row = read.package_version_load(id, &request.version).await?;
        drop(read);
        let row = row.ok_or_else(|| Refusal::not_found("version", &request.version))?;
        let payload = self.object_get(row.manifest).await?;
        for one in &request.signatures {
            one.key.verify(Domain::Manifest, &payload, &one.signature).map_err(|_| {
                let detail = format!("the signature of {} does not fit the manifest", one.key.id());
                Refusal::invalid("signatures", detail)
            })?;
        }
        Ok(())
    }
}

/// What is there and believed, with what comes; and how many of these are new.
fn joined(
    there: &[KeySignature],
    new: &[KeySignature],
    document: Option<&TrustDocument>,
) -> (Vec<KeySignature>, u64) {
    let believed =
        |one: &&KeySignature| document.is_none_or(|held| held.publisher(&one.key).is_some());
    let mut all: Vec<KeySignature> = there.iter().filter(believed).copied().collect();
    let mut added = 0;
    for one in new {
        if all.iter().any(|other| other.key == one.key) {
            continue;
        }
        all.push(*one);
        added += u64::from(there.iter().all(|other| other.key != one.key));
    }
    (all, added)
}
