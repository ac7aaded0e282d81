use muster_model::id::CollectionId;
use muster_model::state::{Evidence, Withdrawal};

use super::*;
use crate::occurrence::Span;
use crate::testing::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const NOW: Wall = Wall(10_000);

fn removal(state: State, decided: Author) -> ObligationRow {
    let mut key = key(1);
    key.occurrence = occurrence("(removal)#1");
    row(key, state, decided)
}

fn installed() -> ObligationRow {
    row(key(1), succeeded(), Author::Device)
}

fn already_there() -> ObligationRow {
    let evidence = Evidence { rule: EvidenceKind::AlreadyPresent, exit_code: None };
    row(key(1), State::Succeeded { evidence }, Author::Device)
}

/// In a grace of a day that ends at `until`.
fn in_grace(until: Wall) -> ObligationRow {
    let state = State::Waiting { why: Waiting::Time, until: Some(until) };
    ObligationRow { since: Wall(until.0 - 24 * 3_600_000), ..removal(state, Author::Site) }
}

fn taken_back() -> ObligationRow {
    removal(State::Withdrawn { why: Withdrawal::AdvertisedAgain }, Author::Site)
}

/// `first#1` was announced by revision 1, `(removal)#1` by 5, `rerun` by the revision given.
fn occurrences(rerun: Option<u64>) -> Vec<OccurrenceRow> {
    let collection = CollectionId(Default::default());
    let mut first = occurrence_row(1, None);
    first.spans = vec![Span { collection, opened: Revision(1), closed: None }];
    let named = |name: &str, announced| {
        let mut row = occurrence_row(announced, None);
        row.occurrence = occurrence(name);
        row.spans.clear();
        row
    };
    let rerun = rerun.map(|announced| named("(rerun)#1", announced));
    [first, named("(removal)#1", 5)].into_iter().chain(rerun).collect()
}

#[track_caller]
fn check(advertised: bool, wanted: bool, rows: &[ObligationRow], expected: Next) {
    let inputs = Inputs {
        now: NOW,
        after: DAY,
        since: 1,
        advertised,
        wanted,
        occurrences: &occurrences(None),
        rows,
        targeted: &rows.iter().map(|row| row.key.occurrence.clone()).collect(),
    };
    assert_eq!(next(&inputs), expected, "{rows:?}");
}

#[test]
fn the_grace_begins_where_muster_installed_it_and_nobody_wants_it() {
    let begins = Next::Begin(Decision::Removal { until: Some(NOW.plus(DAY)) });
    check(false, false, &[installed()], begins);
    check(true, false, &[installed()], Next::Nothing);
    check(false, true, &[installed()], Next::Nothing);
    check(false, false, &[already_there()], Next::Nothing);
    check(false, false, &[row(key(1), failed(), Author::Device)], Next::Nothing);
    check(false, false, &[installed(), taken_back()], begins);
    let of_another_package = ObligationRow { revision: 0, ..installed() };
    check(false, false, &[of_another_package], Next::Nothing);
}

#[test]
fn the_grace_ends_in_an_offer_unless_it_is_wanted_again() {
    let later = NOW.plus(DAY);
    check(false, false, &[installed(), in_grace(later)], Next::At(later));
    check(false, false, &[installed(), in_grace(NOW)], Next::Open);
    let edited = ObligationRow { since: NOW, ..in_grace(Wall(NOW.0 + 1)) };
    check(false, false, &[installed(), edited], Next::Until(later));
    check(true, false, &[installed(), in_grace(NOW)], Next::TakeBack);
    check(false, true, &[installed(), in_grace(later)], Next::TakeBack);
    let accepted = removal(State::Accepted, Author::Device);
    check(false, false, &[installed(), accepted.clone()], Next::Nothing);
    check(true, false, &[installed(), accepted], Next::TakeBack);
}

#[test]
fn a_removal_of_what_was_another_package_is_given_up_before_it_begins() {
    let earlier = |row: ObligationRow| ObligationRow { revision: 0, ..row };
    let (accepted, runs) =
        (removal(State::Accepted, Author::Device), removal(running(), Author::Device));
    check(false, false, &[earlier(installed()), earlier(in_grace(NOW))], Next::Undeclared);
    check(false, false, &[earlier(installed()), earlier(accepted.clone())], Next::Undeclared);
    check(true, false, &[earlier(installed()), earlier(accepted)], Next::Undeclared);
    check(false, false, &[earlier(installed()), earlier(runs)], Next::Nothing);
}

#[test]
fn what_the_device_began_is_left_to_it_and_happens_once() {
    let runs = removal(running(), Author::Device);
    check(true, false, &[installed(), runs.clone()], Next::Nothing);
    check(false, false, &[installed(), runs], Next::Nothing);
    check(false, false, &[installed(), removal(succeeded(), Author::Device)], Next::Nothing);
    check(false, false, &[installed(), removal(failed(), Author::Device)], Next::Nothing);
}

#[test]
fn what_was_removed_is_installed_again_where_it_is_advertised_again() {
    let removed = [installed(), removal(succeeded(), Author::Device)];
    check(true, false, &removed, Next::Again);
    let mut rerun = installed();
    rerun.key.occurrence = occurrence("(rerun)#1");
    let rows: Vec<ObligationRow> = removed.iter().cloned().chain([rerun]).collect();
    let next = |advertised| {
        next(&Inputs {
            now: NOW,
            after: Duration::ZERO,
            since: 1,
            advertised,
            wanted: false,
            occurrences: &occurrences(Some(9)),
            rows: &rows,
            targeted: &rows.iter().map(|row| row.key.occurrence.clone()).collect(),
        })
    };
    assert_eq!(next(true), Next::Nothing, "it is on its way already");
    assert_eq!(next(false), Next::Begin(Decision::Removal { until: None }), "installed since");
}

#[test]
fn removals_share_an_occurrence_until_something_else_is_announced() {
    let id = advertisement_id(1);
    let named = |occurrences: &[OccurrenceRow], rows: &[ObligationRow]| {
        let row = next_named(Occurrence::REMOVAL, id, occurrences, rows, Revision(12)).unwrap();
        (row.occurrence.to_string(), row.announced.0)
    };
    let (mut first, all, since) = (occurrences(None), occurrences(None), occurrences(Some(9)));
    first.truncate(1);
    assert_eq!(named(&first, &[]), ("(removal)#1".into(), 12));
    assert_eq!(named(&all, &[installed()]), ("(removal)#1".into(), 5));
    assert_eq!(named(&all, &[taken_back()]), ("(removal)#1".into(), 5));
    let removed = removal(succeeded(), Author::Device);
    assert_eq!(named(&all, &[removed]), ("(removal)#2".into(), 12));
    // What the device says of an occurrence that is gone from its policy is its end.
    let gone = State::Withdrawn { why: Withdrawal::AssignmentRemoved };
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    assert_eq!(named(&all, &[removal(gone, Author::Device)]), ("(removal)#2".into(), 12));
    assert_eq!(named(&all, &[removal(left, Author::Device)]), ("(removal)#1".into(), 5));
    assert_eq!(named(&since, &[]), ("(removal)#2".into(), 12));
}

#[test]
fn a_removal_is_an_answer_from_its_offer_on() {
    assert!(is_answer(&installed()));
    assert!(!is_answer(&in_grace(NOW)));
    assert!(!is_answer(&taken_back()));
    assert!(is_answer(&removal(State::Targeted, Author::Site)));
    let waits = State::Waiting { why: Waiting::Time, until: Some(NOW) };
    assert!(is_answer(&removal(waits, Author::Device)), "it was offered");
}
