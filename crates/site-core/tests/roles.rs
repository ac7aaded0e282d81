//! The committed matrix of who may do what. `UPDATE_GOLDEN=1` writes it anew; review the difference.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use muster_site_core::roles::{Action, Principal, allowed, matrix};

const GOLDEN: &str = include_str!("roles.txt");

#[test]
fn the_matrix_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/roles.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, matrix()).unwrap();
        return;
    }
    assert_eq!(matrix(), GOLDEN, "UPDATE_GOLDEN=1 writes {path} anew");
}

#[test]
fn without_credentials_only_the_front_answers() {
    let open: Vec<&str> = Action::ALL
        .iter()
        .filter(|action| allowed(Principal::None, **action))
        .map(|action| action.name())
        .collect();
    let expected =
        ["front", "openapi.read", "health.read", "log-on", "device.enroll", "device.renew"];
    assert_eq!(open, expected);
}

#[test]
fn an_auditor_changes_nothing() {
    let harmless = |name: &str| {
        name.ends_with(".read")
            || ["front", "log-on", "log-off", "watch", "accounting.verify"].contains(&name)
    };
    for action in Action::ALL.iter().filter(|action| allowed(Principal::Auditor, **action)) {
        let enrolment = action.name().starts_with("device.") && !harmless(action.name());
        assert!(
            harmless(action.name()) || enrolment && allowed(Principal::None, *action),
            "{}",
            action.name()
        );
    }
}

#[test]
fn an_administrator_may_do_everything_that_is_not_a_devices() {
    let refused: Vec<&str> = Action::ALL
        .iter()
        .filter(|action| !allowed(Principal::Administrator, **action))
        .map(|action| action.name())
        .collect();
    assert_eq!(refused, ["policy.read", "messages.send", "account.read"]);
}

#[test]
fn names_of_actions_differ() {
    let mut names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Action::ALL.len());
}
