//! `package publish|import|revoke`: content cut into objects, a manifest signed here, both given to
//! the site.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster_content::manifest::{Manifest as PackageManifest, SignedManifest};
use muster_content::tree::TreeBuilder;
use muster_model::advertisement::PackageRef;
use muster_model::api::{
    MissingAnswer, MissingRequest, OrderAnswer, PublishAnswer, PublishRequest, RevokeRequest,
};
use muster_model::digest::Digest;
use muster_model::name::Name;
use muster_model::object::{Object, Spec};
use muster_model::package::PackageSpec;
use muster_model::policy::KeySignature;

use crate::api::Api;
use crate::args::{KeyFile, PackageCommand};
use crate::error::{Failure, Outcome, Tried};
use crate::manifest::{self, Manifest};
use crate::print::{answer, out};
use crate::progress::Bar;
use crate::publisher_key::PublisherKey;
use crate::spool::Spool;

/// Objects asked after in one request.
const ASKED_AT_ONCE: usize = 1_000;

/// What publishing did.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest: Digest,
    pub(crate) objects: usize,
    pub(crate) uploaded: usize,
    pub(crate) change: String,
}

/// Every `package` command.
pub(crate) async fn command(api: &Api, command: PackageCommand) -> Outcome {
    match command {
        PackageCommand::Publish { file, content, key, format } => {
            let manifest = manifest::load_package(&file)?;
            let done = publish_manifest(api, &manifest, content.as_deref(), &key).await?;
            answer(format.output, &done, draw)
        }
        PackageCommand::Import { file, with_depends, name, key, format } => {
            let (object, spool) = super::import::debian(&file, with_depends, name)?;
            let done = publish(api, &object, spool, &key).await?;
            answer(format.output, &done, draw)
        }
        PackageCommand::Revoke { package, reason, format } => {
            let named: PackageRef =
                package.parse().tried(|| format!("read the package `{package}`"))?;
            let version = named
                .version
                .ok_or_else(|| Failure::usage("revoke takes one version").hint("NAME@VERSION"))?;
            let id = api.resolve("package", named.name.as_str()).await?;
            let request = RevokeRequest { version, reason, kill: false };
            let found: OrderAnswer = api.post(&format!("/packages/{id}/revoke"), &request).await?;
            answer(format.output, &found, |found| {
                out(format!("{package} is revoked; {}", super::orders::reach(found)));
            })
        }
    }
}

fn draw(done: &Published) {
    out(format!(
        "package {}@{}: {}; {} objects, {} uploaded; manifest {}",
        done.name,
        done.version,
        done.change,
        done.objects,
        done.uploaded,
        done.manifest.short()
    ));
}

/// Publishes the package of a manifest file.
pub(crate) async fn publish_manifest(
    api: &Api,
    manifest: &Manifest,
    content: Option<&Path>,
    key: &KeyFile,
) -> Outcome<Published> {
    let Spec::Package(spec) = &manifest.object.spec else {
        return Err(Failure::usage(format!("{} is no package", manifest.object.metadata.name)));
    };
    let named = spec.content.as_ref().map(|path| manifest.folder().join(path));
    let spool = Spool::new()?;
    let spool = match content.map(Path::to_path_buf).or(named) {
        Some(path) => fill(spool, &path).map_err(|failed| {
            failed.hint(format!("{} names it", manifest.place("spec.content")))
        })?,
        None => spool,
    };
    publish(api, &manifest.object, spool, key).await
}

/// Whether a manifest names its content by digest, as `export` writes it: there is nothing to
/// publish, and the site says whether it has that content.
pub(crate) fn is_exported(manifest: &Manifest) -> bool {
    let Spec::Package(PackageSpec { content: Some(content), .. }) = &manifest.object.spec else {
        return false;
    };
    content.parse::<Digest>().is_ok()
}

/// Cuts a folder or file into the spool.
fn fill(mut spool: Spool, path: &Path) -> Outcome<Spool> {
    let mut tree = TreeBuilder::new(spool.writer());
    let size = add(&mut tree, path, "", 0)?;
    let entries = tree.finish().tried(|| format!("package {}", path.display()))?;
    spool.entries = entries;
    spool.bytes = size;
    Ok(spool)
}

/// How deep folders are followed; the tree itself allows 32.
const DEPTH_MAX: usize = 64;

