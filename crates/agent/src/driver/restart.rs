//! Restarting the machine, as the device was told to when it was enrolled.
//!
//! The machine says when. What becomes of the command is answered within [`COMMAND_MOST`]; that the
//! machine really restarts is proved by another boot and by nothing else.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_agent_core::input::{Input, RestartTry};
use muster_host::failpoint::{self, Point, When};
use tokio::process::Command;

use super::Driver;

/// The longest that the restart command may take: systemd answers at once, a script that first asks
/// something else may take a while.
const COMMAND_MOST: Duration = Duration::from_secs(60);
/// What is told of a command's complaint.
const COMPLAINT_CHARS_MAX: usize = 300;

impl Driver {
    /// Runs the restart command; the answer is `RestartTried`.
    pub(super) fn restart_machine(&mut self) {
        let command = self.setup.config.restart_command();
        self.answer(async move {
            let tried = match command {
                Some(command) => restart(&command, COMMAND_MOST).await,
                None => failed("this device has no restart command"),
            };
            Input::RestartTried(tried)
        });
    }
}

/// Runs `command` with sh(1): it is the administrator's own, and may be more than one word.
async fn restart(command: &str, most: Duration) -> RestartTry {
    tracing::warn!(command, "restarting the machine");
    failpoint::hit(Point::RestartCommand, When::Before);
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return failed(&format!("failed to execute /bin/sh: {error}")),
    };
    failpoint::hit(Point::RestartCommand, When::After);
    match tokio::time::timeout(most, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => RestartTry::Begun,
        Ok(Ok(output)) => failed(&complaint(output.status, &output.stderr)),
        Ok(Err(error)) => failed(&format!("failed to wait for the restart command: {error}")),
        Err(_) => failed(&format!("the restart command did not end within {most:?}")),
    }
}

fn complaint(status: ExitStatus, stderr: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let said = String::from_utf8_lossy(stderr);
    match said.trim() {
        "" => ended,
        said => format!("{ended}: {}", said.chars().take(COMPLAINT_CHARS_MAX).collect::<String>()),
    }
}

fn failed(why: &str) -> RestartTry {
    tracing::error!(why, "the machine was not restarted");
    RestartTry::Failed { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tried = runtime.block_on(restart(command, Duration::from_millis(500)));
        let said = match tried {
            RestartTry::Begun => "begun".to_owned(),
            RestartTry::Failed { why } => why,
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn what_becomes_of_the_command_is_told() {
        check("true && :", "begun");
        check("exit 3", "exit code 3");
        check("echo no right >&2; exit 1", "exit code 1: no right");
        check("kill -9 $$", "signal 9");
        check("exec sleep 60", "the restart command did not end within 500ms");
    }
}
