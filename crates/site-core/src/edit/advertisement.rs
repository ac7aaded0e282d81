//! Applying an advertisement: the pin, the occurrences, and everything that another object forbids.

use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::advertisement::{AdvertisementSpec, Schedule, Track};
use muster_model::clock::Wall;
use muster_model::id::CollectionId;
use muster_model::name::Name;
use muster_model::object::{Object, Spec};
use muster_model::package::{PackageSpec, Program};
use muster_model::parameter::{self, Values};
use muster_model::plural::{counted, verb};
use muster_model::policy::PinnedPackage;
use muster_model::problem::Problem;
use muster_model::window::Window;

use super::occurrences::OccurrencePlan;
use super::removal::{check_removal, removal_warning};
use super::{Change, compare, problem};
use crate::occurrence::OccurrenceRow;
use crate::recurrence::Here;
use crate::targeting::{LiveAdvertisement, opposes};
use crate::window::too_short;

/// An advertisement as it is stored.
#[derive(Clone, Debug)]
pub struct AdvertisementRow {
    /// The object, as last applied.
    pub object: Object,
    /// Its revision, from 1; each edit takes the next.
    pub revision: u32,
    /// The package version that it is pinned to.
    pub package: PinnedPackage,
    /// Whom it is for.
    pub collection: CollectionId,
    /// All its occurrences, closed ones too.
    pub occurrences: Vec<OccurrenceRow>,
}

/// A published version of the package.
#[derive(Clone, Debug)]
pub struct PublishedVersion {
    /// Name, version, manifest and signatures.
    pub pinned: PinnedPackage,
    /// What the manifest says.
    pub spec: PackageSpec,
    /// Nothing of it starts any more.
    pub revoked: bool,
}

/// Another live advertisement of the same package.
#[derive(Clone, Debug)]
pub struct Rival {
    /// It.
    pub live: LiveAdvertisement,
    /// Devices that are members of both collections.
    pub shared: u64,
}

/// What the shell answers for a plan.
pub struct AdvertisementLookups<'a> {
    /// The versions of the package, oldest first; `None` if there is no such package.
    pub versions: Option<&'a [PublishedVersion]>,
    /// The collection; `None` if there is no such collection.
    pub collection: Option<CollectionId>,
    /// Its members now.
    pub members: u64,
    /// How many of them have a platform.
    pub members_on: &'a dyn Fn(&str) -> u64,
    /// Other live advertisements of the same package.
    pub rivals: &'a [Rival],
    /// The windows and freezes of the collection.
    pub windows: &'a [Window],
    /// How long a program has between TERM and KILL, by the site's settings.
    pub grace: Duration,
    /// Values of parameters that the collection gives.
    pub values: &'a Values,
    /// The site's time.
    pub now: Wall,
    /// The site's zone, in which the first local time of a rule is seen.
    pub zone: &'a TimeZone,
}

/// What applying an advertisement does.
#[derive(Clone, Debug)]
pub struct AdvertisementPlan {
    /// How it differs from what is stored.
    pub change: Change,
    /// Its revision from now on.
    pub revision: u32,
    /// The package version that it is pinned to from now on.
    pub package: PinnedPackage,
    /// The program's entry in that version.
    pub program: Program,
    /// Whom it is for from now on.
    pub collection: CollectionId,
    /// What becomes of its occurrences.
    pub occurrences: OccurrencePlan,
    /// What will not work as somebody might expect; nothing of it forbids the change.
    pub warnings: Vec<String>,
    /// The newest published version, if it is not the pinned one: "pinned 2.10, newest 2.11".
    pub newest: Option<String>,
}

