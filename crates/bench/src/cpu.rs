//! The CPU time of other processes, as the kernel counts it: their own, user and system.

use std::time::Duration;

use crate::error::BenchError;

/// The kernel tells times in hundredths of a second (USER_HZ), whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);
/// Where `utime` and `stime` stand behind the name of the program (proc(5), /proc/pid/stat).
const TIMES_AT: usize = 11;

/// What these processes, with all their threads, have used so far.
pub(crate) fn used(pids: &[u32]) -> Result<Duration, BenchError> {
    pids.iter().map(|pid| used_by(*pid)).sum()
}

fn used_by(pid: u32) -> Result<Duration, BenchError> {
    let failed = |source| BenchError::Process { pid, source };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(failed)?;
    let ticks = ticks(&stat);
    let ticks = ticks.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    Ok(TICK * ticks)
}

/// The name stands in parentheses and may hold any character, so it is skipped from its far end.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(TIMES_AT);
    let (user, system): (u32, u32) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 3 0 25 17 0 0 20 0 2 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(used(&[u32::MAX]).is_err());
        assert!(used(&[std::process::id()]).is_ok());
    }
}
