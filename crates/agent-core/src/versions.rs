//! Which version of the agent stands on a device: a value that the shell keeps in one file, and swaps by
//! rename.
//!
//! ```text
//!           Begin                    Passed
//! Settled ---------> OnTrial(starts) -------> Settled, with the release as `current`
//!    ^                 |  \_ Start: one more, STARTS_MAX in all
//!    |      Told       |  GaveUp, or a start too many
//!    +------------- Returned(why)
//! ```
//!
//! One pure function from version and event to version; whatever dies between two of them leaves one or the other.
//! The version before keeps watch over a trial and is what returns; so `current` changes only when
//! the new one has passed.

use muster_model::digest::Digest;
use muster_model::period::Period;
use serde::{Deserialize, Serialize};

/// How often a release is started within one trial: a power cut or an impatient service manager must
/// not cost it its chance, and one that ends by itself again and again has had it.
pub const STARTS_MAX: u32 = 3;

/// Which version stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The release that runs; `None`: the program that was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Release>,
    /// What ran before it, so that there is always something to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// What is under way.
    #[serde(default)]
    pub phase: Phase,
}

/// A release that lies on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The manifest of its package, which its folder is named by.
    pub manifest: Digest,
    /// Its version, as its package says.
    pub version: String,
    /// The digest of the program's bytes: looked at before each start.
    pub program: Digest,
    /// The version of the installed program that it was taken up over: another one there means that
    /// the package manager has had the last word.
    pub over: String,
}

/// What is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing.
    #[default]
    Settled,
    /// A release has yet to reach the site.
    OnTrial {
        /// Which.
        release: Release,
        /// How long it has for that while the site can be reached.
        trial: Period,
        /// How often it was started.
        starts: u32,
    },
    /// It has not, and the version before is back; the machine has not told of it yet.
    Returned {
        /// Which.
        release: Release,
        /// Why, for people.
        why: String,
    },
}

/// What happens to the versions of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A release lies there, durably, and gets its trial.
    Begin {
        /// Which.
        release: Release,
        /// How long it has.
        trial: Period,
    },
    /// It is about to be started.
    Start,
    /// The site has answered it.
    Passed {
        /// The manifest of the release that was answered.
        manifest: Digest,
    },
    /// Whoever keeps watch gives it up.
    GaveUp {
        /// Why, for people.
        why: String,
    },
    /// The machine has told that it is back.
    Told {
        /// The release that it told of.
        manifest: Digest,
    },
    /// The current release cannot be used any more, or the installed program is another one by now.
    Dropped,
}

/// What the machine is told of the versions when it is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footing {
    /// The version that runs.
    pub version: String,
    /// The release that runs; `None`: the program that was installed.
    pub release: Option<Digest>,
    /// It has yet to reach the site.
    pub on_trial: bool,
    /// A release that was given up, and why; not told yet.
    pub returned: Option<(Digest, String)>,
}

impl Versions {
    /// What becomes of them. An event that does not fit changes nothing.
    #[must_use]
    pub fn next(self, event: Event) -> Versions {
        let Versions { current, previous, phase } = self;
        match (phase, event) {
            (phase @ Phase::OnTrial { .. }, Event::Begin { .. }) => {
                Versions { current, previous, phase }
            }
            (_, Event::Begin { release, trial }) => {
                let phase = Phase::OnTrial { release, trial, starts: 0 };
                Versions { current, previous, phase }
            }
            (Phase::OnTrial { release, trial, starts }, Event::Start) => {
                let phase = match starts < STARTS_MAX {
                    true => Phase::OnTrial { release, trial, starts: starts + 1 },
                    false => {
                        let why =
                            format!("it was started {starts} times and never reached the site");
                        Phase::Returned { release, why }
                    }
                };
                Versions { current, previous, phase }
            }
            (Phase::OnTrial { release, .. }, Event::Passed { manifest })
                if release.manifest == manifest =>
            {
                Versions { current: Some(release), previous: current, phase: Phase::Settled }
            }
            (Phase::OnTrial { release, .. }, Event::GaveUp { why }) => {
                Versions { current, previous, phase: Phase::Returned { release, why } }
            }
            (Phase::Returned { release, .. }, Event::Told { manifest })
                if release.manifest == manifest =>
            {
                Versions { current, previous, phase: Phase::Settled }
            }
            (phase, Event::Dropped) => Versions { current: None, previous: None, phase },
            (phase, _) => Versions { current, previous, phase },
        }
    }

