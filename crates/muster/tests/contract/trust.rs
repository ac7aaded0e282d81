//! Publishers and real packages: what a device runs, and what it refuses whoever sends it.

use std::path::Path;

use serde_json::{Value, json};

use crate::fleet::Fleet;

#[test]
fn an_agent_enrolled_before_the_second_publisher_runs_its_package() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let key = fleet.path("bob.key");
    let bob = fleet.json(&["publisher", "init", "--offline", "--name", "bob", "--key", &key]);
    let file = fleet.package_file("bobs", "1", &fleet.mark(""), json!({}));
    let said = fleet.run(&["package", "publish", &file, "--key", &key]);
    assert_ne!(said.code, 0, "a stranger publishes nothing: {}", said.said());
    fleet.ok(&["publisher", "add", "bob", bob["public"].as_str().unwrap()]);
    fleet.ok(&["package", "publish", &file, "--key", &key]);
    fleet.advertise("bobs", "bobs", &["d1"], json!({}));
    fleet.stands("d1", "bobs", "succeeded");
    let status = fleet.json(&["agent", "status", "--data", &fleet.path("d1")]);
    assert_eq!(status["trust"]["number"], 2, "{status}");
    assert_eq!(status["trust"]["pinned"], true, "{status}");
}

#[test]
fn a_rotated_key_publishes_and_the_old_one_does_not() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    std::fs::copy(fleet.path("publisher.key"), fleet.path("old.key")).unwrap();
    fleet.ok(&["publisher", "rotate"]);
    let file = fleet.package_file("new", "1", &fleet.mark(""), json!({}));
    let old = fleet.path("old.key");
    assert_ne!(fleet.run(&["package", "publish", &file, "--key", &old]).code, 0);
    fleet.ok(&["package", "publish", &file]);
    fleet.advertise("new", "new", &["d1"], json!({}));
    fleet.stands("d1", "new", "succeeded");
}

/// The stored objects of a package.
fn objects(fleet: &Fleet, package: &str) -> Vec<String> {
    let found = fleet.json(&["get", "package", package]);
    let objects = found["status"]["objects"].as_array().unwrap().iter();
    objects.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The file of a stored object, wherever below the site's folder it lies.
fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|own| own == name) {
            return Some(path);
        }
    }
    None
}

#[test]
fn content_altered_or_cut_on_the_site_is_never_run() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    for (name, bend) in [
        ("flipped", (|bytes: &mut Vec<u8>| bytes[0] ^= 1) as fn(&mut Vec<u8>)),
        ("cut", |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2)),
    ] {
        fleet.publish(name, &fleet.mark(&format!("# {name}")), json!({}));
        let stored = objects(&fleet, name);
        assert!(stored.len() >= 2, "a manifest and a chunk: {stored:?}");
        for object in &stored {
            let file = find(Path::new(&fleet.path("site")), object).unwrap();
            let mut bytes = std::fs::read(&file).unwrap();
            bend(&mut bytes);
            let mut permissions = std::fs::metadata(&file).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
            std::fs::set_permissions(&file, permissions).unwrap();
            std::fs::write(&file, bytes).unwrap();
        }
        fleet.advertise(name, name, &["d1"], json!({}));
        let found = crate::fleet::until("a state with a reason", || {
            let found = fleet.json(&["accounting", name]);
            let row = found["devices"][0].clone();
            let state = row["state"].as_str()?;
            matches!(state, "waiting" | "failed").then_some(row)
        });
        assert!(found["reason"].as_str().unwrap().contains("content"), "{found}");
    }
    assert_eq!(fleet.truth().len(), 0);
}

#[test]
fn a_debian_package_is_installed_detected_and_removed_below_a_root() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let deb = fleet.path("tiny_1.0_all.deb");
    tiny_deb(&fleet, &deb);
    fleet.ok(&["package", "import", &deb]);
    let advertise = |name: &str, program: &str| {
        let file = fleet.write(
            "ad.yaml",
            &json!({"apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": name},
                "spec": {"package": "tiny", "program": program, "collection": "all",
                    "assignments": [{"at": "now"}]}})
            .to_string(),
        );
        fleet.ok(&["apply", "-f", &file]);
    };
    advertise("in", "install");
    let row = fleet.stands("d1", "in", "succeeded");
    assert_eq!(row["rule"], "detected", "{row}");
    let installed = fleet.path("d1-root/usr/share/tiny/it works");
    assert!(Path::new(&installed).exists());
    fleet.ok(&["delete", "advertisement", "in"]);
    advertise("out", "remove");
    fleet.stands("d1", "out", "succeeded");
    assert!(!Path::new(&installed).exists());
}

/// A real Debian package, made by Debian's own tool.
fn tiny_deb(fleet: &Fleet, deb: &str) {
    fleet.write("tiny/DEBIAN/control",
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: tiny\n");
    fleet.write("tiny/usr/share/tiny/it works", "yes\n");
    let built = std::process::Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build", &fleet.path("tiny"), deb])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}
