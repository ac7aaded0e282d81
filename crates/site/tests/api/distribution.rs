//! One advertisement from `apply` to its accounting.

use std::time::Duration;

use serde_json::json;

use crate::harness::*;
use muster_model::state::State;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertisement_reaches_its_devices_and_is_accounted_for() {
    let site = Site::start().await;
    site.trust_publisher().await;
    site.publish("hello", "1", go()).await.ok();
    let token = site.token(json!({})).await;
    let mut d1 = Device::enroll(&site, &token, "d1").await;
    let d2 = Device::enroll(&site, &token, "d2").await;
    let before = d1.policy().await;
    assert!(before.advertisements.is_empty());
    assert_eq!(before.trust, 1);

    let id = site.advertise("lab", &["d1", "d2"]).await;
    let found = site.accounting(id).await;
    assert_eq!((&found["targeted"], &found["states"]["targeted"]), (&json!(2), &json!(2)));

    // The poll that was held knows of it at once; nothing new afterwards.
    let policy = d1.poll(Some(before.tag), Duration::from_secs(5)).await.unwrap();
    let offer = &policy.advertisements[0];
    assert_eq!((offer.advertisement, offer.program.as_str()), (id, "go"));
    assert_eq!(offer.occurrences[0].occurrence.to_string(), "first#1");
    assert!(d1.poll(Some(policy.tag), Duration::ZERO).await.is_none());

    d1.report(id, "first#1", State::Accepted, 0);
    d1.report(id, "first#1", State::Running { attempt: 1 }, 1);
    let receipt = d1.send(1).await;
    assert_eq!(receipt.through.0, 2);
    let found = site.accounting(id).await;
    assert_eq!(found["states"], json!({"targeted": 1, "running": 1}));
    d1.report(id, "first#1", succeeded(), 1);
    assert_eq!(d1.send(3).await.through.0, 3);
    let found = site.accounting(id).await;
    assert_eq!(found["states"], json!({"targeted": 1, "succeeded": 1}));
    let d1_row = found["devices"].as_array().unwrap().iter().find(|one| one["name"] == "d1");
    assert_eq!(d1_row.unwrap()["exitCode"], 0);
    let wait = site.get(&format!("/advertisements/{id}/wait?for=succeeded>=50%25")).await.ok();
    assert_eq!(wait["met"], true);
    let why = site.get(&format!("/advertisements/{id}/why?device={}", d2.id)).await.ok();
    assert_eq!(why["state"], "targeted");
    site.verify().await;

    // All of it is still there after a restart of the site.
    let site = site.restart().await;
    d1.moved_to(&site);
    let found = site.accounting(id).await;
    assert_eq!(found["states"], json!({"targeted": 1, "succeeded": 1}));
    assert_eq!(d1.send(2).await.through.0, 3);
    site.verify().await;
}
