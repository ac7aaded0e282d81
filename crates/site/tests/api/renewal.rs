//! Renewing a certificate: also when it expired, and never for two machines with one identity.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::pki::certificate_request;
use muster_model::id::Incarnation;
use muster_model::sign::Domain;
use muster_model::wire::device::{Account, RenewAnswer, RenewRequest};
use muster_model::wire::seal::Sealed;
use muster_site::DeviceRefusal;
use serde_json::json;

use crate::harness::*;

async fn renew(
    site: &Site,
    device: &Device,
    generation: u64,
) -> Result<RenewAnswer, DeviceRefusal> {
    let request = RenewRequest {
        device: device.id,
        incarnation: device.incarnation,
        certificate_request: STANDARD.encode(certificate_request(&device.key).unwrap()),
        generation,
    };
    let sealed = Sealed::seal(&device.key, Domain::Renewal, &request).unwrap();
    let body = serde_json::to_vec(&sealed).unwrap();
    let answer: Sealed = document_of(site.service.renew(body.into()).await?);
    Ok(answer.peek().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_renewal_hands_out_the_next_generation_and_a_lost_answer_is_answered_again() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    let first = renew(&site, &device, 0).await.unwrap();
    assert_eq!((first.generation, first.next_incarnation.0), (1, 2));
    assert_eq!(renew(&site, &device, 0).await.unwrap().generation, 1);
    assert_eq!(renew(&site, &device, 1).await.unwrap().generation, 2);
    let standing = site.get(&format!("/devices/{}", device.id)).await.ok();
    assert_eq!(standing["standing"], "admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_generation_is_a_copy_of_the_machine_and_holds_the_device() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    renew(&site, &device, 0).await.unwrap();
    renew(&site, &device, 1).await.unwrap();
    renew(&site, &device, 0).await.unwrap();
    let found = site.get(&format!("/devices/{}", device.id)).await.ok();
    assert_eq!(found["standing"], "held");
    assert!(found["heldBecause"].as_str().unwrap().contains("two machines"));
    assert!(device.policy().await.held.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_is_for_who_signed_it() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let device = Device::enroll(&site, &token, "d1").await;
    let mut thief = Device::enroll(&site, &token, "d2").await;
    thief.id = device.id;
    assert_eq!(renew(&site, &thief, 0).await.unwrap_err().status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_for_the_memory_that_asks_though_nothing_was_heard_of_it_yet() {
    let site = Site::start().await;
    let token = site.token(json!({})).await;
    let mut device = Device::enroll(&site, &token, "d1").await;
    device.incarnation = Incarnation(2);
    let answer: Sealed = document_of(site.service.account(device.presented()).await.unwrap());
    let account: Account = answer.open(&device.site_key, Domain::Account).unwrap();
    assert_eq!(account.incarnation, Incarnation(2));
}
