//! A notice on the desktop of who is logged on: `org.freedesktop.Notifications.Notify` on the session's
//! bus, said by `busctl` as the session's user.
//!
//! It is a courtesy: where there is no bus, no desktop or no `busctl`, the agent's log says so and
//! nothing else changes. The start itself goes by `agent software`, with or without anybody who saw it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use muster_agent_core::telling::{Announcement, Telling};
use muster_model::clock::Wall;
use muster_model::period::Period;

use crate::sessions::{RUNTIME_FOLDERS, Sessions, bus_below};
use crate::user;

/// The program that speaks D-Bus for the agent; it comes with systemd.
const BUSCTL: &str = "busctl";
/// How long a desktop may take to answer.
const ANSWER_MOST: &str = "--timeout=5";
/// What is told of a complaint of the bus.
const COMPLAINT_CHARS_MAX: usize = 300;
/// `urgency`, as the desktop notifications specification numbers it: critical ones stay until closed.
const URGENCY_CRITICAL: &str = "2";

/// Tells each of the users; blocks for as long as their desktops take to answer, one after the other.
pub(crate) fn tell(sessions: &Sessions, telling: &Telling, zone: &TimeZone) {
    let (title, text) = words(&telling.what, zone);
    for user in &telling.users {
        match notify(sessions, user, &title, &text) {
            Ok(()) => tracing::info!(user, title, "told on the desktop"),
            Err(why) => tracing::info!(user, title, why, "not told on the desktop"),
        }
    }
}

/// Title and text of an announcement.
fn words(what: &Announcement, zone: &TimeZone) -> (String, String) {
    match what {
        Announcement::Start { name, remaining, at, latest } => {
            let remaining = in_words(*remaining);
            let mut text = format!("It starts in {remaining}, at {}.", time(*at, zone));
            if let Some(latest) = latest {
                text.push_str(&format!(
                    " `muster agent software defer` puts it off, until {} at the latest.",
                    time(*latest, zone)
                ));
            }
            (format!("{name} starts in {remaining}"), text)
        }
        Announcement::Restart { remaining } => {
            let remaining = in_words(*remaining);
            let text = "Software that was installed needs it. Save your work.".to_owned();
            (format!("This machine restarts in {remaining}"), text)
        }
    }
}

/// A length of time in whole seconds, or in whole minutes from two on.
fn in_words(length: Duration) -> String {
    let secs = length.as_millis().div_ceil(1_000);
    let secs = u64::try_from(secs).unwrap_or(u64::MAX);
    let whole = if secs >= 120 { secs.div_ceil(60).saturating_mul(60) } else { secs };
    Period::of(Duration::from_secs(whole)).to_string()
}

/// A time of the device, with its day.
fn time(at: Wall, zone: &TimeZone) -> String {
    let instant = Timestamp::from_millisecond(at.0).unwrap_or_default();
    instant.to_zoned(zone.clone()).strftime("%a %H:%M").to_string()
}

fn notify(sessions: &Sessions, name: &str, title: &str, text: &str) -> Result<(), String> {
    let account = user::find(name).ok_or("the machine knows no such user")?;
    let address = match sessions.bus_of(name) {
        Some(address) => address,
        None => bus_below(Path::new(RUNTIME_FOLDERS), account.uid)?,
    };
    let mut command = Command::new(BUSCTL);
    command
        .args([&format!("--address={address}"), ANSWER_MOST, "call"])
        .args(["org.freedesktop.Notifications", "/org/freedesktop/Notifications"])
        .args(["org.freedesktop.Notifications", "Notify", "susssasa{sv}i"])
        // Who says it, what it replaces, its icon, title, text, actions, hints, how long it stays.
        .args([
            "Muster",
            "0",
            "",
            title,
            text,
            "0",
            "1",
            "urgency",
            "y",
            URGENCY_CRITICAL,
            "--",
            "-1",
        ])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if user::is_another(&account) {
        if !user::may_become(&account) {
            return Err("the agent may not become this user".to_owned());
        }
        command.uid(account.uid).gid(account.gid);
    }
    let output =
        command.output().map_err(|error| format!("failed to execute {BUSCTL}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.trim().chars().take(COMPLAINT_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall(1_800_014_400_000);

    #[track_caller]
    fn check(what: Announcement, title: &str, text: &str) {
        let (said, body) = words(&what, &TimeZone::UTC);
        assert_eq!((said.as_str(), body.as_str()), (title, text));
    }

    #[test]
    fn an_announcement_says_what_and_when_and_what_one_can_do() {
        let start = |secs: u64, latest| Announcement::Start {
            name: "Editor".into(),
            remaining: Duration::from_millis(secs * 1_000 - 1),
            at: NOON,
            latest,
        };
        check(start(300, None), "Editor starts in 5m", "It starts in 5m, at Fri 12:00.");
        let latest = Some(NOON.plus(Duration::from_secs(3_600)));
        check(
            start(90, latest),
            "Editor starts in 1m 30s",
            "It starts in 1m 30s, at Fri 12:00. `muster agent software defer` puts it off, until Fri 13:00 at \
             the latest.",
        );
        let restart = Announcement::Restart { remaining: Duration::from_secs(60) };
        let text = "Software that was installed needs it. Save your work.";
        check(restart, "This machine restarts in 1m", text);
    }
}
