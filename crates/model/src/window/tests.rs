use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Wall;
use crate::object::Object;

/// Windows as a policy carries them: `{"every" or "at", "duration", ...}`, called `w1`, `w2` and so on.
fn windows(specs: &[Value]) -> Vec<Window> {
    let window = |(i, spec): (usize, &Value)| {
        let mut spec = spec.clone();
        spec["name"] = format!("w{}", i + 1).into();
        serde_json::from_value(spec).unwrap()
    };
    specs.iter().enumerate().map(window).collect()
}

fn at(text: &str) -> Wall {
    text.parse().unwrap()
}

/// When a run that takes `room` may start on a device in Vienna that looks at `from`.
#[track_caller]
fn check(specs: &[Value], from: &str, room: &str, expected: &str) {
    let room = room.parse::<Period>().unwrap().duration();
    let vienna = named_zone("Europe/Vienna").unwrap();
    let found = opening(&windows(specs), &vienna, Purpose::Run, at(from), room);
    assert_eq!(said(&found), expected);
}

fn said(opening: &Opening) -> String {
    match opening {
        Opening::Now { latest: Some(latest) } => format!("now, until {latest}"),
        Opening::Now { latest: None } => "now".to_owned(),
        Opening::Later { at, closed } => format!("{} until {at}", closed.why),
        Opening::Never { closed } => format!("{}: {}", closed.why, closed.because),
    }
}

fn nightly() -> Value {
    json!({"every": "DTSTART:20270101T010000 RRULE:FREQ=DAILY", "duration": "4h"})
}

fn freeze(from: &str, duration: &str) -> Value {
    json!({"effect": "freeze", "at": from, "duration": duration})
}

#[test]
fn without_windows_any_time_will_do() {
    check(&[], "2027-01-31T12:00:00Z", "7d", "now");
}

#[test]
fn a_run_starts_in_a_window_that_has_room_for_all_of_it() {
    let windows = [nightly()];
    check(&windows, "2027-01-31T12:00:00Z", "1h", "window until 2027-02-01T00:00:00Z");
    check(&windows, "2027-02-01T00:00:00Z", "1h", "now, until 2027-02-01T03:00:00Z");
    check(&windows, "2027-02-01T03:00:00Z", "1h", "now, until 2027-02-01T03:00:00Z");
    check(&windows, "2027-02-01T03:00:00.001Z", "1h", "window until 2027-02-02T00:00:00Z");
}

#[test]
fn windows_that_touch_are_one_and_those_of_all_collections_count() {
    let later = json!({"every": "DTSTART:20270101T050000 RRULE:FREQ=DAILY", "duration": "2h"});
    check(&[nightly(), later], "2027-01-31T12:00:00Z", "6h", "window until 2027-02-01T00:00:00Z");
    let whole = json!({"every": "DTSTART:20270101T000000 RRULE:FREQ=DAILY", "duration": "24h"});
    check(&[whole], "2027-01-31T12:00:00Z", "3d", "now, until 2027-02-01T23:00:00Z");
}

#[test]
fn a_window_that_is_too_short_is_named() {
    check(
        &[nightly()],
        "2027-02-01T00:00:00Z",
        "5h",
        "window: a run may take 5h, and the window that is open has 4h left; \
         none that comes has room for it",
    );
    let once = json!({"at": "2027-01-01T00:00:00Z", "duration": "1h"});
    check(&[once], "2027-02-01T00:00:00Z", "1m", "window: no window is open, and none opens again");
}

#[test]
fn a_freeze_beats_a_window_and_nothing_runs_into_it() {
    let frozen = |from: &str, duration: &str| [nightly(), freeze(from, duration)];
    let weekend = frozen("2027-01-30T00:00:00", "60h");
    check(&weekend, "2027-01-31T12:00:00Z", "1h", "freeze until 2027-02-02T00:00:00Z");
    let soon = frozen("2027-02-01T03:00:00", "1h");
    check(&soon, "2027-02-01T00:30:00Z", "1h", "now, until 2027-02-01T01:00:00Z");
    check(&soon, "2027-02-01T01:30:00Z", "1h", "freeze until 2027-02-01T03:00:00Z");
    check(&[freeze("2027-02-01T12:00:00Z", "1h")], "2027-01-01T00:00:00Z", "1h", "now");
}

#[test]
fn times_are_the_devices_unless_a_zone_is_named() {
    let mut spec = nightly();
    spec["timeZone"] = "America/New_York".into();
    check(&[spec], "2027-01-31T12:00:00Z", "1h", "window until 2027-02-01T06:00:00Z");
    let utc = json!({"every": "DTSTART:20270101T010000Z RRULE:FREQ=DAILY", "duration": "4h"});
    check(&[utc], "2027-01-31T12:00:00Z", "1h", "window until 2027-02-01T01:00:00Z");
    let tzid = "DTSTART;TZID=Asia/Tokyo:20270101T010000 RRULE:FREQ=DAILY";
    let tokyo = json!({"every": tzid, "duration": "4h"});
    check(&[tokyo], "2027-01-31T12:00:00Z", "1h", "window until 2027-01-31T16:00:00Z");
}

