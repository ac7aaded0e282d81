//! Packages: publishing a signed version, revoking one.

use muster_content::envelope::KeySignature;
use muster_content::manifest::{MANIFEST_BYTES_MAX, SignedManifest};
use muster_content::trust::VerifiedManifest;
use muster_host::objects::ObjectError;
use muster_model::api::{PublishAnswer, PublishRequest};
use muster_model::digest::Digest;
use muster_model::id::PackageId;
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Metadata, Object, Spec};
use muster_model::package::PackageSpec;
use muster_model::policy::PinnedPackage;
use muster_site_core::edit::{Publish, PublishedVersion, plan_publish};
use uuid::Uuid;

use super::change::{About, Change, Code};
use super::error::{AppError, Outcome, Refusal, Tried};
use super::live::package_spec;
use super::{App, Who, object};
use crate::store::{ObjectRow, PackageObject, PackageVersionRow, Read, Subject};

impl App {
    /// Publishes a version of a package whose objects were uploaded. The same version with the same
    /// bytes again changes nothing; with other bytes it is refused.
    pub(crate) async fn package_publish(
        &self,
        who: &Who,
        request: PublishRequest,
    ) -> Outcome<PublishAnswer> {
        let given = Object::from_value(request.document.clone())
            .map_err(|problems| Refusal::problems(&problems))?;
        let Object { metadata, spec: Spec::Package(spec) } = given else {
            return Err(Refusal::invalid("kind", "only packages are published").into());
        };
        let verified = self.verify_manifest(&request).await?;
        check_same(&metadata.name, &spec, &verified)?;
        let objects = self.objects_of(&verified).await?;
        let mut change = Change::begin(self, who).await?;
        let mut found = change.tx.object_find(ObjectKind::Package, &metadata.name).await?;
        if let (None, Some(former)) = (&found, &metadata.formerly) {
            found = change.tx.object_find(ObjectKind::Package, former).await?;
        }
        let id = found.as_ref().map_or_else(Uuid::now_v7, |row| row.id);
        let published = change.tx.package_version_load(PackageId(id), &spec.version).await?;
        let known = published.as_ref().map(|row| row.manifest);
        let plan = plan_publish(&metadata.name, &spec.version, verified.digest(), known);
        match plan.map_err(|problem| Refusal {
            field: Some(problem.field),
            ..Refusal::conflict(problem.detail)
        })? {
            Publish::Same => return Ok(PublishAnswer { id, change: "unchanged".to_owned() }),
            Publish::New => {}
        }
        let is_new = found.is_none();
        let name = metadata.name.clone();
        let document = stored_document(metadata, &spec, verified.digest());
        write_object(&mut change, id, found, document).await?;
        let row = PackageVersionRow {
            package: PackageId(id),
            version: spec.version.clone(),
            manifest: verified.digest(),
            spec: serde_json::to_string(verified.manifest().spec()).tried("write a spec")?,
            signatures: request.signatures,
            content_bytes: verified.manifest().content_bytes(),
            published: change.revision,
            published_at: change.now,
            published_by: change.by.clone(),
            revoked: None,
        };
        change.tx.package_version_insert(&row, &objects).await?;
        change.concerns(Subject::Package(id));
        let by = &verified.publisher().name;
        let said = format!("package {name}@{} published, signed by {by}", row.version);
        change.say(Code::VersionPublished, About::default(), said);
        super::advertisement::track_latest(&mut change, PackageId(id)).await?;
        change.commit().await?;
        let change = if is_new { "created" } else { "published" };
        Ok(PublishAnswer { id, change: change.to_owned() })
    }

    /// The manifest that a request names, if somebody whom the site believes has signed it.
    async fn verify_manifest(&self, request: &PublishRequest) -> Outcome<VerifiedManifest> {
        let payload = match self.objects.get(request.manifest).await {
            Ok(bytes) => bytes,
            Err(ObjectError::Missing(digest)) => {
                let detail = format!("the manifest {digest} was not uploaded");
                return Err(Refusal::invalid("manifest", detail).into());
            }
            Err(error) => return Err(error).tried("read a manifest"),
        };
        if payload.len() > MANIFEST_BYTES_MAX {
            let detail = format!("a manifest has at most {MANIFEST_BYTES_MAX} bytes");
            return Err(Refusal::invalid("manifest", detail).limit("MANIFEST_BYTES_MAX").into());
        }
        let signatures = request.signatures.iter();
        let signed = SignedManifest {
            payload: payload.to_vec(),
            signatures: signatures
                .map(|one| KeySignature { key: one.key, signature: one.signature })
                .collect(),
        };
        let trust = self.trust().await?;
        trust.verify_manifest(&signed).map_err(|why| {
            let hint = "`muster publisher list` shows whom the site believes";
            Refusal::invalid("signatures", chain(&why)).hint(hint).into()
        })
    }

