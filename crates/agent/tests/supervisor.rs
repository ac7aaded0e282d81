//! The supervisor with real processes: what the folder shows is what happened, whoever was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_agent::run_folder::{Product, RunFolder, RunSpec, RunUser};
use muster_agent::supervisor::{Leaf, Refusal};
use muster_agent_core::input::{Ending, Exit, ResultForm, RunEvidence};
use muster_host::clock::Clock;
use muster_model::digest::Digest;
use muster_model::id::BootId;
use muster_model::message::RunId;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A run of one shell script, and the supervisors that were started for it.
struct Run {
    _data: TempDir,
    folder: RunFolder,
    run_file: PathBuf,
}

impl Run {
    fn of(script: &str) -> Self {
        Self::with(script, 60_000, 10_000)
    }

    fn with(script: &str, max_run_time_ms: u64, grace_ms: u64) -> Self {
        let data = tempfile::tempdir().unwrap();
        let run = RunId(Digest::of(script.as_bytes()));
        let folder = RunFolder::of(data.path(), run);
        folder.create().unwrap();
        let run_file = data.path().join("run.json");
        let spec = RunSpec {
            run,
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("MUSTER_RUN_ID".into(), run.to_string()),
            ],
            directory: folder.path().to_owned(),
            max_run_time_ms,
            grace_ms,
            result: folder.join("result"),
            run_file: run_file.clone(),
            start_by: None,
            user: None,
            control_group: None,
            product: Some(Product { name: "hello".into(), version: "1".into() }),
        };
        folder.write_spec(&spec).unwrap();
        Self { _data: data, folder, run_file }
    }

    /// Gives the run a control group of its own; `None` where none can be made.
    fn in_a_group(&self) -> Option<Leaf> {
        let unique = Digest::of(self.folder.path().as_os_str().as_encoded_bytes());
        let leaf = Leaf::of_run(RunId(unique))?;
        let spec = self.folder.spec().unwrap().unwrap();
        let control_group = Some(leaf.path().to_owned());
        self.folder.write_spec(&RunSpec { control_group, ..spec }).unwrap();
        Some(leaf)
    }

    /// Arms launch `launch` and starts its supervisor with the lock, as the agent does.
    fn launch(&self, launch: u32) -> Child {
        let lock = self.folder.lock().unwrap().expect("the lock is free");
        self.folder.raise_launch(&lock, launch).unwrap();
        self.supervisor(launch, lock.into_file().into())
    }

    fn supervisor(&self, launch: u32, stdin: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_muster-supervise"))
            .arg("supervise")
            .arg(self.folder.path())
            .arg(launch.to_string())
            .stdin(stdin)
            .spawn()
            .unwrap()
    }

    /// Runs it to its end.
    fn exit(&self) -> Exit {
        assert!(self.launch(1).wait().unwrap().success());
        match self.look() {
            RunEvidence::Exited(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    fn look(&self) -> RunEvidence {
        self.folder.look(Clock::from_env().unwrap().boot_id())
    }

    /// The program tells through a fifo that it has come so far; answers what it wrote.
    fn await_program(&self, fifo: &Path) -> String {
        let mut said = String::new();
        fs::File::open(fifo).unwrap().read_to_string(&mut said).unwrap();
        said.trim().to_owned()
    }
}

fn fifo() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    (dir, path)
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn exit_code_output_and_result_are_recorded() {
    let run = Run::of(
        "echo out; echo err >&2; echo '{\"succeeded\":true,\"restart\":true}' > result; exit 7",
    );
    let exit = run.exit();
    assert_eq!(exit.ending, Ending::Exited { code: 7 });
    assert_eq!(exit.output, "out\nerr\n");
    let result = exit.result.unwrap();
    assert_eq!((result.succeeded, result.restart), (Some(true), true));
    assert_eq!(fs::read_to_string(run.folder.join("output")).unwrap(), "out\nerr\n");
}

#[test]
fn the_ends_of_much_output_are_recorded_and_the_file_is_bounded() {
    let run = Run::of("echo the start; yes ümlaut | head -c 3000000; echo; echo the end");
    let exit = run.exit();
    assert!(exit.output.starts_with("the start\n") && exit.output.ends_with("the end\n"));
    assert!(exit.output.contains(" bytes left out ...]"), "{}", exit.output);
    assert!(exit.output.len() > 6_000 && exit.output.len() < 6_300, "{}", exit.output.len());
    let kept = fs::read(run.folder.join("output")).unwrap();
    assert!(kept.starts_with(b"the start\n") && kept.ends_with(b"the end\n"));
    assert!(kept.len() < 600 * 1024, "{}", kept.len());
}

#[test]
fn a_status_mif_of_its_package_is_recorded_and_another_one_is_named() {
    let mif = |product: &str| {
        format!(
            "cat > result <<'X'\nSTART COMPONENT\nSTART GROUP CLASS = \"DMTF|ComponentID|1.0\" \
             START ATTRIBUTE NAME = \"Product\" VALUE = \"{product}\" END ATTRIBUTE END GROUP\n\
             START GROUP CLASS = \"MICROSOFT|JOBSTATUS|1.0\" START ATTRIBUTE NAME = \"Status\" \
             VALUE = \"Failed\" END ATTRIBUTE END GROUP\nEND COMPONENT\nX\n"
        )
    };
    let own = Run::of(&mif("hello")).exit().result.unwrap();
    assert_eq!((own.succeeded, own.form), (Some(false), ResultForm::StatusMif));
    let other = Run::of(&mif("other")).exit().result.unwrap();
    assert_eq!(other.succeeded, None);
    assert!(other.ignored.unwrap().contains("product \"other\""));
}

#[test]
fn a_result_that_cannot_be_read_neither_hangs_nor_hides_the_exit_code() {
    for script in [
        "head -c 100000 /dev/zero > result; exit 3",
        "mkfifo result; exit 3",
        "mkdir result; exit 3",
        "ln -s /etc/shadow result; exit 3",
        "printf '{\"succeeded\": maybe' > result; exit 3",
    ] {
        let exit = Run::of(script).exit();
        assert_eq!(exit.ending, Ending::Exited { code: 3 }, "{script}");
        let result = exit.result.unwrap();
        assert_eq!((result.succeeded, result.restart), (None, false), "{script}");
        assert!(result.ignored.unwrap().starts_with("the result file says nothing"), "{script}");
    }
}

#[test]
fn a_program_that_removes_its_own_folder_is_judged_by_how_it_ended() {
    assert_eq!(Run::of("rm -rf \"$PWD\"; exit 6").exit().ending, Ending::Exited { code: 6 });
}

#[test]
fn a_program_runs_as_its_user_in_the_users_groups_and_in_no_group_of_the_agent() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root may become somebody else");
        return;
    }
    for (groups, said) in [(vec![], "65533"), (vec![65_533, 65_531], "65533 65531")] {
        let run = Run::of("echo $(id -u) $(id -g) $(id -G); grep -h ^Cap[EP] /proc/self/status");
        let mut spec = run.folder.spec().unwrap().unwrap();
        spec.user = Some(RunUser { uid: 65_534, gid: 65_533, groups });
        spec.directory = "/".into();
        run.folder.write_spec(&spec).unwrap();
        let output = run.exit().output;
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some(format!("65534 65533 {said}").as_str()));
        for line in lines {
            assert!(line.ends_with("\t0000000000000000"), "a power of root: {line}");
        }
    }
}

