//! The command line: words and flags, nothing else. What a command does stands in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use muster_model::name::Name;
use muster_model::period::Period;

mod objects;
mod parts;

pub(crate) use objects::*;
pub(crate) use parts::*;

/// Software distribution that accounts for every machine.
#[derive(Parser, Debug)]
#[command(name = "muster", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The context to use instead of the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How an answer is printed.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Format {
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Set up, run, back up and restore a site.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Enrol a device, run its agent, and ask the device itself.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Log on to a site, and make it the current context.
    Login(Login),
    /// Log off: the credential ends, and the context is gone.
    Logout,
    /// Who is logged on to the site.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Tokens that let devices, access points and people in.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Devices of the site.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// The publisher's key and the trust document.
    #[command(subcommand)]
    Publisher(PublisherCommand),
    /// Publish, import and revoke packages.
    #[command(subcommand)]
    Package(PackageCommand),
    /// Make the site hold what manifests say.
    Apply(Apply),
    /// What `apply` would change. Exits 3 if there is something.
    Diff(Files),
    /// Print every object as manifests that `apply` reads.
    Export(Export),
    /// List objects, or show one as a manifest with its status.
    Get(Get),
    /// Show one object in words, or `settings`.
    Describe(Describe),
    /// Delete an object; its accounting stays readable.
    Delete(Delete),
    /// Give an object another name; its id and history stay.
    Rename(Rename),
    /// Where each targeted device stands; `accounting verify` checks every invariant.
    Accounting(Accounting),
    /// Why a device stands where it stands with an advertisement, and what happens next.
    Why(Why),
    /// What an advertisement's newest run on a device printed: its beginning and its end.
    Logs(Logs),
    /// Status messages, newest last.
    Messages(Messages),
    /// Wait until an advertisement is where it should be. Exits 4 at the time-out.
    Wait(Wait),
    /// Stop an advertisement: nothing of it starts until `resume`.
    Stop(Stop),
    /// Let a stopped advertisement go on, or everything after `halt`.
    Resume(Resume),
    /// Run again on chosen devices, as a new occurrence.
    Rerun(Rerun),
    /// Stop everything: no program starts on any device until `resume --all`.
    Halt(Halt),
    /// What was set aside: messages that could not be applied, with their bytes and reason.
    #[command(subcommand, name = "set-aside")]
    SetAside(SetAsideCommand),
    /// How a site or an agent stands.
    Status(Status),
    /// Parts of a site or an agent that a person can hold still.
    #[command(subcommand)]
    Component(ComponentCommand),
    /// Ask the site's database one question in SQL; changes nothing.
    Query(Query),
    /// Print the JSON Schema of manifests, for editors and pipelines.
    Schema(Format),
    /// Check this installation: site, database, content, certificates, clocks.
    Doctor(Doctor),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the names of all durable points, where a test may have a process killed.
    #[command(hide = true)]
    Failpoints,
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SiteCommand {
    /// Make a new site in an empty folder.
    Init(SiteInit),
    /// Run the site; SIGTERM ends it cleanly.
    Run {
        /// The site's folder.
        #[arg(long)]
        data: PathBuf,
    },
    /// Write a backup of a running or stopped site into one file.
    Backup {
        /// The site's folder.
        #[arg(long)]
        data: PathBuf,
        /// A file that does not exist yet.
        file: PathBuf,
        /// A file whose first line seals the keys in the backup.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Make a site from a backup, with a new epoch.
    Restore {
        /// An empty folder.
        #[arg(long)]
        data: PathBuf,
        /// The backup.
        file: PathBuf,
        /// A file whose first line opens the keys in the backup.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// An empty PostgreSQL database, for a site that kept its state in one.
        #[arg(long, value_name = "URL")]
        database: Option<String>,
    },
    /// Change settings: `pollWait=30s`. Without arguments: show them.
    Settings {
        /// NAME=VALUE, or nothing.
        changes: Vec<String>,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SiteInit {
    /// An empty folder for everything the site keeps.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The site's three-character code.
    #[arg(long)]
    pub(crate) code: String,
    /// The address to listen on; port 0 is chosen once and kept.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: String,
    /// A PostgreSQL database instead of SQLite: postgres://USER@HOST/NAME.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// Where content is kept: file:///DIR. Default: a folder below the data folder.
    #[arg(long, value_name = "URL")]
    pub(crate) content: Option<String>,
    /// The address put into certificates and tokens. Default: from --listen.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The most that the folder may hold: 500M, 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AgentCommand {
    /// Give this device an identity at a site. Doing it again changes nothing.
    Enroll(Box<Enroll>),
    /// Run the agent; SIGTERM ends it cleanly, running programs go on.
    Run {
        /// The agent's folder.
        #[arg(long)]
        data: PathBuf,
        /// A file that says who is logged on, a name a line or a JSON array, for this time.
        #[arg(long, value_name = "FILE")]
        session_source: Option<PathBuf>,
    },
    /// Give the identity up.
    Leave {
        /// The agent's folder.
        #[arg(long)]
        data: PathBuf,
    },
    /// Make the folder one for a golden image: it keeps how the device is set up, and nothing of who it
    /// is. With a token, each copy of the image enrols by itself at its first boot.
    Generalize(Generalize),
    /// What the device knows of itself, also without its site.
    Status {
        /// The agent's folder.
        #[arg(long)]
        data: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// Look at everything the agent keeps, and change nothing: beside a running agent, or without one.
    /// Exits 1 if something is not as it should be; the site is told by the agent.
    Verify {
        /// The agent's folder.
        #[arg(long)]
        data: PathBuf,
        #[command(flatten)]
        format: Format,
    },
    /// What is advertised to this device, and where it stands; start it or put it off.
    Software(Software),
    /// Start what is advertised: an available program, or a mandatory one before its time.
    Install(Install),
    /// The device's own messages; with a name, what that advertisement's newest run printed.
    Log {
        /// The agent's folder.
        #[arg(long)]
        data: PathBuf,
        /// An advertisement, by name or id.
        name: Option<String>,
        /// Every run of it that the device still knows, the oldest first.
        #[arg(long, requires = "name")]
        all: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct Software {
    /// The agent's folder.
    #[arg(long, global = true)]
    pub(crate) data: Option<PathBuf>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) action: Option<SoftwareCommand>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum SoftwareCommand {
    /// What is advertised to this device, and where it stands: the same as without a word.
    List,
    /// Start what is advertised: an available program, or a mandatory one before its time.
    Install {
        /// The advertisement's name or id, or its package's name.
        name: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Put off a start of which notice was given, as far as its deadline allows.
    Defer {
        /// The advertisement's name or id, or its package's name.
        name: String,
        /// For how long, from now.
        #[arg(long = "for", default_value = "1h", value_name = "TIME")]
        time: Period,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Install {
    /// The agent's folder.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The advertisement's name or id, or its package's name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// Whether to wait for the end.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Waiting {
    /// Wait until it has ended. Exits 1 if it did not succeed, 4 at the time-out.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "1h", requires = "wait")]
    pub(crate) timeout: Period,
}

#[derive(Args, Debug)]
pub(crate) struct Enroll {
    /// A folder for everything the agent keeps.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The site, or any of its access points.
    #[arg(long, value_name = "URL")]
    pub(crate) site: String,
    #[command(flatten)]
    pub(crate) token: TokenSource,
    /// The device's name. Default: the host name.
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// The folder that programs install below. Default: `/`.
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
    /// The most that the folder may hold: 500M, 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<String>,
    /// How the agent restarts the machine.
    #[arg(long, value_name = "CMD")]
    pub(crate) restart_command: Option<String>,
    /// A file that says who is logged on, a name a line or a JSON array.
    #[arg(long, value_name = "FILE")]
    pub(crate) session_source: Option<PathBuf>,
    /// A setting of this device over its site's: pollWait=1s.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Generalize {
    /// The agent's folder.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The site, or any of its access points, that copies enrol at. Default: this device's own.
    #[arg(long, value_name = "URL")]
    pub(crate) site: Option<String>,
    /// The token that copies enrol with; `-` reads it from standard input. It needs a use for each copy.
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file that holds that token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Give up outcomes that have not reached the site.
    #[arg(long)]
    pub(crate) discard: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Where a token comes from: never an argument in production, where others could read it.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct TokenSource {
    /// The token itself; `-` reads it from standard input.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Login {
    /// The site's address.
    #[arg(required_unless_present = "data", conflicts_with = "data")]
    pub(crate) url: Option<String>,
    /// The token itself; `-` reads it from standard input.
    #[arg(long, conflicts_with = "data")]
    pub(crate) token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "token"])]
    pub(crate) token_file: Option<PathBuf>,
    /// The site's own folder, for who can read it.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenCreate {
    /// Whom it lets in: agent, access-point, site, admin, auditor, help-desk, pipeline, child-site.
    #[arg(long, default_value = "agent")]
    pub(crate) role: String,
    /// The name that its bearer must have.
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// The collection that its devices join.
    #[arg(long)]
    pub(crate) collection: Option<Name>,
    /// How often it lets somebody in.
    #[arg(long, default_value_t = 1)]
    pub(crate) uses: u32,
    /// How long it is good.
    #[arg(long, default_value = "24h")]
    pub(crate) ttl: Period,
    /// Its devices wait for `muster device approve`.
    #[arg(long)]
    pub(crate) hold: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DeviceCommand {
    /// All devices.
    List(Listing),
    /// Admit a device that waits, or clear a suspicion.
    Approve {
        /// Its name or id.
        device: String,
    },
    /// Retire a device: its certificate ends, what it owes is `lost(retired)`.
    Retire {
        /// Its name or id.
        device: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Listing {
    /// The most items; all pages are fetched up to it.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args, Debug)]
pub(crate) struct KeyFile {
    /// The publisher's key. Default: beside the context file.
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PublisherCommand {
    /// Make a key, and propose it to the site as trust document 1.
    Init {
        #[command(flatten)]
        key: KeyFile,
        /// The publisher's name.
        #[arg(long)]
        name: Option<Name>,
        /// Only print the public key.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Add a publisher, signed by yours.
    Add {
        /// The new publisher's name.
        name: Name,
        /// Its public key, 64 hex digits.
        public: String,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Remove a publisher, signed by yours; what only that publisher signed starts no more.
    Revoke {
        /// The publisher's name.
        name: Name,
        /// Only say what would start no more.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        key: KeyFile,
        #[command(flatten)]
        format: Format,
    },
    /// Replace your own key by a new one, which signs again what the old one signed.
    Rotate {
        #[command(flatten)]
        key: KeyFile,
    },
    /// The publishers of the newest trust document.
    List(Format),
}

#[derive(Subcommand, Debug)]
pub(crate) enum PackageCommand {
    /// Sign a package with the local publisher's key and give it to the site.
    Publish {
        /// The manifest.
        file: PathBuf,
        /// A folder or file instead of the one that the manifest names.
        #[arg(long)]
        content: Option<PathBuf>,
        #[command(flatten)]
        key: KeyFile,
        #[command(flatten)]
        format: Format,
    },
    /// Make a package of a Debian package, and publish it.
    Import {
        /// FILE.deb.
        file: PathBuf,
        /// Also the packages that it depends on, from the same folder or by apt.
        #[arg(long)]
        with_depends: bool,
        /// The package's name here. Default: Debian's.
        #[arg(long)]
        name: Option<Name>,
        #[command(flatten)]
        key: KeyFile,
        #[command(flatten)]
        format: Format,
    },
    /// Forbid a version: nothing of it starts any more.
    Revoke {
        /// NAME@VERSION.
        package: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        format: Format,
    },
}
