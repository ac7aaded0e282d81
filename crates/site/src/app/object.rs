//! Objects of every kind: writing their rows, finding them by name, deleting and renaming them.

use muster_model::id::{AdvertisementId, DeviceId, PackageId};
use muster_model::name::Name;
use muster_model::object::{Kind as ObjectKind, Object, Spec};
use muster_site_core::edit::look_alike;
use muster_site_core::membership::is_all;
use serde_json::Value;
use uuid::Uuid;

use super::change::{About, Change, Code};
use super::error::{Kind, Outcome, Refusal, Tried};
use super::graph::{object, objects};
use super::{App, Who};
use crate::store::{ObjectRow, Read, Subject};

/// Writes a new object.
pub(crate) async fn insert(
    change: &mut Change<'_>,
    id: Uuid,
    document: &Object,
    set: Option<&str>,
) -> Outcome<()> {
    let kind = document.kind();
    let name = &document.metadata.name;
    check_look(&mut change.tx, kind, name, None).await?;
    let row = ObjectRow {
        id,
        kind,
        name: name.clone(),
        changed: change.revision,
        document: text(document)?,
        set_name: set.map(str::to_owned),
        created_at: change.now,
        changed_at: change.now,
        archived_at: None,
    };
    change.tx.object_insert(&row).await?;
    let said = format!("{} `{name}` created", kind.word());
    change.say(Code::ObjectCreated, about(kind, id), said);
    Ok(())
}

/// Writes what an object says from now on.
pub(crate) async fn update(
    change: &mut Change<'_>,
    mut row: ObjectRow,
    document: &Object,
    set: Option<&str>,
) -> Outcome<()> {
    let name = &document.metadata.name;
    if row.name != *name {
        check_look(&mut change.tx, row.kind, name, Some(row.id)).await?;
    }
    let said = format!("{} `{name}` changed", row.kind.word());
    row.name = name.clone();
    row.changed = change.revision;
    row.document = text(document)?;
    row.changed_at = change.now;
    if let Some(set) = set {
        row.set_name = Some(set.to_owned());
    }
    change.tx.object_update(&row).await?;
    change.say(Code::ObjectChanged, about(row.kind, row.id), said);
    Ok(())
}

/// What a message about an object is about.
pub(crate) fn about(kind: ObjectKind, id: Uuid) -> About {
    match kind {
        ObjectKind::Advertisement => AdvertisementId(id).into(),
        ObjectKind::Package | ObjectKind::Collection | ObjectKind::MaintenanceWindow => {
            About::default()
        }
    }
}

/// What every process must read anew when an object of that kind changed.
pub(crate) fn subject(kind: ObjectKind, id: Uuid) -> Subject {
    match kind {
        ObjectKind::Package => Subject::Package(id),
        ObjectKind::Collection => Subject::Collection(id),
        ObjectKind::Advertisement => Subject::Advertisement(id),
        ObjectKind::MaintenanceWindow => Subject::Window(id),
    }
}

async fn check_look(
    read: &mut Read,
    kind: ObjectKind,
    name: &Name,
    own: Option<Uuid>,
) -> Outcome<()> {
    let twin = read.object_find_look(kind, name).await?;
    let twin = twin.filter(|row| Some(row.id) != own).map(|row| row.name);
    if twin.as_ref() == Some(name) {
        let detail = format!("there is a {} called `{name}` already", kind.word());
        return Err(Refusal::conflict(detail).into());
    }
    let checked = look_alike(name, twin.as_ref());
    checked.map_err(|problem| Refusal::problems(&[problem]).into())
}

/// The text that a document is stored as.
pub(crate) fn text(document: &Object) -> Outcome<String> {
    serde_json::to_string(&document.to_value()).tried("write a document")
}

impl App {
    /// The id that a person means by a name or an id; ids of deleted objects are found, too.
    pub(crate) async fn resolve(&self, kind: &str, name: &str) -> Outcome<(Uuid, String)> {
        let mut read = self.db.read().await?;
        if kind == "device" {
            return resolve_device(&mut read, name).await;
        }
        let wanted = ObjectKind::ALL.into_iter().find(|one| one.word() == kind);
        let Some(wanted) = wanted else {
            let known = "kinds: package, collection, advertisement, maintenance-window, device";
            return Err(
                Refusal::invalid("kind", format!("no kind is called `{kind}`; {known}")).into()
            );
        };
        if let Ok(named) = Name::new(name)
            && let Some(row) = read.object_find(wanted, &named).await?
        {
            return Ok((row.id, row.name.to_string()));
        }
        if let Ok(id) = name.parse() {
            let row = read.object_load(id).await?.filter(|row| row.kind == wanted);
            if let Some(row) = row {
                return Ok((row.id, row.name.to_string()));
            }
        }
        let refusal = Refusal::not_found(kind, name);
        let deleted = match Name::new(name) {
            Ok(named) => read.object_find_deleted(wanted, &named).await?,
            Err(_) => None,
        };
        Err(match deleted.and_then(|row| Some((row.id, row.archived_at?))) {
            Some((id, at)) => refusal.hint(format!(
                "one of that name was deleted at {at}; give its id, {id}, to look back"
            )),
            None => refusal,
        }
        .into())
    }

