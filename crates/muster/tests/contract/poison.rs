//! A device with a good key that sends junk: each bad item is set aside with its bytes, reason and
//! sender, and the next ones go on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::client::{Timeouts, http_client};
use muster_host::pki::ClientIdentity;
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{Incarnation, Sequence};
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use muster_model::wire::batch::{Batch, chain};
use muster_model::wire::device::Ticket;
use muster_model::wire::seal::Sealed;
use muster_model::wire::{header, path};
use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

#[test]
fn junk_of_a_good_device_is_set_aside_and_its_neighbours_are_taken() {
    let mut fleet = Fleet::new();
    let token = fleet.token(2);
    assert_eq!(fleet.enroll("rogue", &token, &[]).code, 0);
    let mut rogue = Rogue::of(&fleet, "rogue");
    let good = rogue.message(1, json!({"type": "dropped", "count": 1}));
    let whole = rogue.message(2, json!({"type": "dropped", "count": 2}));
    let foreign = whole.replace(&rogue.device(), "01890000-0000-7000-8000-000000000000");
    let mut junk: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0\xff\xfe random".repeat(500),
        b"[]".to_vec(),
        foreign.into_bytes(),
        rogue.message(7, json!({"type": "never-heard-of"})).into_bytes(),
        vec![b' '; 64 * 1024 + 1],
    ];
    junk.extend((1..whole.len()).step_by(29).map(|cut| whole.as_bytes()[..cut].to_vec()));
    rogue.sent.push(good.into_bytes());
    rogue.sent.extend(junk.iter().cloned());
    let last = rogue.message(rogue.sent.len() + 1, json!({"type": "dropped", "count": 3}));
    rogue.sent.push(last.into_bytes());
    // The whole day's traffic three times, and the site killed in between.
    for round in 0..3 {
        assert_eq!(rogue.send(1).0, 200, "round {round}");
        fleet.kill("site");
        fleet.restart("site");
    }
    let taken = fleet.json(&["messages", "--device", "rogue"])["items"].clone();
    let own = taken.as_array().unwrap().iter().filter(|item| item["sequence"].is_number());
    assert_eq!(own.count(), 2, "the good ones, once each: {taken}");
    let items = fleet.json(&["set-aside", "list"])["items"].clone();
    let items = items.as_array().unwrap();
    assert_eq!(items.len(), junk.len(), "{items:#?}");
    for item in items {
        assert!(item["sender"].to_string().contains(&rogue.device()), "{item}");
        assert!(!item["reason"].as_str().unwrap().is_empty(), "{item}");
    }
    let noise = items.iter().find(|item| item["length"] == junk[1].len()).unwrap();
    let id = noise["id"].as_str().unwrap();
    let shown = fleet.json(&["set-aside", "show", id]);
    assert_eq!(STANDARD.decode(shown["bytes"].as_str().unwrap()).unwrap(), junk[1]);
    let refused = fleet.refused(1, &["set-aside", "retry", id]);
    assert!(refused.contains("still cannot be taken"), "{refused}");
    fleet.ok(&["set-aside", "drop", id]);
    let left = fleet.json(&["set-aside", "list"])["items"].as_array().unwrap().len();
    assert_eq!(left, junk.len() - 1);
    assert!(fleet.ok_or_findings(&["doctor"]).contains(&format!("{left} items")));
    // An honest device never noticed, nor does the ledger.
    fleet.agent("honest", &token);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("ad", "mark", &["honest"], json!({}));
    fleet.stands("honest", "ad", "succeeded");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn what_is_no_batch_is_refused_by_name_and_a_second_history_holds_the_device() {
    let mut fleet = Fleet::new();
    let token = fleet.token(1);
    assert_eq!(fleet.enroll("rogue", &token, &[]).code, 0);
    let mut rogue = Rogue::of(&fleet, "rogue");
    let first = rogue.message(1, json!({"type": "dropped", "count": 1}));
    rogue.sent.push(first.into_bytes());
    let whole = rogue.batch(1);
    for (bytes, status) in [
        (Vec::new(), 400),
        (b"junk".repeat(100), 400),
        (whole[..whole.len() - 1].to_vec(), 400),
        (vec![0; 8 * 1024 * 1024], 413),
    ] {
        let (found, said) = rogue.post(bytes);
        assert_eq!(found, status, "{said}");
        assert!(said["detail"].is_string(), "{said}");
    }
    let mut bent = whole.clone();
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(rogue.post(bent).0, 400, "not what was signed");
    assert_eq!(rogue.send(1).0, 200);
    // The same place with other words is another memory with the same key.
    rogue.sent[0] = rogue.message(1, json!({"type": "dropped", "count": 9})).into_bytes();
    rogue.send(1);
    until("the device is held", || {
        let listed = fleet.json(&["device", "list"]);
        (listed["items"][0]["standing"] == "held").then_some(())
    });
    let taken = fleet.json(&["messages", "--device", "rogue"])["items"].clone();
    assert!(taken.to_string().contains("1 "), "the first history stays: {taken}");
    fleet.ok(&["accounting", "verify"]);
    assert!(fleet.ended("site").is_none());
}

