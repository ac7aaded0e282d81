//! The real clock: reads wall and boot clock for the cores, shifted as an outside test asks.
//!
//! Both readings go through libc's `clock_gettime`, so a time-shifting preload library sees them.
//! `MUSTER_CLOCK` shifts the wall clock of this process (`+400d`, `-2y`), `MUSTER_ELAPSED` its boot
//! clock, `MUSTER_BOOT_ID` names the boot. Timers of the runtime are not shifted.

use std::path::Path;
use std::time::{Duration, SystemTime};

use muster_model::clock::{Elapsed, Now, Wall};
use muster_model::id::BootId;
use nix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;

use crate::publish::{ReadError, read_limited};

/// Shifts the wall clock of one process.
pub const CLOCK_VARIABLE: &str = "MUSTER_CLOCK";
/// Shifts the boot clock of one process.
pub const ELAPSED_VARIABLE: &str = "MUSTER_ELAPSED";
/// Names the boot in place of the kernel.
pub const BOOT_ID_VARIABLE: &str = "MUSTER_BOOT_ID";

const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A boot id is a UUID of 36 bytes; an override may be a word or two.
const BOOT_ID_BYTES_MAX: u64 = 128;

/// The clock could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// A shift that is not understood.
    #[error(
        "failed to shift the clock: {variable} is a number with s, m, h, d or y such as +400d or -2y, not {value:?}"
    )]
    Shift {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// An override of the boot id that is empty, too long, or not plain text.
    #[error(
        "failed to name the boot: {BOOT_ID_VARIABLE} is 1 to {BOOT_ID_BYTES_MAX} printable ASCII characters, not {0:?}"
    )]
    BootIdText(String),
    /// The kernel did not tell its boot id.
    #[error("failed to read the boot id")]
    BootId(#[source] ReadError),
    /// The kernel has no boot clock.
    #[error("failed to read the boot clock")]
    BootClock(#[source] std::io::Error),
}

/// The clocks of this process. Cheap to clone; all clones agree.
#[derive(Clone, Debug)]
pub struct Clock {
    wall_shift_ms: i64,
    elapsed_shift_ms: i64,
    boot_id: BootId,
    /// What the boot clock said when this was made, for a kernel that later refuses to say.
    first: Duration,
}

impl Clock {
    /// The real clocks, shifted as the environment says.
    pub fn from_env() -> Result<Self, ClockError> {
        Ok(Self {
            wall_shift_ms: shift_from_env(CLOCK_VARIABLE)?,
            elapsed_shift_ms: shift_from_env(ELAPSED_VARIABLE)?,
            boot_id: boot_id(from_env(BOOT_ID_VARIABLE))?,
            first: boot_clock().map_err(ClockError::BootClock)?,
        })
    }

    /// Both clocks, read one right after the other.
    pub fn now(&self) -> Now {
        Now { wall: self.wall(), elapsed: self.elapsed() }
    }

    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    pub fn wall(&self) -> Wall {
        let unix_ms = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Wall(unix_ms.saturating_add(self.wall_shift_ms))
    }

    /// The boot clock. A shift below zero stops at zero.
    pub fn elapsed(&self) -> Elapsed {
        let boot = boot_clock().unwrap_or(self.first);
        let millis = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
        Elapsed(millis.saturating_add_signed(self.elapsed_shift_ms))
    }

    /// This boot of the machine. Compare with a stored one to learn of a restart.
    pub fn boot_id(&self) -> &BootId {
        &self.boot_id
    }
}

/// `wall` as TLS wants it; times before 1970 count as 1970.
pub(crate) fn unix_time(wall: Wall) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(wall.0).unwrap_or(0)))
}

fn boot_clock() -> Result<Duration, std::io::Error> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(std::io::Error::from)?;
    Ok(Duration::from(time))
}

fn boot_id(named: Option<String>) -> Result<BootId, ClockError> {
    let Some(named) = named else {
        let bytes = read_limited(Path::new(KERNEL_BOOT_ID), BOOT_ID_BYTES_MAX);
        let bytes = bytes.map_err(ClockError::BootId)?;
        return Ok(BootId(String::from_utf8_lossy(&bytes).trim().to_owned()));
    };
    let fits = (1..=BOOT_ID_BYTES_MAX).contains(&(named.len() as u64));
    match fits && named.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(BootId(named)),
        false => Err(ClockError::BootIdText(named.chars().take(80).collect())),
    }
}

/// The value of an environment variable; what is no text is kept recognisably wrong.
pub(crate) fn from_env(variable: &str) -> Option<String> {
    std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

fn shift_from_env(variable: &'static str) -> Result<i64, ClockError> {
    match from_env(variable) {
        Some(value) => shift_ms(&value).ok_or(ClockError::Shift { variable, value }),
        None => Ok(0),
    }
}

/// `+400d` in milliseconds. A day has 24 hours and a year 365 days: a shift is a length, not a date.
fn shift_ms(text: &str) -> Option<i64> {
    let unit_ms: i64 = match text.chars().last()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'y' => 365 * 86_400_000,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shifted(wall_shift_ms: i64, elapsed_shift_ms: i64) -> Clock {
        let first = boot_clock().unwrap();
        Clock { wall_shift_ms, elapsed_shift_ms, boot_id: BootId("b".into()), first }
    }

    #[test]
    fn shifts_are_numbers_with_a_unit() {
        for (text, ms) in [
            ("+400d", Some(400 * 86_400_000)),
            ("-2y", Some(-730 * 86_400_000)),
            ("90s", Some(90_000)),
            ("+0h", Some(0)),
            ("-5m", Some(-300_000)),
            ("", None),
            ("d", None),
            ("+d", None),
            ("+-4d", None),
            ("4w", None),
            ("4.5d", None),
            ("4 d", None),
            ("4é", None),
            ("9223372036854775807y", None),
        ] {
            assert_eq!(shift_ms(text), ms, "{text:?}");
        }
    }

    #[test]
    fn each_shift_moves_its_own_clock() {
        let day = 86_400_000;
        let (real, moved) = (shifted(0, 0).now(), shifted(-day, day).now());
        let minute = 60_000;
        assert!((real.wall.0 - moved.wall.0 - day).abs() < minute);
        assert!(moved.elapsed.0 - real.elapsed.0 - (day as u64) < minute as u64);
    }

    #[test]
    fn the_boot_clock_does_not_go_below_its_start() {
        assert_eq!(shifted(0, i64::MIN).elapsed(), Elapsed(0));
    }

    #[test]
    fn the_boot_can_be_named_from_outside() {
        assert_eq!(boot_id(Some("second".into())).unwrap(), BootId("second".into()));
        assert_eq!(boot_id(None).unwrap().0.len(), 36);
        for bad in ["", "two words", &"x".repeat(129)] {
            assert!(boot_id(Some(bad.into())).is_err(), "{bad:?}");
        }
    }
}
