//! A machine that was put back to a snapshot: its memory is as old as its disk, and only the site knows.
//!
//! It shows itself with the first message that it writes, which contradicts what the site has. So after a
//! boot nothing is started until the site has answered that message, or a minute has passed, ten seconds
//! where the site is not heard at all. What the site then says stands in the policy
//! ([`PutBack`](muster_model::policy::PutBack)), which names the machine by that message and the life of its
//! memory in which it goes on.

use std::time::Duration;

use muster_model::clock::Elapsed;
use muster_model::id::Sequence;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::sometimes::Branch;
use crate::step::Effect;

/// How long a start waits for the answer to the first word of a boot of a site that is heard otherwise.
pub(crate) const FIRST_ANSWER_MOST: Duration = Duration::from_secs(60);
/// The same where the site is not heard: it must not keep a machine for long from what that may do without
/// it, and what it has advertised since a snapshot cannot come by another way.
pub(crate) const UNHEARD_MOST: Duration = Duration::from_secs(10);

/// The first word of this boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstWord {
    /// Its message.
    pub(crate) said: Sequence,
    /// When it was said.
    pub(crate) at: Elapsed,
    /// The site was heard since.
    pub(crate) heard: bool,
}

impl Agent {
    /// The machine has booted and said so.
    pub(crate) fn first_word_said(&mut self, now: Elapsed) {
        self.first_word = Some(FirstWord { said: self.memory.head, at: now, heard: false });
    }

    /// The site was heard, in this boot.
    pub(crate) fn heard_after_first_word(&mut self) {
        if let Some(word) = &mut self.first_word {
            word.heard = true;
        }
    }

    /// Until when starts wait for the answer to the first word of this boot; `None`: for nothing.
    pub(crate) fn first_answer_until(&self) -> Option<Elapsed> {
        let word = self.first_word.filter(|word| self.memory.relieved < word.said)?;
        let until = word.at.plus(if word.heard { FIRST_ANSWER_MOST } else { UNHEARD_MOST });
        (self.elapsed < until).then_some(until)
    }

    /// Goes on in the life that the policy names, if it is this machine that it names.
    pub(crate) fn go_on_if_put_back(&mut self, draft: &mut Draft) {
        let Some(put_back) = self.policy.as_ref().and_then(|policy| policy.put_back.as_ref())
        else {
            return;
        };
        let is_me = put_back.incarnation == self.identity.incarnation
            && put_back.life > self.identity.incarnation
            && self.outbox.chain_at(put_back.sequence) == Some(put_back.chain);
        if is_me {
            let life = put_back.life;
            self.fired.note(Branch::PutBack);
            draft.effect(Effect::GoOnAs(life));
        }
    }
}

#[cfg(test)]
mod tests;
