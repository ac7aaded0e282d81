//! The published versions and who signed them, as the site shows them.
//!
//! A site is not believed about signatures: a key signs again only what it has itself found signed by
//! the key before, byte for byte. Otherwise a site could have any manifest signed by claiming so.

use std::fmt;

use muster_content::manifest::Manifest;
use muster_model::api::{SignAnswer, SignRequest};
use muster_model::digest::Digest;
use muster_model::object::Kind;
use muster_model::policy::KeySignature;
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::api::{Api, Query};
use crate::error::{Failure, Outcome, Tried};

/// One published version.
struct Published {
    package: Uuid,
    name: String,
    version: Version,
}

/// What the site says of it.
#[derive(Deserialize)]
struct Version {
    version: String,
    manifest: Digest,
    signatures: Vec<KeySignature>,
    revoked: Option<Value>,
}

/// A version that starts no more.
#[derive(Serialize)]
pub(super) struct Unrunnable {
    package: String,
    version: String,
    /// The live advertisements that pin it.
    advertisements: Vec<String>,
}

impl fmt::Display for Unrunnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, version, advertisements } = self;
        write!(f, "{package}@{version} starts no more: nobody else signed it")?;
        match advertisements.as_slice() {
            [] => Ok(()),
            some => write!(f, "; advertised by {}", some.join(", ")),
        }
    }
}

async fn list(api: &Api) -> Outcome<Vec<Published>> {
    let packages: Vec<Value> = api.all("/packages", &Query::new(), None).await?;
    let mut all = Vec::new();
    for package in packages {
        let tried = || "understand the site's packages".to_owned();
        let id: Uuid = serde_json::from_value(package["metadata"]["id"].clone()).tried(tried)?;
        let name = package["metadata"]["name"].as_str().unwrap_or_default();
        let versions: Vec<Version> =
            serde_json::from_value(package["status"]["published"].clone()).tried(tried)?;
        all.extend(versions.into_iter().map(|version| Published {
            package: id,
            name: name.to_owned(),
            version,
        }));
    }
    Ok(all)
}

/// Signs with `fresh` what `old` signed and `fresh` did not; answers `NAME@VERSION` of each.
pub(super) async fn sign_again(
    api: &Api,
    old: &PublicKey,
    fresh: &PrivateKey,
) -> Outcome<Vec<String>> {
    let mut done = Vec::new();
    for Published { package, name, version } in list(api).await? {
        let by = |key: &PublicKey| version.signatures.iter().find(|one| one.key == *key);
        let (Some(signed), None) = (by(old), by(&fresh.public())) else { continue };
        let called = format!("{name}@{}", version.version);
        let payload = api.get_bytes(&format!("/objects/{}", version.manifest)).await?;
        check(&payload, &version, signed).map_err(|why| {
            Failure::new(format!("failed to sign {called} again: {why}"))
                .hint("`muster doctor` looks at the site; nothing was signed that did not fit")
        })?;
        let signature =
            KeySignature { key: fresh.public(), signature: fresh.sign(Domain::Manifest, &payload) };
        let request = SignRequest { version: version.version, signatures: vec![signature] };
        let _: SignAnswer = api.post(&format!("/packages/{package}/sign"), &request).await?;
        done.push(called);
    }
    Ok(done)
}

/// Whether these are the bytes that the old key signed.
fn check(payload: &[u8], version: &Version, signed: &KeySignature) -> Result<(), String> {
    if Digest::of(payload) != version.manifest {
        return Err("the site answers other bytes than the digest names".to_owned());
    }
    let fits = signed.key.verify(Domain::Manifest, payload, &signed.signature);
    fits.map_err(|_| "the old key never signed it".to_owned())?;
    Manifest::parse(payload).map(drop).map_err(|why| why.to_string())
}

/// Versions that no key of `believed` signed, unless they are revoked already.
pub(super) async fn signed_by_none_of(
    api: &Api,
    believed: &[PublicKey],
) -> Outcome<Vec<Unrunnable>> {
    let path = format!("/{}s", Kind::Advertisement.word());
    let advertisements: Vec<Value> = api.all(&path, &Query::new(), None).await?;
    let pinned = |manifest: &Digest| {
        let pins = |one: &&Value| {
            one["status"]["pinned"]["manifest"] == manifest.to_string()
                && one["status"]["standing"] == "live"
        };
        let name = |one: &Value| one["metadata"]["name"].as_str().map(str::to_owned);
        advertisements.iter().filter(pins).filter_map(name).collect()
    };
    let lost = |one: &Published| {
        let mut keys = one.version.signatures.iter().map(|signature| signature.key);
        one.version.revoked.is_none() && !keys.any(|key| believed.contains(&key))
    };
    let versions = list(api).await?.into_iter().filter(lost);
    Ok(versions
        .map(|one| Unrunnable {
            advertisements: pinned(&one.version.manifest),
            package: one.name,
            version: one.version.version,
        })
        .collect())
}
