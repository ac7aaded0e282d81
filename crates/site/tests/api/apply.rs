//! Documents: all of them or none, and every refusal names its place.

use serde_json::{Value, json};

use crate::harness::*;

on_both!(
    a_dry_run_says_what_apply_does_and_changes_nothing,
    a_dry_run_knows_the_packages_that_stand_beside_it,
    prune_deletes_what_the_set_left_out_and_refuses_to_withdraw
);

async fn apply(site: &Site, documents: Value, more: Value) -> Told {
    let mut request = json!({"documents": documents});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    site.post("/apply", request).await
}

fn changes(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|one| one["change"].as_str().unwrap()).collect()
}

async fn a_dry_run_says_what_apply_does_and_changes_nothing(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    Device::enroll(&site, &token, "d1").await;
    let lab = document("Collection", "lab", json!({"members": ["d1", "d9"]}));
    let ad = document("Advertisement", "ad", advertisement("lab"));
    let documents = json!([ad, lab]);
    let before = site.get("/site").await.ok()["revision"].clone();
    let dry = apply(&site, documents.clone(), json!({"dryRun": true})).await.ok();
    assert_eq!(changes(&dry), ["created", "created"]);
    assert_eq!((&dry["revision"], &dry["items"][0]["id"]), (&Value::Null, &Value::Null));
    let said = dry.to_string();
    assert!(said.contains("1 device starts") && said.contains("no device bears d9"), "{dry:#}");
    assert_eq!(site.get("/site").await.ok()["revision"], before);
    site.post("/resolve", json!({"kind": "collection", "name": "lab"}))
        .await
        .refused(404, "not-found");

    let done = apply(&site, documents.clone(), json!({})).await.ok();
    assert_eq!(changes(&done), ["created", "created"]);
    assert_eq!(done["items"][1]["notes"][0], "1 member: 1 by name");
    let again = apply(&site, documents, json!({})).await.ok();
    assert_eq!(changes(&again), ["unchanged", "unchanged"]);
    assert_eq!(again["revision"], Value::Null);
}

