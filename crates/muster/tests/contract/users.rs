//! The people at the device: what they may install, what waits for them, what they may put off.

use serde_json::{Value, json};

use crate::fleet::{Fleet, until};

/// A fleet of one agent that takes who is logged on from the file `sessions`.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    let (token, sessions) = (fleet.token(1), fleet.path("sessions"));
    fleet.agent_with("d1", &token, &["--session-source", &sessions]);
    fleet
}

/// Advertises a package that marks its run, with no assignment.
fn available(fleet: &Fleet, more: Value) {
    fleet.publish("tool", &fleet.mark(""), more);
    fleet.advertise("optional", "tool", &["d1"], json!({"assignments": []}));
    fleet.stands("d1", "optional", "available");
}

fn row(fleet: &Fleet) -> Value {
    let found = fleet.json(&["agent", "software", "list", "--data", &fleet.path("d1")]);
    found["items"][0].clone()
}

#[test]
fn an_available_program_is_installed_by_who_asks_for_it() {
    let fleet = fleet();
    available(&fleet, json!({}));
    let data = fleet.path("d1");
    let listed = fleet.ok(&["agent", "software", "--data", &data]);
    assert!(listed.contains("optional") && listed.contains("tool@1"), "{listed}");
    let said = fleet.ok(&["agent", "install", "--data", &data, "optional", "--wait"]);
    assert!(said.contains("optional starts") && said.contains("succeeded(exit-code)"), "{said}");
    let row = fleet.stands("d1", "optional", "succeeded");
    assert_eq!(row["attempt"], 1, "{row}");
    assert_eq!(fleet.truth().len(), 1);
    let refused = fleet.refused(1, &["agent", "install", "--data", &data, "optional"]);
    assert!(refused.contains("ended already") && refused.contains("rerun"), "{refused}");
    let unknown = fleet.refused(1, &["agent", "install", "--data", &data, "nothing"]);
    assert!(unknown.contains("muster agent software"), "{unknown}");
}

#[test]
fn a_failed_install_says_so_to_who_waits() {
    let fleet = fleet();
    available(&fleet, json!({"successCodes": [7]}));
    let data = fleet.path("d1");
    let install = ["agent", "software", "install", "--data", &data, "tool", "--wait"];
    let said = fleet.refused(1, &install);
    assert!(said.contains("failed(exit-code (exit code 0))"), "{said}");
}

#[test]
fn a_request_waits_for_an_agent_that_does_not_run_and_needs_no_site() {
    let mut fleet = fleet();
    available(&fleet, json!({}));
    fleet.kill("d1");
    fleet.kill("site");
    let data = fleet.path("d1");
    let said = fleet.run(&["agent", "install", "--data", &data, "optional"]);
    assert_eq!(said.code, 0, "{}", said.said());
    assert!(said.err.contains("the agent does not run"), "{}", said.said());
    fleet.restart("d1");
    // The content of an available program is fetched when it is asked for: this needs the site.
    until("the request is taken", || (row(&fleet)["state"] != "available").then_some(()));
    fleet.restart("site");
    fleet.stands("d1", "optional", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
}

#[test]
fn run_when_waits_for_the_user_and_notices_within_seconds() {
    let fleet = fleet();
    fleet.publish("tool", &fleet.mark(""), json!({"runWhen": "user-logged-on"}));
    fleet.advertise("ad", "tool", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad", "waiting");
    assert_eq!(row["reason"], "user", "{row}");
    fleet.write("sessions", "ada\n");
    fleet.stands("d1", "ad", "succeeded");
    let status = fleet.json(&["agent", "status", "--data", &fleet.path("d1")]);
    assert_eq!(status["users"], json!(["ada"]), "{status}");
    fleet.publish("quiet", &fleet.mark(""), json!({"runWhen": "nobody-logged-on"}));
    fleet.advertise("ad2", "quiet", &["d1"], json!({}));
    let row = fleet.stands("d1", "ad2", "waiting");
    assert_eq!(row["reason"], "user", "{row}");
    std::fs::remove_file(fleet.path("sessions")).unwrap();
    fleet.stands("d1", "ad2", "succeeded");
}

#[test]
fn notice_is_given_to_who_is_logged_on_and_may_be_put_off_to_the_deadline() {
    let mut fleet = fleet();
    fleet.write("sessions", r#"["ada"]"#);
    let notice = json!({"notice": {"countdown": "20m", "deferUntil": "2h"}});
    fleet.publish("tool", &fleet.mark(""), notice);
    fleet.advertise("ad", "tool", &["d1"], json!({}));
    let reason =
        |fleet: &Fleet| fleet.stands("d1", "ad", "waiting")["reason"].as_str().unwrap().to_owned();
    until("notice", || reason(&fleet).starts_with("notice until ").then_some(()));
    let first = reason(&fleet);
    let data = fleet.path("d1");
    let latest = row(&fleet)["latest"].as_str().unwrap().to_owned();
    let said = fleet.ok(&["agent", "software", "defer", "--data", &data, "ad", "--for", "30m"]);
    assert!(said.contains("put off until"), "{said}");
    until("the site knows", || (reason(&fleet) != first).then_some(()));
    let put_off = reason(&fleet);
    fleet.kill("d1");
    fleet.boot("d1", "second");
    fleet.ok(&["agent", "software", "defer", "--data", &data, "ad", "--for", "1000h"]);
    until("the deadline", || (reason(&fleet) == format!("notice until {latest}")).then_some(()));
    assert_ne!(put_off, format!("notice until {latest}"));
    let refused = fleet.refused(1, &["agent", "software", "defer", "--data", &data, "ad"]);
    assert!(refused.contains("cannot be put off beyond"), "{refused}");
    assert_eq!(fleet.truth().len(), 0);
    // With nobody left there is nobody to wait for.
    std::fs::remove_file(fleet.path("sessions")).unwrap();
    fleet.stands("d1", "ad", "succeeded");
}

#[test]
fn a_notice_that_could_never_be_kept_is_refused_by_its_field() {
    let fleet = Fleet::new();
    let notice = json!({"notice": {"countdown": "1h", "deferUntil": "10m"}});
    let file = fleet.package_file("bad", "1", "true", notice);
    let said = fleet.refused(2, &["package", "publish", &file]);
    assert!(said.contains("notice.deferUntil"), "{said}");
}
