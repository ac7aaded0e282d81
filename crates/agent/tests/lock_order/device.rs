//! A device in small: the locks and files of the agent with the steps that take them, under the names
//! that they have in the code. What each step does between two locks is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::Mutex;
use shuttle::sync::mpsc::{Receiver, SyncSender, sync_channel};
use shuttle::thread::{self, JoinHandle};

use crate::flock::{Flock, Held, Life};

/// Letters that wait for the driver: one, so that a sender waits in most schedules.
const LETTERS_MAX: usize = 1;
/// The agent is killed and started anew at most this often.
const RESTARTS_MAX: u32 = 2;

/// A mistake that somebody might make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    None,
    /// The follower looks at the run's folder while it still holds the lock that it waited for.
    FollowerLooksUnderItsLock,
    /// A supervisor does not take over the lock: it runs without.
    SupervisorWithoutLock,
    /// A sweep of content takes the store's lock before that of the wanted packages.
    SweepTakesTheStoreFirst,
    /// While the journal is being recovered nobody empties the mailbox, and the tasks are waited for.
    RecoverWithoutDraining,
    /// A repair stops the run that uses what is damaged.
    RepairKillsTheRun,
    /// An agent that starts does not ask for its folder's lock.
    UpgradeBesideTheOld,
}

/// What is left when every process has ended.
#[derive(Default)]
struct Files {
    launch: u32,
    entered: Option<u32>,
    exit: bool,
}

/// `RunFolder::look`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Evidence {
    Exited,
    Alive,
    CutShort,
    NeverEntered,
}

enum Letter {
    Prepared(u32, Held),
    Seen(Evidence),
    Verified,
    Repaired,
    Kept,
}

/// What the device has done at the end.
pub(crate) struct Device {
    planted: Planted,
    folder: Flock,
    run: Flock,
    wanted: Mutex<()>,
    writing: Mutex<()>,
    files: Mutex<Files>,
    journal: Mutex<Journal>,
    writers: AtomicU32,
    pub(crate) executions: AtomicU32,
    killed: AtomicBool,
    early_death: AtomicBool,
    restarts: AtomicU32,
}

/// The outcome, and what it is of.
#[derive(Default)]
struct Journal {
    launch: u32,
    outcomes: Vec<Evidence>,
}

impl Device {
    pub(crate) fn new(planted: Planted) -> Arc<Self> {
        Arc::new(Self {
            planted,
            folder: Flock::default(),
            run: Flock::default(),
            wanted: Mutex::new(()),
            writing: Mutex::new(()),
            files: Mutex::default(),
            journal: Mutex::default(),
            writers: AtomicU32::new(0),
            executions: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            early_death: AtomicBool::new(false),
            restarts: AtomicU32::new(0),
        })
    }

    /// One outcome, of one execution, and nothing that maintenance did cut it short.
    pub(crate) fn check(&self) {
        assert_eq!(self.executions.load(Ordering::SeqCst), 1, "executions of `rerun: never`");
        let outcomes = &self.journal.lock().unwrap().outcomes;
        assert_eq!(*outcomes, [Evidence::Exited], "one outcome, that of the program");
        assert!(!self.killed.load(Ordering::SeqCst), "a run was killed");
    }

    /// `agent run`: one life after the other until the outcome is saved. The service manager starts the
    /// next one at once, as an upgrade does.
    pub(crate) fn lives(self: &Arc<Self>) {
        loop {
            let life = Life::default();
            let over = self.agent(&life);
            life.end();
            self.run.wake();
            if over {
                return;
            }
        }
    }

    /// One life; true once there is an outcome. Ends early if it is killed.
    fn agent(self: &Arc<Self>, life: &Life) -> bool {
        let _folder = match self.planted {
            Planted::UpgradeBesideTheOld => None,
            _ => match self.folder.try_lock() {
                Some(held) => Some(held),
                None => {
                    thread::yield_now();
                    return self.is_over();
                }
            },
        };
        let (mailbox, letters) = sync_channel(LETTERS_MAX);
        let mut driver =
            Driver { device: self.clone(), life: life.clone(), mailbox, tasks: Vec::new() };
        driver.run(&letters)
    }