#[test]
fn the_program_sees_its_own_environment_and_nothing_else() {
    // The masks are those of a program that takes the shell's place: while a shell starts a command,
    // it blocks signals itself.
    let run = Run::of(
        "env | cut -d= -f1 | sort | tr '\\n' ' '; readlink /proc/$$/fd/0; \
         readlink /proc/$$/fd/* | grep -cx \"$PWD/lock\"; \
         exec grep -h -e SigBlk -e SigIgn /proc/self/status",
    );
    let exit = run.exit();
    let lines: Vec<&str> = exit.output.lines().collect();
    // The shell adds PWD.
    assert_eq!(lines[..2], ["MUSTER_RUN_ID PATH PWD /dev/null", "0"], "{lines:?}");
    for mask in &lines[2..] {
        let mask = u64::from_str_radix(mask.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // Signals from 32 on are the C library's own.
        assert_eq!(mask & 0x7fff_ffff, 0, "{lines:?}");
    }
}

#[test]
fn a_program_that_cannot_be_executed_says_why() {
    let run = Run::of("true");
    let mut spec = run.folder.spec().unwrap().unwrap();
    spec.command = vec!["/nowhere/prog".into()];
    run.folder.write_spec(&spec).unwrap();
    match run.exit().ending {
        Ending::NotStarted { why } => assert!(why.contains("/nowhere/prog"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signal_that_ends_the_program_is_named() {
    assert_eq!(Run::of("kill -SEGV $$").exit().ending, Ending::Signalled { signal: 11 });
}

#[test]
fn a_program_that_ends_by_term_ended_by_itself_unless_the_supervisor_is_told_too() {
    assert_eq!(Run::of("kill -TERM $$").exit().ending, Ending::Signalled { signal: 15 });
    let (_dir, ready) = fifo();
    let run = Run::of(&format!("echo $$ > {}; exec sleep 60", ready.display()));
    let mut supervisor = run.launch(1);
    let program = run.await_program(&ready);
    signal(program.parse().unwrap(), Signal::TERM);
    while alive(&program) {
        std::thread::yield_now();
    }
    signal(supervisor.id(), Signal::TERM);
    supervisor.wait().unwrap();
    assert!(matches!(run.look(), RunEvidence::Exited(exit) if exit.ending == Ending::Stopped));
}

#[test]
fn while_the_supervisor_lives_the_run_is_alive_and_its_pid_is_shown() {
    let (_dir, ready) = fifo();
    let run = Run::of(&format!("echo up > {}; sleep 60", ready.display()));
    let mut supervisor = run.launch(1);
    run.await_program(&ready);
    assert_eq!(run.look(), RunEvidence::Alive);
    let shown: serde_json::Value =
        serde_json::from_slice(&fs::read(&run.run_file).unwrap()).unwrap();
    assert_eq!(shown["supervisorPid"], supervisor.id());
    signal(supervisor.id(), Signal::TERM);
    supervisor.wait().unwrap();
    assert!(!run.run_file.exists());
}

#[test]
fn a_stop_order_ends_the_whole_tree() {
    let (_dir, ready) = fifo();
    let script = format!("setsid sleep 61 & echo $! > {}; sleep 62", ready.display());
    let run = Run::of(&script);
    let mut supervisor = run.launch(1);
    let stray = run.await_program(&ready);
    signal(supervisor.id(), Signal::TERM);
    assert!(supervisor.wait().unwrap().success());
    assert!(!alive(&stray), "a process in another session was left behind");
    assert!(matches!(run.look(), RunEvidence::Exited(exit) if exit.ending == Ending::Stopped));
}

#[test]
fn an_order_is_heard_although_the_parent_had_blocked_signals() {
    let (_dir, ready) = fifo();
    let run = Run::of(&format!("echo up > {}; sleep 60", ready.display()));
    // What a careless parent of the agent does to all that come after it.
    nix::sys::signal::SigSet::all().thread_block().unwrap();
    let mut supervisor = run.launch(1);
    run.await_program(&ready);
    signal(supervisor.id(), Signal::TERM);
    supervisor.wait().unwrap();
    assert!(matches!(run.look(), RunEvidence::Exited(exit) if exit.ending == Ending::Stopped));
}

#[test]
fn a_program_that_outruns_its_time_is_killed_even_if_it_ignores_term() {
    let run = Run::with("trap '' TERM; while :; do sleep 1; done", 300, 300);
    assert_eq!(run.exit().ending, Ending::TimedOut);
}

#[test]
fn a_launcher_is_judged_by_what_it_launched() {
    // Double fork: the worker is nobody's child but the supervisor's, and fails after the launcher.
    let run = Run::of("(setsid sh -c 'sleep 0.3; echo worker; exit 9' &) ; exit 0");
    let exit = run.exit();
    assert_eq!(exit.ending, Ending::Exited { code: 9 });
    assert_eq!(exit.output, "worker\n");
    let well = Run::of("(setsid sh -c 'sleep 0.3; exit 0' &) ; exit 0");
    assert_eq!(well.exit().ending, Ending::Exited { code: 0 });
    let launcher = Run::of("(setsid sh -c 'sleep 0.3; exit 9' &) ; exit 4");
    assert_eq!(launcher.exit().ending, Ending::Exited { code: 4 });
}

#[test]
fn a_helper_that_its_script_ends_is_no_failure() {
    assert_eq!(Run::of("sleep 60 & kill $!; exit 0").exit().ending, Ending::Exited { code: 0 });
}

#[test]
fn a_killed_supervisor_is_a_run_cut_short_and_its_leftovers_can_be_found() {
    let (_dir, ready) = fifo();
    // The stray says itself who it is: it has been executed by then.
    let stray = format!("setsid sh -c 'echo $$ > {}; sleep 63; :'", ready.display());
    let run = Run::of(&format!("sleep 64 & {stray} & wait"));
    let mut supervisor = run.launch(1);
    let stray = run.await_program(&ready);
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    assert_eq!(run.look(), RunEvidence::CutShort { same_boot: true });
    let other = run.folder.look(&BootId("another".into()));
    assert_eq!(other, RunEvidence::CutShort { same_boot: false });
    let entered = run.folder.entered().unwrap().unwrap();
    let mark = format!("MUSTER_RUN_ID={}", run.folder.spec().unwrap().unwrap().run);
    let left = muster_agent::supervisor::leftovers(entered.supervisor_pid, &mark);
    assert!(left.contains(&stray.parse().unwrap()), "{left:?}");
    assert!(left.len() >= 3, "both shells and a sleep: {left:?}");
    muster_agent::supervisor::signal_all(&left, Signal::KILL);
}

#[test]
fn a_run_has_a_control_group_of_its_own_and_leaves_none_behind() {
    let (_dir, ready) = fifo();
    let script = "grep ^0:: /proc/self/cgroup > FIFO; env -i setsid sleep 65 & wait";
    let run = Run::of(&script.replace("FIFO", ready.to_str().unwrap()));
    let Some(leaf) = run.in_a_group() else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    let mut supervisor = run.launch(1);
    let said = run.await_program(&ready);
    let name = leaf.path().file_name().unwrap().to_str().unwrap();
    assert!(said.ends_with(&format!("/{name}/program")), "{said}");
    let own = fs::read_to_string(format!("/proc/{}/cgroup", supervisor.id())).unwrap();
    assert!(own.lines().any(|line| line.ends_with(&format!("/{name}"))), "{own}");
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    // Nothing says whose it is but the group.
    leaf.kill();
    while !leaf.members().is_empty() {
        std::thread::yield_now();
    }
    leaf.remove();
    assert!(!leaf.path().exists());
    let ends = Run::of("exit 0");
    let leaf = ends.in_a_group().unwrap();
    assert_eq!(ends.exit().ending, Ending::Exited { code: 0 });
    assert!(!leaf.path().exists(), "a supervisor takes its group with it");
}

#[test]
fn a_control_group_that_cannot_be_made_is_no_reason_not_to_run() {
    let run = Run::of("exit 5");
    let spec = run.folder.spec().unwrap().unwrap();
    let control_group = Some(run.folder.join("spec.json/below-a-file"));
    run.folder.write_spec(&RunSpec { control_group, ..spec }).unwrap();
    assert_eq!(run.exit().ending, Ending::Exited { code: 5 });
}

#[test]
fn a_supervisor_with_a_stale_launch_number_enters_nothing() {
    let run = Run::of("echo ran >> ran");
    let lock = run.folder.lock().unwrap().unwrap();
    run.folder.raise_launch(&lock, 2).unwrap();
    let mut slow = run.supervisor(1, lock.into_file().into());
    assert_eq!(slow.wait().unwrap().code(), Some(Refusal::Stale as i32));
    assert_eq!(run.look(), RunEvidence::NeverEntered);
    assert!(!run.folder.join("ran").exists());
}

#[test]
fn a_supervisor_that_comes_too_late_for_its_window_enters_nothing() {
    let run = Run::of("echo ran >> ran");
    let spec = run.folder.spec().unwrap().unwrap();
    let start_by = Some(Clock::from_env().unwrap().now().elapsed);
    run.folder.write_spec(&RunSpec { start_by, ..spec.clone() }).unwrap();
    assert_eq!(run.launch(1).wait().unwrap().code(), Some(Refusal::TooLate as i32));
    assert_eq!(run.look(), RunEvidence::NeverEntered);
    assert!(!run.folder.join("ran").exists());
    let start_by = start_by.map(|now| now.plus(Duration::from_secs(3_600)));
    run.folder.write_spec(&RunSpec { start_by, ..spec }).unwrap();
    assert!(run.launch(2).wait().unwrap().success());
    assert!(run.folder.join("ran").exists());
}

#[test]
fn of_two_supervisors_only_the_one_with_the_lock_enters() {
    let (_dir, ready) = fifo();
    let run = Run::of(&format!("echo ran >> ran; echo up > {}; sleep 60", ready.display()));
    let mut first = run.launch(1);
    run.await_program(&ready);
    let second_lock = fs::File::open(run.folder.join("lock")).unwrap();
    let mut second = run.supervisor(1, second_lock.into());
    assert_eq!(second.wait().unwrap().code(), Some(Refusal::NotOurs as i32));
    let mut third = run.supervisor(1, Stdio::null());
    assert_eq!(third.wait().unwrap().code(), Some(Refusal::NotOurs as i32));
    assert_eq!(fs::read_to_string(run.folder.join("ran")).unwrap(), "ran\n");
    signal(first.id(), Signal::TERM);
    first.wait().unwrap();
}

#[test]
fn waiting_for_the_lock_is_waiting_for_the_end() {
    let (_dir, go) = fifo();
    let run = Run::of(&format!("cat {}; exit 3", go.display()));
    let mut supervisor = run.launch(1);
    let folder = run.folder.clone();
    let waiter = std::thread::spawn(move || {
        let held = folder.wait().unwrap();
        (folder.exit().unwrap().is_some(), held)
    });
    fs::write(&go, "go").unwrap();
    let (exit_is_there, _held) = waiter.join().unwrap();
    assert!(exit_is_there);
    supervisor.wait().unwrap();
}

#[test]
fn a_fresh_folder_was_never_entered_and_none_is_missing() {
    let run = Run::of("true");
    assert_eq!(run.look(), RunEvidence::NeverEntered);
    fs::remove_dir_all(run.folder.path()).unwrap();
    assert_eq!(run.look(), RunEvidence::Missing);
}

#[test]
fn the_exit_record_beats_a_held_lock() {
    let run = Run::of("exit 5");
    run.exit();
    let _held = run.folder.lock().unwrap().unwrap();
    assert!(matches!(run.look(), RunEvidence::Exited(_)));
}
