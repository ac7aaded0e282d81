//! The whole program: what a publisher may demand, and what a program may say, through the real binary.

use serde_json::{Value, json};

use crate::fleet::Fleet;

/// Publishes `name` with a script and more fields of its program, and advertises it to d1.
fn advertise(fleet: &Fleet, name: &str, script: &str, program: Value, more: Value) {
    fleet.publish(name, script, program);
    fleet.advertise(name, name, &["d1"], more);
}

#[track_caller]
fn reason(row: &Value, said: &str) {
    assert!(row["reason"].as_str().unwrap().starts_with(said), "{row}");
}

/// Writes what d1 says of itself beside what the machine shows.
fn says(fleet: &Fleet, facts: Value) {
    fleet.write("d1/facts.d/test.json", &facts.to_string());
}

#[test]
fn a_requirement_that_does_not_hold_is_not_applicable_until_the_facts_change() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    says(&fleet, json!({"ring": 1}));
    let requirements = json!({"requirements": "device.ring >= 2 && device.memoryMiB > 0"});
    advertise(&fleet, "ringed", &fleet.mark(""), requirements, json!({}));
    let row = fleet.stands("d1", "ringed", "not-applicable");
    reason(&row, "requirement");
    assert_eq!(fleet.truth().len(), 0);
    says(&fleet, json!({"ring": 2}));
    fleet.stands("d1", "ringed", "succeeded");
}

#[test]
fn power_and_link_are_waited_for_and_why_says_so() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    says(&fleet, json!({"power": "battery", "link": "unmetered"}));
    let demands = json!({"requires": {"power": "ac", "link": "unmetered"}});
    advertise(&fleet, "large", &fleet.mark(""), demands, json!({}));
    reason(&fleet.stands("d1", "large", "waiting"), "power");
    let why = fleet.ok(&["why", "d1", "large"]);
    assert!(why.contains("waiting(power)"), "{why}");
    says(&fleet, json!({"power": "ac", "link": "metered"}));
    crate::fleet::until("the network stands in the way", || {
        let row = fleet.stands("d1", "large", "waiting");
        (row["reason"] == "link").then_some(())
    });
    says(&fleet, json!({"power": "ac", "link": "unmetered"}));
    fleet.stands("d1", "large", "succeeded");
    assert_eq!(fleet.truth(), ["ran d1 1"], "waiting spends no attempt");
}

#[test]
fn a_disabled_program_waits_and_apply_says_so() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("held", &fleet.mark(""), json!({"disabled": true}));
    fleet.advertise("held", "held", &["d1"], json!({}));
    reason(&fleet.stands("d1", "held", "waiting"), "disabled");
    let next = fleet.package_file("held", "2", &fleet.mark(""), json!({}));
    fleet.ok(&["package", "publish", &next]);
    fleet.advertise("held", "held@2", &["d1"], json!({}));
    fleet.stands("d1", "held", "succeeded");
}

#[test]
fn what_goes_before_runs_first_once_and_with_its_own_evidence() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let says =
        |word: &str| format!("echo {word} >> '{}'; echo {word} printed", fleet.path("truth"));
    let on = |package: &str| json!({"dependsOn": {"package": package, "program": "go"}});
    fleet.publish("base", &says("base"), json!({}));
    fleet.publish("library", &says("library"), on("base@1"));
    advertise(&fleet, "tool", &says("tool"), on("library@1"), json!({}));
    fleet.stands("d1", "tool", "succeeded");
    assert_eq!(fleet.truth(), ["base", "library", "tool"]);
    let messages = fleet.ok(&["messages", "--device", "d1", "--advertisement", "tool"]);
    assert!(messages.contains("`go` of base@1, which goes before, ended succeeded"), "{messages}");
    assert!(messages.contains("`go` of library@1, which goes before"), "{messages}");
    // Another program that needs the library does not run it again.
    advertise(&fleet, "other", &says("other"), on("library@1"), json!({}));
    fleet.stands("d1", "other", "succeeded");
    assert_eq!(fleet.truth(), ["base", "library", "tool", "other"]);
    let logs = fleet.json(&["logs", "d1", "tool", "--all"]);
    let printed: Vec<&str> =
        logs["items"].as_array().unwrap().iter().filter_map(|one| one["output"].as_str()).collect();
    assert_eq!(printed, ["base printed\n", "library printed\n", "tool printed\n"]);
    assert!(fleet.refused(1, &["delete", "package", "base"]).contains("is used by"));
    assert!(
        fleet.refused(1, &["rename", "package", "base", "bottom"]).contains("signed this name")
    );
    let broken = fleet.json(&["accounting", "verify"]);
    assert!(broken["items"].as_array().unwrap().iter().all(|one| one["ok"] == true), "{broken}");
}

