//! Who is logged on, and how that ends.

use serde_json::Value;

use crate::fleet::Fleet;

/// Logs on with a fresh token of that role.
fn log_on(fleet: &Fleet, role: &str, name: &str) {
    let found = fleet.json(&["token", "create", "--role", role, "--name", name]);
    let file = fleet.write(&format!("{name}.token"), found["token"].as_str().unwrap());
    fleet.ok(&["login", &fleet.url, "--token-file", &file]);
}

fn log_on_locally(fleet: &Fleet) {
    fleet.ok(&["login", "--data", &fleet.path("site")]);
}

#[test]
fn who_logs_off_is_nobody_any_more() {
    let fleet = Fleet::bare();
    log_on(&fleet, "auditor", "olga");
    fleet.ok(&["device", "list"]);
    let kept = std::fs::read_to_string(fleet.path("config.yaml")).unwrap();
    let said = fleet.ok(&["logout"]);
    assert!(said.contains("logged off"), "{said}");
    let said = fleet.refused(1, &["device", "list"]);
    assert!(said.contains("muster login"), "{said}");
    // Who kept the credential holds nothing.
    fleet.write("config.yaml", &kept);
    let said = fleet.refused(1, &["device", "list"]);
    assert!(said.contains("credentials are required"), "{said}");
    // The same again only clears the context.
    fleet.ok(&["logout"]);
}

#[test]
fn an_administrator_sees_who_is_logged_on_and_ends_it() {
    let fleet = Fleet::bare();
    log_on(&fleet, "help-desk", "hans");
    let kept = std::fs::read_to_string(fleet.path("config.yaml")).unwrap();
    let said = fleet.refused(1, &["credential", "list"]);
    assert!(said.contains("credential.read"), "{said}");
    log_on_locally(&fleet);
    let listed = fleet.json(&["credential", "list"]);
    let find = |name: &str| {
        let found = listed["items"].as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {listed}")).clone()
    };
    let (hans, local) = (find("hans"), find("local administrator"));
    assert_eq!((&hans["role"], &hans["own"]), (&Value::from("help-desk"), &Value::from(false)));
    assert_eq!(local["own"], true);
    let id = hans["id"].as_str().unwrap();
    fleet.ok(&["credential", "revoke", id]);
    let audit = fleet.ok(&["messages"]);
    assert!(audit.contains("log-on of hans"), "{audit}");
    let said = fleet.refused(1, &["credential", "revoke", local["id"].as_str().unwrap()]);
    assert!(said.contains("folder"), "{said}");
    fleet.write("config.yaml", &kept);
    fleet.refused(1, &["device", "list"]);
}

#[test]
fn a_revoked_token_lets_nobody_in() {
    let fleet = Fleet::bare();
    let made = fleet.json(&["token", "create", "--uses", "3"]);
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(fleet.enroll("d1", token, &[]).code, 0);
    let listed = fleet.json(&["token", "list"]);
    assert_eq!(listed["items"][0]["usesLeft"], 2, "{listed}");
    assert!(!listed.to_string().contains(token), "no secret is listed");
    fleet.ok(&["token", "revoke", id]);
    let refused = fleet.enroll("d2", token, &[]);
    assert_eq!(refused.code, 1, "{}", refused.said());
    assert_eq!(fleet.json(&["token", "list"])["items"].as_array().unwrap().len(), 0);
}
