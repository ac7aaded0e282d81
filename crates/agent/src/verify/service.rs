//! The service that keeps the agent: whether systemd still has its unit, and starts it at boot.
//!
//! A program that removes or disables the unit leaves an agent that works until the machine restarts, and is
//! lost to its site from then on. Told, not mended: whoever switched a service off may have meant it, and
//! the agent is confined to its own folder.

use std::path::Path;
use std::process::Command;

use muster_model::verification::Check;

use super::{Look, Seen, bad, good};
use crate::driver::BOOTED;

/// Where the service of the package keeps the agent.
const PACKAGED_DATA: &str = "/var/lib/muster/agent";
const PACKAGED_UNIT: &str = "muster-agent.service";

pub(super) fn service(look: &Look<'_>) -> Seen {
    let unit = match &look.agent {
        Some(agent) => {
            let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", agent.pid));
            groups.ok().and_then(|groups| unit_of(&groups))
        }
        None => (look.data == Path::new(PACKAGED_DATA)).then(|| PACKAGED_UNIT.to_owned()),
    };
    let check = match unit {
        _ if !Path::new(BOOTED).is_dir() => {
            good("service", "no systemd here: who started the agent starts it again")
        }
        None => good("service", "no service keeps the agent: who started it starts it again"),
        Some(unit) => judge(&unit, shown(&unit).as_deref()),
    };
    (check, Vec::new())
}

/// The system's service that a process belongs to, of the lines of its `/proc/PID/cgroup` (cgroups(7)). What
/// a user's own manager keeps is that user's affair.
fn unit_of(groups: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut units = paths
        .filter(|path| !path.starts_with("/user.slice/"))
        .filter_map(|path| path.rsplit('/').find(|part| part.ends_with(".service")));
    units.next().map(str::to_owned)
}

/// What systemd says of the unit, a property a line.
fn shown(unit: &str) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "-p", "LoadState,UnitFileState,FragmentPath", unit]);
    let done = command.output().ok().filter(|done| done.status.success())?;
    String::from_utf8(done.stdout).ok()
}

fn judge(unit: &str, shown: Option<&str>) -> Check {
    let Some(shown) = shown else {
        return good("service", format!("{unit}; systemd does not say how it stands"));
    };
    let says = |name: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        lines.find(|(property, _)| *property == name).map_or("", |(_, value)| value)
    };
    match (says("LoadState"), says("UnitFileState")) {
        ("masked", _) => bad(
            "service",
            format!("{unit} is masked: the agent is not started any more"),
            &format!("`systemctl unmask {unit}` if that was not meant"),
        ),
        // A unit that runs stays loaded when its file goes; then it has no state as a file.
        ("not-found", _) | ("loaded", "" | "bad") => bad(
            "service",
            format!("the file of {unit} is gone: the agent is not started at the next boot"),
            "install the package again",
        ),
        (_, "disabled") => bad(
            "service",
            format!("{unit} is disabled: the agent is not started at the next boot"),
            &format!("`systemctl enable {unit}` if that was not meant"),
        ),
        (_, state) => good("service", format!("{unit} is {state}: {}", says("FragmentPath"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: &str, ok: bool, detail: &str) {
        let seen = judge("muster-agent.service", Some(shown));
        assert_eq!(seen.ok, ok, "{seen:?}");
        assert!(seen.detail.contains(detail), "{seen:?}");
        assert_eq!(seen.remedy.is_empty(), ok, "{seen:?}");
    }

    #[test]
    fn what_systemd_says_of_the_unit_decides() {
        let path = "FragmentPath=/usr/lib/systemd/system/muster-agent.service";
        check(
            &format!("LoadState=loaded\n{path}\nUnitFileState=enabled"),
            true,
            "is enabled: /usr/lib",
        );
        check(&format!("LoadState=loaded\n{path}\nUnitFileState=disabled"), false, "next boot");
        check("LoadState=masked\nFragmentPath=/dev/null\nUnitFileState=masked", false, "is masked");
        check("LoadState=not-found\nFragmentPath=\nUnitFileState=", false, "is gone");
        // As systemd 252 says it of a unit that runs while its file was deleted.
        check(&format!("LoadState=loaded\n{path}\nUnitFileState="), false, "is gone");
    }

    #[test]
    fn silence_is_no_fault() {
        assert!(judge("muster-agent.service", None).ok);
    }

    #[test]
    fn the_unit_of_a_process_is_read_from_its_control_groups() {
        let unit = |groups| unit_of(groups).unwrap_or_default();
        assert_eq!(unit("0::/system.slice/muster-agent.service\n"), "muster-agent.service");
        let old = "2:cpu:/\n1:name=systemd:/system.slice/muster-agent.service\n0::/\n";
        assert_eq!(unit(old), "muster-agent.service");
        assert_eq!(unit("0::/user.slice/user-0.slice/session-3.scope\n"), "");
        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service\n";
        assert_eq!(unit(own), "");
    }
}
