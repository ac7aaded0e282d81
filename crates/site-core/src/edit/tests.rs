//! Edits by example: what they change, and what forbids them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_model::advertisement::At;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, DeviceId};
use muster_model::message::Occurrence;
use muster_model::object::Spec;
use muster_model::package::Achieves;
use muster_model::state::{Author, State};
use muster_model::window::Window;
use serde_json::json;

use super::*;
use crate::membership::{Collection, Definition};
use crate::occurrence::{OccurrenceRow, Revision};
use crate::testing::*;

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let metadata = json!({"name": name});
    let document =
        json!({"apiVersion": "muster/v1", "kind": kind, "metadata": metadata, "spec": spec});
    Object::from_value(document).unwrap()
}

// --- objects ---

#[test]
fn an_unchanged_object_changes_nothing_and_a_changed_one_names_its_fields() {
    let old = object("Collection", "lab", json!({"members": ["d1", "d2"]}));
    assert_eq!(compare(Some(&old), &old), Change::Unchanged);
    assert_eq!(compare(None, &old), Change::Created);
    let new = object("Collection", "lab", json!({"members": ["d1", "d3"], "query": "true"}));
    let Change::Updated { fields } = compare(Some(&old), &new) else { panic!("no change") };
    let paths: Vec<&str> = fields.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(paths, ["spec.members[1]", "spec.query"]);
    assert_eq!(fields[1].old, None);
}

#[test]
fn a_former_name_finds_the_object_and_is_no_difference() {
    let mut renamed = object("Collection", "lab", json!({}));
    let old = renamed.clone();
    renamed.metadata.formerly = Some(name("office"));
    let stored = |wanted: &'static str| move |asked: &Name| (asked.as_str() == wanted).then_some(7);
    let was = Which::Renamed { id: 7, from: name("office") };
    assert_eq!(identify(&renamed.metadata, stored("office")), was);
    assert_eq!(identify(&renamed.metadata, stored("lab")), Which::Same(7));
    assert_eq!(identify(&renamed.metadata, stored("other")), Which::New);
    assert_eq!(compare(Some(&old), &renamed), Change::Unchanged);
}

#[test]
fn a_name_that_looks_like_another_is_refused() {
    let refused = look_alike(&name("p\u{430}ypal"), [&name("paypal")]).unwrap_err();
    assert!(refused.detail.contains("looks like `paypal`"), "{refused}");
    assert_eq!(look_alike(&name("paypal"), [&name("paypal")]), Ok(()));
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let users = vec![(Kind::Advertisement, name("a")), (Kind::Collection, name("b"))];
    let said = check_delete(Kind::Collection, &name("lab"), users).unwrap_err().to_string();
    assert_eq!(said, "collection `lab` is used by advertisement `a`, collection `b`");
    assert!(check_delete(Kind::Collection, &name("all"), Vec::new()).is_err());
    assert_eq!(check_delete(Kind::Package, &name("all"), Vec::new()), Ok(()));
}

#[test]
fn a_published_version_is_never_replaced() {
    let (hello, bytes) = (name("hello"), Digest::of(b"1"));
    assert_eq!(plan_publish(&hello, "1", bytes, None), Ok(Publish::New));
    assert_eq!(plan_publish(&hello, "1", bytes, Some(bytes)), Ok(Publish::Same));
    let refused = plan_publish(&hello, "1", bytes, Some(Digest::of(b"2"))).unwrap_err();
    assert!(refused.detail.contains("hello@1 is published with other bytes"), "{refused}");
}

// --- collections ---

