//! Machines put back and machines copied, at the fork, in the watch, and after it.

use std::time::Duration;

use muster_model::facts::Facts;
use muster_model::message::Body;
use muster_model::state::{Expiry, NotApplicable, Waiting};

use super::*;
use crate::branch::Branch;
use crate::ingest::{Ingest, Lookups, plan};
use crate::obligation::Place;
use crate::testing::*;

/// Polls are held for ten seconds.
fn watch() -> Watch {
    Watch::of(Duration::from_secs(10))
}

fn machine(n: u8) -> Option<Digest> {
    Some(Digest::of(&[n]))
}

fn started(sequence: u64, machine: Option<Digest>) -> Vec<u8> {
    let facts = Facts { machine, ..Facts::default() };
    bytes(&message(sequence, Body::AgentStarted { facts }))
}

/// What the site has: four messages, the last of them `succeeded`. Its stream and chains.
fn history() -> (StreamRow, BTreeMap<Sequence, Digest>) {
    let said = [State::Accepted, waiting(Waiting::Disk), running(), succeeded()];
    let messages = (1..).zip(said).map(|(n, state)| says(n, state)).collect();
    let reading = batch(1, Digest::ZERO, 1, messages);
    let chains = (1..=4).map(|n| (Sequence(n), reading.chain_at(Sequence(n)).unwrap())).collect();
    let Ingest::Taken(taken) = plan(&stream(), reading, lookups()) else { panic!("not taken") };
    (taken.stream, chains)
}

/// The machine, put back to when it had said two messages, says that its agent has started.
fn put_back(says_machine: Option<Digest>) -> Reading {
    let (_, ours) = history();
    batch(3, ours[&Sequence(2)], 1, vec![started(3, says_machine)])
}

/// The stream as the fork leaves it, and the suspect.
fn forked(says_machine: Option<Digest>) -> (StreamRow, Suspect) {
    let (stream, ours) = history();
    let reading = put_back(says_machine);
    let suspect = Suspect {
        incarnation: Incarnation(1),
        parted: fork_point(&reading, &ours),
        known_machine: machine(1),
        machine: reading.facts().unwrap().machine,
        held_by_person: false,
        next: Incarnation(3),
        now: Wall(100_000),
    };
    let known = Lookups { chain_at_last: ours.get(&Sequence(3)).copied(), ..lookups() };
    let Ingest::Forked { stream } = plan(&stream, reading, known) else { panic!("not forked") };
    (*stream, suspect)
}

/// A device whose claim stands, as life 3.
fn claimed() -> Vec<StreamRow> {
    let (stream, suspect) = forked(machine(1));
    let mut streams = vec![stream];
    let Judged::PutBack(claim) = judge(&Lives::of(&streams), &suspect) else { panic!("held") };
    accept(&mut streams, Incarnation(1), &claim);
    streams
}

fn fork(streams: &mut [StreamRow]) -> &mut Fork {
    streams[0].fork.as_mut().unwrap()
}

/// A device that was mended at 200 s.
fn mended() -> Vec<StreamRow> {
    let mut streams = claimed();
    fork(&mut streams).begin(Wall(150_000));
    fork(&mut streams).mend(Wall(200_000));
    streams
}

fn place(incarnation: u32, sequence: u64) -> Place {
    Place { incarnation: Incarnation(incarnation), sequence: Sequence(sequence) }
}

#[track_caller]
fn check_judged(change: impl Fn(&mut Vec<StreamRow>, &mut Suspect), expected: Result<u32, Why>) {
    let (stream, mut suspect) = forked(machine(1));
    let mut streams = vec![stream];
    change(&mut streams, &mut suspect);
    let found = match judge(&Lives::of(&streams), &suspect) {
        Judged::PutBack(claim) => Ok(claim.life.0),
        Judged::Held(why) => Err(why),
    };
    assert_eq!(found, expected);
}

#[test]
fn histories_part_after_the_last_message_that_both_have() {
    let (_, ours) = history();
    let parted = fork_point(&put_back(None), &ours).unwrap();
    assert_eq!(parted.from, Sequence(2));
    let same = batch(1, Digest::ZERO, 1, vec![says(1, State::Accepted)]);
    assert_eq!(fork_point(&same, &ours), None);
    let foreign = batch(3, Digest::of(b"other"), 1, vec![says(3, running())]);
    assert_eq!(fork_point(&foreign, &ours), None, "nothing in common is not where they part");
    let first = batch(1, Digest::ZERO, 1, vec![says(1, failed())]);
    assert_eq!(fork_point(&first, &ours).unwrap().from, Sequence(0));
}

