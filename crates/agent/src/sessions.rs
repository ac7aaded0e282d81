//! Who is logged on: what the system says, or a file that says it in its place.
//!
//! Looked at by the driver every few seconds and whenever the file or folder changes, and by the
//! conditions right before a run. What cannot be read is nobody.

use std::fs;
use std::path::{Path, PathBuf};

use muster_host::publish::read_if_there;
use serde::Deserialize;

use crate::env::Session;

/// One file for each session, as systemd-logind keeps them and sd-login(3) reads them.
const LOGIND_SESSIONS: &str = "/run/systemd/sessions";
/// A folder for each user who is logged on, by uid, as pam_systemd(8) makes it.
pub(crate) const RUNTIME_FOLDERS: &str = "/run/user";
/// A name for each user who is logged on, in a file that somebody else writes.
const SESSION_BYTES_MAX: u64 = 1024 * 1024;

/// Who knows who is logged on.
#[derive(Clone, Debug)]
pub enum Sessions {
    /// A file with one name a line, or a JSON array; a missing or empty one is nobody.
    File(PathBuf),
    /// The folder of systemd-logind; without it nobody is known to be.
    Logind(PathBuf),
}

/// One session in a file of JSON: a name, or an object that has one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Name(String),
    User {
        user: String,
        /// The address of the session's bus, where it is not the one that systemd makes.
        #[serde(default)]
        bus: Option<String>,
    },
}

impl Sessions {
    /// What `source` says, or the system if there is none.
    pub fn of(source: Option<PathBuf>) -> Self {
        match source {
            Some(file) => Sessions::File(file),
            None => Sessions::Logind(LOGIND_SESSIONS.into()),
        }
    }

    /// The names of the users who are logged on, in order, each once.
    pub fn users(&self) -> Vec<String> {
        let mut users = match self {
            Sessions::File(file) => named(&text(file)),
            Sessions::Logind(folder) => {
                let sessions = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
                sessions.filter_map(|session| user_of(&text(&session.path()))).collect()
            }
        };
        users.sort();
        users.dedup();
        users
    }

    /// The address of a user's session bus, if the source says one.
    pub(crate) fn bus_of(&self, name: &str) -> Option<String> {
        let Sessions::File(file) = self else { return None };
        let sessions: Vec<Listed> = serde_json::from_str(&text(file)).ok()?;
        sessions.into_iter().find_map(|session| match session {
            Listed::User { user, bus } if user == name => bus,
            _ => None,
        })
    }

    /// What a program for a user who is logged on sees of the session.
    pub(crate) fn session_of(&self, name: &str, uid: u32) -> Session {
        let runtime = Path::new(RUNTIME_FOLDERS).join(uid.to_string());
        let bus = self.bus_of(name).or_else(|| bus_below(Path::new(RUNTIME_FOLDERS), uid).ok());
        Session { user: name.to_owned(), runtime: runtime.is_dir().then_some(runtime), bus }
    }

    /// The folder in which a change shows, and the name in it, if it is one file's.
    pub(crate) fn place(&self) -> (PathBuf, Option<&Path>) {
        match self {
            Sessions::Logind(folder) => (folder.clone(), None),
            Sessions::File(file) => {
                let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = file.file_name().map(Path::new);
                (folder.unwrap_or(Path::new(".")).to_owned(), name)
            }
        }
    }
}

/// The address of a user's bus, as systemd makes it; or where it is missing.
pub(crate) fn bus_below(folder: &Path, uid: u32) -> Result<String, String> {
    let socket = folder.join(uid.to_string()).join("bus");
    match socket.exists() {
        true => Ok(format!("unix:path={}", socket.display())),
        false => Err(format!("there is no session bus at {}", socket.display())),
    }
}

/// Names in a session source.
fn named(text: &str) -> Vec<String> {
    let name = |session| match session {
        Listed::Name(name) | Listed::User { user: name, .. } => name,
    };
    match serde_json::from_str::<Vec<Listed>>(text) {
        Ok(sessions) => sessions.into_iter().map(name).collect(),
        Err(_) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        }
    }
}

/// sd-login(3): whose session it is, if it is a person's (not a greeter's or a service's) and not about
/// to end.
fn user_of(session: &str) -> Option<String> {
    let says = |line| session.lines().any(|said| said == line);
    let value = |key| session.lines().find_map(|line| line.strip_prefix(key));
    (says("CLASS=user") && !says("STATE=closing"))
        .then(|| value("USER=").or(value("UID=")).unwrap_or("somebody").to_owned())
}

fn text(path: &Path) -> String {
    let bytes = read_if_there(path, SESSION_BYTES_MAX).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, users: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sessions");
        fs::write(&file, text).unwrap();
        assert_eq!(Sessions::of(Some(file)).users(), users);
    }

    #[test]
    fn a_source_is_lines_or_json() {
        check("", &[]);
        check("\n", &[]);
        check("lin\n\n ada \nlin\n", &["ada", "lin"]);
        check("[]", &[]);
        check(r#"["lin", {"user": "ada"}]"#, &["ada", "lin"]);
    }

    #[test]
    fn a_source_may_name_the_bus_of_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sessions");
        fs::write(&file, r#"["lin", {"user": "ada", "bus": "unix:path=/b"}]"#).unwrap();
        let sessions = Sessions::of(Some(file));
        assert_eq!(sessions.users(), ["ada", "lin"]);
        assert_eq!(sessions.bus_of("ada").as_deref(), Some("unix:path=/b"));
        assert_eq!(sessions.bus_of("lin"), None);
    }

    #[test]
    fn without_a_bus_the_reason_names_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let why = bus_below(dir.path(), 4242).unwrap_err();
        assert!(why.contains("4242/bus"), "{why}");
    }

    #[test]
    fn a_missing_source_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Sessions::of(Some(dir.path().join("sessions"))).users(), [""; 0]);
        assert_eq!(Sessions::Logind(dir.path().join("sessions")).users(), [""; 0]);
    }

    #[test]
    fn of_the_systems_sessions_those_of_people_count() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("c1", "UID=120\nUSER=gdm\nSTATE=active\nCLASS=greeter\n"),
            ("7", "UID=1000\nUSER=lin\nSTATE=closing\nCLASS=user\n"),
            ("8", "UID=1001\nUSER=ada\nSTATE=online\nCLASS=user\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(Sessions::Logind(dir.path().to_owned()).users(), ["ada"]);
    }
}
