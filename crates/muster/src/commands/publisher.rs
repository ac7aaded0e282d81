//! `publisher init|add|revoke|rotate|list`: who may publish, as a chain of signed documents.

use std::path::Path;

use muster_content::trust::{Publisher, SignedTrust, TrustChange, TrustDocument};
use muster_model::api::TrustView;
use muster_model::name::Name;
use muster_model::sign::{PrivateKey, PublicKey};
use serde_json::json;

use crate::api::{Api, Query};
use crate::args::{Output, PublisherCommand};
use crate::error::{Failure, Outcome, Tried};
use crate::print::{answer, out, say, table};
use crate::publisher_key::{self, PublisherKey};
use serde::de::IgnoredAny;

mod published;

/// Every `publisher` command. `api` is absent only for `init --offline`.
pub(crate) async fn command(api: Option<&Api>, command: PublisherCommand) -> Outcome {
    match command {
        PublisherCommand::Init { key, name, offline, format } => {
            let path = publisher_key::path(key.key.as_deref())?;
            let key = match PublisherKey::find(&path)? {
                Some(key) => key,
                None => {
                    let key = PublisherKey::draw(name.map_or_else(default_name, Ok)?)?;
                    key.create(&path)?;
                    say(format!("the key lies in {}: keep a copy, off the site", path.display()));
                    key
                }
            };
            let number = match (offline, api) {
                (false, Some(api)) => Some(propose(api, &key).await?),
                _ => None,
            };
            show(format.output, &key, number)
        }
        PublisherCommand::Add { name, public, key } => {
            let public = public.parse().tried(|| format!("read the public key of {name}"))?;
            let mine = PublisherKey::load(key.key.as_deref())?;
            let change = TrustChange::Add(Publisher { name: name.clone(), key: public });
            let number = change_trust(connected(api)?, &[change], &mine.key).await?;
            out(format!("{name} may publish from trust document {number} on"));
            Ok(())
        }
        PublisherCommand::Revoke { name, dry_run, key, format } => {
            revoke(connected(api)?, &name, dry_run, key.key.as_deref(), format.output).await
        }
        PublisherCommand::Rotate { key } => rotate(connected(api)?, key.key.as_deref()).await,
        PublisherCommand::List(format) => list(connected(api)?, format.output).await,
    }
}

fn connected(api: Option<&Api>) -> Outcome<&Api> {
    api.ok_or_else(|| Failure::new("this needs a site; `publisher init --offline` does not"))
}

fn default_name() -> Outcome<Name> {
    let user = std::env::var("USER").unwrap_or_else(|_| "publisher".to_owned());
    Name::new(user).tried(|| "name the publisher after the user; give `--name`".into())
}

fn show(output: Output, key: &PublisherKey, number: Option<u64>) -> Outcome {
    let public = key.key.public();
    let found = json!({"name": key.name, "id": public.id(), "public": public, "trust": number});
    answer(output, &found, |_| {
        out(format!("publisher {}  id {}  public key {public}", key.name, public.id()));
        if let Some(number) = number {
            out(format!("named in trust document {number} of the site"));
        }
    })
}

/// Makes the key number 1 of a site that has no document; answers the number that names it.
async fn propose(api: &Api, key: &PublisherKey) -> Outcome<u64> {
    let Some(document) = newest(api).await? else {
        let me = Publisher { name: key.name.clone(), key: key.key.public() };
        let first = TrustDocument::first(me).tried(|| "make trust document 1".into())?;
        let IgnoredAny = api.post("/trust", &first.sign(&key.key)).await?;
        return Ok(1);
    };
    match document.publisher(&key.key.public()) {
        Some(_) => Ok(document.number()),
        None => Err(Failure::new(format!(
            "the site's trust document {} does not name this key",
            document.number()
        ))
        .hint(format!(
            "ask a publisher of the site to run `muster publisher add {} {}`",
            key.name,
            key.key.public()
        ))),
    }
}

/// The newest document of the site, checked for form.
async fn newest(api: &Api) -> Outcome<Option<TrustDocument>> {
    let view: TrustView = api.get("/trust", &Query::new()).await?;
    let Some(document) = view.document else { return Ok(None) };
    let tried = || "read the site's trust document".to_owned();
    let signed: SignedTrust = serde_json::from_value(document).tried(tried)?;
    TrustDocument::parse(&signed.payload).tried(tried).map(Some)
}