fn plan_of(spec: Value) -> Result<CollectionPlan, Vec<Problem>> {
    let object = object("Collection", "lab", spec);
    let Spec::Collection(spec) = &object.spec else { unreachable!() };
    let all = Collection { id: collection_id(0), name: name("all"), definition: Definition::All };
    let office = Collection {
        id: collection_id(2),
        name: name("office"),
        definition: Definition::Clauses(crate::membership::Clauses {
            include: vec![collection_id(1)],
            ..Default::default()
        }),
    };
    let lookups = CollectionLookups {
        by_name: &|name| match name.as_str() {
            "all" => Some(collection_id(0)),
            "lab" => Some(collection_id(1)),
            "office" => Some(collection_id(2)),
            _ => None,
        },
        devices: &|name| match name.as_str() {
            "d1" => vec![device_id(1)],
            "twin" => vec![device_id(2), device_id(3)],
            _ => Vec::new(),
        },
        bound: &BTreeMap::new(),
        others: vec![
            all,
            office,
            Collection { id: collection_id(1), name: name("lab"), definition: Definition::All },
        ],
    };
    plan_collection(collection_id(1), None, &object, spec, lookups)
}

#[track_caller]
fn refused_collection(spec: Value, field: &str, said: &str) {
    let problems = plan_of(spec).unwrap_err();
    let found = problems.iter().any(|one| one.field.contains(field) && one.detail.contains(said));
    assert!(found, "{problems:#?}");
}

#[test]
fn a_collection_is_planned_with_what_its_names_mean() {
    let plan = plan_of(json!({"members": ["d1", "d9"], "query": "device.os == 'linux'"})).unwrap();
    let unresolved: Vec<&str> = plan.unresolved().map(Name::as_str).collect();
    assert_eq!(unresolved, ["d9"]);
    let members = plan.graph.evaluate(&[device(1)]);
    assert_eq!(members[&collection_id(1)].members, BTreeSet::from([device_id(1)]));
}

#[test]
fn what_a_collection_cannot_mean_is_refused() {
    refused_collection(json!({"query": "device.os = 'x'"}), "spec.query", "write `==`");
    refused_collection(json!({"include": ["nowhere"]}), "spec.include", "no collection `nowhere`");
    refused_collection(json!({"limitTo": "nowhere"}), "spec.limitTo", "no collection `nowhere`");
    refused_collection(json!({"members": ["twin"]}), "spec.members", "several devices");
    refused_collection(json!({"include": ["office"]}), "spec.include", "-> ");
    refused_collection(json!({"exclude": ["lab"]}), "spec.exclude", "lab -> lab");
}

// --- advertisements ---

