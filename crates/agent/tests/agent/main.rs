//! The agent as a process against a site over real TLS: what it believes, what it runs, what it
//! survives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::result_large_err)]

mod device;
mod lost_memory;
mod site;

use std::time::Duration;

use muster_agent::identity::Identity;
use muster_model::id::{AdvertisementId, EpochId};
use muster_model::message::Report;
use muster_model::sign::PrivateKey;
use muster_model::state::{EvidenceKind, Interruption, Rule, State, Word};

use device::{Device, SmallDisk, run_agent, wait_for};
use site::{Site, publisher};

#[test]
#[ignore = "is the agent's process of the other tests"]
fn the_agent_of_another_test() {
    run_agent();
}

fn ended(report: &Report) -> bool {
    report.state.word().is_terminal()
}

fn runs(report: &Report) -> bool {
    report.state.word() == Word::Running
}

/// Publishes and advertises a script that marks once and then does `more`.
fn advertise(site: &Site, device: &Device, more: &str, properties: &str) -> AdvertisementId {
    let script = format!("echo mark >> {}\n{more}\n", device.mark().display());
    site.advertise(site.publish("p", &script, properties, &publisher(1).1))
}

fn rule_of(report: &Report) -> Option<(Rule, &str)> {
    match &report.state {
        State::Failed { code } => Some((code.rule, &code.detail)),
        _ => None,
    }
}

#[test]
fn a_signed_program_runs_once_and_its_outcome_arrives() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let script = "test \"$MUSTER_DEVICE_NAME\" = d1 && test -w . && echo said";
    let ad = advertise(&site, &device, script, "");
    device.start();
    let report = device.reported(&site, ad, ended);
    let State::Succeeded { evidence } = &report.state else { panic!("{report:?}") };
    assert_eq!(evidence.rule, EvidenceKind::ExitCode);
    assert_eq!((device.marks(), report.output.as_str()), (1, "said\n"));
    wait_for(|| std::fs::read_dir(device.data().join("runs")).unwrap().next().is_none());
    wait_for(|| device.status().outbox.length == 0);
    device.stop();
    assert_eq!(device.status().running, None);
    let words: Vec<Word> = site.reports(ad).iter().map(|report| report.state.word()).collect();
    assert_eq!(words.first(), Some(&Word::Accepted));
    assert_eq!(words.last(), Some(&Word::Succeeded));
}

#[test]
fn enrolling_again_is_the_same_device_and_leaving_is_an_end() {
    let site = Site::start();
    let device = Device::enrolled(&site);
    let key = |device: &Device| {
        let (identity, _) = Identity::load_enrolled(&device.data()).unwrap();
        identity.key().unwrap().public()
    };
    let first = key(&device);
    assert!(device.enroll(&site).already);
    assert_eq!(key(&device), first);
    assert_eq!(muster_agent::leave(&device.data()).unwrap().device, Some(site::DEVICE));
    assert!(Identity::load_enrolled(&device.data()).is_err());
    assert!(!device.enroll(&site).already);
    assert_ne!(key(&device), first);
}

#[test]
fn a_killed_agent_finds_its_run_again_and_runs_nothing_twice() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let go = device.data().parent().unwrap().join("go");
    let wait = format!("while ! test -e {}; do sleep 0.05; done; exit 5", go.display());
    let ad = advertise(&site, &device, &wait, r#", "rerun": "never""#);
    device.start();
    wait_for(|| device.marks() == 1);
    device.kill();
    device.start();
    device.kill();
    std::fs::write(&go, "").unwrap();
    device.start();
    let report = device.reported(&site, ad, ended);
    assert_eq!((report.exit_code, device.marks()), (Some(5), 1), "{report:?}");
}

#[test]
fn a_second_agent_on_the_same_folder_names_the_first() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    device.start();
    wait_for(|| device.status().running.is_some());
    let pid = device.status().running.unwrap();
    let (data, supervisor) = (device.data(), None);
    let options = muster_agent::RunOptions { data, supervisor, session_source: None };
    let refused = muster_agent::run(options).unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains(&pid.to_string()), "{cause}");
}

