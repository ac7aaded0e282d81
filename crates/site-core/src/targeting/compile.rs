//! The policy of one device, from what is offered to its collections.
//!
//! A function of its inputs alone: two site processes at one revision compile the same bytes.

use std::collections::BTreeMap;

use muster_model::advertisement::{Late, OfflineFor};
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::id::{AdvertisementId, CollectionId, DeviceId, EpochId};
use muster_model::name::Name;
use muster_model::notice::Notice;
use muster_model::package::Achieves;
use muster_model::parameter::Values;
use muster_model::period::Period;
use muster_model::policy::{
    Due, Offer, Order, PinnedPackage, PinnedProgram, Policy, PutBack, Recurrence,
};
use muster_model::settings::Settings;
use muster_model::window::Window;

use crate::occurrence::Revision;

/// What of the site stands in every policy.
#[derive(Clone, Debug)]
pub struct SiteSide {
    /// The epoch.
    pub epoch: EpochId,
    /// The revision that everything here was read at.
    pub revision: Revision,
    /// The site's settings.
    pub settings: Settings,
    /// The number of the newest trust document.
    pub trust: u64,
    /// Everything is halted.
    pub halted: Option<Order>,
}

/// What of the device stands in its policy.
#[derive(Clone, Debug)]
pub struct DeviceSide {
    /// Which device.
    pub device: DeviceId,
    /// Its own settings, over the site's.
    pub settings: Settings,
    /// It waits for a person's word.
    pub held: Option<Order>,
    /// It looks put back to a snapshot.
    pub put_back: Option<PutBack>,
    /// The windows and freezes of its collections, in any order.
    pub windows: Vec<Window>,
}

/// An advertisement that is not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveAdvertisement {
    /// Which one.
    pub advertisement: AdvertisementId,
    /// Its name.
    pub name: Name,
    /// Its revision.
    pub revision: u32,
    /// Whom it is for.
    pub collection: CollectionId,
    /// The package, pinned.
    pub package: PinnedPackage,
    /// The program.
    pub program: Name,
    /// What the program achieves.
    pub achieves: Achieves,
    /// The packages that its package replaces.
    pub supersedes: Vec<Name>,
    /// From then on nothing starts.
    pub expires: Option<Wall>,
    /// How long a device may act on it without hearing from the site.
    pub offline_for: OfflineFor,
    /// What whoever is logged on is given before a mandatory start.
    pub notice: Option<Notice>,
    /// It overrides windows and freezes.
    pub emergency: bool,
    /// How its occurrences go on and when devices start.
    pub timing: Timing,
    /// Somebody stopped it.
    pub stopped: Option<Order>,
    /// Somebody revoked the package version.
    pub revoked: Option<Order>,
    /// What must succeed before the program, in the order in which it runs.
    pub dependencies: Vec<PinnedProgram>,
    /// Values of the program's parameters.
    pub parameters: Values,
}

/// What an advertisement says of time beside its occurrences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// The rules of its recurring assignments.
    pub recurrences: Vec<Recurrence>,
    /// What becomes of an occurrence whose time went by while a device was off.
    pub late: Late,
    /// Within which time after an occurrence falls due devices start.
    pub splay: Period,
}

impl LiveAdvertisement {
    /// Whether it can still start something at `now`: the rest cannot conflict with anything.
    pub fn can_start(&self, now: Wall) -> bool {
        self.stopped.is_none()
            && self.revoked.is_none()
            && self.expires.is_none_or(|expires| now < expires)
    }
}

/// An occurrence that is open for the device: by membership, or because `rerun` named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOccurrence {
    /// Of which advertisement.
    pub advertisement: AdvertisementId,
    /// Which one, and when it falls due.
    pub due: Due,
}

