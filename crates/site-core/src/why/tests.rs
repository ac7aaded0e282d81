//! One thing spoiled at a time, and the step that names it.

use muster_model::advertisement::OfflineFor;
use muster_model::package::Achieves;
use muster_model::state::{Author, Waiting};
use serde_json::json;

use super::*;
use crate::device::Admission;
use crate::testing::*;
use muster_model::rule::Truth;

/// A device that is all right, and an advertisement that is live; each test spoils one thing.
struct Case {
    device: Device,
    advertisement: LiveAdvertisement,
    collection: Name,
    intervals: Vec<Interval>,
    occurrence: Option<OccurrenceRow>,
    row: Option<ObligationRow>,
    halted: Option<Order>,
    deleted: bool,
    standing: Standing,
    told: Option<(Digest, Wall)>,
    marks: Marks,
    windows: Vec<Window>,
    too_short: Option<String>,
    removing: Option<ObligationRow>,
}

fn order() -> Order {
    Order { by: "ann".into(), reason: "broken".into(), kill: false }
}

fn case() -> Case {
    Case {
        device: device(1),
        advertisement: LiveAdvertisement {
            advertisement: advertisement_id(1),
            name: name("hello-to-lab"),
            revision: 3,
            collection: collection_id(1),
            package: pinned("hello", "2.10"),
            program: name("install"),
            achieves: Achieves::Present,
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
        },
        collection: name("lab"),
        intervals: vec![interval(1, 1, 1, None)],
        occurrence: Some(occurrence_row(2, None)),
        row: None,
        halted: None,
        deleted: false,
        standing: Standing {
            named: false,
            query: Truth::Yes,
            included: Truth::No,
            within: Truth::Yes,
            excluded: Truth::No,
            member: Truth::Yes,
        },
        told: Some((Digest::of(b"tag"), Wall(4_000))),
        marks: Marks::default(),
        windows: Vec::new(),
        too_short: None,
        removing: None,
    }
}

impl Case {
    fn why(&self) -> Why {
        why(&Inputs {
            now: Wall(9_000),
            device: &self.device,
            last_contact: Some(Wall(4_000)),
            advertisement: &self.advertisement,
            deleted: self.deleted,
            collection: &self.collection,
            standing: Some(self.standing),
            intervals: &self.intervals,
            occurrence: self.occurrence.as_ref(),
            row: self.row.as_ref(),
            halted: self.halted.as_ref(),
            conflict: None,
            windows: &self.windows,
            too_short: self.too_short.clone(),
            tag: Digest::of(b"tag"),
            told: self.told,
            marks: self.marks.clone(),
            removal: self
                .removing
                .as_ref()
                .map(|row| Removing { program: &self.collection, row: Some(row) }),
        })
    }

    /// The first step that is not a yes must be `step` and say `because`; what comes next must say
    /// `next`.
    #[track_caller]
    fn check(&self, step: &str, because: &str, next: &str) {
        let why = self.why();
        let first = why.chain.iter().find(|one| one.verdict != Verdict::Yes);
        let first = first.map_or(("", ""), |one| (one.step.as_str(), one.because.as_str()));
        assert!(first.0 == step && first.1.contains(because), "{why:#?}");
        assert!(why.next.what.contains(next), "{why:#?}");
    }
}

#[test]
fn what_a_snapshot_undid_names_who_may_do_it_again() {
    let undone = State::RolledBack { cause: crate::put_back::SNAPSHOT.into() };
    let case = Case { row: Some(row(key(1), undone, Author::Site)), ..case() };
    case.check("outcome", "rolled-back(snapshot): decided by the site", "`muster rerun`");
}

#[test]
fn the_whole_chain_of_a_success_is_yes() {
    let case = Case { row: Some(row(key(1), succeeded(), Author::Device)), ..case() };
    case.check("", "", "it has ended");
    let why = case.why();
    let steps: Vec<&str> = why.chain.iter().map(|one| one.step.as_str()).collect();
    let expected = ["device", "collection", "occurrence", "advertisement", "policy", "outcome"];
    assert_eq!(steps, expected);
    assert_eq!((why.state, why.reason.as_deref()), (Some(Word::Succeeded), Some("detected")));
    let outcome = &why.chain[5].because;
    assert!(outcome.contains("said by the device in message 1/1, attempt 1"), "{outcome}");
}

#[test]
fn silence_is_told_apart_by_what_the_device_knows() {
    case().check("outcome", "has said nothing", "reports what it does");
    let old = Case { told: Some((Digest::of(b"old"), Wall(1))), ..case() };
    old.check("policy", "the newest is", "takes the newest policy");
    let never = Case { told: None, ..case() };
    never.check("policy", "has not asked", "takes the newest policy");
    let marks = Marks { silent: Some(Wall(4_000)), ..Marks::default() };
    Case { marks, ..case() }.check("outcome", "silent since", "heard of again");
}

#[test]
fn a_device_that_is_not_meant_hears_which_clause_decided() {
    let never = || Case { intervals: Vec::new(), ..case() };
    let with = |standing| Case { standing, ..never() };
    let no = Standing { member: Truth::No, ..case().standing };
    with(Standing { query: Truth::No, ..no }).check("collection", "no clause", "no clause");
    with(Standing { excluded: Truth::Yes, ..no }).check("collection", "exclude", "exclude");
    with(Standing { within: Truth::No, ..no }).check("collection", "limitTo", "limitTo");
    let unknown = Standing { query: Truth::Unknown, member: Truth::Unknown, ..no };
    with(unknown).check("collection", "cannot be decided", "cannot be decided");
    assert_eq!(with(no).why().state, None);
}

