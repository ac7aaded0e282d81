use muster_model::recurrence::Every;

use super::*;
use crate::testing::*;

/// Every second from the epoch on, so that occurrence n is due n seconds after it.
const SECONDLY: &str = "DTSTART:19700101T000001Z RRULE:FREQ=SECONDLY";

fn rule(text: &str) -> Vec<Recurrence> {
    vec![Recurrence { assignment: name("nightly"), every: text.parse().unwrap() }]
}

fn turned(rows: &[OccurrenceRow], now: i64) -> Option<Vec<OccurrenceRow>> {
    let rules = rule(SECONDLY);
    turn(rows, &Turning { rules: &rules, expires: None, here: here(now) }, Revision(9))
}

/// The occurrences and whether each is open, after a turn at `now`.
#[track_caller]
fn check(rows: &[OccurrenceRow], now: i64, expected: &[(u32, bool)]) {
    let rows = turned(rows, now).unwrap_or_else(|| rows.to_vec());
    let found: Vec<(u32, bool)> =
        rows.iter().map(|row| (row.occurrence.n, row.is_open())).collect();
    assert_eq!(found, expected, "at {now}");
}

#[test]
fn the_next_one_opens_when_one_falls_due_and_the_one_before_closes() {
    let rows = [recurring(1, 1_000, 1, None)];
    check(&rows, 999, &[(1, true)]);
    check(&rows, 1_000, &[(1, true), (2, true)]);
    let rows = turned(&rows, 1_000).unwrap();
    assert_eq!(rows[1].due, Some(At::Instant(Wall(2_000))));
    check(&rows, 1_999, &[(1, true), (2, true)]);
    check(&rows, 2_000, &[(1, false), (2, true), (3, true)]);
}

#[test]
fn a_turn_taken_twice_does_nothing_more() {
    let once = turned(&[recurring(1, 1_000, 1, None)], 5_000).unwrap();
    assert_eq!(turned(&once, 5_000), None);
}

#[test]
fn what_was_missed_while_the_site_was_down_is_accounted_for() {
    let rows = turned(&[recurring(1, 1_000, 1, None)], 4_500).unwrap();
    let open: Vec<u32> =
        rows.iter().filter(|row| row.is_open()).map(|row| row.occurrence.n).collect();
    assert_eq!((open, rows.len()), (vec![4, 5], 5));
    // A member of that moment is meant by each; who comes later is not.
    let [member, later] = [interval(1, 1, 1, None), interval(1, 2, 10, None)];
    assert!(rows[2].targets(&[member]) && !rows[2].targets(&[later]));
    assert!(is_passed(&rows, &rows[0].occurrence) && is_passed(&rows, &rows[2].occurrence));
    assert!(!is_passed(&rows, &rows[3].occurrence));
}

#[test]
fn of_too_many_missed_ones_the_newest_are_opened_and_numbers_go_on() {
    let rows = turned(&[recurring(1, 1_000, 1, None)], 100_000_000).unwrap();
    assert_eq!(rows.len(), 1 + CATCH_UP_MAX);
    let newest = rows.last().unwrap();
    let at = At::Instant(Wall(100_001_000));
    assert_eq!((newest.occurrence.n, newest.due), (100_001, Some(at)));
}

#[test]
fn nothing_opens_beyond_the_expiry_or_after_the_last_time() {
    let rules = rule("DTSTART:19700101T000001Z RRULE:FREQ=SECONDLY;COUNT=2");
    let rows = [recurring(1, 1_000, 1, None)];
    let turning = |expires| Turning { rules: &rules, expires, here: here(9_000) };
    let all = turn(&rows, &turning(None), Revision(9)).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[1].is_open(), "the last one stays open for who joins");
    let expires = turn(&rows, &turning(Some(Wall(2_000))), Revision(9));
    assert_eq!(expires, None);
}

#[test]
fn an_assignment_that_was_removed_is_not_passed() {
    let rows = [recurring(1, 1_000, 1, Some(7)), recurring(2, 2_000, 3, Some(7))];
    assert!(rows.iter().all(|row| !is_passed(&rows, &row.occurrence)));
    assert_eq!(turned(&rows, 9_000), None);
}

