//! What the machine lacks just now: room on disk, the package manager's lock, a user's presence, mains
//! power, a network that costs nothing, the user that a program runs as.
//!
//! The driver looks right before a run, and again by and by while something stands in the way. A look
//! takes no lock and reserves nothing, so what it saw may change; the run then finds out by itself.
//! What cannot be looked at does not stand in the way.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_host::quota::{Quota, disk_free};
use muster_model::facts::Fact;
use muster_model::package::{PackageManager, Program, RunWhen};
use muster_model::program::{LinkCost, Power, RunAs};
use muster_model::state::Waiting;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::power::Supply;
use crate::sessions::Sessions;
use crate::{facts, user};

/// Bytes that content and programs leave to the agent itself: the journal grows by outcomes, and the
/// records and output of a run take up to 1.1 MiB. Small enough for a disk of 32 MiB to be of use.
pub const DISK_RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// dpkg(1): the frontends' lock, then that of the database.
const DPKG_LOCKS: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];

/// Where a device is looked at.
#[derive(Clone, Debug)]
pub struct Conditions {
    data: PathBuf,
    root: PathBuf,
    quota: Option<Arc<Quota>>,
    sessions: Sessions,
    dpkg_locks: Vec<PathBuf>,
    supply: Supply,
}

impl Conditions {
    /// A device whose agent keeps `data` and whose programs install below `root`; `sessions` says who
    /// is logged on.
    pub fn new(
        data: PathBuf,
        root: PathBuf,
        quota: Option<Arc<Quota>>,
        sessions: Sessions,
    ) -> Self {
        let dpkg_locks = DPKG_LOCKS.map(PathBuf::from).to_vec();
        Self { data, root, quota, sessions, dpkg_locks, supply: Supply::default() }
    }

    /// What stands in the way of `program`, whose content takes `size` bytes when it is unpacked. Of
    /// several things the one that passes last by itself is named first. Blocks for a few file reads.
    pub fn look(&self, program: &Program, size: u64) -> Option<Waiting> {
        if !self.has_room(size, program.disk.unwrap_or(0)) {
            return Some(Waiting::Disk);
        }
        if !program.run_as.as_ref().is_none_or(|run_as| self.may_run_as(run_as)) {
            return Some(Waiting::RunAs);
        }
        if program.requires.link == Some(LinkCost::Unmetered) && self.is_metered() {
            return Some(Waiting::Link);
        }
        if program.requires.power == Some(Power::Ac) && self.on_battery() {
            return Some(Waiting::Power);
        }
        if !self.user_fits(program) {
            return Some(Waiting::User);
        }
        let manager = program.package_manager;
        manager.is_some_and(|manager| self.is_locked(manager)).then_some(Waiting::PackageManager)
    }

    /// Whether the copy fits beside the agent's data, and what the program installs below the root.
    fn has_room(&self, copy: u64, installed: u64) -> bool {
        let own = copy.saturating_add(DISK_RESERVE_BYTES);
        let quota_fits = self.quota.as_ref().is_none_or(|quota| quota.left() >= own);
        let fits = |path: &Path, need| disk_free(path).map_or(true, |free| free >= need);
        let disks_fit = match same_disk(&self.data, &self.root) {
            true => fits(&self.data, own.saturating_add(installed)),
            false => fits(&self.data, own) && fits(&self.root, installed),
        };
        quota_fits && disks_fit
    }

    fn on_battery(&self) -> bool {
        match self.said("power").as_deref() {
            Some("ac") => false,
            Some("battery") => true,
            _ => self.supply.on_battery(),
        }
    }

    fn is_metered(&self) -> bool {
        match self.said("link").as_deref() {
            Some("unmetered") => false,
            Some("metered") => true,
            _ => self.supply.is_metered(),
        }
    }

