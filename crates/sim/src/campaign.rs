//! Many worlds: seeds over threads, and what they add up to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sometimes::Seen;
use crate::world::{Ended, Options, run};

/// What a campaign found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worlds that were run.
    pub seeds: u64,
    /// Worlds in which an invariant did not hold, by seed.
    pub broken: Vec<Ended>,
    /// Events of all worlds.
    pub steps: u64,
    /// Programs executed in all worlds.
    pub executions: u64,
    /// Rare branches, and in how many worlds each fired.
    pub seen: Seen,
}

impl Report {
    fn add(&mut self, ended: Ended) {
        self.seeds += 1;
        self.steps += ended.steps;
        self.executions += ended.executions;
        self.seen.add(&ended.seen);
        if ended.violation.is_some() {
            self.broken.push(ended);
        }
    }
}

/// Runs the seeds from `from` to before `to` on `jobs` threads. With `stop_at_first`, no new world is
/// begun once one was found broken.
pub fn campaign(from: u64, to: u64, options: &Options, jobs: usize, stop_at_first: bool) -> Report {
    let next = AtomicU64::new(from);
    let report = Mutex::new(Report::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return;
            }
            let ended = run(seed, options);
            let broken = ended.violation.is_some();
            // A panic in another thread ends the campaign; what it counted so far does not matter.
            if let Ok(mut report) = report.lock() {
                report.add(ended);
            }
            if broken && stop_at_first {
                next.store(to, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    let mut report = report.into_inner().unwrap_or_default();
    report.broken.sort_by_key(|ended| ended.seed);
    report
}