#[test]
fn a_start_in_the_spring_gap_and_one_in_the_repeated_hour_come_once() {
    // The clocks of Vienna go forward on 28 March 2027 at 02:00, back on 31 October at 03:00.
    let early = json!({"every": "DTSTART:20270101T023000 RRULE:FREQ=DAILY", "duration": "1h"});
    let windows = [early];
    check(&windows, "2027-03-28T00:00:00Z", "1h", "window until 2027-03-28T01:30:00Z");
    check(&windows, "2027-03-28T01:30:00.001Z", "1h", "window until 2027-03-29T00:30:00Z");
    check(&windows, "2027-10-31T00:00:00Z", "1h", "window until 2027-10-31T00:30:00Z");
    check(&windows, "2027-10-31T00:30:00.001Z", "1h", "window until 2027-11-01T01:30:00Z");
}

#[test]
fn a_duration_is_time_that_passes_also_when_the_clocks_change() {
    check(&[nightly()], "2027-03-28T00:00:00Z", "4h", "now, until 2027-03-28T00:00:00Z");
    check(&[nightly()], "2027-10-30T23:00:00Z", "4h", "now, until 2027-10-30T23:00:00Z");
}

#[test]
fn a_leap_day_is_waited_for_over_a_century_that_has_none() {
    let spec = json!({"every": "DTSTART:20240229T120000Z RRULE:FREQ=YEARLY", "duration": "2h"});
    let specs = [spec];
    check(&specs, "2026-06-01T00:00:00Z", "1h", "window until 2028-02-29T12:00:00Z");
    check(&specs, "2097-01-01T00:00:00Z", "1h", "window until 2104-02-29T12:00:00Z");
}

#[test]
fn what_opens_beyond_the_horizon_is_never() {
    let spec = json!({"at": "2060-01-01T00:00:00Z", "duration": "1d"});
    let never = "window: no window is open; `w1` opens at 2060-01-01T00:00:00Z";
    check(&[spec], "2027-01-01T00:00:00Z", "1h", never);
}

#[test]
fn an_unknown_zone_closes_a_window_and_keeps_a_freeze() {
    for (effect, why) in [("window", "window"), ("freeze", "freeze")] {
        let spec = json!({"effect": effect, "at": "2027-01-01T00:00:00", "duration": "1h",
            "timeZone": "Atlantis/Old"});
        let said = format!("{why}: {why} `w1`: no time zone is called \"Atlantis/Old\"");
        let found = opening(
            &windows(&[spec]),
            &TimeZone::UTC,
            Purpose::Run,
            at("2028-01-01T00:00:00Z"),
            Duration::ZERO,
        );
        assert!(super::tests::said(&found).starts_with(&said), "{found:?}");
    }
}

#[test]
fn a_restart_keeps_to_its_own_windows_and_without_any_to_those_for_runs() {
    let spec = |hour: u32, governs: &str| {
        let every = format!("DTSTART:20270101T{hour:02}0000Z RRULE:FREQ=DAILY");
        json!({"every": every, "duration": "1h", "for": governs})
    };
    let room = Duration::from_secs(60);
    let opens = |specs: &[Value], purpose| {
        said(&opening(&windows(specs), &TimeZone::UTC, purpose, at("2027-02-01T12:00:00Z"), room))
    };
    let both = [spec(1, "runs"), spec(3, "restarts")];
    assert_eq!(opens(&both, Purpose::Run), "window until 2027-02-02T01:00:00Z");
    assert_eq!(opens(&both, Purpose::Restart), "window until 2027-02-02T03:00:00Z");
    assert_eq!(opens(&both[..1], Purpose::Restart), "window until 2027-02-02T01:00:00Z");
    assert_eq!(opens(&both[1..], Purpose::Run), "now", "no window is about runs");
}

#[track_caller]
fn check_fault(spec: Value, field: &str, saying: &str) {
    let document = json!({"apiVersion": "muster/v1", "kind": "MaintenanceWindow",
        "metadata": {"name": "w"}, "spec": spec});
    let problems = Object::from_value(document).unwrap_err();
    assert!(
        problems.iter().any(|one| one.field == field && one.detail.contains(saying)),
        "{problems:#?}"
    );
}