#[test]
fn only_the_same_machine_with_a_common_past_is_put_back() {
    check_judged(|_, _| (), Ok(3));
    check_judged(|_, suspect| suspect.machine = machine(2), Err(Why::OtherMachine));
    check_judged(|_, suspect| suspect.machine = None, Err(Why::MachineUnknown));
    check_judged(|_, suspect| suspect.known_machine = None, Err(Why::MachineUnknown));
    check_judged(|_, suspect| suspect.parted = None, Err(Why::NothingInCommon));
    check_judged(|_, suspect| suspect.held_by_person = true, Err(Why::Person));
}

#[test]
fn who_asks_again_is_given_the_same_life_and_a_third_history_none() {
    let stands = |streams: &mut Vec<StreamRow>, _: &mut Suspect| *streams = claimed();
    check_judged(
        |streams, suspect| {
            stands(streams, suspect);
            suspect.next = Incarnation(9);
        },
        Ok(3),
    );
    let third = |streams: &mut Vec<StreamRow>, suspect: &mut Suspect| {
        *streams = claimed();
        suspect.next = Incarnation(9);
        suspect.parted = Some(Parted { from: Sequence(2), mark: Digest::of(b"third") });
    };
    // Nobody has begun: it may be the machine, put back once more.
    check_judged(third, Ok(9));
    check_judged(
        |streams, suspect| {
            third(streams, suspect);
            fork(streams).begin(Wall(1));
        },
        Err(Why::SecondMachine),
    );
}

#[test]
fn a_claim_that_gives_way_to_another_is_refused() {
    let mut streams = claimed();
    let (_, claim) = Lives::of(&streams).claim().map(|(of, one)| (of, one.clone())).unwrap();
    accept(&mut streams, Incarnation(1), &Claim { life: Incarnation(4), ..claim });
    let lives = Lives::of(&streams);
    assert!(lives.is_refused(Incarnation(3)) && !lives.is_refused(Incarnation(4)));
    let heard = lives.hears(Incarnation(3), Wall(0), watch());
    assert_eq!(heard, Hearing::SecondMachine);
}

#[test]
fn the_next_life_waits_until_the_others_were_silent_for_three_polls() {
    let mut streams = claimed();
    let hears = |streams: &[StreamRow], life, now| {
        Lives::of(streams).hears(Incarnation(life), Wall(now), watch())
    };
    assert_eq!(hears(&streams, 3, 110_000), Hearing::Begins);
    // It may be the machine itself, which has not heard yet.
    assert_eq!(hears(&streams, 1, 110_000), Hearing::Speaks);
    fork(&mut streams).begin(Wall(110_000));
    assert_eq!(hears(&streams, 3, 139_999), Hearing::Watched { until: Wall(140_000) });
    assert_eq!(hears(&streams, 3, 140_000), Hearing::Mends);
    // The machine lost its memory meanwhile.
    assert_eq!(hears(&streams, 4, 139_999), Hearing::Watched { until: Wall(140_000) });
    // What was on its way, then a poll that nobody but a second machine can make.
    assert_eq!(hears(&streams, 1, 114_999), Hearing::Speaks);
    assert_eq!(hears(&streams, 1, 115_000), Hearing::SecondMachine);
    fork(&mut streams).refuse();
    assert_eq!(hears(&streams, 3, 200_000), Hearing::SecondMachine);
    assert!(Lives::of(&streams).is_copied());
    check_judged(|all, _| *all = streams.clone(), Err(Why::SecondMachine));
}

#[test]
fn a_claim_that_nobody_takes_up_gives_way_to_a_newer_life_that_goes_on() {
    let mut streams = claimed();
    let hears = |streams: &[StreamRow], life, now| {
        Lives::of(streams).hears(Incarnation(life), Wall(now), watch())
    };
    // Claimed at 100 s; what an ended process asked may come for ten minutes.
    assert_eq!(hears(&streams, 2, 700_000), Hearing::Speaks);
    assert_eq!(hears(&streams, 2, 700_001), Hearing::GivesUp);
    assert_eq!(hears(&streams, 1, 700_001), Hearing::Speaks, "it may be who claims");
    assert!(!Lives::of(&streams).goes_on(Incarnation(2), Wall(700_001)));
    fork(&mut streams).begin(Wall(600_000));
    assert_eq!(hears(&streams, 2, 700_001), Hearing::SecondMachine);
    assert!(Lives::of(&streams).goes_on(Incarnation(2), Wall(700_001)));
    fork(&mut streams).give_up();
    assert!(!fork(&mut streams).is_suspect());
    assert_eq!(hears(&streams, 2, 700_001), Hearing::Speaks);
}

