use muster_model::digest::Digest;
use muster_model::id::{DeviceId, EpochId};
use muster_model::message::Body;
use muster_model::policy::{KeySignature, Offer};
use muster_model::sign::{PublicKey, Signature};
use serde_json::json;

use crate::input::{Found, Input, RunEvidence};
use crate::sometimes::Branch;
use crate::step::Write;
use crate::world::*;

/// Hands in a policy that must not be acted on; answers why.
#[track_caller]
fn check_refused(bend: impl FnOnce(&mut muster_model::policy::Policy)) -> String {
    let mut world = World::new();
    let offer = world.hello(1);
    world.policy.revision = 10;
    world.offer(Vec::new());
    let mut policy = world.policy.clone();
    policy.advertisements = vec![offer];
    bend(&mut policy);
    let step = world.give(Input::PolicyArrived { policy, site_time: None });
    assert!(!step.writes.iter().any(|write| matches!(write, Write::Policy(_))));
    assert!(world.journal.saved.obligations.is_empty());
    match world.bodies().pop() {
        Some(Body::PolicyRefused { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_devices_policy_is_refused() {
    let why = check_refused(|policy| policy.device = DeviceId(uuid::Uuid::nil()));
    assert!(why.contains("for device 0000"), "{why}");
}

#[test]
fn an_older_revision_is_refused() {
    let why = check_refused(|policy| policy.revision = 10);
    assert_eq!(why, "the policy is of revision 10, older than 11 at hand");
}

#[test]
fn a_newer_format_is_refused() {
    let newer = muster_model::policy::POLICY_FORMAT + 1;
    let why = check_refused(|policy| policy.format = newer);
    assert!(why.contains(&format!("format {newer}")), "{why}");
}

#[test]
fn a_refusal_that_repeats_itself_is_one_message() {
    let mut world = World::new();
    world.offer(Vec::new());
    for _ in 0..3 {
        world.give(Input::PolicyRefused { why: "not signed by the site".into() });
    }
    let refusals =
        world.bodies().iter().filter(|body| matches!(body, Body::PolicyRefused { .. })).count();
    assert_eq!(refusals, 1);
}

#[test]
fn the_same_policy_again_changes_nothing() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer]);
    let policy = world.policy.clone();
    let step = world.give(Input::PolicyArrived { policy, site_time: None });
    assert_eq!(step.writes, []);
}

#[test]
fn an_epoch_that_the_site_has_left_never_comes_back() {
    let mut world = World::new();
    world.offer(Vec::new());
    let old = world.policy.clone();
    world.policy.epoch = EpochId(uuid::Uuid::from_u128(0xe1));
    world.policy.revision = 0;
    world.offer(Vec::new());
    assert!(world.agent.fired().has(Branch::EpochEntered));
    let policy = muster_model::policy::Policy { revision: 99, ..old };
    world.give(Input::PolicyArrived { policy, site_time: None });
    assert!(world.agent.fired().has(Branch::PolicyRefused));
    assert_eq!(world.agent.memory.epoch, Some(world.policy.epoch));
}

#[test]
fn who_leaves_the_collection_is_withdrawn_and_takes_up_again_on_return() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    world.offer(Vec::new());
    assert_eq!(world.state(&key(1)), "withdrawn(left-collection)");
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(
        world.story(&key(1)),
        [
            "waiting(stopped)",
            "withdrawn(left-collection)",
            "accepted",
            "running(attempt 1)",
            "succeeded(detected)"
        ]
    );
}

#[test]
fn an_assignment_that_was_removed_withdraws_for_good() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.stopped = order();
    world.offer(vec![offer.clone()]);
    let due = std::mem::take(&mut offer.occurrences);
    world.offer(vec![offer.clone()]);
    assert_eq!(world.state(&key(1)), "withdrawn(assignment-removed)");
    offer.occurrences = due;
    offer.stopped = None;
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "withdrawn(assignment-removed)");
}

#[test]
fn what_was_not_started_moves_to_the_new_revision() {
    let mut world = World::new();
    let mut old = world.hello(1);
    old.stopped = order();
    world.offer(vec![old]);
    let mut new = world.package(1, program(json!({"disk": 5})), false);
    new.revision = 2;
    world.offer(vec![new]);
    let last = world.reports(&key(1)).pop().unwrap();
    assert_eq!((last.revision, last.state.to_string()), (2, "succeeded(exit-code)".to_owned()));
    assert!(world.agent.fired().has(Branch::Moved));
}