    /// Every release that must stay on the disk.
    pub fn kept(&self) -> impl Iterator<Item = &Release> {
        let trial = match &self.phase {
            Phase::OnTrial { release, .. } => Some(release),
            _ => None,
        };
        self.current.iter().chain(&self.previous).chain(trial)
    }

    /// What the machine is told when the program `running` is started, whose version is `installed` if
    /// it is none of the releases.
    pub fn footing(&self, running: Option<Digest>, installed: &str) -> Footing {
        let is = |release: &&Release| Some(release.manifest) == running;
        let version = self.kept().find(is).map_or(installed, |release| &release.version).to_owned();
        let on_trial = matches!(&self.phase, Phase::OnTrial { release, .. } if is(&release));
        let returned = match &self.phase {
            Phase::Returned { release, why } => Some((release.manifest, why.clone())),
            _ => None,
        };
        Footing { version, release: running, on_trial, returned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(n: u8) -> Release {
        let manifest = Digest::of(&[n]);
        Release { manifest, version: format!("0.{n}"), program: manifest, over: "0.1".into() }
    }

    fn on_trial(n: u8) -> Versions {
        let current = Versions { current: Some(release(1)), ..Versions::default() };
        current.next(Event::Begin { release: release(n), trial: Period::minutes(2) })
    }

    #[test]
    fn a_release_that_reaches_the_site_takes_the_place_of_the_one_before() {
        let passed =
            on_trial(2).next(Event::Start).next(Event::Passed { manifest: release(2).manifest });
        assert_eq!(
            (passed.current.clone(), passed.previous.clone()),
            (Some(release(2)), Some(release(1)))
        );
        assert_eq!(passed.phase, Phase::Settled);
        let footing = passed.footing(Some(release(2).manifest), "0.1");
        assert_eq!((footing.version.as_str(), footing.on_trial), ("0.2", false));
    }

    #[test]
    fn one_that_is_given_up_leaves_the_one_before_and_its_reason() {
        let returned = on_trial(2).next(Event::GaveUp { why: "silent".into() });
        assert_eq!(returned.current, Some(release(1)));
        let footing = returned.footing(Some(release(1).manifest), "0.1");
        assert_eq!(footing.returned, Some((release(2).manifest, "silent".into())));
        let told = returned.next(Event::Told { manifest: release(2).manifest });
        assert_eq!(told.phase, Phase::Settled);
    }

    #[test]
    fn it_is_started_a_few_times_and_then_given_up() {
        let mut versions = on_trial(2);
        for starts in 1..=STARTS_MAX {
            versions = versions.next(Event::Start);
            assert!(matches!(versions.phase, Phase::OnTrial { starts: n, .. } if n == starts));
        }
        let versions = versions.next(Event::Start);
        assert!(matches!(&versions.phase, Phase::Returned { why, .. } if why.contains("3 times")));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let trial = on_trial(2);
        let other = Event::Passed { manifest: release(3).manifest };
        assert_eq!(trial.clone().next(other), trial);
        let second = Event::Begin { release: release(3), trial: Period::minutes(1) };
        assert_eq!(trial.clone().next(second), trial, "a trial ends before the next one begins");
        let settled = Versions::default();
        for event in [Event::Start, Event::GaveUp { why: "x".into() }] {
            assert_eq!(settled.clone().next(event), settled);
        }
    }

    #[test]
    fn what_is_named_by_nothing_may_go() {
        let kept = |versions: &Versions| {
            versions.kept().map(|one| one.version.clone()).collect::<Vec<_>>()
        };
        assert_eq!(kept(&on_trial(2)), ["0.1", "0.2"]);
        assert_eq!(kept(&on_trial(2).next(Event::GaveUp { why: "x".into() })), ["0.1"]);
        assert!(kept(&on_trial(2).next(Event::Dropped)).contains(&"0.2".to_owned()));
    }
}
