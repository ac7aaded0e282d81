//! The last look: has everything come to its end, and is what the site says what really happened?

use std::collections::BTreeMap;

use muster_agent_core::input::Ending;
use muster_agent_core::saved::Key as DeviceKey;
use muster_model::id::DeviceId;
use muster_model::state::{Author, EvidenceKind, Interruption, Rule, State, Waiting};
use muster_site_core::device::Admission;
use muster_site_core::obligation::{Key, ObligationRow, Place};

use crate::core::Core;
use crate::device::Device;
use crate::site::Site;
use crate::site::store::{Advertised, DeviceRow, Store};
use crate::sometimes::Rare;
use crate::truth::Execution;
use crate::upgrades;

/// What is not yet at its end, if anything: the first thing found.
pub(crate) fn unfinished(core: &Core, devices: &[Device], site: &Site) -> Option<String> {
    let store = &site.store;
    for device in devices {
        let row = store.devices.get(&device.id)?;
        if waits_for_a_person(core, device.id, &row.device.admission) {
            continue;
        }
        let Some(memory) = &device.journal.durable().memory else {
            return Some(format!("{} has no memory yet", device.name));
        };
        let through = store.through(device.id, device.incarnation);
        if memory.head != through || memory.relieved != through {
            return Some(format!(
                "{} wrote {}, was relieved of {}, the site has {through}",
                device.name, memory.head, memory.relieved
            ));
        }
    }
    let obligations = || {
        core.truth.meant.iter().find_map(|((advertisement, occurrence), meant)| {
            let (advertisement, occurrence) = (*advertisement, occurrence.clone());
            meant.iter().find_map(|device| {
                let key = Key { advertisement, occurrence: occurrence.clone(), device: *device };
                open(core, devices, store, &key)
            })
        })
    };
    upgrades::unfinished(devices).or_else(obligations)
}

/// Whether only a person can tell what is to become of a device: it was retired, there are two of it, or
/// it was put back and the site, restored from a backup, has forgotten what both histories have in common.
fn waits_for_a_person(core: &Core, device: DeviceId, admission: &Admission) -> bool {
    let truth = &core.truth;
    let parted = truth.restored
        && truth.copied.contains(&device)
        && matches!(admission, Admission::Held { .. });
    parted || truth.cloned.contains(&device) || *admission == Admission::Retired
}

/// Why an obligation neither has ended nor waits for something legitimate.
fn open(core: &Core, devices: &[Device], store: &Store, key: &Key) -> Option<String> {
    let admission = &store.devices.get(&key.device)?.device.admission;
    if waits_for_a_person(core, key.device, admission) || !core.truth.is_honest(key.device) {
        return None;
    }
    let advertised = store.advertisements.get(&key.advertisement)?;
    let name = &advertised.row.object.metadata.name;
    let say = |state: &str| Some(format!("{name} {} on {} is {state}", key.occurrence, key.device));
    let Some(row) = store.rows.get(key) else { return say("targeted") };
    let legitimate = match &row.state {
        State::Waiting { why, .. } => match why {
            Waiting::Stopped => advertised.stopped.is_some(),
            Waiting::Conflict => true,
            // Nobody logs on or off after healing. Outside of windows such a program waits for those.
            Waiting::User => true,
            // Between the windows that the wrong people let pass.
            Waiting::Window => !people_fit(core, devices, advertised, key),
            _ => false,
        },
        State::Available => true,
        other => other.word().is_complete(),
    };
    if legitimate { None } else { say(&row.state.to_string()) }
}

/// Whether the program may start with the people who are at the device now.
fn people_fit(core: &Core, devices: &[Device], advertised: &Advertised, key: &Key) -> bool {
    let device = devices.iter().find(|device| device.id == key.device);
    let software = core.scenario.software.get(advertised.software);
    if key.occurrence.is_removal() {
        return true;
    }
    device.zip(software).is_none_or(|(device, software)| {
        let nobody = software.program.runs_for_each_user() && device.is_deserted();
        !nobody && device.people_fit(software.program.run_when)
    })
}

