//! What earlier releases left on disk, as `kill -9` left it, goes on under this version: the folders of a
//! site and of two devices, with outcomes that nobody had heard and programs that were running.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::recount::recount;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");

/// Unpacks the fixture of `release` into the scratch folder of a fleet; answers how far the clock has
/// to be set so that it is an hour after the fixture was made.
fn unpack(fleet: &Fleet, release: &str) -> String {
    let fixture = Path::new(FIXTURES).join(release);
    let packed = fixture.join("fleet.tar.gz");
    let done = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(fleet.dir.path()).status();
    assert!(done.unwrap().success(), "the fixture of {release} can be unpacked");
    let made: Value =
        serde_json::from_slice(&std::fs::read(fixture.join("made.json")).unwrap()).unwrap();
    let now = muster_host::clock::Clock::from_env().unwrap().wall().0 / 1_000;
    let shift = now - made["made"].as_i64().unwrap() - 3_600;
    format!("{:+}s", -shift)
}

/// Changes a file of the fixture that names the place where it was made.
fn edit(fleet: &Fleet, file: &str, change: impl FnOnce(&mut Value)) {
    let path = fleet.path(file);
    let mut document = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut document);
    std::fs::write(&path, document.to_string()).unwrap();
}

/// The devices have a root here, and the site a port that is free here.
fn resettle(fleet: &Fleet) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site: Value =
        serde_json::from_slice(&std::fs::read(fleet.path("site/run/site.json")).unwrap()).unwrap();
    let (old, new) =
        (site["url"].as_str().unwrap().to_owned(), format!("https://127.0.0.1:{port}"));
    let (old_address, new_address) = (old.replace("https://", ""), new.replace("https://", ""));
    let text = std::fs::read_to_string(fleet.path("site/site.json")).unwrap();
    fleet.write("site/site.json", &text.replace(&old_address, &new_address));
    for device in ["d1", "d2"] {
        let root = fleet.path(&format!("{device}-root"));
        std::fs::create_dir_all(&root).unwrap();
        edit(fleet, &format!("{device}/identity.json"), |document| {
            document["siteUrl"] = new.clone().into();
        });
        edit(fleet, &format!("{device}/settings.json"), |document| document["root"] = root.into());
    }
}

#[test]
fn a_fleet_of_release_0_1_goes_on_where_it_was_killed() {
    let mut fleet = Fleet::empty();
    let clock = unpack(&fleet, "0.1");
    let env = [("MUSTER_CLOCK", clock.as_str()), ("MUSTER_BOOT_ID", "another")];
    let devices = ["d1", "d2"].map(|name| fleet.path(name));
    let said = recount(&fleet.path("site"), &devices);
    assert_eq!(said.code, 0, "{}", said.said());
    for device in ["d1", "d2"] {
        let status = fleet.status(device);
        assert!(status["outbox"]["length"].as_u64() > Some(0), "{status}");
        let mut states = status["obligations"].as_array().unwrap().iter();
        assert!(states.any(|one| one["name"] == "slow" && one["state"] == "running"), "{status}");
    }
    resettle(&fleet);
    let site = fleet.path("site");
    fleet.start_with("site", &["site", "run", "--data", &site], &env);
    fleet.url = fleet.site_file("site")["url"].as_str().unwrap().to_owned();
    fleet.ok(&["login", "--data", &site]);
    for device in ["d1", "d2"] {
        fleet.start_agent(device, &env);
    }
    for device in ["d1", "d2"] {
        fleet.stands(device, "good", "succeeded");
        fleet.stands(device, "bad", "failed");
        fleet.stands(device, "cut-off", "succeeded");
        fleet.stands(device, "slow", "interrupted");
        fleet.stands(device, "choice", "available");
        fleet.stands(device, "later", "waiting");
        let held = fleet.stands(device, "held", "waiting");
        assert!(held["reason"].as_str().unwrap().contains("stopped"), "{held}");
    }
    fleet.advertise("after", "good", &["d1", "d2"], json!({}));
    fleet.stands("d1", "after", "succeeded");
    fleet.stands("d2", "after", "succeeded");
    fleet.ok(&["accounting", "verify"]);
    let said = recount(&site, &devices);
    assert_eq!(said.code, 0, "{}", said.said());
}
