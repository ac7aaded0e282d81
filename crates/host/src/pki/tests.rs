//! Certificates: what each says, and for what it does not pass.

use muster_model::sign::PrivateKey;
use uuid::Uuid;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Wall = Wall(1_800_000_000_000);

fn ca() -> Ca {
    Ca::create("ABC", NOW).unwrap()
}

fn device_key() -> PrivateKey {
    PrivateKey::from_seed([7; 32])
}

fn years(count: u32) -> Duration {
    365 * DAY * count
}

#[test]
fn a_ca_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca();
    ca.save(dir.path()).unwrap();
    let again = Ca::load(dir.path()).unwrap();
    assert_eq!((again.pin(), again.certificate()), (ca.pin(), ca.certificate()));
    let signing = again.issue_signing("ABC", &device_key().public(), NOW).unwrap();
    verify_signing_certificate(ca.certificate(), &signing.certificate, NOW).unwrap();
}

#[test]
fn a_key_beside_another_cas_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    ca().save(dir.path()).unwrap();
    crate::publish::durable_publish(&dir.path().join("ca.crt"), ca().certificate()).unwrap();
    assert!(matches!(Ca::load(dir.path()), Err(PkiError::Certificate(_))));
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let request = certificate_request(&device_key()).unwrap();
    assert_eq!(requested_key(&request).unwrap(), device_key().public());
}

#[test]
fn a_request_not_signed_by_its_key_is_refused() {
    let mut request = certificate_request(&device_key()).unwrap();
    let at = request.windows(32).position(|w| w == device_key().public().0).unwrap();
    request[at..at + 32].copy_from_slice(&PrivateKey::from_seed([8; 32]).public().0);
    for bad in [&request[..], &request[..40], &[], &[0x30; REQUEST_BYTES_MAX + 1]] {
        assert!(matches!(requested_key(bad), Err(PkiError::Request(_))));
    }
}

#[test]
fn a_request_with_another_kind_of_key_is_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let refused = requested_key(request.der()).unwrap_err();
    assert_eq!(refused.to_string(), "failed to take a certificate request: its key is not Ed25519");
}

#[test]
fn a_client_certificate_says_who_its_holder_is() {
    let id = Uuid::from_u128(42);
    for kind in [PeerKind::Device, PeerKind::AccessPoint, PeerKind::SiteProcess] {
        let issued = ca().issue_client(kind, id, &device_key().public(), NOW).unwrap();
        let peer = peer_identity(&issued.certificate).unwrap();
        assert_eq!(
            peer,
            Peer {
                kind,
                id,
                key: device_key().public(),
                serial: issued.serial,
                not_before: Wall(NOW.0 - 3_600_000),
                not_after: NOW.plus(CLIENT_LIFETIME),
            }
        );
        assert_eq!(peer.validity(NOW), Validity::Current);
        assert_eq!(peer.validity(NOW.plus(31 * DAY)), Validity::Expired);
        assert_eq!(peer.validity(Wall(0)), Validity::NotYet);
        let renew_in = peer.renew_at().since(NOW);
        assert!((19 * DAY..20 * DAY).contains(&renew_in), "{renew_in:?}");
    }
}

#[test]
fn serial_numbers_differ_and_have_sixteen_bytes() {
    let serials: std::collections::BTreeSet<_> = (0..64).map(|_| Serial::draw().unwrap()).collect();
    assert_eq!(serials.len(), 64);
    assert!(serials.iter().all(|serial| (0x40..0x80).contains(&serial.0[0])));
}

#[test]
fn the_signing_key_is_known_through_the_ca_alone() {
    let ca = ca();
    let key = device_key().public();
    let signing = ca.issue_signing("ABC", &key, NOW).unwrap().certificate;
    let verified = verify_signing_certificate(ca.certificate(), &signing, NOW);
    assert_eq!(verified.unwrap(), key);
}

#[test]
fn a_device_that_slept_takes_a_signing_certificate_from_its_future() {
    let ca = ca();
    let signing = ca.issue_signing("ABC", &device_key().public(), NOW).unwrap().certificate;
    verify_signing_certificate(ca.certificate(), &signing, Wall(0)).unwrap();
}

#[test]
fn an_expired_signing_certificate_is_refused() {
    let ca = ca();
    let signing = ca.issue_signing("ABC", &device_key().public(), NOW).unwrap().certificate;
    let refused = verify_signing_certificate(ca.certificate(), &signing, NOW.plus(years(3)));
    assert!(matches!(refused, Err(PkiError::Verify { .. })));
}

#[test]
fn no_other_certificate_passes_for_a_signing_one() {
    let (ca, stranger, key) = (ca(), ca(), device_key().public());
    let id = Uuid::from_u128(42);
    let names = ["localhost".to_owned()];
    for other in [
        stranger.issue_signing("ABC", &key, NOW).unwrap().certificate,
        ca.issue_client(PeerKind::Device, id, &key, NOW).unwrap().certificate,
        ca.issue_client(PeerKind::SiteProcess, id, &key, NOW).unwrap().certificate,
        ca.issue_access_point(id, &names, &key, NOW).unwrap().certificate,
        ca.issue_server(&names, NOW).unwrap().chain[0].clone(),
        ca.certificate().clone(),
    ] {
        assert!(verify_signing_certificate(ca.certificate(), &other, NOW).is_err());
    }
}

#[test]
fn a_signing_certificate_changed_anywhere_is_refused() {
    let ca = ca();
    let signing = ca.issue_signing("ABC", &device_key().public(), NOW).unwrap().certificate;
    for at in 0..signing.len() {
        let mut bytes = signing.to_vec();
        bytes[at] ^= 1;
        let changed = verify_signing_certificate(ca.certificate(), &bytes.into(), NOW);
        assert!(changed.is_err(), "byte {at}");
    }
}

#[test]
fn the_pin_belongs_to_one_ca() {
    let (ca, stranger) = (ca(), ca());
    check_pin(ca.certificate(), ca.pin()).unwrap();
    assert!(matches!(check_pin(stranger.certificate(), ca.pin()), Err(PkiError::Pin { .. })));
    assert!(matches!(spki_pin(&vec![1, 2, 3].into()), Err(PkiError::Certificate(_))));
}

#[test]
fn a_server_is_known_by_its_url_and_on_its_own_machine() {
    let names = server_names("[2001:db8::1]");
    assert_eq!(names[0], "2001:db8::1");
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    let refused = ca().issue_server(&["no name".to_owned()], NOW).unwrap_err();
    assert!(matches!(refused, PkiError::Name { .. }));
}

#[test]
fn a_clock_out_of_range_is_an_error() {
    assert!(matches!(Ca::create("ABC", Wall(i64::MAX)), Err(PkiError::Date(_))));
    assert!(matches!(Ca::create("ABC", Wall(0)), Err(PkiError::Date(_))));
}
