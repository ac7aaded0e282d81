//! Identities: immutable, never reused, each kind a type of its own.
//!
//! An id is handed in by a shell (UUID version 7, RFC 9562); nothing on this floor draws one.
//! Names are attributes that may change; ids are what rows, messages and folders are keyed by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A managed machine with an identity.
    DeviceId;
    /// A package, over all its versions.
    PackageId;
    /// A collection.
    CollectionId;
    /// An advertisement, over all its revisions.
    AdvertisementId;
    /// A site's epoch: drawn anew at `site init` and at each restore from a backup.
    EpochId;
    /// A token that lets somebody in once or a few times; never the secret itself.
    TokenId;
    /// A person, pipeline or access point that the site knows.
    PrincipalId;
}

/// The incarnation of a device: which life of its memory is speaking. Handed out by the site,
/// one higher whenever the device lost, rolled back or copied its memory. Starts at 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// The position of a message in its stream `(device, incarnation)`. Starts at 1, contiguous.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A boot of a machine as its kernel names it (`/proc/sys/kernel/random/boot_id`), or as
/// `MUSTER_BOOT_ID` says.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);
