//! Contexts: which site the command line talks to, with its CA and the credential.
//!
//! `$MUSTER_CONFIG`, or `~/.config/muster/config.yaml`, mode 0600. `MUSTER_SITE` and `MUSTER_TOKEN`
//! override address and credential of the chosen context; `--context` chooses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Outcome, Tried};

/// The context file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The context in use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name: the site's code.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) url: String,
    /// The digest of its CA's public key.
    pub(crate) ca_pin: String,
    /// What the command line presents.
    pub(crate) credential: String,
    /// Who that is, for people.
    #[serde(default)]
    pub(crate) principal: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({})", self.url)
    }
}

/// Where the context file lies.
pub(crate) fn path() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("MUSTER_CONFIG") {
        return Ok(PathBuf::from(path));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| {
        Failure::new("failed to find the context file: neither MUSTER_CONFIG nor HOME is set")
            .hint("set MUSTER_CONFIG to a file of your own")
    })?;
    Ok(Path::new(&home).join(".config/muster/config.yaml"))
}

impl Config {
    /// Reads the file; a missing one is empty.
    pub(crate) fn load(path: &Path) -> Outcome<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error).tried(|| format!("read the context file {}", path.display()));
            }
        };
        let documents = crate::yaml::read(&text)
            .tried(|| format!("read the context file {}", path.display()))?;
        match documents.into_iter().next() {
            None => Ok(Self::default()),
            Some(document) => serde_json::from_value(document.value)
                .tried(|| format!("read the context file {}", path.display())),
        }
    }

    /// Writes the file, durably and for its owner only.
    pub(crate) fn save(&self, path: &Path) -> Outcome {
        let tried = || format!("write the context file {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).tried(tried)?;
        }
        let value = serde_json::to_value(self).tried(tried)?;
        muster_host::publish::durable_publish(path, crate::yaml::write(&value).as_bytes())
            .tried(tried)
    }

    /// The context to use, with the environment's overrides.
    pub(crate) fn choose(&self, named: Option<&str>) -> Outcome<Context> {
        let missing = || {
            Failure::new("no site to talk to")
                .hint("run `muster login URL --token-file FILE`, or `muster login --data SITE_DIR` on the site's machine")
        };
        let name = named.or(self.current.as_deref()).ok_or_else(missing)?;
        let mut context = self.contexts.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            Failure::usage(format!("no context is called `{name}`"))
                .hint(format!("known contexts: {}", known.join(", ")))
        })?;
        if let Ok(url) = std::env::var("MUSTER_SITE") {
            context.url = url;
        }
        if let Ok(credential) = std::env::var("MUSTER_TOKEN") {
            context.credential = credential;
        }
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_file_reads_back_as_written_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.yaml");
        let context = Context {
            url: "https://127.0.0.1:1".into(),
            ca_pin: "ab".into(),
            credential: "secret".into(),
            principal: "local".into(),
        };
        let config = Config {
            current: Some("ABC".into()),
            contexts: [("ABC".to_owned(), context.clone())].into(),
        };
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{context:?}").contains("secret"));
        assert_eq!(config.choose(Some("XYZ")).unwrap_err().exit, crate::error::Exit::Usage);
    }

    #[test]
    fn without_a_context_the_hint_says_how_to_get_one() {
        let failed = Config::default().choose(None).unwrap_err().to_string();
        assert!(failed.contains("muster login"), "{failed}");
    }
}
