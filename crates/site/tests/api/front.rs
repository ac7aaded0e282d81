//! Who gets in where.

use reqwest::Method;
use serde_json::json;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_only_the_front_door_answers() {
    let site = Site::start().await;
    for path in ["/", "/healthz", "/api/v1/openapi.json"] {
        assert_eq!(site.send(Method::GET, path, None, None).await.status, 200, "{path}");
    }
    for path in ["/readyz", "/api/v1/site", "/api/v1/nothing", "/metrics", "/nothing"] {
        let told = site.send(Method::GET, path, None, None).await;
        told.refused(401, "unauthorised");
    }
    let told = site.send(Method::GET, "/api/v1/site", Some("wrong"), None).await;
    told.refused(401, "unauthorised");
    let body = Some(json!({"token": "wrong"}));
    site.send(Method::POST, "/api/v1/login", None, body).await.refused(401, "unauthorised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_or_method_that_does_not_exist_is_told_only_to_who_is_logged_on() {
    let site = Site::start().await;
    for (method, path) in [(Method::PUT, "/api/v1/site"), (Method::GET, "/api/v1/nothing")] {
        site.send(method.clone(), path, None, None).await.refused(401, "unauthorised");
        let told = site.send(method, path, Some(&site.credential), None).await;
        assert!(told.refused(404, "not-found").contains(path));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_holds_anything_is_refused_and_a_second_process_too() {
    let site = Site::start().await;
    let data = site.folder.path().join("site");
    let options = muster_site::InitOptions {
        data: data.clone(),
        code: "XYZ".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        database: None,
        content: None,
        url: None,
        quota: None,
    };
    let refused = muster_site::init(options).await.unwrap_err().to_string();
    assert!(refused.contains("not empty"), "{refused}");
    let clock = muster_host::clock::Clock::from_env().unwrap();
    let second = muster_site::run_until(data, |_| axum::Router::new(), clock, Default::default());
    let refused = second.await.unwrap_err().to_string();
    assert!(refused.contains("site run"), "{refused}");
}
