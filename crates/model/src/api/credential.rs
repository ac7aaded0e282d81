//! Tokens and log-ons in lists: `GET /api/v1/tokens`, `GET /api/v1/credentials`.

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::id::{PrincipalId, TokenId};

/// A log-on of a person or pipeline that is still good. Its secret is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialView {
    /// Its id.
    pub id: PrincipalId,
    /// Who that is, in messages.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// When it logged on.
    pub created: Wall,
    /// Who let it in.
    pub created_by: String,
    /// Not good after this; `None` for who can read the site's own folder.
    pub expires: Option<Wall>,
    /// Whether it is the one that asks.
    pub own: bool,
}

/// A token that still lets somebody in. Its secret is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// Whom it lets in.
    pub role: String,
    /// The name that its bearer must have.
    pub name: Option<String>,
    /// How often it still lets somebody in.
    pub uses_left: u64,
    /// Its devices wait for `muster device approve`.
    pub hold: bool,
    /// When it was made.
    pub created: Wall,
    /// By whom.
    pub created_by: String,
    /// Not good after this.
    pub expires: Wall,
}
