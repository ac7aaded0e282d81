use std::time::Duration;

use muster_model::advertisement::{At, OfflineFor};
use muster_model::period::Period;
use muster_model::policy::Offer;
use muster_model::state::{Rule, Waiting};
use serde_json::json;

use crate::input::{ContentNews, Found, Input};
use crate::sometimes::Branch;
use crate::step::Effect;
use crate::world::*;

/// Offers one package and tells the story of its obligation.
#[track_caller]
fn check(arrange: impl FnOnce(&mut World, &mut muster_model::policy::Offer), expected: &[&str]) {
    let mut world = World::new();
    let mut offer = world.hello(1);
    arrange(&mut world, &mut offer);
    world.offer(vec![offer]);
    assert_eq!(world.story(&key(1)), expected);
}

#[test]
fn the_main_path_accepts_runs_and_succeeds_by_detection() {
    check(|_, _| {}, &["accepted", "running(attempt 1)", "succeeded(detected)"]);
}

#[test]
fn without_detection_the_exit_code_is_the_evidence_and_says_so() {
    check(
        |world, offer| *offer = world.package(1, program(json!({})), false),
        &["accepted", "running(attempt 1)", "succeeded(exit-code)"],
    );
}

#[test]
fn what_is_there_already_succeeds_without_a_run() {
    let present = |world: &mut World, _: &mut _| world.answers.found.push_back(Found::Present);
    check(present, &["accepted", "succeeded(already-present)"]);
}

#[test]
fn an_uninstall_is_done_when_the_software_is_absent() {
    check(
        |world, offer| {
            *offer = world.package(1, program(json!({"achieves": "absent"})), true);
            world.answers.found.push_back(Found::Absent);
        },
        &["accepted", "succeeded(already-present)"],
    );
}

#[test]
fn a_detection_error_fails_and_never_starts_a_program() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.answers.found.push_back(Found::Error("exit code 7".into()));
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "failed(detection-error: exit code 7)");
    assert_eq!(world.armed(), []);
}

#[test]
fn a_program_that_achieves_nothing_visible_is_not_held_against_detection() {
    let mut world = World::new();
    let program = program(json!({"achieves": "nothing", "rerun": "never"}));
    let offer = world.package(1, program, true);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(exit-code)");
    assert!(!world.done.iter().any(|effect| matches!(effect, Effect::Detect { .. })));
}

#[test]
fn another_platform_is_not_applicable_until_the_facts_change() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"platform": "linux/aarch64"})), true);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "not-applicable(platform)");
    let mut named = facts();
    named.name = "other".into();
    world.give(Input::FactsChanged(named));
    assert_eq!(world.state(&key(1)), "not-applicable(platform)");
    let mut moved = facts();
    moved.arch = "aarch64".into();
    world.give(Input::FactsChanged(moved));
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_foreign_platform_is_seen_from_the_manifest_and_nothing_more_is_fetched() {
    let mut world = World::new();
    let offer = world.package(1, program(json!({"platform": "windows"})), true);
    let manifest = offer.package.manifest;
    let manifested = world.programs.remove(&manifest).unwrap();
    world.offer(vec![offer]);
    let news = ContentNews::Manifest(Box::new(manifested));
    let step = world.give(Input::Content { manifest, news });
    assert_eq!(world.state(&key(1)), "not-applicable(platform)");
    assert!(step.effects.contains(&Effect::DropContent(manifest)));
}

#[test]
fn a_program_that_the_package_lacks_is_a_failure_with_its_name() {
    check(
        |_, offer| offer.program = muster_model::name::Name::new("remove").unwrap(),
        &["accepted", "failed(no-such-program: the package has no program called `remove`)"],
    );
}

#[test]
fn nothing_mandatory_is_available_and_nothing_starts() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = None;
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.state(&key(1)), "available");
    assert!(!world.done.iter().any(|effect| matches!(effect, Effect::Fetch(_))));
}