#[test]
fn messages_of_an_older_life_are_judged_by_when_they_were_written() {
    let mut streams = claimed();
    fork(&mut streams).begin(Wall(110_000));
    let lives = Lives::of(&streams);
    let hears = |life, now| lives.hears_messages(Incarnation(life), Wall(now), watch());
    assert_eq!(hears(1, 120_000), Hearing::Speaks, "an access point may have kept them");
    assert_eq!(hears(3, 120_000), Hearing::Watched { until: Wall(140_000) });
    assert!(!lives.goes_on(Incarnation(1), Wall(100_000)));
    assert!(lives.goes_on(Incarnation(1), Wall(100_001)), "written since the claim");
}

/// Life 1, which has told one message, goes on with a second, written at 2.002 s, after the site has heard
/// life 2 for the first time `since` then.
#[track_caller]
fn check_outlived(since: Option<i64>, now: i64, is_doubted: bool) {
    let first = batch(1, Digest::ZERO, 1, vec![says(1, State::Accepted)]);
    let Ingest::Taken(taken) = plan(&stream(), first, lookups()) else { panic!("not taken") };
    let more = batch(2, taken.stream.head, 1, vec![says(2, running())]);
    let mark = more.chain_at(Sequence(2)).unwrap();
    let newest_since = since.map(Wall);
    let known = Lookups { newest: Incarnation(2), newest_since, now: Wall(now), ..lookups() };
    match plan(&taken.stream, more.clone(), known) {
        Ingest::Forked { stream } => {
            assert!(is_doubted, "{since:?}");
            assert_eq!(stream.fork, Some(Fork::at(Sequence(2), Digest::ZERO, mark)));
            let ours = BTreeMap::from([(Sequence(1), taken.stream.head)]);
            assert_eq!(fork_point(&more, &ours), Some(Parted { from: Sequence(1), mark }));
        }
        _ => assert!(!is_doubted, "{since:?}"),
    }
}

#[test]
fn a_life_that_goes_on_after_a_newer_one_has_spoken_was_put_back() {
    check_outlived(Some(2_001), 3_000, true);
    // What it wrote before, it may have sent before: it only took its time.
    check_outlived(Some(2_002), 3_000, false);
    check_outlived(None, 3_000, false);
    // A clock that is ahead of the site's says nothing of when that was.
    check_outlived(Some(-1_000_000), -400_000, false);
}

#[test]
fn a_life_that_asks_after_its_end_parts_where_it_spoke_again() {
    let (mut stream, ours) = history();
    let point = |received, since| outlived_point(&stream, Wall(received), Wall(since));
    assert_eq!(point(10, 10), None, "it has said nothing since");
    let parted = point(11, 10).unwrap();
    assert_eq!((parted.from, parted.mark), (Sequence(3), ours[&Sequence(4)]));
    assert_eq!(outlived_point(&super::tests::stream(), Wall(11), Wall(10)), None);
    doubt(&mut stream);
    let claim = Claim {
        from: parted.from,
        mark: parted.mark,
        life: Incarnation(3),
        since: Wall(0),
        begun: None,
    };
    let mut streams = vec![stream];
    accept(&mut streams, Incarnation(1), &claim);
    // What it says next is the same history, and is given the same life.
    let more = batch(5, ours[&Sequence(4)], 1, vec![says(5, running())]);
    let lives = Lives::of(&streams);
    assert_eq!(super::parted(&lives, &more, &ours), Some(parted));
    assert_eq!(super::parted(&Lives::default(), &more, &ours).unwrap().from, Sequence(4));
}

#[test]
fn a_process_that_has_ended_may_be_heard_for_ten_minutes() {
    assert!(!is_outlived(Wall(0), Wall(600_000)));
    assert!(is_outlived(Wall(0), Wall(600_001)));
}

#[test]
fn the_policy_names_the_machine_by_its_first_own_message_until_a_second_one_speaks() {
    let mut streams = claimed();
    let told = Lives::of(&streams).told().unwrap();
    let mark = put_back(machine(1)).chain_at(Sequence(3)).unwrap();
    assert_eq!((told.incarnation, told.sequence, told.chain), (Incarnation(1), Sequence(3), mark));
    assert_eq!(told.life, Incarnation(3));
    fork(&mut streams).refuse();
    assert_eq!(Lives::of(&streams).told(), None);
    assert_eq!(Lives::of(&mended()).told(), None);
}

