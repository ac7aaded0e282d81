//! What a device says of itself: the facts that rules and platforms are held against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Extra facts of one device (`facts.d`).
pub const EXTRA_FACTS_MAX: usize = 256;

/// A device's facts. They are claims of the device, never an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// `linux`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The name given at enrolment, or the host name.
    pub name: String,
    /// The version of the agent.
    pub agent_version: String,
    /// How runs are isolated: `unit`, `cgroup` or `session`.
    #[serde(default)]
    pub isolation: String,
    /// The folder that programs install below.
    #[serde(default)]
    pub root: String,
    /// A digest of what names the machine (machine-id, and what its firmware says): the same for a
    /// machine that was put back to a snapshot, another one for most copies. Absent if the machine does
    /// not say, and in what release 0.1 said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
    /// Facts from `facts.d`: text, whole numbers, true or false.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Fact>,
}

/// One extra fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are their types")]
pub enum Fact {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Facts {
    /// `device.NAME` of a rule; `None` is "not known", which a rule treats as unknown.
    pub fn get(&self, name: &str) -> Option<Fact> {
        let text = |value: &String| (!value.is_empty()).then(|| Fact::Text(value.clone()));
        match name {
            "os" => text(&self.os),
            "arch" => text(&self.arch),
            "name" => text(&self.name),
            "agentVersion" => text(&self.agent_version),
            other => self.extra.get(other).cloned(),
        }
    }

    /// Whether a program for `platform` (`linux`, `linux/x86_64`, ...) runs here.
    pub fn is_platform(&self, platform: &str) -> bool {
        match platform.split_once('/') {
            Some((os, arch)) => self.os == os && self.arch == arch,
            None => self.os == platform,
        }
    }
}