#[test]
fn what_runs_finishes_under_the_old_revision_and_what_ended_stays_ended() {
    let mut world = World::new();
    let old = world.hello(1);
    world.answers.endless = true;
    world.offer(vec![old]);
    let mut new = world.package(1, program(json!({"disk": 5})), false);
    new.revision = 2;
    world.offer(vec![new.clone()]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.answers.found.push_back(Found::Present);
    world.see(RunEvidence::Exited(exited(0)));
    new.revision = 3;
    world.offer(vec![new]);
    let last = world.reports(&key(1)).pop().unwrap();
    assert_eq!((last.revision, last.state.to_string()), (1, "succeeded(detected)".to_owned()));
}

#[test]
fn another_package_has_all_its_uncounted_it() {
    let mut world = World::new();
    let once = json!({"attempts": 2, "retryDelays": ["1h"]});
    let old = world.package(1, program(once), false);
    world.answers.exits.extend([exited(3), exited(3)]);
    world.offer(vec![old]);
    assert!(world.state(&key(1)).starts_with("waiting(retry"), "{}", world.state(&key(1)));
    let mut new = world.package(1, program(json!({"attempts": 2, "disk": 5})), false);
    new.revision = 2;
    world.offer(vec![new]);
    let last = world.reports(&key(1)).pop().unwrap();
    assert_eq!(last.attempt, 2);
    assert!(last.state.to_string().starts_with("waiting(retry"), "{}", last.state);
}

#[test]
fn offers_in_any_order_are_found() {
    let mut world = World::new();
    let offers = vec![world.hello(9), world.hello(3), world.hello(5)];
    world.answers.found.extend([Found::Present, Found::Present, Found::Present]);
    world.offer(offers);
    for n in [3, 5, 9] {
        assert_eq!(world.state(&key(n)), "succeeded(already-present)");
    }
}

#[test]
fn the_tag_of_the_policy_at_hand_goes_with_the_next_poll() {
    let mut world = World::new();
    world.offer(Vec::new());
    world.pass(std::time::Duration::from_secs(2));
    let tag = Digest::of(&world.policy.revision.to_le_bytes());
    assert!(world.done.iter().any(|effect| matches!(effect,
        crate::step::Effect::Poll { tag: Some(sent), .. } if *sent == tag)));
}

/// A device whose obligation ended before the site was restored, and is not offered it at first.
fn ended_before_a_restore() -> (World, Offer) {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer.clone()]);
    world.policy.epoch = EpochId(uuid::Uuid::from_u128(0xe1));
    world.offer(Vec::new());
    (world, offer)
}

#[test]
fn a_restored_site_that_means_the_device_anew_is_told_where_it_stands() {
    let (mut world, offer) = ended_before_a_restore();
    let told = world.story(&key(1)).len();
    world.offer(vec![offer.clone()]);
    assert_eq!(world.story(&key(1))[told..], ["succeeded(detected)"]);
    assert_eq!(world.armed().len(), 1);
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)).len(), told + 1, "once is enough");
}

#[test]
fn a_site_that_was_never_restored_is_told_nothing_twice() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer.clone()]);
    let told = world.story(&key(1)).len();
    world.offer(Vec::new());
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)).len(), told);
}

#[test]
fn signatures_of_a_new_key_are_taken_over_and_nothing_starts_again() {
    let mut world = World::new();
    world.answers.endless = true;
    let mut offer = world.hello(1);
    world.offer(vec![offer.clone()]);
    let reports = world.reports(&key(1)).len();
    let signature = KeySignature { key: PublicKey([7; 32]), signature: Signature([9; 64]) };
    offer.package.signatures.push(signature);
    world.offer(vec![offer.clone()]);
    let saved = &world.journal.saved;
    let obligation = saved.obligations.iter().find(|record| record.key == key(1)).unwrap();
    assert_eq!(obligation.package.as_ref(), Some(&offer.package));
    assert_eq!(saved.contents[0].package, offer.package);
    assert_eq!(world.reports(&key(1)).len(), reports, "nothing was said anew");
}
