//! Maintenance windows in policies: whose they are, when they move, who may write them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;

on_both!(
    a_device_keeps_to_the_windows_of_all_its_collections_and_hears_of_each_change,
    only_an_administrator_writes_windows_and_overrides_them
);

fn window(name: &str, collection: &str, duration: &str) -> Value {
    let every = "DTSTART:20270101T010000 RRULE:FREQ=DAILY";
    let spec = json!({"collection": collection, "every": every, "duration": duration});
    document("MaintenanceWindow", name, spec)
}

fn collection(name: &str, members: Value) -> Value {
    document("Collection", name, json!({"members": members}))
}

async fn a_device_keeps_to_the_windows_of_all_its_collections_and_hears_of_each_change(site: Site) {
    let token = site.token(json!({})).await;
    let d1 = Device::enroll(&site, &token, "d1").await;
    let d2 = Device::enroll(&site, &token, "d2").await;
    let both = [collection("lab", json!(["d1"])), collection("ward", json!(["d1", "d2"]))];
    site.apply(both.to_vec()).await.ok();
    let names = |policy: &muster_model::policy::Policy| -> Vec<String> {
        policy.windows.iter().map(|window| window.name.to_string()).collect()
    };
    let (before, other) = (d1.policy().await, d2.policy().await);
    assert_eq!((before.format, names(&before)), (1, Vec::new()));
    // The windows come before what they are for: their order in a document does not matter.
    site.apply(vec![window("in-ward", "ward", "4h"), window("in-lab", "lab", "2h")]).await.ok();
    let told = d1.poll(Some(before.tag), Duration::ZERO).await.unwrap();
    assert_eq!((told.format, names(&told)), (2, vec!["in-lab".to_owned(), "in-ward".to_owned()]));
    assert_eq!(names(&d2.poll(Some(other.tag), Duration::ZERO).await.unwrap()), ["in-ward"]);
    let unchanged = site.apply(vec![window("in-lab", "lab", "2h")]).await.ok();
    assert_eq!(unchanged["items"][0]["change"], "unchanged", "{unchanged:#}");
    assert!(d1.poll(Some(told.tag), Duration::ZERO).await.is_none());
    // A window that moves to another collection leaves the one before.
    site.apply(vec![window("in-lab", "ward", "2h")]).await.ok();
    assert_eq!(names(&d2.policy().await), ["in-lab", "in-ward"]);
    let id = site.id("maintenance-window", "in-ward").await;
    let moved = d1.policy().await;
    site.post(&format!("/maintenance-windows/{id}/rename"), json!({"name": "nightly"})).await.ok();
    let renamed = d1.poll(Some(moved.tag), Duration::ZERO).await.unwrap();
    assert_eq!(names(&renamed), ["in-lab", "nightly"]);
    site.delete(&format!("/maintenance-windows/{id}")).await.ok();
    let left = d1.poll(Some(renamed.tag), Duration::ZERO).await.unwrap();
    assert_eq!(names(&left), ["in-lab"]);
    let lab = site.id("collection", "ward").await;
    let refused = site.delete(&format!("/collections/{lab}")).await;
    assert!(refused.refused(409, "conflict").contains("maintenance-window `in-lab`"));
}

async fn only_an_administrator_writes_windows_and_overrides_them(site: Site) {
    site.publish_hello().await;
    site.apply(vec![collection("lab", json!([]))]).await.ok();
    let pipeline = site.log_on("pipeline").await;
    let apply = async |documents: Value| {
        let body = json!({"documents": documents, "dryRun": false});
        site.send(Method::POST, "/api/v1/apply", Some(&pipeline), Some(body)).await
    };
    apply(json!([window("nightly", "lab", "4h")])).await.refused(403, "forbidden");
    let mut spec = advertisement("lab");
    spec["emergency"] = true.into();
    let urgent = document("Advertisement", "urgent", spec);
    let told = apply(json!([urgent])).await;
    assert!(told.body["hint"].as_str().unwrap().contains("advertisement.emergency"), "{told:#?}");
    told.refused(403, "forbidden");
    site.apply(vec![urgent]).await.ok();
}