    /// A fact of `facts.d` that stands in for what the system shows.
    fn said(&self, name: &str) -> Option<String> {
        match facts::extra(&self.data.join(facts::FACTS_DIR)).remove(name) {
            Some(Fact::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Of several users one whom the machine does not know stands in nobody else's way.
    fn may_run_as(&self, run_as: &RunAs) -> bool {
        let may = |account| user::may_become(&account);
        match run_as.user() {
            Some(name) => user::find(name).is_some_and(may),
            None => self.sessions.users().iter().all(|name| user::find(name).is_none_or(may)),
        }
    }

    fn user_fits(&self, program: &Program) -> bool {
        let somebody = || !self.sessions.users().is_empty();
        match program.run_when {
            RunWhen::Any if program.runs_for_each_user() => somebody(),
            RunWhen::Any => true,
            RunWhen::UserLoggedOn => somebody(),
            RunWhen::NobodyLoggedOn => !somebody(),
        }
    }

    /// A root of its own has no package manager: imported packages unpack below it.
    fn is_locked(&self, manager: PackageManager) -> bool {
        let locks = match manager {
            PackageManager::Dpkg => &self.dpkg_locks,
        };
        self.root == Path::new("/") && locks.iter().any(|lock| is_locked(lock).unwrap_or(false))
    }
}

fn same_disk(one: &Path, other: &Path) -> bool {
    let disk = |path| fs::metadata(path).map(|seen| seen.dev());
    match (disk(one), disk(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => true,
    }
}

/// Whether another process holds a lock on the file (fcntl(2), F_GETLK), as dpkg and its frontends
/// do. Takes none, not even for a moment: a frontend that met it would fail.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_host::quota::ByteSize;
    use serde_json::{Value, json};
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};
    use tempfile::TempDir;

    /// A device in a scratch folder, with nobody logged on and locks that nobody holds.
    struct Device {
        dir: TempDir,
        conditions: Conditions,
    }

    impl Device {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let mut conditions =
                Conditions::new(at(""), PathBuf::from("/"), None, Sessions::File(at("sessions")));
            conditions.dpkg_locks = vec![at("lock-frontend"), at("lock")];
            Self { dir, conditions }
        }

        #[track_caller]
        fn check(&self, program: Value, size: u64, blocked: Option<Waiting>) {
            let mut whole = json!({"name": "install", "command": ["sh", "install.sh"]});
            whole.as_object_mut().unwrap().extend(program.as_object().unwrap().clone());
            let program = serde_json::from_value(whole).unwrap();
            assert_eq!(self.conditions.look(&program, size), blocked);
        }
    }

    /// Another process that holds the lock on `path` as dpkg does.
    fn hold(path: &Path) -> Child {
        let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); \
                      print('held',flush=True); sys.stdin.read()";
        let mut holder = Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 4];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"held");
        holder
    }

    #[test]
    fn a_program_that_fits_may_start() {
        let device = Device::new();
        device.check(json!({"disk": 1000, "packageManager": "dpkg"}), 1000, None);
    }

    #[test]
    fn content_or_disk_that_does_not_fit_waits_for_disk() {
        let device = Device::new();
        device.check(json!({}), u64::MAX / 2, Some(Waiting::Disk));
        device.check(json!({"disk": u64::MAX / 2}), 1, Some(Waiting::Disk));
    }

    #[test]
    fn a_quota_is_a_disk_and_the_reserve_is_left_alone() {
        let mut device = Device::new();
        let quota = Quota::new(ByteSize(DISK_RESERVE_BYTES + 1000), 0);
        device.conditions.quota = Some(Arc::new(quota));
        device.check(json!({}), 1000, None);
        device.check(json!({}), 1001, Some(Waiting::Disk));
    }

    #[test]
    fn either_lock_of_the_package_manager_is_waited_for_until_it_is_free() {
        let device = Device::new();
        for name in ["lock-frontend", "lock"] {
            let mut holder = hold(&device.dir.path().join(name));
            device.check(json!({"packageManager": "dpkg"}), 0, Some(Waiting::PackageManager));
            device.check(json!({}), 0, None);
            holder.stdin.take().unwrap().flush().unwrap();
            holder.wait().unwrap();
            device.check(json!({"packageManager": "dpkg"}), 0, None);
        }
    }

    #[test]
    fn below_a_root_of_its_own_no_package_manager_is_asked() {
        let mut device = Device::new();
        device.conditions.root = device.dir.path().to_owned();
        let mut holder = hold(&device.dir.path().join("lock"));
        device.check(json!({"packageManager": "dpkg"}), 0, None);
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }

    #[test]
    fn a_fact_says_what_power_and_network_are() {
        let device = Device::new();
        let folder = device.dir.path().join(facts::FACTS_DIR);
        fs::create_dir(&folder).unwrap();
        let demands = json!({"requires": {"power": "ac", "link": "unmetered"}});
        for (power, link, blocked) in [
            ("ac", "unmetered", None),
            ("battery", "unmetered", Some(Waiting::Power)),
            ("ac", "metered", Some(Waiting::Link)),
            ("battery", "metered", Some(Waiting::Link)),
        ] {
            let said = json!({"power": power, "link": link}).to_string();
            fs::write(folder.join("supply.json"), said).unwrap();
            device.check(demands.clone(), 0, blocked);
            device.check(json!({}), 0, None);
        }
    }

    #[test]
    fn without_a_fact_the_system_is_asked() {
        let mut device = Device::new();
        let battery = device.dir.path().join("power/BAT0");
        device.conditions.supply.supplies = device.dir.path().join("power");
        let demands = json!({"requires": {"power": "ac"}});
        device.check(demands.clone(), 0, None);
        fs::create_dir_all(&battery).unwrap();
        fs::write(battery.join("type"), "Battery\n").unwrap();
        device.check(demands, 0, Some(Waiting::Power));
    }

    #[test]
    fn a_user_whom_the_machine_does_not_know_is_waited_for() {
        let device = Device::new();
        device.check(json!({"runAs": "user:nobody-bears-this"}), 0, Some(Waiting::RunAs));
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        device.check(json!({"runAs": format!("user:{}", own.name)}), 0, None);
        let may = nix::unistd::geteuid().is_root();
        device.check(json!({"runAs": "root"}), 0, if may { None } else { Some(Waiting::RunAs) });
    }

    #[test]
    fn a_program_for_each_user_waits_for_one_and_a_stranger_is_in_nobodys_way() {
        let device = Device::new();
        let each = json!({"runAs": "each-user"});
        device.check(each.clone(), 0, Some(Waiting::User));
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        let said = format!("{}\nnobody-bears-this\n", own.name);
        fs::write(device.dir.path().join("sessions"), said).unwrap();
        device.check(each, 0, None);
    }

    #[test]
    fn looking_takes_no_lock() {
        let device = Device::new();
        let lock = device.dir.path().join("lock");
        fs::write(&lock, "").unwrap();
        device.check(json!({"packageManager": "dpkg"}), 0, None);
        let mut holder = hold(&lock);
        drop(holder.stdin.take());
        holder.wait().unwrap();
    }

    #[test]
    fn the_session_source_says_who_is_logged_on() {
        let device = Device::new();
        let (with, without) =
            (json!({"runWhen": "user-logged-on"}), json!({"runWhen": "nobody-logged-on"}));
        for (text, somebody) in [(None, false), (Some("\n"), false), (Some("ada\nlin\n"), true)] {
            if let Some(text) = text {
                fs::write(device.dir.path().join("sessions"), text).unwrap();
            }
            let user = Some(Waiting::User);
            device.check(with.clone(), 0, if somebody { None } else { user });
            device.check(without.clone(), 0, if somebody { user } else { None });
            device.check(json!({"runWhen": "any"}), 0, None);
        }
    }
}
