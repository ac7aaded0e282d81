//! The users of the machine, as the system's name service knows them.

use std::path::PathBuf;

use nix::unistd::{User, geteuid};

/// A user whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// The primary group: the only one that the program has.
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

/// The user called `name`; `None` if the machine knows nobody of that name. Blocks: the name service
/// may ask a network.
pub(crate) fn find(name: &str) -> Option<Account> {
    let user = User::from_name(name).ok().flatten()?;
    Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir })
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
    fn everybody_may_be_themselves() {
        let own = User::from_uid(geteuid()).unwrap().unwrap();
        let account = find(&own.name).unwrap();
        assert!(may_become(&account) && !is_another(&account));
    }
}
