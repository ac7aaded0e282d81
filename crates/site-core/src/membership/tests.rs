//! The algebra by example, and its laws over random graphs.

use muster_model::facts::Fact;
use muster_model::policy::Order;
use proptest::prelude::*;

use super::*;
use crate::device::Admission;
use crate::testing::*;

const ALL_ID: u128 = 0;

fn all() -> Collection {
    Collection { id: collection_id(ALL_ID), name: name("all"), definition: Definition::All }
}

fn collection(n: u128, clauses: Clauses) -> Collection {
    let limit_to = clauses.limit_to.or(Some(collection_id(ALL_ID)));
    let definition = Definition::Clauses(Clauses { limit_to, ..clauses });
    Collection { id: collection_id(n), name: name(&format!("c{n}")), definition }
}

fn query(text: &str) -> Option<Rule> {
    Some(Rule::parse(text).unwrap())
}

fn ids<const N: usize>(ids: [u128; N]) -> Vec<CollectionId> {
    ids.map(collection_id).to_vec()
}

fn members<const N: usize>(devices: [u128; N]) -> BTreeSet<DeviceId> {
    devices.map(device_id).into()
}

/// Ten Linux devices; odd ones say `lab = true`, the first five `ring = N`.
fn devices() -> Vec<Device> {
    (1..=10)
        .map(|n| {
            let device = device(n);
            let device = if n % 2 == 1 {
                with_fact(device, "lab", Fact::Flag(true))
            } else {
                with_fact(device, "lab", Fact::Flag(false))
            };
            if n <= 5 { with_fact(device, "ring", Fact::Number(n as i64)) } else { device }
        })
        .collect()
}

/// The members of collection 1 among the ten devices, and its counts.
fn evaluate(clauses: Clauses, others: Vec<Collection>) -> Evaluated {
    let collections = [all(), collection(1, clauses)].into_iter().chain(others);
    let graph = Graph::new(collections).unwrap();
    graph.evaluate(&devices()).remove(&collection_id(1)).unwrap()
}

#[test]
fn the_collection_of_the_documentation_holds_every_linux_machine_and_its_names() {
    let clauses = Clauses {
        members: members([1, 2]),
        query: query("device.os == 'linux'"),
        ..Clauses::default()
    };
    let evaluated = evaluate(clauses, Vec::new());
    assert_eq!(evaluated.members.len(), 10);
    let expected = Counts { named: 2, query: 10, members: 10, ..Counts::default() };
    assert_eq!(evaluated.counts, expected);
}

#[test]
fn clauses_apply_in_the_order_of_the_algebra() {
    let clauses = Clauses {
        members: members([2, 9]),
        query: query("device.lab"),
        include: ids([2]),
        exclude: ids([3]),
        limit_to: Some(collection_id(4)),
    };
    let others = vec![
        collection(2, Clauses { members: members([4, 6]), ..Clauses::default() }),
        collection(3, Clauses { members: members([1, 4, 8]), ..Clauses::default() }),
        collection(4, Clauses { members: members([1, 2, 3, 4, 5]), ..Clauses::default() }),
    ];
    let evaluated = evaluate(clauses, others);
    // Meant: 1 2 3 4 5 6 7 9; the limit takes 6 7 9; the exclusion takes 1 and 4.
    assert_eq!(evaluated.members, members([2, 3, 5]));
    let expected = Counts {
        named: 2,
        query: 5,
        query_unknown: 0,
        included: 2,
        limited: 3,
        excluded: 2,
        members: 3,
    };
    assert_eq!(evaluated.counts, expected);
}

#[test]
fn what_cannot_be_decided_adds_nobody() {
    let clauses = Clauses { query: query("device.ring != 1"), ..Clauses::default() };
    let evaluated = evaluate(clauses, Vec::new());
    assert_eq!(evaluated.members, members([2, 3, 4, 5]));
    assert_eq!(evaluated.counts.query_unknown, 5);
}

#[test]
fn an_exclusion_that_cannot_be_decided_excludes() {
    let clauses =
        Clauses { query: query("device.os == 'linux'"), exclude: ids([2]), ..Clauses::default() };
    let canary = collection(2, Clauses { query: query("device.ring == 1"), ..Clauses::default() });
    let evaluated = evaluate(clauses, vec![canary]);
    assert_eq!(evaluated.members, members([2, 3, 4, 5]));
    assert_eq!(evaluated.counts.excluded, 6);
}

#[test]
fn an_empty_collection_has_no_member() {
    assert_eq!(evaluate(Clauses::default(), Vec::new()).members, members([]));
}

#[test]
fn only_who_belongs_to_the_site_is_a_member() {
    let graph =
        Graph::new([all(), collection(1, Clauses { members: members([1]), ..Clauses::default() })])
            .unwrap();
    let check = |admission: Admission, expected: usize| {
        let device = Device { admission, ..device(1) };
        assert_eq!(graph.memberships(&device).len(), expected, "{:?}", device.admission);
    };
    check(Admission::Pending, 0);
    check(Admission::Admitted, 2);
    check(Admission::Retired, 0);
    let order = Order { by: "ann".into(), reason: "clone".into(), kill: false };
    check(Admission::Held { order }, 2);
}

#[test]
fn a_collection_without_a_limit_is_within_all() {
    let clauses = Clauses { members: members([1]), ..Clauses::default() };
    let definition = Definition::Clauses(clauses);
    let unlimited = Collection { id: collection_id(1), name: name("c1"), definition };
    let graph = Graph::new([unlimited]).unwrap();
    assert_eq!(graph.memberships(&device(1)).len(), 1);
    let retired = Device { admission: Admission::Retired, ..device(1) };
    assert_eq!(graph.memberships(&retired).len(), 0);
}

