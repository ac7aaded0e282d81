//! Kinds of worlds: what a fleet lives through.

/// A kind of world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Hours in which every fault may strike anybody at any time.
    #[default]
    Chaos,
    /// Thirty days on which everybody switches off each night; the network is dead for the first two
    /// minutes of each boot.
    Nightly,
    /// Hours in which few machines lose their journals and are put back to snapshots, again and again.
    Losses,
    /// Hours in which agents are upgraded, with releases among them that do not work.
    Upgrades,
    /// Sixty days without a site, on what the policy says, with more to tell than an outbox may hold.
    Offline,
}

impl Kind {
    /// Every one of them.
    pub const ALL: &[Kind] =
        &[Kind::Chaos, Kind::Nightly, Kind::Losses, Kind::Upgrades, Kind::Offline];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chaos => "chaos",
            Kind::Nightly => "nightly",
            Kind::Losses => "losses",
            Kind::Upgrades => "upgrades",
            Kind::Offline => "offline",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == text);
        kind.ok_or_else(|| format!("no kind of world is called `{text}`; known are {known}"))
    }
}
