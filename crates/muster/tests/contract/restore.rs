//! A site that is restored from an older backup while its agents run on.

use serde_json::json;

use crate::fleet::{Fleet, until};

#[test]
fn agents_hand_back_what_the_backup_did_not_know_and_run_nothing_twice() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    fleet.publish("mark", &fleet.mark(""), json!({}));
    fleet.publish_gated();
    fleet.advertise("before", "mark", &["d1", "d2"], json!({}));
    fleet.ok(&["wait", "before", "--for", "complete", "--timeout", "60s"]);
    fleet.advertise("gated", "gated", &["d1", "d2"], json!({}));
    fleet.stands("d1", "gated", "running");
    fleet.stands("d2", "gated", "running");
    let (site, backup) = (fleet.path("site"), fleet.path("backup"));
    fleet.ok(&["site", "backup", "--data", &site, &backup]);
    // All of this is lost with the site: outcomes, an advertisement, a device.
    fleet.open_gate();
    fleet.ok(&["wait", "gated", "--for", "complete", "--timeout", "60s"]);
    fleet.advertise("later", "mark", &["d1", "d2"], json!({}));
    fleet.ok(&["wait", "later", "--for", "complete", "--timeout", "60s"]);
    let token = fleet.token(1);
    fleet.agent("d3", &token);
    until("the third device is heard", || fleet.status("d3")["policy"].is_object().then_some(()));
    assert_eq!(fleet.truth().len(), 6);
    fleet.kill("site");
    #[expect(clippy::disallowed_methods, reason = "this is the loss, and publishes nothing")]
    std::fs::rename(&site, fleet.path("lost")).unwrap();
    fleet.kill("d2");
    fleet.ok(&["site", "restore", "--data", &site, &backup]);
    fleet.restart("site");
    fleet.restart("d2");
    assert_eq!(fleet.site_file("site")["url"], fleet.url, "address and port are kept");
    fleet.ok(&["login", "--data", &site]);
    for name in ["d1", "d2"] {
        fleet.stands(name, "gated", "succeeded");
        fleet.stands(name, "before", "succeeded");
    }
    fleet.refused(1, &["get", "advertisement", "later"]);
    fleet.ok(&["accounting", "verify"]);
    // Outcomes of what the site has never heard of wait for a person, with their sender.
    let items = fleet.json(&["set-aside", "list"])["items"].clone();
    assert!(!items.as_array().unwrap().is_empty(), "{items}");
    // A device that the backup does not know says so, and comes back under a new identity.
    until("the third device names the mismatch", || {
        let trouble = fleet.status("d3")["trouble"].to_string();
        trouble.contains("does not know the device").then_some(())
    });
    fleet.kill("d3");
    fleet.ok(&["agent", "leave", "--data", &fleet.path("d3")]);
    let token = fleet.token(1);
    fleet.agent("d3", &token);
    fleet.advertise("anew", "mark", &["d1", "d3"], json!({}));
    fleet.stands("d1", "anew", "succeeded");
    fleet.stands("d3", "anew", "succeeded");
    assert_eq!(fleet.truth().len(), 8, "{:?}", fleet.truth());
    fleet.ok(&["accounting", "verify"]);
}
