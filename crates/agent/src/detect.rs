//! Runs a detection in its private copy of the package: is the software there?
//!
//! A read-only look that ends soon, so it needs no supervisor: it is a child of the agent, in a
//! process group of its own that is killed when its time is over, when it has ended, and when the
//! agent no longer waits for it. Decides nothing; the machine weighs what was found.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_agent_core::input::Found;
use muster_model::message::OUTPUT_TAIL_BYTES_MAX;
use muster_model::package::Detection;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::env;
use crate::output::Output;

/// After KILL, how long the kernel has to end a detection. What is left then hangs in the kernel, and
/// the agent goes on without it.
const KILL_MOST: Duration = Duration::from_secs(10);
/// Reads of 4 KiB in one turn, four times what a pipe holds: what prints without end must not keep the
/// agent from anything else.
const READS_MAX: usize = 64;

/// Runs `detection` in `copy` with the environment `variables`, for at most its `maxRunTime`, and
/// answers what it found: exit 0 is present, 1 absent, everything else an error with the end of what
/// it printed. Nothing of its process group is left on return, nor when the future is dropped.
pub async fn detect(copy: &Path, detection: &Detection, variables: Vec<(String, String)>) -> Found {
    let words = env::command(&detection.words(), copy);
    let [program, arguments @ ..] = words.as_slice() else {
        return Found::Error("the detection has no command".to_owned());
    };
    let limit = detection.max_run_time.duration();
    let started = Look::start(copy, program, arguments, variables);
    let mut look = match started {
        Ok(look) => look,
        Err(error) => return Found::Error(format!("failed to execute {program}: {error}")),
    };
    let ended = look.watch(Instant::now() + limit).await;
    let printed = look.output.tail();
    match ended {
        Ok(Some(status)) if status.code() == Some(0) => Found::Present,
        Ok(Some(status)) if status.code() == Some(1) => Found::Absent,
        Ok(Some(status)) => Found::Error(said(&ending(status), &printed)),
        Ok(None) => {
            let limit = detection.max_run_time;
            Found::Error(said(&format!("the detection was ended after {limit}"), &printed))
        }
        Err(error) => {
            Found::Error(said(&format!("failed to wait for {program}: {error}"), &printed))
        }
    }
}

/// A detection that runs.
struct Look {
    child: Child,
    /// The child's number, which is its group's. The child is not reaped before its group is killed, so
    /// that the number cannot be anybody else's.
    group: Pid,
    pipe: pipe::Receiver,
    output: Output,
}

impl Look {
    fn start(
        copy: &Path,
        program: &str,
        arguments: &[String],
        variables: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(variables)
            .current_dir(copy)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let group = pid.ok_or(io::ErrorKind::NotFound)?;
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok(Self { child, group, pipe, output: Output::in_memory(OUTPUT_TAIL_BYTES_MAX) })
    }

