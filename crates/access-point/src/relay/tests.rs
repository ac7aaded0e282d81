//! A relay, a site that can be told what to answer, and what devices hear.

use super::*;
use muster_model::clock::Wall;
use muster_model::id::Incarnation;
use muster_model::sign::{Domain, PrivateKey};
use muster_model::wire::device::Behind;

const STREAM: Stream = Stream { device: DeviceId(uuid(7)), incarnation: Incarnation(1) };

const fn uuid(n: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([n; 16])
}

fn now(seconds: u64) -> Now {
    Now { wall: Wall(0), elapsed: Elapsed(seconds * 1_000) }
}

fn batch(first: u64, count: u64) -> Box<Batch> {
    let key = PrivateKey::from_seed([7; 32]);
    let messages = (first..first + count).map(|n| n.to_le_bytes().to_vec()).collect();
    let (device, incarnation) = (STREAM.device, STREAM.incarnation);
    let before = Digest::of(&first.to_le_bytes());
    Box::new(Batch::signed(
        &key,
        device,
        incarnation,
        Sequence(first),
        before,
        Sequence(1),
        count,
        messages,
    ))
}

fn receipt(epoch: u8, through: u64) -> Upstream {
    let (device, incarnation) = (STREAM.device, STREAM.incarnation);
    let epoch = EpochId(uuid(epoch));
    let receipt =
        Receipt { epoch, device, incarnation, through: Sequence(through), head: Digest::ZERO };
    let sealed = Sealed::seal(&PrivateKey::from_seed([1; 32]), Domain::Receipt, &receipt).unwrap();
    Upstream::Receipt { through: Sequence(through), sealed }
}

fn offer(relay: &mut Relay, second: u64, request: Request, batch: Box<Batch>) -> Step {
    relay.handle(now(second), Input::Offered { request, batch })
}

fn forwarded(step: &Step) -> Vec<u64> {
    let firsts = step.effects.iter().filter_map(|effect| match effect {
        Effect::Forward(key) => Some(key.first.0),
        _ => None,
    });
    firsts.collect()
}

fn answers(step: &Step) -> Vec<(Request, &Answer)> {
    let answers = step.effects.iter().filter_map(|effect| match effect {
        Effect::Answer { request, answer } => Some((*request, answer)),
        _ => None,
    });
    answers.collect()
}

fn relay() -> Relay {
    let mut relay = Relay::restore(SPOOL_BYTES_DEFAULT, []);
    relay.handle(now(0), Input::Started);
    relay
}

#[test]
fn a_batch_is_written_before_it_is_forwarded_and_answered_by_the_site_only() {
    let mut relay = relay();
    let first = batch(1, 3);
    let key = BatchKey::of(&first.header);
    let step = offer(&mut relay, 0, 1, first.clone());
    assert_eq!(step.writes, [Write::Spooled(first)]);
    assert_eq!(forwarded(&step), [1]);
    assert_eq!(answers(&step), []);
    let step = relay.handle(now(1), Input::Forwarded { key, answer: receipt(1, 3) });
    assert!(matches!(answers(&step)[..], [(1, Answer::Receipt(_))]), "{step:?}");
    assert_eq!(step.writes, [Write::Dropped(key)]);
    assert_eq!(relay.view().batches, 0);
}

#[test]
fn without_the_site_a_device_is_told_spooled_and_the_batch_goes_later() {
    let mut relay = relay();
    let key = BatchKey::of(&batch(1, 3).header);
    offer(&mut relay, 0, 1, batch(1, 3));
    let step = relay.handle(now(1), Input::Forwarded { key, answer: Upstream::Failed });
    assert_eq!(answers(&step), [(1, &Answer::Spooled)]);
    assert_eq!(relay.next_deadline(), Some(Elapsed(2_000)));
    assert_eq!(forwarded(&relay.handle(now(2), Input::Tick)), [1]);
    let step = relay.handle(now(3), Input::Forwarded { key, answer: receipt(1, 3) });
    assert_eq!(answers(&step), []);
    let poll = Input::Polled { request: 9, device: STREAM.device, tag: None };
    relay.handle(now(4), poll);
    let answer = PolicyAnswer::Failed;
    let step = relay.handle(now(4), Input::PollAnswered { request: 9, answer });
    assert!(
        matches!(&step.effects[..], [Effect::AnswerPoll { receipt: Some(_), .. }]),
        "the receipt comes down with the next answer: {step:?}"
    );
}

#[test]
fn a_stream_keeps_its_order_and_one_batch_under_way() {
    let mut relay = relay();
    assert_eq!(forwarded(&offer(&mut relay, 0, 1, batch(1, 3))), [1]);
    assert_eq!(forwarded(&offer(&mut relay, 0, 2, batch(4, 2))), [0u64; 0]);
    let key = BatchKey::of(&batch(1, 3).header);
    let step = relay.handle(now(1), Input::Forwarded { key, answer: receipt(1, 3) });
    assert_eq!(forwarded(&step), [4]);
}

#[test]
fn a_full_spool_refuses_and_names_the_limit() {
    let mut relay = Relay::restore(30, []);
    relay.handle(now(0), Input::Started);
    offer(&mut relay, 0, 1, batch(1, 2));
    let step = offer(&mut relay, 0, 2, batch(3, 1));
    assert_eq!(answers(&step), [(2, &Answer::Full { limit: "quota" })]);
    assert_eq!(step.writes, []);
}

