//! Tags against the rows they stand for, and compiled policies.

use std::collections::{BTreeMap, BTreeSet};

use muster_model::advertisement::{At, OfflineFor};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{CollectionId, DeviceId, EpochId};
use muster_model::package::Achieves;
use muster_model::period::Period;
use muster_model::policy::{Due, Order, Policy};
use muster_model::settings::{Setting, Settings};
use muster_model::window::Window;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::occurrence::Revision;
use crate::testing::*;

fn versions() -> SiteVersions {
    SiteVersions { epoch: EpochId(Default::default()), settings: 1, trust: 1, halt: 0 }
}

/// Device 1 in collections 1 and 2, device 2 in collection 2.
fn index() -> PolicyIndex {
    let mut index = PolicyIndex::new(versions());
    index.device_changed(device_id(1), 1, [collection_id(2), collection_id(1)]);
    index.device_changed(device_id(2), 1, [collection_id(2)]);
    index
}

/// Which of the two devices get another tag by `change`.
#[track_caller]
fn check(change: impl FnOnce(&mut PolicyIndex), expected: [bool; 2]) {
    let mut index = index();
    let tags = |index: &PolicyIndex| [1, 2].map(|n| index.tag(device_id(n)));
    let before = tags(&index);
    change(&mut index);
    let after = tags(&index);
    assert_eq!([0, 1].map(|n| before[n] != after[n]), expected);
}

#[test]
fn a_tag_moves_exactly_when_what_the_device_is_told_does() {
    check(|index| index.collection_offered_changed(collection_id(1), 7), [true, false]);
    check(|index| index.collection_offered_changed(collection_id(2), 7), [true, true]);
    check(|index| index.collection_offered_changed(collection_id(3), 7), [false, false]);
    check(|index| index.own_version_changed(device_id(2), 2), [false, true]);
    check(|index| index.membership_changed(device_id(1), &[], &[collection_id(1)]), [true, false]);
    check(|index| index.membership_changed(device_id(2), &[collection_id(1)], &[]), [false, true]);
    check(|index| index.site_changed(SiteVersions { trust: 2, ..versions() }), [true, true]);
    check(|index| index.site_changed(SiteVersions { halt: 1, ..versions() }), [true, true]);
    check(|index| index.site_changed(SiteVersions { settings: 2, ..versions() }), [true, true]);
}

#[test]
fn members_of_the_same_collections_differ_by_nothing_but_their_own_version() {
    let mut index = index();
    index.membership_changed(device_id(2), &[collection_id(1)], &[]);
    assert_eq!(index.tag(device_id(1)), index.tag(device_id(2)));
}

#[test]
fn an_unknown_device_has_no_tag() {
    let mut index = index();
    assert_eq!(index.tag(device_id(9)), None);
    index.device_removed(device_id(1));
    assert_eq!((index.tag(device_id(1)), index.len()), (None, 1));
}

/// A change of the index, by small numbers.
#[derive(Clone, Debug)]
enum Step {
    Offered(u128, u64),
    Device(u128, u64, BTreeSet<u128>),
    Members(u128, u128, u128),
    Removed(u128),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let collections = || prop::collection::btree_set(0..6u128, 0..4);
    let step = prop_oneof![
        (0..6u128, 0..9u64).prop_map(|(c, v)| Step::Offered(c, v)),
        (0..5u128, 0..9u64, collections()).prop_map(|(d, v, c)| Step::Device(d, v, c)),
        (0..5u128, 0..6u128, 0..6u128).prop_map(|(d, j, l)| Step::Members(d, j, l)),
        (0..5u128).prop_map(Step::Removed),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happened, a tag is what the database would answer.
    #[test]
    fn the_index_answers_what_the_rows_say(steps in steps()) {
        let mut index = PolicyIndex::new(versions());
        let mut offered: BTreeMap<CollectionId, u64> = BTreeMap::new();
        let mut devices: BTreeMap<DeviceId, (u64, BTreeSet<CollectionId>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Offered(c, version) => {
                    index.collection_offered_changed(collection_id(c), version);
                    offered.insert(collection_id(c), version);
                }
                Step::Device(d, own, set) => {
                    let set: BTreeSet<_> = set.into_iter().map(collection_id).collect();
                    index.device_changed(device_id(d), own, set.clone());
                    devices.insert(device_id(d), (own, set));
                }
                Step::Members(d, join, leave) => {
                    let (join, leave) = (collection_id(join), collection_id(leave));
                    index.membership_changed(device_id(d), &[join], &[leave]);
                    if let Some((_, set)) = devices.get_mut(&device_id(d)) {
                        set.remove(&leave);
                        set.insert(join);
                    }
                }
                Step::Removed(d) => {
                    index.device_removed(device_id(d));
                    devices.remove(&device_id(d));
                }
            }
        }
        prop_assert_eq!(index.len(), devices.len());
        for (device, (own, set)) in devices {
            let version = |id: &CollectionId| (*id, offered.get(id).copied().unwrap_or(0));
            let expected = tag(&versions(), own, &set.iter().map(version).collect());
            prop_assert_eq!(index.tag(device), Some(expected));
        }
    }
}

