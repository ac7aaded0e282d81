//! What crosses the network, version 1.
//!
//! A device talks to an access point or a site, it cannot tell which. Everything that matters is
//! signed end to end: messages by the device's key, policy, receipts and time by the site's. Golden
//! bytes in `golden.rs` pin the encodings; formats grow, then shrink (law 13).

pub mod batch;
pub mod device;
pub mod seal;

/// Paths of the device protocol.
pub mod path {
    /// `POST`: a token for an identity.
    pub const ENROLL: &str = "/agent/v1/enroll";
    /// `POST`: a new certificate for the same key.
    pub const RENEW: &str = "/agent/v1/renew";
    /// `GET`, long poll: the policy, or "nothing new".
    pub const POLICY: &str = "/agent/v1/policy";
    /// `POST`: a batch of messages for a receipt.
    pub const MESSAGES: &str = "/agent/v1/messages";
    /// `GET`: what the site knows of the device's obligations.
    pub const ACCOUNT: &str = "/agent/v1/account";
    /// `GET /{digest}`: an object.
    pub const CONTENT: &str = "/agent/v1/content";
    /// `GET /{number}`: a trust document.
    pub const TRUST: &str = "/agent/v1/trust";
}

/// Headers of the device protocol.
pub mod header {
    /// The device's session ticket, sealed, base64url.
    pub const TICKET: &str = "muster-ticket";
    /// The site's time, sealed, base64url: sent with every answer to a device.
    pub const SITE_TIME: &str = "muster-time";
    /// How long the poll may be held, in seconds (RFC 7240 `Prefer: wait=N`).
    pub const PREFER: &str = "prefer";
}
