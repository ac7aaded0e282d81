//! Questions in SQL, and what they never tell.

use serde_json::json;

use crate::fleet::Fleet;

#[test]
fn a_question_is_answered_as_a_table_on_sqlite() {
    asked(Fleet::new());
}

#[test]
fn a_question_is_answered_as_a_table_on_postgresql() {
    asked(Fleet::on_postgres());
}

fn asked(mut fleet: Fleet) {
    fleet.agents(2);
    fleet.publish("hello", &fleet.mark(""), json!({}));
    fleet.advertise("hello", "hello", &["d1", "d2"], json!({}));
    fleet.ok(&["wait", "hello", "--for", "complete", "--timeout", "60s"]);
    let question = "select o.state, count(*) as n from obligation o
        join device d on d.id = o.device where o.advertisement_name = 'hello' group by o.state";
    let found = fleet.json(&["query", question]);
    assert_eq!(found["columns"], json!(["state", "n"]), "{found}");
    assert_eq!(found["rows"], json!([["succeeded", 2]]), "{found}");
    assert!(found["asOf"].as_str().unwrap().ends_with('Z'), "{found}");
    assert_eq!(found["truncated"], false);
    let table = fleet.ok(&["query", "select name, os from device order by name"]);
    assert!(table.starts_with("NAME") && table.contains("d1"), "{table}");
    let yaml = fleet.ok(&["query", "select name from device", "-o", "yaml"]);
    assert!(yaml.contains("columns:"), "{yaml}");
    for (question, said) in [
        ("select secret from token", "secret"),
        ("select * from principal", "principal"),
        ("select * from site; select 1", "one statement"),
        ("delete from device", "one statement"),
        ("select no_such_column from device", "no_such_column"),
        ("select pg_sleep(1)", "pg_sleep"),
    ] {
        let told = fleet.refused(2, &["query", question]);
        assert!(told.contains(said), "{question}: {told}");
    }
    assert_eq!(fleet.json(&["device", "list"])["items"].as_array().unwrap().len(), 2);
}

#[test]
fn who_is_no_administrator_and_no_auditor_asks_nothing() {
    let fleet = Fleet::bare();
    let token = |role: &str| {
        let found = fleet.json(&["token", "create", "--role", role]);
        fleet.write(&format!("{role}.token"), found["token"].as_str().unwrap())
    };
    let (auditor, pipeline) = (token("auditor"), token("pipeline"));
    let url = fleet.url.clone();
    fleet.ok(&["login", &url, "--token-file", &auditor]);
    fleet.ok(&["query", "select count(*) from device"]);
    fleet.ok(&["login", &url, "--token-file", &pipeline]);
    let said = fleet.refused(1, &["query", "select count(*) from device"]);
    assert!(said.contains("query.read"), "{said}");
}
