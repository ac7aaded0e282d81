//! Rules by example, and the laws that make unknown safe.

use proptest::prelude::*;

use super::*;

/// What a rule says of a Linux device with the facts `ring = 2`, `lab = true`, `site = 'Köln'`.
fn device_fact(name: &str) -> Option<Fact> {
    match name {
        "ring" => Some(Fact::Number(2)),
        "lab" => Some(Fact::Flag(true)),
        "site" => Some(Fact::Text("Köln".into())),
        "os" => Some(Fact::Text("linux".into())),
        "arch" => Some(Fact::Text("x86_64".into())),
        "name" => Some(Fact::Text("d1".into())),
        _ => None,
    }
}

#[track_caller]
fn check(text: &str, expected: Truth) {
    let rule = Rule::parse(text).unwrap_or_else(|bad| panic!("{bad}"));
    assert_eq!(rule.holds(&device_fact), expected, "{text}");
}

#[test]
fn facts_and_literals_compare() {
    check("device.os == 'linux'", Truth::Yes);
    check("device.os != \"linux\"", Truth::No);
    check("device.name == 'd1' && device.arch == 'x86_64'", Truth::Yes);
    check("device.ring == 2 && device.ring != -2 && 0x2 == device.ring", Truth::Yes);
    check("device.lab", Truth::Yes);
    check("device.lab == true && !(device.lab == false)", Truth::Yes);
    check(r"device.site == 'K\u00f6ln' && r'\n' != '\n'", Truth::Yes);
    check("// everything\n true", Truth::Yes);
}

#[test]
fn numbers_and_texts_have_an_order() {
    check("device.ring < 3 && device.ring <= 2 && device.ring > 1 && device.ring >= 2", Truth::Yes);
    check("device.ring < 2 || device.ring > 2", Truth::No);
    check("device.name >= 'd' && device.name < 'd10'", Truth::Yes);
    check("device.memoryMiB >= 2048", Truth::Unknown);
    check("device.name >= 1", Truth::Unknown);
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    check("true || false && false", Truth::Yes);
    check("(true || false) && false", Truth::No);
    check("!false && true", Truth::Yes);
    check("!device.lab == false", Truth::Yes);
}

#[test]
fn what_is_not_known_is_unknown_and_never_yes() {
    check("device.colour == 'red'", Truth::Unknown);
    check("device.colour != 'red'", Truth::Unknown);
    check("!(device.colour == 'red')", Truth::Unknown);
    check("device.colour == device.colour", Truth::Unknown);
    check("device.colour == 'red' || device.os == 'linux'", Truth::Yes);
    check("device.colour == 'red' && device.os == 'windows'", Truth::No);
    check("device.colour == 'red' && device.os == 'linux'", Truth::Unknown);
}

#[test]
fn kinds_that_do_not_fit_are_unknown() {
    check("device.os == 1", Truth::Unknown);
    check("device.ring == '2'", Truth::Unknown);
    check("device.os", Truth::Unknown);
    check("!device.ring", Truth::Unknown);
    check("(device.os == 'linux') == true", Truth::Yes);
}

#[test]
fn a_rule_names_its_facts() {
    let rule = Rule::parse("device.b == 1 || !(device.a == device.b)").unwrap();
    assert_eq!(rule.facts(), ["a", "b"]);
}

#[track_caller]
fn refused(text: &str, line: usize, column: usize, what: &str) {
    let bad = Rule::parse(text).expect_err(text);
    assert_eq!((bad.line, bad.column), (line, column), "{bad}");
    assert!(bad.what.contains(what), "{bad}");
}