#[test]
fn faults_name_field_limit_and_contradiction() {
    let every = "DTSTART:20270101T020000 RRULE:FREQ=DAILY";
    check_fault(json!({"collection": "c", "duration": "1h"}), "spec.every", "exactly one");
    check_fault(
        json!({"collection": "c", "duration": "1h", "every": every, "at": "2027-01-01T00:00:00"}),
        "spec.every",
        "exactly one",
    );
    check_fault(json!({"collection": "c", "duration": "1h", "at": "now"}), "spec.at", "no time");
    check_fault(
        json!({"collection": "c", "duration": "1s", "every": every}),
        "spec.duration",
        "1m",
    );
    check_fault(
        json!({"collection": "c", "duration": "25h", "every": every}),
        "spec.duration",
        "recurs after 1d",
    );
    check_fault(
        json!({"collection": "c", "duration": "1h", "every": every, "timeZone": "Vienna"}),
        "spec.timeZone",
        "Europe/Vienna",
    );
    check_fault(
        json!({"collection": "c", "duration": "1h", "at": "2027-01-01T00:00:00Z",
            "timeZone": "Europe/Vienna"}),
        "spec.timeZone",
        "at is the instant",
    );
    check_fault(
        json!({"collection": "c", "duration": "1h", "every": "daily"}),
        "spec.every",
        "5545",
    );
}

#[test]
fn a_window_survives_the_round_trip() {
    let document = json!({"apiVersion": "muster/v1", "kind": "MaintenanceWindow",
        "metadata": {"name": "w"}, "spec": {"collection": "c", "effect": "freeze",
            "every": "DTSTART:20270101T020000\nRRULE:FREQ=DAILY", "duration": "1h",
            "timeZone": "Europe/Vienna", "for": "runs"}});
    assert_eq!(Object::from_value(document.clone()).unwrap().to_value(), document);
    let windows = windows(&[nightly(), freeze("2027-02-01T03:00:00", "1h")]);
    let text = serde_json::to_string(&windows).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Window>>(&text).unwrap(), windows);
}

/// A handful of windows and freezes, some of which touch or overlap.
fn some_windows() -> impl Strategy<Value = Vec<Window>> {
    let rule = prop_oneof![
        Just("FREQ=DAILY"),
        Just("FREQ=DAILY;INTERVAL=3"),
        Just("FREQ=WEEKLY;BYDAY=SA,SU"),
        Just("FREQ=MONTHLY;BYMONTHDAY=-1"),
        Just("FREQ=HOURLY;INTERVAL=5"),
    ];
    let one = (rule, 0..24u32, 1..=5u64, proptest::bool::weighted(0.3), 0..3usize);
    proptest::collection::vec(one, 0..4).prop_map(|drawn| {
        let spec = |(rule, hour, hours, frozen, zone): &(&str, u32, u64, bool, usize)| {
            let zones = [None, Some("Europe/Vienna"), Some("Australia/Lord_Howe")];
            let mut spec = json!({
                "every": format!("DTSTART:20260101T{hour:02}3000 RRULE:{rule}"),
                "duration": format!("{hours}h"),
                "effect": if *frozen { "freeze" } else { "window" },
            });
            spec["timeZone"] = zones[*zone].into();
            spec
        };
        windows(&drawn.iter().map(spec).collect::<Vec<_>>())
    })
}

/// Whether nothing forbids the minute that begins at `at`: asked of each window alone, with no room
/// and no union.
fn is_free(windows: &[Window], at: Wall) -> bool {
    let holds = |one: &&Window| {
        let alone = Window { effect: Effect::Window, ..(*one).clone() };
        let minute = Duration::from_secs(60);
        matches!(opening(&[alone], &TimeZone::UTC, Purpose::Run, at, minute), Opening::Now { .. })
    };
    let (open, frozen): (Vec<_>, Vec<_>) =
        windows.iter().partition(|one| one.effect == Effect::Window);
    (open.is_empty() || open.iter().any(holds)) && !frozen.iter().any(holds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_next_opening_is_never_past_really_fits_and_is_the_first(
        windows in some_windows(),
        // Two years from 2027 on, in steps of half an hour, so across every change of clocks.
        half_hours in 0..35_040i64,
        room in 1..=6u64,
    ) {
        let from = Wall(at("2027-01-01T00:00:00Z").0 + half_hours * 1_800_000);
        let room = Duration::from_secs(room * 1_800);
        let starts = match opening(&windows, &TimeZone::UTC, Purpose::Run, from, room) {
            Opening::Now { .. } => from,
            Opening::Later { at, .. } => at,
            Opening::Never { .. } => return Ok(()),
        };
        prop_assert!(starts >= from);
        let free = |first: Wall| {
            let halves = room.as_secs() / 1_800;
            (0..halves).all(|n| is_free(&windows, first.plus(Duration::from_secs(n * 1_800))))
        };
        prop_assert!(free(starts), "from {starts} it does not fit");
        // Everything here begins and ends on a half hour, so does every other opening.
        let earlier = (0..).map(|n| from.plus(Duration::from_secs(n * 1_800)));
        for first in earlier.take_while(|first| *first < starts).take(96) {
            prop_assert!(!free(first), "{first} would have done");
        }
    }
}
