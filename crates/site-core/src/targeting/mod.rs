//! What each device is told: the tag that answers "nothing new" from memory, and the policy itself.

mod compile;
mod index;
#[cfg(test)]
mod tests;

pub use compile::{
    DeviceSide, LiveAdvertisement, OpenOccurrence, SiteSide, Timing, compile, conflicts, opposes,
};
pub use index::{PolicyIndex, SiteVersions, tag};