#[test]
fn what_does_not_follow_gives_way_in_a_full_spool() {
    let mut relay = Relay::restore(30, []);
    relay.handle(now(0), Input::Started);
    offer(&mut relay, 0, 1, batch(11, 2));
    let key = BatchKey::of(&batch(11, 2).header);
    let behind = Behind { epoch: EpochId(uuid(2)), through: Sequence(5) };
    relay.handle(now(1), Input::Forwarded { key, answer: Upstream::Behind(behind) });
    let step = offer(&mut relay, 2, 2, batch(6, 2));
    assert_eq!(step.writes, [Write::Dropped(key), Write::Spooled(batch(6, 2))]);
    assert_eq!(forwarded(&step), [6]);
}

#[test]
fn what_the_disk_held_is_forwarded_after_a_restart() {
    let key = BatchKey::of(&batch(1, 3).header);
    let mut relay = Relay::restore(SPOOL_BYTES_DEFAULT, [Spooled { key, bytes: 36 }]);
    assert_eq!(forwarded(&relay.handle(now(0), Input::Started)), [1]);
    let step = offer(&mut relay, 1, 1, batch(1, 3));
    assert_eq!(step.writes, [], "held already");
}

#[test]
fn a_batch_that_does_not_follow_waits_for_what_lies_before_it() {
    let mut relay = relay();
    offer(&mut relay, 0, 1, batch(11, 2));
    let key = BatchKey::of(&batch(11, 2).header);
    let behind = Behind { epoch: EpochId(uuid(2)), through: Sequence(5) };
    let answer = Upstream::Behind(behind.clone());
    let step = relay.handle(now(1), Input::Forwarded { key, answer });
    assert_eq!(answers(&step), [(1, &Answer::Behind(behind))]);
    assert_eq!(forwarded(&step), [0u64; 0]);
    assert_eq!(forwarded(&offer(&mut relay, 2, 2, batch(6, 5))), [6]);
    let key = BatchKey::of(&batch(6, 5).header);
    let step = relay.handle(now(3), Input::Forwarded { key, answer: receipt(2, 10) });
    assert_eq!(forwarded(&step), [11]);
}

#[test]
fn a_batch_that_comes_again_with_less_kept_before_it_replaces_the_one_that_did_not_follow() {
    let mut relay = relay();
    offer(&mut relay, 0, 1, batch(11, 2));
    let key = BatchKey::of(&batch(11, 2).header);
    let behind = Behind { epoch: EpochId(uuid(2)), through: Sequence(5) };
    relay.handle(now(1), Input::Forwarded { key, answer: Upstream::Behind(behind) });
    let mut later = batch(11, 2);
    later.header.kept_from = Sequence(11);
    let step = offer(&mut relay, 2, 2, later.clone());
    assert_eq!(step.writes, [Write::Spooled(later)]);
    assert_eq!(forwarded(&step), [11]);
}

#[test]
fn what_the_site_refuses_is_dropped_and_said() {
    let mut relay = relay();
    offer(&mut relay, 0, 1, batch(1, 1));
    let key = BatchKey::of(&batch(1, 1).header);
    let answer = Upstream::Refused { why: "held".into() };
    let step = relay.handle(now(1), Input::Forwarded { key, answer });
    assert_eq!(answers(&step), [(1, &Answer::Refused { why: "held".into() })]);
    assert_eq!((relay.view().batches, relay.view().refused), (0, 1));
}

#[test]
fn a_request_is_never_held_longer_than_the_limit() {
    let mut relay = relay();
    offer(&mut relay, 0, 1, batch(1, 1));
    assert_eq!(relay.next_deadline(), Some(Elapsed(0).plus(HOLD_MOST)));
    let step = relay.handle(now(HOLD_MOST.as_secs()), Input::Tick);
    assert_eq!(answers(&step), [(1, &Answer::Spooled)]);
}

#[test]
fn another_epoch_forgets_what_the_one_before_said() {
    let mut relay = relay();
    for (request, second, epoch) in [(1, 0, 1), (2, 100, 2)] {
        offer(&mut relay, second, request, batch(request, 1));
        relay.handle(now(second + 50), Input::Tick); // the request is answered `spooled`
        let key = BatchKey::of(&batch(request, 1).header);
        let answer = receipt(epoch, request);
        relay.handle(now(second + 60), Input::Forwarded { key, answer });
    }
    assert!(relay.fired().any(|branch| branch == Branch::EpochChanged));
    assert_eq!(relay.receipts.len(), 1, "only the newest epoch's receipt is kept");
}

#[test]
fn a_cached_policy_is_given_once_while_the_site_is_away() {
    let mut relay = relay();
    let (device, tag) = (STREAM.device, Digest::of(b"new"));
    let sealed = Sealed::seal(&PrivateKey::from_seed([1; 32]), Domain::Policy, &"p").unwrap();
    let mut poll = |request, answer| {
        relay.handle(now(0), Input::Polled { request, device, tag: None });
        let step = relay.handle(now(1), Input::PollAnswered { request, answer });
        step.effects.into_iter().find_map(|effect| match effect {
            Effect::AnswerPoll { answer, .. } => Some(answer),
            _ => None,
        })
    };
    poll(1, PolicyAnswer::Policy { tag, sealed: sealed.clone(), time: None });
    let cached = PolicyAnswer::Policy { tag, sealed, time: None };
    assert_eq!(poll(2, PolicyAnswer::Failed), Some(cached));
    assert_eq!(poll(3, PolicyAnswer::Failed), Some(PolicyAnswer::Failed));
}
