//! The poll: policy or nothing new, held open by the site; and the trust documents that come first.

use std::time::Duration;

use muster_agent_core::input::Input;
use muster_content::trust::{CATCH_UP_STEPS_MAX, SignedTrust};
use muster_host::client;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::policy::{POLICY_BYTES_MAX, Policy};
use muster_model::settings::Setting;
use muster_model::sign::Domain;
use muster_model::wire::seal::Sealed;
use muster_model::wire::{header, path};
use reqwest::StatusCode;
use reqwest::header::IF_NONE_MATCH;

use super::{ANSWER_MOST, DOCUMENT_BYTES_MAX, Transport, TransportError, answered, within};
use crate::trust_store::TrustError;

/// A policy inside its envelope: text inside text, where every quote is written as two characters.
const SEALED_POLICY_BYTES_MAX: usize = 2 * POLICY_BYTES_MAX;

impl Transport {
    /// Polls; the site may hold the question for `wait`. The answer is for the machine. The only error
    /// is one that the process must not go on after.
    pub async fn poll(&self, tag: Option<Digest>, wait: Duration) -> Result<Input, TransportError> {
        match within(wait + ANSWER_MOST, self.ask_policy(tag, wait)).await {
            Ok((Some(policy), site_time)) => Ok(Input::PolicyArrived { policy, site_time }),
            Ok((None, site_time)) => Ok(Input::NothingNew { site_time }),
            Err(error) if error.is_fatal() => Err(error),
            Err(error @ TransportError::Seal { .. }) => {
                Ok(Input::PolicyRefused { why: crate::chain_of(&error) })
            }
            Err(error) => Ok(Input::PollFailed { why: crate::chain_of(&error) }),
        }
    }

    async fn ask_policy(
        &self,
        tag: Option<Digest>,
        wait: Duration,
    ) -> Result<(Option<Policy>, Option<Wall>), TransportError> {
        let url = self.url(path::POLICY);
        let prefer = format!("wait={}", wait.as_secs());
        let (response, told) = self
            .ask(|client| {
                let request = client.get(&url).header(header::PREFER, &prefer);
                match tag {
                    Some(tag) => request.header(IF_NONE_MATCH, format!("\"{tag}\"")),
                    None => request,
                }
            })
            .await?;
        let response = answered(response).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            self.catch_up().await?;
            return Ok((None, told));
        }
        let sealed: Sealed = client::read_json(response, SEALED_POLICY_BYTES_MAX).await?;
        let mut policy: Policy = self.open(&sealed, Domain::Policy, "the policy")?;
        // What the policy names may be signed by a publisher who came with a newer document.
        self.expect_trust(policy.trust);
        self.catch_up().await?;
        policy.settings = policy.settings.overlaid(&self.0.own);
        self.current().ticket_life = policy.settings.get(Setting::TicketLife).duration();
        Ok((Some(policy), told))
    }

    /// Notes that trust document `number` exists.
    pub fn expect_trust(&self, number: u64) {
        let mut current = self.current();
        current.trust_number = current.trust_number.max(number);
    }

    /// Fetches the trust documents that are missing, one by one. One that is not believed is noted, and
    /// ends it: packages of publishers who would have come with it are then refused by name.
    async fn catch_up(&self) -> Result<(), TransportError> {
        let newest = self.current().trust_number;
        for _ in 0..CATCH_UP_STEPS_MAX {
            let next = self.0.trust.next();
            if next > newest {
                return Ok(());
            }
            let url = self.url(&format!("{}/{next}", path::TRUST));
            let (response, _) = self.ask(|client| client.get(&url)).await?;
            let response = answered(response).await?;
            let offered: SignedTrust = client::read_json(response, DOCUMENT_BYTES_MAX).await?;
            match self.0.trust.accept(&offered) {
                Ok(()) => tracing::info!(number = next, "trust document accepted"),
                Err(error @ TrustError::Refused { .. }) => {
                    tracing::error!(number = next, why = %crate::chain_of(&error), "trust refused");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
