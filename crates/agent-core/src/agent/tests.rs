//! Random inputs in random order: the laws that [`World`] looks at after each step hold whatever comes.

use std::time::Duration;

use jiff::tz::TimeZone;
use muster_model::advertisement::Late;
use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::facts::Fact;
use muster_model::id::{BootId, EpochId, Incarnation, Sequence};
use muster_model::message::RunId;
use muster_model::period::Period;
use muster_model::policy::{Order, PinnedProgram};
use muster_model::state::{Evidence, EvidenceKind, Rule, State, Waiting};
use muster_model::verification::Check;
use muster_model::window::Window;
use muster_model::wire::device::{Account, AccountEntry};
use proptest::prelude::*;
use serde_json::json;

use crate::input::{ContentNews, Ending, Exit, Found, Input, RestartTry, RunEvidence, RunResult};
use crate::maintenance::{Fault, Findings};
use crate::saved::Saved;
use crate::sometimes::{Branch, Fired};
use crate::step::Effect;
use crate::user::Request;
use crate::world::*;

/// What happens next: a kind, and two numbers that fill in its details.
type Event = (u8, u8, u16);

const KINDS: u8 = 38;

fn pick<T: Clone>(from: &[T], n: u16) -> T {
    from[n as usize % from.len()].clone()
}

fn exits(n: u16) -> Exit {
    let ending = pick(
        &[
            Ending::Exited { code: 0 },
            Ending::Exited { code: 3 },
            Ending::Exited { code: 75 },
            Ending::Exited { code: 102 },
            Ending::Signalled { signal: 9 },
            Ending::TimedOut,
            Ending::Stopped,
            Ending::NotStarted { why: "no such file".into() },
        ],
        n,
    );
    let said = |succeeded| RunResult {
        succeeded,
        restart: n.is_multiple_of(5),
        description: "d".into(),
        ..RunResult::default()
    };
    let result = pick(&[None, None, Some(said(None)), Some(said(Some(false)))], n / 8);
    Exit { ending, output: "out".into(), result }
}

fn evidence(a: u8, n: u16) -> RunEvidence {
    match a % 6 {
        0 | 1 => RunEvidence::Exited(exits(n)),
        2 => RunEvidence::Alive,
        3 => RunEvidence::NeverEntered,
        4 => RunEvidence::CutShort { same_boot: n.is_multiple_of(2) },
        _ => RunEvidence::Missing,
    }
}

fn found(n: u16) -> Found {
    let error = Found::Error("exit code 9".into());
    pick(
        &[
            Found::Absent,
            Found::Present,
            Found::Absent,
            Found::Present,
            error,
            Found::ContentRefused("differs".into()),
        ],
        n,
    )
}

fn restart_news(n: u16) -> Input {
    match n % 8 {
        0 => Input::RestartAble(false),
        1 => Input::RestartTried(RestartTry::Begun),
        2 => Input::RestartTried(RestartTry::Failed { why: "why".into() }),
        _ => Input::RestartAble(true),
    }
}

fn user_news(a: u8, n: u16) -> Input {
    let advertisement = advertisement(1 + u128::from(a % 3));
    match n % 4 {
        0 => Input::Asked(Request::Install { advertisement }),
        1 => {
            let until = Wall(NOON.0 + i64::from(n) * 1_000);
            Input::Asked(Request::Defer { advertisement, until })
        }
        _ => Input::Sessions((0..n / 16 % 4).map(|user| user.to_string()).collect()),
    }
}

/// A window or freeze of some hours within the first day.
fn some_window(effect: &str, n: u16) -> Window {
    let at = NOON.plus(Duration::from_secs(u64::from(n / 6 % 24) * 3_600));
    let document = json!({"name": "w", "effect": effect, "at": at.to_string(), "duration": "5h"});
    serde_json::from_value(document).unwrap()
}