/// Holds what the site says against what really happened.
pub(crate) fn compare(core: &mut Core, devices: &[Device], site: &Site) {
    let executions = core.truth.executions.clone();
    for execution in &executions {
        compare_execution(core, devices, site, execution);
    }
    for row in site.store.rows.values() {
        let Some(device) = devices.iter().find(|device| device.id == row.key.device) else {
            continue;
        };
        let key = DeviceKey {
            advertisement: row.key.advertisement,
            occurrence: row.key.occurrence.clone(),
        };
        let retired = site
            .store
            .devices
            .get(&device.id)
            .is_none_or(|row| row.device.admission == Admission::Retired);
        let copied = core.truth.copied.contains(&device.id);
        let destroyed = core.truth.destroyed.contains(&(device.index, key.clone()));
        if retired || copied || destroyed || let_go(core, device, &key) {
            continue;
        }
        if let State::Superseded { .. } = row.state {
            core.seen.world(Rare::Superseded);
        }
        let done: Vec<&Execution> =
            executions.iter().filter(|one| one.device == device.index && one.key == key).collect();
        // The exit record of a run that the account named went with the disk; with the journal alone,
        // how far an obligation of several programs had come.
        let lost = core.truth.disks_lost.contains(&device.index)
            || is_of_several(core, &site.store, &row.key, &done)
                && core.truth.lost_streams.keys().any(|(lost, _)| *lost == device.id);
        let forgotten = lost && row.state == State::Interrupted { cause: Interruption::MemoryLost };
        if forgotten {
            continue;
        }
        if let Some(why) = contradiction(row, &done) {
            let found = format!("{} {}: {} but {why}", device.name, key.occurrence, row.state);
            core.violated("outcomes are the truth", found);
        }
    }
    for device in devices {
        still_said(core, device, &site.store);
    }
    verify(core, &site.store);
}

/// No row rests on what a machine said before it was put back to a snapshot.
fn still_said(core: &mut Core, device: &Device, store: &Store) {
    let Some(DeviceRow { device: row, .. }) = store.devices.get(&device.id) else { return };
    // What a person held and what lost its memory goes on by what the site had.
    let lost = core.truth.lost_streams.keys().any(|(lost, _)| *lost == device.id);
    let is_copied = core.truth.copied.contains(&device.id) && !core.truth.restored && !lost;
    if !is_copied || waits_for_a_person(core, device.id, &row.admission) {
        return;
    }
    let rows = store.rows.values().filter(|row| row.key.device == device.id);
    let resting = rows.filter(|row| row.decided == Author::Device);
    let undone = resting.into_iter().find(|row| {
        let place = row.place.map(|at| (device.id, at.incarnation, at.sequence));
        let stored = place.and_then(|place| store.messages.get(&place));
        stored.is_some_and(|message| !device.has_said(message.chain))
    });
    if let Some(row) = undone {
        let found = format!(
            "{} {}: {} is of a past that was undone",
            device.name, row.key.occurrence, row.state
        );
        core.violated("what was undone counts no more", found);
    }
}

/// Whether another program goes before the one that is advertised, or went before that of an earlier
/// revision, or it runs for several users.
fn is_of_several(core: &Core, store: &Store, key: &Key, done: &[&Execution]) -> bool {
    let advertised = store.advertisements.get(&key.advertisement);
    let software = advertised.and_then(|one| core.scenario.software.get(one.software));
    software.is_some_and(|software| {
        software.program.depends_on.is_some()
            || software.program.runs_for_each_user()
            || done.iter().any(|one| one.manifest != software.package.manifest)
    })
}

/// Whether a restored site cannot hear of it any more: of a rule's old occurrences that have ended, a
/// device keeps the newest and those whose messages it keeps (`keepRelieved`).
fn let_go(core: &Core, device: &Device, key: &DeviceKey) -> bool {
    let known = &device.journal.durable().obligations;
    let is_later = |other: &DeviceKey| {
        other.advertisement == key.advertisement
            && other.occurrence.assignment == key.occurrence.assignment
            && other.occurrence.n > key.occurrence.n
    };
    core.truth.restored && !known.contains_key(key) && known.keys().any(is_later)
}

/// Every execution stands in the accounts.
fn compare_execution(core: &mut Core, devices: &[Device], site: &Site, execution: &Execution) {
    let Some(device) = devices.get(execution.device) else { return };
    let store = &site.store;
    let retired =
        store.devices.get(&device.id).is_none_or(|row| row.device.admission == Admission::Retired);
    let destroyed = core.truth.destroyed.contains(&(device.index, execution.key.clone()));
    let key = Key {
        advertisement: execution.key.advertisement,
        occurrence: execution.key.occurrence.clone(),
        device: device.id,
    };
    // A restored site may never have heard of the advertisement: then its messages are set aside.
    let unknown = core.truth.restored && !store.is_targeted(&key);
    let copied = core.truth.copied.contains(&device.id);
    if retired || copied || destroyed || unknown || let_go(core, device, &execution.key) {
        return;
    }
    let recorded = store.rows.get(&key).map_or(0, |row| row.attempt);
    if recorded < execution.attempt {
        let found = format!(
            "{} {}: attempt {} was executed, {recorded} are recorded",
            device.name, key.occurrence, execution.attempt
        );
        core.violated("executions at most attempts", found);
    }
}

