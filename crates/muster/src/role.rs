//! `--data DIR` of any role: which role lives in a folder, and how to ask it.

use std::path::Path;

use muster_host::run_file::read_run_file;
use muster_site::RunningSite;

use crate::api::Api;
use crate::commands::login;
use crate::error::{Failure, Outcome, Tried};

/// The role whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A site.
    Site,
    /// An agent.
    Agent,
}

/// Which role lives in `data`.
pub(crate) fn of(data: &Path) -> Outcome<Role> {
    if data.join("site.json").exists() {
        return Ok(Role::Site);
    }
    if data.join(muster_agent::identity::IDENTITY_FILE).exists() {
        return Ok(Role::Agent);
    }
    Err(Failure::new(format!("{} is the folder of no site and no agent", data.display()))
        .hint("`--data` is the folder that `site init` or `agent enroll` was given"))
}

/// What the site in `data` published when it became ready; `None` if it ended cleanly or never ran.
pub(crate) fn running_site(data: &Path) -> Outcome<Option<RunningSite>> {
    read_run_file(data, "site").tried(|| format!("look for the site in {}", data.display()))
}

/// The API of the site in `data`, for who can read its folder.
pub(crate) fn site_api(data: &Path) -> Outcome<Api> {
    Api::new(&login::from_folder(data)?)
}
