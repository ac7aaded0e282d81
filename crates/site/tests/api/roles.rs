//! The table of roles, held against the routes as they answer.

use muster_site_core::roles::{Action, Principal, allowed};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::*;

/// A path with something in place of its parameters; nothing of that id exists.
fn filled(path: &str) -> String {
    let nobody = "00000000-0000-0000-0000-000000000000";
    path.replace("{id}", nobody).replace("{digest}", &"0".repeat(64))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_lets_in_exactly_whom_the_table_names() {
    let site = Site::start().await;
    let mut people = vec![(Principal::None, None), (Principal::Administrator, None)];
    people[1].1 = Some(site.credential.clone());
    for (principal, role) in [
        (Principal::Auditor, "auditor"),
        (Principal::HelpDesk, "help-desk"),
        (Principal::Pipeline, "pipeline"),
    ] {
        people.push((principal, Some(site.log_on(role).await)));
    }
    let description = site.get("/openapi.json").await.ok();
    let mut asked = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation["x-muster-action"].as_str().unwrap();
            let action = Action::ALL.iter().find(|action| action.name() == name).unwrap();
            let method: Method = method.to_uppercase().parse().unwrap();
            if path.ends_with("/follow") || path.ends_with("/logout") {
                // A stream without an end, and the end of who asks; both stand behind the same guard.
                continue;
            }
            for (principal, credential) in &people {
                let credential = credential.as_deref();
                let body = (method != Method::GET).then(|| json!({}));
                let told = site.send(method.clone(), &filled(path), credential, body).await;
                let refused = matches!(told.status, 401 | 403);
                let expected = !allowed(*principal, *action);
                assert_eq!(refused, expected, "{principal} {method} {path}: {told:#?}");
                let detail = told.body["detail"].as_str().unwrap_or_default();
                assert!(!detail.starts_with("there is no GET"), "{path} is described, not served");
                assert!(!detail.starts_with("there is no P"), "{path} is described, not served");
                assert_ne!((told.status, principal), (403, &Principal::None), "{path}");
                asked += 1;
            }
        }
    }
    assert!(asked > 150, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_apply_one_kind_may_not_apply_another() {
    let site = Site::with_hello().await;
    let pipeline = site.log_on("pipeline").await;
    let apply = async |documents: Value, dry_run: bool| {
        let body = json!({"documents": documents, "dryRun": dry_run});
        site.send(Method::POST, "/api/v1/apply", Some(&pipeline), Some(body)).await
    };
    let collection = document("Collection", "lab", json!({"query": "device.os == 'linux'"}));
    let both = json!([collection, document("Advertisement", "ad", advertisement("lab"))]);
    let told = apply(both.clone(), false).await;
    assert_eq!(told.body["document"], 0, "{told:#?}");
    told.refused(403, "forbidden");
    apply(both, true).await.ok();
    site.apply(vec![collection]).await.ok();
    apply(json!([document("Advertisement", "ad", advertisement("lab"))]), false).await.ok();
    let audit = site.get("/audit").await.ok();
    let said = audit["items"].as_array().unwrap().iter().find(|one| one["code"] == 30_000).unwrap();
    assert!(said["name"].as_str().unwrap().starts_with("pipeline"), "{said:#}");
}