    /// The stored objects that a manifest needs, itself first; refuses if one is missing.
    async fn objects_of(&self, verified: &VerifiedManifest) -> Outcome<Vec<PackageObject>> {
        let mut needed = vec![verified.digest()];
        let files = verified.manifest().files();
        needed.extend(files.flat_map(|file| file.chunks.iter().map(|chunk| chunk.object)));
        let mut seen = std::collections::HashSet::new();
        needed.retain(|digest| seen.insert(*digest));
        let mut read = self.db.read().await?;
        let stored = read.content_load_many(&needed).await?;
        let stored: std::collections::HashMap<Digest, u64> =
            stored.into_iter().map(|row| (row.digest, row.bytes)).collect();
        let size = |digest: Digest| {
            let bytes = stored.get(&digest).copied();
            bytes.map(|bytes| PackageObject { digest, bytes }).ok_or(digest)
        };
        needed.into_iter().map(size).collect::<Result<_, _>>().map_err(|digest| {
            let detail = format!("the object {digest}, which the manifest needs, was not uploaded");
            Refusal::invalid("manifest", detail).into()
        })
    }
}

/// Writes a version as if it had been published, for a dry run, whose transaction is taken back: so
/// what else is applied finds it. Nobody has signed it, and it has no content.
pub(crate) async fn suppose_published(
    change: &mut Change<'_>,
    document: &Object,
    spec: &PackageSpec,
) -> Outcome<()> {
    let found = change.tx.object_find(ObjectKind::Package, &document.metadata.name).await?;
    let id = found.as_ref().map_or_else(Uuid::now_v7, |row| row.id);
    let said = serde_json::to_string(spec).tried("write a spec")?;
    let manifest = Digest::of(said.as_bytes());
    let stored = stored_document(document.metadata.clone(), spec, manifest);
    write_object(change, id, found, stored).await?;
    let row = PackageVersionRow {
        package: PackageId(id),
        version: spec.version.clone(),
        manifest,
        spec: said,
        signatures: Vec::new(),
        content_bytes: 0,
        published: change.revision,
        published_at: change.now,
        published_by: change.by.clone(),
        revoked: None,
    };
    Ok(change.tx.package_version_insert(&row, &[]).await?)
}

/// The manifest says what the document says.
fn check_same(
    name: &Name,
    spec: &PackageSpec,
    verified: &VerifiedManifest,
) -> Result<(), AppError> {
    let manifest = verified.manifest();
    let plain = PackageSpec { content: None, ..spec.clone() };
    if manifest.name() != name {
        let detail = format!("the manifest is signed for package `{}`", manifest.name());
        return Err(Refusal::invalid("metadata.name", detail).into());
    }
    if *manifest.spec() != plain {
        let detail = "the signed manifest says something else than the document";
        return Err(Refusal::invalid("spec", detail).into());
    }
    Ok(())
}

/// The document as it is kept: its content is named by the digest of the manifest.
fn stored_document(metadata: Metadata, spec: &PackageSpec, manifest: Digest) -> Object {
    let spec = PackageSpec { content: Some(manifest.to_string()), ..spec.clone() };
    Object { metadata: Metadata { formerly: None, ..metadata }, spec: Spec::Package(spec) }
}

async fn write_object(
    change: &mut Change<'_>,
    id: Uuid,
    found: Option<ObjectRow>,
    document: Object,
) -> Outcome<()> {
    match found {
        Some(row) => {
            let (old, new) = (row.name.clone(), document.metadata.name.clone());
            if old != new {
                super::dependency::check_rename(&mut change.tx, PackageId(row.id), &old).await?;
            }
            object::update(change, row, &document, None).await?;
            match old == new {
                true => Ok(()),
                false => object::rename_in_users(change, ObjectKind::Package, &old, &new).await,
            }
        }
        None => object::insert(change, id, &document, None).await,
    }
}

/// The versions of a package as edits see them, the oldest first.
pub(crate) async fn versions(
    read: &mut Read,
    id: PackageId,
    name: &Name,
) -> Outcome<Vec<PublishedVersion>> {
    let mut versions = Vec::new();
    for row in read.package_version_list(id).await?.into_iter().rev() {
        versions.push(PublishedVersion {
            spec: package_spec(&row)?,
            pinned: PinnedPackage {
                name: name.clone(),
                version: row.version,
                manifest: row.manifest,
                signatures: row.signatures,
            },
            revoked: row.revoked.is_some(),
        });
    }
    Ok(versions)
}

/// An error with its causes, for a person whose input it is about.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