async fn a_dry_run_knows_the_packages_that_stand_beside_it(site: Site) {
    let token = site.token(json!({})).await;
    Device::enroll(&site, &token, "d1").await;
    let documents = json!([
        document("Package", "hello", json!({"version": "1", "programs": [go()]})),
        document("Collection", "lab", json!({"members": ["d1"]})),
        document("Advertisement", "ad", advertisement("lab")),
    ]);
    let dry = apply(&site, documents, json!({"dryRun": true})).await.ok();
    assert_eq!(changes(&dry), ["created", "created", "created"]);
    assert!(dry.to_string().contains("1 device starts"), "{dry:#}");
    assert_eq!(site.get("/packages").await.ok()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_document_keeps_all_out_and_is_named() {
    let site = Site::with_hello().await;
    let good = document("Collection", "lab", json!({}));
    let check = async |bad: Value, status: u16, kind: &str, field: &str, said: &str| {
        let told = apply(&site, json!([good, bad]), json!({})).await;
        assert_eq!((&told.body["document"], &told.body["field"]), (&json!(1), &json!(field)));
        let detail = told.refused(status, kind);
        assert!(detail.contains(said), "{detail}");
    };
    let ad = |change: Value| {
        let mut spec = advertisement("lab");
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        document("Advertisement", "ad", spec)
    };
    let collection = |spec: Value| document("Collection", "other", spec);
    check(ad(json!({"program": "gone"})), 422, "invalid", "spec.program", "it has: go").await;
    check(ad(json!({"package": "hello@9"})), 422, "invalid", "spec.package", "published: 1").await;
    check(ad(json!({"collection": "x"})), 422, "invalid", "spec.collection", "no collection").await;
    check(ad(json!({"colour": 1})), 422, "invalid", "spec.colour", "unknown field").await;
    check(collection(json!({"query": "device.os =="})), 422, "invalid", "spec.query", "").await;
    check(collection(json!({"include": ["x"]})), 422, "invalid", "spec.include", "`x`").await;
    let package = document("Package", "new", json!({"version": "1", "programs": [go()]}));
    check(package, 422, "invalid", "spec.version", "not published").await;
    let twin = document("Collection", "l\u{430}b", json!({}));
    check(twin, 422, "invalid", "metadata.name", "looks like").await;
    check(good.clone(), 422, "invalid", "metadata.name", "stands twice").await;
    assert_eq!(site.get("/collections").await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_may_name_each_other_in_any_order_but_not_in_a_circle() {
    let site = Site::start().await;
    let collection =
        |name: &str, include: Value| document("Collection", name, json!({"include": include}));
    let documents = vec![
        collection("c", json!(["b"])),
        collection("b", json!(["a"])),
        collection("a", json!([])),
    ];
    site.apply(documents).await.ok();
    let told = site.apply(vec![collection("a", json!(["c"]))]).await;
    assert!(told.refused(422, "invalid").contains("a -> c -> b -> a"));
}

async fn prune_deletes_what_the_set_left_out_and_refuses_to_withdraw(site: Site) {
    site.publish_hello().await;
    let token = site.token(json!({})).await;
    Device::enroll(&site, &token, "d1").await;
    let lab = document("Collection", "lab", json!({"members": ["d1"]}));
    let other = document("Collection", "other", json!({}));
    let ad = document("Advertisement", "ad", advertisement("lab"));
    let set = json!({"set": "mine", "prune": true});
    apply(&site, json!([lab, other, ad]), json!({"set": "mine"})).await.ok();
    site.apply(vec![document("Collection", "not-mine", json!({}))]).await.ok();
    let told = apply(&site, json!([lab, other]), set.clone()).await;
    assert!(told.refused(409, "conflict").contains("`ad` would withdraw it from 1 device"));
    let done = apply(&site, json!([lab, ad]), set.clone()).await.ok();
    assert_eq!(changes(&done), ["unchanged", "unchanged", "deleted"]);
    let names = site.get("/collections").await.ok().to_string();
    assert!(names.contains("not-mine") && !names.contains("\"other\""), "{names}");
    apply(&site, json!([lab]), json!({"prune": true})).await.refused(422, "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_not_deleted_and_a_rename_reaches_who_names_it() {
    let site = Site::with_hello().await;
    let id = site.advertise("lab", &[]).await;
    let lab = site.id("collection", "lab").await;
    let told = site.delete(&format!("/collections/{lab}")).await;
    assert!(told.refused(409, "conflict").contains("used by advertisement `lab`"));
    site.post(&format!("/collections/{lab}/rename"), json!({"name": "ward"})).await.ok();
    let ad = site.get(&format!("/advertisements/{id}")).await.ok();
    assert_eq!(ad["spec"]["collection"], "ward");
    let again = site.apply(vec![json!({
        "apiVersion": ad["apiVersion"], "kind": ad["kind"],
        "metadata": ad["metadata"], "spec": ad["spec"], "status": ad["status"],
    })]);
    assert_eq!(changes(&again.await.ok()), ["unchanged"]);

    site.delete(&format!("/advertisements/{id}")).await.ok();
    let gone = site.get(&format!("/advertisements/{id}")).await.ok();
    assert_eq!(gone["status"]["standing"], "deleted");
    site.accounting(id).await;
    site.delete(&format!("/collections/{lab}")).await.ok();
    assert_eq!(site.id("advertisement", &id.to_string()).await, id.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_against_an_old_revision_is_refused() {
    let site = Site::start().await;
    site.apply(vec![document("Collection", "lab", json!({}))]).await.ok();
    let id = site.id("collection", "lab").await;
    let path = format!("/api/v1/collections/{id}");
    let tag = site.etag(&path).await;
    site.apply(vec![document("Collection", "lab", json!({"query": "device.os == 'linux'"}))])
        .await
        .ok();
    site.delete_matching(&path, &tag).await.refused(412, "stale");
    let tag = site.etag(&path).await;
    site.delete_matching(&path, &tag).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_published_once_and_only_by_who_is_believed() {
    let site = Site::start().await;
    site.publish("hello", "1", go()).await.refused(422, "invalid");
    site.trust_publisher().await;
    assert_eq!(site.publish("hello", "1", go()).await.ok()["change"], "created");
    assert_eq!(site.publish("hello", "1", go()).await.ok()["change"], "unchanged");
    let other = json!({"name": "go", "commandLine": "sh other.sh"});
    let told = site.publish("hello", "1", other.clone()).await;
    assert!(told.refused(409, "conflict").contains("published with other bytes"));
    assert_eq!(site.publish("hello", "2", other).await.ok()["change"], "published");
    let id = site.id("package", "hello").await;
    let found = site.get(&format!("/packages/{id}")).await.ok();
    let status = &found["status"];
    assert_eq!((&status["versions"], &status["newest"]), (&json!(2), &json!("2")));
    assert_eq!(found["spec"]["content"], status["manifest"]);
    assert_eq!(status["objects"], json!([status["manifest"]]));
    // Publishing moved no pin, and says so.
    let package = json!({"version": "1", "programs": [go()]});
    site.apply(vec![document("Package", "hello", package.clone())]).await.ok();
    let changed = json!({"version": "1", "programs": [go()], "description": "other"});
    site.apply(vec![document("Package", "hello", changed)]).await.refused(409, "conflict");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_stays_until_it_is_moved_or_the_latest_is_tracked() {
    let site = Site::with_hello().await;
    let id = site.advertise("lab", &[]).await;
    let mut tracking = advertisement("lab");
    tracking["track"] = json!("latest");
    site.apply(vec![document("Advertisement", "tracking", tracking)]).await.ok();
    site.publish("hello", "2", go()).await.ok();
    let pinned = async |id: &str| {
        let found = site.get(&format!("/advertisements/{id}")).await.ok();
        (found["status"]["pinned"]["version"].clone(), found["status"]["revision"].clone())
    };
    assert_eq!(pinned(&id.to_string()).await, (json!("1"), json!(1)));
    let tracking = site.id("advertisement", "tracking").await;
    assert_eq!(pinned(&tracking).await, (json!("2"), json!(2)));
    let dry = json!({"documents": [document("Advertisement", "lab", advertisement("lab"))], "dryRun": true});
    let dry = site.post("/apply", dry).await.ok();
    assert_eq!(dry["items"][0]["notes"][0], "pinned 1, newest 2");
    let mut moved = advertisement("lab");
    moved["package"] = json!("hello@2");
    site.apply(vec![document("Advertisement", "lab", moved)]).await.ok();
    assert_eq!(pinned(&id.to_string()).await, (json!("2"), json!(2)));
}