#[test]
fn what_an_edit_closed_is_no_step_of_the_rule_that_it_left() {
    // 1 and 2 follow a new rule, which ends with 2; 3 fell due under the old one, before.
    let two = rule("DTSTART:19700101T000001Z RRULE:FREQ=SECONDLY;COUNT=2");
    let rows =
        [recurring(1, 1_000, 1, None), recurring(2, 2_000, 2, None), recurring(3, 500, 3, Some(7))];
    let turning = Turning { rules: &two, expires: None, here: here(9_000) };
    let all = turn(&rows, &turning, Revision(9)).unwrap();
    assert_eq!(all.len(), 3);
    assert!(!all[0].is_open() && all[1].is_open() && !all[2].is_open());
    // A rule that goes on reaches 3 again, at a time of its own.
    let all = turned(&rows, 2_000).unwrap();
    assert_eq!((all.len(), all[2].due), (3, Some(At::Instant(Wall(3_000)))));
    assert!(all[2].is_open());
}

#[test]
fn the_next_turn_is_when_the_newest_falls_due() {
    let rules = rule(SECONDLY);
    let turning = Turning { rules: &rules, expires: None, here: here(0) };
    let rows =
        [recurring(1, 1_000, 1, None), recurring(2, 2_000, 1, None), occurrence_row(1, None)];
    let open = rows.iter().filter_map(|row| Some((&row.occurrence, row.due?)));
    assert_eq!(turning.next(open), Some(Wall(2_000)));
}

/// What is opened for device 1, a member of collection 1 from 1 on and before `until`, that reports
/// `nightly#n`.
fn admitted(rows: &[OccurrenceRow], n: u32, until: Option<u64>) -> Option<OccurrenceRow> {
    let every: Every = SECONDLY.parse().unwrap();
    let reported = occurrence(&format!("nightly#{n}"));
    let intervals = [interval(1, 1, 1, until)];
    admit(rows, &reported, &intervals, Some(&every), &here(1_000), Revision(9))
}

#[test]
fn a_device_that_is_ahead_opens_what_it_reports() {
    let rows = [recurring(1, 1_000, 1, None), recurring(2, 2_000, 3, None)];
    assert_eq!(admitted(&rows, 2, None), None, "the site has that one");
    let row = admitted(&rows, 5, None).unwrap();
    assert_eq!(row.due, Some(At::Instant(Wall(5_000))));
    assert!(row.is_open() && row.announced == Revision(9));
    assert_eq!(admitted(&rows, 3 + REPORTED_AHEAD_MAX, None), None, "a broken clock");
}

#[test]
fn a_device_that_had_not_heard_that_it_left_is_meant_and_nobody_after_it() {
    let rows = [recurring(1, 1_000, 1, Some(8)), recurring(2, 2_000, 6, None)];
    // It left at 5, before the site opened the second.
    let second = admitted(&rows, 2, Some(5)).unwrap();
    assert!(second.targets(&[interval(1, 1, 1, Some(5))]));
    assert_eq!(second.spans.len(), 2);
    let third = admitted(&rows, 3, Some(5)).unwrap();
    assert!(third.targets(&[interval(1, 1, 1, Some(5))]) && !third.is_open());
    assert!(!third.targets(&[interval(1, 2, 5, None)]));
}

#[test]
fn what_an_edited_rule_has_no_more_is_opened_for_one_moment() {
    let rows = [recurring(1, 1_000, 1, None), recurring(2, 2_000, 3, None)];
    let every: Every = "DTSTART:19700101T000001Z RRULE:FREQ=SECONDLY;COUNT=2".parse().unwrap();
    for rule in [Some(&every), None] {
        let reported = occurrence("nightly#3");
        let own = [interval(1, 1, 1, None)];
        let row = admit(&rows, &reported, &own, rule, &here(1_000), Revision(9)).unwrap();
        assert!(row.targets(&own) && !row.is_open());
        assert!(!row.targets(&[interval(1, 2, 9, None)]));
    }
}

#[test]
fn who_was_never_meant_opens_nothing() {
    let rows = [recurring(1, 1_000, 6, None)];
    assert_eq!(admitted(&rows, 2, Some(5)), None);
    assert_eq!(admitted(&[], 2, None), None);
    let rerun = OccurrenceRow { spans: Vec::new(), ..recurring(1, 1_000, 1, None) };
    assert_eq!(admitted(&[rerun], 2, None), None);
}