async fn change_trust(api: &Api, changes: &[TrustChange], key: &PrivateKey) -> Outcome<u64> {
    let document = newest(api).await?.ok_or_else(|| {
        Failure::new("the site has no trust document yet").hint("run `muster publisher init`")
    })?;
    let next = document.next(changes).tried(|| "make the next trust document".into())?;
    let IgnoredAny = api.post("/trust", &next.sign(key)).await?;
    Ok(next.number())
}

/// The new key is written before the site hears of it and takes the old one's place after, so a
/// crash between leaves both, and doing it again goes on. What the old key signed is signed again
/// before it is believed no more, so that at no moment anything becomes unrunnable; and once more
/// after, for what was published meanwhile.
async fn rotate(api: &Api, named: Option<&Path>) -> Outcome {
    let path = publisher_key::path(named)?;
    let old = PublisherKey::load(named)?;
    let fresh_path = path.with_extension("key.new");
    let fresh = match PublisherKey::find(&fresh_path)? {
        Some(fresh) => fresh,
        None => {
            let fresh = PublisherKey::draw(old.name.clone())?;
            fresh.create(&fresh_path)?;
            fresh
        }
    };
    let mut signed = published::sign_again(api, &old.key.public(), &fresh.key).await?;
    let known = newest(api).await?;
    let done = known.as_ref().and_then(|document| document.publisher(&fresh.key.public()));
    if done.is_none() {
        let publisher = Publisher { name: old.name.clone(), key: fresh.key.public() };
        change_trust(api, &[TrustChange::Rotate(publisher)], &old.key).await?;
        signed.extend(published::sign_again(api, &old.key.public(), &fresh.key).await?);
    }
    fresh.replace(&path)?;
    muster_host::publish::durable_remove(&fresh_path)
        .tried(|| format!("remove {}", fresh_path.display()))?;
    out(format!("{} signs with {} from now on", fresh.name, fresh.key.public().id()));
    signed.iter().for_each(|version| out(format!("  {version} is signed by it, too")));
    Ok(())
}

/// Removes a publisher; says what starts no more because nobody else signed it.
async fn revoke(
    api: &Api,
    name: &Name,
    dry_run: bool,
    key: Option<&Path>,
    output: Output,
) -> Outcome {
    let document = newest(api).await?.ok_or_else(|| Failure::new("the site has no publisher"))?;
    if !document.publishers().iter().any(|who| who.name == *name) {
        return Err(Failure::new(format!("the site believes no publisher called `{name}`"))
            .hint("`muster publisher list` shows whom it believes"));
    }
    let rest: Vec<PublicKey> =
        document.publishers().iter().filter(|who| who.name != *name).map(|who| who.key).collect();
    let unrunnable = published::signed_by_none_of(api, &rest).await?;
    let number = match dry_run {
        true => document.number(),
        false => {
            let mine = PublisherKey::load(key)?;
            change_trust(api, &[TrustChange::Revoke(name.clone())], &mine.key).await?
        }
    };
    let found = json!({"publisher": name, "trust": number, "unrunnable": unrunnable});
    answer(output, &found, |_| {
        match dry_run {
            true => out(format!("without {name}:")),
            false => {
                out(format!("{name} may no longer publish from trust document {number} on"));
            }
        }
        unrunnable.iter().for_each(|one| out(format!("  {one}")));
        if unrunnable.is_empty() {
            out("  every version that is published can still start");
        } else {
            say("hint: another publisher can publish these versions again, from the same manifest");
        }
    })
}

async fn list(api: &Api, output: Output) -> Outcome {
    let document = newest(api).await?;
    let publishers = document.as_ref().map(TrustDocument::publishers).unwrap_or_default();
    let items: Vec<_> = publishers
        .iter()
        .map(|who| json!({"name": who.name, "id": who.key.id(), "public": who.key}))
        .collect();
    let found = json!({
        "number": document.as_ref().map_or(0, TrustDocument::number),
        "threshold": document.as_ref().map(TrustDocument::threshold),
        "items": items, "next": null,
    });
    answer(output, &found, |_| {
        let rows =
            publishers.iter().map(|who| [who.name.to_string(), who.key.id(), who.key.to_string()]);
        table(&["publisher", "id", "public key"], rows);
    })
}
