//! Reaching a limit is an answer that names it.

use muster_model::id::{Incarnation, Sequence};
use muster_model::message::Body;
use muster_model::wire::batch::BATCH_MESSAGES_MAX;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;

on_both!(a_batch_must_be_the_tickets_follow_what_is_there_and_be_of_a_known_life);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_refused_by_the_limits_name() {
    let site = Site::start().await;
    let check = async |told: Told, limit: &str| {
        assert_eq!(told.body["limit"], limit, "{told:#?}");
    };
    let documents: Vec<Value> = vec![json!({}); 1_001];
    check(site.post("/apply", json!({"documents": documents})).await, "APPLY_DOCUMENTS_MAX").await;
    let digests = vec!["0".repeat(64); 1_001];
    check(site.post("/objects/missing", json!({"digests": digests})).await, "PAGE_ITEMS_MAX").await;
    let long = "x".repeat(17 * 1024 * 1024);
    let told = site.post("/resolve", json!({"kind": "device", "name": long})).await;
    assert_eq!(told.status, 413);
    check(told, "API_BODY_BYTES_MAX").await;
    let told = site.put(&format!("/objects/{}", "0".repeat(64)), vec![0; 17 * 1024 * 1024]).await;
    check(told, "UPLOAD_BYTES_MAX").await;
    let token = json!({"role": "agent", "uses": 2_000_000, "ttl": "1h"});
    check(site.post("/tokens", token).await, "TOKEN_USES_MAX").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_too_many_messages_is_refused_and_a_full_one_taken() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    for _ in 0..=BATCH_MESSAGES_MAX {
        device.say(Body::Dropped { count: 1 });
    }
    let refused = device.try_send(device.batch(1).encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.limit), (413, Some("BATCH_MESSAGES_MAX")));
    device.sent.pop();
    assert_eq!(device.send(1).await.through.0, BATCH_MESSAGES_MAX as u64);
    let page = site.get("/messages?limit=1000").await.ok();
    assert_eq!(page["items"].as_array().unwrap().len(), 1_000);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_set_aside_and_the_stream_goes_on() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    device.say_bytes(vec![b' '; 64 * 1024 + 1]);
    device.say(Body::Dropped { count: 1 });
    assert_eq!(device.send(1).await.through.0, 2);
    let items = site.get("/set-aside").await.ok();
    assert!(items["items"][0]["reason"].as_str().unwrap().contains("too large"));
    let metrics = site.metrics().await;
    assert!(metrics.contains("muster_set_aside 1"), "{metrics}");
    assert!(metrics.contains("muster_messages_total 2"), "{metrics}");
}

async fn a_batch_must_be_the_tickets_follow_what_is_there_and_be_of_a_known_life(site: Site) {
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let mut other = Device::enroll(&site, &token, "d2").await;
    for _ in 0..3 {
        device.say(Body::Dropped { count: 1 });
    }
    other.say(Body::Dropped { count: 1 });
    let refused = device.try_send(other.batch(1).encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.kind), (403, "other-device"));
    let mut forged = device.batch(1);
    forged.header.waiting += 1;
    let refused = device.try_send(forged.encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.kind), (403, "signature"));
    match device.try_send(device.batch(2).encode()).await.unwrap() {
        muster_site::DeviceReply::Behind(behind) => {
            let behind: Value = serde_json::from_slice(&behind).unwrap();
            assert_eq!(behind["through"], 0);
        }
        other => panic!("{other:?}"),
    }
    // What the device no longer holds is named as a gap, and the stream goes on behind it.
    let gone = device.batch_kept_from(2, Sequence(2));
    device.try_send(gone.encode()).await.unwrap();
    let found = site.get(&format!("/devices/{}", device.id)).await.ok();
    assert_eq!(found["streams"][0]["gaps"][0]["through"], 1);
    let mut strange = other.copy();
    strange.incarnation = Incarnation(9);
    let refused = strange.try_send(strange.batch(1).encode()).await.unwrap_err();
    assert_eq!((refused.status, refused.kind), (422, "unknown-incarnation"));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_pages_with_a_cursor() {
    let site = Site::start().await;
    let names = ["a", "b", "c", "d", "e"];
    let documents = names.iter().map(|name| document("Collection", name, json!({})));
    site.apply(documents.collect()).await.ok();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = site.get(&format!("/collections?limit=2{cursor}")).await.ok();
        let items = page["items"].as_array().unwrap().clone();
        found.extend(items.iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["a", "all", "b", "c", "d", "e"]);
    site.get("/devices?cursor=x").await.refused(422, "invalid");
    let told = site.send(Method::GET, "/api/v1/site", Some(&site.credential), None).await.ok();
    assert_eq!(told["code"], "ABC");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_site_refuses_content_and_goes_on() {
    let site = Site::within(6 * 1024 * 1024).await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    let mut refused = None;
    for n in 0..100_u32 {
        let bytes = n.to_le_bytes().repeat(64 * 1024);
        let digest = muster_model::digest::Digest::of(&bytes);
        let told = site.put(&format!("/objects/{digest}"), bytes).await;
        if told.status != 200 {
            refused = Some(told);
            break;
        }
    }
    refused.unwrap().refused(507, "disk-full");
    // There is room left in the database for what a device has to say.
    device.say(Body::Dropped { count: 1 });
    assert_eq!(device.send(1).await.through.0, 1);
    let doctor = site.get("/doctor").await.ok();
    let room = doctor["items"].as_array().unwrap().iter().find(|one| one["check"] == "room");
    assert_eq!(room.unwrap()["ok"], false);
}
