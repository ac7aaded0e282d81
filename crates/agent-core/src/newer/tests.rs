use muster_model::advertisement::At;
use muster_model::policy::{Due, Offer};
use serde_json::json;

use crate::input::Found;
use crate::world::*;

/// An offer of `package` that does what `achieves` says and replaces `old`, under number `n`.
fn offer(world: &mut World, n: u128, package: &str, achieves: &str, old: &[&str]) -> Offer {
    let mut offer = world.package(n, program(json!({"achieves": achieves})), false);
    offer.package.name = package.parse().unwrap();
    offer.achieves = serde_json::from_value(json!(achieves)).unwrap();
    offer.supersedes = old.iter().map(|name| name.parse().unwrap()).collect();
    offer
}

const NEWER: &str = "not-applicable(newer-present)";

#[test]
fn what_was_replaced_does_not_start_also_when_the_newer_one_is_advertised_no_more() {
    let mut world = World::new();
    let new = offer(&mut world, 1, "new", "present", &["old"]);
    let old = offer(&mut world, 2, "old", "present", &[]);
    world.offer(vec![new]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
    world.offer(vec![old]);
    assert_eq!(world.state(&key(2)), NEWER);
    world.restart();
    world.serve();
    assert_eq!(world.story(&key(2)), [NEWER], "said once");
    assert_eq!(world.armed().len(), 1);
    let chain = world.agent.why(world.now, &key(2)).unwrap().chain;
    let link = chain.iter().find(|link| link.step == "newer").unwrap();
    assert!(link.because.starts_with("new@1, which replaces it"), "{link:?}");
}

#[test]
fn a_retry_of_what_was_replaced_meanwhile_is_not_made() {
    let mut world = World::new();
    let old = offer(&mut world, 1, "old", "present", &[]);
    let new = offer(&mut world, 2, "new", "present", &["old"]);
    world.answers.exits.push_back(exited(3));
    world.offer(vec![old.clone()]);
    assert!(world.state(&key(1)).starts_with("waiting(retry"));
    world.offer(vec![old, new]);
    assert_eq!(world.state(&key(1)), NEWER);
    world.pass(std::time::Duration::from_secs(24 * 3_600));
    assert_eq!(world.armed().len(), 2);
}

#[test]
fn what_failed_or_does_something_else_replaces_nothing() {
    for (achieves, code) in [("present", 3), ("nothing", 0)] {
        let mut world = World::new();
        let new = offer(&mut world, 1, "new", achieves, &["old"]);
        let old = offer(&mut world, 2, "old", "present", &[]);
        world.answers.exits.push_back(exited(code));
        world.offer(vec![new]);
        world.offer(vec![old]);
        assert_eq!(world.state(&key(2)), "succeeded(exit-code)", "{achieves} {code}");
    }
}

#[test]
fn what_does_not_install_is_never_replaced() {
    for achieves in ["absent", "nothing"] {
        let mut world = World::new();
        let new = offer(&mut world, 1, "new", "present", &["old"]);
        let old = offer(&mut world, 2, "old", achieves, &[]);
        world.offer(vec![new, old]);
        assert_eq!(world.state(&key(2)), "succeeded(exit-code)", "{achieves}");
    }
}

#[test]
fn two_that_replace_each_other_and_two_versions_of_one_replace_nothing() {
    for (one, two) in [("new", "old"), ("same", "same")] {
        let mut world = World::new();
        let first = offer(&mut world, 1, one, "present", &[two]);
        let second = offer(&mut world, 2, two, "present", &[one]);
        world.offer(vec![first, second]);
        world.pass(std::time::Duration::from_secs(600));
        assert_eq!(world.state(&key(2)), "succeeded(exit-code)", "{one} {two}");
    }
}

#[test]
fn an_older_version_that_does_not_say_so_is_replaced_by_a_newer_one_that_does() {
    let mut world = World::new();
    let second = offer(&mut world, 1, "same", "present", &["same"]);
    let first = offer(&mut world, 2, "same", "present", &[]);
    world.offer(vec![second]);
    world.offer(vec![first]);
    assert_eq!(world.state(&key(2)), NEWER);
}

#[test]
fn once_the_newer_one_is_removed_the_older_one_starts() {
    let mut world = World::new();
    let new = offer(&mut world, 1, "new", "present", &["old"]);
    let old = offer(&mut world, 2, "old", "present", &[]);
    let gone = offer(&mut world, 3, "new", "absent", &["old"]);
    world.offer(vec![new.clone()]);
    world.offer(vec![new, old.clone()]);
    assert_eq!(world.state(&key(2)), NEWER);
    world.pass(std::time::Duration::from_secs(60));
    world.offer(vec![old, gone]);
    assert_eq!(world.state(&key(3)), "succeeded(exit-code)");
    world.pass(std::time::Duration::from_secs(600));
    let story = [NEWER, "accepted", "running(attempt 1)", "succeeded(exit-code)"];
    assert_eq!(world.story(&key(2)), story);
}

#[test]
fn a_device_of_before_learns_what_its_package_replaces_with_the_next_policy() {
    let mut world = World::new();
    let new = offer(&mut world, 1, "new", "present", &["old"]);
    let mut silent = new.clone();
    silent.supersedes.clear();
    world.offer(vec![silent]);
    world.offer(vec![new]);
    let old = offer(&mut world, 2, "old", "present", &[]);
    world.offer(vec![old]);
    assert_eq!(world.state(&key(2)), NEWER);
}

#[test]
fn who_asks_for_what_was_replaced_is_told_so() {
    let mut world = World::new();
    let new = offer(&mut world, 1, "new", "present", &["old"]);
    let mut old = offer(&mut world, 2, "old", "present", &[]);
    old.occurrences = vec![Due { occurrence: "(available)#1".parse().unwrap(), at: None }];
    let key = crate::saved::Key {
        advertisement: old.advertisement,
        occurrence: old.occurrences[0].occurrence.clone(),
    };
    world.offer(vec![new.clone()]);
    world.offer(vec![new, old.clone()]);
    assert_eq!(world.state(&key), "available");
    let request = crate::user::Request::Install { advertisement: old.advertisement };
    world.give(crate::input::Input::Asked(request.clone()));
    world.serve();
    assert_eq!(world.state(&key), NEWER);
    let refused = world.agent.weigh(world.now, &request).unwrap_err().to_string();
    assert!(refused.contains("newer-present"), "{refused}");
}

#[test]
fn what_was_found_there_replaces_as_what_was_installed_does() {
    let mut world = World::new();
    let mut new = world.hello(1);
    new.supersedes = vec!["old".parse().unwrap()];
    let old = offer(&mut world, 2, "old", "present", &[]);
    assert_eq!(new.occurrences[0].at, Some(At::Now));
    world.answers.found.push_back(Found::Present);
    world.offer(vec![new]);
    assert_eq!(world.state(&key(1)), "succeeded(already-present)");
    world.offer(vec![old]);
    assert_eq!(world.state(&key(2)), NEWER);
}