/// What in the world contradicts a row.
fn contradiction(row: &ObligationRow, done: &[&Execution]) -> Option<String> {
    if done.len() as u64 > u64::from(row.attempt) {
        return Some(format!("{} executions for {} attempts", done.len(), row.attempt));
    }
    let ended = |want: &dyn Fn(&Ending) -> bool| {
        done.iter().any(|one| !one.cut && one.ended.as_ref().is_none_or(want))
    };
    let exited = |want: i32| move |ending: &Ending| *ending == Ending::Exited { code: want };
    let backed = match &row.state {
        State::Succeeded { evidence } if evidence.rule == EvidenceKind::ExitCode => {
            ended(&exited(evidence.exit_code.unwrap_or(0)))
        }
        State::Failed { code } if code.rule == Rule::ExitCode => {
            ended(&exited(code.exit_code.unwrap_or(0)))
        }
        State::Failed { code } if code.rule == Rule::Signal => {
            ended(&|ending| matches!(ending, Ending::Signalled { .. }))
        }
        State::Succeeded { evidence }
            if matches!(evidence.rule, EvidenceKind::EachUser | EvidenceKind::UsersLeft) =>
        {
            each_was_served(done)
        }
        State::TimedOut => ended(&|ending| *ending == Ending::TimedOut),
        State::Interrupted { cause } if *cause != Interruption::Stopped => {
            // An exit record is an outcome: what has one was not interrupted.
            match done.last() {
                // A supervisor that nobody ordered to end was ended with its machine, or by somebody.
                Some(last) if row.attempt == last.attempt => {
                    last.ended.as_ref().is_none_or(|ending| *ending == Ending::Stopped)
                }
                _ => true,
            }
        }
        _ => true,
    };
    if backed { None } else { Some(format!("its executions are {done:?}")) }
}

/// Whether the newest run for each user of the package that ran last ended well, as far as anybody knows.
/// A run that found a lock held and did nothing begins no list of users, and is none of its turns.
fn each_was_served(done: &[&Execution]) -> bool {
    let Some(last) = done.last() else { return false };
    let is_of_it =
        |one: &&&Execution| one.manifest == last.manifest && one.user.is_some() && !one.idle;
    let of_it = || done.iter().filter(is_of_it);
    of_it().all(|one| {
        let newest = of_it().rfind(|other| other.user == one.user);
        newest
            .and_then(|one| one.ended.as_ref())
            .is_none_or(|ended| *ended == Ending::Exited { code: 0 })
    })
}

/// The site's own check of a live database finds nothing either.
fn verify(core: &mut Core, store: &Store) {
    use muster_site_core::verify::{Stored, StoredReport, check_row, check_stream, check_sums};
    let mut findings = Vec::new();
    for row in store.occurrences() {
        let which = (row.advertisement, row.occurrence.clone());
        let targeted = muster_site_core::occurrence::targeted(row, &store.intervals);
        let counters = store.counters.get(&which).cloned().unwrap_or_default();
        let rows = store.rows_of(which.0, &which.1);
        findings.extend(check_sums(row, &targeted, &counters, rows));
    }
    for ((device, incarnation), stream) in &store.streams {
        let gaps = store.gaps.get(&(*device, *incarnation)).cloned().unwrap_or_default();
        let messages = store.messages_of(*device, *incarnation).map(|(sequence, message)| Stored {
            sequence,
            chain: message.chain,
            bytes: Some(&message.bytes),
        });
        let start = muster_model::id::Sequence(0);
        findings.extend(check_stream(stream, messages, &gaps, start));
    }
    let mut taken: Vec<_> = store.messages.iter().collect();
    taken.sort_by_key(|(_, message)| message.taken);
    let mut reports: BTreeMap<Key, Vec<StoredReport<'_>>> = BTreeMap::new();
    for ((device, incarnation, sequence), message) in taken {
        let Some(report) = &message.report else { continue };
        let (advertisement, occurrence) = (report.advertisement, report.occurrence.clone());
        let key = Key { advertisement, occurrence, device: *device };
        let place = Place { incarnation: *incarnation, sequence: *sequence };
        let one = StoredReport { place, late: message.late, report };
        reports.entry(key).or_default().push(one);
    }
    for row in store.rows.values() {
        findings.extend(check_row(row, reports.get(&row.key).map_or(&[], Vec::as_slice)));
    }
    for finding in findings {
        core.violated("accounting verify", finding.to_string());
    }
}
