//! The arguments of commands about objects, accounting and orders.

use std::path::PathBuf;

use clap::Args;
use muster_model::message::Severity;
use muster_model::name::Name;
use muster_model::period::Period;
use muster_model::state::Word;

use super::{Format, KeyFile};

#[derive(Args, Debug)]
pub(crate) struct Files {
    /// A manifest, a folder of manifests, or `-` for standard input.
    #[arg(short, long, required = true)]
    pub(crate) file: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Only say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The set that these manifests are.
    #[arg(long, value_name = "NAME")]
    pub(crate) set: Option<String>,
    /// Delete what the set applied before and does not name now.
    #[arg(long, requires = "set")]
    pub(crate) prune: bool,
    #[command(flatten)]
    pub(crate) key: KeyFile,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Only this kind.
    pub(crate) kind: Option<String>,
    /// Only this object.
    pub(crate) name: Option<String>,
    /// With `metadata.revision`, so that `apply` refuses what changed meanwhile.
    #[arg(long)]
    pub(crate) revisions: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// packages, collections, advertisements or devices.
    pub(crate) kind: String,
    /// One object, by name or id.
    pub(crate) name: Option<String>,
    /// The most items.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// package, collection, advertisement, device, or settings.
    pub(crate) kind: String,
    /// The object, by name or id.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// package, collection or advertisement.
    pub(crate) kind: String,
    /// The object, by name or id.
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// package, collection, advertisement or device.
    pub(crate) kind: String,
    /// The object, by name or id.
    pub(crate) name: String,
    /// Its name from now on.
    pub(crate) to: Name,
}

#[derive(Args, Debug)]
pub(crate) struct Accounting {
    /// The advertisement, by name or id; or `verify`.
    pub(crate) advertisement: String,
    /// One occurrence: first#1.
    #[arg(long)]
    pub(crate) occurrence: Option<String>,
    /// Every occurrence of each device.
    #[arg(long, conflicts_with = "occurrence")]
    pub(crate) all: bool,
    /// Only devices that stand there.
    #[arg(long)]
    pub(crate) state: Option<Word>,
    /// The most devices.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The device, by name or id.
    pub(crate) device: String,
    /// The advertisement, by name or id.
    pub(crate) advertisement: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// The device, by name or id.
    pub(crate) device: String,
    /// The advertisement, by name or id.
    pub(crate) advertisement: String,
    /// Every run that has ended, the oldest first.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Messages {
    /// Only of this device.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Only about this advertisement.
    #[arg(long)]
    pub(crate) advertisement: Option<String>,
    /// Only this severe or worse: info, warning, error.
    #[arg(long, value_parser = severity)]
    pub(crate) severity: Option<Severity>,
    /// Go on with what comes.
    #[arg(long)]
    pub(crate) follow: bool,
    /// The most messages, the newest.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Error];
    let found = all.into_iter().find(|one| one.word() == text);
    found.ok_or_else(|| "a severity is info, warning or error".to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The advertisement, by name or id.
    pub(crate) advertisement: String,
    /// complete, settled, or a condition like 'succeeded>=95%'.
    #[arg(long = "for", value_name = "CONDITION")]
    pub(crate) condition: String,
    /// How long.
    #[arg(long, default_value = "5m")]
    pub(crate) timeout: Period,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The advertisement, by name or id.
    pub(crate) advertisement: String,
    /// End what runs, too.
    #[arg(long)]
    pub(crate) kill: bool,
    /// Why.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// The advertisement, by name or id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) advertisement: Option<String>,
    /// Everything, after `halt`.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Rerun {
    /// The advertisement, by name or id.
    pub(crate) advertisement: String,
    /// Only devices that stand there.
    #[arg(long)]
    pub(crate) state: Option<Word>,
    /// Only this device; may be given several times.
    #[arg(long)]
    pub(crate) device: Vec<String>,
    /// Why.
    #[arg(long, required = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Halt {
    /// Really everything.
    #[arg(long, required = true)]
    pub(crate) all: bool,
    /// End what runs, too.
    #[arg(long)]
    pub(crate) kill: bool,
    /// Why.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// The folder of a site or an agent on this machine; without it, the current context's site.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}