#[test]
fn a_stop_that_kills_ends_the_run() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "sleep 600", r#", "rerun": "never""#);
    device.start();
    wait_for(|| device.marks() == 1);
    site.stop_all();
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state, State::Interrupted { cause: Interruption::Stopped });
}

#[test]
fn a_new_epoch_costs_one_ticket() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    device.start();
    wait_for(|| device.status().last_heard.is_some());
    site.truth().epoch = EpochId(uuid::Uuid::from_u128(2));
    let ad = advertise(&site, &device, "", "");
    device.reported(&site, ad, ended);
    assert!(site.truth().tickets_refused >= 1);
}

#[test]
fn a_stranger_in_the_sites_place_is_not_believed() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    device.start();
    wait_for(|| device.status().policy.is_some());
    let honest = std::mem::replace(&mut site.truth().signing, PrivateKey::from_seed([66; 32]));
    let ad = advertise(&site, &device, "", "");
    let before = site.truth().polls;
    wait_for(|| site.truth().polls >= before + 3);
    assert_eq!(device.marks(), 0);
    site.truth().signing = honest;
    device.reported(&site, ad, ended);
    assert_eq!(device.marks(), 1);
}

#[test]
fn a_publisher_who_came_after_the_enrolment_is_believed() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    device.start();
    wait_for(|| device.status().policy.is_some());
    site.add_publisher(2, &publisher(1).1);
    let script = format!("echo mark >> {}", device.mark().display());
    let ad = site.advertise(site.publish("p", &script, "", &publisher(2).1));
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state.word(), Word::Succeeded, "{report:?}");
    assert_eq!(device.status().trust.number, 2);
}

#[test]
fn an_invented_publisher_is_refused_by_name_and_nothing_is_unpacked() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    device.start();
    wait_for(|| device.status().policy.is_some());
    site.add_publisher(2, &publisher(2).1);
    let script = format!("echo mark >> {}", device.mark().display());
    let ad = site.advertise(site.publish("p", &script, "", &publisher(2).1));
    let report = device.reported(&site, ad, ended);
    let (rule, why) = rule_of(&report).unwrap();
    assert_eq!(rule, Rule::PublisherRefused);
    assert!(why.contains("trust document 2"), "{why}");
    assert_eq!((device.marks(), device.status().trust.number), (0, 1));
}

#[test]
fn altered_content_never_runs_and_comes_when_it_is_whole() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "", "");
    let whole = site.truth().objects.clone();
    let manifest = site.truth().offers[0].package.manifest;
    for (digest, bytes) in &mut site.truth().objects {
        if *digest != manifest {
            bytes[0] ^= 1;
        }
    }
    device.start();
    device.reported(&site, ad, |report| report.state.word() == Word::Waiting);
    assert_eq!(device.marks(), 0);
    site.truth().objects = whole;
    device.reported(&site, ad, |report| report.state.word() == Word::Succeeded);
}

#[test]
fn a_run_whose_folder_was_destroyed_is_never_started_again() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "sleep 600", r#", "rerun": "never""#);
    device.start();
    wait_for(|| device.marks() == 1);
    device.kill();
    device.end_supervisor();
    std::fs::remove_dir_all(device.data().join("runs")).unwrap();
    device.start();
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state, State::Interrupted { cause: Interruption::MemoryLost });
    assert_eq!(device.marks(), 1);
}