fn live(n: u128, achieves: Achieves) -> LiveAdvertisement {
    LiveAdvertisement {
        advertisement: advertisement_id(n),
        name: name(&format!("a{n}")),
        revision: 1,
        collection: collection_id(1),
        package: pinned("hello", "2.10"),
        program: name("go"),
        achieves,
        supersedes: Vec::new(),
        expires: None,
        offline_for: OfflineFor::default(),
        notice: None,
        emergency: false,
        timing: Default::default(),
        stopped: None,
        revoked: None,
        dependencies: Vec::new(),
        parameters: Default::default(),
    }
}

fn open(n: u128, which: &str, at: Option<At>) -> OpenOccurrence {
    let due = Due { occurrence: occurrence(which), at };
    OpenOccurrence { advertisement: advertisement_id(n), due }
}

fn compiled(live: &[LiveAdvertisement], open: &[OpenOccurrence]) -> Policy {
    compiled_with(Vec::new(), live, open)
}

fn compiled_with(
    windows: Vec<Window>,
    live: &[LiveAdvertisement],
    open: &[OpenOccurrence],
) -> Policy {
    let mut site_settings = Settings::default();
    site_settings.set("pollWait", Period::secs(9)).unwrap();
    site_settings.set("termGrace", Period::secs(9)).unwrap();
    let site = SiteSide {
        epoch: EpochId(Default::default()),
        revision: Revision(42),
        settings: site_settings,
        trust: 3,
        halted: None,
    };
    let mut settings = Settings::default();
    settings.set("pollWait", Period::secs(1)).unwrap();
    let device = DeviceSide { device: device_id(1), settings, held: None, put_back: None, windows };
    compile(&site, &device, live, open, Digest::of(b"tag"), Wall(1_000))
}

#[test]
fn a_policy_holds_what_is_open_in_a_fixed_order() {
    let live = [live(2, Achieves::Present), live(1, Achieves::Present), live(3, Achieves::Present)];
    let now = Some(At::Now);
    let open = [
        open(1, "second#1", now),
        open(2, "(available)#1", None),
        open(1, "first#1", now),
        open(1, "first#1", now),
        open(9, "first#1", now),
    ];
    let policy = compiled(&live, &open);
    let offers: Vec<(_, Vec<String>)> = policy
        .advertisements
        .iter()
        .map(|offer| {
            let due = offer.occurrences.iter().map(|due| due.occurrence.to_string());
            (offer.advertisement, due.collect())
        })
        .collect();
    let expected = [
        (advertisement_id(1), vec!["first#1".to_owned(), "second#1".to_owned()]),
        (advertisement_id(2), vec!["(available)#1".to_owned()]),
    ];
    assert_eq!(offers, expected);
    assert_eq!((policy.revision, policy.trust, policy.device), (42, 3, device_id(1)));
    let setting = |which| policy.settings.get(which);
    let expected = (Period::secs(1), Period::secs(9));
    assert_eq!((setting(Setting::PollWait), setting(Setting::TermGrace)), expected);
    let mut shuffled = open.clone();
    shuffled.reverse();
    assert_eq!(compiled(&live, &shuffled), policy);
}

