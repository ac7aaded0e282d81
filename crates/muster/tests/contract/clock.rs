//! Clocks that are years wrong: said, harmless, and no reason to lose or repeat anything.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn agents_whose_clocks_are_years_wrong_work_and_say_so() {
    let mut fleet = Fleet::new();
    fleet.publish("mark", &fleet.mark(""), json!({}));
    let clocks = [
        ("ahead", [("MUSTER_CLOCK", "+400d"), ("MUSTER_ELAPSED", "+0s")]),
        ("behind", [("MUSTER_CLOCK", "-2y"), ("MUSTER_ELAPSED", "+0s")]),
        ("long-up", [("MUSTER_CLOCK", "+0s"), ("MUSTER_ELAPSED", "+400d")]),
    ];
    let token = fleet.token(3);
    for (name, env) in &clocks {
        let enrolled = fleet.enroll_with(name, &token, &[], env);
        assert_eq!(enrolled.code, 0, "{}", enrolled.said());
        fleet.start_agent(name, env);
    }
    fleet.advertise("ad", "mark", &["ahead", "behind", "long-up"], json!({}));
    for (name, env) in &clocks {
        fleet.stands(name, "ad", "succeeded");
        let data = fleet.path(name);
        let shown = fleet.run_with(&["agent", "status", "--data", &data, "-o", "json"], env);
        let is_wrong = shown.out.contains("the wall clock is");
        assert_eq!(is_wrong, *name != "long-up", "{}", shown.said());
    }
    let said = fleet.json(&["messages", "--device", "behind"]);
    let own = said["items"].as_array().unwrap().iter().rfind(|item| item["sequence"] == 5).unwrap();
    let year = |field: &str| own[field].as_str().unwrap()[..4].parse::<u32>().unwrap();
    assert_eq!(year("trusted") - year("wall"), 2, "the site has both: {said}");
    // A boot clock that leaps while nobody watches is a machine that slept.
    fleet.kill("long-up");
    fleet.restart("long-up");
    fleet.advertise("again", "mark", &["long-up"], json!({}));
    fleet.stands("long-up", "again", "succeeded");
    assert_eq!(fleet.truth().len(), 4, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn certificates_that_expired_while_nobody_looked_are_renewed() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.advertise("before", "mark", &["d1", "d2"], json!({}));
    fleet.ok(&["wait", "before", "--for", "complete", "--timeout", "60s"]);
    // The site and one device have lived through 400 days, the other one was off for so long.
    fleet.kill("d1");
    fleet.terminate("site");
    let later = [("MUSTER_CLOCK", "+400d"), ("MUSTER_ELAPSED", "+400d")];
    fleet.restart_with("site", &later);
    fleet.restart_with("d1", &later);
    fleet.ok(&["login", "--data", &fleet.path("site")]);
    fleet.advertise("after", "mark", &["d1", "d2"], json!({}));
    for name in ["d1", "d2"] {
        fleet.stands(name, "after", "succeeded");
        fleet.stands(name, "before", "succeeded");
    }
    assert_eq!(fleet.truth().len(), 4, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn a_site_whose_clock_is_years_behind_is_waited_for_and_costs_nothing() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish_gated();
    fleet.advertise("gated", "gated", &["d1"], json!({}));
    fleet.stands("d1", "gated", "running");
    fleet.terminate("site");
    fleet.restart_with("site", &[("MUSTER_CLOCK", "-2y")]);
    fleet.open_gate();
    let trouble = until("the device says what is wrong", || {
        let trouble = fleet.status("d1")["trouble"].to_string();
        trouble.contains("certificate").then_some(trouble)
    });
    assert!(trouble.to_lowercase().contains("expired"), "{trouble}");
    fleet.terminate("site");
    fleet.restart("site");
    fleet.stands("d1", "gated", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
    fleet.ok(&["accounting", "verify"]);
}