impl World {
    fn random_policy(&mut self, a: u8, n: u16) {
        let rerun = pick(&["never", "always", "if-not-detected"], n);
        let attempts = if rerun == "never" { 1 } else { 2 };
        let more = json!({
            "rerun": rerun,
            "attempts": attempts,
            "retryDelays": ["1m"],
            "restartCodes": [102],
            "packageManager": "dpkg",
            "notice": pick(&[None, Some(json!({"countdown": "1m", "deferUntil": "10m"}))], n / 5),
            "platform": pick(&[None, None, None, Some("windows")], n / 3),
        });
        let order = |kill| Some(Order { by: "ada".into(), reason: String::new(), kill });
        let offers = (1..=3)
            .filter(|id| (a >> id) & 1 == 0)
            .map(|id| {
                let base = self.package(10 + id % 2, program(more.clone()), n.is_multiple_of(3));
                let goes_before = n.is_multiple_of(5);
                let mut more = more.clone();
                if goes_before {
                    more["dependsOn"] = json!({"package": "hello@1", "program": "install"});
                }
                if id == 2 && n.is_multiple_of(4) {
                    more["runAs"] = json!("each-user");
                }
                if n.is_multiple_of(9) {
                    more["requirements"] = json!("device.memoryMiB >= 2");
                }
                let mut offer = self.package(id, program(more), !n.is_multiple_of(4));
                if goes_before && !n.is_multiple_of(25) {
                    let (package, program) = (base.package, base.program);
                    offer.dependencies = vec![PinnedProgram { package, program }];
                }
                offer.revision = 1 + u32::from(n % 3);
                if id == 3 && n.is_multiple_of(2) {
                    offer.supersedes = vec![offer.package.name.clone()];
                }
                offer.stopped = if n.is_multiple_of(7) { order(n.is_multiple_of(2)) } else { None };
                offer.revoked = if n.is_multiple_of(31) { order(false) } else { None };
                offer.expires =
                    (n.is_multiple_of(11)).then(|| NOON.plus(Duration::from_secs(3_000)));
                if n.is_multiple_of(13) {
                    offer.occurrences.clear();
                }
                if n.is_multiple_of(5) {
                    offer.recur("DTSTART:20270115T081000Z RRULE:FREQ=HOURLY");
                    offer.late = pick(&[Late::RunLate, Late::Skip, Late::Ask], n / 5);
                    offer.splay = Period::minutes(u64::from(n % 9));
                }
                offer
            })
            .collect();
        self.policy.halted = if n.is_multiple_of(17) { order(n.is_multiple_of(2)) } else { None };
        self.policy.advertisements = offers;
        self.policy.windows = match n % 6 {
            0 => vec![some_window("window", n)],
            1 => vec![some_window("freeze", n)],
            _ => Vec::new(),
        };
        if n.is_multiple_of(19) {
            self.policy.epoch = EpochId(uuid::Uuid::from_u128(0xe0 + u128::from(n % 4)));
        }
        self.advance_policy();
    }

    /// Folders of runs of the life before.
    fn find_some(&mut self, n: usize) {
        let evidence = [
            RunEvidence::Alive,
            RunEvidence::NeverEntered,
            RunEvidence::Exited(exited(0)),
            RunEvidence::CutShort { same_boot: false },
        ];
        for id in 1..=(n as u128 % 4) {
            let offer = self.package(id, program(json!({"attempts": 2})), n.is_multiple_of(2));
            let manifested = self.programs[&offer.package.manifest].clone();
            let evidence = pick(&evidence, n as u16 + id as u16);
            self.found.push(found_run(&offer, &manifested, evidence));
        }
    }

    /// A run that was armed or is followed, or one that nobody knows.
    fn some_run(&self, n: u16) -> RunId {
        let known: Vec<RunId> = self.agent.runs.keys().copied().collect();
        if known.is_empty() { RunId(Digest::of(b"nobody's")) } else { pick(&known, n) }
    }

    fn random_receipt(&mut self, a: u8, n: u16) -> Input {
        let memory = self.agent.memory.clone();
        let batch = self.done.iter().rev().find_map(|effect| match effect {
            Effect::Send(batch) => Some(batch.clone()),
            _ => None,
        });
        let Some(batch) = batch else { return Input::SendFailed { why: "none".into() } };
        let mut receipt = self.receipt(&batch);
        match a % 8 {
            0 => receipt.incarnation = Incarnation(9),
            1 => receipt.head = Digest::of(b"bent"),
            2 => receipt.epoch = EpochId(uuid::Uuid::nil()),
            3 => {
                let epoch = memory.epoch.unwrap_or(EPOCH);
                return Input::SiteBehind { epoch, through: Sequence(u64::from(n) % 20) };
            }
            _ => {}
        }
        Input::ReceiptArrived(receipt)
    }

