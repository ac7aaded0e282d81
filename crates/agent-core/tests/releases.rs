//! What release 0.1 wrote into journals and onto the wire is read today and means the same: a device is
//! upgraded, and returned, over its own journal.

#![allow(clippy::unwrap_used, clippy::panic)]

use muster_agent_core::saved::{ContentRecord, Memory, ObligationRecord, RunRecord};
use muster_model::message::Message;
use muster_model::policy::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What `old` says and `new` does not, as paths; a field that says nothing may be left out.
fn lost(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (field, value) in old {
                let path = format!("{path}.{field}");
                match new.get(field) {
                    Some(kept) => lost(&path, value, kept, found),
                    None if matches!(value, Value::Null | Value::Bool(false)) => {}
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                lost(&format!("{path}[{at}]"), old, new, found);
            }
        }
        (old, new) if old == new => {}
        (old, new) => found.push(format!("{path}: {old} became {new}")),
    }
}

/// Each line is read as a `T`, which written again says all that the line says.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(lines: &str) {
    assert!(!lines.trim().is_empty(), "a fixture without a document");
    for line in lines.lines() {
        let read: T = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let (old, new) =
            (serde_json::from_str(line).unwrap(), serde_json::to_value(&read).unwrap());
        let mut found = Vec::new();
        lost("", &old, &new, &mut found);
        assert!(found.is_empty(), "{found:?} of {line}");
    }
}

macro_rules! fixture {
    ($file:literal) => {
        include_str!(concat!("../../../tests/fixtures/0.1/", $file))
    };
}

/// The chain and the signature cover bytes: a message that is written anew must be the same ones.
#[test]
fn messages_of_0_1_are_the_same_bytes_when_they_are_written_again() {
    for line in fixture!("messages.jsonl").lines() {
        let read: Message =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
    }
}

#[test]
fn a_policy_of_0_1_says_the_same() {
    check::<Policy>(fixture!("policy.json"));
}

#[test]
fn memory_and_records_of_0_1_say_the_same() {
    check::<Memory>(fixture!("memory.json"));
    check::<ObligationRecord>(fixture!("obligation.jsonl"));
    check::<RunRecord>(fixture!("run.jsonl"));
    check::<ContentRecord>(fixture!("content.jsonl"));
}

#[test]
fn what_is_lost_between_two_documents_is_named() {
    let (old, new) = (serde_json::json!({"a": {"b": 1}, "c": 2}), serde_json::json!({"a": {}}));
    let mut found = Vec::new();
    lost("", &old, &new, &mut found);
    assert_eq!(found, [".a.b", ".c"]);
}
