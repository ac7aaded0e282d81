//! A device that does what the test says: keys, messages and polls of its own, no agent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use muster_host::clock::Clock;
use muster_host::pki::{Peer, certificate_request, peer_identity};
use muster_model::clock::Elapsed;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::id::{AdvertisementId, BootId, DeviceId, EpochId, Incarnation, Sequence};
use muster_model::message::{Body, Message, Report};
use muster_model::name::Name;
use muster_model::policy::Policy;
use muster_model::sign::{Domain, PrivateKey, PublicKey};
use muster_model::state::State;
use muster_model::token::Token;
use muster_model::wire::batch::{Batch, chain};
use muster_model::wire::device::{EnrollAnswer, EnrollRequest, Receipt, Ticket};
use muster_model::wire::seal::Sealed;
use muster_site::{DeviceRefusal, DeviceReply, DeviceService, Presented};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Site;

static SEEDS: AtomicU64 = AtomicU64::new(1);

/// A device that does what the test says.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) key: PrivateKey,
    pub(crate) epoch: EpochId,
    pub(crate) incarnation: Incarnation,
    pub(crate) answer: EnrollAnswer,
    pub(crate) peer: Peer,
    service: DeviceService,
    pub(crate) site_key: PublicKey,
    clock: Clock,
    /// Messages sent or to be sent, and the chain after each.
    pub(crate) sent: Vec<Vec<u8>>,
    head: Digest,
}

impl Device {
    /// Enrols a device of this name.
    pub(crate) async fn enroll(site: &Site, token: &Token, name: &str) -> Self {
        Self::try_enroll(site, token, name).await.unwrap()
    }

    pub(crate) async fn try_enroll(
        site: &Site,
        token: &Token,
        name: &str,
    ) -> Result<Self, DeviceRefusal> {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&SEEDS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Self::enroll_with(site, token, name, PrivateKey::from_seed(seed)).await
    }

    pub(crate) async fn enroll_with(
        site: &Site,
        token: &Token,
        name: &str,
        key: PrivateKey,
    ) -> Result<Self, DeviceRefusal> {
        let request = EnrollRequest {
            token: token.claim(),
            key: key.public(),
            certificate_request: STANDARD.encode(certificate_request(&key).unwrap()),
            name: Name::new(name).unwrap(),
            facts: facts(name),
            machine: None,
        };
        let body = serde_json::to_vec(&request).unwrap();
        let reply = site.service.enroll(body.into()).await?;
        let sealed: Sealed = document_of(reply);
        let answer: EnrollAnswer = sealed.peek().unwrap();
        let clock = Clock::from_env().unwrap();
        let der = |text: &str| STANDARD.decode(text).unwrap().into();
        let site_key = muster_host::pki::verify_signing_certificate(
            &der(&answer.ca),
            &der(&answer.signing_certificate),
            clock.wall(),
        )
        .unwrap();
        let answer: EnrollAnswer = sealed.open(&site_key, Domain::Enrolment).unwrap();
        Ok(Self {
            id: answer.device,
            key,
            epoch: answer.epoch,
            incarnation: answer.incarnation,
            peer: peer_identity(&der(&answer.certificate)).unwrap(),
            answer,
            service: site.service.clone(),
            site_key,
            clock,
            sent: Vec::new(),
            head: Digest::ZERO,
        })
    }

    /// Speaks to a site that was started again.
    pub(crate) fn moved_to(&mut self, site: &Site) {
        self.service = site.service.clone();
    }

    /// The same identity with the same memory: a copy of the machine.
    pub(crate) fn copy(&self) -> Self {
        Self {
            key: self.key.clone(),
            answer: self.answer.clone(),
            peer: self.peer.clone(),
            service: self.service.clone(),
            clock: self.clock.clone(),
            sent: self.sent.clone(),
            ..*self
        }
    }

    pub(crate) fn presented(&self) -> Presented {
        let ticket = Ticket {
            device: self.id,
            incarnation: self.incarnation,
            epoch: self.epoch,
            expires: self.clock.wall().plus(Duration::from_secs(3_600)),
        };
        let sealed = Sealed::seal(&self.key, Domain::Ticket, &ticket).unwrap();
        Presented { ticket: Some(sealed.to_header()), peer: Some(self.peer.clone()) }
    }

