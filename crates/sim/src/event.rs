//! What can happen in a world.

use std::fmt;
use std::sync::Arc;

use muster_access_point::relay::BatchKey;
use muster_agent_core::input::Input;
use muster_model::digest::Digest;
use muster_model::id::{DeviceId, Incarnation};
use muster_model::message::RunId;
use muster_model::wire::batch::Batch;
use muster_model::wire::device::Behind;
use muster_model::wire::seal::Sealed;

use crate::core::Node;
use crate::queue::Time;

/// A request on its way, or being answered.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Unique in the world.
    pub id: u64,
    /// Who asks.
    pub from: Node,
    /// Which of its processes: an answer to a dead one is lost.
    pub process: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A device's batch.
    Post(Arc<Batch>),
    /// A device's poll.
    Poll {
        /// Whose policy.
        device: DeviceId,
        /// Which life of its memory asks.
        incarnation: Incarnation,
        /// The tag of the policy that it has.
        tag: Option<Digest>,
        /// How long the answer may be held, in milliseconds.
        wait: u64,
    },
    /// A device's account.
    Account {
        /// Whose.
        device: DeviceId,
        /// Which life of its memory asks.
        incarnation: Incarnation,
    },
}

impl Ask {
    /// Which device speaks, in which life of its memory.
    pub(crate) fn speaker(&self) -> (DeviceId, Incarnation) {
        match self {
            Ask::Post(batch) => (batch.header.device, batch.header.incarnation),
            Ask::Poll { device, incarnation, .. } | Ask::Account { device, incarnation } => {
                (*device, *incarnation)
            }
        }
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The site's receipt.
    Receipt(Sealed),
    /// The site lacks what lies before.
    Behind(Behind),
    /// Not taken, or not yet at the site: the caller keeps it.
    Kept(&'static str),
    /// A policy.
    Policy {
        /// Its tag.
        tag: Digest,
        /// The document.
        sealed: Sealed,
        /// The site's time.
        time: Option<Sealed>,
        /// A receipt that came along.
        receipt: Option<Sealed>,
        /// The incarnation for the case that the device's memory is lost.
        next_incarnation: Option<Incarnation>,
    },
    /// Nothing new.
    NothingNew {
        /// The site's time.
        time: Sealed,
        /// A receipt that came along.
        receipt: Option<Sealed>,
    },
    /// The site's account of the device.
    Account(Sealed),
    /// No usable answer.
    Unavailable,
}

/// What a supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Compares its launch number with the folder's.
    Compare,
    /// Records that it is about to execute.
    Enter,
    /// Executes the program.
    Execute,
    /// The program has ended.
    End,
    /// Somebody ordered the program's end.
    Stop,
}

/// A fault that strikes, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Somebody is cut off.
    Partition,
    /// Not any more.
    Reconnect(Node),
    /// A process or machine ends.
    Outage,
    /// A device's wall clock jumps.
    ClockJump,
    /// The access point's disk is wiped.
    Wipe,
    /// A device's journal is lost.
    MemoryLoss,
    /// The site is restored from a backup.
    Restore,
    /// A supervisor is killed.
    SupervisorKill,
    /// A device's disk is full.
    DiskFull,
    /// A virtual machine is copied to a snapshot, or put back to the one that there is.
    RollBack,
    /// A device's disk is copied to a second machine.
    Clone,
    /// A device's facts change.
    Facts,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The agent of a device is told something.
    Agent {
        /// The device.
        device: usize,
        /// The process that it is meant for.
        process: u64,
        /// What it is told.
        input: Box<Input>,
    },
    /// The deadline of an agent.
    AgentTick {
        /// The device.
        device: usize,
        /// The process.
        process: u64,
        /// The deadline: a newer one makes it void.
        due: Time,
    },
    /// The service manager starts the agent.
    AgentStarts {
        /// The device.
        device: usize,
    },
    /// A device is switched on.
    Boots {
        /// The device.
        device: usize,
    },
    /// Somebody at a device logs on or off, or asks for something.
    Person {
        /// The device.
        device: usize,
    },
    /// A device's disk has room again.
    DiskFreed {
        /// The device.
        device: usize,
    },
    /// Somebody switches a device on for the day.
    Morning {
        /// The device.
        device: usize,
    },
    /// The administrator says what is to be done while the site is gone.
    LastWord,
    /// The site is gone for everybody.
    SiteGone,
    /// A fact of a device changes.
    Facts {
        /// The device.
        device: usize,
    },
    /// Somebody switches it off.
    Evening {
        /// The device.
        device: usize,
    },
    /// A release of the agent has had its time, if it is still in the start in which that began.
    TrialOver {
        /// The device.
        device: usize,
        /// The release.
        manifest: Digest,
        /// How often it had been started.
        starts: u32,
    },
    /// A machine restarts, as its agent ordered, if it is still in the boot in which it did.
    Restarts {
        /// The device.
        device: usize,
        /// How often it had booted.
        boots: u64,
    },
    /// A supervisor acts.
    Supervisor {
        /// The device.
        device: usize,
        /// The supervisor.
        supervisor: u64,
        /// What it does.
        act: Act,
    },
    /// The agent learns that the supervisor it follows has ended.
    SupervisorEnded {
        /// The device.
        device: usize,
        /// The process that follows.
        process: u64,
        /// The run.
        run: RunId,
    },
    /// A call arrives.
    CallArrives {
        /// Where.
        at: Node,
        /// The call.
        call: Call,
    },
    /// An answer arrives.
    AnswerArrives {
        /// Who answers.
        from: Node,
        /// Who called.
        to: Node,
        /// Which process called.
        process: u64,
        /// Which call.
        call: u64,
        /// The answer.
        answer: Box<Answer>,
    },
    /// The caller gives up waiting.
    CallOverdue {
        /// Who called.
        to: Node,
        /// Which process called.
        process: u64,
        /// Which call.
        call: u64,
    },
    /// A poll that the site holds has been held long enough.
    PollHeld {
        /// The site's process.
        process: u64,
        /// Which call.
        call: u64,
    },
    /// The access point is started.
    RelayStarts,
    /// The deadline of the relay.
    RelayTick {
        /// The process.
        process: u64,
        /// The deadline.
        due: Time,
    },
    /// The relay reads a spooled batch back.
    RelayForwards {
        /// The process.
        process: u64,
        /// The batch.
        key: BatchKey,
    },
    /// The site is started.
    SiteStarts,
    /// A fault strikes.
    Strike(Strike),
    /// The administrator does something.
    Administer,
    /// The rogue does something.
    Mischief,
    /// Faults end; from now on everything must come to its end.
    Heal,
    /// A look at whether everything has come to its end.
    Look,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::CallArrives { call, .. } => match &call.ask {
                Ask::Post(batch) => {
                    let header = &batch.header;
                    write!(f, "call {} post {}..{}", call.id, header.first, header.last)
                }
                Ask::Poll { .. } => write!(f, "call {} poll", call.id),
                Ask::Account { .. } => write!(f, "call {} account", call.id),
            },
            Event::AnswerArrives { call, answer, .. } => write!(f, "answer {call} {answer}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Receipt(sealed) => write!(f, "receipt {}", sealed.payload),
            Answer::Behind(behind) => write!(f, "behind, has {}", behind.through),
            Answer::Kept(why) => write!(f, "kept: {why}"),
            Answer::Policy { tag, .. } => write!(f, "policy {}", tag.short()),
            Answer::NothingNew { .. } => f.write_str("nothing new"),
            Answer::Account(_) => f.write_str("account"),
            Answer::Unavailable => f.write_str("unavailable"),
        }
    }
}
