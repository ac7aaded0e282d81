//! Judging: how an attempt ended, from its exit record, its result file and detection.
//!
//! Pure functions over evidence. Where detection exists it judges; otherwise the result file (JSON or a
//! status MIF), then the exit code. Evidence that contradicts itself is decided by that order all the same, and marked
//! disputed.

use muster_model::package::{Achieves, AfterRunning, Detection, Program, Rerun};
use muster_model::state::{Evidence, EvidenceKind, Failure, Interruption, Rule, State};

use crate::input::{Ending, Exit, Found, ResultForm};

/// `EX_TEMPFAIL` of sysexits.h: what a program that takes a package manager's lock exits with when
/// somebody else held it, and nothing was done.
const LOCK_HELD: i32 = 75;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The state that it would end the obligation in.
    pub(crate) state: State,
    /// What contradicts it.
    pub(crate) disputed: Option<String>,
}

impl From<State> for Outcome {
    fn from(state: State) -> Self {
        Self { state, disputed: None }
    }
}

/// What becomes of a run that was cut short.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CutShort {
    /// The obligation ends so.
    Ended(Outcome),
    /// Another attempt may follow, if one is left.
    Again,
}

/// Whether detection has a say about `program`: it judges the machine, and no user.
pub(crate) fn detects(program: &Program, detection: Option<&Detection>) -> bool {
    let of_machine = program.achieves != Achieves::Nothing && !program.runs_for_each_user();
    detection.is_some() && of_machine
}

/// Whether what was found is what `program` achieves; `None` if detection could not tell.
pub(crate) fn met(program: &Program, found: &Found) -> Option<bool> {
    match (found, program.achieves) {
        (Found::Present, Achieves::Absent) | (Found::Absent, Achieves::Present) => Some(false),
        (Found::Present | Found::Absent, _) => Some(true),
        (Found::Error(_) | Found::ContentRefused(_), _) => None,
    }
}

/// The exit code that people see: a signal `n` is `128 + n`.
pub(crate) fn exit_code(exit: &Exit) -> Option<i32> {
    match exit.ending {
        Ending::Exited { code } => Some(code),
        Ending::Signalled { signal } => Some(signal.saturating_add(128)),
        Ending::TimedOut | Ending::Stopped | Ending::NotStarted { .. } => None,
    }
}

/// Whether anything ran to its own end, so that detection is worth asking.
pub(crate) fn has_run(exit: &Exit) -> bool {
    !matches!(exit.ending, Ending::Stopped | Ending::NotStarted { .. })
}

/// Whether the program did nothing, because it lost the race for its package manager's lock.
pub(crate) fn lost_the_lock(program: &Program, exit: &Exit) -> bool {
    let declared = program.success_codes.iter().chain(&program.restart_codes);
    program.package_manager.is_some()
        && exit.ending == (Ending::Exited { code: LOCK_HELD })
        && !declared.into_iter().any(|code| *code == LOCK_HELD)
}

/// Who restarts the machine before a run can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartBy {
    /// The agent.
    Agent,
    /// The program itself.
    Program,
}

/// Who restarts the machine before the run can be judged; `None` if it can be judged as it stands. What
/// failed is not helped by a restart, and one between two users would log the next one off.
pub(crate) fn wants_restart(program: &Program, exit: &Exit) -> Option<RestartBy> {
    let succeeded = matches!(claim(program, exit).state, State::Succeeded { .. });
    if !succeeded || program.runs_for_each_user() {
        return None;
    }
    match program.after_running {
        AfterRunning::ProgramRestarts => Some(RestartBy::Program),
        AfterRunning::AgentRestarts => Some(RestartBy::Agent),
        AfterRunning::None => asks_for_restart(program, exit).then_some(RestartBy::Agent),
    }
}

/// Whether the run itself asked for a restart: by its exit code, or in its result file.
pub(crate) fn asks_for_restart(program: &Program, exit: &Exit) -> bool {
    let in_result = exit.result.as_ref().is_some_and(|result| result.restart);
    let by_code = matches!(exit.ending,
        Ending::Exited { code } if program.restart_codes.contains(&code));
    in_result || by_code
}

/// Whether the restart that cut a run of `program` short was a step of it.
pub(crate) fn is_step(program: &Program, cause: Interruption) -> bool {
    cause == Interruption::Restart && program.after_running == AfterRunning::ProgramRestarts
}

