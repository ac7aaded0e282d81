//! How tasks and threads tell the driver what happened.
//!
//! Each mailbox belongs to one life of the machine: after the journal has failed and the machine was
//! restored, letters to the one before are dropped, and what they spoke of is asked for again.

use muster_agent_core::input::Input;
use muster_agent_core::step::Launch;
use tokio::sync::mpsc;

use crate::run_folder::RunLock;

/// Letters that wait for the driver. A sender waits when there are more; each task has one or two.
const LETTERS_MAX: usize = 64;

/// Something that happened outside the driver.
#[derive(Debug)]
pub(crate) enum News {
    /// For the machine.
    Input(Box<Input>),
    /// A run's folder is complete and durable, and its lock is held: its supervisor may be started.
    Prepared(Box<Launch>, RunLock),
    /// A release lies there and has its trial: this process makes room for it.
    TakenUp,
    /// The process has to end.
    Fatal(String),
}

/// News to one life of the machine.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The life that it is for.
    pub(crate) life: u64,
    /// What happened.
    pub(crate) news: News,
}

/// Where letters of one life are put.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    life: u64,
    sender: mpsc::Sender<Letter>,
}

impl Mailbox {
    /// A mailbox and the driver's end of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Letter>) {
        let (sender, receiver) = mpsc::channel(LETTERS_MAX);
        (Self { life: 0, sender }, receiver)
    }

    /// The mailbox of the next life, to the same driver.
    pub(crate) fn next_life(&self) -> Self {
        Self { life: self.life + 1, sender: self.sender.clone() }
    }

    /// The life that it is for.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// Tells the machine. A driver that has gone needs no telling.
    pub(crate) async fn put(&self, input: Input) {
        self.put_news(News::Input(Box::new(input))).await;
    }

    /// Tells the driver.
    pub(crate) async fn put_news(&self, news: News) {
        let _ = self.sender.send(Letter { life: self.life, news }).await;
    }

    /// Tells the machine, from a thread that may block.
    pub(crate) fn put_blocking(&self, news: News) {
        let _ = self.sender.blocking_send(Letter { life: self.life, news });
    }

    /// Tells the machine if the driver has time: for progress, of which the next tells more.
    pub(crate) fn offer(&self, input: Input) {
        let _ =
            self.sender.try_send(Letter { life: self.life, news: News::Input(Box::new(input)) });
    }

    /// Tells the driver that the process has to end.
    pub(crate) async fn fatal(&self, error: &(dyn std::error::Error + Sync)) {
        self.put_news(News::Fatal(crate::chain_of(error))).await;
    }
}
