//! What a program said of itself in its result file: a JSON document or a status MIF.
//!
//! Read by the supervisor once everything that the program started has ended. The program may have
//! left anything there: a folder, a pipe, a link to somebody else's file, gigabytes. What cannot be read
//! says nothing about the run, but that is said: the exit code then decides, and the message names
//! what was wrong with the file.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use muster_agent_core::input::{ResultForm, RunResult};
use nix::libc;

use crate::mif;
use crate::run_folder::Product;

/// A result file that says more is not read.
const RESULT_BYTES_MAX: u64 = 64 * 1024;
/// What is kept of the line that a program says of itself.
const DESCRIPTION_CHARS_MAX: usize = 1_000;

/// What the file at `path` says of the run of a program of `product`; `None` if there is none, or an
/// empty one.
pub(crate) fn read(path: &Path, product: Option<&Product>) -> Option<RunResult> {
    let said = match bytes(path) {
        Ok(Some(bytes)) if bytes.iter().all(u8::is_ascii_whitespace) => return None,
        Ok(Some(bytes)) => said(&bytes, product),
        Ok(None) => return None,
        Err(why) => Err(why),
    };
    let mut result = said.unwrap_or_else(|why| RunResult {
        ignored: Some(format!("the result file says nothing: {why}")),
        ..RunResult::default()
    });
    for text in [Some(&mut result.description), result.ignored.as_mut()].into_iter().flatten() {
        if let Some((cut, _)) = text.char_indices().nth(DESCRIPTION_CHARS_MAX) {
            text.truncate(cut);
        }
    }
    Some(result)
}

/// The bytes of the file itself: nothing is followed, and nothing is waited for.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().is_ok_and(|seen| seen.is_file()) {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(RESULT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match bytes.len() as u64 {
        ..=RESULT_BYTES_MAX => Ok(Some(bytes)),
        _ => Err(format!("it has more than {RESULT_BYTES_MAX} bytes")),
    }
}

fn said(bytes: &[u8], product: Option<&Product>) -> Result<RunResult, String> {
    if !mif::looks_like_one(bytes) {
        return serde_json::from_slice::<RunResult>(bytes)
            .map(|said| RunResult { form: ResultForm::Json, ignored: None, ..said })
            .map_err(|why| format!("it is neither JSON ({why}) nor a status MIF"));
    }
    let mif = mif::parse(bytes).map_err(|why| format!("it is no status MIF: {why}"))?;
    if let Some(other) = product.and_then(|product| mismatch(&mif, product)) {
        return Err(format!("it is a status MIF of {other}"));
    }
    Ok(RunResult {
        succeeded: Some(mif.succeeded),
        restart: false,
        description: mif.description,
        form: ResultForm::StatusMif,
        ignored: None,
    })
}

/// What a status MIF is about, if that is something else than the package. What it does not say fits.
fn mismatch(mif: &mif::StatusMif, product: &Product) -> Option<String> {
    let fits = |said: &str, own: &str| said.is_empty() || said.eq_ignore_ascii_case(own);
    if !fits(&mif.product, &product.name) {
        return Some(format!("product {:?}, not {:?}", mif.product, product.name));
    }
    (!fits(&mif.version, &product.version))
        .then(|| format!("version {:?}, not {:?}", mif.version, product.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product() -> Product {
        Product { name: "hello".to_owned(), version: "2.10".to_owned() }
    }

    fn mif(product: &str, version: &str) -> String {
        let attribute = |name, value| {
            format!("START ATTRIBUTE NAME = \"{name}\" VALUE = \"{value}\" END ATTRIBUTE ")
        };
        let group = |class, attributes: String| {
            format!("START GROUP CLASS = \"{class}\" {attributes} END GROUP ")
        };
        let about = attribute("Product", product) + &attribute("Version", version);
        let said = attribute("Status", "Failed") + &attribute("Description", "no room");
        format!(
            "START COMPONENT {} {} END COMPONENT",
            group("DMTF|ComponentID|1.0", about),
            group("MICROSOFT|JOBSTATUS|1.0", said)
        )
    }

    fn read_text(text: &str) -> Option<RunResult> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        std::fs::write(&path, text).unwrap();
        read(&path, Some(&product()))
    }

    #[track_caller]
    fn ignored(text: &str, said: &str) {
        let found = read_text(text).unwrap();
        assert_eq!(found.succeeded, None);
        let why = found.ignored.unwrap();
        assert!(why.contains(said), "{why}");
    }

    #[test]
    fn a_json_result_is_read() {
        let found = read_text(r#"{"succeeded": true, "restart": true, "description": "x"}"#);
        let found = found.unwrap();
        assert_eq!(
            (found.succeeded, found.restart, found.form),
            (Some(true), true, ResultForm::Json)
        );
        // It cannot pretend to be a form that it is not.
        let form =
            read_text(r#"{"succeeded": true, "form": "status-mif", "ignored": "x"}"#).unwrap();
        assert_eq!((form.form, form.ignored), (ResultForm::Json, None));
    }

    #[test]
    fn a_status_mif_of_this_package_or_of_none_is_read() {
        for (name, version) in [("hello", "2.10"), ("HELLO", ""), ("", "")] {
            let found = read_text(&mif(name, version)).unwrap();
            assert_eq!((found.succeeded, found.form), (Some(false), ResultForm::StatusMif));
            assert_eq!(found.description, "no room");
        }
    }

    #[test]
    fn a_status_mif_of_something_else_is_left_out_and_named() {
        ignored(&mif("other", "2.10"), "a status MIF of product \"other\", not \"hello\"");
        ignored(&mif("hello", "2.9"), "a status MIF of version \"2.9\", not \"2.10\"");
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        ignored("well done", "neither JSON");
        ignored("START COMPONENT", "no status MIF: line 1");
        ignored(&"x".repeat(RESULT_BYTES_MAX as usize + 1), "more than 65536 bytes");
        ignored(r#"{"succeeded": "yes"}"#, "neither JSON");
        assert_eq!(read_text(" \n"), None);
        let long = format!(r#"{{"description": "{}"}}"#, "ü".repeat(5_000));
        assert_eq!(read_text(&long).unwrap().description.chars().count(), DESCRIPTION_CHARS_MAX);
    }

    #[test]
    fn nothing_but_a_file_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let why = |name: &str| read(&at(name), None).unwrap().ignored.unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        assert!(why("folder").contains("no file"));
        std::fs::write(at("secret"), r#"{"description": "secret"}"#).unwrap();
        std::os::unix::fs::symlink(at("secret"), at("link")).unwrap();
        assert!(!why("link").contains("secret"));
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        assert!(why("pipe").contains("no file"));
        assert_eq!(read(&at("none"), None), None);
    }
}
