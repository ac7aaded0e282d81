//! Batches of messages: once each, rows and counters with them, in one commit.

use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{Incarnation, Sequence};
use muster_model::message::{Body, Severity};
use muster_model::state::Word;
use muster_site::store::{MessageFilter, MessageOrder};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::accounting::summary;
use muster_site_core::ingest::{Gap, Ingest, StreamRow};
use muster_site_core::obligation::Place;
use tokio::task::JoinSet;

use crate::support::*;

async fn advertised(test: &TestDb, devices: u128) {
    site(&test.db, 1..=devices).await;
    advertise(&test.db, 1, "first#1").await;
}

async fn stream_of(test: &TestDb, n: u128) -> StreamRow {
    let streams = test.db.read().await.unwrap().stream_list(device_id(n)).await.unwrap();
    streams.into_iter().next_back().unwrap()
}

#[tokio::test]
async fn a_batch_moves_stream_row_counter_and_messages_together() {
    on_both(async |test: TestDb| {
        advertised(&test, 2).await;
        let mut speaker = Speaker::new(1);
        let reading = speaker.says([running(), succeeded()]);
        let head = reading.header.head;
        take(&test.db, &[reading]).await.unwrap();

        let stream = stream_of(&test, 1).await;
        assert_eq!((stream.through, stream.head), (Sequence(2), head));
        let mut reader = test.db.read().await.unwrap();
        let first = occurrence("first#1");
        let rows = reader.obligation_list_device(device_id(1)).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].state, rows[0].exit_code), (&succeeded(), Some(0)));
        let counts = reader.counter_load(advertisement_id(1), &first).await.unwrap();
        assert_eq!(counts.0.into_iter().collect::<Vec<_>>(), [(Word::Succeeded, 1)]);
        let messages =
            reader.message_replay(device_id(1), Incarnation(1), Sequence(0), 10).await.unwrap();
        let words: Vec<u16> = messages.iter().map(|message| message.code).collect();
        assert_eq!(words, [10_005, 10_008]);
        assert_eq!(messages[1].chain, head);
        assert_eq!(messages[1].advertisement, Some(advertisement_id(1)));
    })
    .await;
}

#[tokio::test]
async fn the_bytes_that_are_stored_are_the_bytes_that_were_signed() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        take(&test.db, &[Speaker::new(1).says([running(), failed()])]).await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let messages =
            reader.message_replay(device_id(1), Incarnation(1), Sequence(0), 10).await.unwrap();
        let mut chain = Digest::ZERO;
        for message in messages {
            chain = muster_model::wire::batch::chain(chain, message.body.as_bytes());
            assert_eq!(chain, message.chain);
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_comes_again_is_known_and_changes_nothing() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut speaker = Speaker::new(1);
        let first = speaker.says([running()]);
        let second = speaker.says([succeeded()]);
        take(&test.db, std::slice::from_ref(&first)).await.unwrap();
        take(&test.db, std::slice::from_ref(&second)).await.unwrap();
        let before = stream_of(&test, 1).await;
        // One is wholly old, one ends where the stream does.
        for again in [first, second] {
            let plans = take(&test.db, &[again]).await.unwrap();
            let Ingest::Taken(taken) = &plans[0] else { panic!("{plans:?}") };
            assert_eq!((taken.exists, taken.accepted.len()), (1, 0));
        }
        let after = stream_of(&test, 1).await;
        assert_eq!((before.through, before.head), (after.through, after.head));
        let mut reader = test.db.read().await.unwrap();
        let counts = reader.counter_load(advertisement_id(1), &occurrence("first#1")).await;
        assert_eq!(counts.unwrap().0.into_iter().collect::<Vec<_>>(), [(Word::Succeeded, 1)]);
    })
    .await;
}

#[tokio::test]
async fn another_history_under_the_same_numbers_is_set_aside_and_marks_the_stream() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut original = Speaker::new(1);
        take(&test.db, &[original.says([running()])]).await.unwrap();
        take(&test.db, &[original.says([succeeded()])]).await.unwrap();
        // A copy of the machine that went another way from its first message on; its batch is
        // wholly old, so only the stored chain can tell.
        let plans = take(&test.db, &[Speaker::new(1).says([failed()])]).await.unwrap();
        assert!(matches!(plans[0], Ingest::Forked { .. }), "{plans:?}");
        assert!(stream_of(&test, 1).await.fork.is_some());
        let mut reader = test.db.read().await.unwrap();
        let waiting = reader.set_aside_list(0, 10).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].item.reason, "forked");
        let rows = reader.obligation_list_device(device_id(1)).await.unwrap();
        assert_eq!(rows[0].state, succeeded());
    })
    .await;
}

