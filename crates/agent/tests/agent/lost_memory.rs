//! A device whose journal is gone: the account, the damaged journal and the run folders say what was
//! started, and nothing is started twice.

use muster_agent::identity::Identity;
use muster_model::id::{AdvertisementId, Incarnation};
use muster_model::message::{Body, Message};
use muster_model::state::{Interruption, State, Word};
use muster_model::wire::device::AccountEntry;

use crate::device::{Device, wait_for};
use crate::site::Site;
use crate::{advertise, ended, runs};

const NEVER: &str = r#", "rerun": "never""#;

fn lose_journal(device: &Device) {
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(device.data().join(name));
    }
}

/// A site that hears nothing of a run which ends before the journal is lost.
fn untold(more: &str) -> (Site, Device, AdvertisementId) {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    start_and_be_deaf(&site, &mut device);
    let ad = advertise(&site, &device, more, NEVER);
    (site, device, ad)
}

/// The site answers the first word of the boot, before which nothing starts, and takes no message more.
fn start_and_be_deaf(site: &Site, device: &mut Device) {
    device.start();
    let told = |device: &Device| device.status().outbox.length == 0;
    wait_for(|| !site.truth().streams.is_empty() && told(device));
    site.truth().deaf = true;
}

#[test]
fn a_lost_memory_asks_for_its_account_and_runs_nothing_twice() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "", NEVER);
    device.start();
    let report = device.reported(&site, ad, ended);
    device.stop();
    lose_journal(&device);
    site.truth().account = vec![AccountEntry {
        advertisement: ad,
        occurrence: report.occurrence.clone(),
        revision: report.revision,
        state: report.state.clone(),
        attempt: report.attempt,
    }];
    device.start();
    let second = Incarnation(2);
    wait_for(|| site.truth().streams.get(&second).is_some_and(|stream| !stream.is_empty()));
    let first = site.truth().streams[&second][0].body.clone();
    assert!(matches!(first, Body::MemoryLost { .. }), "{first:?}");
    // A second advertisement shows that it has gone on after the account came.
    let other = advertise(&site, &device, "", "");
    device.reported(&site, other, ended);
    assert!(site.truth().accounts_asked.contains(&second));
    assert_eq!(device.marks(), 2, "once each");
    // The next incarnation is handed out again in advance.
    wait_for(|| {
        let (_, enrolment) = Identity::load_enrolled(&device.data()).unwrap();
        enrolment.next_incarnation == Some(Incarnation(3))
    });
}

#[test]
fn an_outcome_in_a_damaged_journal_still_arrives() {
    let (site, mut device, ad) = untold("");
    wait_for(|| device.status().obligations.iter().any(|one| one.state == Word::Succeeded));
    device.stop();
    let journal = rusqlite::Connection::open(device.data().join("journal.db")).unwrap();
    journal.execute("UPDATE one SET body = '{' WHERE name = 'policy'", []).unwrap();
    drop(journal);
    site.truth().deaf = false;
    device.start();
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state.word(), Word::Succeeded);
    assert_eq!(device.marks(), 1);
    assert!(device.data().join("journal.damaged-1.db").exists());
    let untold = |message: &Message| !matches!(message.body, Body::Obligation(_));
    assert!(
        site.truth().streams[&Incarnation(1)].iter().all(untold),
        "the first life told nothing"
    );
}

#[test]
fn an_outcome_that_went_with_the_journal_is_told_by_the_run_folder() {
    let (site, mut device, ad) = untold("exit 3");
    wait_for(|| device.status().obligations.iter().any(|one| one.state == Word::Failed));
    device.stop();
    lose_journal(&device);
    site.truth().deaf = false;
    device.start();
    let report = device.reported(&site, ad, ended);
    assert_eq!((report.exit_code, report.attempt, device.marks()), (Some(3), 1, 1), "{report:?}");
    wait_for(|| std::fs::read_dir(device.data().join("runs")).unwrap().next().is_none());
}

#[test]
fn a_run_that_goes_on_while_the_journal_is_lost_is_followed_again() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let go = device.data().parent().unwrap().join("go");
    let wait = format!("while ! test -e {}; do sleep 0.05; done; exit 5", go.display());
    start_and_be_deaf(&site, &mut device);
    let ad = advertise(&site, &device, &wait, NEVER);
    wait_for(|| device.marks() == 1);
    device.kill();
    lose_journal(&device);
    site.truth().deaf = false;
    device.start();
    device.reported(&site, ad, runs);
    std::fs::write(&go, "").unwrap();
    let report = device.reported(&site, ad, ended);
    assert_eq!((report.exit_code, device.marks()), (Some(5), 1), "{report:?}");
}

#[test]
fn a_run_that_was_cut_short_while_the_journal_was_lost_is_interrupted_though_nobody_offers_it() {
    let (site, mut device, ad) = untold("sleep 600");
    wait_for(|| device.marks() == 1);
    device.kill();
    device.end_supervisor();
    lose_journal(&device);
    site.edit(Vec::clear);
    site.truth().deaf = false;
    device.start();
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state, State::Interrupted { cause: Interruption::Killed });
    assert_eq!(device.marks(), 1);
}