#[test]
fn content_is_fetched_ahead_of_the_time_and_nothing_starts_before_it() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    let due = NOON.plus(Duration::from_secs(7_200));
    offer.occurrences[0].at = Some(At::Instant(due));
    world.offer(vec![offer]);
    assert!(world.done.iter().any(|effect| matches!(effect, Effect::Fetch(_))));
    world.pass(Duration::from_secs(7_199));
    assert_eq!(world.state(&key(1)), format!("waiting(time until {due})"));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_local_time_is_the_devices_and_one_in_the_spring_gap_is_read_with_the_offset_before_it() {
    let berlin = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    for (local, utc) in [
        ("2027-01-31T08:00:00", "2027-01-31T07:00:00Z"),
        ("2027-03-28T02:30:00", "2027-03-28T01:30:00Z"),
        ("2027-10-31T02:30:00", "2027-10-31T00:30:00Z"),
    ] {
        let due = crate::schedule::due_time(local.parse().unwrap(), &berlin).unwrap();
        assert_eq!(due.to_string(), utc, "{local}");
    }
}

#[test]
fn expiry_forbids_starting() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.expires = Some(NOON.plus(Duration::from_secs(60)));
    offer.stopped = order();
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.state(&key(1)), "expired(advertisement)");
    assert!(world.agent.fired().has(Branch::Expired));
}

#[test]
fn expiry_never_forbids_finishing() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.expires = Some(NOON.plus(Duration::from_secs(60)));
    world.answers.endless = true;
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    world.answers.found.push_back(Found::Present);
    world.see(crate::input::RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_revoked_package_fails_what_was_not_started() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.revoked = order();
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "failed(revoked: by ada)");
}

/// While `forbid` holds nothing is fetched or started; when it ends the program runs.
#[track_caller]
fn check_forbidden(
    forbid: fn(&mut World, &mut muster_model::policy::Offer),
    allow: fn(&mut World, &mut muster_model::policy::Offer),
    expected: &str,
) {
    let mut world = World::new();
    let mut offer = world.hello(1);
    forbid(&mut world, &mut offer);
    world.offer(vec![offer.clone()]);
    assert_eq!(world.state(&key(1)), expected);
    assert!(!world.done.iter().any(|effect| matches!(effect, Effect::Fetch(_))));
    allow(&mut world, &mut offer);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_person_who_stopped_it_holds_it_back() {
    check_forbidden(|_, o| o.stopped = order(), |_, o| o.stopped = None, "waiting(stopped)");
}

#[test]
fn a_halt_holds_everything_back() {
    check_forbidden(
        |w, _| w.policy.halted = order(),
        |w, _| w.policy.halted = None,
        "waiting(halted)",
    );
}

#[test]
fn a_held_device_starts_nothing() {
    check_forbidden(|w, _| w.policy.held = order(), |w, _| w.policy.held = None, "waiting(held)");
}

#[test]
fn a_conflict_holds_back() {
    check_forbidden(
        |_, o| o.conflict = muster_model::name::Name::new("other").ok(),
        |_, o| o.conflict = None,
        "waiting(conflict)",
    );
}

#[test]
fn what_another_package_replaces_ends_unless_it_runs() {
    let superseded = |offer: &Offer| Offer { superseded: Some("new@2".into()), ..offer.clone() };
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![superseded(&offer)]);
    assert_eq!(world.story(&key(1)), ["superseded(new@2)"]);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "superseded(new@2)", "an end is an end");
    let mut world = World::new();
    world.answers.endless = true;
    let offer = world.hello(1);
    world.offer(vec![offer.clone()]);
    world.offer(vec![superseded(&offer)]);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
}

#[test]
fn a_paused_component_starts_nothing() {
    check_forbidden(
        |w, _| drop(w.give(Input::Paused { paused: true })),
        |w, _| drop(w.give(Input::Paused { paused: false })),
        "waiting(paused)",
    );
}

#[test]
fn a_policy_that_is_too_old_starts_nothing_until_the_site_is_heard() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    let due = NOON.plus(Duration::from_secs(4_000));
    offer.occurrences[0].at = Some(At::Instant(due));
    offer.offline_for = OfflineFor::AtMost(Period::hours(1));
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.state(&key(1)), format!("waiting(time until {due})"));
    world.pass(Duration::from_secs(1_000));
    assert_eq!(world.state(&key(1)), "waiting(stale-policy)");
    let site_time = Some(world.agent.trusted(world.now));
    world.give(Input::NothingNew { site_time });
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_replayed_site_time_does_not_freshen_a_policy() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::Instant(NOON.plus(Duration::from_secs(4_000))));
    offer.offline_for = OfflineFor::AtMost(Period::hours(1));
    world.offer(vec![offer]);
    world.pass(Duration::from_secs(5_000));
    world.give(Input::NothingNew { site_time: Some(NOON) });
    world.serve();
    assert_eq!(world.state(&key(1)), "waiting(stale-policy)");
}

