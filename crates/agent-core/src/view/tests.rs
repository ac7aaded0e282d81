use std::time::Duration;

use muster_model::advertisement::At;

use crate::world::*;

#[test]
fn the_view_has_what_outsiders_read() {
    let mut world = World::new();
    let offer = world.hello(1);
    world.offer(vec![offer]);
    world.answers.site_down = true;
    let view = serde_json::to_value(world.agent.view(world.now)).unwrap();
    assert_eq!(view["outbox"]["length"], 0);
    assert_eq!(view["policy"]["revision"], 1);
    let shown = &view["obligations"][0];
    assert_eq!((&shown["state"], &shown["reason"]), (&"succeeded".into(), &"detected".into()));
    assert_eq!((&shown["name"], &shown["package"]), (&"ad-1".into(), &"hello@1".into()));
}

#[test]
fn why_tells_each_decision_and_what_comes_next() {
    let mut world = World::new();
    let mut offer = world.hello(1);
    let due = NOON.plus(Duration::from_secs(60));
    offer.occurrences[0].at = Some(At::Instant(due));
    world.offer(vec![offer.clone()]);
    let why = world.agent.why(world.now, &key(1)).unwrap();
    let steps: Vec<String> =
        why.chain.iter().map(|link| format!("{}: {}", link.step, link.verdict)).collect();
    assert_eq!(
        steps,
        [
            "policy: held",
            "offer: offered",
            "start: allowed",
            "content: ready",
            "time: later",
            &format!("state: waiting(time until {due})"),
        ]
    );
    assert_eq!((why.next.what.as_str(), why.next.at), ("its time comes", Some(due)));
    offer.stopped = order();
    world.offer(vec![offer]);
    let why = world.agent.why(world.now, &key(1)).unwrap();
    assert_eq!(why.chain[2].verdict, "waits: stopped");
    assert_eq!(why.chain[2].because, "by ada");
    assert_eq!(world.agent.why(world.now, &key(2)), None);
}
