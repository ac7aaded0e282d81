//! What roles take from their surroundings, and what they leave there: ports, time zones, signals, the
//! files that tell others where they are.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};
use crate::proxy::Proxy;

#[test]
fn an_agent_behind_a_proxy_on_another_port_works_and_survives_its_cuts() {
    let mut fleet = Fleet::new();
    let proxy = Proxy::before(fleet.url.strip_prefix("https://").unwrap());
    let url = format!("https://127.0.0.1:{}", proxy.port);
    let token = fleet.token(1);
    assert_eq!(fleet.enroll("d1", &token, &["--site", &url]).code, 0);
    fleet.start_agent("d1", &[]);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("first", "mark", &["d1"], json!({}));
    fleet.stands("d1", "first", "succeeded");
    proxy.cut(true);
    fleet.advertise("second", "mark", &["d1"], json!({}));
    until("the device says what is wrong", || {
        (!fleet.status("d1")["trouble"].as_array().unwrap().is_empty()).then_some(())
    });
    assert_eq!(fleet.truth().len(), 1, "it asks nobody else");
    proxy.cut(false);
    fleet.stands("d1", "second", "succeeded");
    assert!(fleet.status("d1")["trouble"].as_array().unwrap().is_empty());
    assert_eq!(fleet.status("d1")["url"], url);
}

#[test]
fn a_time_without_offset_is_the_devices_own() {
    let mut fleet = Fleet::new();
    let token = fleet.token(2);
    for (name, zone) in [("east", "EAST-12"), ("west", "WEST12")] {
        assert_eq!(fleet.enroll(name, &token, &[]).code, 0);
        fleet.start_agent(name, &[("TZ", zone)]);
    }
    fleet.publish("mark", &fleet.mark(""), json!({}));
    // What a clock in London shows lies twelve hours back in the east, and ahead in the west.
    let now = fleet.json(&["get", "devices"])["items"].as_array().unwrap().len();
    assert_eq!(now, 2);
    let london = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S"]).output();
    let london = String::from_utf8(london.unwrap().stdout).unwrap();
    let when = json!({"assignments": [{"at": london.trim()}]});
    fleet.advertise("noon", "mark", &["east", "west"], when);
    fleet.stands("east", "noon", "succeeded");
    until("the west has taken it", || {
        let rows = fleet.json(&["accounting", "noon"])["devices"].clone();
        let row = rows.as_array()?.iter().find(|row| row["name"] == "west")?.clone();
        (row["state"] != "targeted").then_some(())
    });
    assert_eq!(fleet.truth(), ["ran east 1"]);
}

#[test]
fn a_port_of_zero_is_chosen_once_outside_the_ephemeral_range_and_told_atomically() {
    let mut fleet = Fleet::bare();
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ends: Vec<u16> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
    let port: u16 = fleet.url.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(!(ends[0]..=ends[1]).contains(&port), "{port} in {range}");
    let (path, stop) = (fleet.path("site/run/site.json"), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while !stopped.load(Ordering::Relaxed) {
            let text = std::fs::read(&path).expect("it is never away");
            let file: Value = serde_json::from_slice(&text).expect("it is never half there");
            assert!(file["caPin"].is_string() && file["metricsUrl"].is_string(), "{file}");
            read += 1;
        }
        read
    });
    let first = fleet.site_file("site");
    for _ in 0..3 {
        fleet.kill("site");
        fleet.restart("site");
        let again = fleet.site_file("site");
        for name in ["url", "metricsUrl", "caPin"] {
            assert_eq!(again[name], first[name]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 100);
}

#[test]
fn sigterm_ends_roles_cleanly_and_no_program() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    for (name, file) in [("d1", "d1/run/agent.json"), ("site", "site/run/site.json")] {
        let ended = fleet.terminate(name);
        assert_eq!((ended.code(), ended.signal()), (Some(0), None), "{}", fleet.log_of(name));
        assert!(!std::path::Path::new(&fleet.path(file)).exists(), "{file}");
    }
    let busy = fleet.refused(1, &["agent", "leave", "--data", &fleet.path("d1")]);
    assert!(busy.contains("still goes on"), "{busy}");
    fleet.open_gate();
    fleet.restart("site");
    fleet.restart("d1");
    fleet.stands("d1", "gated", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn who_left_or_was_retired_comes_back_as_another_device() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    let first = fleet.status("d1")["device"].clone();
    assert_eq!(fleet.terminate("d1").code(), Some(0));
    fleet.ok(&["agent", "leave", "--data", &fleet.path("d1")]);
    let said = fleet.refused(1, &["agent", "run", "--data", &fleet.path("d1")]);
    assert!(said.contains("not enrolled"), "{said}");
    fleet.ok(&["device", "retire", "d2"]);
    until("the retired device is told", || {
        fleet.status("d2")["trouble"].to_string().contains("retired").then_some(())
    });
    assert!(
        fleet.ended("d2").is_none(),
        "it waits, and ends by nobody's word: {}",
        fleet.log_of("d2")
    );
    fleet.terminate("d2");
    fleet.ok(&["agent", "leave", "--data", &fleet.path("d2")]);
    let token = fleet.token(2);
    fleet.agent("d1", &token);
    fleet.agent("d2", &token);
    assert_ne!(fleet.status("d1")["device"], first);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    // The device that left without being retired bears the name still: a name alone is ambiguous.
    let ambiguous = fleet.run(&["device", "retire", "d1"]);
    assert_ne!(ambiguous.code, 0);
    assert!(ambiguous.err.contains(first.as_str().unwrap()), "{}", ambiguous.said());
    fleet.ok(&["device", "retire", first.as_str().unwrap()]);
    fleet.advertise("ad", "mark", &["d1", "d2"], json!({}));
    fleet.stands("d1", "ad", "succeeded");
    fleet.stands("d2", "ad", "succeeded");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn what_lies_in_a_sites_folder_is_its_owners_alone() {
    let fleet = Fleet::new();
    let shared = fleet.path("shared");
    std::fs::create_dir(&shared).unwrap();
    fleet.ok(&["site", "init", "--data", &shared, "--code", "XYZ", "--listen", "127.0.0.1:0"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(Path::new(&fleet.path("site"))), 0o700);
    for folder in [fleet.path("site"), shared] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        }
    }
}