#[test]
fn a_site_that_holds_polls_for_an_hour_watches_for_three_minutes() {
    let watch = Watch::of(Duration::from_secs(3_600));
    assert_eq!((watch.poll(), watch.silent()), (WATCHED_POLL_MOST, WATCHED_POLL_MOST * 3));
    assert_eq!(self::watch().poll(), Duration::from_secs(10));
}

#[test]
fn a_life_that_has_ended_is_doubted_until_its_messages_tell() {
    let lives = Lives::of(&mended());
    let hears = |life| lives.hears(Incarnation(life), Wall(i64::MAX), watch());
    assert_eq!(
        [1, 2, 3, 4].map(hears),
        [Hearing::Doubted, Hearing::Doubted, Hearing::Speaks, Hearing::Speaks]
    );
    // What an access point had kept since before proves nothing.
    assert!(!lives.goes_on(Incarnation(1), Wall(200_000)));
    assert!(lives.goes_on(Incarnation(1), Wall(200_001)));
    assert!(!lives.goes_on(Incarnation(3), Wall(200_001)));
}

#[test]
fn a_person_who_clears_the_suspicion_lets_one_machine_go_on_whichever_it_is() {
    let mut streams = claimed();
    fork(&mut streams).begin(Wall(0));
    fork(&mut streams).refuse();
    fork(&mut streams).settle(Wall(900_000));
    assert!(!fork(&mut streams).is_suspect());
    let hears = |streams: &[StreamRow], life, now| {
        Lives::of(streams).hears(Incarnation(life), Wall(now), watch())
    };
    assert_eq!(hears(&streams, 1, 1_000_000), Hearing::Speaks);
    assert!(!Lives::of(&streams).goes_on(Incarnation(1), Wall(1_000_000)));
    assert_eq!(hears(&streams, 3, 1_000_000), Hearing::Begins);
    fork(&mut streams).begin(Wall(1_000_000));
    assert_eq!(hears(&streams, 1, 1_010_000), Hearing::SecondMachine, "never both");
}

#[test]
fn a_person_who_vouches_lets_the_next_history_go_on_whatever_machine_it_is_of() {
    let vouched = |at: i64| {
        move |streams: &mut Vec<StreamRow>, suspect: &mut Suspect| {
            fork(streams).settle(Wall(at));
            suspect.machine = machine(2);
        }
    };
    let day = VOUCHED_FOR.as_millis() as i64;
    check_judged(vouched(100_000), Ok(3));
    check_judged(vouched(100_001 - day), Ok(3));
    check_judged(vouched(100_000 - day), Err(Why::OtherMachine));
    check_judged(vouched(100_001), Err(Why::OtherMachine));
    check_judged(
        |streams, suspect| {
            vouched(100_000)(streams, suspect);
            suspect.incarnation = Incarnation(2);
        },
        Err(Why::OtherMachine),
    );
    let mut streams = claimed();
    assert_eq!(fork(&mut streams).vouched, None);
    fork(&mut streams).settle(Wall(0));
    assert_eq!(fork(&mut streams).vouched, None, "the one that claims goes on, and no other");
}

#[test]
fn what_lies_after_the_fork_and_below_the_new_life_is_undone() {
    let lives = Lives::of(&mended());
    let found = [place(1, 2), place(1, 3), place(2, 1), place(3, 1)].map(|at| lives.is_undone(at));
    assert_eq!(found, [false, true, true, false]);
}

#[test]
fn put_back_to_the_same_snapshot_again_and_again_leaves_one_trace() {
    let mut streams = mended();
    for life in 4..4 + MENDED_MAX as u32 * 2 {
        let claim = Claim {
            from: Sequence(2),
            mark: Digest::of(&life.to_le_bytes()),
            life: Incarnation(life),
            since: Wall(0),
            begun: Some(Wall(0)),
        };
        accept(&mut streams, Incarnation(1), &claim);
        fork(&mut streams).mend(Wall(1));
    }
    assert_eq!(fork(&mut streams).mended.len(), 1);
    assert!(Lives::of(&streams).is_undone(place(4, 1)));
}

