use muster_model::state::Interruption;
use serde_json::json;

use super::RestartBy;
use super::{CutShort, cut_short, judge, wants_restart};
use crate::input::{Ending, Exit, Found, RunResult};
use crate::world::{ended, exited, program};

fn said(code: i32, succeeded: Option<bool>, restart: bool) -> Exit {
    let description = "words".to_owned();
    Exit {
        result: Some(RunResult { succeeded, restart, description, ..RunResult::default() }),
        ..exited(code)
    }
}

/// How a run ends: the state, and `!` if it is disputed.
#[track_caller]
fn check(exit: &Exit, found: Option<Found>, expected: &str) {
    let program = program(json!({"restartCodes": [102]}));
    let outcome = judge(&program, exit, found.as_ref(), false);
    let mark = if outcome.disputed.is_some() { "!" } else { "" };
    assert_eq!(format!("{}{mark}", outcome.state), expected);
}

#[test]
fn without_detection_the_exit_code_decides() {
    check(&exited(0), None, "succeeded(exit-code)");
    check(&exited(102), None, "succeeded(exit-code)");
    check(&exited(3), None, "failed(exit-code (exit code 3))");
}

#[test]
fn without_detection_the_result_file_decides_before_the_exit_code() {
    check(&said(0, Some(true), false), None, "succeeded(result-file)");
    check(&said(3, Some(true), false), None, "succeeded(result-file)!");
    check(&said(0, Some(false), false), None, "failed(result-file (exit code 0): words)");
    check(&said(3, None, false), None, "failed(exit-code (exit code 3): words)");
}

#[test]
fn where_detection_exists_it_judges() {
    check(&exited(0), Some(Found::Present), "succeeded(detected)");
    check(
        &exited(0),
        Some(Found::Absent),
        "failed(not-detected (exit code 0): the program ended well, but detection does not find \
         its goal reached)",
    );
    check(&exited(3), Some(Found::Absent), "failed(exit-code (exit code 3))");
    check(
        &exited(0),
        Some(Found::Error("exit code 9".into())),
        "failed(detection-error (exit code 0): exit code 9)",
    );
    check(
        &exited(0),
        Some(Found::ContentRefused("a byte differs".into())),
        "failed(content-refused (exit code 0): a byte differs)",
    );
}

#[test]
fn a_bad_end_with_the_goal_newly_reached_is_a_disputed_success() {
    check(&exited(3), Some(Found::Present), "succeeded(detected)!");
    check(&said(0, Some(false), false), Some(Found::Present), "succeeded(detected)!");
    check(&ended(Ending::TimedOut), Some(Found::Present), "succeeded(detected)!");
    check(&ended(Ending::Signalled { signal: 9 }), Some(Found::Present), "succeeded(detected)!");
}

#[test]
fn other_ends_are_named() {
    let signalled = ended(Ending::Signalled { signal: 9 });
    check(&signalled, None, "failed(signal (exit code 137): ended by signal 9)");
    check(&ended(Ending::TimedOut), Some(Found::Absent), "timed-out");
    let unstarted = ended(Ending::NotStarted { why: "no such file".into() });
    check(&unstarted, None, "failed(not-started: no such file)");
    check(&ended(Ending::Stopped), None, "interrupted(stopped)");
    check(&ended(Ending::Stopped), Some(Found::Present), "interrupted(stopped)");
}

#[test]
fn after_a_restart_the_evidence_says_so() {
    let program = program(json!({}));
    let outcome = judge(&program, &exited(0), Some(&Found::Present), true);
    assert_eq!(outcome.state.to_string(), "succeeded(detected-after-restart)");
}

#[test]
fn a_restart_is_wanted_only_by_a_run_that_claims_success() {
    let by_code = program(json!({"restartCodes": [102]}));
    assert_eq!(wants_restart(&by_code, &exited(102)), Some(RestartBy::Agent));
    assert_eq!(wants_restart(&by_code, &exited(0)), None);
    assert_eq!(wants_restart(&by_code, &said(0, None, true)), Some(RestartBy::Agent));
    assert_eq!(wants_restart(&by_code, &said(3, None, true)), None);
    let by_agent = program(json!({"afterRunning": "agent-restarts"}));
    assert_eq!(wants_restart(&by_agent, &exited(0)), Some(RestartBy::Agent));
    assert_eq!(wants_restart(&by_agent, &exited(1)), None);
    let by_program = program(json!({"afterRunning": "program-restarts"}));
    assert_eq!(wants_restart(&by_program, &exited(0)), Some(RestartBy::Program));
}

/// What becomes of a run that was cut short: the state, `!` if disputed, or `again`.
#[track_caller]
fn check_cut(more: serde_json::Value, found: Option<Found>, cause: Interruption, expected: &str) {
    let verdict = match cut_short(&program(more), found.as_ref(), cause) {
        CutShort::Again => "again".to_owned(),
        CutShort::Ended(outcome) => {
            let mark = if outcome.disputed.is_some() { "!" } else { "" };
            format!("{}{mark}", outcome.state)
        }
    };
    assert_eq!(verdict, expected);
}

#[test]
fn a_run_cut_short_follows_the_rule_of_its_author() {
    use Interruption::{Killed, Restart};
    let rule = |rerun: &str| json!({"rerun": rerun});
    check_cut(rule("never"), None, Killed, "interrupted(killed)");
    check_cut(rule("never"), Some(Found::Absent), Killed, "interrupted(killed)");
    check_cut(rule("never"), Some(Found::Present), Killed, "succeeded(detected)!");
    check_cut(rule("if-not-detected"), None, Restart, "interrupted(restart)");
    check_cut(rule("if-not-detected"), Some(Found::Absent), Restart, "again");
    check_cut(rule("if-not-detected"), Some(Found::Present), Killed, "succeeded(detected)");
    check_cut(rule("always"), None, Killed, "again");
    check_cut(rule("always"), Some(Found::Absent), Killed, "again");
    check_cut(rule("always"), Some(Found::Present), Killed, "succeeded(detected)");
    let error = Some(Found::Error("exit code 2".into()));
    check_cut(rule("never"), error, Killed, "failed(detection-error: exit code 2)");
}

#[test]
fn a_restart_that_was_declared_is_no_dispute() {
    let declared = json!({"rerun": "never", "afterRunning": "program-restarts"});
    let (met, cause) = (Some(Found::Present), Interruption::Restart);
    check_cut(declared, met.clone(), cause, "succeeded(detected-after-restart)");
    check_cut(json!({"rerun": "never"}), met, cause, "succeeded(detected-after-restart)!");
}
