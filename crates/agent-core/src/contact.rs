//! Contact with the site: polls, the account, and the site's signed time.
//!
//! A poll follows the last answer at once, because the site holds it open; after a failure by back-off.
//! At most one question is under way, so that a failure is never taken for another question's.

use std::time::Duration;

use muster_model::advertisement::OfflineFor;
use muster_model::clock::{Elapsed, Wall};
use muster_model::message::Body;
use muster_model::policy::Policy;
use muster_model::settings::Setting;

use crate::agent::Agent;
use crate::backoff::{BACKOFF_LEAST, Backoff};
use crate::draft::Draft;
use crate::policy::PolicyRefusal;
use crate::sometimes::Branch;
use crate::step::Effect;

/// A question without an answer for so long beyond the time that the site may hold it is taken as
/// failed.
const ANSWER_MOST: Duration = Duration::from_secs(120);

/// A poll is held for this part of the shortest `offlineFor` at most: each answer is word from the site,
/// and there is time for one that fails.
const HEARD_WITHIN: u32 = 3;

/// A poll that was held and breaks says nothing of the time before: the outage began in these last seconds.
/// When in them is each device's own guess, so that a fleet that loses its site at one moment does not come
/// back at one moment.
const CUT_WITHIN: Duration = Duration::from_secs(10);

/// What is asked, and when to ask again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    asking: Option<Asking>,
    poll: Backoff,
    account: Backoff,
    /// The refusal that was last told, so that a relay that repeats itself makes one message.
    refusal_told: Option<String>,
    /// What last went wrong, for people.
    pub(crate) trouble: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    question: Question,
    since: Elapsed,
    wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Poll,
    Account,
}

impl Contact {
    pub(crate) fn hasten(&mut self) {
        self.poll.hasten();
        self.account.hasten();
    }

    pub(crate) fn hasten_poll(&mut self) {
        self.poll.hasten();
    }

    pub(crate) fn deadline(&self, awaits_account: bool) -> Elapsed {
        match self.asking {
            Some(asking) => asking.since.plus(asking.wait).plus(ANSWER_MOST),
            None if awaits_account => self.poll.due().min(self.account.due()),
            None => self.poll.due(),
        }
    }
}

impl Agent {
    /// Asks what is due.
    pub(crate) fn pump_contact(&mut self, draft: &mut Draft) {
        let now = draft.now.elapsed;
        let overdue = |asking: &Asking| now.since(asking.since) >= asking.wait + ANSWER_MOST;
        if self.contact.asking.as_ref().is_some_and(overdue) {
            self.fired.note(Branch::AnswerOverdue);
            self.poll_failed(draft, "no answer in time".to_owned());
        }
        if self.contact.asking.is_some() {
            return;
        }
        if self.memory.awaits_account && self.contact.account.is_due(now) {
            let (question, wait) = (Question::Account, Duration::ZERO);
            self.contact.asking = Some(Asking { question, since: now, wait });
            draft.effect(Effect::FetchAccount);
        } else if self.contact.poll.is_due(now) {
            let wait = self.poll_wait(now);
            self.contact.asking = Some(Asking { question: Question::Poll, since: now, wait });
            let tag = self.policy.as_ref().map(|policy| policy.tag);
            draft.effect(Effect::Poll { tag, wait });
        }
    }

    /// While the account is awaited no poll is held beyond the next question for it; and never so long
    /// that a device that is connected would take what it holds for stale (`offlineFor`).
    fn poll_wait(&self, now: Elapsed) -> Duration {
        if self.is_on_trial() {
            return BACKOFF_LEAST;
        }
        let offers = self.policy.iter().flat_map(|policy| &policy.advertisements);
        let heard_of = offers.filter_map(|offer| match offer.offline_for {
            OfflineFor::Unlimited => None,
            OfflineFor::AtMost(most) => Some(most.duration() / HEARD_WITHIN),
        });
        let wait = heard_of.fold(self.setting(Setting::PollWait), Duration::min);
        let wait = wait.max(BACKOFF_LEAST);
        match self.memory.awaits_account {
            true => wait.min(self.contact.account.due().since(now)).max(BACKOFF_LEAST),
            false => wait,
        }
    }

