//! What the device says of itself, gathered where it runs. Claims, never an identity.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_host::publish;
use muster_model::facts::{EXTRA_FACTS_MAX, Fact, Facts};
use muster_model::name::Name;

use crate::config::Config;

/// The folder of extra facts in the data folder.
pub(crate) const FACTS_DIR: &str = "facts.d";
/// The largest file of extra facts.
const FACTS_BYTES_MAX: u64 = 64 * 1024;
/// The longest name and the longest text of an extra fact, in characters.
const FACT_CHARS_MAX: usize = 256;

/// The device's facts now. A file of extra facts that cannot be read is left out and logged: one bad
/// file never hides the others.
pub(crate) fn gather(data: &Path, name: &Name, config: &Config) -> Facts {
    Facts {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        name: name.to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        isolation: "session".to_owned(),
        root: config.root.to_string_lossy().into_owned(),
        extra: extra(&data.join(FACTS_DIR)),
    }
}

/// The name of the machine, for a device that was given none.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "device".to_owned() } else { name }
}

/// Files in the order of their names; a later one overrides an earlier one.
fn extra(folder: &Path) -> BTreeMap<String, Fact> {
    let mut facts = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return facts };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    for file in files {
        match read(&file) {
            Ok(more) => facts.extend(more.into_iter().filter(|(name, fact)| fits(name, fact))),
            Err(error) => tracing::warn!(file = %file.display(), %error, "extra facts left out"),
        }
    }
    while facts.len() > EXTRA_FACTS_MAX {
        facts.pop_last();
    }
    facts
}

fn read(file: &Path) -> Result<BTreeMap<String, Fact>, Box<dyn std::error::Error>> {
    Ok(serde_json::from_slice(&publish::read_limited(file, FACTS_BYTES_MAX)?)?)
}

fn fits(name: &str, fact: &Fact) -> bool {
    let long = |text: &str| text.chars().count() > FACT_CHARS_MAX;
    !name.is_empty() && !long(name) && !matches!(fact, Fact::Text(text) if long(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_facts_are_read_in_order_and_a_bad_file_is_left_out() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(FACTS_DIR);
        fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("a.json", r#"{"ring": 1, "site": "x"}"#),
            ("b.json", r#"{"ring": 2, "lab": true}"#),
            ("c.json", "{"),
            ("d.txt", r#"{"no": 1}"#),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let facts = gather(data.path(), &Name::new("d1").unwrap(), &Config::default());
        let extra: Vec<_> = facts.extra.into_iter().collect();
        let expected = [
            ("lab".to_owned(), Fact::Flag(true)),
            ("ring".to_owned(), Fact::Number(2)),
            ("site".to_owned(), Fact::Text("x".to_owned())),
        ];
        assert_eq!(extra, expected);
        assert_eq!((facts.os.as_str(), facts.root.as_str()), ("linux", "/"));
    }
}