#[test]
fn a_full_disk_is_waited_for_and_costs_no_attempt() {
    let Some(disk) = SmallDisk::of(12 * 1024 * 1024) else { return };
    let site = Site::start();
    let mut device = Device::enrolled_on(&site, disk.path());
    device.start();
    wait_for(|| device.status().policy.is_some());
    disk.fill();
    let ad = advertise(&site, &device, "", r#", "rerun": "never""#);
    device.reported(&site, ad, |report| {
        report.state.reason().is_some_and(|why| why.contains("disk"))
    });
    assert_eq!(device.marks(), 0);
    disk.empty();
    let report = device.reported(&site, ad, ended);
    assert_eq!((report.state.word(), report.attempt), (Word::Succeeded, 1));
    assert_eq!(device.marks(), 1);
}

#[test]
fn a_token_of_another_site_is_refused() {
    let (site, other) = (Site::start(), Site::start());
    let device = Device::enrolled(&site);
    let refused = device.try_enroll(&site.url, other.token()).unwrap_err();
    assert!(refused.to_string().contains("enrolled at"), "{refused}");
    muster_agent::leave(&device.data()).unwrap();
    assert!(device.try_enroll(&site.url, other.token()).is_err(), "the pin is another CA's");
}

#[test]
fn a_certificate_that_expired_long_ago_is_renewed() {
    let site = Site::start();
    site.truth().certificate_age = Duration::from_secs(400 * 86_400);
    let mut device = Device::enrolled(&site);
    site.truth().certificate_age = Duration::ZERO;
    device.start();
    wait_for(|| site.truth().renewals == 1);
    let ad = advertise(&site, &device, "", "");
    device.reported(&site, ad, ended);
}

#[test]
fn a_clock_that_is_years_wrong_does_no_harm() {
    let site = Site::start();
    site.truth().ahead = Duration::from_secs(60 * 86_400);
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "", "");
    device.start();
    device.reported(&site, ad, ended);
    let seen = device.status().trusted_time;
    assert!(
        seen > muster_host::clock::Clock::from_env()
            .unwrap()
            .wall()
            .plus(Duration::from_secs(50 * 86_400))
    );
}

#[test]
fn a_paused_device_starts_nothing_until_it_is_resumed() {
    use muster_agent::components::{SOFTWARE_DISTRIBUTION, set_paused};
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    set_paused(&device.data(), SOFTWARE_DISTRIBUTION, true).unwrap();
    let ad = advertise(&site, &device, "", "");
    device.start();
    device.reported(&site, ad, |report| {
        report.state.reason().is_some_and(|why| why.contains("paused"))
    });
    assert_eq!(device.marks(), 0);
    set_paused(&device.data(), SOFTWARE_DISTRIBUTION, false).unwrap();
    device.reported(&site, ad, ended);
    assert!(site.reports(ad).iter().any(runs));
}

#[test]
fn a_killed_supervisor_is_an_interruption_and_leaves_nothing_running() {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let pids = device.mark().with_extension("pids");
    let more = format!("sleep 600 & echo $! > {}; wait", pids.display());
    let ad = advertise(&site, &device, &more, r#", "rerun": "never""#);
    device.start();
    wait_for(|| std::fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')));
    device.end_supervisor();
    let report = device.reported(&site, ad, ended);
    assert_eq!(report.state, State::Interrupted { cause: Interruption::Killed });
    let child = std::fs::read_to_string(&pids).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    assert!(stat.is_err() || stat.unwrap().contains(") Z "), "the program's child goes on");
}

/// Kills the agent when it reaches `failpoint` and starts it again; answers whether it died.
#[track_caller]
fn survives(failpoint: &str) -> bool {
    let site = Site::start();
    let mut device = Device::enrolled(&site);
    let ad = advertise(&site, &device, "", r#", "rerun": "never""#);
    device.start_with(&[("MUSTER_FAILPOINT", failpoint)]);
    let mut died = false;
    wait_for(|| {
        died |= device.restarted_if_dead();
        site.reports(ad).iter().any(ended)
    });
    let report = site.reports(ad).into_iter().find(ended).unwrap();
    assert_eq!(report.state.word(), Word::Succeeded, "{failpoint}: {report:?}");
    assert_eq!(device.marks(), 1, "{failpoint}");
    died
}

#[test]
fn a_crash_around_any_commit_loses_and_doubles_nothing() {
    let points =
        (1..=7).flat_map(|n| ["before", "after"].map(|side| format!("journal.commit:{side}:{n}")));
    let died = points.filter(|point| survives(point)).count();
    assert!(died >= 12, "only {died} of the points were reached");
}

#[test]
fn a_crash_around_the_launch_loses_and_doubles_nothing() {
    assert!(survives("run.launch:before") && survives("run.launch:after"));
}

#[test]
fn a_supervisor_that_dies_after_its_exit_record_has_told_all() {
    assert!(!survives("supervisor.exit:after"), "the agent itself goes on");
}