/// Which of the advertisements 1 (present) and 2 (as given) carry a conflict.
#[track_caller]
fn conflict(other: LiveAdvertisement, due: Option<At>, expected: [Option<&str>; 2]) {
    let open = [open(1, "first#1", Some(At::Now)), open(2, "first#1", due)];
    let policy = compiled(&[live(1, Achieves::Present), other], &open);
    let found: Vec<Option<String>> = policy
        .advertisements
        .iter()
        .map(|offer| offer.conflict.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(found, expected.map(|one| one.map(str::to_owned)));
}

#[test]
fn present_and_absent_of_one_package_stop_each_other() {
    let absent = || live(2, Achieves::Absent);
    conflict(absent(), Some(At::Now), [Some("a2"), Some("a1")]);
    conflict(live(2, Achieves::Present), Some(At::Now), [None, None]);
    conflict(live(2, Achieves::Nothing), Some(At::Now), [None, None]);
    let other = LiveAdvertisement { package: pinned("world", "1"), ..absent() };
    conflict(other, Some(At::Now), [None, None]);
}

#[test]
fn what_cannot_start_by_itself_conflicts_with_nothing() {
    let absent = || live(2, Achieves::Absent);
    let order = || Some(Order { by: "ann".into(), reason: String::new(), kill: false });
    conflict(absent(), None, [None, None]);
    let stopped = LiveAdvertisement { stopped: order(), ..absent() };
    conflict(stopped, Some(At::Now), [None, None]);
    let revoked = LiveAdvertisement { revoked: order(), ..absent() };
    conflict(revoked, Some(At::Now), [None, None]);
    let expired = LiveAdvertisement { expires: Some(Wall(1_000)), ..absent() };
    conflict(expired, Some(At::Now), [None, None]);
}

#[track_caller]
fn supersedes(new: LiveAdvertisement, due: Option<At>, expected: [Option<&str>; 2]) {
    let open = [open(1, "first#1", Some(At::Now)), open(2, "first#1", due)];
    let policy = compiled(&[live(1, Achieves::Present), new], &open);
    let found: Vec<Option<String>> =
        policy.advertisements.into_iter().map(|offer| offer.superseded).collect();
    assert_eq!(found, expected.map(|one| one.map(str::to_owned)));
}

#[test]
fn what_is_advertised_takes_the_place_of_what_its_package_replaces() {
    let world = |replaced: &str| LiveAdvertisement {
        package: pinned("world", "2"),
        supersedes: vec![name(replaced)],
        ..live(2, Achieves::Present)
    };
    supersedes(world("hello"), Some(At::Now), [Some("world@2"), None]);
    supersedes(world("other"), Some(At::Now), [None, None]);
    supersedes(world("hello"), None, [None, None]);
    let removes = LiveAdvertisement { achieves: Achieves::Absent, ..world("hello") };
    supersedes(removes, Some(At::Now), [None, None]);
    let expired = LiveAdvertisement { expires: Some(Wall(1_000)), ..world("hello") };
    supersedes(expired, Some(At::Now), [None, None]);
}

#[test]
fn two_packages_that_replace_each_other_replace_nothing() {
    let one = LiveAdvertisement { supersedes: vec![name("world")], ..live(1, Achieves::Present) };
    let other = LiveAdvertisement {
        package: pinned("world", "2"),
        supersedes: vec![one.package.name.clone()],
        ..live(2, Achieves::Present)
    };
    let open = [open(1, "first#1", Some(At::Now)), open(2, "first#1", Some(At::Now))];
    let policy = compiled(&[one, other], &open);
    assert!(policy.advertisements.iter().all(|offer| offer.superseded.is_none()));
}

#[test]
fn windows_stand_in_the_policy_by_name_and_ask_for_an_agent_that_knows_them() {
    let window = |name: &str| -> Window {
        let at = "2027-01-01T00:00:00Z";
        serde_json::from_value(json!({"name": name, "at": at, "duration": "1h"})).unwrap()
    };
    let plain = compiled(&[], &[]);
    assert_eq!(
        (plain.format, serde_json::to_string(&plain).unwrap().contains("windows")),
        (1, false)
    );
    let policy = compiled_with(vec![window("b"), window("a")], &[], &[]);
    assert_eq!(policy.format, 2, "an agent that knows no windows must not act on it");
    assert_eq!(policy.windows, [window("a"), window("b")]);
}