    fn is_over(&self) -> bool {
        !self.journal.lock().unwrap().outcomes.is_empty()
    }

    /// `Journal::commit`: one writer, whatever happens.
    fn commit(&self, change: impl FnOnce(&mut Journal)) {
        assert_eq!(self.writers.fetch_add(1, Ordering::SeqCst), 0, "two write the journal");
        change(&mut self.journal.lock().unwrap());
        thread::yield_now();
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    /// `RunFolder::look`: an exit record beats a held lock, and after the lock is taken both are looked
    /// at again.
    fn look(&self) -> Evidence {
        if self.files.lock().unwrap().exit {
            return Evidence::Exited;
        }
        let Some(_held) = self.run.try_lock() else { return Evidence::Alive };
        self.begun().unwrap_or(Evidence::NeverEntered)
    }

    /// `RunFolder::begun`.
    fn begun(&self) -> Option<Evidence> {
        let files = self.files.lock().unwrap();
        match (files.exit, files.entered) {
            (true, _) => Some(Evidence::Exited),
            (false, Some(_)) => Some(Evidence::CutShort),
            (false, None) => None,
        }
    }

    /// `supervisor::supervise`, a process of its own.
    fn supervise(&self, launch: u32, held: Held) {
        let _held = match self.planted {
            Planted::SupervisorWithoutLock => {
                drop(held);
                None
            }
            _ => Some(held),
        };
        if self.files.lock().unwrap().launch != launch || self.is_killed_early() {
            return;
        }
        thread::yield_now();
        self.files.lock().unwrap().entered = Some(launch);
        self.executions.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        self.files.lock().unwrap().exit = true;
    }

    /// One supervisor may die before it enters.
    fn is_killed_early(&self) -> bool {
        thread_rng().gen_range(0..3) == 0 && !self.early_death.swap(true, Ordering::SeqCst)
    }

    /// `Contents::want` and `Store::put`: first the wanted packages, then the store.
    fn fetch(&self) {
        let wanted = self.wanted.lock().unwrap();
        drop(self.writing.lock().unwrap());
        drop(wanted);
        drop(self.writing.lock().unwrap());
    }

    /// `Contents::sweep`.
    fn sweep(&self) {
        if self.planted == Planted::SweepTakesTheStoreFirst {
            let _writing = self.writing.lock().unwrap();
            drop(self.wanted.lock().unwrap());
            return;
        }
        let _wanted = self.wanted.lock().unwrap();
        drop(self.writing.lock().unwrap());
    }

    /// `agent status`, `agent verify` and the package's scripts: another process that looks.
    pub(crate) fn first_alive(&self) -> bool {
        self.run.try_lock().is_none()
    }
}

/// `driver::Driver`: the one task that writes the journal.
struct Driver {
    device: Arc<Device>,
    life: Life,
    mailbox: SyncSender<Letter>,
    tasks: Vec<JoinHandle<()>>,
}

impl Driver {
    fn run(&mut self, letters: &Receiver<Letter>) -> bool {
        self.inspect();
        self.verify();
        self.fetch();
        while !self.device.is_over() {
            if self.is_killed() {
                return false;
            }
            let Ok(letter) = letters.recv() else { return false };
            self.open(letter, letters);
        }
        true
    }

    /// A few kills, anywhere between two letters: what upgrade, crash and restart of the agent come to.
    fn is_killed(&self) -> bool {
        let restarts = self.device.restarts.load(Ordering::SeqCst);
        let killed = restarts < RESTARTS_MAX && thread_rng().gen_range(0..4) == 0;
        if killed {
            self.device.restarts.store(restarts + 1, Ordering::SeqCst);
        }
        killed
    }