    pub(crate) fn nothing_new(&mut self, draft: &mut Draft, site_time: Option<Wall>) {
        self.site_heard(draft, site_time);
        self.upgrading.heard |= site_time.is_some();
        self.answered(draft, Question::Poll);
    }

    pub(crate) fn policy_arrived(
        &mut self,
        draft: &mut Draft,
        policy: Policy,
        site_time: Option<Wall>,
    ) {
        self.site_heard(draft, site_time);
        match self.policy_refusal(&policy) {
            Some(refusal) => self.refuse(draft, refusal.to_string(), Some(&refusal)),
            None => {
                self.upgrading.heard |= site_time.is_some();
                self.answered(draft, Question::Poll);
                self.contact.refusal_told = None;
                self.take_policy(draft, policy);
            }
        }
    }

    /// The shell has refused a document.
    pub(crate) fn policy_refused(&mut self, draft: &mut Draft, why: String) {
        self.refuse(draft, why, None);
    }

    fn refuse(&mut self, draft: &mut Draft, why: String, refusal: Option<&PolicyRefusal>) {
        self.fired.note(Branch::PolicyRefused);
        // An older policy comes from a cache that lags: it is named by what is at hand, so that a
        // sequence of them is one refusal.
        let told = match refusal {
            Some(PolicyRefusal::OlderRevision { at_hand, .. }) => format!("older than {at_hand}"),
            _ => why.clone(),
        };
        if self.contact.refusal_told.as_ref() != Some(&told) {
            self.contact.refusal_told = Some(told);
            self.say(draft, Body::PolicyRefused { why: why.clone() });
        }
        self.failed(draft, Question::Poll, why);
    }

    pub(crate) fn poll_failed(&mut self, draft: &mut Draft, why: String) {
        let Some(asking) = self.contact.asking else {
            return self.ignore("an answer to a poll that nobody waits for");
        };
        self.failed(draft, asking.question, why);
    }

    /// The account has come.
    pub(crate) fn account_answered(&mut self, draft: &mut Draft) {
        self.answered(draft, Question::Account);
        // What is offered can be acted on now.
        self.contact.poll.hasten();
    }

    fn answered(&mut self, draft: &Draft, question: Question) {
        let now = draft.now.elapsed;
        let Some(asking) = self.contact.asking.filter(|asking| asking.question == question) else {
            return;
        };
        self.contact.asking = None;
        self.contact.trouble = None;
        // Answers that come at once must not make a loop without a pause.
        let next = asking.since.plus(BACKOFF_LEAST);
        self.backoff_of(question).succeeded(next.max(now));
    }

    fn failed(&mut self, draft: &Draft, question: Question, why: String) {
        let now = draft.now.elapsed;
        self.contact.trouble = Some(why);
        let Some(asking) = self.contact.asking.take_if(|asking| asking.question == question) else {
            return self.ignore("an answer to a question that nobody asked");
        };
        let most = self.setting(Setting::BackoffMost);
        let mut jitter = self.jitter;
        let ago = now.since(asking.since).min(jitter.below(CUT_WITHIN));
        let began = Elapsed(now.0.saturating_sub(ago.as_millis() as u64));
        self.backoff_of(question).failed(began, now, most, &mut jitter);
        self.jitter = jitter;
    }

    fn backoff_of(&mut self, question: Question) -> &mut Backoff {
        match question {
            Question::Poll => &mut self.contact.poll,
            Question::Account => &mut self.contact.account,
        }
    }

    pub(crate) fn link_up(&mut self) {
        self.contact.hasten();
        self.outbox.hasten();
        self.contents.values_mut().for_each(crate::content::Content::hasten);
    }

    /// Takes the site's signed time: trusted time, and proof that the site was heard. An old one that
    /// is replayed proves nothing new.
    fn site_heard(&mut self, draft: &mut Draft, site_time: Option<Wall>) {
        let Some(site_time) = site_time else { return };
        self.heard_after_first_word();
        self.memory.time.learn(site_time, draft.now);
        // A poll that brings nothing new costs no write, unless it is the first.
        draft.memory |= self.memory.last_heard.is_none();
        self.memory.last_heard = self.memory.last_heard.max(Some(site_time));
    }
}

#[cfg(test)]
mod tests;
