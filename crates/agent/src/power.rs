//! Where the machine's power comes from, and what its network costs: what a program may wait for.
//!
//! Both are read where the kernel and NetworkManager show them, right before a run. A fact of
//! `facts.d` called `power` (`ac`, `battery`) or `link` (`unmetered`, `metered`) says it in their place:
//! for machines that know better, and for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_host::publish::read_if_there;

/// One folder for each power supply (sysfs-class-power of the kernel's ABI documentation).
const POWER_SUPPLIES: &str = "/sys/class/power_supply";
/// One folder for each network interface (sysfs-class-net).
const INTERFACES: &str = "/sys/class/net";
/// The IPv4 routes (proc(5)).
const ROUTES: &str = "/proc/net/route";
/// Where NetworkManager keeps what only lives while it runs.
const NETWORK_MANAGER: &str = "/run/NetworkManager";
/// The property of NetworkManager that tells, on the system bus: `u N`, where N is 1 for yes and 3 for
/// a guessed yes (NMMetered). The time is in seconds.
const ASK_NETWORK_MANAGER: [&str; 7] = [
    "--system",
    "--timeout=2",
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
];
/// The files of sysfs hold a word each; the routes of a large router fit as well.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where power and network are looked at.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    pub(crate) supplies: PathBuf,
    pub(crate) interfaces: PathBuf,
    pub(crate) routes: PathBuf,
    pub(crate) network_manager: PathBuf,
}

impl Default for Supply {
    fn default() -> Self {
        Self {
            supplies: POWER_SUPPLIES.into(),
            interfaces: INTERFACES.into(),
            routes: ROUTES.into(),
            network_manager: NETWORK_MANAGER.into(),
        }
    }
}

impl Supply {
    /// Whether a battery is what the machine runs on. One without a battery runs on the mains, and so
    /// does one whose battery is that of a mouse.
    pub(crate) fn on_battery(&self) -> bool {
        let supplies: Vec<PathBuf> = entries(&self.supplies);
        let is = |supply: &Path, wanted: &str| word(&supply.join("type")) == wanted;
        let own = |supply: &&PathBuf| word(&supply.join("scope")) != "Device";
        let battery = supplies.iter().filter(own).any(|supply| is(supply, "Battery"));
        let mains = supplies
            .iter()
            .filter(|supply| is(supply, "Mains") || is(supply, "USB"))
            .any(|supply| word(&supply.join("online")) == "1");
        battery && !mains
    }

    /// Whether the network costs by the byte: NetworkManager's word where it runs, else what the
    /// interface of the default route is. What cannot be told is not metered.
    pub(crate) fn is_metered(&self) -> bool {
        let asked = self.network_manager.is_dir().then(ask_network_manager).flatten();
        asked.unwrap_or_else(|| self.default_interfaces().iter().any(|name| self.is_mobile(name)))
    }

    /// A modem's interface: mobile broadband, or a dialled line.
    fn is_mobile(&self, interface: &str) -> bool {
        let folder = self.interfaces.join(interface);
        let shown = text(&folder.join("uevent"));
        shown.lines().any(|line| line == "DEVTYPE=wwan") || interface.starts_with("ppp")
    }

    fn default_interfaces(&self) -> Vec<String> {
        let routes = text(&self.routes);
        let default = |line: &str| {
            let mut fields = line.split_whitespace();
            let interface = fields.next()?.to_owned();
            (fields.next()? == "00000000").then_some(interface)
        };
        routes.lines().filter_map(default).collect()
    }
}

/// What NetworkManager says; `None` if it cannot be asked or does not know.
fn ask_network_manager() -> Option<bool> {
    let asked = Command::new("busctl")
        .args(ASK_NETWORK_MANAGER)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match String::from_utf8(asked.ok()?.stdout).ok()?.trim() {
        "u 1" | "u 3" => Some(true),
        "u 2" | "u 4" => Some(false),
        _ => None,
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn word(path: &Path) -> String {
    text(path).trim().to_owned()
}

fn text(path: &Path) -> String {
    let bytes = read_if_there(path, FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that shows `files` below a scratch folder.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Supply) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let supply = Supply {
            supplies: at("power"),
            interfaces: at("net"),
            routes: at("route"),
            network_manager: at("none"),
        };
        (dir, supply)
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], on_battery: bool, is_metered: bool) {
        let (_dir, supply) = machine(files);
        assert_eq!((supply.on_battery(), supply.is_metered()), (on_battery, is_metered));
    }

    #[test]
    fn a_battery_counts_when_no_mains_is_on_line() {
        let battery = [("power/BAT0/type", "Battery\n"), ("power/BAT0/scope", "System\n")];
        check(&battery, true, false);
        let off = [battery[0], ("power/AC/type", "Mains\n"), ("power/AC/online", "0\n")];
        check(&off, true, false);
        let on = [battery[0], ("power/AC/type", "Mains\n"), ("power/AC/online", "1\n")];
        check(&on, false, false);
        let usb = [battery[0], ("power/U/type", "USB\n"), ("power/U/online", "1\n")];
        check(&usb, false, false);
    }

    #[test]
    fn a_machine_without_a_battery_of_its_own_is_on_the_mains() {
        check(&[], false, false);
        let mouse = [("power/hid/type", "Battery\n"), ("power/hid/scope", "Device\n")];
        check(&mouse, false, false);
    }

    #[test]
    fn the_interface_of_the_default_route_tells_what_the_network_costs() {
        let header = "Iface\tDestination\tGateway\n";
        let route = |name: &str| format!("{header}{name}\t00000000\t0102A8C0\neth1\t0002A8C0\t0\n");
        check(&[("route", &route("eth0")), ("net/eth0/uevent", "INTERFACE=eth0\n")], false, false);
        let modem = ("net/wwan0/uevent", "DEVTYPE=wwan\nINTERFACE=wwan0\n");
        check(&[("route", &route("wwan0")), modem], false, true);
        check(&[("route", &route("ppp0"))], false, true);
        // A modem that nothing goes through costs nothing.
        check(&[("route", &route("eth0")), modem], false, false);
    }
}
