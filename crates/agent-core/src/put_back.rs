//! A machine that was put back to a snapshot: its memory is as old as its disk, and only the site knows.
//!
//! It shows itself with the first message that it writes, which contradicts what the site has. So after a
//! boot nothing is started until the site has answered that message, or a minute has passed; and what the
//! site then says stands in the policy ([`PutBack`](muster_model::policy::PutBack)), which names the
//! machine by that message and the life of its memory in which it goes on.

use std::time::Duration;

use muster_model::clock::Elapsed;
use muster_model::id::Sequence;

use crate::agent::Agent;
use crate::draft::Draft;
use crate::sometimes::Branch;
use crate::step::Effect;

/// How long a start waits for the site's answer to the first word of a boot. A site that can be reached
/// answers within seconds; one that cannot must not keep a machine from what it may do without it.
pub(crate) const FIRST_ANSWER_MOST: Duration = Duration::from_secs(60);

/// The first word of this boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstWord {
    /// Its message.
    pub(crate) said: Sequence,
    /// Starts wait no longer than this.
    pub(crate) until: Elapsed,
}

impl Agent {
    /// The machine has booted and said so.
    pub(crate) fn first_word_said(&mut self, now: Elapsed) {
        let until = now.plus(FIRST_ANSWER_MOST);
        self.first_word = Some(FirstWord { said: self.memory.head, until });
    }

    /// Until when starts wait for the answer to the first word of this boot; `None`: for nothing.
    pub(crate) fn first_answer_until(&self) -> Option<Elapsed> {
        let word = self.first_word?;
        let open = self.memory.relieved < word.said && self.elapsed < word.until;
        open.then_some(word.until)
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