#[test]
fn an_unlimited_policy_is_never_stale() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(At::Instant(NOON.plus(Duration::from_secs(86_400 * 400))));
    offer.offline_for = OfflineFor::Unlimited;
    world.offer(vec![offer]);
    world.move_to(world.now.elapsed.plus(Duration::from_secs(86_400 * 401)));
    world.give(Input::Tick);
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn a_condition_is_waited_for_and_is_no_spent_attempt() {
    let mut world = World::new();
    let offer = world.hello(1);
    let locked = Some(Waiting::PackageManager);
    world.answers.conditions.extend([locked, locked, Some(Waiting::Disk)]);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(package-manager)");
    world.pass(Duration::from_secs(91));
    assert_eq!(
        world.story(&key(1)),
        [
            "accepted",
            "waiting(package-manager)",
            "waiting(disk)",
            "running(attempt 1)",
            "succeeded(detected)"
        ]
    );
}

#[test]
fn a_wait_for_a_condition_survives_a_restart_without_a_word() {
    let mut world = World::new();
    let offer = world.hello(1);
    let locked = Some(Waiting::PackageManager);
    world.answers.conditions.extend([locked, locked]);
    world.offer(vec![offer]);
    let told = world.story(&key(1)).len();
    world.restart();
    world.serve();
    assert_eq!(world.story(&key(1)).len(), told);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn one_run_at_a_time_and_the_next_begins_when_the_turn_is_free() {
    let mut world = World::new();
    let offers = vec![world.hello(1), world.hello(2)];
    world.answers.endless = true;
    world.offer(offers);
    assert_eq!(world.state(&key(1)), "running(attempt 1)");
    assert_eq!(world.state(&key(2)), "waiting(turn)");
    world.answers.found.push_back(Found::Present);
    world.see(crate::input::RunEvidence::Exited(exited(0)));
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
    assert_eq!(world.state(&key(2)), "running(attempt 1)");
}

#[test]
fn a_stop_between_the_conditions_and_the_start_is_obeyed() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    world.answers.mute = true;
    world.offer(vec![offer.clone()]);
    offer.stopped = order();
    world.offer(vec![offer]);
    world.give(Input::Conditions { key: key(1), blocked: None });
    assert_eq!(world.state(&key(1)), "waiting(stopped)");
    assert_eq!(world.armed(), []);
}

#[test]
fn refused_content_fails_by_the_rule_that_refused_it() {
    for rule in [Rule::ContentRefused, Rule::PublisherRefused] {
        let mut world = World::new();
        let offer = world.hello(1);
        let manifest = offer.package.manifest;
        world.programs.clear();
        world.offer(vec![offer]);
        let news = ContentNews::Refused { rule, why: "signed by a stranger".into() };
        world.give(Input::Content { manifest, news });
        assert_eq!(world.state(&key(1)), format!("failed({rule}: signed by a stranger)"));
    }
}

#[test]
fn content_altered_on_disk_is_refused_before_a_detection_runs_from_it() {
    let mut world = World::new();
    let offer = world.hello(1);
    let manifest = offer.package.manifest;
    world.answers.found.push_back(Found::ContentRefused("chunk 3 differs".into()));
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "failed(content-refused: chunk 3 differs)");
    assert!(world.done.contains(&Effect::DropContent(manifest)));
    assert_eq!(world.armed(), []);
}

#[test]
fn an_available_program_that_gets_a_time_is_fetched_and_runs() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    offer.occurrences[0].at = None;
    world.offer(vec![offer.clone()]);
    assert_eq!(world.state(&key(1)), "available");
    offer.occurrences[0].at = Some(At::Now);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

#[test]
fn nothing_starts_before_the_conditions_are_answered() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.answers.mute = true;
    world.offer(vec![offer]);
    world.give(Input::Tick);
    world.give(Input::LinkUp);
    assert_eq!(world.armed(), []);
    world.give(Input::Conditions { key: key(1), blocked: None });
    assert_eq!(world.armed(), [(1, 1)]);
}
