//! Messages to the site for its receipt, and the account that the site keeps.

use muster_agent_core::input::Input;
use muster_agent_core::step::Unsigned;
use muster_host::client;
use muster_model::sign::Domain;
use muster_model::wire::device::{Account, Behind, Receipt};
use muster_model::wire::path;
use muster_model::wire::seal::Sealed;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use super::{ANSWER_MOST, DOCUMENT_BYTES_MAX, Transport, TransportError, answered, within};

/// An account in its envelope: a hundred bytes for each of a device's obligations.
const ACCOUNT_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Transport {
    /// Signs a batch and posts it. The answer is for the machine.
    pub async fn deliver(&self, unsigned: Unsigned) -> Input {
        match within(ANSWER_MOST, self.post(unsigned)).await {
            Ok(input) => input,
            Err(error) => Input::SendFailed { why: crate::chain_of(&error) },
        }
    }

    async fn post(&self, unsigned: Unsigned) -> Result<Input, TransportError> {
        let incarnation = self.current().incarnation;
        let bytes = unsigned.sign(&self.0.key, self.0.device, incarnation).encode();
        let (url, bytes) = (self.url(path::MESSAGES), bytes::Bytes::from(bytes));
        let (response, _) = self
            .ask(|client| {
                let octets = "application/octet-stream";
                client.post(&url).header(CONTENT_TYPE, octets).body(bytes.clone())
            })
            .await?;
        if response.status() == StatusCode::CONFLICT {
            let behind: Behind = client::read_json(response, DOCUMENT_BYTES_MAX).await?;
            return Ok(Input::SiteBehind { epoch: behind.epoch, through: behind.through });
        }
        let response = answered(response).await?;
        let sealed: Sealed = client::read_json(response, DOCUMENT_BYTES_MAX).await?;
        let receipt: Receipt = self.open(&sealed, Domain::Receipt, "the receipt")?;
        Ok(Input::ReceiptArrived(receipt))
    }

    /// Asks for the account. The answer is for the machine.
    pub async fn account(&self) -> Input {
        match within(ANSWER_MOST, self.ask_account()).await {
            Ok(account) => Input::AccountArrived(account),
            Err(error) => Input::PollFailed { why: crate::chain_of(&error) },
        }
    }

    async fn ask_account(&self) -> Result<Account, TransportError> {
        let url = self.url(path::ACCOUNT);
        let (response, _) = self.ask(|client| client.get(&url)).await?;
        let response = answered(response).await?;
        let sealed: Sealed = client::read_json(response, ACCOUNT_BYTES_MAX).await?;
        self.open(&sealed, Domain::Account, "the account")
    }
}
