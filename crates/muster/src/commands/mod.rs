//! What each command does.

pub(crate) mod accounting;
pub(crate) mod agent;
pub(crate) mod component;
pub(crate) mod credential;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod generalize;
pub(crate) mod import;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod messages;
pub(crate) mod objects;
pub(crate) mod orders;
pub(crate) mod package;
pub(crate) mod publisher;
pub(crate) mod query;
pub(crate) mod site;
pub(crate) mod software;
pub(crate) mod verify;
