//! Rare branches that a decision went through, so that a simulation in which one never fired can be
//! failed as vacuous. Costs one word of memory; means nothing to the product.

macro_rules! branches {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rare branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Branch { $($(#[$doc])* $variant,)* }

        impl Branch {
            /// Every branch that a simulation must have gone through.
            pub const ALL: &[Branch] = &[$(Branch::$variant),*];

            /// Its name, for the simulator's table.
            pub fn name(self) -> &'static str {
                match self { $(Branch::$variant => $name,)* }
            }
        }
    };
}

branches! {
    /// Messages older than what the device still holds are gone for good.
    Gap = "gap",
    /// A batch that does not follow what the site has.
    Behind = "behind",
    /// Messages that the site had already.
    Exists = "exists",
    /// Two histories under one stream.
    Equivocation = "equivocation",
    /// A message that could not be read or stands in the wrong place.
    SetAside = "set-aside",
    /// A word about an obligation that had ended.
    Late = "late",
    /// A word about an occurrence that never targeted the device.
    Stray = "stray",
    /// An obligation opened again because its device came back.
    Rejoin = "rejoin",
    /// An unstarted obligation withdrawn by the site.
    Withdrawn = "withdrawn",
    /// The device spoke after the site had declared an end.
    EndUndone = "end-undone",
    /// A word of what a machine did before it was put back to a snapshot.
    Undone = "undone",
}

/// A set of [`Branch`]es.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired(u32);

impl Fired {
    /// Marks `branch` as gone through.
    pub fn mark(&mut self, branch: Branch) {
        self.0 |= 1 << branch as u32;
    }

    /// Whether `branch` was gone through.
    pub fn has(self, branch: Branch) -> bool {
        self.0 & (1 << branch as u32) != 0
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Fired) {
        self.0 |= other.0;
    }

    /// The branches gone through.
    pub fn iter(self) -> impl Iterator<Item = Branch> {
        Branch::ALL.iter().copied().filter(move |branch| self.has(*branch))
    }
}
