//! A file system that forgets, when its power is cut, everything that was not synced: what a program
//! leaves behind on it is what it may rely on, and no more.
//!
//! Mounted by tests (FUSE, in the process of the test) where a role keeps its state. A file's bytes
//! stand after `fsync` of the file, a name after `fsync` of its folder, and nothing else does: harsher
//! than any disk that is sold, and allowed by POSIX. What was not synced survives in part, by dice.
//! Knows nothing of Muster. Its data lie in memory and end with the value.
//!
//! One thing the kernel does not pass on to a file system like this is `syncfs`: what was made durable
//! by it alone is forgotten all the same.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod disk;
mod mount;

pub use mount::{Amnesia, MountError};
