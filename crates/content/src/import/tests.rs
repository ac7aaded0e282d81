//! Imports made and their scripts run for real: below a root, and by dpkg in a root of its own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the scripts")]

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tar::EntryType;
use tempfile::TempDir;

use super::*;
use crate::deb::Compression;
use crate::testing::debs::{Item, control, deb, greet};
use crate::tree::TreeBuilder;

fn read(bytes: &[u8]) -> Deb {
    Deb::read(&mut Cursor::new(bytes)).unwrap()
}

/// A machine in a folder: the content of a package, a root, and the scripts' environment. Every
/// path has a blank in it.
struct Machine {
    dir: TempDir,
    variables: Vec<(&'static str, PathBuf)>,
}

/// How a script ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    said: String,
    errors: String,
}

impl Machine {
    /// With a root of its own, below which is unpacked.
    fn with_root() -> Self {
        let dir = tempfile::Builder::new().prefix("a muster ").tempdir().unwrap();
        fs::create_dir(dir.path().join("the root")).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        let path = |name: &str| dir.path().join(name);
        let variables = vec![
            ("MUSTER_CONTENT", path("the content")),
            ("MUSTER_ROOT", path("the root")),
            ("TMPDIR", path("tmp")),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ];
        Self { dir, variables }
    }

    /// With dpkg: the root is `/` for the scripts, while dpkg works below a folder of the test.
    fn with_dpkg() -> Self {
        let mut machine = Self::with_root();
        let root = machine.root();
        fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
        fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        machine.set("MUSTER_ROOT", "/".into());
        machine.set("DPKG_ADMINDIR", root.join("var/lib/dpkg"));
        // The variable replaces dpkg's own default, which is `downgrade`.
        machine.set("DPKG_FORCE", "not-root,downgrade".into());
        machine.set("DPKG_ROOT", root);
        machine
    }

    fn set(&mut self, name: &'static str, value: PathBuf) {
        self.variables.retain(|(other, _)| *other != name);
        self.variables.push((name, value));
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("the root")
    }

    /// Puts an import's content in place, as an agent would.
    fn content(&self, debs: &[&[u8]]) {
        let content = self.dir.path().join("the content");
        let _ = fs::remove_dir_all(&content);
        let read: Vec<_> = debs.iter().map(|bytes| read(bytes)).collect();
        for file in import(&read).unwrap().files {
            let path = content.join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match &file.content {
                ImportContent::Bytes(bytes) => fs::write(path, bytes).unwrap(),
                ImportContent::Deb(place) => fs::write(path, debs[*place]).unwrap(),
            }
        }
    }

