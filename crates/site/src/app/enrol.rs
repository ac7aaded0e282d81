//! Enrolment and renewal: how a machine gets an identity, and keeps it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::pki::{PeerKind, requested_key};
use muster_model::facts::EXTRA_FACTS_MAX;
use muster_model::id::{CollectionId, DeviceId, Incarnation};
use muster_model::settings::Settings;
use muster_model::sign::{Domain, PublicKey};
use muster_model::token::Token;
use muster_model::wire::device::{EnrollAnswer, EnrollRequest, RenewAnswer, RenewRequest};
use muster_model::wire::seal::Sealed;
use muster_site_core::device::{Admission, Device};
use muster_site_core::ingest::StreamRow;
use muster_site_core::put_back::Lives;
use uuid::Uuid;

use super::change::{Change, Code};
use super::error::{Kind, Outcome, Refusal, Tried};
use super::graph::Collections;
use super::{App, collection, device};
use crate::store::{DeviceRow, Subject, TokenRow};

/// How long a device whose renewal's answer was lost may ask again with the generation before. Two
/// machines with one identity renew days apart, or are told apart by their messages.
const RENEW_AGAIN_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The word of a token's role for devices.
const AGENT: &str = "agent";

impl App {
    /// An identity for a token. The same key with the same token gets the same device again.
    pub(crate) async fn enroll(&self, request: EnrollRequest) -> Outcome<EnrollAnswer> {
        check_request(&request)?;
        let (token, secret) = Token::read_claim(&request.token).map_err(|_| not_good())?;
        let secret = Token::secret_digest(&secret);
        self.check_secret(token, secret).await?.ok_or_else(not_good)?;
        let mut change = Change::begin_by_site(self).await?;
        let known = change.tx.device_find_key(&request.key).await?;
        let row = match known {
            Some(row) if row.device.admission == Admission::Retired => return Err(retired()),
            Some(row) if row.token == Some(token) => {
                // Used up or expired since: what it let in stays in, for who knows its secret.
                row
            }
            known => {
                let used = change.tx.token_use(token, secret, change.now).await?;
                let used = used.filter(|used| used.role == AGENT).ok_or_else(not_good)?;
                check_name(&used, &request)?;
                match known {
                    Some(row) => DeviceRow { token: Some(token), ..row },
                    None => self.admit(&mut change, &request, &used).await?,
                }
            }
        };
        let answer = self.answer_enrolment(&mut change, row).await?;
        change.commit().await?;
        self.metrics.enrolled();
        Ok(answer)
    }

    /// Writes a new device.
    async fn admit(
        &self,
        change: &mut Change<'_>,
        request: &EnrollRequest,
        token: &TokenRow,
    ) -> Outcome<DeviceRow> {
        let id = DeviceId(Uuid::now_v7());
        let admission = if token.hold { Admission::Pending } else { Admission::Admitted };
        let row = DeviceRow {
            device: Device {
                id,
                name: request.name.clone(),
                admission,
                facts: request.facts.clone(),
            },
            key: request.key,
            settings: Settings::default(),
            own_version: 1,
            incarnation: Incarnation(0),
            next_incarnation: Incarnation(2),
            generation: 0,
            certificate_serial: String::new(),
            certificate_until: change.now,
            machine: request.machine,
            token: Some(token.id),
            enrolled_at: change.now,
            retired_at: None,
        };
        change.tx.device_insert(&row).await?;
        change.tx.stream_insert_many(&[StreamRow::new(id, Incarnation(1))]).await?;
        if token.name.is_some() {
            for bound in change.tx.binding_resolve(&request.name, id).await? {
                change.concerns(Subject::Collection(bound.0));
            }
        }
        if let Some(collection) = token.collection {
            join(change, collection, &row).await?;
        }
        let graph = match token.name.is_some() || token.collection.is_some() {
            // The lines above may have bound the device to a name.
            true => Arc::new(Collections::load(&mut change.tx).await?.graph()?),
            false => change.graph_before().await?,
        };
        collection::evaluate_devices(change, &graph, std::slice::from_ref(&row)).await?;
        change.concerns(Subject::Device(id.0));
        change.say(Code::DeviceEnrolled, id, format!("device `{}` enrolled", request.name));
        Ok(row)
    }