#[test]
fn a_failed_dependency_blocks_and_a_chain_that_cannot_be_is_refused_at_apply() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let on = |package: &str| json!({"dependsOn": {"package": package, "program": "go"}});
    fleet.publish("base", "exit 7", json!({}));
    advertise(&fleet, "tool", &fleet.mark(""), on("base@1"), json!({}));
    let row = fleet.stands("d1", "tool", "failed");
    reason(&row, "dependency (exit code 7): `go` of base@1: failed(exit-code");
    assert_eq!((row["rule"].as_str(), fleet.truth().len()), (Some("dependency"), 0));
    fleet.publish("lost", "true", on("missing@1"));
    fleet.publish("a", "true", on("b@1"));
    fleet.publish("b", "true", on("a@1"));
    for (package, said) in [("lost", "which is not published"), ("a", "a cycle")] {
        let document = json!({"apiVersion": "muster/v1", "kind": "Advertisement",
            "metadata": {"name": "no"},
            "spec": {"package": package, "program": "go", "collection": "tool"}});
        let file = fleet.write("no.yaml", &document.to_string());
        let refused = fleet.run(&["apply", "-f", &file]);
        assert!(refused.code != 0 && refused.err.contains(said), "{}", refused.said());
    }
}

#[test]
fn a_revoked_dependency_holds_what_needs_it() {
    let mut fleet = Fleet::new();
    fleet.publish("base", "true", json!({}));
    let on = json!({"dependsOn": {"package": "base@1", "program": "go"}});
    advertise(&fleet, "tool", &fleet.mark(""), on, json!({}));
    fleet.ok(&["package", "revoke", "base@1", "--reason", "bad"]);
    fleet.agents(1);
    // A member name binds at the next apply.
    fleet.advertise("tool", "tool", &["d1"], json!({}));
    reason(&fleet.stands("d1", "tool", "failed"), "revoked");
    assert_eq!(fleet.truth().len(), 0);
}

#[test]
fn values_of_parameters_come_from_advertisement_and_collection_and_are_held_to_their_type() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let truth = fleet.path("truth");
    let script = format!("env | grep ^MUSTER_PARAM | sort >> '{truth}'; echo \"$#\" >> '{truth}'");
    let declared = json!({"parameters": {
        "mode": {"type": "choice", "choices": ["full", "small"], "default": "small"},
        "host": {"pattern": "[a-z.]+", "required": true},
        "port": {"type": "number"}}});
    fleet.publish("tuned", &script, declared);
    let collection = |values: Value| {
        json!({"apiVersion": "muster/v1", "kind": "Collection", "metadata": {"name": "tuned"},
            "spec": {"members": ["d1"], "parameters": values}})
    };
    let advertisement = |values: Value| {
        json!({"apiVersion": "muster/v1", "kind": "Advertisement", "metadata": {"name": "tuned"},
            "spec": {"package": "tuned", "program": "go", "collection": "tuned",
                "assignments": [{"at": "now"}], "parameters": values}})
    };
    let apply = |collection: &Value, advertisement: &Value| {
        let file = fleet.write("tuned.yaml", &format!("{collection}\n---\n{advertisement}"));
        fleet.run(&["apply", "-f", &file])
    };
    let nobody = collection(json!({}));
    for (values, said) in [
        (json!({}), "spec.parameters.host: is required"),
        (json!({"host": "a b"}), "takes what matches"),
        (json!({"host": "a", "mode": "huge"}), "one of full, small"),
        (json!({"host": "a", "colour": "red"}), "is no parameter of the program"),
    ] {
        let refused = apply(&nobody, &advertisement(values));
        assert!(refused.code != 0 && refused.err.contains(said), "{}", refused.said());
    }
    let theirs = collection(json!({"host": "theirs", "port": 80, "ofOthers": true}));
    let done = apply(&theirs, &advertisement(json!({"host": "ours.example"})));
    assert_eq!(done.code, 0, "{}", done.said());
    fleet.stands("d1", "tuned", "succeeded");
    let seen =
        ["MUSTER_PARAM_HOST=ours.example", "MUSTER_PARAM_MODE=small", "MUSTER_PARAM_PORT=80"];
    assert_eq!(fleet.truth(), [&seen[..], &["0"]].concat(), "as environment and in no other way");
    let refused = apply(&collection(json!({"port": "x"})), &advertisement(json!({"host": "a"})));
    assert!(refused.code != 0 && refused.err.contains("whole number"), "{}", refused.said());
}