    fn run(&self, script: &str) -> Ended {
        let mut command = Command::new("/bin/sh");
        command.arg(script).env_clear().envs(self.variables.iter().cloned());
        let output = command.current_dir(self.dir.path().join("the content")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let left: Vec<_> = fs::read_dir(self.dir.path().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{script} left {left:?}");
        Ended {
            code: output.status.code().unwrap(),
            said: text(output.stdout),
            errors: text(output.stderr),
        }
    }

    #[track_caller]
    fn check(&self, script: &str, code: i32, said: &str) {
        let ended = self.run(script);
        let all = format!("{}{}", ended.said, ended.errors);
        assert!(ended.code == code && all.contains(said), "{script}: {ended:#?}");
    }

    #[track_caller]
    fn holds(&self, path: &str, content: &str) {
        assert_eq!(fs::read_to_string(self.root().join(path)).unwrap(), content);
    }

    fn lacks(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root().join(path)).is_err()
    }
}

const FILES: [(&str, &str); 3] = [
    ("etc/greet.conf", "name=world\n"),
    ("usr/bin/greet", "echo hello\n"),
    ("usr/share/greet/a file - with blanks'\"$(id)`", "text\n"),
];

fn greet_1() -> Vec<u8> {
    greet("1.0-1", &FILES, &["etc/greet.conf"])
}

fn greet_2() -> Vec<u8> {
    let mut files = FILES;
    (files[0].1, files[1].1) = ("name=moon\n", "echo hello again\n");
    greet("2.0-1", &files, &["etc/greet.conf"])
}

#[test]
fn an_import_is_a_valid_package() {
    let import = import(&[read(&greet_1())]).unwrap();
    assert_eq!(import.spec.check(), []);
    assert_eq!((import.name.as_str(), import.spec.version.as_str()), ("greet", "1.0-1"));
    assert_eq!(import.spec.program("install").unwrap().words(), ["sh", "install.sh"]);
    let remove = import.spec.program("remove").unwrap();
    assert_eq!(
        (remove.achieves, remove.package_manager),
        (Achieves::Absent, Some(PackageManager::Dpkg))
    );
    assert_eq!(import.spec.program("install").unwrap().disk, Some(3 * 1024));
    let mut tree = TreeBuilder::new(|_, _: &[u8]| Ok(()));
    for file in &import.files {
        tree.add_file(&file.path, file.mode, &b""[..]).unwrap();
    }
    tree.finish().unwrap();
}

#[test]
fn packages_that_do_not_go_together_are_refused() {
    let with = |package: &str, architecture: &str| Deb {
        package: package.to_owned(),
        architecture: architecture.to_owned(),
        ..read(&greet_1())
    };
    let refused = |debs: &[Deb], said: &str| {
        let error = import(debs).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    let platform = |debs: &[Deb]| import(debs).unwrap().spec.programs[0].platform.clone().unwrap();
    assert_eq!(platform(&[with("a", "all")]), "linux");
    assert_eq!(platform(&[with("a", "all"), with("b", "arm64")]), "linux/aarch64");
    assert_eq!(platform(&[with("a", "amd64"), with("b", "all")]), "linux/x86_64");
    refused(&[], "0 Debian packages");
    refused(&[with("a", "all"), with("a", "amd64")], "a is among them twice");
    refused(&[with("a", "amd64"), with("b", "arm64")], "b: it is for arm64");
    refused(&[with("a", "riscv64")], "no agent runs on architecture riscv64");
    let many: Vec<_> = (0..=IMPORT_DEBS_MAX).map(|n| with(&format!("p{n}"), "all")).collect();
    refused(&many, "513 Debian packages");
}

#[test]
fn below_a_root_it_is_unpacked_detected_and_removed() {
    let machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.check("detect.sh", 1, "missing or differ");
    machine.check("install.sh", 0, "detected by digests: greet 1.0-1");
    machine.check("detect.sh", 0, "detected by digests: greet 1.0-1");
    for (path, content) in FILES {
        machine.holds(path, content);
    }
    machine.check("install.sh", 0, "kept configuration file etc/greet.conf");
    machine.check("remove.sh", 0, "removed below");
    machine.check("detect.sh", 1, "missing or differ");
    assert_eq!(fs::read_dir(machine.root()).unwrap().count(), 0);
    machine.check("remove.sh", 0, "removed below");
}

#[test]
fn every_packing_is_unpacked_with_and_without_dpkg_deb() {
    for compression in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        for with_dpkg_deb in [true, false] {
            let mut machine = Machine::with_root();
            if !with_dpkg_deb {
                machine.set("PATH", tools_but(&machine, "dpkg-deb"));
            }
            let data = [Item::file("usr/bin/greet", "hello"), Item::file("./other", "x")];
            let control = Item::file("./control", &control("greet", "1"));
            machine.content(&[&deb(&[control], &data, compression)]);
            machine.check("install.sh", 0, "unpacked below");
            machine.check("detect.sh", 0, "detected by digests");
            machine.holds("usr/bin/greet", "hello");
        }
    }
}

/// A folder of links to the tools that the scripts may use, without one of them.
fn tools_but(machine: &Machine, without: &str) -> PathBuf {
    let bin = machine.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for tool in [
        "dirname",
        "tail",
        "head",
        "gzip",
        "xz",
        "zstd",
        "tar",
        "sha256sum",
        "readlink",
        "mktemp",
        "rm",
        "rmdir",
        "cat",
        "grep",
        "dpkg-deb",
    ] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        if let Some(tool_path) = found.iter().find(|path| path.exists() && tool != without) {
            symlink(tool_path, bin.join(tool)).unwrap();
        }
    }
    bin
}

#[test]
fn a_changed_file_is_not_present_and_install_repairs_it() {
    let machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.check("install.sh", 0, "unpacked");
    fs::write(machine.root().join("usr/bin/greet"), "echo pwned\n").unwrap();
    machine.check("detect.sh", 1, "missing or differ");
    machine.check("install.sh", 0, "unpacked");
    machine.holds("usr/bin/greet", "echo hello\n");
    machine.check("detect.sh", 0, "greet 1.0-1");
}

