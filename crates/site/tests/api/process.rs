//! Several processes, and both databases.

use std::time::Duration;

use serde_json::json;

use crate::harness::*;
use muster_model::state::State;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_job_on_postgresql() {
    let site = Site::on(Some(postgres().await)).await;
    site.trust_publisher().await;
    site.publish("hello", "1", go()).await.ok();
    let token = site.token(json!({})).await;
    let mut devices = Vec::new();
    for name in ["d1", "d2", "d3"] {
        devices.push(Device::enroll(&site, &token, name).await);
    }
    let id = site.advertise("lab", &["d1", "d2", "d3"]).await;
    // All at once: one group, one commit.
    let report = |mut device: Device| async move {
        assert_eq!(device.policy().await.advertisements.len(), 1);
        device.report(id, "first#1", State::Running { attempt: 1 }, 1);
        device.report(id, "first#1", succeeded(), 1);
        device.send(1).await;
    };
    let [a, b, c] = devices.try_into().ok().unwrap();
    tokio::join!(report(a), report(b), report(c));
    assert_eq!(site.accounting(id).await["states"], json!({"succeeded": 3}));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_is_told_the_other_serves() {
    let one = Site::on(Some(postgres().await)).await;
    one.trust_publisher().await;
    one.publish("hello", "1", go()).await.ok();
    let token = one.token(json!({})).await;
    let other = one.second_process().await;
    // Enrolled with the one, at home with the other.
    let mut device = Device::enroll(&one, &token, "d1").await;
    device.moved_to(&other);
    let tag = eventually(async || device.try_poll().await.ok()).await.tag;
    let waiting = device.poll(Some(tag), Duration::from_secs(20));
    let (policy, id) = tokio::join!(waiting, one.advertise("lab", &["d1"]));
    assert_eq!(policy.unwrap().advertisements[0].advertisement, id);
    device.report(id, "first#1", succeeded(), 1);
    device.send(1).await;
    assert_eq!(one.accounting(id).await["states"], json!({"succeeded": 1}));
    one.verify().await;
}

/// What is in memory may lag behind what the device was told by another process: that the device has the
/// newest policy is noted all the same, long before its poll comes back empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_lags_notes_what_the_device_knows() {
    let one = Site::on(Some(postgres().await)).await;
    one.publish_hello().await;
    let token = one.token(json!({})).await;
    let mut device = Device::enroll(&one, &token, "d1").await;
    let other = one.second_process().await;
    let id = one.advertise("lab", &["d1"]).await;
    let tag = device.policy().await.tag;
    device.moved_to(&other);
    assert_eq!(device.poll(Some(tag), Duration::ZERO).await, None);
    let path = format!("/advertisements/{id}/why?device={}", device.id);
    eventually(async || {
        let why = other.get(&path).await.ok();
        let steps = why["chain"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["step"] == "policy" && step["verdict"] == "yes")
    })
    .await;
}
