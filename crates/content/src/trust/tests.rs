//! The chain of trust under attack; each known trick of update frameworks by its number.

use muster_model::name::Name;
use muster_model::sign::{PrivateKey, Signature};

use super::*;
use crate::envelope::KeySignature;
use crate::manifest::tests::manifest;

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed([seed; 32])
}

pub(crate) fn publisher(name: &str, seed: u8) -> Publisher {
    Publisher { name: Name::new(name).unwrap(), key: key(seed).public() }
}

fn add(name: &str, seed: u8) -> TrustChange {
    TrustChange::Add(publisher(name, seed))
}

fn first() -> TrustDocument {
    TrustDocument::first(publisher("ada", 1)).unwrap()
}

fn accepted(trust: &Trust, offered: &SignedTrust) -> Trust {
    match trust.accept(offered).unwrap() {
        Accepted::Newer(trust) => trust,
        Accepted::Same => panic!("nothing new was accepted"),
    }
}

/// Holds document 1 of ada.
fn holds_first() -> Trust {
    accepted(&Trust::unpinned(), &first().sign(&key(1)))
}

/// Holds a document after it, made by `changes`.
fn holds(changes: &[TrustChange]) -> (Trust, TrustDocument) {
    let second = first().next(changes).unwrap();
    (accepted(&holds_first(), &second.sign(&key(1))), second)
}

#[track_caller]
fn refused(trust: &Trust, offered: &SignedTrust, said: &str) {
    let error = trust.accept(offered).unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
}

#[track_caller]
fn manifest_refused(trust: &Trust, signed: &SignedManifest, said: &str) {
    let error = trust.verify_manifest(signed).unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
}

fn signed_by(seed: u8) -> SignedManifest {
    SignedManifest::sign(manifest().encode().unwrap(), &key(seed))
}

#[test]
fn without_a_pin_number_one_signed_by_its_own_publisher_is_believed() {
    let trust = holds_first();
    assert_eq!((trust.number(), trust.is_pinned()), (1, false));
    refused(&Trust::unpinned(), &first().sign(&key(2)), "none of its signers");
    let second = first().next(&[add("bob", 2)]).unwrap();
    refused(&Trust::unpinned(), &second.sign(&key(1)), "number 0 is held, so only 1");
}

#[test]
fn a_pin_believes_its_document_and_no_other() {
    let (site, second) = holds(&[add("bob", 2)]);
    let fresh = Trust::pinned(site.pin().unwrap());
    let trust = accepted(&fresh, &second.sign(&key(1)));
    assert_eq!((trust.number(), trust.is_pinned()), (2, true));
    let third = second.next(&[add("cyd", 3)]).unwrap();
    let trust = accepted(&trust, &third.sign(&key(2)));
    assert_eq!((trust.number(), trust.is_pinned()), (3, true));

    refused(&fresh, &first().sign(&key(1)), "the enrolment token pins");
    refused(&fresh, &third.sign(&key(2)), "the enrolment token pins");
    let lying = TrustPin { number: 7, ..site.pin().unwrap() };
    refused(&Trust::pinned(lying), &second.sign(&key(1)), "pins number 7");
}

#[test]
fn the_document_that_is_held_changes_nothing() {
    let trust = holds_first();
    assert_eq!(trust.accept(&first().sign(&key(1))).unwrap(), Accepted::Same);
    let bare = SignedTrust { signatures: vec![], ..first().sign(&key(1)) };
    assert_eq!(trust.accept(&bare).unwrap(), Accepted::Same);
}

#[test]
fn a_site_cannot_invent_a_document() {
    let trust = holds_first();
    let invented = first().next(&[add("site", 66)]).unwrap();
    refused(&trust, &invented.sign(&key(66)), "none of its signers");
    let bare = SignedTrust { signatures: vec![], ..invented.sign(&key(66)) };
    refused(&trust, &bare, "nobody signed it");
    let other_start = TrustDocument::first(publisher("site", 66)).unwrap();
    refused(&trust, &other_start.sign(&key(66)), "none of its signers");
}

#[test]
fn every_flipped_byte_of_a_document_is_refused() {
    let trust = holds_first();
    let good = first().next(&[add("bob", 2)]).unwrap().sign(&key(1));
    for at in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload[at] ^= 1;
        refused(&trust, &bad, "altered after publisher \"ada\"");
    }
    assert!(trust.accept(&good).is_ok());
}