    /// Polls; `None`: nothing new.
    pub(crate) async fn poll(&self, known: Option<Digest>, wait: Duration) -> Option<Policy> {
        match self.service.policy(self.presented(), known, wait).await.unwrap() {
            DeviceReply::NothingNew => None,
            DeviceReply::Tagged { tag, document } => {
                let sealed: Sealed = serde_json::from_slice(&document).unwrap();
                let policy: Policy = sealed.open(&self.site_key, Domain::Policy).unwrap();
                assert_eq!((policy.tag, policy.device), (tag, self.id));
                Some(policy)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn policy(&self) -> Policy {
        self.poll(None, Duration::ZERO).await.unwrap()
    }

    /// Appends a message.
    pub(crate) fn say(&mut self, body: Body) {
        let now = self.clock.wall();
        let message = Message {
            device: self.id,
            incarnation: self.incarnation,
            sequence: Sequence(self.sent.len() as u64 + 1),
            wall: now,
            elapsed: Elapsed(1),
            boot: BootId("boot".to_owned()),
            trusted: now,
            body,
        };
        self.say_bytes(serde_json::to_vec(&message).unwrap());
    }

    /// Appends bytes, whatever they are.
    pub(crate) fn say_bytes(&mut self, bytes: Vec<u8>) {
        self.head = chain(self.head, &bytes);
        self.sent.push(bytes);
    }

    /// Reports an obligation.
    pub(crate) fn report(
        &mut self,
        id: AdvertisementId,
        occurrence: &str,
        state: State,
        attempt: u32,
    ) {
        self.say(Body::Obligation(Report {
            advertisement: id,
            occurrence: occurrence.parse().unwrap(),
            revision: 1,
            exit_code: state.exit_code(),
            state,
            attempt,
            run: None,
            attempt_ended: None,
            disputed: None,
            output: String::new(),
            dependency: None,
            user: None,
            passed_over: String::new(),
        }));
    }

    /// The policy, or why there is none.
    pub(crate) async fn try_poll(&self) -> Result<Policy, DeviceRefusal> {
        let reply = self.service.policy(self.presented(), None, Duration::ZERO).await?;
        let DeviceReply::Tagged { document, .. } = reply else { panic!("{reply:?}") };
        let sealed: Sealed = serde_json::from_slice(&document).unwrap();
        Ok(sealed.open(&self.site_key, Domain::Policy).unwrap())
    }

    /// The batch from message `first` on.
    pub(crate) fn batch(&self, first: u64) -> Batch {
        self.batch_kept_from(first, Sequence(1))
    }

    /// As [`Device::batch`], from a device that has lost what is older than `kept`.
    pub(crate) fn batch_kept_from(&self, first: u64, kept: Sequence) -> Batch {
        let skip = first as usize - 1;
        let before = self.sent[..skip].iter().fold(Digest::ZERO, |head, one| chain(head, one));
        let messages = self.sent[skip..].to_vec();
        let waiting = messages.len() as u64;
        Batch::signed(
            &self.key,
            self.id,
            self.incarnation,
            Sequence(first),
            before,
            kept,
            waiting,
            messages,
        )
    }

    /// Sends everything from message `first` on.
    pub(crate) async fn send(&self, first: u64) -> Receipt {
        match self.try_send(self.batch(first).encode()).await.unwrap() {
            DeviceReply::Document(document) => {
                let sealed: Sealed = serde_json::from_slice(&document).unwrap();
                sealed.open(&self.site_key, Domain::Receipt).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn try_send(&self, bytes: Vec<u8>) -> Result<DeviceReply, DeviceRefusal> {
        self.service.messages(self.presented(), Bytes::from(bytes)).await
    }
}

pub(crate) fn document_of<T: serde::de::DeserializeOwned>(reply: DeviceReply) -> T {
    match reply {
        DeviceReply::Document(document) => serde_json::from_slice(&document).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn facts(name: &str) -> Facts {
    Facts {
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        name: name.to_owned(),
        agent_version: "0.1.0".to_owned(),
        ..Facts::default()
    }
}

pub(crate) fn succeeded() -> State {
    use muster_model::state::{Evidence, EvidenceKind};
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::ExitCode, exit_code: Some(0) } }
}
