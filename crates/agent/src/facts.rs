//! What the device says of itself, gathered where it runs. Claims, never an identity.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_host::publish;
use muster_model::facts::{EXTRA_FACTS_MAX, Fact, Facts};
use muster_model::name::Name;

use crate::config::Config;
use crate::driver::Isolation;
use crate::machine;
use crate::versions;

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
        agent_version: versions::running(data),
        isolation: Isolation::of_this_machine().word().to_owned(),
        root: config.root.to_string_lossy().into_owned(),
        machine: machine::digest(),
        extra: {
            // What an administrator writes goes before what the machine shows.
            let mut all = shown();
            all.extend(extra(&data.join(FACTS_DIR)));
            all
        },
    }
}

/// What the machine shows of itself, for rules: `memoryMiB`, `processors`, `kernel`, and by
/// os-release(5) `distribution` and `distributionVersion`. What cannot be read is left out, and a rule
/// over it is unknown.
fn shown() -> BTreeMap<String, Fact> {
    let text = |path| {
        let bytes = publish::read_if_there(Path::new(path), FACTS_BYTES_MAX).ok().flatten();
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let memory = memory_mib(&text("/proc/meminfo")).map(Fact::Number);
    let processors = std::thread::available_parallelism().ok();
    let processors = processors.and_then(|n| i64::try_from(n.get()).ok()).map(Fact::Number);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let release = text("/etc/os-release");
    let of = |name| os_release(&release, name).map(Fact::Text);
    let shown = [
        ("memoryMiB", memory),
        ("processors", processors),
        ("kernel", Some(Fact::Text(kernel))),
        ("distribution", of("ID")),
        ("distributionVersion", of("VERSION_ID")),
    ];
    let known = shown.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?)));
    known.filter(|(name, fact)| fits(name, fact)).collect()
}

/// proc(5): `MemTotal:        8000000 kB`.
fn memory_mib(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// os-release(5): `ID=debian`, `VERSION_ID="12"`.
fn os_release(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let value = line.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// The name of the machine, for a device that was given none.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "device".to_owned() } else { name }
}

/// Files in the order of their names; a later one overrides an earlier one.
pub(crate) fn extra(folder: &Path) -> BTreeMap<String, Fact> {
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
        let extra: Vec<_> = extra(&folder).into_iter().collect();
        let expected = [
            ("lab".to_owned(), Fact::Flag(true)),
            ("ring".to_owned(), Fact::Number(2)),
            ("site".to_owned(), Fact::Text("x".to_owned())),
        ];
        assert_eq!(extra, expected);
        let facts = gather(data.path(), &Name::new("d1").unwrap(), &Config::default());
        assert_eq!((facts.os.as_str(), facts.root.as_str()), ("linux", "/"));
        assert_eq!(facts.extra["ring"], Fact::Number(2));
        assert!(matches!(facts.extra["memoryMiB"], Fact::Number(1..)), "{facts:?}");
        fs::write(folder.join("z.json"), r#"{"memoryMiB": 7}"#).unwrap();
        let said = gather(data.path(), &Name::new("d1").unwrap(), &Config::default());
        assert_eq!(said.extra["memoryMiB"], Fact::Number(7), "the administrator's word counts");
    }

    #[test]
    fn the_machine_is_read_as_the_manual_pages_say() {
        assert_eq!(memory_mib("MemTotal:        2097152 kB\nMemFree: 1 kB\n"), Some(2048));
        assert_eq!(memory_mib("MemFree: 1 kB\n"), None);
        let release = "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\nVARIANT_ID=\n";
        assert_eq!(os_release(release, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(release, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(release, "VARIANT_ID"), None);
        assert_eq!(os_release(release, "BUILD_ID"), None);
    }
}