    /// Gives an object another name; id and history stay.
    pub(crate) async fn object_rename(
        &self,
        who: &Who,
        kind: ObjectKind,
        id: Uuid,
        name: Name,
        expected: Option<u64>,
    ) -> Outcome<()> {
        let mut change = Change::begin(self, who).await?;
        let row = live_row(&mut change.tx, kind, id, expected).await?;
        if kind == ObjectKind::Collection && is_all(&row.name) {
            return Err(Refusal::conflict("collection `all` always exists under this name").into());
        }
        if kind == ObjectKind::Package {
            super::dependency::check_rename(&mut change.tx, PackageId(id), &row.name).await?;
        }
        let mut document = object(&row)?;
        let old = std::mem::replace(&mut document.metadata.name, name.clone());
        update(&mut change, row, &document, None).await?;
        rename_in_users(&mut change, kind, &old, &name).await?;
        change.concerns(subject(kind, id));
        match kind {
            ObjectKind::Advertisement => {
                super::advertisement::offer_changed(&mut change, AdvertisementId(id)).await?;
            }
            ObjectKind::MaintenanceWindow => {
                let collection = super::window::collection_of(&mut change.tx, &document).await?;
                super::window::tell(&mut change, id, collection.as_slice()).await?;
            }
            ObjectKind::Package | ObjectKind::Collection => {}
        }
        let said = format!("{} `{old}` is now called `{name}`", kind.word());
        change.say(Code::ObjectRenamed, about(kind, id), said);
        change.commit().await?;
        Ok(())
    }
}

/// Writes the new name into every document that names the object, so that it can be applied again.
/// What runs is untouched: it goes by ids.
pub(crate) async fn rename_in_users(
    change: &mut Change<'_>,
    kind: ObjectKind,
    old: &Name,
    new: &Name,
) -> Outcome<()> {
    for user in [ObjectKind::Collection, ObjectKind::Advertisement, ObjectKind::MaintenanceWindow] {
        for mut row in objects(&mut change.tx, user).await? {
            let mut document = object(&row)?;
            if renames(&mut document.spec, kind, old, new) {
                row.document = text(&document)?;
                row.changed = change.revision;
                row.changed_at = change.now;
                change.tx.object_update(&row).await?;
                change.concerns(subject(user, row.id));
            }
        }
    }
    Ok(())
}

/// Replaces `old` where the spec names an object of that kind; answers whether it did.
fn renames(spec: &mut Spec, kind: ObjectKind, old: &Name, new: &Name) -> bool {
    let names: Vec<&mut Name> = match (spec, kind) {
        (Spec::Advertisement(spec), ObjectKind::Collection) => vec![&mut spec.collection],
        (Spec::MaintenanceWindow(spec), ObjectKind::Collection) => vec![&mut spec.collection],
        (Spec::Advertisement(spec), ObjectKind::Package) => vec![&mut spec.package.name],
        (Spec::Collection(spec), ObjectKind::Collection) => {
            let links = spec.include.iter_mut().chain(&mut spec.exclude);
            links.chain([&mut spec.limit_to]).collect()
        }
        _ => return false,
    };
    let mut found = false;
    for name in names.into_iter().filter(|name| **name == *old) {
        *name = new.clone();
        found = true;
    }
    found
}

/// The live object of that id and kind, at the revision that the caller has seen.
pub(crate) async fn live_row(
    read: &mut Read,
    kind: ObjectKind,
    id: Uuid,
    expected: Option<u64>,
) -> Outcome<ObjectRow> {
    let row = read.object_load(id).await?;
    let row = row.filter(|row| row.kind == kind && row.archived_at.is_none());
    let row = row.ok_or_else(|| Refusal::not_found(kind.word(), id))?;
    match expected {
        Some(seen) if seen != row.changed.0 => {
            let detail = format!("{} `{}` changed meanwhile", kind.word(), row.name);
            Err(Refusal::new(Kind::Stale, detail).into())
        }
        _ => Ok(row),
    }
}

async fn resolve_device(read: &mut Read, name: &str) -> Outcome<(Uuid, String)> {
    if let Ok(id) = name.parse()
        && let Some(row) = read.device_load(DeviceId(id)).await?
    {
        return Ok((id, row.device.name.to_string()));
    }
    let found = match Name::new(name) {
        Ok(name) => read.device_find_name(&name).await?,
        Err(_) => Vec::new(),
    };
    let live: Vec<_> = found.iter().filter(|row| row.retired_at.is_none()).collect();
    // Who was retired is found by name only where nobody else bears it.
    let meant = if live.is_empty() { found.iter().collect() } else { live };
    match meant.as_slice() {
        [one] => Ok((one.device.id.0, one.device.name.to_string())),
        [] => Err(Refusal::not_found("device", name).into()),
        several => {
            let ids: Vec<DeviceId> = several.iter().map(|row| row.device.id).collect();
            let detail = format!("{} devices are called `{name}`", ids.len());
            let shown: Vec<String> = ids.iter().map(DeviceId::to_string).collect();
            Err(Refusal::new(Kind::Ambiguous, format!("{detail}: {}", shown.join(", ")))
                .hint("give the id instead of the name")
                .ids(ids)
                .into())
        }
    }
}

/// The document of a row, with its id and the revision that `apply` and `If-Match` are held against.
pub(crate) fn with_id(row: &ObjectRow) -> Outcome<Value> {
    let mut value: Value = serde_json::from_str(&row.document).tried("read a stored document")?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("id".to_owned(), row.id.to_string().into());
        metadata.insert("revision".to_owned(), row.changed.0.into());
    }
    Ok(value)
}
