//! Renewal of the certificate over the same key. Works with one that expired years ago, because the
//! request is signed by the device (law 12).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_host::client;
use muster_host::pki::{certificate_request, verify_signing_certificate};
use muster_model::sign::Domain;
use muster_model::wire::device::{RenewAnswer, RenewRequest};
use muster_model::wire::path;
use muster_model::wire::seal::Sealed;

use super::{ANSWER_MOST, DOCUMENT_BYTES_MAX, Transport, TransportError, client_of, within};
use crate::identity::{Der, Enrolment, Identity, IdentityError};

impl Transport {
    /// Renews the certificate and saves the identity in `data`; from then on the new one is shown. Durable
    /// on return.
    pub async fn renew(&self, data: &Path) -> Result<Enrolment, TransportError> {
        let (mut identity, enrolment) = Identity::load_enrolled(data)?;
        let sealed = within(ANSWER_MOST, self.ask_renewal(&enrolment)).await?;
        let renewed = self.renewed(enrolment, &sealed)?;
        identity.enrolment = Some(renewed.clone());
        identity.save(data)?;
        let signing = renewed.signing_key(self.0.time.wall())?;
        let client = client_of(&self.0.key, &renewed, &self.0.time)?;
        let mut current = self.current();
        (current.client, current.signing, current.epoch) = (client, signing, renewed.epoch);
        current.ticket = None;
        Ok(renewed)
    }

    async fn ask_renewal(&self, enrolment: &Enrolment) -> Result<Sealed, TransportError> {
        let request = certificate_request(&self.0.key).map_err(IdentityError::Certificate)?;
        let request = RenewRequest {
            device: enrolment.device,
            incarnation: enrolment.incarnation,
            certificate_request: STANDARD.encode(request),
            generation: enrolment.generation,
        };
        let sealed = Sealed::seal(&self.0.key, Domain::Renewal, &request)
            .map_err(|source| TransportError::Encode { what: "the renewal", source })?;
        let client = self.current().client.clone();
        let response = client::send(client.post(self.url(path::RENEW)).json(&sealed)).await?;
        Ok(client::read_json(response, DOCUMENT_BYTES_MAX).await?)
    }

    /// The enrolment with what the answer brings. The answer names the certificate of the key that signs
    /// it, which is checked against the CA first: a site may have replaced its signing key.
    fn renewed(&self, before: Enrolment, sealed: &Sealed) -> Result<Enrolment, TransportError> {
        let refused = |source| TransportError::Seal { what: "the renewal", source };
        let der = |text: &str| {
            Der::from_base64(text)
                .map_err(|source| TransportError::Base64 { what: "a certificate", source })
        };
        let claimed: RenewAnswer = sealed.peek().map_err(refused)?;
        let signing = der(&claimed.signing_certificate)?;
        let (ca, at) = (before.ca.certificate(), self.0.time.wall());
        let key = verify_signing_certificate(&ca, &signing.certificate(), at)
            .map_err(IdentityError::Certificate)?;
        let answer: RenewAnswer = sealed.open(&key, Domain::Enrolment).map_err(refused)?;
        Ok(Enrolment {
            certificate: der(&answer.certificate)?,
            signing_certificate: signing,
            epoch: answer.epoch,
            next_incarnation: Some(answer.next_incarnation),
            generation: answer.generation,
            ..before
        })
    }
}