    fn open(&mut self, letter: Letter, letters: &Receiver<Letter>) {
        match letter {
            Letter::Prepared(launch, held) if thread_rng().gen_range(0..3) > 0 => {
                self.start_supervisor(launch, held);
            }
            // The journal failed.
            Letter::Prepared(_, held) => {
                drop(held);
                self.recover(letters);
            }
            Letter::Seen(Evidence::Alive) => self.follow(),
            Letter::Seen(Evidence::NeverEntered) => self.prepare(),
            Letter::Seen(evidence) => self.device.commit(|journal| {
                if journal.outcomes.is_empty() {
                    journal.outcomes.push(evidence);
                }
            }),
            Letter::Verified => self.repair(),
            Letter::Repaired | Letter::Kept => {}
        }
    }

    /// `Driver::recover`: the letters of this life are drained, then everything is looked at anew.
    fn recover(&mut self, letters: &Receiver<Letter>) {
        if self.device.planted == Planted::RecoverWithoutDraining {
            self.tasks.drain(..).for_each(|task| _ = task.join());
        }
        while letters.try_recv().is_ok() {}
        self.inspect();
    }

    fn task(&mut self, what: impl FnOnce(&Arc<Device>, &Life) -> Option<Letter> + Send + 'static) {
        let (device, life) = (self.device.clone(), self.life.clone());
        let mailbox = self.mailbox.clone();
        self.tasks.push(thread::spawn(move || {
            // A driver that has gone needs no telling; neither do the tasks of a process that has.
            if let Some(letter) = what(&device, &life)
                && !life.is_over()
            {
                let _ = mailbox.send(letter);
            }
        }));
    }

    /// `Driver::inspect`.
    fn inspect(&mut self) {
        self.task(|device, _| Some(Letter::Seen(device.look())));
    }

    /// `Setup::prepare`: the lock is taken before the folder is touched, and handed on.
    fn prepare(&mut self) {
        let mut launch = 0;
        self.device.commit(|journal| {
            journal.launch += 1;
            launch = journal.launch;
        });
        self.task(move |device, _| {
            let Some(held) = device.run.try_lock() else {
                return Some(Letter::Seen(Evidence::Alive));
            };
            if let Some(seen) = device.begun() {
                return Some(Letter::Seen(seen));
            }
            device.files.lock().unwrap().launch = launch;
            Some(Letter::Prepared(launch, held))
        });
    }

    /// `Driver::start_supervisor`.
    fn start_supervisor(&mut self, launch: u32, held: Held) {
        let device = self.device.clone();
        // It outlives the agent, so it is no task of it.
        thread::spawn(move || device.supervise(launch, held));
        self.follow();
    }

    /// `follow::follow`: waits for the lock, lets it go, then looks.
    fn follow(&mut self) {
        self.task(|device, life| {
            let held = device.run.wait(life)?;
            if device.planted == Planted::FollowerLooksUnderItsLock {
                let evidence = device.look();
                drop(held);
                return Some(Letter::Seen(evidence));
            }
            drop(held);
            Some(Letter::Seen(device.look()))
        });
    }

    /// `Driver::verify`: reads, and takes no lock.
    fn verify(&mut self) {
        self.task(|device, _| {
            let _seen = device.files.lock().unwrap().exit;
            Some(Letter::Verified)
        });
    }

    /// `Driver::repair` of damaged content: it is dropped and fetched again; runs keep their copies.
    fn repair(&mut self) {
        self.task(|device, _| {
            if device.planted == Planted::RepairKillsTheRun && device.first_alive() {
                device.killed.store(true, Ordering::SeqCst);
            }
            device.sweep();
            device.fetch();
            Some(Letter::Repaired)
        });
    }

    /// `Driver::fetch`.
    fn fetch(&mut self) {
        self.task(|device, _| {
            device.fetch();
            Some(Letter::Kept)
        });
    }
}
