use super::*;

fn succeeded() -> State {
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::Detected, exit_code: Some(0) } }
}

#[track_caller]
fn check(current: State, decided: Author, new: State, author: Author, expected: Verdict) {
    assert_eq!(judge(&current, decided, &new, author), expected, "{current} -> {new}");
}

#[test]
fn what_the_device_ended_stays_ended() {
    use Author::{Device, Site};
    let running = State::Running { attempt: 1 };
    let lost = State::Lost { cause: Loss::Retired };
    check(running.clone(), Device, succeeded(), Device, Verdict::Applied);
    check(succeeded(), Device, running.clone(), Device, Verdict::Late);
    check(succeeded(), Device, lost.clone(), Site, Verdict::Late);
    let undone = State::RolledBack { cause: "restored".into() };
    check(succeeded(), Device, undone, Device, Verdict::Applied);
    check(lost, Site, succeeded(), Device, Verdict::Applied);
}

#[test]
fn the_site_withdraws_only_what_was_never_started() {
    use Author::{Device, Site};
    let gone = State::Withdrawn { why: Withdrawal::LeftCollection };
    check(State::Targeted, Site, gone.clone(), Site, Verdict::Applied);
    check(State::Accepted, Device, gone.clone(), Site, Verdict::Applied);
    check(State::Running { attempt: 1 }, Device, gone.clone(), Site, Verdict::Late);
    check(gone, Device, State::Targeted, Site, Verdict::Applied);
    let again = State::Withdrawn { why: Withdrawal::AdvertisedAgain };
    let gone = State::Withdrawn { why: Withdrawal::LeftCollection };
    check(again.clone(), Site, gone, Device, Verdict::Late);
    check(again, Site, State::Targeted, Site, Verdict::Applied);
    let deleted = State::Withdrawn { why: Withdrawal::Deleted };
    check(deleted, Site, State::Targeted, Site, Verdict::Late);
}

#[test]
fn a_download_of_nothing_names_no_bytes() {
    assert_eq!(State::Downloading { have: 0, of: 0 }.to_string(), "downloading");
    let some = State::Downloading { have: 1, of: 2 };
    assert_eq!(some.to_string(), "downloading(1 of 2 bytes)");
}

#[test]
fn a_pending_restart_reads_as_release_0_1_wrote_it() {
    let bare = State::RestartPending { why: None, detail: String::new() };
    assert_eq!(
        serde_json::to_value(&bare).unwrap(),
        serde_json::json!({"state": "restart-pending"})
    );
    assert_eq!(serde_json::from_str::<State>(r#"{"state":"restart-pending"}"#).unwrap(), bare);
    let failed =
        State::RestartPending { why: Some(Restart::Command), detail: "exit code 1".into() };
    assert_eq!(failed.to_string(), "restart-pending(command-failed: exit code 1)");
}

#[test]
fn a_device_that_is_offered_nothing_does_not_know_better_why() {
    use Author::{Device, Site};
    let left = State::Withdrawn { why: Withdrawal::LeftCollection };
    let deleted = State::Withdrawn { why: Withdrawal::Deleted };
    let expired = State::Expired { why: Expiry::Advertisement };
    check(deleted.clone(), Site, left.clone(), Device, Verdict::Late);
    check(expired, Site, left.clone(), Device, Verdict::Late);
    check(deleted, Site, State::Accepted, Device, Verdict::Applied);
    check(left.clone(), Site, left, Device, Verdict::Applied);
}

#[test]
fn every_word_reads_back() {
    for word in Word::ALL {
        assert_eq!(word.as_str().parse(), Ok(word));
        assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
    }
}

#[test]
fn reasons_read_like_a_sentence() {
    let waiting = State::Waiting {
        why: Waiting::Retry,
        until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
    };
    assert_eq!(waiting.to_string(), "waiting(retry until 2027-01-01T00:00:00Z)");
    let failed = State::Failed {
        code: Failure { rule: Rule::ExitCode, exit_code: Some(3), detail: String::new() },
    };
    assert_eq!(failed.to_string(), "failed(exit-code (exit code 3))");
}
