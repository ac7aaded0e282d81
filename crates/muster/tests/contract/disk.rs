//! Full disks and quotas: a state or a refusal, never a crash loop or a loss.

use serde_json::json;

use crate::fleet::{Fleet, fill, until};

#[test]
fn a_site_on_a_full_disk_refuses_by_name_and_loses_nothing() {
    let mut fleet = Fleet::empty();
    if !fleet.small_disk("site", "24m") {
        return;
    }
    fleet.site(&["--quota", "1GiB"]);
    fleet.ok(&["publisher", "init", "--name", "ada"]);
    fleet.agents(2);
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1", "d2"], json!({}));
    fleet.stands("d1", "gated", "running");
    fleet.stands("d2", "gated", "running");
    let filler = fill(&fleet.path("site"));
    fleet.open_gate();
    let package = fleet.package_file("late", "1", &fleet.mark(&"#".repeat(100_000)), json!({}));
    let refused = fleet.run(&["package", "publish", &package]);
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert!(refused.err.contains("no room"), "{}", refused.said());
    // The devices keep what they have to say, and the site answers what it can.
    fleet.ok(&["accounting", "gated"]);
    assert!(fleet.ended("site").is_none(), "{}", fleet.log_of("site"));
    // One that is started on a full disk says so, or serves; it never loses what was committed.
    fleet.kill("site");
    fleet.restart_with("site", &[("MUSTER_FAILPOINT", "")]);
    until("it serves or says why not", || {
        let ended = fleet.ended("site").is_some();
        (ended && fleet.log_of("site").contains("full")
            || fleet.run(&["accounting", "gated"]).code == 0)
            .then_some(())
    });
    std::fs::remove_file(filler).unwrap();
    if fleet.ended("site").is_some() {
        fleet.restart("site");
    }
    fleet.stands("d1", "gated", "succeeded");
    fleet.stands("d2", "gated", "succeeded");
    fleet.ok(&["package", "publish", &package]);
    assert_eq!(fleet.truth().len(), 2);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn an_agent_on_a_full_disk_tells_its_outcomes_and_starts_nothing_new() {
    let mut fleet = Fleet::new();
    if !fleet.small_disk("d1", "24m") {
        return;
    }
    fleet.agents(1);
    fleet.publish_gated();
    fleet.publish("next", &fleet.mark(""), json!({}));
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    let filler = fill(&fleet.path("d1"));
    fleet.open_gate();
    fleet.stands("d1", "gated", "succeeded");
    fleet.advertise("next", "next", &["d1"], json!({}));
    let row = fleet.stands("d1", "next", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("disk"), "{row}");
    // Killed on a full disk, it starts on a full disk.
    fleet.kill("d1");
    let before = fleet.log_of("d1").len();
    fleet.restart("d1");
    until("the agent goes on, and says that the disk is full", || {
        assert!(fleet.ended("d1").is_none(), "{}", fleet.log_of("d1"));
        fleet.log_of("d1")[before..].contains("are free").then_some(())
    });
    fleet.ok(&["agent", "software", "--data", &fleet.path("d1")]);
    assert_eq!(fleet.truth().len(), 1);
    std::fs::remove_file(filler).unwrap();
    fleet.stands("d1", "next", "succeeded");
    assert_eq!(fleet.truth().len(), 2);
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn quotas_hold_at_site_and_agent_and_are_named() {
    let mut fleet = Fleet::with(&["--quota", "12MiB"]);
    let big = |fleet: &Fleet, name: &str, bytes: usize| {
        let mut state = bytes as u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // Steele and Vigna's multiplier; nothing compresses it.
            state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect();
        std::fs::create_dir_all(fleet.path(name)).unwrap();
        std::fs::write(fleet.path(&format!("{name}/noise")), noise).unwrap();
        fleet.package_file(name, "1", &fleet.mark(""), json!({}))
    };
    let token = fleet.token(1);
    assert_eq!(fleet.enroll("d1", &token, &["--quota", "6MiB"]).code, 0);
    fleet.start_agent("d1", &[]);
    let fits = big(&fleet, "fits-the-site", 3_000_000);
    fleet.ok(&["package", "publish", &fits]);
    fleet.advertise("wide", "fits-the-site", &["d1"], json!({}));
    let row = fleet.stands("d1", "wide", "waiting");
    assert!(row["reason"].as_str().unwrap().starts_with("disk"), "{row}");
    let refused = (0..8).find_map(|n| {
        let file = big(&fleet, &format!("more{n}"), 3_000_000 + n);
        let answer = fleet.run(&["package", "publish", &file]);
        (answer.code != 0).then_some(answer)
    });
    let refused = refused.expect("a quota of 12 MiB holds 24 MB");
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert!(refused.err.contains("--quota"), "{}", refused.said());
    // What is small goes on at both ends.
    fleet.publish("small", &fleet.mark(""), json!({}));
    fleet.ok(&["accounting", "verify"]);
}
