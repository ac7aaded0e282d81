//! The agent: the device's shell around the machine of [`muster_agent_core`].
//!
//! ```text
//!  run ── memory ── journal            one transaction a step, reserve, salvage
//!   │      └─ identity                  key, certificates, incarnation: outside the journal
//!   └─ driver ── transport ── site      poll, deliver, account, trust, renewal: signatures checked here
//!         ├── contents                  fetch, verify, unpack
//!         ├── conditions, detect, env   what runs lack, what they find, what they see
//!         ├── sessions, requests        who is logged on, what they ask for
//!         ├── verify, repair            what the agent looks like, what of it is mended
//!         ├── versions, trial           which release of the agent runs, and whether it stays
//!         └── run folder ═ supervisor   one small process a run, which outlives the agent (law 6)
//! ```
//!
//! The driver waits, hands one input at a time to the machine, saves what it decided, then acts. Nothing
//! here decides whether or when something runs. Called by the binary: [`enroll`], [`run`], [`leave`],
//! [`status`], and [`supervisor::main`] before anything else. An agent never listens on the network, and
//! talks to the URL it was enrolled with alone.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod components;
pub mod conditions;
pub mod config;
pub mod contents;
mod desktop;
pub mod detect;
mod driver;
mod enroll;
pub mod env;
mod facts;
mod first_boot;
mod generalize;
pub mod identity;
pub mod journal;
mod link;
mod machine;
mod mailbox;
mod memory;
mod mif;
mod nearby;
mod output;
mod outputs;
mod power;
mod program;
mod renewal;
mod repair;
pub mod requests;
mod result;
mod run;
pub mod run_folder;
pub mod sessions;
mod shown;
pub mod status;
pub mod supervisor;
pub mod transport;
mod trial;
pub mod trust_store;
mod user;
pub mod verify;
pub mod versions;

pub use muster_agent_core::turn::Stands;
pub use muster_agent_core::user::{Promise, Request, RequestRefused};

pub use enroll::{EnrollError, EnrollOptions, Enrolled, Left, enroll, leave};
pub use first_boot::{FirstBoot, FirstBootError};
pub use generalize::{GeneralizeError, GeneralizeOptions, Generalized, generalize};
pub use run::{AgentFile, RunError, RunOptions, run};

/// The folder of run folders in the data folder.
pub const RUNS_DIR: &str = "runs";

/// An error and what caused it, in one line for people.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
