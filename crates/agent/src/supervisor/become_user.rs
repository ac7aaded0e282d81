//! Starting a program as another user, with the groups that the user is in.
//!
//! On Linux user and groups are a thread's own, and what a thread starts has the thread's. So a thread
//! that lives for this becomes the user, for good, and starts the program; the supervisor's own stays
//! what it is, and may still signal whatever the program starts.

use std::io;
use std::process::{Child, Command};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::run_folder::RunUser;

/// The thread starts one program.
const STACK_BYTES: usize = 128 * 1024;

/// Starts `command` as `user`. The program is in the user's groups and in no other, and the working
/// directory is entered as that user.
pub(super) fn spawn(command: &mut Command, user: &RunUser) -> io::Result<Child> {
    let begin = || {
        become_user(user)?;
        command.spawn()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.name("become".to_owned()).spawn_scoped(scope, begin)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
    })
}

/// Groups go first: who is no longer root may not change them.
fn become_user(user: &RunUser) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
