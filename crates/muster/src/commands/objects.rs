//! `apply`, `diff`, `export`, `get`, `describe`, `delete`, `rename`: objects as manifests.

use std::path::PathBuf;

use muster_model::api::{ApplyAnswer, ApplyRequest, DeviceView, Page, RenameRequest};
use muster_model::collection::ALL;
use muster_model::object::{Kind, Object};
use muster_model::settings::{SETTING_LEAST, Setting, Settings};
use serde_json::Value;

use crate::api::{Api, Query};
use crate::args::{self, Output};
use crate::commands::package::Published;
use crate::error::{Exit, Failure, Outcome};
use crate::manifest::{self, Manifest};
use crate::print::{answer, dash, out, say, table, time};
use serde::de::IgnoredAny;

/// The kind that a word of the command line means. `deployment` and `ad` are advertisement's only
/// aliases.
pub(crate) fn kind(word: &str) -> Outcome<Kind> {
    match word.to_lowercase().replace('-', "").trim_end_matches('s') {
        "package" => Ok(Kind::Package),
        "collection" => Ok(Kind::Collection),
        "advertisement" | "deployment" | "ad" => Ok(Kind::Advertisement),
        // The hyphen may be left out, as in the manifest's `MaintenanceWindow`.
        "maintenancewindow" => Ok(Kind::MaintenanceWindow),
        _ => Err(Failure::usage(format!("no kind is called `{word}`"))
            .hint("kinds: package, collection, advertisement, maintenance-window, device")),
    }
}

fn is_device(word: &str) -> bool {
    matches!(word.to_lowercase().as_str(), "device" | "devices")
}

/// `apply -f`.
pub(crate) async fn apply(api: &Api, args: args::Apply) -> Outcome {
    let manifests = manifest::load(&args.files.file)?;
    let packages: Vec<&Manifest> =
        manifests.iter().filter(|manifest| manifest.object.kind() == Kind::Package).collect();
    let mut published = Vec::new();
    for package in packages {
        if args.dry_run || super::package::is_exported(package) {
            continue;
        }
        published.push(super::package::publish_manifest(api, package, None, &args.key).await?);
    }
    let mut request = request(&manifests, args.dry_run, args.set, args.prune);
    // A version that was published just now overwrote nothing, and is what the object says now.
    for (document, manifest) in request.documents.iter_mut().zip(&manifests) {
        let name = manifest.object.metadata.name.as_str();
        let is_new = |done: &Published| done.name == name && done.change != "unchanged";
        if manifest.object.kind() == Kind::Package && published.iter().any(is_new) {
            *document = manifest.object.to_value();
        }
    }
    let mut found: ApplyAnswer = send(api, &manifests, &request).await?;
    // A package counts as changed by what publishing it did, which was just before.
    for item in &mut found.items {
        let done = published.iter().find(|done| done.name == item.name.as_str());
        if let Some(done) = done.filter(|_| item.kind == Kind::Package) {
            item.change = done.change.clone();
        }
    }
    answer(args.files.format.output, &found, |found| draw(found, args.dry_run))
}

/// `diff -f`: exit code 3 if something would change.
pub(crate) async fn diff(api: &Api, args: args::Files) -> Outcome {
    let manifests = manifest::load(&args.file)?;
    let found: ApplyAnswer = send(api, &manifests, &request(&manifests, true, None, false)).await?;
    answer(args.format.output, &found, |found| {
        for item in &found.items {
            let unchanged = item.change == "unchanged";
            if !unchanged || !item.notes.is_empty() {
                out(format!("{} {}: {}", item.kind.word(), item.name, item.change));
                item.differences.iter().for_each(|line| out(format!("  {line}")));
                item.notes.iter().for_each(|line| out(format!("  {line}")));
            }
        }
    })?;
    match found.items.iter().filter(|item| item.change != "unchanged").count() {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} objects differ")).exit(Exit::Differences)),
    }
}