#[test]
fn a_configuration_file_is_the_administrators() {
    let machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.check("install.sh", 0, "unpacked");
    fs::write(machine.root().join("etc/greet.conf"), "name=ada\n").unwrap();
    machine.check("detect.sh", 0, "greet 1.0-1");

    machine.content(&[&greet_2()]);
    machine.check("detect.sh", 1, "missing or differ");
    machine.check("install.sh", 0, "kept configuration file etc/greet.conf");
    machine.check("detect.sh", 0, "greet 2.0-1");
    machine.holds("etc/greet.conf", "name=ada\n");
    machine.holds("usr/bin/greet", "echo hello again\n");

    machine.check("remove.sh", 0, "kept configuration file etc/greet.conf: it was changed");
    machine.holds("etc/greet.conf", "name=ada\n");
    assert!(machine.lacks("usr"));
}

#[test]
fn removal_leaves_what_belongs_to_others() {
    let machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.check("install.sh", 0, "unpacked");
    fs::write(machine.root().join("usr/bin/other"), "mine").unwrap();
    machine.check("remove.sh", 0, "removed below");
    machine.holds("usr/bin/other", "mine");
    assert!(machine.lacks("usr/bin/greet") && machine.lacks("usr/share") && machine.lacks("etc"));
}

#[test]
fn links_are_detected_and_removed() {
    let machine = Machine::with_root();
    let target = "/etc/alternatives/greet with blanks";
    let data = [Item::link("./usr/bin/hi", EntryType::Symlink, target)];
    let control = Item::file("./control", &control("greet", "1"));
    machine.content(&[&deb(&[control], &data, Compression::Xz)]);
    machine.check("detect.sh", 1, "the link usr/bin/hi");
    machine.check("install.sh", 0, "unpacked");
    machine.check("detect.sh", 0, "detected by digests");
    let link = machine.root().join("usr/bin/hi");
    fs::remove_file(&link).unwrap();
    symlink("/elsewhere", &link).unwrap();
    machine.check("detect.sh", 1, "the link usr/bin/hi");
    machine.check("remove.sh", 0, "removed");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/elsewhere"), "not ours to remove");
}

#[test]
fn a_package_of_folders_is_detected_by_them() {
    let machine = Machine::with_root();
    let control = Item::file("./control", &control("greet", "1"));
    machine.content(&[&deb(&[control], &[Item::folder("./var/greet")], Compression::Gzip)]);
    machine.check("detect.sh", 1, "the folder var/greet");
    machine.check("install.sh", 0, "unpacked");
    machine.check("detect.sh", 0, "greet 1");
    machine.check("remove.sh", 0, "removed");
    assert!(machine.lacks("var"));
}

#[test]
fn nothing_is_unpacked_or_removed_through_a_link() {
    let machine = Machine::with_root();
    let outside = machine.dir.path().join("outside");
    fs::create_dir_all(outside.join("bin")).unwrap();
    fs::write(outside.join("bin/greet"), "precious").unwrap();
    symlink(&outside, machine.root().join("usr")).unwrap();
    machine.content(&[&greet_1()]);
    machine.check("install.sh", 1, "usr is a link");
    machine.check("remove.sh", 1, "usr is a link");
    assert_eq!(fs::read_to_string(outside.join("bin/greet")).unwrap(), "precious");
    assert!(machine.lacks("etc"));
}

#[test]
fn what_it_needs_is_unpacked_before_it_and_stays() {
    let machine = Machine::with_root();
    let need = [Item::file("./control", &control("libgreet", "7"))];
    let need = deb(&need, &[Item::file("./usr/lib/libgreet.so", "so")], Compression::Zstd);
    machine.content(&[&greet_1(), &need]);
    machine.check("install.sh", 0, "detected by digests: greet 1.0-1");
    machine.holds("usr/lib/libgreet.so", "so");
    machine.check("remove.sh", 0, "removed");
    machine.holds("usr/lib/libgreet.so", "so");
    assert!(machine.lacks("usr/bin"));
}

#[test]
fn what_cannot_be_done_says_so() {
    let mut machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    fs::write(machine.dir.path().join("the content/greet_1.0-1_all.deb"), "cut short").unwrap();
    machine.check("install.sh", 1, "greet_1.0-1_all.deb cannot be unpacked");
    machine.set("MUSTER_ROOT", machine.dir.path().join("no such"));
    machine.check("install.sh", 2, "is not a folder");
    machine.check("remove.sh", 2, "is not a folder");
    machine.check("detect.sh", 2, "is not a folder");
    let mut machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.set("PATH", tools_but(&machine, "sha256sum"));
    machine.check("detect.sh", 2, "sha256sum does not work");
}

