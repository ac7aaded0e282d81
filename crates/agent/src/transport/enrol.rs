//! The first contact: a token for an identity. Nothing is known of the site but the pin of its CA.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::client::{self, Timeouts};
use muster_host::pki::{certificate_request, check_pin, verify_signing_certificate};
use muster_host::trust::{Trust, TrustedNow, client_config};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Facts;
use muster_model::sign::Domain;
use muster_model::wire::device::{EnrollAnswer, EnrollRequest, SiteTime};
use muster_model::wire::seal::Sealed;
use muster_model::wire::{header, path};
use reqwest::header::HeaderMap;

use super::{ANSWER_MOST, CONNECT_MOST, DOCUMENT_BYTES_MAX, TransportError, within};
use crate::identity::{Der, Identity, IdentityError};

/// Asks for an identity for the key of `identity`. The same key is the same device, however often it
/// asks. The answer is believed because its CA is the pinned one, and that CA vouches for the key that
/// signed it: a relay can neither forge nor alter it.
///
/// The device's clock may be years wrong, so dates are judged by the site's own time, which came over
/// a connection to the pinned site; `wall` serves only if it brought none.
pub async fn ask_for_identity(
    identity: &Identity,
    claim: String,
    facts: Facts,
    machine: Option<Digest>,
    wall: Wall,
) -> Result<EnrollAnswer, TransportError> {
    let key = identity.key()?;
    let tls = client_config(Trust::Pin(identity.ca_pin), TrustedNow::unknown(), None)?;
    let timeouts = Timeouts { connect: CONNECT_MOST, read: ANSWER_MOST };
    let client = client::http_client(tls, timeouts)?;
    let request = certificate_request(&key).map_err(IdentityError::Certificate)?;
    let request = EnrollRequest {
        token: claim,
        key: key.public(),
        certificate_request: STANDARD.encode(request),
        name: identity.name.clone(),
        facts,
        machine,
    };
    let url = format!("{}{}", identity.site_url.trim_end_matches('/'), path::ENROLL);
    let (sealed, told) = within(ANSWER_MOST, async {
        let response = client::send(client.post(url).json(&request)).await?;
        let told = told_time(response.headers());
        let sealed: Sealed = client::read_json(response, 4 * DOCUMENT_BYTES_MAX).await?;
        Ok((sealed, told))
    })
    .await?;
    believe(identity, &sealed, told.unwrap_or(wall))
}

/// The answer, once everything in it is vouched for by the pinned CA.
fn believe(identity: &Identity, sealed: &Sealed, at: Wall) -> Result<EnrollAnswer, TransportError> {
    let refused = |source| TransportError::Seal { what: "the enrolment", source };
    let der = |text: &str| {
        Der::from_base64(text)
            .map_err(|source| TransportError::Base64 { what: "a certificate", source })
    };
    let claimed: EnrollAnswer = sealed.peek().map_err(refused)?;
    let ca = der(&claimed.ca)?.certificate();
    check_pin(&ca, identity.ca_pin).map_err(IdentityError::Certificate)?;
    let signing = der(&claimed.signing_certificate)?.certificate();
    let key = verify_signing_certificate(&ca, &signing, at).map_err(IdentityError::Certificate)?;
    sealed.open(&key, Domain::Enrolment).map_err(refused)
}

fn told_time(headers: &HeaderMap) -> Option<Wall> {
    let sealed = Sealed::from_header(headers.get(header::SITE_TIME)?.to_str().ok()?).ok()?;
    sealed.peek::<SiteTime>().ok().map(|told| told.time)
}
