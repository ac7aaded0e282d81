//! What a run or a detection sees: its whole environment, and which file its first word means.
//!
//! Part of the contract that programs are written against. Nothing of the agent's own environment is
//! inherited; what stands here is all there is. Used by the driver when it arms a run or starts a
//! detection.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use muster_model::id::{AdvertisementId, DeviceId};
use muster_model::message::RunId;
use muster_model::name::Name;
use muster_model::parameter::Values;

/// Where commands are sought that are not in the package.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What programs print is UTF-8 and not translated.
const LANG: &str = "C.UTF-8";

/// What is the same for everything that this device runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub device_name: Name,
    /// The folder that programs install below.
    pub root: PathBuf,
    /// The home of the agent's user.
    pub home: PathBuf,
    /// The time zone, as the variable TZ names it.
    pub zone: String,
}

/// What a program or detection is run for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The advertisement.
    pub advertisement: AdvertisementId,
    /// Its name.
    pub advertisement_name: &'a str,
    /// Its private copy of the package.
    pub content: &'a Path,
    /// A folder of its own for what it needs only while it runs.
    pub tmp: &'a Path,
    /// The run; `None` for a detection.
    pub run: Option<RunPurpose<'a>>,
}

/// What only a run has.
#[derive(Clone, Copy, Debug)]
pub struct RunPurpose<'a> {
    /// The run.
    pub run: RunId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Where it may leave a result.
    pub result: &'a Path,
    /// The values of its parameters.
    pub parameters: &'a Values,
    /// The home of the user it runs as, if that is another than the agent's.
    pub home: Option<&'a Path>,
    /// The session that it is for, if it runs for each user who is logged on.
    pub session: Option<&'a Session>,
}

/// What a run for a user who is logged on sees of their session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The user's name.
    pub user: String,
    /// The folder of what lives as long as the user is logged on, if there is one (XDG_RUNTIME_DIR).
    pub runtime: Option<PathBuf>,
    /// The address of the session's bus, if there is one.
    pub bus: Option<String>,
}

impl Session {
    fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let names = ["USER", "LOGNAME", "MUSTER_USER"].map(|name| (name, self.user.clone()));
        let runtime = self.runtime.iter().map(|folder| ("XDG_RUNTIME_DIR", text(folder)));
        let bus = self.bus.iter().map(|address| ("DBUS_SESSION_BUS_ADDRESS", address.clone()));
        names.into_iter().chain(runtime).chain(bus)
    }
}

impl Surroundings {
    /// Home and time zone as this process has them.
    pub fn of(device: DeviceId, device_name: Name, root: PathBuf) -> Self {
        let home = env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        Self { device, device_name, root, home, zone: zone() }
    }

    /// The whole environment, in a fixed order.
    pub fn variables(&self, purpose: &Purpose<'_>) -> Vec<(String, String)> {
        let mut variables = vec![
            ("PATH", PATH.to_owned()),
            ("HOME", text(purpose.run.and_then(|run| run.home).unwrap_or(&self.home))),
            ("LANG", LANG.to_owned()),
            ("TZ", self.zone.clone()),
            ("TMPDIR", text(purpose.tmp)),
            ("MUSTER_DEVICE", self.device.to_string()),
            ("MUSTER_DEVICE_NAME", self.device_name.to_string()),
            ("MUSTER_ADVERTISEMENT", purpose.advertisement.to_string()),
            ("MUSTER_ADVERTISEMENT_NAME", purpose.advertisement_name.to_owned()),
            ("MUSTER_CONTENT", text(purpose.content)),
            ("MUSTER_ROOT", text(&self.root)),
        ];
        if let Some(RunPurpose { run, attempt, result, session, .. }) = purpose.run {
            variables.extend(session.into_iter().flat_map(Session::variables));
            variables.push(("MUSTER_RUN_ID", run.to_string()));
            variables.push(("MUSTER_ATTEMPT", attempt.to_string()));
            variables.push(("MUSTER_RESULT", text(result)));
        }
        let parameters = purpose.run.iter().flat_map(|run| run.parameters);
        let parameters = parameters.map(|(name, value)| (name.variable(), value.to_string()));
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(parameters)
            .collect()
    }
}

/// `words` with the first one resolved to the file that is executed.
pub fn command(words: &[String], content: &Path) -> Vec<String> {
    let mut words = words.to_vec();
    if let Some(first) = words.first_mut() {
        *first = text(&resolve_program(first, content));
    }
    words
}

/// The file that `word` names: a bare word is sought in the package's copy, then on the fixed
/// [`PATH`]; a path is taken from the copy, which is the working directory. What is found nowhere is
/// named as it would stand in the copy, so that the failure to execute it says where it was missed.
pub fn resolve_program(word: &str, content: &Path) -> PathBuf {
    // An absolute path replaces what it is joined to.
    let own = content.join(word);
    if word.contains('/') || is_program(&own) {
        return own;
    }
    let sought = PATH.split(':').map(|folder| Path::new(folder).join(word));
    sought.into_iter().find(|path| is_program(path)).unwrap_or(own)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|seen| seen.is_file() && seen.permissions().mode() & 0o111 != 0)
}

