//! The site: the server that owns definitions, targets and the accounts.
//!
//! Floor 3 of the house: `http` parses and answers, `app` decides what is to be written and writes it,
//! [`store`] keeps the rows in SQLite or PostgreSQL, `tasks` bring about what is stored. The binary
//! starts it ([`init`], [`run`]) and composes the access point's HTTP face with [`DeviceService`].
#![deny(unsafe_code)]

mod app;
pub mod backup;
pub mod folder;
mod http;
mod role;
pub mod store;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::component::{component_states, set_component};
pub use app::device_service::{DeviceRefusal, DeviceReply, DeviceService, Presented};
pub use role::{InitOptions, RunningSite, SiteError, init, run, run_until};