fn request(
    manifests: &[Manifest],
    dry_run: bool,
    set: Option<String>,
    prune: bool,
) -> ApplyRequest {
    let documents = manifests.iter().map(Manifest::request).collect();
    ApplyRequest { documents, dry_run, set, prune }
}

/// Posts an apply; a refusal that names a document and field is pointed at in its file.
async fn send(api: &Api, manifests: &[Manifest], request: &ApplyRequest) -> Outcome<ApplyAnswer> {
    api.post("/apply", request).await.map_err(|failed| match failed.at {
        Some((document, field)) if document < manifests.len() => {
            let manifest = &manifests[document];
            let said = format!("{}: {field}: {}", manifest.place(&field), failed.detail);
            let failure = Failure::new(said).exit(failed.exit);
            failed.hint.into_iter().fold(failure, Failure::hint)
        }
        _ => failed.into(),
    })
}

fn draw(found: &ApplyAnswer, dry_run: bool) {
    for item in &found.items {
        let would = if dry_run && item.change != "unchanged" { "would be " } else { "" };
        out(format!("{} {}: {would}{}", item.kind.word(), item.name, item.change));
        item.differences.iter().for_each(|line| out(format!("  {line}")));
        item.notes.iter().for_each(|line| out(format!("  {line}")));
        item.warnings.iter().for_each(|line| say(format!("warning: {}: {line}", item.name)));
    }
}

/// `export`: every object, in an order in which `apply` can take them.
pub(crate) async fn export(api: &Api, args: args::Export) -> Outcome {
    let kinds = match &args.kind {
        Some(word) => vec![kind(word)?],
        None => Kind::ALL.to_vec(),
    };
    let mut first = true;
    for kind in kinds {
        for item in list(api, kind, None).await? {
            let name = &item["metadata"]["name"];
            // `all` is there on every site, and nobody's to change.
            let fixed = kind == Kind::Collection && name == ALL;
            if fixed || args.name.as_ref().is_some_and(|wanted| name != wanted.as_str()) {
                continue;
            }
            let revision = Object::expected_revision(&item);
            let object = Object::from_value(item).map_err(|problems| {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Failure::new(format!("failed to read what the site holds: {}", said.join("; ")))
            })?;
            if !first {
                out("---");
            }
            first = false;
            let mut document = object.to_value();
            if let (true, Some(revision)) = (args.revisions, revision) {
                document["metadata"]["revision"] = revision.into();
            }
            out(crate::yaml::write(&document).trim_end());
        }
    }
    Ok(())
}

async fn list(api: &Api, kind: Kind, limit: Option<u32>) -> Outcome<Vec<Value>> {
    Ok(api.all(&format!("/{}s", kind.word()), &Query::new(), limit).await?)
}

/// `get KIND [NAME]`.
pub(crate) async fn get(api: &Api, args: args::Get) -> Outcome {
    if is_device(&args.kind) {
        return match args.name {
            Some(name) => super::device::show(api, &name, args.format.output).await,
            None => super::device::list(api, args.limit, args.format.output).await,
        };
    }
    let kind = kind(&args.kind)?;
    match &args.name {
        Some(name) => {
            let found = one(api, kind, name).await?;
            let output = match args.format.output {
                Output::Table => Output::Yaml,
                other => other,
            };
            answer(output, &found, |_| ())
        }
        None => {
            let items = list(api, kind, args.limit).await?;
            let page = Page { items, next: None };
            answer(args.format.output, &page, |page| draw_list(kind, page))
        }
    }
}

async fn one(api: &Api, kind: Kind, name: &str) -> Outcome<Value> {
    let id = api.resolve(kind.word(), name).await?;
    Ok(api.get(&format!("/{}s/{id}", kind.word()), &Query::new()).await?)
}