/// Plans an advertisement. `object` is the whole, `spec` its spec.
pub fn plan_advertisement(
    stored: Option<&AdvertisementRow>,
    object: &Object,
    spec: &AdvertisementSpec,
    lookups: &AdvertisementLookups<'_>,
) -> Result<AdvertisementPlan, Vec<Problem>> {
    let change = compare(stored.map(|row| &row.object), object);
    let mut problems = Vec::new();
    if stored.is_none() && spec.expires.is_some_and(|expires| expires <= lookups.now) {
        problems.push(problem(
            "spec.expires",
            format!("expires has passed (it is {}): nothing could ever start", lookups.now),
        ));
    }
    problems.extend(over(stored, spec, lookups));
    if let Ok(program) = program_of(stored, spec, lookups) {
        problems.extend(check_parameters(program, spec, lookups.values));
    }
    if let Ok(version) = choose(stored, spec, lookups.versions) {
        problems.extend(check_removal(version, spec, lookups.values));
    }
    let collection = lookups.collection.ok_or_else(|| {
        problem("spec.collection", format!("there is no collection `{}`", spec.collection))
    });
    let version = choose(stored, spec, lookups.versions);
    let program = version.as_ref().map_err(Clone::clone).and_then(|version| program(version, spec));
    let (Ok(collection), Ok(version), Ok(program), true) =
        (&collection, &version, &program, problems.is_empty())
    else {
        problems.extend(collection.err());
        // A version that is missing has no program either: one fault, said once.
        problems.extend(program.err());
        return Err(problems);
    };
    let here = Here { now: lookups.now, zone: lookups.zone };
    let rows = stored.map_or(&[][..], |row| &row.occurrences);
    let occurrences = OccurrencePlan::new(rows, spec, stored, *collection, &here);
    let newest = lookups.versions.and_then(<[_]>::last).map(|one| one.pinned.version.clone());
    let repinned = stored.is_some_and(|row| row.package.manifest != version.pinned.manifest);
    let change =
        if repinned && change == Change::Unchanged { repin(stored, version) } else { change };
    let revision = match (&change, stored) {
        (Change::Unchanged, Some(row)) => row.revision,
        (_, row) => row.map_or(0, |row| row.revision) + 1,
    };
    Ok(AdvertisementPlan {
        warnings: warnings(object, spec, version, program, lookups),
        change,
        revision,
        package: version.pinned.clone(),
        program: (*program).clone(),
        collection: *collection,
        occurrences,
        newest: newest.filter(|newest| *newest != version.pinned.version),
    })
}

/// Rules that have no time left, and are not those that the advertisement has had before.
fn over(
    stored: Option<&AdvertisementRow>,
    spec: &AdvertisementSpec,
    lookups: &AdvertisementLookups<'_>,
) -> Vec<Problem> {
    let before = match stored.map(|row| &row.object.spec) {
        Some(Spec::Advertisement(spec)) => spec.named_assignments(),
        _ => Vec::new(),
    };
    let here = Here { now: lookups.now, zone: lookups.zone };
    let mut problems = Vec::new();
    for (i, named) in spec.named_assignments().iter().enumerate() {
        let (_, Schedule::Every(every)) = named else { continue };
        if before.contains(named) {
            continue;
        }
        let field = format!("spec.assignments[{i}].every");
        let first = every.first_from(here.now, here.zone);
        match (first.map(|first| here.instant(first)), spec.expires) {
            (None, _) => problems
                .push(problem(&field, format!("it has no time left: it is {} now", here.now))),
            (Some(Some(first)), Some(expires)) if first >= expires => problems.push(problem(
                &field,
                format!(
                    "it first falls due at {first} but expires is {expires}: the assignment could \
                     never start"
                ),
            )),
            _ => {}
        }
    }
    problems
}

/// The version that is pinned. Publishing never moves a pin: only another `package` does, or
/// `track: latest`.
fn choose<'a>(
    stored: Option<&AdvertisementRow>,
    spec: &AdvertisementSpec,
    versions: Option<&'a [PublishedVersion]>,
) -> Result<&'a PublishedVersion, Problem> {
    let name = &spec.package.name;
    let versions =
        versions.ok_or_else(|| problem("spec.package", format!("there is no package `{name}`")))?;
    let kept = stored.filter(|row| match &row.object.spec {
        Spec::Advertisement(old) => old.package == spec.package && spec.track.is_none(),
        _ => false,
    });
    let live = versions.iter().rev().find(|one| !one.revoked);
    let (wanted, found) = match (kept, &spec.package.version) {
        (Some(row), _) => (
            row.package.version.clone(),
            versions.iter().find(|one| one.pinned.manifest == row.package.manifest),
        ),
        (None, Some(version)) => {
            (version.clone(), versions.iter().find(|one| one.pinned.version == *version))
        }
        (None, None) => ("latest".to_owned(), live),
    };
    let found = found.ok_or_else(|| {
        if !versions.is_empty() && versions.iter().all(|one| one.revoked) {
            let detail = format!("every published version of `{name}` is revoked");
            return problem("spec.package", detail);
        }
        let known: Vec<&str> = versions.iter().map(|one| one.pinned.version.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        problem("spec.package", format!("`{name}` has no version `{wanted}`; published: {known}"))
    })?;
    // What is pinned already may be edited while it is revoked: its expiry, its collection.
    if found.revoked && kept.is_none() {
        let detail = format!("{name}@{} is revoked: nothing of it starts", found.pinned.version);
        return Err(problem("spec.package", detail));
    }
    Ok(found)
}

fn program_of<'a>(
    stored: Option<&AdvertisementRow>,
    spec: &AdvertisementSpec,
    lookups: &AdvertisementLookups<'a>,
) -> Result<&'a Program, Problem> {
    program(choose(stored, spec, lookups.versions)?, spec)
}

