//! A person's word about what runs, and how far it goes.

use std::time::Duration;

use serde_json::json;

use crate::harness::*;
use muster_model::state::{Failure, Rule, State};

on_both!(rerun_opens_a_new_occurrence_for_exactly_the_chosen_devices);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_reaches_a_held_poll_at_once_and_its_reach_is_counted() {
    let site = Site::with_hello().await;
    let token = site.token(json!({})).await;
    let d1 = Device::enroll(&site, &token, "d1").await;
    Device::enroll(&site, &token, "d2").await;
    let id = site.advertise("lab", &["d1", "d2"]).await;
    let tag = d1.policy().await.tag;
    let path = format!("/advertisements/{id}/stop");
    let stop = site.post(&path, json!({"reason": "it burns"}));
    let obey = async {
        let policy = d1.poll(Some(tag), Duration::from_secs(20)).await.unwrap();
        // The next poll shows that it has been taken.
        assert!(d1.poll(Some(policy.tag), Duration::ZERO).await.is_none());
        policy
    };
    let (answer, policy) = tokio::join!(stop, obey);
    let stopped = policy.advertisements[0].stopped.clone().unwrap();
    assert_eq!((stopped.reason.as_str(), stopped.by.as_str()), ("it burns", "local administrator"));
    let answer = answer.ok();
    assert_eq!(
        (&answer["concerned"], &answer["known"], &answer["mayStillStart"]),
        (&json!(2), &json!(1), &json!(1))
    );
    site.post(&format!("/advertisements/{id}/resume"), json!({})).await.ok();
    assert!(d1.policy().await.advertisements[0].stopped.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halt_and_revoke_reach_every_policy() {
    let site = Site::with_hello().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    site.advertise("lab", &["d1"]).await;
    site.post("/halt", json!({"reason": "fire", "kill": true})).await.ok();
    let halted = device.policy().await.halted.unwrap();
    assert!(halted.kill && halted.reason == "fire");
    assert!(site.get("/site").await.ok()["halted"].as_str().unwrap().contains("fire"));
    site.post("/resume", json!({})).await.ok();
    assert!(device.policy().await.halted.is_none());
    let package = site.id("package", "hello").await;
    let path = format!("/packages/{package}/revoke");
    site.post(&path, json!({"version": "9"})).await.refused(404, "not-found");
    site.post(&path, json!({"version": "1", "reason": "bad"})).await.ok();
    assert_eq!(device.policy().await.advertisements[0].revoked.as_ref().unwrap().reason, "bad");
    let ad = document("Advertisement", "next", advertisement("lab"));
    assert!(site.apply(vec![ad]).await.refused(422, "invalid").contains("revoked"));
}

async fn rerun_opens_a_new_occurrence_for_exactly_the_chosen_devices(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    let mut d1 = Device::enroll(&site, &token, "d1").await;
    let mut d2 = Device::enroll(&site, &token, "d2").await;
    let id = site.advertise("lab", &["d1", "d2"]).await;
    let failed = State::Failed {
        code: Failure { rule: Rule::ExitCode, exit_code: Some(3), detail: String::new() },
    };
    d1.report(id, "first#1", failed, 1);
    d1.send(1).await;
    d2.report(id, "first#1", succeeded(), 1);
    d2.send(1).await;
    let path = format!("/advertisements/{id}/rerun");
    site.post(&path, json!({"state": "failed", "reason": " "})).await.refused(422, "invalid");
    let request = json!({"state": "failed", "reason": "fixed the mirror"});
    let answer = site.post(&path, request).await.ok();
    assert_eq!((&answer["occurrence"], &answer["devices"]), (&json!("(rerun)#1"), &json!(1)));
    let occurrences = |policy: muster_model::policy::Policy| -> Vec<String> {
        let dues = &policy.advertisements[0].occurrences;
        dues.iter().map(|due| due.occurrence.to_string()).collect()
    };
    assert_eq!(occurrences(d1.policy().await), ["(rerun)#1", "first#1"]);
    assert_eq!(occurrences(d2.policy().await), ["first#1"]);
    let found = site.accounting(id).await;
    assert_eq!(found["states"], json!({"targeted": 1, "succeeded": 1}));
    d1.report(id, "(rerun)#1", succeeded(), 1);
    d1.send(2).await;
    assert_eq!(site.accounting(id).await["states"], json!({"succeeded": 2}));
    let stranger = Device::enroll(&site, &token, "d3").await;
    let request = json!({"devices": [stranger.id], "reason": "try"});
    assert!(site.post(&path, request).await.refused(422, "invalid").contains("never targeted"));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_reach_the_policy_and_are_held_to_their_range() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    let before = device.policy().await;
    let patch = async |changes: serde_json::Value| {
        let body = Some(json!({"changes": changes}));
        let (method, admin) = (reqwest::Method::PATCH, Some(site.credential.as_str()));
        site.send(method, "/api/v1/settings", admin, body).await
    };
    let told = patch(json!({"pollWait": "2s", "silentAfter": "999999d"})).await;
    assert_eq!(told.body["field"], "changes.silentAfter");
    told.refused(422, "invalid");
    assert_eq!(device.policy().await.tag, before.tag);
    assert_eq!(patch(json!({"pollWait": "2s"})).await.ok()["pollWait"], "2s");
    let policy = device.policy().await;
    assert_ne!(policy.tag, before.tag);
    let changed: Vec<_> = policy.settings.changed().collect();
    assert_eq!(changed.len(), 1);
    // The site itself follows it: a poll is held no longer.
    let began = tokio::time::Instant::now();
    assert!(device.poll(Some(policy.tag), Duration::from_secs(60)).await.is_none());
    assert!(began.elapsed() < Duration::from_secs(10));
}
