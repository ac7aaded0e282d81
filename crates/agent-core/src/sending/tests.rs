use std::time::Duration;

use muster_model::digest::Digest;
use muster_model::facts::Fact;
use muster_model::id::{EpochId, Incarnation, Sequence};
use muster_model::message::Body;
use muster_model::wire::device::Receipt;

use crate::input::Input;
use crate::outbox::SEND_MESSAGES_MAX;
use crate::saved::{Kept, Saved};
use crate::sometimes::Branch;
use crate::step::{Effect, Unsigned, Write};
use crate::world::*;

/// A world with `count` unsent messages, and the batch that is under way.
fn sending(count: usize) -> (World, Unsigned) {
    let mut world = World::new();
    for n in 1..count {
        let mut facts = facts();
        facts.name = format!("x{n}");
        world.give(Input::FactsChanged(facts));
    }
    let batch = world.last_batch();
    (world, batch)
}

impl World {
    fn batches(&self) -> Vec<&Unsigned> {
        self.done
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send(batch) => Some(batch),
                _ => None,
            })
            .collect()
    }

    fn last_batch(&self) -> Unsigned {
        self.batches().last().copied().cloned().expect("nothing was sent")
    }

    fn relieved(&self) -> u64 {
        self.journal.saved.memory.as_ref().map_or(0, |memory| memory.relieved.0)
    }
}

#[test]
fn a_message_is_sent_at_once_and_one_batch_at_a_time() {
    let (mut world, first) = sending(3);
    assert_eq!((first.first, first.messages.len(), world.batches().len()), (Sequence(1), 1, 1));
    world.give(Input::ReceiptArrived(world.receipt(&first)));
    let second = world.last_batch();
    assert_eq!((second.first, second.messages.len()), (Sequence(2), 2));
    assert_eq!(second.before, world.receipt(&first).head);
}

#[test]
fn batches_are_bounded() {
    let (mut world, first) = sending(SEND_MESSAGES_MAX + 50);
    world.give(Input::ReceiptArrived(world.receipt(&first)));
    assert_eq!(world.last_batch().messages.len(), SEND_MESSAGES_MAX);
}

/// Bends a receipt so that it is not for this stream; it must not relieve.
#[track_caller]
fn check_refused(bend: impl FnOnce(&mut Receipt)) {
    let (mut world, first) = sending(2);
    world.offer(Vec::new());
    let before = world.relieved();
    let mut facts = facts();
    facts.name = "more".into();
    world.give(Input::FactsChanged(facts));
    let mut receipt = world.receipt(&world.last_batch());
    bend(&mut receipt);
    world.give(Input::ReceiptArrived(receipt));
    assert_eq!(world.relieved(), before, "{first:?}");
    assert!(world.agent.fired().has(Branch::ReceiptRefused));
}

#[test]
fn a_receipt_for_another_device_relieves_nothing() {
    check_refused(|receipt| receipt.device.0 = uuid::Uuid::nil());
}

#[test]
fn a_receipt_for_another_incarnation_relieves_nothing() {
    check_refused(|receipt| receipt.incarnation = Incarnation(2));
}

#[test]
fn a_receipt_for_another_chain_relieves_nothing() {
    check_refused(|receipt| receipt.head = Digest::of(b"another"));
}

#[test]
fn a_receipt_beyond_the_head_relieves_nothing() {
    check_refused(|receipt| receipt.through = Sequence(receipt.through.0 + 1));
}

#[test]
fn a_receipt_of_another_epoch_relieves_nothing() {
    check_refused(|receipt| receipt.epoch = EpochId(uuid::Uuid::nil()));
}

#[test]
fn an_old_receipt_never_takes_back_a_newer_one() {
    let (mut world, first) = sending(3);
    let old = world.receipt(&first);
    world.give(Input::ReceiptArrived(old.clone()));
    world.give(Input::ReceiptArrived(world.receipt(&world.last_batch())));
    assert_eq!(world.relieved(), 3);
    world.give(Input::ReceiptArrived(old));
    assert_eq!(world.relieved(), 3);
}

#[test]
fn without_an_answer_nothing_is_lost_and_the_same_is_sent_again() {
    let (mut world, first) = sending(2);
    world.give(Input::SendFailed { why: "connection reset".into() });
    world.pass(Duration::from_secs(2));
    let again = &world.batches()[1];
    assert_eq!(again.messages[0], first.messages[0]);
    assert_eq!(again.messages.len(), 2);
}

#[test]
fn a_batch_that_is_never_answered_is_sent_again_in_time() {
    let (mut world, _) = sending(1);
    world.waiting.clear();
    world.pass(Duration::from_secs(200));
    assert!(world.batches().len() >= 2);
    assert!(world.agent.fired().has(Branch::AnswerOverdue));
}

#[test]
fn a_restart_sends_at_once_what_no_receipt_covers() {
    let (mut world, first) = sending(3);
    world.give(Input::ReceiptArrived(world.receipt(&first)));
    world.restart();
    let again = world.last_batch();
    assert_eq!((again.first, again.before), (Sequence(2), world.receipt(&first).head));
}

