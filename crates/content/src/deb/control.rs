//! The control archive: name, version, needs, configuration files, scripts.

use std::collections::BTreeMap;
use std::io::Read;

use super::DebRefused;
use super::listing::{clean_path, entries};

/// Bytes of `control` or `conffiles`. The longest control files (kernels, metapackages with long
/// lists of needs) have some 50 KiB.
pub const FIELD_BYTES_MAX: u64 = 1024 * 1024;
/// Characters of a name or version, as a package's own may have.
const NAME_CHARS_MAX: usize = 128;
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// What the control archive says.
#[derive(Debug, Default)]
pub(super) struct Control {
    fields: BTreeMap<String, String>,
    pub(super) conffiles: Vec<String>,
    pub(super) has_maintainer_scripts: bool,
}

/// Reads the whole control archive.
pub(super) fn read_control(archive: impl Read) -> Result<Control, DebRefused> {
    let mut control = Control::default();
    let mut seen = false;
    entries("control", archive, |entry, content| {
        let text = |content: &mut dyn Read| {
            let mut text = String::new();
            let part = &entry.path;
            let read = content.take(FIELD_BYTES_MAX + 1).read_to_string(&mut text);
            read.map_err(DebRefused::read(part))?;
            if text.len() as u64 > FIELD_BYTES_MAX {
                let detail = format!("it is longer than {FIELD_BYTES_MAX} bytes");
                return Err(DebRefused::Entry { archive: "control", path: part.clone(), detail });
            }
            Ok(text)
        };
        match entry.path.as_str() {
            "control" => {
                control.fields = paragraph(&text(content)?)?;
                seen = true;
            }
            "conffiles" => control.conffiles = conffiles(&text(content)?)?,
            script if SCRIPTS.contains(&script) => control.has_maintainer_scripts = true,
            // md5sums, triggers, shlibs: dpkg's business.
            _ => {}
        }
        Ok(())
    })?;
    match seen {
        true => Ok(control),
        false => Err(DebRefused::NotADeb("its control archive has no control file".to_owned())),
    }
}

/// The one paragraph of a control file (deb-control(5)): fields by lower-case name, each with its
/// first line. Further lines are passed over: in a built package only descriptions have them.
fn paragraph(text: &str) -> Result<BTreeMap<String, String>, DebRefused> {
    let mut fields = BTreeMap::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) || line.trim_end().is_empty() {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return fault(line, "the line has no colon");
        };
        let value = value.trim();
        if value.chars().any(char::is_control) {
            return fault(name, "it has a control character");
        }
        if fields.insert(name.to_ascii_lowercase(), value.to_owned()).is_some() {
            return fault(name, "it stands twice");
        }
    }
    Ok(fields)
}

fn fault<T>(field: &str, detail: &str) -> Result<T, DebRefused> {
    let field = field.chars().take(80).collect();
    Err(DebRefused::Control { field, detail: detail.to_owned() })
}

/// The paths in `conffiles`, made relative. Lines with a flag in front name files that an upgrade
/// removes: the package does not bring them.
fn conffiles(text: &str) -> Result<Vec<String>, DebRefused> {
    let absolute = text.lines().map(str::trim_end).filter(|line| line.starts_with('/'));
    absolute.map(|line| clean_path("control", line.trim_start_matches('/').as_bytes())).collect()
}

impl Control {
    /// The field, or an empty text.
    pub(super) fn optional(&self, field: &str) -> String {
        self.fields.get(&field.to_ascii_lowercase()).cloned().unwrap_or_default()
    }

    /// A field of these characters that must be there; it ends up in shell scripts' input.
    fn word(
        &self,
        field: &str,
        starts: impl Fn(char) -> bool,
        allowed: &str,
    ) -> Result<String, DebRefused> {
        let value = self.optional(field);
        let fits = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
        if !value.starts_with(starts) || !value.chars().all(fits) || value.len() > NAME_CHARS_MAX {
            let shown: String = value.chars().take(NAME_CHARS_MAX).collect();
            return fault(field, &format!("{shown:?} is missing or not what Debian allows"));
        }
        Ok(value)
    }

    pub(super) fn package(&self) -> Result<String, DebRefused> {
        let name = self.word("Package", |c| c.is_ascii_alphanumeric(), "+-.")?;
        match name.bytes().any(|b| b.is_ascii_uppercase()) {
            true => fault("Package", &format!("{name:?} has a capital letter")),
            false => Ok(name),
        }
    }

    pub(super) fn version(&self) -> Result<String, DebRefused> {
        self.word("Version", |c| c.is_ascii_digit(), ".+~-:")
    }

    pub(super) fn architecture(&self) -> Result<String, DebRefused> {
        self.word("Architecture", |c| c.is_ascii_lowercase(), "-")
    }

    /// `Installed-Size`, which counts in KiB.
    pub(super) fn installed_bytes(&self) -> Result<u64, DebRefused> {
        let text = self.optional("Installed-Size");
        if text.is_empty() {
            return Ok(0);
        }
        match text.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)) {
            Some(bytes) => Ok(bytes),
            None => fault("Installed-Size", &format!("{text:?} is not a number of KiB")),
        }
    }
}
