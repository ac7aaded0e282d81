//! Who is targeted: joining, leaving, coming back, facts, names.

use serde_json::{Value, json};

use crate::harness::*;
use muster_model::facts::Fact;
use muster_model::message::Body;
use muster_model::state::State;

on_both!(
    who_leaves_unstarted_is_withdrawn_and_opens_again_on_return,
    who_comes_back_unheard_stands_where_it_said_last,
    an_assignment_that_is_removed_withdraws_and_a_deleted_advertisement_too,
    facts_move_a_device_in_and_out_of_a_query,
    a_retired_device_has_lost_what_it_owed_and_is_let_in_nowhere
);

fn lab(members: Value) -> Value {
    document("Collection", "lab", json!({"members": members}))
}

async fn who_leaves_unstarted_is_withdrawn_and_opens_again_on_return(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let d1 = Device::enroll(&site, &token, "d1").await;
    let mut d2 = Device::enroll(&site, &token, "d2").await;
    let id = site.advertise("lab", &["d1", "d2"]).await;
    let offered = d1.policy().await;
    d2.report(id, "first#1", State::Running { attempt: 1 }, 1);
    d2.send(1).await;
    site.apply(vec![lab(json!([]))]).await.ok();
    // The one that runs finishes; the other is withdrawn; both stay targeted.
    let found = site.settled(id, json!({"withdrawn": 1, "running": 1})).await;
    assert_eq!((&found["targeted"], &found["members"]), (&json!(2), &json!(0)));
    let withdrawn = d1.policy().await;
    assert!(withdrawn.advertisements.is_empty() && withdrawn.revision > offered.revision);
    site.apply(vec![lab(json!(["d1", "d2"]))]).await.ok();
    site.settled(id, json!({"targeted": 1, "running": 1})).await;
    // The tag of before is back; the policy under it is newer than what the device holds now.
    let again = d1.policy().await;
    assert_eq!((again.advertisements.len(), again.tag), (1, offered.tag));
    assert!(again.revision > withdrawn.revision);
    d2.report(id, "first#1", succeeded(), 1);
    d2.send(2).await;
    site.apply(vec![lab(json!(["d1"]))]).await.ok();
    let ward = document("Collection", "ward", json!({}));
    site.apply(vec![ward, document("Advertisement", "lab", advertisement("ward"))]).await.ok();
    // Success that removes a device loses no row; the move to an empty collection withdraws.
    site.settled(id, json!({"withdrawn": 1, "succeeded": 1})).await;
    site.verify().await;
}

async fn who_comes_back_unheard_stands_where_it_said_last(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let id = site.advertise("lab", &["d1"]).await;
    let why = muster_model::state::NotApplicable::Platform;
    device.report(id, "first#1", State::NotApplicable { why }, 1);
    device.send(1).await;
    site.apply(vec![lab(json!([]))]).await.ok();
    site.settled(id, json!({"withdrawn": 1})).await;
    // It never polled meanwhile, so it has no reason to say it again.
    site.apply(vec![lab(json!(["d1"]))]).await.ok();
    site.settled(id, json!({"not-applicable": 1})).await;
    site.verify().await;
}

async fn an_assignment_that_is_removed_withdraws_and_a_deleted_advertisement_too(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let d1 = Device::enroll(&site, &token, "d1").await;
    let id = site.advertise("lab", &["d1"]).await;
    let mut spec = advertisement("lab");
    spec["assignments"] = json!([{"name": "second", "at": "now"}]);
    site.apply(vec![document("Advertisement", "lab", spec)]).await.ok();
    let path = format!("/advertisements/{id}/accounting?occurrence=first%231");
    let found = eventually(async || {
        let found = site.get(&path).await.ok();
        (found["states"] == json!({"withdrawn": 1})).then_some(found)
    })
    .await;
    assert_eq!(found["devices"][0]["reason"], "assignment-removed");
    let occurrences = &d1.policy().await.advertisements[0].occurrences;
    assert_eq!(occurrences[0].occurrence.to_string(), "second#1");
    let found = site.settled(id, json!({"targeted": 1})).await;
    assert_eq!(found["devices"][0]["occurrence"], "second#1");
    let all = site.get(&format!("/advertisements/{id}/accounting?all=true&limit=1")).await.ok();
    assert_eq!(all["devices"][0]["occurrence"], "first#1");
    let cursor = all["next"].as_str().unwrap();
    let path = format!("/advertisements/{id}/accounting?all=true&limit=1&cursor={cursor}");
    let rest = site.get(&path).await.ok();
    assert_eq!(rest["devices"][0]["occurrence"], "second#1");

    site.delete(&format!("/advertisements/{id}")).await.ok();
    let found = site.settled(id, json!({"withdrawn": 1})).await;
    assert_eq!(found["devices"][0]["reason"], "deleted");
    site.verify().await;
}