#[test]
fn the_link_coming_up_ends_a_long_back_off() {
    let (mut world, _) = sending(1);
    world.answers.site_down = true;
    world.pass(Duration::from_secs(3_000));
    let tries = world.batches().len();
    world.answers.site_down = false;
    world.give(Input::LinkUp);
    assert_eq!(world.batches().len(), tries + 1);
}

#[test]
fn a_site_that_lost_what_it_had_gets_it_again_and_nothing_is_relieved_of_it() {
    let (mut world, _) = sending(4);
    world.serve();
    assert_eq!(world.relieved(), 4);
    world.give(Input::FactsChanged(facts()));
    world.waiting.clear();
    world.give(Input::SiteBehind { epoch: EPOCH, through: Sequence(1) });
    assert_eq!(world.relieved(), 1);
    world.pass(Duration::from_secs(2));
    let again = world.batches()[world.batches().len() - 1].clone();
    assert_eq!((again.first, again.messages.len()), (Sequence(2), 4));
    assert_eq!(world.relieved(), 5);
    assert!(world.agent.fired().has(Branch::Rewound));
}

#[test]
fn a_site_that_claims_more_than_was_written_relieves_nothing() {
    let (mut world, _) = sending(1);
    world.give(Input::SiteBehind { epoch: EPOCH, through: Sequence(9) });
    assert_eq!(world.relieved(), 0);
    assert!(world.agent.fired().has(Branch::SiteAhead));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.relieved(), 1);
}

#[test]
fn a_site_that_has_more_than_was_written_is_shown_what_follows() {
    let (mut world, batch) = sending(6);
    let receipt = Receipt { through: Sequence(100), ..world.receipt(&batch) };
    world.give(Input::ReceiptArrived(receipt));
    world.waiting.clear();
    world.pass(Duration::from_secs(5));
    let shown = world.batches().into_iter().find(|one| one.first > batch.first).unwrap();
    let last = batch.first.0 + batch.messages.len() as u64 - 1;
    assert_eq!(shown.first, Sequence(last + 1), "what it had sent is what both have");
}

#[test]
fn a_restored_site_is_probed_with_the_newest_message_and_gets_all_that_it_lacks() {
    let (mut world, _) = sending(6);
    world.offer(Vec::new());
    let head = world.relieved();
    assert!(head >= 6);
    world.policy.epoch = EpochId(uuid::Uuid::from_u128(0xe1));
    world.advance_policy();
    let probe = world.last_batch();
    assert_eq!((probe.first, probe.messages.len()), (Sequence(head), 1));
    world.waiting.clear();
    world.give(Input::SiteBehind { epoch: world.policy.epoch, through: Sequence(2) });
    world.pass(Duration::from_secs(2));
    assert_eq!(world.last_batch().first, Sequence(3));
    assert_eq!(world.relieved(), head);
}

#[test]
fn what_was_relieved_long_ago_is_forgotten_and_the_chain_goes_on() {
    let (mut world, _) = sending(5);
    world.serve();
    world.move_to(world.now.elapsed.plus(Duration::from_secs(86_400 * 36)));
    let step = world.give(Input::Tick);
    let kept = "the newest message stays, to ask a restored site with";
    assert!(step.writes.contains(&Write::MessagesForgotten(Sequence(4))), "{kept}: {step:?}");
    world.give(Input::FactsChanged(facts()));
    world.restart();
    let batch = world.last_batch();
    assert_eq!((batch.kept_from, batch.first), (Sequence(5), Sequence(6)));
    world.serve();
    assert_eq!(world.relieved(), world.agent.memory.head.0);
}

#[test]
fn a_site_restored_from_before_all_that_is_kept_is_told_again_where_things_stand() {
    let mut world = World::new();
    let old = world.hello(1);
    world.offer(vec![old.clone()]);
    world.move_to(world.now.elapsed.plus(Duration::from_secs(86_400 * 36)));
    world.give(Input::Tick);
    let new = world.package(2, program(serde_json::json!({"disk": 5})), false);
    world.offer(vec![old, new]);
    assert_eq!(world.story(&key(1)), Vec::<String>::new());
    let mut told = world.story(&key(2));
    world.policy.epoch = EpochId(uuid::Uuid::from_u128(0xe1));
    world.advance_policy();
    assert_eq!(world.story(&key(1)), ["succeeded(detected)"]);
    assert_eq!(world.reports(&key(1))[0].attempt, 1);
    // The restored site may have set it aside before it meant the device again.
    told.push("succeeded(exit-code)".to_owned());
    assert_eq!(world.story(&key(2)), told);
    world.serve();
    assert_eq!(world.relieved(), world.agent.memory.head.0);
}

#[test]
fn what_is_not_relieved_is_kept_however_old() {
    let (mut world, _) = sending(5);
    world.answers.site_down = true;
    world.move_to(world.now.elapsed.plus(Duration::from_secs(86_400 * 400)));
    let step = world.give(Input::Tick);
    assert!(!step.writes.iter().any(|write| matches!(write, Write::MessagesForgotten(_))));
}