#[tokio::test]
async fn what_a_device_no_longer_has_is_a_named_gap() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut speaker = Speaker::new(1);
        take(&test.db, &[speaker.says([running()])]).await.unwrap();
        take(&test.db, &[speaker.skips_to(5, [succeeded()])]).await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let gaps = reader.gap_list(device_id(1)).await.unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].gap, Gap { first: Sequence(2), last: Sequence(4) });
        assert_eq!(reader.gap_count().await.unwrap(), (1, 3));
        assert_eq!(stream_of(&test, 1).await.through, Sequence(5));
    })
    .await;
}

#[tokio::test]
async fn a_bad_message_is_set_aside_with_its_bytes_and_the_next_goes_on() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut speaker = Speaker::new(1);
        let stray = report(77, "first#1", succeeded());
        take(&test.db, &[speaker.sends_bytes(vec![vec![0xff, 0x00], Vec::new()])]).await.unwrap();
        take(&test.db, &[speaker.reports([stray])]).await.unwrap();
        take(&test.db, &[speaker.says([succeeded()])]).await.unwrap();

        let mut reader = test.db.read().await.unwrap();
        let waiting = reader.set_aside_list(0, 10).await.unwrap();
        let found: Vec<(&str, usize, Sequence)> = waiting
            .iter()
            .map(|row| {
                let (_, place) = row.item.place.unwrap();
                (row.item.reason.as_str(), row.item.bytes.len(), place.sequence)
            })
            .collect();
        assert_eq!(found[0], ("unreadable", 2, Sequence(1)));
        assert_eq!(found[1], ("unreadable", 0, Sequence(2)));
        assert_eq!((found[2].0, found[2].2), ("stray", Sequence(3)));
        assert_eq!(reader.set_aside_count().await.unwrap(), 3);
        assert_eq!(stream_of(&test, 1).await.through, Sequence(4));
        let number = waiting[0].number;
        drop(reader);
        let mut tx = test.db.begin().await.unwrap();
        assert!(tx.set_aside_resolve(number, "dropped", NOW).await.unwrap());
        assert!(!tx.set_aside_resolve(number, "dropped", NOW).await.unwrap());
        tx.commit().await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let row = reader.set_aside_load(number).await.unwrap().unwrap();
        assert_eq!((row.resolution.as_deref(), row.item.bytes.len()), (Some("dropped"), 0));
        assert_eq!(reader.set_aside_count().await.unwrap(), 2);
        assert_eq!(reader.set_aside_places(device_id(1)).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_item_that_comes_again_is_counted_not_kept_twice() {
    on_both(async |test: TestDb| {
        let item = muster_site::store::NewSetAside {
            reason: "not-a-batch".into(),
            detail: "cut short".into(),
            sender: "192.0.2.1".into(),
            place: None,
            chain: None,
            bytes: b"noise".to_vec(),
        };
        for _ in 0..3 {
            let mut tx = test.db.begin().await.unwrap();
            tx.set_aside_insert_many(NOW, std::slice::from_ref(&item)).await.unwrap();
            tx.commit().await.unwrap();
        }
        let rows = test.db.read().await.unwrap().set_aside_list(0, 10).await.unwrap();
        assert_eq!((rows.len(), rows[0].seen, &rows[0].item), (1, 3, &item));
    })
    .await;
}

#[tokio::test]
async fn facts_and_a_newer_life_are_noted_and_the_device_waits_for_evaluation() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let settled = |test: &TestDb| {
            let db = test.db.clone();
            async move {
                let mut tx = db.begin().await.unwrap();
                let listed = tx.device_list_unevaluated(10).await.unwrap();
                let done: Vec<_> =
                    listed.iter().map(|(row, version)| (row.device.id, *version)).collect();
                tx.device_evaluated_many(&done).await.unwrap();
                tx.commit().await.unwrap();
                listed
            }
        };
        assert_eq!(settled(&test).await.len(), 1, "a new device waits for its first evaluation");
        assert_eq!(settled(&test).await.len(), 0);
        let facts = Facts { os: "plan9".into(), ..Facts::default() };
        let mut speaker = Speaker::new(1);
        speaker.incarnation = Incarnation(2);
        let reading = speaker.sends([Body::AgentStarted { facts: facts.clone() }]);
        take(&test.db, &[reading]).await.unwrap();
        let waiting = settled(&test).await;
        assert_eq!(waiting[0].0.device.facts, facts);
        let row = test.db.read().await.unwrap().device_load(device_id(1)).await.unwrap().unwrap();
        assert_eq!(row.incarnation, Incarnation(2));
        // The same facts once more are no change.
        take(&test.db, &[speaker.sends([Body::FactsChanged { facts }])]).await.unwrap();
        assert_eq!(settled(&test).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn facts_that_change_during_an_evaluation_are_evaluated_again() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut tx = test.db.begin().await.unwrap();
        let (row, version) = tx.device_list_unevaluated(10).await.unwrap().remove(0);
        let newer = Facts { os: "plan9".into(), ..Facts::default() };
        tx.device_facts_set_many(&[(row.device.id, &newer)]).await.unwrap();
        tx.device_evaluated_many(&[(row.device.id, version)]).await.unwrap();
        assert_eq!(tx.device_list_unevaluated(10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_does_not_commit_leaves_nothing() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let before = stream_of(&test, 1).await;
        let reading = Speaker::new(1).says([running()]);
        let ask = muster_site::store::IngestAsk::of(&reading);
        let mut tx = test.db.begin().await.unwrap();
        let mut rows = tx.ingest_load(std::slice::from_ref(&ask)).await.unwrap();
        let (stream, lookups) = rows.lookups(&ask, NOW).unwrap();
        let Ingest::Taken(taken) = muster_site_core::ingest::plan(&stream, reading, lookups) else {
            panic!("not taken")
        };
        tx.ingest_write(NOW, &[*taken], &[]).await.unwrap();
        drop(tx);
        assert_eq!(stream_of(&test, 1).await, before);
        let mut reader = test.db.read().await.unwrap();
        let found = reader.message_replay(device_id(1), Incarnation(1), Sequence(0), 9).await;
        assert_eq!(found.unwrap(), []);
        assert_eq!(reader.counter_delta_count().await.unwrap(), 0);
    })
    .await;
}

/// While groups of overlapping devices are taken in several tasks and the counters are folded beside
/// them, every look at the database finds states that sum to what is targeted.
#[tokio::test]
async fn the_sums_hold_at_every_instant() {
    on_both(async |test: TestDb| {
        const DEVICES: u128 = 12;
        advertised(&test, DEVICES).await;
        let mut tasks = JoinSet::new();
        for task in 0..3_u128 {
            let db = test.db.clone();
            tasks.spawn(async move {
                let mine = (1..=DEVICES).filter(move |n| n % 3 == task);
                let mut speakers: Vec<Speaker> = mine.map(Speaker::new).collect();
                for state in [running(), running(), failed()] {
                    let group: Vec<_> =
                        speakers.iter_mut().map(|one| one.says([state.clone()])).collect();
                    take(&db, &group).await.unwrap();
                }
            });
        }
        let db = test.db.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                let mut tx = db.begin().await.unwrap();
                tx.counter_fold(3).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
        let first = [occurrence("first#1")];
        let mut looks = 0;
        while !tasks.is_empty() {
            let mut reader = test.db.read().await.unwrap();
            let sums = reader.accounting_sums(advertisement_id(1), &first).await.unwrap();
            let counted = reader.counter_recount(advertisement_id(1), &first[0]).await.unwrap();
            assert_eq!(sums.rows, counted);
            assert_eq!(sums.targeted, DEVICES as u64);
            summary(sums.targeted, 0, &sums.rows, Default::default()).unwrap();
            looks += 1;
            while let Some(done) = tasks.try_join_next() {
                done.unwrap();
            }
        }
        assert!(looks > 1);
        let mut tx = test.db.begin().await.unwrap();
        while tx.counter_fold(100).await.unwrap() > 0 {}
        let counts = tx.counter_load(advertisement_id(1), &first[0]).await.unwrap();
        assert_eq!(counts.0.into_iter().collect::<Vec<_>>(), [(Word::Failed, DEVICES as i64)]);
        assert_eq!(tx.counter_delta_count().await.unwrap(), 0);
    })
    .await;
}

/// Groups that hold the same devices in opposite orders wait for each other, never for ever.
#[tokio::test]
async fn groups_of_the_same_devices_do_not_deadlock() {
    on_both(async |test: TestDb| {
        advertised(&test, 8).await;
        let mut tasks = JoinSet::new();
        for task in 0..4 {
            let db = test.db.clone();
            tasks.spawn(async move {
                for _ in 0..10 {
                    let mut numbers: Vec<u128> = (1..=8).collect();
                    if task % 2 == 0 {
                        numbers.reverse();
                    }
                    let mut tx = db.begin().await.unwrap();
                    let locked = tx.stream_lock_many(numbers.into_iter().map(device_id)).await;
                    let mut streams = locked.unwrap();
                    assert_eq!(streams.len(), 8);
                    streams.iter_mut().for_each(|stream| stream.waiting += 1);
                    tx.stream_write_many(&streams).await.unwrap();
                    tx.commit().await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        // Nobody's change was lost between another's reading and writing.
        assert_eq!(stream_of(&test, 3).await.waiting, 40);
    })
    .await;
}

#[tokio::test]
async fn messages_are_listed_by_device_advertisement_and_severity_in_pages() {
    on_both(async |test: TestDb| {
        advertised(&test, 2).await;
        let (mut one, mut two) = (Speaker::new(1), Speaker::new(2));
        let facts = Facts::default();
        take(&test.db, &[one.sends([Body::AgentStarted { facts }])]).await.unwrap();
        take(&test.db, &[one.says([running(), failed()]), two.says([running(), succeeded()])])
            .await
            .unwrap();
        let mut reader = test.db.read().await.unwrap();
        let count = async |reader: &mut muster_site::store::Read, filter: MessageFilter| {
            let list = reader.message_list(&filter, MessageOrder::NewestFirst, None, 100).await;
            list.unwrap().len()
        };
        let all = MessageFilter::default();
        assert_eq!(count(&mut reader, all).await, 5);
        let device = MessageFilter { device: Some(device_id(1)), ..all };
        assert_eq!(count(&mut reader, device).await, 3);
        let about = MessageFilter { advertisement: Some(advertisement_id(1)), ..all };
        assert_eq!(count(&mut reader, about).await, 4);
        let severe = MessageFilter { severity: Some(Severity::Error), ..all };
        assert_eq!(count(&mut reader, severe).await, 1);
        let both = MessageFilter { severity: Some(Severity::Warning), ..about };
        assert_eq!(count(&mut reader, both).await, 1);

        for order in [MessageOrder::NewestFirst, MessageOrder::OldestFirst] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = reader.message_list(&all, order, after, 2).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.cursor());
                found.extend(page.iter().map(|message| message.cursor()));
            }
            let sorted = match order {
                MessageOrder::NewestFirst => found.windows(2).all(|two| two[0] > two[1]),
                MessageOrder::OldestFirst => found.windows(2).all(|two| two[0] < two[1]),
            };
            assert!(found.len() == 5 && sorted, "{found:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_facts_before_a_place_and_the_times_of_a_stream_are_found() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        let mut one = Speaker::new(1);
        let facts = || Facts::default();
        let bodies = [Body::AgentStarted { facts: facts() }, Body::FactsChanged { facts: facts() }];
        take(&test.db, &[one.sends(bodies)]).await.unwrap();
        take(&test.db, &[one.says([running()])]).await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let (id, life) = (device_id(1), Incarnation(1));
        for (until, expected) in [(0, None), (1, Some(1)), (2, Some(2)), (3, Some(2))] {
            let found = reader.message_facts(id, life, Sequence(until)).await.unwrap();
            assert_eq!(found.map(|row| row.place.sequence.0), expected, "until {until}");
        }
        let messages = reader.message_replay(id, life, Sequence(0), 9).await.unwrap();
        let first = reader.message_first_received(id, life).await.unwrap();
        let last = reader.message_last_received(id, life).await.unwrap();
        assert_eq!((first, last), (Some(messages[0].received), Some(messages[2].received)));
        assert_eq!(reader.message_last_received(id, Incarnation(2)).await.unwrap(), None);
        assert!(reader.message_facts(id, Incarnation(2), Sequence(9)).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn forgotten_messages_leave_a_mark_in_their_stream() {
    on_both(async |test: TestDb| {
        advertised(&test, 1).await;
        take(&test.db, &[Speaker::new(1).says([running(), running(), failed()])]).await.unwrap();
        let mut tx = test.db.begin().await.unwrap();
        let later = muster_model::clock::Wall(NOW.0 + 1);
        let old = tx.message_old_list(later, 2).await.unwrap();
        let place = Place { incarnation: Incarnation(1), sequence: Sequence(2) };
        assert_eq!(old, [(device_id(1), place)]);
        let gone = tx.message_forget(device_id(1), Incarnation(1), Sequence(2)).await.unwrap();
        assert_eq!(gone, 2);
        let page = tx.stream_page(None).await.unwrap();
        assert_eq!((page[0].0.through, page[0].1), (Sequence(3), Sequence(2)));
    })
    .await;
}
