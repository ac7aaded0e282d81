//! The parts of an obligation: the programs that must succeed before (dependencies), then the program
//! that is advertised.
//!
//! One part is at work at a time and goes the whole way of a program: content, detection, conditions,
//! run, judgement. A dependency that succeeds is noted in the obligation's record, with a message that
//! names it; one that fails ends the obligation as `failed(dependency)`. Nothing of a part begins
//! before it is known that every part is for this machine and that the chain is the one its
//! publishers signed: a site pins, it cannot leave out.

use muster_model::digest::Digest;
use muster_model::package::{Detection, Program};
use muster_model::parameter::{self, Values};
use muster_model::policy::{Offer, PinnedPackage, PinnedProgram};
use muster_model::rule::Truth;
use muster_model::state::{
    Evidence, EvidenceKind, Failure, NotApplicable, Rule, State, Waiting, Word,
};

use crate::agent::Agent;
use crate::content::Contents;
use crate::draft::Draft;
use crate::input::Manifested;
use crate::newer::Making;
use crate::obligation::{Move, Standing};
use crate::outcome::{Outcome, detects, failed};
use crate::report::Told;
use crate::saved::{ContentStanding, Done, Key, ObligationRecord, RunRecord, Stage};
use crate::sometimes::Branch;

/// One part: a program of a package version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part<'a> {
    pub(crate) package: &'a PinnedPackage,
    pub(crate) program: &'a str,
    /// It goes before what is advertised.
    pub(crate) dependency: Option<&'a PinnedProgram>,
}

impl ObligationRecord {
    /// The part that is next or at work; `None` only for what the account told and nobody has offered.
    pub(crate) fn part(&self) -> Option<Part<'_>> {
        let open = self.dependencies.iter().find(|one| !self.has_done(one));
        match open {
            Some(one) => Some(Part {
                package: &one.package,
                program: one.program.as_str(),
                dependency: Some(one),
            }),
            None => {
                let package = self.package.as_ref()?;
                Some(Part { package, program: &self.program, dependency: None })
            }
        }
    }

    /// The part that a run is of.
    pub(crate) fn part_of_run(&self, run: &RunRecord) -> Option<Part<'_>> {
        let is = |one: &&PinnedProgram| {
            one.package.manifest == run.manifest && one.program == run.program.name
        };
        match self.dependencies.iter().find(is) {
            Some(one) => Some(Part {
                package: &one.package,
                program: one.program.as_str(),
                dependency: Some(one),
            }),
            None => {
                let package = self.package.as_ref()?;
                let advertised = package.manifest == run.manifest;
                advertised.then_some(Part { package, program: &self.program, dependency: None })
            }
        }
    }

    /// Takes the pins of a launch; the first `done` of them had succeeded before it.
    pub(crate) fn went_before(&mut self, dependencies: Vec<PinnedProgram>, done: usize) {
        self.done = dependencies.iter().take(done).map(Done::of).collect();
        self.dependencies = dependencies;
        self.forgotten = false;
    }

    /// The manifests of all parts that are not done.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Digest> {
        self.packages().map(|package| package.manifest)
    }

    /// The packages of all parts that are not done, the advertised one first.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &PinnedPackage> {
        let open = self.dependencies.iter().filter(|one| !self.has_done(one));
        self.package.iter().chain(open.map(|one| &one.package))
    }

    fn has_done(&self, one: &PinnedProgram) -> bool {
        self.done.contains(&Done::of(one))
    }

    /// Whether this obligation shows that `one` once succeeded on the device.
    fn shows(&self, one: &PinnedProgram) -> bool {
        let advertised = self.reported.word() == Word::Succeeded
            && self.program == one.program.as_str()
            && self.package.as_ref().is_some_and(|p| p.manifest == one.package.manifest);
        advertised || self.has_done(one)
    }

    /// Takes the pins of `offer`, and what its program makes of its package. What was done stays done, whatever it is pinned as: an edit may make
    /// of a dependency what is advertised.
    pub(crate) fn pin(&mut self, offer: &Offer) {
        self.dependencies.clone_from(&offer.dependencies);
        self.making = Making::of(offer);
    }

    /// How many of the dependencies are done.
    pub(crate) fn dependencies_done(&self) -> usize {
        self.dependencies.iter().filter(|one| self.has_done(one)).count()
    }
}

