//! What crosses the network, version 1.
//!
//! A device talks to an access point or a site, it cannot tell which. Everything that matters is
//! signed end to end: messages by the device's key, policy, receipts and time by the site's. Golden
//! bytes in `golden.rs` pin the encodings; formats grow, then shrink (law 13).

pub mod batch;
pub mod device;
pub mod seal;

/// Paths of the device protocol. Every request but `ENROLL` and `RENEW` carries a ticket
/// ([`header::TICKET`]); every answer carries the site's time ([`header::SITE_TIME`]). A refusal is a
/// problem document (RFC 9457, `application/problem+json`); one for a limit has `limit`, its name.
pub mod path {
    /// `POST` [`EnrollRequest`](super::device::EnrollRequest): a token for an identity. Answers
    /// [`EnrollAnswer`](super::device::EnrollAnswer) in a [`Sealed`](super::seal::Sealed) under
    /// `Domain::Enrolment`: the signing certificate inside chains to the CA that the token pins.
    pub const ENROLL: &str = "/agent/v1/enroll";
    /// `POST` a sealed [`RenewRequest`](super::device::RenewRequest): a new certificate for the same
    /// key. Answers a [`RenewAnswer`](super::device::RenewAnswer), sealed under `Domain::Enrolment`.
    pub const RENEW: &str = "/agent/v1/renew";
    /// `GET`, long poll: `If-None-Match: "TAG"`, `Prefer: wait=SECONDS`. 200 with the sealed policy
    /// and its tag as `ETag`, or 304, "nothing new".
    pub const POLICY: &str = "/agent/v1/policy";
    /// `POST` a batch (`application/octet-stream`): 200 with a sealed receipt, or 409 with a
    /// [`Behind`](super::device::Behind) as plain JSON (`application/json`).
    pub const MESSAGES: &str = "/agent/v1/messages";
    /// `GET`: the sealed [`Account`](super::device::Account) that the site keeps of the device.
    pub const ACCOUNT: &str = "/agent/v1/account";
    /// `GET /{digest}`: an object, its bytes.
    pub const CONTENT: &str = "/agent/v1/content";
    /// `GET /{number}`: a signed trust document, as its publishers made it (JSON).
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