fn version(number: &str, revoked: bool) -> PublishedVersion {
    let program = |name: &str, more: Value| {
        let mut program = json!({"name": name, "commandLine": "sh go.sh"});
        program.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        program
    };
    let spec = json!({
        "version": number,
        "programs": [
            program("install", json!({})),
            program("remove", json!({"achieves": "absent"})),
            program("setup.exe", json!({"platform": "windows"})),
        ],
    });
    PublishedVersion {
        pinned: pinned("hello", number),
        spec: serde_json::from_value(spec).unwrap(),
        revoked,
    }
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"package": "hello", "program": "install", "collection": "lab",
        "assignments": [{"name": "first", "at": "now"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// What the site knows: versions 2.9 and 2.10, collection 1 of ten members, four of them on Windows.
struct Known {
    versions: Option<Vec<PublishedVersion>>,
    collection: Option<CollectionId>,
    members: u64,
    rivals: Vec<Rival>,
    windows: Vec<Window>,
    values: muster_model::parameter::Values,
}

/// Plans an advertisement in a site that `lookups` has changed.
fn advertise(
    stored: Option<&AdvertisementRow>,
    more: Value,
    lookups: impl FnOnce(&mut Known),
) -> Result<AdvertisementPlan, Vec<Problem>> {
    let object = object("Advertisement", "hello-to-lab", spec(more));
    let Spec::Advertisement(spec) = &object.spec else { unreachable!() };
    let mut known = Known {
        versions: Some(vec![version("2.9", false), version("2.10", false)]),
        collection: Some(collection_id(1)),
        members: 10,
        rivals: Vec::new(),
        windows: Vec::new(),
        values: Default::default(),
    };
    lookups(&mut known);
    let lookups = AdvertisementLookups {
        versions: known.versions.as_deref(),
        collection: known.collection,
        members: known.members,
        members_on: &|platform| if platform == "windows" { 4 } else { 10 },
        rivals: &known.rivals,
        windows: &known.windows,
        grace: Duration::from_secs(10),
        values: &known.values,
        now: Wall(1_000),
        zone: &jiff::tz::TimeZone::UTC,
    };
    plan_advertisement(stored, &object, spec, &lookups)
}

/// What is stored after applying `more` for the first time, at site revision 5.
fn stored(more: Value) -> AdvertisementRow {
    let plan = advertise(None, more.clone(), |_| {}).unwrap();
    AdvertisementRow {
        object: object("Advertisement", "hello-to-lab", spec(more)),
        revision: plan.revision,
        package: plan.package.clone(),
        collection: plan.collection,
        occurrences: plan.occurrences.rows(advertisement_id(1), &[], Revision(5)),
    }
}

fn names(occurrences: &[(muster_model::message::Occurrence, Option<At>)]) -> Vec<String> {
    occurrences.iter().map(|(one, _)| one.to_string()).collect()
}

#[test]
fn a_new_advertisement_pins_the_newest_version_and_opens_its_assignments() {
    let plan = advertise(None, json!({}), |_| {}).unwrap();
    assert_eq!((plan.revision, plan.package.version.as_str()), (1, "2.10"));
    assert_eq!((plan.change, plan.newest), (Change::Created, None));
    assert_eq!(names(&plan.occurrences.opened), ["first#1"]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let available = advertise(None, json!({"assignments": []}), |_| {}).unwrap();
    assert_eq!(names(&available.occurrences.opened), ["(available)#1"]);
    assert_eq!(available.occurrences.opened[0].1, None);
}

#[test]
fn publishing_moves_no_pin_and_applying_again_changes_nothing() {
    let row = stored(json!({}));
    let three = || Some(vec![version("2.10", false), version("2.11", false)]);
    let again = advertise(Some(&row), json!({}), |known| known.versions = three()).unwrap();
    assert_eq!((again.change, again.revision), (Change::Unchanged, 1));
    assert_eq!((again.package.version.as_str(), again.newest.as_deref()), ("2.10", Some("2.11")));
    assert!(again.occurrences.is_quiet());
    let edited =
        advertise(Some(&row), json!({"description": "x"}), |k| k.versions = three()).unwrap();
    assert_eq!((edited.revision, edited.package.version.as_str()), (2, "2.10"));
    let named = json!({"package": "hello@2.11"});
    let moved = advertise(Some(&row), named, |k| k.versions = three()).unwrap();
    assert_eq!(moved.package.version, "2.11");
}

#[test]
fn track_latest_follows_what_is_published() {
    let row = stored(json!({"track": "latest"}));
    let newer = vec![version("2.10", false), version("2.11", false)];
    let more = json!({"track": "latest"});
    let plan = advertise(Some(&row), more, |known| known.versions = Some(newer)).unwrap();
    assert_eq!((plan.package.version.as_str(), plan.revision), ("2.11", 2));
    assert!(matches!(plan.change, Change::Updated { .. }));
}

#[track_caller]
fn refused_advertisement(more: Value, lookups: impl FnOnce(&mut Known), field: &str, said: &str) {
    let problems = advertise(None, more, lookups).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
    assert!(problem.field == field && problem.detail.contains(said), "{problem}");
}

#[test]
fn what_can_never_work_is_refused_with_its_settings() {
    let nothing = |_: &mut Known| {};
    let other = json!({"program": "uninstall"});
    refused_advertisement(other, nothing, "spec.program", "install, remove, setup.exe");
    let version_of = json!({"package": "hello@3"});
    refused_advertisement(version_of, nothing, "spec.package", "no version `3`; published: 2.9");
    let none = |known: &mut Known| known.versions = None;
    refused_advertisement(json!({}), none, "spec.package", "no package `hello`");
    let nowhere = |known: &mut Known| known.collection = None;
    refused_advertisement(json!({}), nowhere, "spec.collection", "no collection `lab`");
    let past = json!({"expires": "1970-01-01T00:00:01Z", "assignments": []});
    refused_advertisement(past, nothing, "spec.expires", "has passed");
}

#[test]
fn a_revoked_version_is_neither_chosen_nor_accepted() {
    let versions = || Some(vec![version("2.9", false), version("2.10", true)]);
    let plan = advertise(None, json!({}), |known| known.versions = versions()).unwrap();
    assert_eq!(plan.package.version, "2.9");
    let object = json!({"package": "hello@2.10"});
    let problems = advertise(None, object, |known| known.versions = versions()).unwrap_err();
    assert!(problems[0].detail.contains("revoked"), "{problems:?}");
}

#[test]
fn machines_that_a_program_is_not_for_are_counted_at_apply() {
    let plan = advertise(None, json!({"program": "setup.exe"}), |_| {}).unwrap();
    assert!(plan.warnings[0].contains("6 of 10 members"), "{:?}", plan.warnings);
    let empty = advertise(None, json!({}), |known| known.members = 0).unwrap();
    assert!(empty.warnings[0].contains("no member"), "{:?}", empty.warnings);
}

#[test]
fn a_conflict_is_warned_of_at_apply() {
    let rival = |achieves, shared| Rival {
        live: crate::targeting::LiveAdvertisement {
            advertisement: advertisement_id(9),
            name: name("goodbye"),
            revision: 1,
            collection: collection_id(1),
            package: pinned("hello", "2.9"),
            program: name("remove"),
            achieves,
            supersedes: Vec::new(),
            expires: None,
            offline_for: Default::default(),
            notice: None,
            emergency: false,
            timing: Default::default(),
            stopped: None,
            revoked: None,
            dependencies: Vec::new(),
            parameters: Default::default(),
        },
        shared,
    };
    let warned = |rival: Rival| {
        let plan = advertise(None, json!({}), |known| known.rivals.push(rival));
        plan.unwrap().warnings.concat()
    };
    assert!(warned(rival(Achieves::Absent, 3)).contains("`goodbye` wants the opposite"));
    assert_eq!(warned(rival(Achieves::Present, 3)), "");
    assert_eq!(warned(rival(Achieves::Absent, 0)), "");
}

#[test]
fn values_of_parameters_are_held_against_the_signed_declaration() {
    let check = |values: Value, collection: Value| {
        advertise(None, json!({"parameters": values}), |known| {
            let parameters = json!({"mode": {"type": "choice", "choices": ["a", "b"],
                "required": true}});
            for version in known.versions.iter_mut().flatten() {
                version.spec.programs[0].parameters =
                    serde_json::from_value(parameters.clone()).unwrap();
            }
            known.values = serde_json::from_value(collection).unwrap();
        })
    };
    let said = |refused: Result<AdvertisementPlan, Vec<Problem>>| {
        refused.unwrap_err().iter().map(Problem::to_string).collect::<String>()
    };
    assert!(check(json!({"mode": "a"}), json!({})).is_ok());
    // The collection's value counts, and what it says of other programs does not.
    assert!(check(json!({}), json!({"mode": "b", "colour": "red"})).is_ok());
    assert!(said(check(json!({}), json!({}))).contains("spec.parameters.mode: is required"));
    assert!(said(check(json!({"mode": "c"}), json!({"mode": "a"}))).contains("one of a, b"));
    assert!(said(check(json!({"mode": "a", "x": 1}), json!({}))).contains("is no parameter"));
}

#[test]
fn a_disabled_program_is_warned_of_at_apply() {
    let plan = advertise(None, json!({}), |known| {
        known.versions.iter_mut().flatten().for_each(|one| one.spec.programs[0].disabled = true);
    });
    let warnings = plan.unwrap().warnings.concat();
    assert!(warnings.contains("waiting(disabled)"), "{warnings}");
}

// --- occurrences ---

#[test]
fn an_assignment_keeps_its_occurrence_through_a_change_of_its_time() {
    let row = stored(json!({}));
    let later = json!({"assignments": [{"name": "first", "at": "2030-01-01T00:00:00Z"}]});
    let plan = advertise(Some(&row), later, |_| {}).unwrap().occurrences;
    assert_eq!((names(&plan.kept), plan.is_quiet()), (vec!["first#1".to_owned()], true));
    let rows = plan.rows(advertisement_id(1), &row.occurrences, Revision(8));
    assert!(matches!(rows[0].due, Some(At::Instant(_))) && rows[0].spans.len() == 1);
}

#[test]
fn only_a_new_name_makes_a_new_occurrence_and_a_removed_one_closes() {
    let row = stored(json!({}));
    let other = json!({"assignments": [{"name": "second", "at": "now"}]});
    let plan = advertise(Some(&row), other, |_| {}).unwrap().occurrences;
    assert_eq!(names(&plan.opened), ["second#1"]);
    assert_eq!(plan.closed, [occurrence("first#1")]);
    let rows = plan.rows(advertisement_id(1), &row.occurrences, Revision(8));
    assert_eq!(rows[0].spans[0].closed, Some(Revision(8)));
    assert_eq!(rows[1].spans[0].opened, Revision(8));
    // The name comes back: its old occurrence opens again, so who ended it does not run again.
    let back = AdvertisementRow { occurrences: rows, ..row };
    let plan = advertise(Some(&back), json!({}), |_| {}).unwrap().occurrences;
    assert_eq!(names(&plan.opened), ["first#1"]);
    let rows = plan.rows(advertisement_id(1), &back.occurrences, Revision(9));
    assert_eq!(rows.iter().filter(|one| one.occurrence == occurrence("first#1")).count(), 1);
    assert!(rows[0].is_open() && !rows[1].is_open());
}

#[test]
fn moving_to_another_collection_closes_one_span_and_opens_the_next() {
    let row = stored(json!({}));
    let plan = advertise(Some(&row), json!({"collection": "office"}), |known| {
        known.collection = Some(collection_id(2));
    });
    let plan = plan.unwrap().occurrences;
    assert_eq!(plan.moved_from, Some(collection_id(1)));
    let rows = plan.rows(advertisement_id(1), &row.occurrences, Revision(8));
    let spans: Vec<(CollectionId, bool)> =
        rows[0].spans.iter().map(|span| (span.collection, span.is_open())).collect();
    assert_eq!(spans, [(collection_id(1), false), (collection_id(2), true)]);
}

#[test]
fn a_rerun_is_untouched_by_edits_and_numbered_on() {
    let mut row = stored(json!({}));
    let first = next_rerun(advertisement_id(1), &row.occurrences, Revision(6)).unwrap();
    assert_eq!(first.occurrence.to_string(), "(rerun)#1");
    row.occurrences.push(first.clone());
    let second = next_rerun(advertisement_id(1), &row.occurrences, Revision(7)).unwrap();
    assert_eq!(second.occurrence.to_string(), "(rerun)#2");
    let plan = advertise(Some(&row), json!({"assignments": []}), |_| {}).unwrap().occurrences;
    assert_eq!(plan.closed, [occurrence("first#1")]);
    let rows: Vec<OccurrenceRow> = plan.rows(advertisement_id(1), &row.occurrences, Revision(8));
    assert!(rows.contains(&first));
}

/// Three devices before and after; 1 succeeded, 2 waits, 3 has said nothing.
#[track_caller]
fn check_forecast(more: Value, after: [u128; 3], expected: (u64, u64, u64)) {
    let row = stored(json!({}));
    let other = more.get("collection").is_some();
    let plan = advertise(Some(&row), more.clone(), |known| {
        known.collection = Some(collection_id(if other { 2 } else { 1 }));
    });
    let obligations = [
        crate::testing::row(key(1), succeeded(), Author::Device),
        crate::testing::row(key(2), State::Accepted, Author::Device),
    ];
    let ids = |ids: [u128; 3]| -> BTreeSet<DeviceId> { ids.map(device_id).into() };
    let found = forecast(&plan.unwrap().occurrences, &obligations, &ids([1, 2, 3]), &ids(after));
    assert_eq!((found.start, found.rerun, found.withdraw), expected, "{more}");
}

#[test]
fn a_dry_run_names_how_many_would_start_run_again_and_be_withdrawn() {
    check_forecast(json!({}), [1, 2, 3], (0, 0, 0));
    check_forecast(json!({"description": "x"}), [1, 2, 3], (0, 0, 0));
    let second = json!({"assignments": [{"name": "first", "at": "now"}, {"at": "now"}]});
    check_forecast(second, [1, 2, 3], (2, 1, 0));
    let renamed = json!({"assignments": [{"name": "other", "at": "now"}]});
    check_forecast(renamed, [1, 2, 3], (2, 1, 2));
    check_forecast(json!({"collection": "office"}), [1, 3, 4], (1, 0, 1));
    check_forecast(json!({"assignments": []}), [1, 2, 3], (0, 0, 2));
}

/// A window of every night that lasts so long.
fn nightly(duration: &str) -> Value {
    json!({"collection": "lab", "every": "DTSTART:19700101T010000 RRULE:FREQ=DAILY",
        "duration": duration})
}

fn window(spec: Value) -> Window {
    let object = object("MaintenanceWindow", "nightly", spec);
    let Spec::MaintenanceWindow(spec) = &object.spec else { unreachable!() };
    spec.window(&object.metadata.name).unwrap()
}

#[test]
fn a_program_that_has_no_room_in_the_windows_is_warned_of() {
    let short = |known: &mut Known| known.windows = vec![window(nightly("1h"))];
    let warned = advertise(None, json!({}), short).unwrap().warnings;
    assert!(
        warned.iter().any(|one| one.contains("1h 10s") && one.contains("nightly")),
        "{warned:?}"
    );
    let long = |known: &mut Known| known.windows = vec![window(nightly("2h"))];
    assert_eq!(advertise(None, json!({}), long).unwrap().warnings, Vec::<String>::new());
    let emergency = advertise(None, json!({"emergency": true}), short).unwrap().warnings;
    assert!(emergency[0].contains("emergency is true"), "{emergency:?}");
}

#[track_caller]
fn plan_nightly(duration: &str, lookups: &WindowLookups<'_>) -> Result<WindowPlan, Vec<Problem>> {
    let object = object("MaintenanceWindow", "nightly", nightly(duration));
    let Spec::MaintenanceWindow(spec) = &object.spec else { unreachable!() };
    plan_window(None, &object, spec, lookups)
}

#[test]
fn a_window_names_what_has_no_room_in_it_and_needs_its_collection() {
    let program = version("2.10", false).spec.programs[0].clone();
    let programs = [(name("hello-to-lab"), program)];
    let mut lookups = WindowLookups {
        collection: Some(collection_id(1)),
        others: &[],
        programs: &programs,
        grace: Duration::from_secs(10),
        now: Wall(1_000),
    };
    let short = plan_nightly("30m", &lookups).unwrap();
    assert_eq!(short.change, Change::Created);
    assert!(short.warnings[0].contains("hello-to-lab"), "{:?}", short.warnings);
    assert_eq!(plan_nightly("2h", &lookups).unwrap().warnings, Vec::<String>::new());
    let many = vec![window(nightly("1h")); muster_model::window::WINDOWS_MAX];
    lookups.others = &many;
    assert!(plan_nightly("2h", &lookups).unwrap_err()[0].detail.contains("at most 256"));
    lookups.collection = None;
    assert_eq!(plan_nightly("2h", &lookups).unwrap_err()[0].field, "spec.collection");
}

// --- rules ---

/// Spec with one rule called `nightly`. Every plan here is made at a second after the epoch.
fn every(rule: &str) -> Value {
    json!({"assignments": [{"name": "nightly", "every": rule}]})
}

/// The plan of `more` for rows of `nightly` with these numbers and times in ms, under `SECONDS`.
#[track_caller]
fn check_rule(rows: &[(u32, i64)], more: Value, kept: &[&str], opened: &[&str]) {
    let row = AdvertisementRow {
        occurrences: rows.iter().map(|(n, due)| recurring(*n, *due, 1, None)).collect(),
        ..stored(every(SECONDS))
    };
    let plan = advertise(Some(&row), more.clone(), |_| {}).unwrap().occurrences;
    let told = |all: &[(Occurrence, Option<At>)]| -> Vec<String> {
        let due = |at: &Option<At>| at.map_or("never".to_owned(), |at| at.to_string());
        all.iter().map(|(one, at)| format!("{one} {}", due(at))).collect()
    };
    assert_eq!((told(&plan.kept), told(&plan.opened)), (owned(kept), owned(opened)), "{more}");
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

const SECONDS: &str = "DTSTART:19700101T000000Z RRULE:FREQ=SECONDLY";

#[test]
fn the_first_time_of_a_rule_is_not_before_it_was_introduced() {
    let plan = advertise(None, every(SECONDS), |_| {}).unwrap().occurrences;
    assert_eq!(names(&plan.opened), ["nightly#1"]);
    assert_eq!(plan.opened[0].1, Some(At::Instant(Wall(1_000))));
    let over = "DTSTART:19690101T000000Z RRULE:FREQ=DAILY;COUNT=3";
    let said = advertise(None, every(over), |_| {}).unwrap_err()[0].to_string();
    assert!(said.starts_with("spec.assignments[0].every: it has no time left"), "{said}");
}

#[test]
fn an_edited_rule_moves_what_is_to_come_and_numbers_go_on() {
    let hourly = || every("DTSTART:19700101T010000Z RRULE:FREQ=HOURLY");
    // The second has not fallen due: it moves. What has stays as it was announced.
    let moved = ["nightly#1 1970-01-01T00:00:01Z", "nightly#2 1970-01-01T01:00:00Z"];
    check_rule(&[(1, 1_000), (2, 2_000)], hourly(), &moved, &[]);
    check_rule(
        &[(4, 900)],
        hourly(),
        &["nightly#4 1970-01-01T00:00:00.9Z"],
        &["nightly#5 1970-01-01T01:00:00Z"],
    );
    // A device was ahead: what it opened follows the rule, too, and closes where the rule ends.
    let ahead = [
        "nightly#1 1970-01-01T00:00:01Z",
        "nightly#2 1970-01-01T01:00:00Z",
        "nightly#3 1970-01-01T02:00:00Z",
    ];
    check_rule(&[(1, 1_000), (2, 2_000), (3, 3_000)], hourly(), &ahead, &[]);
    let once = every("DTSTART:19700101T010000Z RRULE:FREQ=HOURLY;COUNT=1");
    check_rule(&[(1, 1_000), (2, 2_000), (3, 3_000)], once, &ahead[..2], &[]);
    // The same rule again changes nothing, nor does another field.
    let same = ["nightly#1 1970-01-01T00:00:01Z", "nightly#2 1970-01-01T00:00:02Z"];
    check_rule(&[(1, 1_000), (2, 2_000)], every(SECONDS), &same, &[]);
    // From a rule to one time and back.
    let once = json!({"assignments": [{"name": "nightly", "at": "now"}]});
    check_rule(&[(1, 1_000), (2, 2_000)], once, &["nightly#2 now"], &[]);
}

#[test]
fn a_rule_that_comes_back_goes_on_from_its_number_and_runs_nothing_again() {
    let first = stored(every(SECONDS));
    let removed = advertise(Some(&first), json!({"assignments": []}), |_| {}).unwrap();
    let rows = removed.occurrences.rows(advertisement_id(1), &first.occurrences, Revision(8));
    let without = AdvertisementRow {
        object: object("Advertisement", "hello-to-lab", spec(json!({"assignments": []}))),
        occurrences: rows,
        ..first
    };
    let back = advertise(Some(&without), every(SECONDS), |_| {}).unwrap().occurrences;
    assert_eq!(names(&back.opened), ["nightly#2"]);
    assert_eq!(back.opened[0].1, Some(At::Instant(Wall(2_000))));
}
