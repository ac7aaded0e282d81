//! Signatures over published packages: `POST /api/v1/packages/{id}/sign`.

use serde::{Deserialize, Serialize};

use crate::policy::KeySignature;

/// Further signatures over a published version, whose bytes stay as they are: how a publisher's new
/// key vouches for what its old key signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignRequest {
    /// The version.
    pub version: String,
    /// Signatures over its manifest.
    pub signatures: Vec<KeySignature>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignAnswer {
    /// How many of the signatures were new.
    pub added: u64,
}
