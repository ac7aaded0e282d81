//! The access point near the machines: policy and content go down through it, messages up. It owns
//! nothing that can be lost.
//!
//! [`relay`] decides and touches nothing, so that the simulator can run it. [`router`] is the HTTP face
//! of the device protocol over any [`Upstream`]: inside the site process that is the site itself.
#![deny(unsafe_code)]

pub mod relay;
mod router;
mod upstream;

pub use router::{ENROLMENT_BYTES_MAX, POLL_WAIT_DEFAULT, POLL_WAIT_MAX, SILENT_WAIT_MAX, router};
pub use upstream::{Presented, Refusal, Reply, Upstream};