    fn random_account(&mut self, a: u8, n: u16) -> Input {
        let evidence = Evidence { rule: EvidenceKind::Detected, exit_code: None };
        let states = [
            State::Succeeded { evidence },
            State::Running { attempt: 1 },
            State::Waiting { why: Waiting::Retry, until: None },
        ];
        let entry = |id: u128| AccountEntry {
            advertisement: advertisement(id),
            occurrence: key(id).occurrence,
            revision: 1 + u32::from(n % 3),
            state: pick(&states, n / 3),
            attempt: 1,
        };
        Input::AccountArrived(Account {
            device: DEVICE,
            incarnation: self.identity.incarnation,
            epoch: EPOCH,
            obligations: (1..=3).filter(|id| (a >> id) & 1 == 0).map(entry).collect(),
        })
    }

    fn content_news(&mut self, a: u8, n: u16) -> Input {
        let manifests: Vec<Digest> = self.programs.keys().copied().collect();
        let manifest = if manifests.is_empty() { Digest::of(b"none") } else { pick(&manifests, n) };
        let Some(manifested) = self.programs.get(&manifest).cloned() else { return Input::Tick };
        let why = "why".to_owned();
        let news = match a % 8 {
            0 => ContentNews::Progress { have: u64::from(n), of: 1 << 16 },
            1 => ContentNews::Manifest(Box::new(manifested)),
            2 => ContentNews::Unavailable { wait: Waiting::Content, why },
            3 if n.is_multiple_of(8) => ContentNews::Refused { rule: Rule::PublisherRefused, why },
            _ => ContentNews::Ready(Box::new(manifested)),
        };
        Input::Content { manifest, news }
    }

    /// Somebody asks for a verification, it comes to something, or something was mended or was not.
    fn maintenance_news(&mut self, a: u8, n: u16) -> Input {
        let manifests: Vec<Digest> = self.agent.contents.keys().copied().collect();
        let mut faults = vec![Fault::FolderMissing { folder: "runs".into() }];
        faults.extend(manifests.into_iter().map(|manifest| Fault::Content { manifest }));
        let check = Check {
            name: "x".into(),
            ok: n.is_multiple_of(2),
            detail: String::new(),
            remedy: String::new(),
        };
        match a % 4 {
            1 => Input::Asked(Request::Verify),
            2 => Input::Verified(Findings { checks: vec![check], faults: vec![pick(&faults, n)] }),
            _ => Input::Repaired {
                fault: faults.swap_remove(0),
                failed: n.is_multiple_of(4).then(String::new),
            },
        }
    }

    /// The shell gets on with what it was told to do.
    fn answer_some(&mut self, n: u16) {
        self.answers.endless = n.is_multiple_of(2);
        self.answers.restarts = [RestartTry::Failed { why: "why".into() }].into();
        for _ in 0..3 {
            let Some(effect) = self.waiting.pop_front() else { return };
            let answer = self.answer(&effect);
            answer.map(|input| self.give(input));
        }
    }

    fn happen(&mut self, (kind, a, n): Event) {
        let some_key = key(1 + u128::from(a % 3));
        let input = match kind % KINDS {
            26.. => return self.answer_some(n),
            24 if a % 4 == 0 => restart_news(n),
            24 => self.maintenance_news(a, n),
            25 => user_news(a, n),
            0 => return self.random_policy(a, n),
            1 => return self.restart(),
            2 if n.is_multiple_of(3) => return self.reboot(),
            3 | 4 => {
                self.move_to(self.now.elapsed.plus(Duration::from_secs(u64::from(n) % 200)));
                Input::Tick
            }
            5 | 6 => self.content_news(a, n),
            7 | 8 => Input::Conditions {
                key: some_key,
                blocked: pick(&[None, None, None, Some(Waiting::Disk)], n),
            },
            9..=11 => Input::Detected { key: some_key, found: found(n) },
            12..=14 => Input::RunSeen { run: self.some_run(n), evidence: evidence(a, n / 8) },
            15 => Input::ArmFailed {
                run: self.some_run(n),
                wait: pick(&[None, Some(Waiting::Disk)], u16::from(a)),
                why: "why".into(),
            },
            16 | 17 => self.random_receipt(a, n),
            18 => Input::PollFailed { why: "why".into() },
            19 => Input::NothingNew { site_time: Some(Wall(NOON.0 + i64::from(n) * 1_000)) },
            20 => self.random_account(a, n),
            21 => {
                let mut facts = facts();
                facts.os = pick(&["linux".to_owned(), "windows".to_owned()], n);
                let memory = Fact::Number(i64::from(a % 4));
                facts.extra.extend((a > 50).then(|| ("memoryMiB".to_owned(), memory)));
                Input::FactsChanged(facts)
            }
            22 => Input::Paused { paused: n.is_multiple_of(3) },
            _ => pick(
                &[
                    Input::LinkUp,
                    Input::Tick,
                    Input::SendFailed { why: "why".into() },
                    Input::PolicyRefused { why: format!("{}", n % 3) },
                    Input::ZoneChanged(TimeZone::UTC),
                    Input::Started {
                        boot: BootId("x".into()),
                        facts: facts(),
                        zone: TimeZone::UTC,
                        seed: 1,
                        found: Vec::new(),
                    },
                ],
                n,
            ),
        };
        self.give(input);
    }
}

