//! Which rare branches fired. A campaign in which one never did proves nothing about it and fails.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::BTreeSet;

use crate::kind::Kind;

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
    /// A device that was put back went on in its next life.
    PutBackMended,
    /// Two machines spoke as one device.
    SecondMachine,
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
    /// A release of the agent was taken up under windows.
    UpgradedInWindow,
    /// A device was put back to a snapshot in which another version of its agent stood.
    VersionRolledBack,
}

impl Rare {
    /// Every one of them.
    pub const ALL: [Rare; 41] = [
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
        Rare::PutBackMended,
        Rare::SecondMachine,
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
        Rare::UpgradedInWindow,
        Rare::VersionRolledBack,
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

    /// The branches demanded of worlds of this kind that fired in fewer than `least` of them, and in how many
    /// each did.
    pub fn short_of(&self, least: u64, kind: Kind) -> Vec<(String, u64)> {
        let fired = |name: String| {
            let count = self.0.get(&name).copied().unwrap_or_default();
            (name, count)
        };
        demanded(kind).into_iter().map(fired).filter(|(_, count)| *count < least).collect()
    }
}

/// Branches that no world can reach, each with the reason; unit tests of their crate reach them.
const OUT_OF_REACH: [(&str, &str); 1] = [(
    "agent SiteAhead",
    "a site that has more of a stream answers with a receipt, or sees a fork",
)];

/// Branches that worlds of one kind reach and nobody demands of the others.
const ONLY_IN: [(Kind, &[&str]); 3] = [
    (Kind::Losses, &["agent DetectedUndone", "agent DoneAgain", "agent Recalled", "site Undone"]),
    (
        Kind::Upgrades,
        &[
            "agent UpgradeWaits",
            "agent Upgraded",
            "agent ReachedSite",
            "agent Returned",
            "world UpgradedInWindow",
            "world VersionRolledBack",
        ],
    ),
    (Kind::Offline, &["agent OutboxFull"]),
];

/// What worlds of a kind must show beside what they alone do: without it they would prove little of what they
/// are for.
fn purpose(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Chaos => &[],
        Kind::Nightly => {
            &["agent Rebooted", "world CutShort", "world Turned", "world ExecutedAgain"]
        }
        Kind::Losses => &[
            "agent FoundAgain",
            "world Cloned",
            "world ForkHeld",
            "world MemoryLost",
            "world PutBackMended",
            "world Salvaged",
            "world SecondMachine",
        ],
        Kind::Upgrades => &[
            "world Cloned",
            "world ForkHeld",
            "world KilledAfterWrite",
            "world PowerCutUnsynced",
            "world Restored",
            "world RolledBack",
            "world WindowGiven",
        ],
        Kind::Offline => &[
            "agent GaveWay",
            "agent Missed",
            "agent Retried",
            "agent ToldLater",
            "agent WindowShut",
            "world RanInWindow",
            "world Turned",
        ],
    }
}

/// The branches that worlds of a kind must show.
fn demanded(kind: Kind) -> Vec<String> {
    let elsewhere = |name: &String| {
        ONLY_IN.iter().any(|(only, names)| *only != kind && names.contains(&name.as_str()))
    };
    if kind == Kind::Chaos {
        return declared().into_iter().filter(|name| !elsewhere(name)).collect();
    }
    let alone = ONLY_IN.iter().filter(|(only, _)| *only == kind).flat_map(|(_, names)| *names);
    alone.chain(purpose(kind)).map(|name| (*name).to_owned()).collect()
}

/// Every branch that some part of the house declares.
fn declared() -> Vec<String> {
    let world = Rare::ALL.iter().map(|rare| format!("world {rare:?}"));
    let agent = muster_agent_core::sometimes::Branch::ALL.iter().map(|b| format!("agent {b:?}"));
    let site = muster_site_core::branch::Branch::ALL.iter().map(|b| format!("site {b:?}"));
    let relay = muster_access_point::relay::Branch::ALL.iter().map(|b| format!("relay {b:?}"));
    let all = world.chain(agent).chain(site).chain(relay);
    all.filter(|name| !OUT_OF_REACH.iter().any(|(out, _)| out == name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_branch_is_demanded_of_some_world_and_no_other_is() {
        let demanded: BTreeSet<String> =
            Kind::ALL.iter().flat_map(|kind| demanded(*kind)).collect();
        assert_eq!(demanded, declared().into_iter().collect());
    }

    #[test]
    fn what_fired_too_seldom_is_named_with_its_count() {
        let mut seen = Seen::default();
        demanded(Kind::Offline).into_iter().skip(1).for_each(|name| {
            seen.0.insert(name, 3);
        });
        seen.0.insert("agent GaveWay".to_owned(), 2);
        let short = seen.short_of(3, Kind::Offline);
        let named = |name: &str, count| (name.to_owned(), count);
        assert_eq!(short, [named("agent OutboxFull", 0), named("agent GaveWay", 2)]);
    }
}