    /// How it ended; `None` if it had to be killed at `until`.
    async fn watch(&mut self, until: Instant) -> io::Result<Option<ExitStatus>> {
        let in_time = timeout_at(until, self.until_ended()).await;
        self.kill_group();
        self.drain();
        let reaped = timeout(KILL_MOST, self.child.wait()).await;
        match in_time {
            Ok(ended) => ended?,
            Err(_late) => return Ok(None),
        }
        match reaped {
            Ok(status) => status.map(Some),
            Err(_hangs) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn until_ended(&mut self) -> io::Result<()> {
        let mut ended = ended(self.group);
        let mut open = true;
        loop {
            tokio::select! {
                ended = &mut ended => return ended?,
                ready = self.pipe.readable(), if open => {
                    ready?;
                    open = read(|buffer| self.pipe.try_read(buffer), &mut self.output);
                }
            }
        }
    }

    /// What was printed and not read yet. Asks the pipe itself: the runtime may not have heard of it.
    fn drain(&mut self) {
        read(|buffer| Ok(rustix::io::read(&self.pipe, buffer)?), &mut self.output);
    }

    fn kill_group(&self) {
        // ESRCH: all of it has ended.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// Waits on a thread of its own for the child to end, without reaping it.
fn ended(child: Pid) -> JoinHandle<io::Result<()>> {
    let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    tokio::task::spawn_blocking(move || {
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(child), seen))?;
        Ok(())
    })
}

/// Takes what can be had without waiting; false once the other end is closed.
fn read(mut from: impl FnMut(&mut [u8]) -> io::Result<usize>, output: &mut Output) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..READS_MAX {
        match from(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => output.take(&buffer[..length]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

impl Drop for Look {
    /// Nobody waits for it any more. A child that was reaped has no group left to kill.
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.kill_group();
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the detection exited with {code}"),
        (None, Some(signal)) => format!("signal {signal} ended the detection"),
        (None, None) => "the detection ended".to_owned(),
    }
}

fn said(what: &str, printed: &str) -> String {
    match printed.trim() {
        "" => what.to_owned(),
        printed => format!("{what}: {printed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Runs `script` as a detection of at most `seconds` in a fresh copy.
    async fn check(script: &str, seconds: u64) -> Found {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("detect.sh"), script).unwrap();
        look(copy.path(), seconds).await
    }

    async fn look(copy: &Path, seconds: u64) -> Found {
        let detection = Detection {
            command_line: Some("sh detect.sh".to_owned()),
            command: None,
            max_run_time: muster_model::period::Period::secs(seconds),
        };
        let variables = vec![("PATH".to_owned(), env::PATH.to_owned())];
        detect(copy, &detection, variables).await
    }

    #[track_caller]
    fn assert_error(found: &Found, said: &str) {
        assert!(matches!(found, Found::Error(why) if why.contains(said)), "{found:?}");
    }

    #[tokio::test]
    async fn exit_zero_is_present_one_absent_and_all_else_an_error() {
        assert_eq!(check("exit 0", 60).await, Found::Present);
        assert_eq!(check("exit 1", 60).await, Found::Absent);
        assert_error(
            &check("echo no database >&2; exit 2", 60).await,
            "exited with 2: no database",
        );
        assert_error(&check("kill -SEGV $$", 60).await, "signal 11");
    }

    #[tokio::test]
    async fn it_runs_in_the_copy_with_nothing_inherited() {
        let script = r#"test -f detect.sh && test -z "$HOME" && test -z "$CARGO_MANIFEST_DIR""#;
        assert_eq!(check(script, 60).await, Found::Present);
    }

    #[tokio::test]
    async fn what_cannot_be_executed_is_an_error_that_names_it() {
        let copy = tempfile::tempdir().unwrap();
        let detection = Detection {
            command_line: None,
            command: Some(vec!["no-such-command".to_owned()]),
            max_run_time: muster_model::period::Period::secs(5),
        };
        assert_error(&detect(copy.path(), &detection, Vec::new()).await, "no-such-command");
    }

    #[tokio::test]
    async fn its_whole_group_is_killed_when_its_time_is_over() {
        let copy = tempfile::tempdir().unwrap();
        let script = "sleep 600 & echo $! > child; echo looking; wait";
        fs::write(copy.path().join("detect.sh"), script).unwrap();
        let found = look(copy.path(), 1).await;
        assert_error(&found, "ended after 1s: looking");
        assert_gone(&copy.path().join("child")).await;
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_killed_and_not_waited_for() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("detect.sh"), "sleep 600 & echo $! > child; exit 1").unwrap();
        assert_eq!(look(copy.path(), 300).await, Found::Absent);
        assert_gone(&copy.path().join("child")).await;
    }

    #[tokio::test]
    async fn nothing_is_left_when_nobody_waits_any_more() {
        let copy = tempfile::tempdir().unwrap();
        let child = copy.path().join("child");
        let script = "sleep 600 & echo $! > begun; mv begun child; wait";
        fs::write(copy.path().join("detect.sh"), script).unwrap();
        tokio::select! {
            found = look(copy.path(), 300) => panic!("{found:?}"),
            () = until(|| child.exists()) => {}
        }
        assert_gone(&child).await;
    }

    #[tokio::test]
    async fn endless_output_is_cut_to_its_end() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 3";
        let Found::Error(why) = check(script, 60).await else { panic!("not an error") };
        assert!(why.len() < OUTPUT_TAIL_BYTES_MAX + 100 && why.ends_with("line 2999"), "{why}");
    }

    /// Waits until the process whose number is in `file` is gone.
    async fn assert_gone(file: &Path) {
        let pid = fs::read_to_string(file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // Killed and not reaped yet by whoever inherited it counts as gone.
        until(|| {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
                || !Path::new(&stat).exists()
        })
        .await;
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let waited = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), waited).await.expect("it never came to hold");
    }
}