#[test]
fn numbers_only_rise_by_one() {
    let (trust, second) = holds(&[add("bob", 2)]);
    refused(&trust, &first().sign(&key(1)), "number 2 is held, so only 3");
    let fourth = second.next(&[add("cyd", 3)]).unwrap().next(&[add("dan", 4)]).unwrap();
    refused(&trust, &fourth.sign(&key(1)), "document 4: number 2 is held, so only 3");
}

#[test]
fn a_second_history_under_the_same_keys_is_refused() {
    let (trust, _) = holds(&[add("bob", 2)]);
    let other = first().next(&[add("eve", 5)]).unwrap();
    refused(&trust, &other.sign(&key(1)), "number 2 is held, so only 3");
    let after_other = other.next(&[add("fay", 6)]).unwrap();
    refused(&trust, &after_other.sign(&key(1)), "follows another document");
}

#[test]
fn the_keys_of_the_document_before_sign_not_those_of_the_new_one() {
    let (trust, second) = holds(&[TrustChange::Rotate(publisher("ada", 2))]);
    let third = second.next(&[add("bob", 3)]).unwrap();
    refused(&trust, &third.sign(&key(1)), "none of its signers");
    refused(&trust, &third.sign(&key(3)), "none of its signers");
    assert_eq!(accepted(&trust, &third.sign(&key(2))).number(), 3);
}

#[test]
fn a_threshold_of_two_needs_two_people() {
    let (trust, second) = holds(&[add("bob", 2), TrustChange::Threshold(2)]);
    let third = second.next(&[add("cyd", 3)]).unwrap();
    let mut signed = third.sign(&key(1));
    refused(&trust, &signed, "1 of 2 publishers");
    signed.add(&key(66));
    refused(&trust, &signed, "1 of 2 publishers");
    signed.add(&key(2));
    assert_eq!(accepted(&trust, &signed).number(), 3);
}

// CVE-2020-15093 (tough), CVE-2020-6174 (python-tuf): one key signing twice counted as two.
#[test]
fn one_key_signing_twice_counts_once() {
    let (trust, second) = holds(&[add("bob", 2), TrustChange::Threshold(2)]);
    let mut signed = second.next(&[add("cyd", 3)]).unwrap().sign(&key(1));
    signed.signatures.push(signed.signatures[0]);
    refused(&trust, &signed, "1 of 2 publishers");
}

// A threshold met by the number of signatures listed instead of those that fit.
#[test]
fn a_signature_that_does_not_fit_is_never_counted() {
    let (trust, second) = holds(&[add("bob", 2), TrustChange::Threshold(2)]);
    let mut signed = second.next(&[add("cyd", 3)]).unwrap().sign(&key(1));
    let signature = signed.signatures[0].signature;
    signed.signatures.push(KeySignature { key: key(2).public(), signature });
    refused(&trust, &signed, "altered after publisher \"bob\"");
}

// CVE-2022-29173 (go-tuf), CVE-2020-15163 (python-tuf): an old document taken again, or a later one
// without the steps between.
#[test]
fn a_chain_is_taken_step_by_step_or_not_at_all() {
    let mut chain = vec![first().sign(&key(1))];
    let mut document = first();
    for n in 2..=6u8 {
        document = document.next(&[TrustChange::Rotate(publisher("ada", n))]).unwrap();
        chain.push(document.sign(&key(n - 1)));
    }
    let Accepted::Newer(trust) = Trust::unpinned().catch_up(&chain).unwrap() else {
        panic!("nothing new")
    };
    assert_eq!(trust.number(), 6);
    assert_eq!(trust.catch_up(&[]).unwrap(), Accepted::Same);
    assert_eq!(trust.catch_up(&chain[5..]).unwrap(), Accepted::Same);
    assert!(trust.catch_up(&chain[4..]).is_err());
    chain.remove(3);
    assert!(Trust::unpinned().catch_up(&chain).is_err());
}

#[test]
fn a_catch_up_is_bounded() {
    let chain = vec![first().sign(&key(1)); CATCH_UP_STEPS_MAX + 1];
    let error = holds_first().catch_up(&chain).unwrap_err().to_string();
    assert!(error.contains("the most at once is 1024"), "{error}");
    assert_eq!(holds_first().catch_up(&chain[1..]).unwrap(), Accepted::Same);
}