    /// Issues a certificate, and everything that a device must know of its site.
    async fn answer_enrolment(
        &self,
        change: &mut Change<'_>,
        mut row: DeviceRow,
    ) -> Outcome<EnrollAnswer> {
        let certificate = self.issue(&mut row)?;
        change.tx.device_update(&row).await?;
        change.concerns(Subject::Device(row.device.id.0));
        let trust = change.tx.trust_newest().await?;
        let trust = trust.map(|row| serde_json::from_str(&row.document)).transpose();
        // Whoever was heard already goes on where it is; a memory that was lost takes the next.
        let incarnation = row.incarnation.max(Incarnation(1));
        Ok(EnrollAnswer {
            device: row.device.id,
            certificate,
            ca: STANDARD.encode(self.keys.ca.certificate()),
            signing_certificate: self.signing_certificate(),
            site: self.identity.code.clone(),
            epoch: self.identity.epoch,
            incarnation,
            next_incarnation: row.next_incarnation,
            trust: trust.tried("read a trust document")?,
            held: matches!(row.device.admission, Admission::Pending | Admission::Held { .. }),
        })
    }

    /// A new certificate for the same key. The request is signed by the device, so the certificate of
    /// its connection may have expired years ago.
    pub(crate) async fn renew(&self, sealed: Sealed) -> Outcome<RenewAnswer> {
        let claimed: RenewRequest =
            sealed.peek().map_err(|why| Refusal::invalid("payload", why.to_string()))?;
        let mut change = Change::begin_by_site(self).await?;
        let row = change.tx.device_lock(claimed.device).await?.ok_or_else(device::unknown)?;
        let request: RenewRequest = sealed.open(&row.key, Domain::Renewal).map_err(|_| {
            Refusal::new(Kind::Forbidden, "the renewal is not signed by the device")
        })?;
        check_key(&request.certificate_request, &row.key)?;
        if row.device.admission == Admission::Retired {
            return Err(retired());
        }
        let mut row = row;
        // A machine that was put back has an older generation, too.
        let lives = Lives::of(&change.tx.stream_list(row.device.id).await?);
        let is_put_back = lives.is_handed_out(request.incarnation);
        if !is_put_back && self.is_copy(&row, &request, change.now) {
            let reason = format!(
                "it renewed as generation {}, the site has seen {}: two machines have its identity",
                request.generation, row.generation
            );
            device::hold(&mut change, &mut row, device::by_the_site(reason));
        }
        let current = row.incarnation.max(request.incarnation);
        row.next_incarnation = row.next_incarnation.max(Incarnation(current.0 + 1));
        row.generation = row.generation.max(request.generation.saturating_add(1));
        let certificate = self.issue(&mut row)?;
        change.tx.device_update(&row).await?;
        change.concerns(Subject::Device(row.device.id.0));
        change.commit().await?;
        Ok(RenewAnswer {
            certificate,
            signing_certificate: self.signing_certificate(),
            epoch: self.identity.epoch,
            next_incarnation: row.next_incarnation,
            generation: row.generation,
        })
    }

    /// Whether the generation shows that two machines use one identity. The generation just before is
    /// a lost answer, if that answer is young.
    fn is_copy(
        &self,
        row: &DeviceRow,
        request: &RenewRequest,
        now: muster_model::clock::Wall,
    ) -> bool {
        let issued = row.certificate_until.0 - muster_host::pki::CLIENT_LIFETIME.as_millis() as i64;
        let young = now.since(muster_model::clock::Wall(issued)) <= RENEW_AGAIN_WITHIN;
        let lost_answer = request.generation + 1 == row.generation && young;
        request.generation < row.generation && !lost_answer
    }

