//! (crate doc to come)
#![deny(unsafe_code)]