/// The agent's own TZ, or the system's time zone by its name in the time zone database.
fn zone() -> String {
    let own = env::var("TZ").ok().filter(|zone| !zone.is_empty());
    let named = || TimeZone::system().iana_name().map(str::to_owned);
    // Without a name, the file itself; a colon says so (POSIX 8.3).
    own.or_else(named).unwrap_or_else(|| ":/etc/localtime".to_owned())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    use std::fs::Permissions;
    use std::process::Command;

    fn surroundings() -> Surroundings {
        Surroundings {
            device: DeviceId(Uuid::from_u128(1)),
            device_name: Name::new("d 1").unwrap(),
            root: PathBuf::from("/srv/root"),
            home: PathBuf::from("/root"),
            zone: "Europe/Berlin".to_owned(),
        }
    }

    fn purpose(run: Option<RunPurpose<'_>>) -> Purpose<'_> {
        Purpose {
            advertisement: AdvertisementId(Uuid::from_u128(2)),
            advertisement_name: "hello to all",
            content: Path::new("/data/runs/1/content"),
            tmp: Path::new("/data/runs/1/tmp"),
            run,
        }
    }

    fn executable(path: PathBuf, mode: u32) -> PathBuf {
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_run_sees_exactly_the_contract() {
        let run = RunId(muster_model::digest::Digest::ZERO);
        let result = Path::new("/data/runs/1/result");
        let parameters =
            serde_json::from_str(r#"{"mode": "a b", "n": -3, "quiet": true}"#).unwrap();
        let run = RunPurpose {
            run,
            attempt: 2,
            result,
            parameters: &parameters,
            home: None,
            session: None,
        };
        let purpose = purpose(Some(run));
        let seen =
            Command::new("env").env_clear().envs(surroundings().variables(&purpose)).output();
        let seen = String::from_utf8(seen.unwrap().stdout).unwrap();
        let mut lines: Vec<_> = seen.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "HOME=/root",
                "LANG=C.UTF-8",
                "MUSTER_ADVERTISEMENT=00000000-0000-0000-0000-000000000002",
                "MUSTER_ADVERTISEMENT_NAME=hello to all",
                "MUSTER_ATTEMPT=2",
                "MUSTER_CONTENT=/data/runs/1/content",
                "MUSTER_DEVICE=00000000-0000-0000-0000-000000000001",
                "MUSTER_DEVICE_NAME=d 1",
                "MUSTER_PARAM_MODE=a b",
                "MUSTER_PARAM_N=-3",
                "MUSTER_PARAM_QUIET=true",
                "MUSTER_RESULT=/data/runs/1/result",
                "MUSTER_ROOT=/srv/root",
                "MUSTER_RUN_ID=00000000000000000000000000000000",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TMPDIR=/data/runs/1/tmp",
                "TZ=Europe/Berlin",
            ]
        );
    }

    #[test]
    fn a_run_for_a_user_sees_the_session() {
        let run = RunId(muster_model::digest::Digest::ZERO);
        let mut session = Session { user: "ada".to_owned(), ..Session::default() };
        let parameters = Values::new();
        let result = Path::new("/data/runs/1/own/result");
        let seen = |session: &Session| {
            let (home, session) = (Some(Path::new("/srv/ada")), Some(session));
            let (attempt, parameters) = (1, &parameters);
            let run = RunPurpose { run, attempt, result, parameters, home, session };
            let of_user = |(name, _): &(String, String)| {
                ["HOME", "USER", "LOGNAME", "MUSTER_USER"].contains(&name.as_str())
                    || name.starts_with("XDG")
                    || name.starts_with("DBUS")
            };
            let variables = surroundings().variables(&purpose(Some(run)));
            let of_user = variables.into_iter().filter(of_user);
            of_user.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let without = ["HOME=/srv/ada", "USER=ada", "LOGNAME=ada", "MUSTER_USER=ada"];
        assert_eq!(seen(&session), without);
        session.runtime = Some("/run/user/1000".into());
        session.bus = Some("unix:path=/run/user/1000/bus".to_owned());
        let with = [
            "XDG_RUNTIME_DIR=/run/user/1000",
            "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
        ];
        assert_eq!(seen(&session), [&without[..], &with[..]].concat());
    }

    #[test]
    fn a_detection_sees_no_run() {
        let variables = surroundings().variables(&purpose(None));
        let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 11);
        assert!(!names.iter().any(|name| name.contains("RUN") || name.contains("RESULT")));
    }

    #[test]
    fn a_bare_word_is_sought_in_the_package_and_then_on_the_path() {
        let copy = tempfile::tempdir().unwrap();
        let copy = copy.path();
        let sh = resolve_program("sh", copy);
        assert!(sh.starts_with("/usr/bin") || sh.starts_with("/bin"), "{sh:?}");
        let own = executable(copy.join("sh"), 0o755);
        assert_eq!(resolve_program("sh", copy), own);
        // What cannot be executed does not hide what can.
        executable(copy.join("sh"), 0o644);
        assert_eq!(resolve_program("sh", copy), sh);
        fs::create_dir(copy.join("env")).unwrap();
        assert_ne!(resolve_program("env", copy), copy.join("env"));
        assert_eq!(resolve_program("no-such-command", copy), copy.join("no-such-command"));
    }

    #[test]
    fn a_path_is_taken_from_the_copy_and_an_absolute_one_as_it_is() {
        let copy = Path::new("/copy");
        assert_eq!(resolve_program("bin/go", copy), Path::new("/copy/bin/go"));
        assert_eq!(resolve_program("/bin/sh", copy), Path::new("/bin/sh"));
        let words = ["/bin/sh".to_owned(), "-c".to_owned(), "true".to_owned()];
        assert_eq!(command(&words, copy), words);
        assert_eq!(command(&[], copy), Vec::<String>::new());
    }
}