#[test]
fn signatures_are_bounded() {
    let mut signed = first().next(&[add("bob", 2)]).unwrap().sign(&key(1));
    signed.signatures = vec![signed.signatures[0]; SIGNATURES_MAX + 1];
    refused(&holds_first(), &signed, "the most is 16");
    let mut signed = signed_by(1);
    signed.signatures = vec![signed.signatures[0]; SIGNATURES_MAX + 1];
    manifest_refused(&holds_first(), &signed, "the most is 16");
}

#[test]
fn trust_survives_being_saved_and_notices_being_altered() {
    let (held, _) = holds(&[add("bob", 2)]);
    for trust in [Trust::unpinned(), Trust::pinned(held.pin().unwrap()), held] {
        let text = serde_json::to_string(&trust).unwrap();
        assert_eq!(serde_json::from_str::<Trust>(&text).unwrap(), trust);
    }
    let text = serde_json::to_string(&holds_first()).unwrap();
    let altered = text.replace(&first().digest().to_string(), &Digest::ZERO.to_string());
    let error = serde_json::from_str::<Trust>(&altered).unwrap_err().to_string();
    assert!(error.contains("its digest is"), "{error}");
}

#[test]
fn a_publishers_manifest_is_believed() {
    let (trust, _) = holds(&[add("bob", 2)]);
    for (seed, name) in [(1, "ada"), (2, "bob")] {
        let verified = trust.verify_manifest(&signed_by(seed)).unwrap();
        assert_eq!(verified.publisher().name.as_str(), name);
        assert_eq!(verified.manifest(), &manifest());
        assert_eq!(verified.digest(), signed_by(seed).digest());
    }
}

#[test]
fn a_strangers_manifest_is_refused() {
    manifest_refused(&holds_first(), &signed_by(2), "no publisher of trust document 1");
    let bare = SignedManifest { signatures: vec![], ..signed_by(1) };
    manifest_refused(&holds_first(), &bare, "nobody signed it");
    manifest_refused(&Trust::unpinned(), &signed_by(1), "no trust document is held");
    let pin = holds_first().pin().unwrap();
    manifest_refused(&Trust::pinned(pin), &signed_by(1), "no trust document is held");
}

#[test]
fn a_revoked_publishers_manifest_is_refused_from_then_on() {
    let (trust, second) = holds(&[add("bob", 2)]);
    assert!(trust.verify_manifest(&signed_by(2)).is_ok());
    let third = second.next(&[TrustChange::Revoke(Name::new("bob").unwrap())]).unwrap();
    let trust = accepted(&trust, &third.sign(&key(1)));
    manifest_refused(&trust, &signed_by(2), "no publisher of trust document 3");
}

// CVE-2025-67903 (Mender): a part of the package that no signature or checksum covered.
#[test]
fn every_flipped_byte_of_a_manifest_is_refused_unparsed() {
    let trust = holds_first();
    let good = signed_by(1);
    for at in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload[at] ^= 0x20;
        manifest_refused(&trust, &bad, "altered after publisher \"ada\"");
    }
    for length in 0..good.payload.len() {
        let payload = good.payload[..length].to_vec();
        manifest_refused(&trust, &SignedManifest { payload, ..good.clone() }, "altered");
    }
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let trust = holds_first();
    let payload = manifest().encode().unwrap();
    let as_trust = key(1).sign(Domain::Trust, &payload);
    for signature in [as_trust, Signature([0; 64])] {
        let signatures = vec![KeySignature { key: key(1).public(), signature }];
        let signed = SignedManifest { payload: payload.clone(), signatures };
        manifest_refused(&trust, &signed, "altered");
    }
}

// Mix and match: a package that is validly signed, but not the one the advertisement pins.
#[test]
fn a_manifest_that_was_not_asked_for_is_refused() {
    let trust = holds_first();
    let error = trust.verify_named_manifest(Digest::ZERO, &signed_by(1)).unwrap_err();
    assert!(error.to_string().contains("instead of 000000"), "{error}");
    assert!(trust.verify_named_manifest(signed_by(1).digest(), &signed_by(1)).is_ok());
}

#[test]
fn a_signed_thing_that_is_no_manifest_is_refused() {
    let signed = SignedManifest::sign(b"{}".to_vec(), &key(1));
    manifest_refused(&holds_first(), &signed, "verify the manifest");
}