async fn facts_move_a_device_in_and_out_of_a_query(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let query = json!({"query": "device.os == 'linux' && device.ring == 2"});
    site.apply(vec![
        document("Collection", "ring2", query),
        document("Advertisement", "ad", advertisement("ring2")),
    ])
    .await
    .ok();
    let id = site.id("advertisement", "ad").await.parse().unwrap();
    assert_eq!(site.accounting(id).await["targeted"], 0);
    let mut facts = facts("d1");
    facts.extra.insert("ring".to_owned(), Fact::Number(2));
    device.say(Body::FactsChanged { facts: facts.clone() });
    device.send(1).await;
    site.settled(id, json!({"targeted": 1})).await;
    facts.extra.insert("ring".to_owned(), Fact::Number(3));
    device.say(Body::FactsChanged { facts });
    device.send(2).await;
    let found = site.settled(id, json!({"withdrawn": 1})).await;
    assert_eq!(found["members"], 0);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_binds_at_apply_or_through_a_token_and_never_to_a_stranger() {
    let site = Site::with_hello().await;
    let id = site.advertise("lab", &["d1", "d2"]).await;
    let token = site.token(json!({})).await;
    Device::enroll(&site, &token, "d1").await;
    assert_eq!(site.accounting(id).await["targeted"], 0);
    let named = site.token(json!({"name": "d2", "uses": 1})).await;
    let refused = Device::try_enroll(&site, &named, "d3").await.err().unwrap();
    assert_eq!(refused.status, 403);
    Device::enroll(&site, &named, "d2").await;
    assert_eq!(site.accounting(id).await["targeted"], 1);
    site.apply(vec![lab(json!(["d1", "d2"]))]).await.ok();
    assert_eq!(site.accounting(id).await["targeted"], 2);
    // A second d1 changes nothing for the first, and makes the name ambiguous for people.
    Device::enroll(&site, &token, "d1").await;
    site.apply(vec![lab(json!(["d1", "d2"]))]).await.ok();
    assert_eq!(site.accounting(id).await["targeted"], 2);
    let told = site.post("/resolve", json!({"kind": "device", "name": "d1"})).await;
    assert_eq!(told.body["ids"].as_array().unwrap().len(), 2);
    told.refused(409, "ambiguous");
    let into = site.token(json!({"collection": "lab"})).await;
    Device::enroll(&site, &into, "d9").await;
    assert_eq!(site.accounting(id).await["targeted"], 3);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_waits_for_approval_is_a_member_of_nothing() {
    let site = Site::with_hello().await;
    let token = site.token(json!({"hold": true})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    assert!(device.answer.held);
    let id = site.advertise("lab", &["d1"]).await;
    assert_eq!(site.accounting(id).await["targeted"], 0);
    assert!(device.policy().await.held.is_some());
    site.post(&format!("/devices/{}/approve", device.id), json!({})).await.ok();
    assert_eq!(site.accounting(id).await["targeted"], 1);
    let policy = device.policy().await;
    assert!(policy.held.is_none() && policy.advertisements.len() == 1);
}

async fn a_retired_device_has_lost_what_it_owed_and_is_let_in_nowhere(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    let mut done = Device::enroll(&site, &token, "d2").await;
    let id = site.advertise("lab", &["d1", "d2"]).await;
    done.report(id, "first#1", succeeded(), 1);
    done.send(1).await;
    for device in [&device, &done] {
        site.post(&format!("/devices/{}/retire", device.id), json!({})).await.ok();
    }
    let found = site.accounting(id).await;
    assert_eq!(found["states"], json!({"lost": 1, "succeeded": 1}));
    let refused = done.try_send(done.batch(1).encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.kind), (403, "retired"));
    let again = Device::enroll_with(&site, &token, "d1", device.key.clone()).await;
    assert_eq!(again.err().unwrap().status, 403);
    site.verify().await;
}