#[test]
fn who_came_after_it_closed_is_told_so() {
    let late = Case {
        intervals: vec![interval(1, 1, 9, None)],
        occurrence: Some(occurrence_row(2, Some(5))),
        ..case()
    };
    late.check("occurrence", "never a member while it was open", "never a member");
}

#[test]
fn a_person_who_holds_it_back_is_named() {
    let mut stopped = case();
    stopped.advertisement.stopped = Some(order());
    stopped.check("advertisement", "stopped by ann: broken", "until this changes: stopped by ann");
    let halted = Case { halted: Some(order()), ..case() };
    halted.check("advertisement", "halted by ann", "until this changes");
    let mut held = case();
    held.device.admission = Admission::Held { order: order() };
    held.check("device", "held by ann", "until this changes: held by ann");
    let mut revoked = case();
    revoked.advertisement.revoked = Some(order());
    revoked.check("advertisement", "hello@2.10 revoked by ann", "until this changes");
    let deleted = Case { deleted: true, ..case() };
    deleted.check("advertisement", "deleted", "until this changes");
}

#[test]
fn a_wait_says_when_it_is_looked_at_again() {
    let state = State::Waiting { why: Waiting::Retry, until: Some(Wall(12_000)) };
    let waits = Case { row: Some(row(key(1), state, Author::Device)), ..case() };
    waits.check("outcome", "waiting(retry", "looks again (retry)");
    assert_eq!(waits.why().next.at, Some(Wall(12_000)));
}

#[test]
fn a_run_that_goes_on_is_not_blocked_by_a_stop() {
    let mut running = Case { row: Some(row(key(1), running(), Author::Device)), ..case() };
    running.advertisement.stopped = Some(order());
    running.check("advertisement", "stopped", "the program ends");
}

#[test]
fn a_failure_names_the_way_out() {
    let failed = Case { row: Some(row(key(1), failed(), Author::Device)), ..case() };
    failed.check("outcome", "exit code 3", "muster rerun");
}

#[test]
fn the_answer_has_the_shape_that_scripts_read() {
    let json = serde_json::to_value(case().why()).unwrap();
    assert_eq!(json["state"], "targeted");
    assert_eq!(json["chain"][0]["step"], "device");
    assert_eq!(json["chain"][0]["verdict"], "yes");
    assert!(json["chain"][0]["because"].is_string() && json["next"]["what"].is_string());
}

/// A nightly window and a freeze.
fn windows() -> Vec<Window> {
    let nightly = json!({"name": "nightly", "every": "DTSTART:20270101T010000 RRULE:FREQ=DAILY",
        "duration": "4h"});
    let freeze = json!({"name": "year-end", "effect": "freeze", "at": "2027-12-20T00:00:00",
        "duration": "14d"});
    [nightly, freeze].map(|one| serde_json::from_value(one).unwrap()).to_vec()
}

#[track_caller]
fn check_window(why: Waiting, until: Option<Wall>, because: &str, next: &str) {
    let row = row(key(1), State::Waiting { why, until }, Author::Device);
    let case = Case { row: Some(row), windows: windows(), ..case() };
    case.check("window", because, next);
}

#[test]
fn a_wait_for_a_window_names_the_windows_and_the_time() {
    let opens = Some(Wall(1_800_000_000_000));
    let (window, freeze) = (Waiting::Window, Waiting::Freeze);
    let because = "opens at 2027-01-15T08:00:00Z: windows nightly and freezes year-end";
    check_window(window, opens, because, "a window opens that has room");
    check_window(freeze, opens, "may start at 2027-01-15T08:00:00Z", "the freeze ends");
    check_window(window, None, "cannot see", "until a window is given");
}

#[test]
fn a_window_that_is_too_short_is_the_reason() {
    let waits = State::Waiting { why: Waiting::Window, until: None };
    let too_short = Some("program `go` may run 1h".to_owned());
    let row = row(key(1), waits, Author::Device);
    let case = Case { row: Some(row), windows: windows(), too_short, ..case() };
    case.check("window", "may run 1h", "until a window is given");
}

#[test]
fn an_emergency_stands_above_the_windows() {
    let mut case = Case { windows: windows(), ..case() };
    case.advertisement.emergency = true;
    let why = case.why();
    let step = why.chain.iter().find(|one| one.step == "window").unwrap();
    assert_eq!(step.verdict, Verdict::Yes);
    assert!(step.because.contains("emergency"), "{}", step.because);
}

#[test]
fn a_removal_says_why_it_comes_and_when() {
    let mut key = key(1);
    key.occurrence = occurrence("(removal)#1");
    let grace = State::Waiting { why: Waiting::Time, until: Some(Wall(20_000)) };
    let mut left = Case { deleted: true, ..case() };
    left.row = Some(row(crate::testing::key(1), succeeded(), Author::Device));
    left.removing = Some(row(key.clone(), grace, Author::Site));
    let why = left.why();
    let step = why.chain.iter().find(|one| one.step == "removal").unwrap();
    assert!(step.because.contains("the advertisement was deleted"), "{why:#?}");
    assert_eq!(why.next.at, Some(Wall(20_000)));
    let opened = row(key.clone(), State::Targeted, Author::Site);
    left.row = Some(opened.clone());
    left.removing = Some(opened);
    let mut named = occurrence_row(2, None);
    named.occurrence = key.occurrence;
    named.spans.clear();
    left.occurrence = Some(named);
    let steps: Vec<String> = left.why().chain.into_iter().map(|one| one.step).collect();
    assert_eq!(steps, ["device", "removal", "policy", "outcome"]);
    left.deleted = false;
    left.standing.member = Truth::No;
    left.advertisement.stopped = Some(order());
    left.check("removal", "no longer a member of `lab`, stopped by ann", "");
}