#[test]
fn a_status_mif_decides_and_a_broken_result_is_named() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let mif = |status: &str| {
        format!(
            "cat > \"$MUSTER_RESULT\" <<'X'\nSTART COMPONENT\nNAME = \"WORKSTATION\"\nSTART GROUP\n\
             NAME = \"InstallStatus\"\nCLASS = \"MICROSOFT|JOBSTATUS|1.0\"\nSTART ATTRIBUTE\n\
             NAME = \"Status\"\nVALUE = \"{status}\"\nEND ATTRIBUTE\nSTART ATTRIBUTE\n\
             NAME = \"Description\"\nVALUE = \"as it says\"\nEND ATTRIBUTE\nEND GROUP\n\
             END COMPONENT\nX\n"
        )
    };
    advertise(&fleet, "well", &(mif("Success") + "exit 5"), json!({}), json!({}));
    let row = fleet.stands("d1", "well", "succeeded");
    assert_eq!((row["reason"].as_str(), row["exitCode"].as_i64()), (Some("status-mif"), Some(5)));
    advertise(&fleet, "badly", &mif("Failed"), json!({}), json!({}));
    reason(&fleet.stands("d1", "badly", "failed"), "status-mif (exit code 0): as it says");
    advertise(&fleet, "noise", "echo noise > \"$MUSTER_RESULT\"; exit 3", json!({}), json!({}));
    let said = "exit-code (exit code 3): the result file says nothing: it is neither JSON";
    reason(&fleet.stands("d1", "noise", "failed"), said);
}

#[test]
fn both_ends_of_an_output_are_shown_by_the_site_and_more_of_it_by_the_device() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let script = "echo first line; seq 1 200000; echo last line";
    advertise(&fleet, "loud", script, json!({}), json!({}));
    fleet.stands("d1", "loud", "succeeded");
    let shown = fleet.ok(&["logs", "d1", "loud"]);
    assert!(shown.starts_with("first line\n1\n") && shown.ends_with("last line\n"), "{shown}");
    assert!(shown.contains("bytes left out") && shown.len() < 7_000, "{}", shown.len());
    let data = fleet.path("d1");
    let local = crate::fleet::until("the output is kept", || {
        let local = fleet.ok(&["agent", "log", "--data", &data, "loud"]);
        local.ends_with("last line\n").then_some(local)
    });
    assert!(local.starts_with("first line\n1\n") && local.len() > 500_000, "{}", local.len());
    let known = fleet.json(&["agent", "log", "--data", &data, "loud"]);
    assert_eq!(
        known["items"][0]["state"], "succeeded(exit-code)",
        "{}",
        known["items"][0]["state"]
    );
    assert!(
        fleet.refused(1, &["agent", "log", "--data", &data, "other"]).contains("no advertisement")
    );
}

#[test]
fn misbehaving_programs_end_as_what_they_are() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    let stubborn = "trap '' TERM; while :; do sleep 0.2; done";
    let limits = json!({"maxRunTime": "1s", "grace": "1s", "attempts": 1});
    advertise(&fleet, "stubborn", stubborn, limits.clone(), json!({}));
    fleet.stands("d1", "stubborn", "timed-out");
    advertise(&fleet, "gone", "cd /; rm -rf \"$MUSTER_CONTENT\"; exit 0", json!({}), json!({}));
    fleet.stands("d1", "gone", "succeeded");
    let whole = "cd /; rm -rf \"$(dirname \"$MUSTER_CONTENT\")\"; exit 4";
    advertise(&fleet, "everything", whole, json!({}), json!({}));
    reason(&fleet.stands("d1", "everything", "failed"), "exit-code (exit code 4)");
    let worker = format!(
        "(setsid sh -c 'sleep 1; echo worker >> {}; exit 9' &); exit 0",
        fleet.path("truth")
    );
    advertise(&fleet, "forks", &worker, json!({}), json!({}));
    reason(&fleet.stands("d1", "forks", "failed"), "exit-code (exit code 9)");
    assert_eq!(fleet.truth(), ["worker"]);
}