/// How a run with an exit record ended. `found` is what detection found after it, if it has a say;
/// `restarted`: the machine has restarted since.
pub(crate) fn judge(
    program: &Program,
    exit: &Exit,
    found: Option<&Found>,
    restarted: bool,
) -> Outcome {
    let claimed = claim(program, exit);
    let code = exit_code(exit);
    let Some(found) = found.filter(|_| has_run(exit)) else { return claimed };
    let claims_success = matches!(claimed.state, State::Succeeded { .. });
    match met(program, found) {
        None => cannot_tell(found, code).into(),
        Some(false) if claims_success => {
            let detail = "the program ended well, but detection does not find its goal reached";
            failed(Rule::NotDetected, code, detail.to_owned()).into()
        }
        Some(false) => claimed.state.into(),
        Some(true) => {
            let rule = detected(restarted);
            let state = State::Succeeded { evidence: Evidence { rule, exit_code: code } };
            let disputed = (!claims_success)
                .then(|| format!("detection finds the goal reached after {}", claimed.state));
            Outcome { state, disputed: disputed.or(claimed.disputed) }
        }
    }
}

/// What the run says of itself: its result file, JSON or a status MIF, then its exit code.
fn claim(program: &Program, exit: &Exit) -> Outcome {
    let code = match &exit.ending {
        Ending::Exited { code } => *code,
        Ending::Signalled { signal } => {
            let code = exit_code(exit);
            return failed(Rule::Signal, code, format!("ended by signal {signal}")).into();
        }
        Ending::TimedOut => return State::TimedOut.into(),
        Ending::Stopped => return State::Interrupted { cause: Interruption::Stopped }.into(),
        Ending::NotStarted { why } => return failed(Rule::NotStarted, None, why.clone()).into(),
    };
    let good = program.success_codes.contains(&code) || program.restart_codes.contains(&code);
    let said = exit.result.as_ref();
    let description = said.map(|result| result.description.clone()).unwrap_or_default();
    let ignored = said.and_then(|result| result.ignored.clone());
    let (file, evidence, rule) = match said.map(|result| result.form).unwrap_or_default() {
        ResultForm::Json => ("result file", EvidenceKind::ResultFile, Rule::ResultFile),
        ResultForm::StatusMif => ("status MIF", EvidenceKind::StatusMif, Rule::StatusMif),
    };
    let succeeded = |rule| State::Succeeded { evidence: Evidence { rule, exit_code: Some(code) } };
    match said.and_then(|result| result.succeeded) {
        Some(true) => Outcome {
            state: succeeded(evidence),
            disputed: (!good).then(|| format!("the {file} says success, the exit code is {code}")),
        },
        Some(false) => failed(rule, Some(code), description).into(),
        // A word that nobody could read may have been another one.
        None if good => Outcome { state: succeeded(EvidenceKind::ExitCode), disputed: ignored },
        None => failed(Rule::ExitCode, Some(code), ignored.unwrap_or(description)).into(),
    }
}

/// What becomes of a run without an exit record. `found` is what detection found since, if it has a
/// say and was asked.
pub(crate) fn cut_short(program: &Program, found: Option<&Found>, cause: Interruption) -> CutShort {
    let interrupted = State::Interrupted { cause };
    let Some(found) = found else {
        return match program.rerun {
            Rerun::Always => CutShort::Again,
            // Whether the goal was reached cannot be known, and it is not guessed.
            Rerun::Never | Rerun::IfNotDetected => CutShort::Ended(interrupted.into()),
        };
    };
    match met(program, found) {
        None => CutShort::Ended(cannot_tell(found, None).into()),
        Some(false) if program.rerun == Rerun::Never => CutShort::Ended(interrupted.into()),
        Some(false) => CutShort::Again,
        Some(true) => {
            let rule = detected(cause == Interruption::Restart);
            let state = State::Succeeded { evidence: Evidence { rule, exit_code: None } };
            let expected =
                cause == Interruption::Restart && program.after_running != AfterRunning::None;
            let disputed = (program.rerun == Rerun::Never && !expected)
                .then(|| format!("the run was cut short ({cause})"));
            CutShort::Ended(Outcome { state, disputed })
        }
    }
}

/// A failed state.
pub(crate) fn failed(rule: Rule, exit_code: Option<i32>, detail: String) -> State {
    State::Failed { code: Failure { rule, exit_code, detail } }
}

/// The end of an obligation whose detection could not tell.
pub(crate) fn cannot_tell(found: &Found, exit_code: Option<i32>) -> State {
    match found {
        Found::ContentRefused(why) => failed(Rule::ContentRefused, exit_code, why.clone()),
        Found::Error(why) => failed(Rule::DetectionError, exit_code, why.clone()),
        Found::Present | Found::Absent => failed(Rule::DetectionError, exit_code, String::new()),
    }
}

fn detected(restarted: bool) -> EvidenceKind {
    if restarted { EvidenceKind::DetectedAfterRestart } else { EvidenceKind::Detected }
}

#[cfg(test)]
mod tests;
