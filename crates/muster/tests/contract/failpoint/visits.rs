//! Visits of durable points, as the processes themselves noted them down.

use std::collections::BTreeMap;

use crate::fleet::Fleet;

/// A visit: `role pid point side microseconds`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Visit {
    pub(super) role: String,
    pid: u32,
    pub(super) point: String,
    pub(super) side: String,
}

/// The visits of some processes, in the order in which they came by.
#[derive(Clone, Debug, Default)]
pub(super) struct Visits(Vec<Visit>);

impl Visits {
    /// Those in a file of visits; none if there is no file.
    pub(super) fn read(fleet: &Fleet, file: &str) -> Self {
        let text = std::fs::read_to_string(fleet.path(file)).unwrap_or_default();
        Self(text.lines().map(Visit::parse).collect())
    }

    /// Whether some process of this role came by.
    pub(super) fn have(&self, role: &str, point: &str, side: &str) -> bool {
        self.0
            .iter()
            .any(|visit| (&*visit.role, &*visit.point, &*visit.side) == (role, point, side))
    }

    /// Every point that a role visits, and how often one process did at most.
    pub(super) fn of_role(&self, role: &str) -> BTreeMap<String, u64> {
        let mut by_process: BTreeMap<(String, u32), u64> = BTreeMap::new();
        let entered = self.0.iter().filter(|visit| visit.role == role && visit.side == "before");
        for visit in entered {
            *by_process.entry((visit.point.clone(), visit.pid)).or_default() += 1;
        }
        let mut most = BTreeMap::new();
        for ((point, _), times) in by_process {
            let known = most.entry(point).or_default();
            *known = times.max(*known);
        }
        most
    }

    /// Whether the last thing that some process of this role did was to come by here.
    pub(super) fn end_at(&self, role: &str, point: &str, side: &str) -> bool {
        let mut last = BTreeMap::new();
        for visit in self.0.iter().filter(|visit| visit.role == role) {
            last.insert(visit.pid, visit);
        }
        last.values().any(|visit| (&*visit.point, &*visit.side) == (point, side))
    }
}

impl Visit {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [role, pid, point, side, _] = words[..] else { panic!("no visit: {line:?}") };
        Self {
            role: role.to_owned(),
            pid: pid.parse().unwrap(),
            point: point.to_owned(),
            side: side.to_owned(),
        }
    }
}
