//! Which rare branches fired. A campaign in which one never did proves nothing about it and fails.

use std::collections::BTreeMap;

/// Rare branches of the world itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rare {
    /// A process was killed before a durable write.
    KilledBeforeWrite,
    /// A process was killed between a write and its sync.
    KilledUnsynced,
    /// The power was cut between a write and its sync.
    PowerCutUnsynced,
    /// A process was killed after a durable write and before its effects.
    KilledAfterWrite,
    /// The agent found a live supervisor after a restart.
    Reattached,
    /// A run's supervisor ended without an exit record.
    CutShort,
    /// The site crashed before a commit.
    SiteCrashedBeforeCommit,
    /// The site crashed after a commit and before its answer.
    SiteCrashedAfterCommit,
    /// The access point lost its disk.
    Wiped,
    /// A device lost its journal.
    MemoryLost,
    /// A device lost its whole disk, run folders and all.
    DiskLost,
    /// The site was restored from a backup.
    Restored,
    /// A wall clock jumped.
    ClockJumped,
    /// A device joined a collection late.
    JoinedLate,
    /// A device left a collection.
    Left,
    /// An agent ordered a restart.
    RestartOrdered,
    /// A program restarted its machine.
    ProgramRestarted,
    /// A program was launched that only runs with, or without, somebody logged on.
    LaunchedForUsers,
    /// A program was executed a second time for one obligation.
    ExecutedAgain,
    /// A collection was given a window or a freeze.
    WindowGiven,
    /// A run began under windows and had room in them.
    RanInWindow,
    /// An emergency began at a time that was forbidden to others.
    Emergency,
    /// A supervisor came too late for its window and entered nothing.
    TooLate,
    /// Of a journal that was damaged something could be read.
    Salvaged,
    /// A device was put back to a snapshot.
    RolledBack,
    /// A device's disk was copied to a second machine.
    Cloned,
    /// A device with two histories was held.
    ForkHeld,
    /// A device's disk was full.
    DiskFull,
    /// And its journal's reserve was spent.
    ReserveSpent,
    /// An occurrence of a rule fell due.
    Turned,
    /// A device reported an occurrence that the site had not opened for it.
    OpenedByReport,
    /// An obligation ended because another package takes the place of its own.
    Superseded,
    /// In an outbox that was half full messages gave way.
    GaveWay,
    /// A removal was offered to a device.
    RemovalOffered,
    /// A removal was taken back before it began.
    RemovalTakenBack,
    /// A removal was given up because its advertisement is of another package by now.
    RemovalUndeclared,
    /// What had been removed was offered again.
    InstalledAgain,
}

impl Rare {
    /// Every one of them.
    pub const ALL: [Rare; 37] = [
        Rare::KilledBeforeWrite,
        Rare::KilledUnsynced,
        Rare::PowerCutUnsynced,
        Rare::KilledAfterWrite,
        Rare::Reattached,
        Rare::CutShort,
        Rare::SiteCrashedBeforeCommit,
        Rare::SiteCrashedAfterCommit,
        Rare::Wiped,
        Rare::MemoryLost,
        Rare::DiskLost,
        Rare::Restored,
        Rare::ClockJumped,
        Rare::JoinedLate,
        Rare::Left,
        Rare::RestartOrdered,
        Rare::ProgramRestarted,
        Rare::LaunchedForUsers,
        Rare::ExecutedAgain,
        Rare::WindowGiven,
        Rare::RanInWindow,
        Rare::Emergency,
        Rare::TooLate,
        Rare::Salvaged,
        Rare::RolledBack,
        Rare::Cloned,
        Rare::ForkHeld,
        Rare::DiskFull,
        Rare::ReserveSpent,
        Rare::Turned,
        Rare::OpenedByReport,
        Rare::Superseded,
        Rare::GaveWay,
        Rare::RemovalOffered,
        Rare::RemovalTakenBack,
        Rare::RemovalUndeclared,
        Rare::InstalledAgain,
    ];
}

/// How many worlds each rare branch fired in; within one world, whether it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<String, u64>);

impl Seen {
    /// A rare branch of the world fired.
    pub fn world(&mut self, rare: Rare) {
        self.mark("world", &rare);
    }

    /// The rare branch `what` of `part` fired.
    pub fn mark(&mut self, part: &str, what: &dyn std::fmt::Debug) {
        self.0.insert(format!("{part} {what:?}"), 1);
    }

    /// Adds what fired in another world.
    pub fn add(&mut self, other: &Seen) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    /// How often each of the declared branches fired, declared ones that never did included.
    pub fn table(&self) -> BTreeMap<String, u64> {
        let mut table: BTreeMap<String, u64> =
            declared().into_iter().map(|name| (name, 0)).collect();
        table.extend(self.0.clone());
        table
    }

    /// The declared branches that never fired.
    pub fn never(&self) -> Vec<String> {
        let table = self.table().into_iter();
        table.filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

/// Branches that no world can reach, each with the reason; unit tests of their crate reach them.
const OUT_OF_REACH: [(&str, &str); 2] = [
    (
        "agent OutboxFull",
        "what is no outcome gives way before, and outcomes are few in a few hours",
    ),
    ("agent SiteAhead", "a site that has more of a stream answers with a receipt, or sees a fork"),
];

/// Every branch that some part of the house declares.
fn declared() -> Vec<String> {
    let world = Rare::ALL.iter().map(|rare| format!("world {rare:?}"));
    let agent = muster_agent_core::sometimes::Branch::ALL.iter().map(|b| format!("agent {b:?}"));
    let site = muster_site_core::branch::Branch::ALL.iter().map(|b| format!("site {b:?}"));
    let relay = muster_access_point::relay::Branch::ALL.iter().map(|b| format!("relay {b:?}"));
    let all = world.chain(agent).chain(site).chain(relay);
    all.filter(|name| !OUT_OF_REACH.iter().any(|(out, _)| out == name)).collect()
}