/// A limit of an outbox that is soon reached.
const SMALL: usize = 1024 * 1024;

#[test]
fn a_full_outbox_holds_new_runs_back_and_drops_nothing() {
    let mut world = World::new();
    world.answers.site_down = true;
    let mut saved = world.journal.saved.clone();
    let memory = saved.memory.as_mut().unwrap();
    while saved.messages.iter().map(|kept| kept.bytes.len()).sum::<usize>() < SMALL {
        let bytes = big_message(memory.head.next());
        let chain = muster_model::wire::batch::chain(memory.chain, &bytes);
        memory.head = memory.head.next();
        memory.chain = chain;
        let kept = Kept { sequence: memory.head, bytes, chain, written: NOON };
        saved.messages.push(kept);
    }
    let mut world = world.reborn(saved);
    world.agent.outbox.limit(SMALL);
    world.answers.site_down = true;
    let offer = world.hello(1);
    world.offer(vec![offer]);
    assert_eq!(world.state(&key(1)), "waiting(outbox)");
    world.answers.site_down = false;
    world.give(Input::LinkUp);
    world.serve();
    assert_eq!(world.state(&key(1)), "succeeded(detected)");
}

/// A world whose outbox holds so little, cut off from its site.
fn cut_off(bytes: usize) -> World {
    let mut world = World::new();
    world.serve();
    world.answers.site_down = true;
    world.agent.outbox.limit(bytes);
    world
}

/// Changes the facts `times` times.
fn change_facts(world: &mut World, times: u32) {
    for n in 0..times {
        let mut facts = world.agent.memory.facts.clone();
        facts.extra.insert("load".to_owned(), Fact::Text(format!("{n:0200}")));
        world.give(Input::FactsChanged(facts));
    }
}

/// What the messages say, in order, of this kind.
fn bodies<T>(world: &World, of: impl Fn(&Body) -> Option<T>) -> Vec<T> {
    let kept = &world.journal.saved.messages;
    kept.iter().filter_map(|kept| of(&read(kept).body)).collect()
}

#[test]
fn in_a_half_full_outbox_facts_give_way_and_are_counted_and_outcomes_stay() {
    let mut world = cut_off(40_000);
    let offers = (1..=3).map(|n| world.hello(n)).collect();
    world.answers.site_down = false;
    world.offer(offers);
    world.answers.site_down = true;
    change_facts(&mut world, 100);
    let written = bodies(&world, |body| matches!(body, Body::FactsChanged { .. }).then_some(()));
    let dropped = world.agent.memory.gave_way.dropped;
    assert!(dropped > 0 && written.len() as u64 + dropped == 100, "{} {dropped}", written.len());
    let limit = world.agent.outbox.waiting_bytes(world.agent.memory.relieved);
    assert!(limit <= 40_000 / 2 + 2_000, "{limit}");
    world.answers.site_down = false;
    world.give(Input::LinkUp);
    world.serve();
    let told = bodies(&world, |body| match body {
        Body::Dropped { count } => Some(*count),
        _ => None,
    });
    assert_eq!(told.iter().sum::<u64>(), dropped);
    let newest = bodies(&world, |body| match body {
        Body::FactsChanged { facts } => Some(facts.clone()),
        _ => None,
    });
    assert_eq!(
        newest.last(),
        Some(&world.agent.memory.facts),
        "the newest facts are told after all"
    );
    assert_eq!(world.relieved(), world.agent.memory.head.0);
}

#[test]
fn a_state_that_gave_way_is_told_when_there_is_room_again() {
    let mut world = cut_off(20_000);
    change_facts(&mut world, 60);
    let at = NOON.plus(Duration::from_secs(86_400 * 300));
    let mut offer = world.hello(1);
    offer.occurrences[0].at = Some(muster_model::advertisement::At::Instant(at));
    world.policy.advertisements = vec![offer];
    world.advance_policy();
    let record = &world.agent.obligations[&key(1)];
    assert!(record.untold, "{record:?}");
    assert!(world.story(&key(1)).is_empty(), "{:?}", world.story(&key(1)));
    world.answers.site_down = false;
    world.give(Input::LinkUp);
    world.serve();
    let told = world.story(&key(1));
    assert_eq!(told.last(), Some(&world.state(&key(1))), "{told:?}");
    assert!(!world.agent.obligations[&key(1)].untold);
}

impl World {
    /// The same device with another journal.
    fn reborn(&self, saved: Saved) -> World {
        let mut world = World::unstarted(self.identity.clone(), saved);
        world.policy = self.policy.clone();
        world.answers.site_down = true;
        world.lawless = true;
        world.start();
        world
    }
}

/// A message of a megabyte: no real one is so large, but the outbox does not look inside.
fn big_message(sequence: Sequence) -> Vec<u8> {
    let world = World::new();
    let mut message = read(&world.journal.saved.messages[0]);
    message.sequence = sequence;
    message.body = Body::PolicyRefused { why: "x".repeat(1 << 20) };
    serde_json::to_vec(&message).unwrap()
}