#[track_caller]
fn check_undone(state: State, expected: Option<State>) {
    let lives = Lives::of(&mended());
    let old = ObligationRow {
        place: Some(place(1, 4)),
        disputed: Some("why".into()),
        ..row(key(1), state, Author::Device)
    };
    let undone = undo(&old, &lives, Wall(200_000)).unwrap();
    let ObligationRow { state, decided, attempt, place, disputed, .. } = undone.row.clone();
    assert_eq!((state.clone(), decided), (expected.unwrap_or(old.state.clone()), Author::Site));
    assert_eq!((attempt, place, disputed), (old.attempt, old.place, None));
    let moves = undone.deltas().iter().map(|one| one.delta).sum::<i64>();
    assert_eq!((moves, undone.deltas().is_empty()), (0, state.word() == old.state.word()));
}

#[test]
fn ends_by_a_run_are_rolled_back_open_ones_open_and_the_rest_stays() {
    let rolled_back = || Some(State::RolledBack { cause: "snapshot".into() });
    let stopped = muster_model::state::Interruption::Stopped;
    for state in [
        succeeded(),
        failed(),
        State::TimedOut,
        State::Interrupted { cause: stopped },
        running(),
        State::RestartPending { why: None, detail: String::new() },
    ] {
        check_undone(state, rolled_back());
    }
    for state in [
        State::Accepted,
        State::Available,
        State::NotApplicable { why: NotApplicable::Platform },
        waiting(Waiting::Retry),
        State::Downloading { have: 1, of: 2 },
    ] {
        check_undone(state, Some(State::Targeted));
    }
    check_undone(State::Expired { why: Expiry::Missed }, None);
    check_undone(State::Superseded { by: "x".into() }, None);
}

#[test]
fn what_was_told_before_the_fork_and_what_the_site_decided_is_left_alone() {
    let lives = Lives::of(&mended());
    let before =
        ObligationRow { place: Some(place(1, 2)), ..row(key(1), succeeded(), Author::Device) };
    assert_eq!(undo(&before, &lives, Wall(0)), None);
    let sites = ObligationRow { place: Some(place(1, 4)), ..row(key(1), left(), Author::Site) };
    assert_eq!(undo(&sites, &lives, Wall(0)), None);
}

#[test]
fn what_was_on_its_way_since_before_is_kept_and_moves_nothing() {
    let (stream, ours) = history();
    let mut streams = mended();
    streams[0].through = stream.through;
    streams[0].head = stream.head;
    let more = batch(5, ours[&Sequence(4)], 1, vec![says(5, failed()), started(6, machine(7))]);
    let known = Lookups { lives: Lives::of(&streams), ..lookups() };
    let Ingest::Taken(taken) = plan(&streams[0], more, known) else { panic!("not taken") };
    assert!(taken.accepted[0].late && taken.fired.has(Branch::Undone));
    assert_eq!((taken.obligations.len(), taken.facts), (0, None));
    assert_eq!(taken.stream.fork, streams[0].fork, "what was mended stays on record");
}

#[test]
fn nothing_is_taken_of_a_life_that_is_watched_or_refused() {
    let streams = claimed();
    let life = |lives| {
        let known = Lookups { lives, granted: Incarnation(3), ..lookups() };
        let first = StreamRow::new(device_id(1), Incarnation(1));
        plan(&first, batch(1, Digest::ZERO, 1, vec![says(1, succeeded())]), known)
    };
    // The messages of tests are of incarnation 1: so is the life here.
    let mut own = streams.clone();
    own[0].fork.as_mut().unwrap().claim.as_mut().unwrap().life = Incarnation(1);
    assert_eq!(life(Lives::of(&own)), Ingest::Watched);
    // An access point keeps what is watched, and gives up what is refused.
    self::fork(&mut own).refuse();
    assert!(matches!(life(Lives::of(&own)), Ingest::UnknownIncarnation { .. }));
    let fork = own[0].fork.as_mut().unwrap();
    fork.refused.extend(fork.claim.take().map(|claim| claim.life));
    assert!(matches!(life(Lives::of(&own)), Ingest::UnknownIncarnation { .. }));
}

#[test]
fn a_fork_that_release_0_1_wrote_reads_as_a_suspicion() {
    let zero = Digest::ZERO;
    let old = format!(r#"{{"at":2,"ours":"{zero}","theirs":"{zero}"}}"#);
    let fork: Fork = serde_json::from_str(&old).unwrap();
    assert!(fork.is_suspect() && fork.claim.is_none());
}