impl Done {
    fn of(one: &PinnedProgram) -> Self {
        Self { manifest: one.package.manifest, program: one.program.clone() }
    }
}

/// What is known of one part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) program: &'a Program,
    pub(crate) manifested: &'a Manifested,
}

/// What is known of a program of a pinned package, or what must happen before anything is.
fn known<'a>(
    contents: &'a Contents,
    package: &PinnedPackage,
    program: &str,
) -> Result<Known<'a>, Move> {
    let manifested = manifested(contents, package)?;
    let found = manifested.program(program).ok_or_else(|| {
        let detail = format!("the package has no program called `{program}`");
        Move::End(failed(Rule::NoSuchProgram, None, detail))
    })?;
    Ok(Known { program: found, manifested })
}

/// What the manifest of a pinned package says, or what must happen before that is known.
pub(crate) fn manifested<'a>(
    contents: &'a Contents,
    package: &PinnedPackage,
) -> Result<&'a Manifested, Move> {
    let content = contents.get(&package.manifest).ok_or(Move::Fetch { wait: None })?;
    match &content.record.standing {
        ContentStanding::Ready { manifested } => Ok(manifested),
        ContentStanding::Refused { rule, why } => Err(Move::End(failed(*rule, None, why.clone()))),
        ContentStanding::Fetching => {
            content.manifested.as_ref().ok_or(Move::Fetch { wait: content.wait })
        }
    }
}

/// The part at work with what is known of it, once every part is known to be for this machine and the
/// chain to be the signed one; else the move that follows from what is not.
pub(crate) fn part_of<'a>(standing: &Standing<'a>, offer: &Offer) -> Result<Known<'a>, Move> {
    let record = standing.record;
    let Some(package) = &record.package else { return Err(Move::Fetch { wait: None }) };
    let main = known(standing.contents, package, &record.program)?;
    applies(standing, main.program)?;
    given(main.program, offer)?;
    let mut wanted = main.program.depends_on.as_ref();
    let mut at_work = main;
    for one in record.dependencies.iter().rev() {
        if !wanted.is_some_and(|wanted| one.is(wanted)) {
            return Err(Move::Wait { why: Waiting::Dependency, until: None });
        }
        let blame = |next| blame(next, one);
        if record.has_done(one) {
            // It and all that went before it are done, whatever has become of their content.
            wanted = None;
            break;
        }
        let known = known(standing.contents, &one.package, one.program.as_str()).map_err(blame)?;
        applies(standing, known.program).map_err(blame)?;
        wanted = known.program.depends_on.as_ref();
        at_work = known;
    }
    match wanted {
        Some(_) => Err(Move::Wait { why: Waiting::Dependency, until: None }),
        None => Ok(at_work),
    }
}

/// Whether the machine is one that `program` is for, and its publisher lets it go.
fn applies(standing: &Standing<'_>, program: &Program) -> Result<(), Move> {
    if program.platform.as_deref().is_some_and(|wanted| !standing.facts.is_platform(wanted)) {
        return Err(Move::Rest(State::NotApplicable { why: NotApplicable::Platform }));
    }
    if !meets(&program.requirements, standing.facts) {
        return Err(Move::Unmet(program.requirements.clone()));
    }
    match program.disabled {
        true => Err(Move::Wait { why: Waiting::Disabled, until: None }),
        false => Ok(()),
    }
}

/// Whether a requirement certainly holds: what cannot be evaluated never does.
pub(crate) fn meets(requirements: &str, facts: &muster_model::facts::Facts) -> bool {
    let text = requirements.trim();
    text.is_empty()
        || muster_model::rule::Rule::parse(text)
            .is_ok_and(|rule| rule.holds(&|name| facts.get(name)) == Truth::Yes)
}

/// The values that `program` runs with, or the end of an obligation whose publisher does not allow
/// them.
fn given(program: &Program, offer: &Offer) -> Result<Values, Move> {
    parameter::resolve(&program.parameters, &offer.parameters, "parameters").map_err(|problems| {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Move::End(failed(Rule::Parameter, None, said.join("; ")))
    })
}