#[test]
fn in_the_root_dpkg_installs_is_asked_and_removes() {
    let machine = Machine::with_dpkg();
    machine.content(&[&greet_1()]);
    machine.check("detect.sh", 1, "dpkg does not know greet");
    machine.check("install.sh", 0, "installed with dpkg: greet 1.0-1");
    machine.check("detect.sh", 0, "installed with dpkg: greet 1.0-1");
    for (path, content) in FILES {
        machine.holds(path, content);
    }
    machine.check("install.sh", 0, "installed with dpkg");
    fs::write(machine.root().join("etc/greet.conf"), "name=ada\n").unwrap();

    machine.content(&[&greet_2()]);
    machine.check("detect.sh", 1, "ok installed 1.0-1");
    machine.check("install.sh", 0, "installed with dpkg: greet 2.0-1");
    machine.holds("etc/greet.conf", "name=ada\n");

    machine.check("remove.sh", 0, "removed with dpkg: greet");
    machine.check("detect.sh", 1, "config-files");
    machine.check("remove.sh", 0, "nothing to remove");
    assert!(machine.lacks("usr/bin/greet"));
}

fn needing(package: &str, version: &str, depends: &str) -> Vec<u8> {
    let fields = control(package, version) + depends;
    let file = Item::file(&format!("./usr/lib/{package}"), version);
    let data = [Item::folder("./usr"), Item::folder("./usr/lib"), file];
    deb(&[Item::file("./control", &fields)], &data, Compression::Xz)
}

#[test]
fn with_dpkg_what_it_needs_is_added_and_raised_but_never_lowered() {
    let machine = Machine::with_dpkg();
    let lib = |version: &str| needing("libgreet", version, "");
    let main = needing("greet", "1", "Depends: libgreet (>= 1)\n");
    machine.content(&[&main]);
    machine.check("install.sh", 1, "greet depends on libgreet");
    machine.check("detect.sh", 1, "dpkg does not know greet");

    machine.content(&[&main, &lib("1.5")]);
    machine.check("install.sh", 0, "installed with dpkg: greet 1");
    machine.holds("usr/lib/libgreet", "1.5");
    machine.content(&[&main, &lib("1.10")]);
    machine.check("install.sh", 0, "installed with dpkg: greet 1");
    machine.holds("usr/lib/libgreet", "1.10");
    machine.content(&[&main, &lib("1.9")]);
    machine.check("install.sh", 0, "installed with dpkg: greet 1");
    machine.holds("usr/lib/libgreet", "1.10");

    machine.content(&[&needing("greet", "2", "Depends: libgreet (>= 3)\n")]);
    machine.check("install.sh", 1, "over what was there");
    machine.check("detect.sh", 1, "dpkg says");
    machine.content(&[&lib("1.10")]);
    machine.check("remove.sh", 1, "dpkg cannot remove libgreet");
}

#[test]
fn a_held_lock_of_dpkg_is_exit_75_and_changes_nothing() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let machine = Machine::with_dpkg();
    machine.content(&[&greet_1()]);
    let path = machine.root().join("var/lib/dpkg/lock-frontend");
    let lock = fs::File::create(path).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    machine.check("install.sh", 75, "lock is held; nothing was done");
    machine.check("detect.sh", 1, "dpkg does not know greet");
    drop(lock);
    machine.check("install.sh", 0, "installed with dpkg");
    let lock =
        fs::OpenOptions::new().write(true).open(machine.root().join("var/lib/dpkg/lock-frontend"));
    let lock = lock.unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    machine.check("remove.sh", 75, "lock is held; nothing was done");
    machine.check("detect.sh", 0, "installed with dpkg");
}

#[test]
fn without_dpkg_the_root_says_so_and_starts_nothing() {
    let mut machine = Machine::with_root();
    machine.content(&[&greet_1()]);
    machine.set("MUSTER_ROOT", "/".into());
    // The scripts add sbin to the PATH, where no Debian has dpkg.
    machine.set("PATH", tools_but(&machine, "dpkg-deb"));
    machine.check("detect.sh", 2, "dpkg-query does not work");
    machine.check("install.sh", 1, "dpkg is not on this machine");
    machine.check("remove.sh", 0, "dpkg does not have greet installed");
}

#[test]
fn modes_come_out_as_they_were() {
    let machine = Machine::with_root();
    let data = [Item { mode: 0o750, ..Item::file("./usr/bin/greet", "x") }];
    let control = Item::file("./control", &control("greet", "1"));
    machine.content(&[&deb(&[control], &data, Compression::None)]);
    machine.check("install.sh", 0, "unpacked");
    let mode = fs::metadata(machine.root().join("usr/bin/greet")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
}
