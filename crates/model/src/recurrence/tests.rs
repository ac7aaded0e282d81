use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn every(text: &str) -> Every {
    text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn zone(name: &str) -> TimeZone {
    named_zone(name).unwrap()
}

/// The first times of a rule, as the RFC writes them: `DAY T TIME` without the seconds of zero.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let every = every(text);
    let first = every.next_civil(DateTime::MIN, true);
    let times = std::iter::successors(first, |time| every.next_civil(*time, false));
    let found: Vec<String> = times
        .take(expected.len())
        .map(|time| time.strftime("%Y-%m-%dT%H:%M").to_string())
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn the_examples_of_the_rfc_hold() {
    let nine = |rule: &str| format!("DTSTART:19970902T090000\nRRULE:{rule}");
    let days = |days: &[&str]| days.iter().map(|day| format!("{day}T09:00")).collect::<Vec<_>>();
    for (rule, expected) in [
        ("FREQ=DAILY;INTERVAL=10;COUNT=5", &["1997-09-02", "1997-09-12", "1997-09-22"][..]),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,TH", &["1997-09-02", "1997-09-04", "1997-09-16"]),
        ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", &["1997-09-05", "1997-10-03", "1997-11-07"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-3", &["1997-09-28", "1997-10-29", "1997-11-28", "1997-12-29"]),
        ("FREQ=MONTHLY;INTERVAL=18;BYMONTHDAY=10,11", &["1997-09-10", "1997-09-11", "1999-03-10"]),
        ("FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200", &["2000-01-01", "2000-04-09", "2000-07-18"]),
        ("FREQ=YEARLY;BYDAY=20MO", &["1998-05-18", "1999-05-17", "2000-05-15"]),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", &["1998-05-11", "1999-05-17", "2000-05-15"]),
        ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", &["1998-03-05", "1998-03-12", "1998-03-19"]),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", &["1998-02-13", "1998-03-13", "1998-11-13"]),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", &["1997-09-04", "1997-10-07"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", &["1997-09-29", "1997-10-30"]),
        (
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            &["1997-11-04", "2001-11-06"],
        ),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO", &["1997-09-02", "1997-09-07", "1997-09-16"]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU", &["1997-09-02", "1997-09-14", "1997-09-16"]),
    ] {
        let expected = days(expected);
        check(&nine(rule), &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let third = ["1997-09-02T09:00", "1997-09-02T12:00", "1997-09-02T15:00"];
    check(&nine("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000"), &third);
    let ninety = ["1997-09-02T09:00", "1997-09-02T10:30", "1997-09-02T12:00"];
    check(&nine("FREQ=MINUTELY;INTERVAL=90;COUNT=4"), &ninety);
    let half = ["1997-09-02T09:00", "1997-09-02T09:20", "1997-09-02T09:40", "1997-09-02T10:00"];
    check(&nine("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16"), &half);
    check(&nine("FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40"), &half);
}

#[test]
fn leap_days_come_every_four_years_and_not_in_1900_or_2100() {
    let rule = "DTSTART:18960229T120000 RRULE:FREQ=YEARLY";
    check(rule, &["1896-02-29T12:00", "1904-02-29T12:00"]);
    let leap = every(rule);
    let after = leap.next_civil(date(2096, 3, 1).at(0, 0, 0, 0), true);
    assert_eq!(after, Some(date(2104, 2, 29).at(12, 0, 0, 0)));
    check(
        "DTSTART:20270131T080000 RRULE:FREQ=MONTHLY",
        &["2027-01-31T08:00", "2027-03-31T08:00", "2027-05-31T08:00"],
    );
    check(
        "DTSTART:20270131T080000 RRULE:FREQ=MONTHLY;BYMONTHDAY=-1",
        &["2027-01-31T08:00", "2027-02-28T08:00", "2027-03-31T08:00"],
    );
}

#[test]
fn dates_are_added_and_taken_out() {
    check(
        "DTSTART:20270101T080000\nRRULE:FREQ=DAILY\nEXDATE:20270102T080000,20270103T080000\n\
         RDATE:20270101T080000,20270101T120000",
        &["2027-01-01T08:00", "2027-01-01T12:00", "2027-01-04T08:00"],
    );
    check(
        "DTSTART:20270101T080000 RDATE:20270301T080000",
        &["2027-01-01T08:00", "2027-03-01T08:00"],
    );
    // In UTC beside a start in a zone: the same instant.
    check(
        "DTSTART;TZID=Europe/Vienna:20270101T080000 RRULE:FREQ=DAILY EXDATE:20270102T070000Z",
        &["2027-01-01T08:00", "2027-01-03T08:00"],
    );
}

#[test]
fn folded_lines_and_spaces_are_one_text() {
    let folded = every("dtstart:20270101T020000\r\nRRULE:FREQ=WEEKLY;\r\n BYDAY=SA");
    assert_eq!(folded, every("DTSTART:20270101T020000 RRULE:FREQ=WEEKLY;BYDAY=SA"));
    assert_eq!(folded.to_string(), "DTSTART:20270101T020000\nRRULE:FREQ=WEEKLY;BYDAY=SA");
    let json = serde_json::to_string(&folded).unwrap();
    assert_eq!(serde_json::from_str::<Every>(&json).unwrap(), folded);
}

#[test]
fn what_has_no_meaning_is_refused_by_name() {
    for (text, word) in [
        ("", "exactly one DTSTART"),
        ("DTSTART:20270101T020000", "RRULE or RDATE"),
        ("RRULE:FREQ=DAILY", "exactly one DTSTART"),
        ("DTSTART:20270101 RRULE:FREQ=DAILY", "DTSTART"),
        ("DTSTART;VALUE=DATE:20270101 RRULE:FREQ=DAILY", "not dates"),
        ("DTSTART:20270229T020000 RRULE:FREQ=DAILY", "DTSTART"),
        ("DTSTART;TZID=Mars/Olympus:20270101T020000 RRULE:FREQ=DAILY", "TZID"),
        ("DTSTART;TZID=Europe/Vienna:20270101T020000Z RRULE:FREQ=DAILY", "one is too much"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY RRULE:FREQ=WEEKLY", "at most one RRULE"),
        ("DTSTART:20270101T020000 EXRULE:FREQ=DAILY", "EXRULE"),
        (
            "DTSTART:20270101T020000 RRULE:FREQ=DAILY;COUNT=2;UNTIL=20280101T000000",
            "COUNT and UNTIL",
        ),
        ("DTSTART:20270101T020000 RRULE:FREQ=FORTNIGHTLY", "FREQ"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;COUNT=99999", "COUNT"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;BYDAY=2TU", "BYDAY with a number"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;BYDAY=ü", "BYDAY"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;BYSETPOS=1", "BYSETPOS"),
        ("DTSTART:20270101T020000 RRULE:FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
        ("DTSTART:20270101T020000Z RRULE:FREQ=DAILY;UNTIL=20280101T000000", "UNTIL"),
        ("DTSTART:20270101T020000 RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "never"),
        ("DTSTART:20270101T020000 RRULE:FREQ=DAILY;UNTIL=20261231T000000", "never"),
        ("DTSTART:20270101T020000 RRULE:FREQ=SECONDLY;INTERVAL=2;BYSECOND=1", "never"),
    ] {
        let said = text.parse::<Every>().map(|every| every.to_string()).unwrap_err().to_string();
        assert!(said.contains(word), "{text}: {said}");
    }
    let long = format!("DTSTART:20270101T020000 RDATE:{}", "20270101T020000,".repeat(2_000));
    assert_eq!(long.parse::<Every>(), Err(NotARecurrence::Long(long.len())));
}

/// The instants of the first times at or after `from` on a device in `device`.
#[track_caller]
fn check_instants(text: &str, device: &str, from: &str, expected: &[&str]) {
    let (every, device) = (every(text), zone(device));
    let first = every.next_civil(from.parse().unwrap(), true);
    let times = std::iter::successors(first, |time| every.next_civil(*time, false));
    let found: Vec<String> = times
        .take(expected.len())
        .map(|time| every.zone().place(time, &device).unwrap().to_string())
        .collect();
    assert_eq!(found, expected, "{text} in {device:?}");
}

#[test]
fn a_spring_gap_moves_a_time_on_and_a_repeated_hour_counts_once() {
    let nightly = "DTSTART:20270101T023000 RRULE:FREQ=DAILY";
    // 28 March 2027 has no 02:30 in Vienna: it is read as 03:30 there.
    check_instants(
        nightly,
        "Europe/Vienna",
        "2027-03-27T00:00:00",
        &["2027-03-27T01:30:00Z", "2027-03-28T01:30:00Z", "2027-03-29T00:30:00Z"],
    );
    // 31 October has two.
    check_instants(
        nightly,
        "Europe/Vienna",
        "2027-10-30T00:00:00",
        &["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"],
    );
    check_instants(
        nightly,
        "America/New_York",
        "2027-03-13T00:00:00",
        &["2027-03-13T07:30:00Z", "2027-03-14T07:30:00Z", "2027-03-15T06:30:00Z"],
    );
    // Lord Howe moves by half an hour: 02:15 is read as 02:45.
    check_instants(
        "DTSTART:20270101T021500 RRULE:FREQ=DAILY",
        "Australia/Lord_Howe",
        "2027-10-02T00:00:00",
        &["2027-10-01T15:45:00Z", "2027-10-02T15:45:00Z", "2027-10-03T15:15:00Z"],
    );
    // A zone of its own does not ask the device, and UTC has no summer.
    check_instants(
        "DTSTART;TZID=Europe/Vienna:20270101T023000 RRULE:FREQ=DAILY",
        "Asia/Tokyo",
        "2027-03-28T00:00:00",
        &["2027-03-28T01:30:00Z"],
    );
    check_instants(
        "DTSTART:20270101T023000Z RRULE:FREQ=DAILY",
        "Europe/Vienna",
        "2027-03-28T00:00:00",
        &["2027-03-28T02:30:00Z"],
    );
}

fn frequencies() -> impl Strategy<Value = (&'static str, i64)> {
    prop::sample::select(vec![
        ("SECONDLY;INTERVAL=17", 17),
        ("MINUTELY;INTERVAL=7", 7 * 60),
        ("HOURLY;INTERVAL=5", 5 * 3_600),
        ("DAILY", 86_400),
        ("DAILY;INTERVAL=3;BYHOUR=2,14", 3 * 86_400),
        ("WEEKLY;BYDAY=MO,WE,SU", 7 * 86_400),
        ("MONTHLY;BYDAY=-1FR", 31 * 86_400),
        ("YEARLY;BYMONTH=2;BYMONTHDAY=29", 366 * 86_400),
        ("YEARLY;BYWEEKNO=1,53", 366 * 86_400),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Walking on from any moment meets the times that walking from the start meets: none is skipped,
    /// none comes twice, and they only grow.
    #[test]
    fn times_are_the_same_from_wherever_one_looks(
        (rule, period) in frequencies(),
        day in 0_i64..20_000,
        second in 0_i64..86_400,
        ahead in 0_i64..400,
    ) {
        let start = date(1970, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_secs(day * 86_400 + second);
        let text = format!("DTSTART:{} RRULE:FREQ={rule}", start.strftime("%Y%m%dT%H%M%S"));
        let every = every(&text);
        let moment = start + jiff::SignedDuration::from_secs(ahead * period / 7);
        let far = every.next_civil(moment, false);
        let mut walked = every.next_civil(start, true);
        let mut last = None;
        for _ in 0..4_000 {
            let Some(time) = walked else { break };
            prop_assert!(last < Some(time) && time >= start);
            if time > moment {
                break;
            }
            last = Some(time);
            walked = every.next_civil(time, false);
        }
        prop_assert_eq!(far, walked);
    }

    /// On any device the instants of a daily rule only grow, however its clocks are changed, and each
    /// day has one.
    #[test]
    fn each_day_has_one_instant_in_every_zone(
        name in prop::sample::select(vec![
            "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC",
        ]),
        day in 0_i64..20_000,
        second in 0_i64..86_400,
    ) {
        let start = date(2000, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_secs(day * 86_400 + second);
        let every = every(&format!("DTSTART:{} RRULE:FREQ=DAILY", start.strftime("%Y%m%dT%H%M%S")));
        let zone = zone(name);
        let mut time = start;
        for _ in 0..400 {
            let next = every.next_civil(time, false).unwrap();
            prop_assert_eq!(next.duration_since(time).as_hours(), 24);
            let (one, other) = (every.zone().place(time, &zone), every.zone().place(next, &zone));
            // Samoa left out the 30th of December 2011: that day's instant is the next one's.
            prop_assert!(one < other || name == "Pacific/Apia" && one == other);
            time = next;
        }
    }

    /// Any bytes are read or refused.
    #[test]
    fn any_text_is_read_or_refused(text in "(DTSTART|RRULE|RDATE|EXDATE|[A-Z=;:,0-9TZ+\\-]|[ \\n]|\\PC){0,60}") {
        let _ = text.parse::<Every>();
        let _ = format!("DTSTART:20270101T000000 RRULE:{text}").parse::<Every>();
    }
}
