//! The users of the machine, as the system's name service knows them.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, User, geteuid, getgrouplist};

/// A user whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// The primary group.
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// The user called `name`; `None` if the machine knows nobody of that name. Blocks: the name service
/// may ask a network.
pub(crate) fn find(name: &str) -> Option<Account> {
    let user = User::from_name(name).ok().flatten()?;
    Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir })
}

/// The groups that a program of the user called `name` is in, the primary one among them; that one alone
/// if the name service does not say. Blocks, as [`find`] does.
pub(crate) fn groups(name: &str, account: &Account) -> Vec<u32> {
    let primary = Gid::from_raw(account.gid);
    let known = CString::new(name).ok().and_then(|name| getgrouplist(&name, primary).ok());
    known.unwrap_or_else(|| vec![primary]).into_iter().map(Gid::as_raw).collect()
}

/// Whether this process may start a program as `account`: the superuser as anybody, everybody else as
/// itself.
pub(crate) fn may_become(account: &Account) -> bool {
    let own = geteuid();
    own.is_root() || own.as_raw() == account.uid
}

/// Whether starting a program as `account` is a change at all.
pub(crate) fn is_another(account: &Account) -> bool {
    geteuid().as_raw() != account.uid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_a_stranger_is_not() {
        let root = find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(find("nobody-bears-this-name"), None);
    }

    #[test]
    fn a_user_is_in_the_groups_that_the_name_service_says() {
        let root = find("root").unwrap();
        assert!(groups("root", &root).contains(&0));
        let stranger = Account { uid: 4242, gid: 4243, home: "/".into() };
        assert_eq!(groups("nobody-bears-this-name", &stranger), [4243]);
        assert_eq!(groups("no\0name", &stranger), [4243]);
    }

    #[test]
    fn everybody_may_be_themselves() {
        let own = User::from_uid(geteuid()).unwrap().unwrap();
        let account = find(&own.name).unwrap();
        assert!(may_become(&account) && !is_another(&account));
    }
}