    /// Issues a certificate and notes it in the row.
    fn issue(&self, row: &mut DeviceRow) -> Outcome<String> {
        let issued =
            self.keys.ca.issue_client(PeerKind::Device, row.device.id.0, &row.key, self.now());
        let issued = issued.tried("issue a certificate")?;
        row.certificate_serial = issued.serial.to_string();
        row.certificate_until = issued.not_after;
        Ok(STANDARD.encode(&issued.certificate))
    }

    /// The certificate over the site's signing key, DER, base64.
    fn signing_certificate(&self) -> String {
        STANDARD.encode(&*self.signing_certificate)
    }
}

/// Makes the device a member by name of the token's collection: its name is added to the document,
/// bound to this device and no other.
async fn join(change: &mut Change<'_>, id: CollectionId, row: &DeviceRow) -> Outcome<()> {
    let Some(found) = change.tx.object_load(id.0).await? else { return Ok(()) };
    let mut document = super::graph::object(&found)?;
    let muster_model::object::Spec::Collection(spec) = &mut document.spec else { return Ok(()) };
    let name = &row.device.name;
    let mut bindings: Vec<_> = change.tx.binding_list(id).await?;
    if let Some(bound) = bindings.iter().find(|one| one.name == *name && one.device.is_some()) {
        let detail = format!(
            "collection `{}` has a member `{name}` already: {}",
            found.name,
            bound.device.map(|id| id.to_string()).unwrap_or_default()
        );
        return Err(Refusal::conflict(detail).into());
    }
    bindings.retain(|one| one.name != *name);
    let mut bound: Vec<_> = bindings.into_iter().map(|one| (one.name, one.device)).collect();
    bound.push((name.clone(), Some(row.device.id)));
    change.tx.binding_replace(id, &bound).await?;
    if !spec.members.contains(name) {
        spec.members.push(name.clone());
        super::object::update(change, found, &document, None).await?;
    }
    change.concerns(Subject::Collection(id.0));
    Ok(())
}

fn check_request(request: &EnrollRequest) -> Outcome<()> {
    if request.facts.extra.len() > EXTRA_FACTS_MAX {
        let detail = format!("at most {EXTRA_FACTS_MAX} extra facts");
        return Err(Refusal::invalid("facts.extra", detail).limit("EXTRA_FACTS_MAX").into());
    }
    check_key(&request.certificate_request, &request.key)
}

/// The certificate request is for `key`, and its sender holds the private half.
fn check_key(request: &str, key: &PublicKey) -> Outcome<()> {
    let refused = |why: String| Refusal::invalid("certificateRequest", why);
    let der = STANDARD.decode(request).map_err(|why| refused(why.to_string()))?;
    let found = requested_key(&der).map_err(|why| refused(why.to_string()))?;
    match found == *key {
        true => Ok(()),
        false => Err(refused("it is for another key".to_owned()).into()),
    }
}

fn check_name(token: &TokenRow, request: &EnrollRequest) -> Outcome<()> {
    match &token.name {
        Some(name) if *name != request.name.as_str() => {
            let detail = format!("the token lets in a device called `{name}` and no other");
            Err(Refusal::new(Kind::Forbidden, detail)
                .hint(format!("enroll with --name {name}"))
                .into())
        }
        _ => Ok(()),
    }
}

/// One answer for every token that is not good: nobody learns which part was wrong.
fn not_good() -> Refusal {
    Refusal::new(Kind::Forbidden, "the token is not good: unknown, used up, expired or revoked")
        .hint("`muster token create` makes another")
}

fn retired() -> super::error::AppError {
    Refusal::new(Kind::Forbidden, "the device was retired; its identity is never used again")
        .hint("`muster agent leave`, then enroll as a new device")
        .into()
}