#[test]
fn a_rule_sees_the_name_that_the_site_gave() {
    let rule = Clauses { query: query("device.name == 'd1'"), ..Clauses::default() };
    let graph = Graph::new([all(), collection(1, rule)]).unwrap();
    let mut stranger = device(7);
    stranger.facts.name = "d1".into();
    stranger.facts.extra.insert("name".into(), Fact::Text("d1".into()));
    assert!(!graph.memberships(&stranger).contains(&collection_id(1)));
}

#[test]
fn cycles_are_refused_by_name() {
    let linked = |n, clauses| collection(n, clauses);
    let refused = Graph::new([
        all(),
        linked(1, Clauses { include: ids([2]), ..Clauses::default() }),
        linked(2, Clauses { exclude: ids([3]), ..Clauses::default() }),
        linked(3, Clauses { limit_to: Some(collection_id(1)), ..Clauses::default() }),
    ]);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("c1 -> c2 -> c3 -> c1"), "{said}");
    let itself =
        Graph::new([all(), linked(1, Clauses { include: ids([1]), ..Clauses::default() })]);
    assert!(itself.unwrap_err().to_string().contains("c1 -> c1"));
}

#[test]
fn a_diamond_is_no_cycle_and_a_missing_link_is_refused() {
    let inner = |n, to| collection(n, Clauses { include: ids([to]), ..Clauses::default() });
    let outer = collection(1, Clauses { include: ids([2, 3]), ..Clauses::default() });
    let diamond = [all(), outer, inner(2, 4), inner(3, 4), collection(4, Clauses::default())];
    assert!(Graph::new(diamond).is_ok());
    let refused = Graph::new([all(), inner(1, 9)]);
    assert!(matches!(refused, Err(GraphRefused::Missing { of, .. }) if of == name("c1")));
}

#[test]
fn ten_thousand_collections_in_a_row_do_not_end_the_process() {
    let chain =
        (1..10_000).map(|n| collection(n, Clauses { include: ids([n + 1]), ..Clauses::default() }));
    let last = collection(10_000, Clauses { members: members([1]), ..Clauses::default() });
    let graph = Graph::new([all(), last].into_iter().chain(chain)).unwrap();
    assert_eq!(graph.memberships(&device(1)).len(), 10_001);
}

#[test]
fn joins_and_leaves_are_the_difference() {
    let change = diff(&members([1, 2, 3]), &members([2, 3, 4]));
    assert_eq!((change.joins, change.leaves), (vec![device_id(4)], vec![device_id(1)]));
    assert!(diff(&members([1]), &members([1])).is_empty());
}

#[test]
fn a_bound_name_stays_with_its_device_and_a_stranger_gains_nothing() {
    let kept = BTreeMap::from([(name("d1"), device_id(1))]);
    let bearers = |wanted: &Name| match wanted.as_str() {
        "d1" => vec![device_id(66)],
        "d2" => vec![device_id(2)],
        "twin" => vec![device_id(3), device_id(4)],
        _ => Vec::new(),
    };
    let names = ["d1", "d2", "d9", "twin"].map(name);
    let bound = bind(&names, &kept, bearers);
    assert_eq!(bound[&name("d1")], Binding::Bound(device_id(1)));
    assert_eq!(bound[&name("d2")], Binding::Bound(device_id(2)));
    assert_eq!(bound[&name("d9")], Binding::Unresolved);
    assert_eq!(bound[&name("twin")], Binding::Ambiguous(vec![device_id(3), device_id(4)]));
}

/// Clauses over five collections, each naming only lower ones.
fn graphs() -> impl Strategy<Value = Graph> {
    let clauses = |n: u128| {
        let links = move || prop::collection::vec(1..n.max(2), 0..3);
        let rules = prop::sample::select(vec![
            None,
            query("device.lab"),
            query("device.ring == 2"),
            query("!(device.ring == 2) || device.lab"),
        ]);
        let named = prop::collection::btree_set(1..=10u128, 0..4);
        (links(), links(), rules, named).prop_map(move |(include, exclude, query, named)| {
            let lower = |ids: Vec<u128>| ids.into_iter().filter(|id| *id < n).map(collection_id);
            collection(
                n,
                Clauses {
                    members: named.into_iter().map(device_id).collect(),
                    query,
                    include: lower(include).collect(),
                    exclude: lower(exclude).collect(),
                    limit_to: None,
                },
            )
        })
    };
    (clauses(1), clauses(2), clauses(3), clauses(4), clauses(5))
        .prop_map(|(a, b, c, d, e)| Graph::new([all(), e, c, a, d, b]).unwrap())
}

proptest! {
    /// One device at a time and everything at once are one answer.
    #[test]
    fn incremental_and_whole_evaluation_agree(graph in graphs()) {
        let devices = devices();
        let whole = graph.evaluate(&devices);
        for device in &devices {
            let mine = graph.memberships(device);
            for (id, evaluated) in &whole {
                prop_assert_eq!(mine.contains(id), evaluated.members.contains(&device.id));
                prop_assert_eq!(evaluated.counts.members as usize, evaluated.members.len());
            }
        }
    }

    #[test]
    fn an_excluded_member_is_never_a_member(graph in graphs()) {
        let whole = graph.evaluate(&devices());
        for collection in graph.collections() {
            let Definition::Clauses(clauses) = &collection.definition else { continue };
            for excluded in &clauses.exclude {
                let both = whole[excluded].members.intersection(&whole[&collection.id].members);
                prop_assert_eq!(both.count(), 0);
            }
        }
    }
}