#[test]
fn faults_have_a_place_and_say_what_is_allowed() {
    refused("device.os = 'linux'", 1, 11, "`==`");
    refused("device.os == 'linux", 1, 14, "never closed");
    refused("device.os == 'linux' &&\n  os == 'x'", 2, 3, "device.NAME");
    refused("device.os == 'linux' )", 1, 22, "closes nothing");
    refused("(device.os == 'linux'", 1, 22, "expected `)`");
    refused("device.os == ", 1, 14, "found the end");
    refused("", 1, 1, "found the end");
    refused("1 + 2", 1, 3, "has no meaning");
    refused("1 < 2 < 3", 1, 7, "do not chain");
    refused("1 == 1 == 1", 1, 8, "do not chain");
    refused("device.a.b == 1", 1, 9, "no parts");
    refused("device.a() == 1", 1, 9, "functions");
    refused("device == 1", 1, 8, "device.NAME");
    refused("1.5 == 1", 1, 1, "whole one");
    refused("99999999999999999999 == 1", 1, 1, "64 bits");
    refused(r"'\q' == 'q'", 1, 2, "an escape is");
    refused(r"'\ud800' == 'q'", 1, 2, "4 digits");
    refused("'''a''' == 'a'", 1, 1, "triple quotes");
    refused("'é' == 'a' & true", 1, 12, "`&&`");
}

#[test]
fn the_caret_stands_below_the_fault() {
    let shown = Rule::parse("device.os = 'linux'").unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1].find(" = ").map(|at| at + 1), lines[2].find('^'));
}

#[test]
fn depth_is_limited_and_length_is_not_depth() {
    let nested = |depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(RULE_DEPTH_MAX - 1), Truth::Yes);
    let bad = Rule::parse(&nested(RULE_DEPTH_MAX)).unwrap_err();
    assert!(bad.what.contains("RULE_DEPTH_MAX"), "{bad}");
    assert!(Rule::parse(&"!".repeat(8_000)).is_err());
    check(&vec!["device.os == 'linux'"; 300].join(" && "), Truth::Yes);
}

fn truths() -> impl Strategy<Value = Truth> {
    prop::sample::select(vec![Truth::No, Truth::Unknown, Truth::Yes])
}

fn literals() -> impl Strategy<Value = Fact> {
    prop_oneof![
        any::<bool>().prop_map(Fact::Flag),
        any::<i64>().prop_map(Fact::Number),
        any::<String>().prop_map(Fact::Text),
    ]
}

fn comparisons() -> impl Strategy<Value = Comparison> {
    prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ])
}

fn rules() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        literals().prop_map(Expr::Literal),
        "[a-z_][a-zA-Z0-9_]{0,6}".prop_map(Expr::Fact),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.clone().prop_map(|one| Expr::Not(Box::new(one))),
            list.clone().prop_map(Expr::And),
            list.prop_map(Expr::Or),
            (comparisons(), inner.clone(), inner).prop_map(|(how, left, right)| {
                Expr::Compare { how, left: Box::new(left), right: Box::new(right) }
            }),
        ]
    })
}

proptest! {
    #[test]
    fn kleenes_laws_hold(a in truths(), b in truths(), c in truths()) {
        prop_assert_eq!(a.and(b), b.and(a));
        prop_assert_eq!(a.or(b), b.or(a));
        prop_assert_eq!(a.and(b).and(c), a.and(b.and(c)));
        prop_assert_eq!(a.or(b).or(c), a.or(b.or(c)));
        prop_assert_eq!(a.and(b.or(c)), a.and(b).or(a.and(c)));
        prop_assert_eq!(a.and(b).not(), a.not().or(b.not()));
        prop_assert_eq!(a.not().not(), a);
        prop_assert_eq!(a.or(a.and(b)), a);
    }

    /// Learning a fact never turns a certain answer around: the reason why unknown is safe.
    #[test]
    fn a_certain_answer_survives_a_new_fact(expr in rules(), value in literals()) {
        let rule = Rule { root: expr };
        let before = rule.holds(&|_| None);
        let after = rule.holds(&|_| Some(value.clone()));
        prop_assert!(before == Truth::Unknown || before == after);
    }

    #[test]
    fn what_is_printed_reads_back(expr in rules()) {
        let rule = Rule { root: expr };
        prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn no_text_ends_the_process(text in "[dev.ice()!&|<>='\"\\\\rx0-9a \\n\u{e9}-]{0,60}") {
        let _ = Rule::parse(&text).map(|rule| rule.holds(&device_fact));
    }
}
