//! Run folders as evidence, for a device that lost its journal.
//!
//! The folders lie beside the journal and outlive it. Each says what was armed there ([`Launch`]) and
//! what came of it, and stays until the site has the outcome. So where the account is silent, because
//! the newest messages were lost with the journal, the folders still know what was started:
//!
//! ```text
//! attempt of the folder > attempts of the account   the run is followed again, and judged as any other
//! the account says it was running                    the same, with the program that was signed
//! the account says that a snapshot undid it          the same: the folder is the snapshot's own
//! else                                               the site has its outcome: the folder goes
//! ```
//!
//! A run of a dependency tells how far its obligation had come: what goes before it is done.
//!
//! Of the runs for several users the newest folder tells whose turn comes next, also where the account
//! knows that it has ended ([`crate::turn`]).
//!
//! A program that was never entered was not started: only the account can make it count.

use muster_model::policy::PinnedProgram;
use muster_model::state::{State, Withdrawal, Word};

use crate::agent::Agent;
use crate::draft::Draft;
use crate::input::{FoundRun, RunEvidence};
use crate::outcome::detects;
use crate::report::Told;
use crate::saved::{Key, ObligationRecord, RunRecord, Stage};
use crate::sometimes::Branch;
use crate::step::{Effect, Launch, Write};

impl Agent {
    /// Whether the account is awaited. Until it has come, the run folders are evidence: none may go,
    /// and [`crate::input::Input::Started`] brings what they show.
    pub fn awaits_account(&self) -> bool {
        self.memory.awaits_account
    }

    /// Weighs what the folders showed against the account, which has just been taken. Attempts are
    /// taken from the newest down, so that an older one finds a newer one counted.
    pub(crate) fn take_found(&mut self, draft: &mut Draft) {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|one| std::cmp::Reverse((one.launch.attempt, one.has_begun())));
        for one in found {
            let known = self.obligations.get(&one.launch.key);
            if counts(known, &one) {
                self.follow_again(draft, one.launch);
            } else if shows_turns(known, &one) {
                self.take_turns(draft, one.launch, &one.evidence);
            } else if one.evidence != RunEvidence::Alive {
                draft.effect(Effect::Discard(one.launch.run));
            }
        }
    }

    fn follow_again(&mut self, draft: &mut Draft, launch: Launch) {
        self.fired.note(Branch::FoundAgain);
        let key = launch.key.clone();
        let trusted = self.trusted(draft.now);
        let attempt = launch.attempt;
        let run = launch.run;
        let record = self.obligations.entry(key.clone()).or_insert_with(|| {
            ObligationRecord::told(key.clone(), launch.revision, 0, State::Targeted, trusted)
        });
        let told = record.stage == Stage::Recalled && record.attempts == attempt;
        record.name.clone_from(&launch.advertisement_name);
        record.revision = launch.revision;
        record.attempts = attempt;
        record.uncounted = launch.uncounted;
        record.had_come_to(&launch);
        record.turns.clone_from(&launch.turns);
        if detects(&launch.program, launch.detection.as_ref()) {
            self.want_content(draft, &launch.package);
        }
        let record = RunRecord::of(launch);
        draft.write(Write::Run(Box::new(record.clone())));
        self.runs.insert(run, record);
        self.set_stage(draft, &key, Stage::Running { run });
        if !told {
            let told = Told { run: Some(run), ..Told::default() };
            self.report(draft, &key, State::Running { attempt }, told);
        }
        if self.policy.is_some() {
            draft.effect(Effect::Inspect(run));
        }
    }

    /// Looks at the folder of every run whose end is awaited.
    pub(crate) fn inspect_runs(&self, draft: &mut Draft) {
        for (run, record) in &self.runs {
            if self.stage_of(&record.key) == Some(&Stage::Running { run: *run }) {
                draft.effect(Effect::Inspect(*run));
            }
        }
    }

    pub(crate) fn stage_of(&self, key: &Key) -> Option<&Stage> {
        self.obligations.get(key).map(|record| &record.stage)
    }
}

/// Whether a folder tells more of its obligation than `known` does. What the device itself had ended
/// stays ended; what the site ended in its place does not, because it had not heard of the run.
fn counts(known: Option<&ObligationRecord>, found: &FoundRun) -> bool {
    if found.launch.dependency && !is_pinned(&found.launch) {
        return false;
    }
    let stays = known.is_some_and(|record| {
        let by_site =
            matches!(record.reported.word(), Word::Withdrawn | Word::Expired | Word::Lost);
        record.stage == Stage::Over && !by_site
    });
    if stays {
        return false;
    }
    let attempts = known.map_or(0, |record| record.attempts);
    let recalled = known.is_some_and(|record| record.stage == Stage::Recalled);
    // Attempts that the snapshot does not know of are undone with the rest.
    let undone = known.is_some_and(|record| record.stage == Stage::Undone);
    let attempt = found.launch.attempt;
    if undone {
        return found.has_begun();
    }
    (recalled && attempt == attempts) || (found.has_begun() && attempt > attempts)
}

/// Whether a dependency's launch is one of those that it names.
fn is_pinned(launch: &Launch) -> bool {
    launch.dependencies.iter().any(|one| is_of(one, launch))
}

fn is_of(one: &PinnedProgram, launch: &Launch) -> bool {
    one.package.manifest == launch.package.manifest && one.program == launch.program.name
}

impl ObligationRecord {
    /// Takes from a launch how far the obligation had come: parts run in their order. What is advertised
    /// is known from the launch of that alone; else the policy tells it.
    fn had_come_to(&mut self, launch: &Launch) {
        let before = match launch.dependency {
            true => launch.dependencies.iter().take_while(|one| !is_of(one, launch)).count(),
            false => {
                self.package = Some(launch.package.clone());
                self.program = launch.program.name.to_string();
                launch.dependencies.len()
            }
        };
        self.went_before(launch.dependencies.clone(), before);
    }
}

/// Whether a folder is that of the newest of several users' runs, which the account tells to have ended,
/// while more are to follow.
fn shows_turns(known: Option<&ObligationRecord>, found: &FoundRun) -> bool {
    let launch = &found.launch;
    launch.user.is_some()
        && found.has_begun()
        && found.evidence != RunEvidence::Alive
        && known.is_some_and(|record| {
            let left = State::Withdrawn { why: Withdrawal::LeftCollection };
            let between = record.stage.is_before_start() || record.reported == left;
            between && record.turns.is_empty() && record.attempts == launch.attempt
        })
}

impl FoundRun {
    fn has_begun(&self) -> bool {
        self.evidence != RunEvidence::NeverEntered
    }
}

impl RunRecord {
    pub(crate) fn of(launch: Launch) -> Self {
        Self {
            run: launch.run,
            key: launch.key,
            attempt: launch.attempt,
            launch: launch.launch,
            boot: launch.boot,
            program: launch.program,
            detection: launch.detection,
            manifest: launch.package.manifest,
            stopped: false,
            told_in: None,
            parameters: launch.parameters,
            user: launch.user,
        }
    }
}

#[cfg(test)]
mod tests;