/// An end of a dependency is one of the obligation, with its name.
fn blame(next: Move, one: &PinnedProgram) -> Move {
    match next {
        Move::End(state) => Move::End(blamed(state, one)),
        other => other,
    }
}

/// How the obligation ends when a dependency ended in `state`. What cut it short, cut the obligation
/// short.
pub(crate) fn blamed(state: State, one: &PinnedProgram) -> State {
    match state {
        State::Interrupted { .. } => state,
        other => {
            let exit_code = other.exit_code();
            let detail = format!("{one}: {other}");
            State::Failed { code: Failure { rule: Rule::Dependency, exit_code, detail } }
        }
    }
}

/// A program that detection has no say about and that succeeded here before as a dependency is not run
/// again for this obligation; a dependency neither for any other.
pub(crate) fn ran_before(
    standing: &Standing<'_>,
    program: &Program,
    detection: Option<&Detection>,
) -> bool {
    let Some(part) = standing.record.part().filter(|_| !detects(program, detection)) else {
        return false;
    };
    match part.dependency {
        Some(one) => standing.others.values().any(|other| other.shows(one)),
        None => standing.record.done.iter().any(|done| {
            done.manifest == part.package.manifest && done.program.as_str() == part.program
        }),
    }
}

impl Agent {
    /// The values that the part at work runs with: what is advertised takes what the offer gives, a
    /// dependency its defaults.
    pub(crate) fn values_of(&self, key: &Key, program: &Program) -> Values {
        let dependency = self.dependency_of(key).is_some();
        let offer = self.policy.as_ref().and_then(|policy| {
            crate::obligation::policy_offer(policy, key.advertisement).filter(|_| !dependency)
        });
        let given = offer.map(|offer| offer.parameters.clone()).unwrap_or_default();
        // Looked at right before; a fault would have ended the obligation.
        parameter::resolve(&program.parameters, &given, "parameters").unwrap_or_default()
    }

    /// The dependency that is next or at work.
    pub(crate) fn dependency_of(&self, key: &Key) -> Option<PinnedProgram> {
        self.obligations.get(key)?.part()?.dependency.cloned()
    }

    /// The part at work has reached its goal: the next one follows, or the obligation has ended.
    pub(crate) fn part_succeeded(
        &mut self,
        draft: &mut Draft,
        key: &Key,
        outcome: Outcome,
        told: Told,
    ) {
        if let Some(record) = self.obligations.get_mut(key) {
            record.disputed.clone_from(&outcome.disputed);
        }
        let Some(one) = self.dependency_of(key) else {
            return self.end(draft, key, outcome.state, told);
        };
        self.fired.note(Branch::DependencyDone);
        self.clean_unentered(draft, key);
        let told = Told { attempt_ended: Some(outcome.state), ..told };
        // While the dependency still is the part at work: the message names it.
        self.report(draft, key, State::Accepted, told);
        if let Some(record) = self.obligations.get_mut(key) {
            record.done.push(Done::of(&one));
            record.attempts_anew();
            record.turns.clear();
        }
        draft.obligations.insert(key.clone());
        self.set_stage(draft, key, Stage::Idle);
        self.catch_up(draft, key);
    }

    /// The part at work has ended elsewhere than at its goal, and the obligation with it.
    pub(crate) fn part_ended(
        &mut self,
        draft: &mut Draft,
        key: &Key,
        outcome: Outcome,
        told: Told,
    ) {
        if let Some(record) = self.obligations.get_mut(key) {
            record.disputed.clone_from(&outcome.disputed);
        }
        let state = match self.dependency_of(key) {
            Some(one) => {
                self.fired.note(Branch::DependencyFailed);
                blamed(outcome.state, &one)
            }
            None => outcome.state,
        };
        self.end(draft, key, state, told);
    }
}

/// The success of a dependency that is not run again.
pub(crate) fn already_ran() -> State {
    State::Succeeded { evidence: Evidence { rule: EvidenceKind::AlreadyRan, exit_code: None } }
}

#[cfg(test)]
mod tests;