fn live(events: &[Event], forgetful: bool) -> World {
    let mut identity = identity();
    if forgetful {
        identity.incarnation = Incarnation(2);
        identity.fresh_incarnation_because = Some("damaged".into());
    }
    let mut world = World::unstarted(identity, Saved::default());
    world.find_some(events.len());
    world.start();
    events.iter().for_each(|event| world.happen(*event));
    world
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec((0..KINDS, any::<u8>(), any::<u16>()), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_comes_the_laws_hold(events in events(), forgetful in any::<bool>()) {
        live(&events, forgetful);
    }

    #[test]
    fn after_any_past_a_kind_world_brings_every_obligation_to_rest(events in events()) {
        let mut world = live(&events, false);
        world.policy.halted = None;
        world.answers.endless = false;
        let mut offer = world.hello(1);
        offer.revision = 9;
        world.give(Input::FactsChanged(facts()));
        world.give(Input::Paused { paused: false });
        world.policy.epoch = world.agent.memory.epoch.unwrap_or(EPOCH);
        world.policy.windows.clear();
        world.policy.revision += 100;
        world.offer(vec![offer]);
        world.restart();
        for run in world.agent.runs.keys().copied().collect::<Vec<_>>() {
            world.give(Input::RunSeen { run, evidence: RunEvidence::Exited(exited(0)) });
        }
        world.serve();
        world.reboot();
        world.serve();
        world.pass(Duration::from_secs(4 * 3_600));
        let open: Vec<String> = world
            .agent
            .obligations
            .values()
            .filter(|record| !record.reported.word().is_complete())
            .map(|record| format!("{} in {:?}", record.reported, record.stage))
            .collect();
        prop_assert!(open.is_empty(), "{open:?}");
        prop_assert_eq!(world.agent.memory.relieved, world.agent.memory.head);
    }
}

#[test]
fn random_lives_reach_the_rare_branches() {
    let mut fired = Fired::default();
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for life in 0..900 {
        let events: Vec<Event> =
            (0..100).map(|_| (next() as u8 % KINDS, next() as u8, next() as u16)).collect();
        let mut identity = identity();
        if life % 3 == 0 {
            identity.incarnation = Incarnation(2);
            identity.fresh_incarnation_because = Some("damaged".into());
        }
        let mut world = World::unstarted(identity, Saved::default());
        world.find_some(life);
        world.start();
        for event in events {
            world.happen(event);
            fired = fired.and(world.agent.fired());
        }
    }
    // These need a setting, a full outbox, a month of silence, a site that was rolled back further, restarts
    // that fail or repeat more than in a random life, users who leave in time, a machine that was put back, or
    // a release of the agent;
    // each has a test of its own.
    let elsewhere = [
        Branch::BootGrace,
        Branch::OutboxFull,
        Branch::GaveWay,
        Branch::ToldLater,
        Branch::PassedOver,
        Branch::StalePolicy,
        Branch::Forgotten,
        Branch::Restated,
        Branch::RestartFailed,
        Branch::RestartLoop,
        Branch::PutBack,
        Branch::DoneAgain,
        Branch::DetectedUndone,
        Branch::UpgradeWaits,
        Branch::Upgraded,
        Branch::ReachedSite,
        Branch::Returned,
    ];
    let never: Vec<Branch> = Branch::ALL
        .into_iter()
        .filter(|branch| !fired.has(*branch) && !elsewhere.contains(branch))
        .collect();
    assert_eq!(never, []);
}
