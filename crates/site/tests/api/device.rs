//! What a device may send, and what becomes of what it must not.

use serde_json::json;

use crate::harness::*;
use muster_model::component::{Component, ComponentState, SOFTWARE_DISTRIBUTION};
use muster_model::message::Body;
use muster_model::verification::{Check, Verification, VerifiedBy};

on_both!(
    a_copied_memory_is_noticed_and_held_and_overwrites_nothing,
    a_poisoned_message_is_set_aside_and_its_neighbours_are_taken,
    what_an_agent_found_of_itself_stands_at_its_device
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolment_is_idempotent_by_key_and_its_token_is_counted() {
    let site = Site::start().await;
    let token = site.token(json!({"uses": 1})).await;
    let first = Device::enroll(&site, &token, "d1").await;
    let again = Device::enroll_with(&site, &token, "d1", first.key.clone()).await.unwrap();
    assert_eq!((again.id, again.incarnation), (first.id, first.incarnation));
    let refused = Device::try_enroll(&site, &token, "d2").await.err().unwrap();
    assert_eq!((refused.status, refused.kind), (403, "forbidden"));
}

async fn a_poisoned_message_is_set_aside_and_its_neighbours_are_taken(site: Site) {
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    device.say(Body::AgentStarted { facts: facts("d1") });
    device.say_bytes(b"\xff not json".to_vec());
    device.say(Body::PolicyRefused { why: "test".to_owned() });
    assert_eq!(device.send(1).await.through.0, 3);
    let messages = site.get("/messages").await.ok();
    let spoken =
        messages["items"].as_array().unwrap().iter().filter(|one| one["device"].is_string());
    assert_eq!(spoken.count(), 2);
    let items = site.get("/set-aside").await.ok();
    assert_eq!(items["items"][0]["sender"], device.id.to_string());
    let number = items["items"][0]["id"].as_str().unwrap();
    site.post(&format!("/set-aside/{number}/retry"), json!({})).await.refused(409, "conflict");
    site.delete(&format!("/set-aside/{number}")).await.ok();
    assert_eq!(site.get("/set-aside").await.ok()["items"], json!([]));
    site.verify().await;
}

async fn a_copied_memory_is_noticed_and_held_and_overwrites_nothing(site: Site) {
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    device.say(Body::AgentStarted { facts: facts("d1") });
    device.send(1).await;
    let mut copy = device.copy();
    device.say(Body::PolicyRefused { why: "the one".to_owned() });
    copy.say(Body::PolicyRefused { why: "the other".to_owned() });
    device.send(2).await;
    let refused = copy.try_send(copy.batch(2).encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.kind), (422, "forked"));
    let found = site.get(&format!("/devices/{}", device.id)).await.ok();
    assert_eq!(found["standing"], "held");
    assert!(device.policy().await.held.is_some());
    let messages = site.get("/messages").await.ok().to_string();
    assert!(messages.contains("the one") && !messages.contains("the other"));
    site.post(&format!("/devices/{}/approve", device.id), json!({})).await.ok();
    assert!(device.policy().await.held.is_none());
    site.verify().await;
}

async fn what_an_agent_found_of_itself_stands_at_its_device(site: Site) {
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let path = format!("/devices/{}", device.id);
    let found = site.get(&path).await.ok();
    assert_eq!((found.get("components"), found.get("verified")), (None, None), "{found}");
    let components = |state: ComponentState| Body::Components {
        components: vec![Component { name: SOFTWARE_DISTRIBUTION.to_owned(), state }],
    };
    let verified = |ok: bool| {
        let (name, detail, remedy) = ("disk".to_owned(), String::new(), String::new());
        let checks = vec![Check { name, ok, detail, remedy }];
        Body::Verified(Verification { by: VerifiedBy::Interval, checks })
    };
    device.say(components(ComponentState::Paused));
    device.say(verified(true));
    device.say(components(ComponentState::Installed));
    device.say(verified(false));
    device.say(Body::PolicyRefused { why: "something else".to_owned() });
    device.send(1).await;
    let found = site.get(&path).await.ok();
    assert_eq!(found["components"][0]["state"], "installed", "the newest counts: {found}");
    assert_eq!(found["verified"]["ok"], false, "{found}");
    assert_eq!(found["verified"]["checks"][0]["name"], "disk", "{found}");
    // Lists stay small.
    let listed = site.get("/devices").await.ok();
    assert_eq!(listed["items"][0].get("verified"), None, "{listed}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_misses_nothing_and_sees_nothing_twice() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let texts = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|one| one["text"].as_str().unwrap().to_owned()).collect()
    };
    let first = site.get("/messages?limit=1").await.ok();
    assert_eq!(texts(&first), ["device `d1` enrolled"]);
    let mut cursor = first["items"][0]["cursor"].as_str().unwrap().to_owned();
    let mut seen = Vec::new();
    for n in 0..5 {
        device.say(Body::PolicyRefused { why: n.to_string() });
        device.send(n + 1).await;
        site.apply(vec![document("Collection", &format!("c{n}"), json!({}))]).await.ok();
    }
    loop {
        let page = site.get(&format!("/messages?limit=3&after={cursor}")).await.ok();
        seen.extend(texts(&page));
        match page["items"].as_array().unwrap().last() {
            Some(last) => cursor = last["cursor"].as_str().unwrap().to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..5)
        .flat_map(|n| {
            let created = format!("collection `c{n}` created (by local administrator)");
            [format!("policy refused: {n}"), created]
        })
        .collect();
    assert_eq!(seen, expected);
    let errors = site.get("/messages?severity=error").await.ok();
    assert_eq!(texts(&errors).len(), 5);
    let nobody = "00000000-0000-0000-0000-000000000000";
    let none = site.get(&format!("/messages?device={nobody}")).await.ok();
    assert_eq!(none["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_device_is_not_held_again_by_a_restart() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    device.say(Body::PolicyRefused { why: "x".to_owned() });
    device.send(1).await;
    let mut copy = device.copy();
    device.say(Body::PolicyRefused { why: "the one".to_owned() });
    copy.say(Body::PolicyRefused { why: "the other".to_owned() });
    device.send(2).await;
    copy.try_send(copy.batch(2).encode()).await.unwrap_err();
    let standing = async |site: &Site| {
        let found = site.get(&format!("/devices/{}", device.id)).await.ok();
        found["standing"].as_str().unwrap().to_owned()
    };
    let site = site.restart().await;
    assert_eq!(standing(&site).await, "held");
    site.post(&format!("/devices/{}/approve", device.id), json!({})).await.ok();
    let site = site.restart().await;
    // What a start looks at by itself comes before this change, which follows it.
    site.post(&format!("/devices/{}/rename", device.id), json!({"name": "d2"})).await.ok();
    assert_eq!(standing(&site).await, "admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_pushed_as_they_come() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let last = site.get("/messages?limit=1").await.ok();
    let cursor = last["items"][0]["cursor"].as_str().unwrap();
    let path = format!("/api/v1/messages/follow?after={cursor}");
    device.say(Body::PolicyRefused { why: "news".to_owned() });
    let (event, _) = tokio::join!(site.first_event(&path), device.send(1));
    assert_eq!(event["text"], "policy refused: news");
}