#[test]
fn a_program_starts_in_its_folder_and_runs_as_its_user() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.write("placed/sub/here", "");
    let script = "test -f here && pwd";
    advertise(
        &fleet,
        "placed",
        script,
        json!({"startIn": "sub", "commandLine": "sh ../go.sh"}),
        json!({}),
    );
    fleet.stands("d1", "placed", "succeeded");
    advertise(&fleet, "stranger", "true", json!({"runAs": "user:nobody-bears-this"}), json!({}));
    reason(&fleet.stands("d1", "stranger", "waiting"), "run-as");
    if !nix_is_root() {
        return;
    }
    // The user must be let through to the fleet's own scratch folder, too.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(fleet.dir.path(), open).unwrap();
    let script = "id -un; echo \"$HOME\"; touch own && echo '{\"succeeded\": true}' > \"$MUSTER_RESULT\"; \
                  cat \"$MUSTER_CONTENT/go.sh\" > /dev/null; ls \"$MUSTER_CONTENT/../..\" 2>&1 | head -1";
    advertise(&fleet, "somebody", script, json!({"runAs": "user:daemon"}), json!({}));
    let row = fleet.stands("d1", "somebody", "succeeded");
    assert_eq!(row["reason"], "result-file", "it could leave its result: {row}");
    let printed = fleet.ok(&["logs", "d1", "somebody"]);
    assert!(printed.starts_with("daemon\n"), "{printed}");
    assert!(printed.contains("Permission denied"), "the agent's folder stays closed: {printed}");
}

pub(crate) fn nix_is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

#[test]
fn what_another_package_replaces_ends_where_that_one_is_advertised() {
    let mut fleet = Fleet::new();
    fleet.agents(2);
    says(&fleet, json!({"power": "battery"}));
    fleet.write("d2/facts.d/test.json", &json!({"power": "battery"}).to_string());
    fleet.publish("old", &fleet.mark(""), json!({"requires": {"power": "ac"}}));
    fleet.advertise("old", "old", &["d1", "d2"], json!({}));
    reason(&fleet.stands("d1", "old", "waiting"), "power");
    reason(&fleet.stands("d2", "old", "waiting"), "power");
    let file = fleet.package_file("new", "1", &fleet.mark(""), json!({}));
    let mut package: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    package["spec"]["supersedes"] = json!(["old"]);
    std::fs::write(&file, package.to_string()).unwrap();
    fleet.ok(&["package", "publish", &file]);
    fleet.advertise("new", "new", &["d1"], json!({}));
    reason(&fleet.stands("d1", "old", "superseded"), "new@1");
    fleet.stands("d1", "new", "succeeded");
    let why = fleet.ok(&["why", "d1", "old"]);
    assert!(why.contains("superseded(new@1)"), "{why}");
    reason(&fleet.stands("d2", "old", "waiting"), "power");
    fleet.ok(&["accounting", "verify"]);
}

#[test]
fn present_and_absent_of_one_package_start_nothing_until_one_goes() {
    let mut fleet = Fleet::new();
    fleet.agents(1);
    fleet.publish("tool", &fleet.mark(""), json!({"requires": {"power": "ac"}}));
    says(&fleet, json!({"power": "battery"}));
    fleet.advertise("install", "tool", &["d1"], json!({}));
    reason(&fleet.stands("d1", "install", "waiting"), "power");
    let file = fleet.package_file("tool", "2", &fleet.mark(""), json!({"achieves": "absent"}));
    fleet.ok(&["package", "publish", &file]);
    let file = fleet.advertisement_file("remove", "tool@2", &["d1"], json!({}));
    // The collection is new in the same file.
    let said = fleet.run(&["apply", "-f", &file]).said();
    assert!(said.contains("`install` wants the opposite of package `tool` on 1 device:"), "{said}");
    reason(&fleet.stands("d1", "remove", "waiting"), "conflict");
    crate::fleet::until("both wait", || {
        let row = fleet.stands("d1", "install", "waiting");
        (row["reason"] == "conflict").then_some(())
    });
    fleet.ok(&["delete", "advertisement", "install"]);
    fleet.stands("d1", "remove", "succeeded");
    assert_eq!(fleet.truth().len(), 1);
}
