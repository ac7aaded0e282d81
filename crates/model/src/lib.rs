//! The nouns of Muster: a value that exists is valid.
//!
//! Floor 1 of the house. Knows no network, no file, no clock, no source of randomness; everything
//! here is a value, a check, or a transition between values. [`wire`] holds what crosses the
//! network, pinned by golden bytes.
#![forbid(unsafe_code)]

/// Writes and reads a type through its `Display` and `FromStr`.
macro_rules! text_serde {
    ($($name:ty),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(d)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use text_serde;

pub mod advertisement;
pub mod api;
pub mod clock;
pub mod collection;
pub mod component;
pub mod digest;
pub mod facts;
pub mod id;
pub mod message;
pub mod name;
pub mod notice;
pub mod object;
pub mod package;
pub mod parameter;
pub mod period;
pub mod plural;
pub mod policy;
pub mod problem;
pub mod program;
pub mod recurrence;
pub mod release;
pub mod removal;
pub mod rule;
pub mod schema;
pub mod settings;
pub mod sign;
pub mod state;
pub mod token;
pub mod verification;
pub mod window;
pub mod wire;
