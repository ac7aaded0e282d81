//! The step that is being made: what one input changes, gathered so that each row is written once.

use std::collections::BTreeSet;

use muster_model::clock::Now;

use crate::saved::Key;
use crate::step::{Effect, Step, Write};

/// A step in the making. Rows that may change several times within one input are only marked, and
/// written when all is decided.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Both clocks at the input.
    pub(crate) now: Now,
    /// The memory changed.
    pub(crate) memory: bool,
    /// The policy changed.
    pub(crate) policy: bool,
    /// These obligations changed.
    pub(crate) obligations: BTreeSet<Key>,
    writes: Vec<Write>,
    effects: Vec<Effect>,
}

impl Draft {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            now,
            memory: false,
            policy: false,
            obligations: BTreeSet::new(),
            writes: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// An obligation is let go of, whatever else this step wrote of it.
    pub(crate) fn forget_obligation(&mut self, key: Key) {
        self.obligations.remove(&key);
        self.write(Write::ObligationForgotten(key));
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The step, with the rows that were only marked in front.
    pub(crate) fn finish(self, mut marked: Vec<Write>) -> Step {
        marked.extend(self.writes);
        Step { writes: marked, effects: self.effects }
    }
}