/// The values that `program` is given: the advertisement's, then those of its collection that the
/// program has a parameter for.
pub fn given_values(program: &Program, advertisement: &Values, collection: &Values) -> Values {
    let declared = collection.iter().filter(|(name, _)| program.parameters.contains_key(*name));
    let mut values: Values = declared.map(|(name, value)| (name.clone(), value.clone())).collect();
    values.extend(advertisement.clone());
    values
}

/// Every value of a parameter that the program's publisher does not allow.
pub fn check_parameters(
    program: &Program,
    spec: &AdvertisementSpec,
    collection: &Values,
) -> Vec<Problem> {
    let given = given_values(program, &spec.parameters, collection);
    parameter::resolve(&program.parameters, &given, "spec.parameters").err().unwrap_or_default()
}

fn program<'a>(
    version: &'a PublishedVersion,
    spec: &AdvertisementSpec,
) -> Result<&'a Program, Problem> {
    named_program(version, &spec.program, "spec.program")
}

/// The program of that name, or the fault of the `field` that names it.
pub(super) fn named_program<'a>(
    version: &'a PublishedVersion,
    name: &Name,
    field: &str,
) -> Result<&'a Program, Problem> {
    version.spec.program(name.as_str()).ok_or_else(|| {
        let names: Vec<&str> = version.spec.programs.iter().map(|one| one.name.as_str()).collect();
        let (package, number) = (&version.pinned.name, &version.pinned.version);
        let names = names.join(", ");
        problem(field, format!("{package}@{number} has no program `{name}`; it has: {names}"))
    })
}

fn repin(stored: Option<&AdvertisementRow>, version: &PublishedVersion) -> Change {
    let field = super::FieldChange {
        field: "spec.package".to_owned(),
        old: stored.map(|row| row.package.version.clone().into()),
        new: Some(version.pinned.version.clone().into()),
    };
    Change::Updated { fields: vec![field] }
}

/// What of the windows keeps the program from ever starting.
fn short_of_room(
    spec: &AdvertisementSpec,
    program: &Program,
    lookups: &AdvertisementLookups<'_>,
) -> Option<String> {
    if spec.emergency {
        let some = !lookups.windows.is_empty();
        let said = "emergency is true: it starts in freezes and outside windows, too";
        return some.then(|| said.to_owned());
    }
    too_short(&spec.collection, lookups.windows, program, lookups.grace, lookups.now)
}

fn warnings(
    object: &Object,
    spec: &AdvertisementSpec,
    version: &PublishedVersion,
    program: &Program,
    lookups: &AdvertisementLookups<'_>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let members = lookups.members;
    if members == 0 {
        warnings.push(format!("collection `{}` has no member now", spec.collection));
    }
    if program.disabled {
        warnings.push(format!(
            "program `{}` is disabled by its publisher: waiting(disabled)",
            program.name
        ));
    }
    if let Some(platform) = &program.platform {
        let on = (lookups.members_on)(platform);
        if on < members {
            warnings.push(format!(
                "program `{}` has platform {platform}: {} of {} of `{}` {} not, and become \
                 not-applicable(platform)",
                program.name,
                members - on,
                counted(members, "member"),
                spec.collection,
                verb(members - on, "is", "are")
            ));
        }
    }
    let mine = LiveAdvertisement {
        advertisement: muster_model::id::AdvertisementId(Default::default()),
        name: object.metadata.name.clone(),
        revision: 0,
        collection: lookups.collection.unwrap_or(CollectionId(Default::default())),
        package: version.pinned.clone(),
        program: program.name.clone(),
        achieves: program.achieves,
        supersedes: version.spec.supersedes.clone(),
        expires: spec.expires,
        offline_for: spec.offline_for,
        notice: spec.notice,
        emergency: spec.emergency,
        timing: Default::default(),
        stopped: None,
        revoked: None,
        dependencies: Vec::new(),
        parameters: Default::default(),
    };
    for rival in lookups.rivals {
        if opposes(&mine, &rival.live) && rival.live.can_start(lookups.now) && rival.shared > 0 {
            warnings.push(format!(
                "advertisement `{}` wants the opposite of package `{}` on {}: there neither runs, \
                 waiting(conflict)",
                rival.live.name,
                version.pinned.name,
                counted(rival.shared, "device")
            ));
        }
    }
    warnings.extend(short_of_room(spec, program, lookups));
    warnings.extend(removal_warning(spec));
    if spec.track == Some(Track::Latest) {
        warnings.push("track is `latest`: each newer version is pinned by itself".to_owned());
    }
    warnings
}