/// The policy of a device. `live` are the advertisements with an occurrence in `open`; what of either
/// has no partner is left out. `issued` is the site's time; `tag` is the device's tag at the revision
/// of `site`.
pub fn compile(
    site: &SiteSide,
    device: &DeviceSide,
    live: &[LiveAdvertisement],
    open: &[OpenOccurrence],
    tag: Digest,
    issued: Wall,
) -> Policy {
    let mut occurrences: BTreeMap<AdvertisementId, Vec<Due>> = BTreeMap::new();
    for occurrence in open {
        occurrences.entry(occurrence.advertisement).or_default().push(occurrence.due.clone());
    }
    let conflicts = conflicts(live, open, issued);
    let superseded = superseded(live, open, issued);
    let offer = |one: &LiveAdvertisement| {
        let mut due = occurrences.get(&one.advertisement)?.clone();
        due.sort_by(|a, b| a.occurrence.cmp(&b.occurrence));
        due.dedup_by(|a, b| a.occurrence == b.occurrence);
        Some(Offer {
            advertisement: one.advertisement,
            name: one.name.clone(),
            revision: one.revision,
            package: one.package.clone(),
            program: one.program.clone(),
            occurrences: due,
            recurrences: one.timing.recurrences.clone(),
            late: one.timing.late,
            splay: one.timing.splay,
            expires: one.expires,
            offline_for: one.offline_for,
            emergency: one.emergency,
            stopped: one.stopped.clone(),
            revoked: one.revoked.clone(),
            conflict: conflicts.get(&one.advertisement).cloned(),
            superseded: superseded.get(&one.advertisement).cloned(),
            achieves: one.achieves,
            supersedes: one.supersedes.clone(),
            notice: one.notice,
            dependencies: one.dependencies.clone(),
            parameters: one.parameters.clone(),
        })
    };
    let mut advertisements: Vec<Offer> = live.iter().filter_map(offer).collect();
    advertisements.sort_by_key(|offer| offer.advertisement);
    let mut windows = device.windows.clone();
    windows.sort_by(|a, b| a.name.cmp(&b.name));
    Policy {
        format: Policy::least_format(&windows),
        device: device.device,
        epoch: site.epoch,
        revision: site.revision.0,
        tag,
        issued,
        trust: site.trust,
        settings: site.settings.overlaid(&device.settings),
        held: device.held.clone(),
        put_back: device.put_back.clone(),
        halted: site.halted.clone(),
        advertisements,
        windows,
    }
}

/// For each advertisement that wants the opposite of another one on this device: the name of the
/// other (the first by id). Only what is mandatory and can still start wants anything.
pub fn conflicts(
    live: &[LiveAdvertisement],
    open: &[OpenOccurrence],
    now: Wall,
) -> BTreeMap<AdvertisementId, Name> {
    let wanting = wanting(live, open, now);
    let against = |one: &LiveAdvertisement| {
        let other = wanting.iter().find(|other| opposes(one, other))?;
        Some((one.advertisement, other.name.clone()))
    };
    wanting.iter().filter_map(|one| against(one)).collect()
}

/// For each advertisement whose package another one on this device replaces: that package,
/// `NAME@VERSION` (of the first advertisement by id). Only what is mandatory and can still start
/// replaces anything, so that a stop or an expiry of the new one leaves the old one as it was.
fn superseded(
    live: &[LiveAdvertisement],
    open: &[OpenOccurrence],
    now: Wall,
) -> BTreeMap<AdvertisementId, String> {
    let wanting = wanting(live, open, now);
    let by = |old: &LiveAdvertisement| {
        let new = wanting.iter().find(|new| replaces(new, old) && !replaces(old, new))?;
        Some((old.advertisement, format!("{}@{}", new.package.name, new.package.version)))
    };
    live.iter().filter_map(by).collect()
}

/// Whether what `new` installs takes the place of what `old` would install.
fn replaces(new: &LiveAdvertisement, old: &LiveAdvertisement) -> bool {
    let install = |one: &LiveAdvertisement| one.achieves == Achieves::Present;
    install(new) && install(old) && new.supersedes.contains(&old.package.name)
}

/// What starts by itself on this device, by id.
fn wanting<'l>(
    live: &'l [LiveAdvertisement],
    open: &[OpenOccurrence],
    now: Wall,
) -> Vec<&'l LiveAdvertisement> {
    let mandatory = |one: &LiveAdvertisement| {
        open.iter().any(|o| o.advertisement == one.advertisement && o.due.at.is_some())
    };
    let mut wanting: Vec<&LiveAdvertisement> =
        live.iter().filter(|one| one.can_start(now) && mandatory(one)).collect();
    wanting.sort_by_key(|one| one.advertisement);
    wanting
}

/// Whether two advertisements want one package both present and absent.
pub fn opposes(one: &LiveAdvertisement, other: &LiveAdvertisement) -> bool {
    one.package.name == other.package.name
        && matches!(
            (one.achieves, other.achieves),
            (Achieves::Present, Achieves::Absent) | (Achieves::Absent, Achieves::Present)
        )
}