fn add<S: FnMut(Digest, &[u8]) -> std::io::Result<()>>(
    tree: &mut TreeBuilder<S>,
    path: &Path,
    name: &str,
    depth: usize,
) -> Outcome<u64> {
    let tried = || format!("package {}", path.display());
    if depth > DEPTH_MAX {
        return Err(Failure::usage(format!("{} lies deeper than {DEPTH_MAX}", path.display())));
    }
    let about = match depth {
        0 => std::fs::metadata(path),
        _ => std::fs::symlink_metadata(path),
    }
    .tried(tried)?;
    let mode = about.permissions().mode();
    if about.is_symlink() {
        let target = std::fs::read_link(path).tried(tried)?;
        let target = target.to_str().ok_or_else(|| not_utf8(&target))?;
        tree.add_symlink(name, target).tried(tried)?;
        return Ok(0);
    }
    if about.is_file() {
        let name = match (name, path.file_name().and_then(|name| name.to_str())) {
            ("", Some(own)) => own,
            ("", None) => return Err(not_utf8(path)),
            (name, _) => name,
        };
        let file = std::fs::File::open(path).tried(tried)?;
        tree.add_file(name, mode & 0o7777, file).tried(tried)?;
        return Ok(about.len());
    }
    if !about.is_dir() {
        return Err(Failure::usage(format!(
            "{} is no file, folder or symbolic link; a package holds nothing else",
            path.display()
        )));
    }
    if !name.is_empty() {
        tree.add_folder(name, mode).tried(tried)?;
    }
    let mut size = 0;
    for entry in std::fs::read_dir(path).tried(tried)? {
        let entry = entry.tried(tried)?;
        let own = entry.file_name();
        let own = own.to_str().ok_or_else(|| not_utf8(&entry.path()))?;
        let below = if name.is_empty() { own.to_owned() } else { format!("{name}/{own}") };
        size += add(tree, &entry.path(), &below, depth + 1)?;
    }
    Ok(size)
}

fn not_utf8(path: &Path) -> Failure {
    Failure::usage(format!("the name {} is not UTF-8; rename it", path.display()))
}

/// Signs the manifest over what the spool holds, uploads what the site lacks, and publishes.
async fn publish(api: &Api, object: &Object, spool: Spool, key: &KeyFile) -> Outcome<Published> {
    let Spec::Package(spec) = &object.spec else {
        return Err(Failure::usage("only packages are published"));
    };
    let name: &Name = &object.metadata.name;
    let tried = || format!("make the manifest of {name}");
    let key = PublisherKey::load(key.key.as_deref())?;
    let package = PackageManifest::new(name.clone(), spec.clone(), spool.entries.clone());
    let payload = package.tried(tried)?.encode().tried(tried)?;
    let signed = SignedManifest::sign(payload, &key.key);
    let manifest = signed.digest();
    spool.put(manifest, &signed.payload).tried(tried)?;
    let objects = spool.objects();
    let uploaded = upload(api, &spool, &objects).await?;
    let signatures = signed
        .signatures
        .iter()
        .map(|one| KeySignature { key: one.key, signature: one.signature })
        .collect();
    let request = PublishRequest { document: object.to_value(), manifest, signatures };
    let answered: PublishAnswer = api.post("/packages", &request).await?;
    Ok(Published {
        name: name.to_string(),
        version: spec.version.clone(),
        manifest,
        objects: objects.len(),
        uploaded,
        change: answered.change,
    })
}

async fn upload(api: &Api, spool: &Spool, objects: &[Digest]) -> Outcome<usize> {
    let bar = Bar::new("uploading", objects.len() as u64);
    let mut uploaded = 0;
    for digests in objects.chunks(ASKED_AT_ONCE) {
        let request = MissingRequest { digests: digests.to_vec() };
        let lacking: MissingAnswer = api.post("/objects/missing", &request).await?;
        bar.advance((digests.len() - lacking.missing.len()) as u64);
        for digest in lacking.missing {
            let bytes = spool.get(digest).tried(|| format!("read the object {digest} back"))?;
            api.put_bytes(&format!("/objects/{digest}"), bytes).await?;
            uploaded += 1;
            bar.advance(1);
        }
    }
    bar.done();
    Ok(uploaded)
}