fn draw_list(kind: Kind, page: &Page<Value>) {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |item: &Value| {
        let (spec, status) = (&item["spec"], &item["status"]);
        let name = text(&item["metadata"]["name"]);
        match kind {
            Kind::Package => vec![name, text(&spec["version"]), text(&status["versions"])],
            Kind::Collection => vec![name, text(&status["members"]), text(&spec["query"])],
            Kind::Advertisement => vec![
                name,
                text(&spec["package"]),
                text(&spec["program"]),
                text(&spec["collection"]),
                text(&status["standing"]),
                text(&status["targeted"]),
            ],
            Kind::MaintenanceWindow => vec![
                name,
                spec["effect"].as_str().unwrap_or("window").to_owned(),
                text(&spec["collection"]),
                text(&spec["duration"]),
                text(&status["zone"]),
                text(&status["next"]["begins"]),
            ],
        }
    };
    let head: &[&str] = match kind {
        Kind::Package => &["name", "newest", "versions"],
        Kind::Collection => &["name", "members", "query"],
        Kind::Advertisement => {
            &["name", "package", "program", "collection", "standing", "targeted"]
        }
        Kind::MaintenanceWindow => &["name", "effect", "collection", "duration", "zone", "next"],
    };
    table(head, page.items.iter().map(row));
}

/// `describe KIND NAME`, `describe settings`.
pub(crate) async fn describe(api: Option<&Api>, args: args::Describe) -> Outcome {
    if args.kind == "settings" {
        return describe_settings(args.format.output);
    }
    let (Some(api), Some(name)) = (api, &args.name) else {
        return Err(Failure::usage("describe takes a kind and a name")
            .hint("`muster describe advertisement NAME`, or `muster describe settings`"));
    };
    if is_device(&args.kind) {
        return super::device::show(api, name, args.format.output).await;
    }
    let found = one(api, kind(&args.kind)?, name).await?;
    let output = match args.format.output {
        Output::Table => Output::Yaml,
        other => other,
    };
    answer(output, &found, |_| ())
}

fn describe_settings(output: Output) -> Outcome {
    let by_default = Settings::default();
    let rows: Vec<Value> = Setting::ALL
        .iter()
        .map(|setting| {
            let mut row = serde_json::json!({
                "name": setting.name(), "default": by_default.value(*setting),
                "range": setting.range(), "description": setting.text(),
            });
            // Of a switch there is no least and no most.
            if !setting.is_switch() {
                row["least"] = serde_json::json!(SETTING_LEAST);
                row["most"] = serde_json::json!(setting.most());
            }
            row
        })
        .collect();
    answer(output, &Page { items: rows, next: None }, |_| {
        let rows = Setting::ALL.iter().map(|setting| {
            [
                setting.name().to_owned(),
                by_default.value(*setting).to_string(),
                setting.range(),
                setting.text().to_owned(),
            ]
        });
        table(&["setting", "default", "range", "what it is"], rows);
    })
}

/// `delete KIND NAME`.
pub(crate) async fn delete(api: &Api, args: args::Delete) -> Outcome {
    let kind = kind(&args.kind)?;
    let id = api.resolve(kind.word(), &args.name).await?;
    let IgnoredAny = api.delete(&format!("/{}s/{id}", kind.word())).await?;
    out(format!("{} {}: deleted; its history stays readable by id {id}", kind.word(), args.name));
    Ok(())
}

/// `rename KIND NAME TO`.
pub(crate) async fn rename(api: &Api, args: args::Rename) -> Outcome {
    let word = if is_device(&args.kind) { "device" } else { kind(&args.kind)?.word() };
    let id = api.resolve(word, &args.name).await?;
    let request = RenameRequest { name: args.to.clone() };
    let IgnoredAny = api.post(&format!("/{word}s/{id}/rename"), &request).await?;
    out(format!("{word} {} is now called {}", args.name, args.to));
    Ok(())
}

/// The files that a command was given, for messages.
pub(crate) fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Rows of a device list.
pub(crate) fn device_row(device: &DeviceView) -> Vec<String> {
    vec![
        device.name.clone(),
        device.standing.clone(),
        dash((!device.facts.os.is_empty()).then(|| device.facts.os.clone())),
        device.facts.agent_version.clone(),
        time(device.last_contact),
        device.waiting.to_string(),
        device.id.to_string(),
    ]
}
