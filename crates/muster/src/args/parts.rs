//! The arguments of commands about a role as a whole: its parts, its state, who is logged on, questions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_model::id::{PrincipalId, TokenId};

use super::{Format, TokenCreate};

/// A role on this machine instead of the current context's site.
#[derive(Args, Debug)]
pub(crate) struct Role {
    /// The folder of a site or an agent on this machine; without it, the current context's site.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ComponentCommand {
    /// The parts of a role, and whether they are held still.
    List {
        #[command(flatten)]
        role: Role,
        #[command(flatten)]
        format: Format,
    },
    /// Hold a part still; nothing is lost.
    Pause {
        /// Its name.
        name: String,
        #[command(flatten)]
        role: Role,
    },
    /// Let a part go on.
    Resume {
        /// Its name.
        name: String,
        #[command(flatten)]
        role: Role,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Query {
    /// One `select`: "select name, last_contact from device"; `-` reads it from standard input.
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown once.
    Create(TokenCreate),
    /// The tokens that still let somebody in.
    List(Format),
    /// Make a token void; whom it has let in stays.
    Revoke {
        /// Its id.
        id: TokenId,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum CredentialCommand {
    /// Who is logged on.
    List(Format),
    /// End a log-on: its credential is good for nothing from now on.
    Revoke {
        /// Its id.
        id: PrincipalId,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SetAsideCommand {
    /// All items.
    List {
        #[command(flatten)]
        role: Role,
        #[command(flatten)]
        format: Format,
    },
    /// One item with its bytes.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        role: Role,
        #[command(flatten)]
        format: Format,
    },
    /// Apply it once more.
    Retry {
        /// Its id.
        id: String,
        #[command(flatten)]
        role: Role,
    },
    /// Give it up; the count of what was dropped stays.
    Drop {
        /// Its id.
        id: String,
        #[command(flatten)]
        role: Role,
    },
}

impl SetAsideCommand {
    /// Whose items are meant.
    pub(crate) fn role(&self) -> &Role {
        match self {
            Self::List { role, .. }
            | Self::Show { role, .. }
            | Self::Retry { role, .. }
            | Self::Drop { role, .. } => role,
        }
    }
}