/// A device that speaks the protocol with its own key, and says what it likes.
struct Rogue {
    key: PrivateKey,
    enrolment: Value,
    url: String,
    sent: Vec<Vec<u8>>,
    runtime: tokio::runtime::Runtime,
}

impl Rogue {
    /// Takes over the identity of an enrolled device.
    fn of(fleet: &Fleet, name: &str) -> Self {
        let text = std::fs::read(fleet.path(&format!("{name}/identity.json"))).unwrap();
        let identity: Value = serde_json::from_slice(&text).unwrap();
        let seed: PublicKey = identity["seed"].as_str().unwrap().parse().unwrap();
        let key = PrivateKey::from_seed(seed.0);
        let enrolment = identity["enrolment"].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { key, enrolment, url: fleet.url.clone(), sent: Vec::new(), runtime }
    }

    /// A connection of its own for each request: the site is killed in between.
    fn client(&self) -> reqwest::Client {
        let text = |name: &str| self.enrolment[name].as_str().unwrap();
        let der = |name: &str| STANDARD.decode(text(name)).unwrap().into();
        let own = ClientIdentity::new(&self.key, der("certificate"));
        let tls = client_config(Trust::Ca(der("ca")), TrustedNow::unknown(), Some(own)).unwrap();
        http_client(tls, Timeouts::default()).unwrap()
    }

    fn device(&self) -> String {
        self.enrolment["device"].as_str().unwrap().to_owned()
    }

    /// A whole message that says `body`.
    fn message(&self, sequence: usize, body: Value) -> String {
        let now = now();
        json!({"device": self.device(), "incarnation": 1, "sequence": sequence, "wall": now,
            "elapsed": 1, "boot": "boot", "trusted": now, "body": body})
        .to_string()
    }

    /// What is sent from message `first` on, signed.
    fn batch(&self, first: usize) -> Vec<u8> {
        let (before, rest) = self.sent.split_at(first - 1);
        let before = before.iter().fold(Digest::ZERO, |head, one| chain(head, one));
        let (device, incarnation) = (self.device().parse().unwrap(), Incarnation(1));
        let (at, kept) = (Sequence(first as u64), Sequence(1));
        let waiting = rest.len() as u64;
        Batch::signed(&self.key, device, incarnation, at, before, kept, waiting, rest.to_vec())
            .encode()
    }

    fn send(&self, first: usize) -> (u16, Value) {
        self.post(self.batch(first))
    }

    fn post(&self, bytes: Vec<u8>) -> (u16, Value) {
        let expires = now().plus(Duration::from_secs(600));
        let ticket = Ticket {
            device: self.device().parse().unwrap(),
            incarnation: Incarnation(1),
            epoch: self.enrolment["epoch"].as_str().unwrap().parse().unwrap(),
            expires,
        };
        let ticket = Sealed::seal(&self.key, Domain::Ticket, &ticket).unwrap().to_header();
        let request = self.client().post(format!("{}{}", self.url, path::MESSAGES));
        let request = request.header(header::TICKET, ticket).body(bytes);
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
        })
    }
}

fn now() -> Wall {
    muster_host::clock::Clock::from_env().unwrap().wall()
}
