//! What administrators define: written, read back, unique, and never in two versions.

use std::collections::BTreeSet;

use muster_model::clock::Wall;
use muster_model::digest::Digest;
use muster_model::object::Kind;
use muster_model::policy::{KeySignature, Order};
use muster_model::settings::Settings;
use muster_model::sign::{PublicKey, Signature};
use muster_site::store::{
    AdvertisementRevisionRow, BindingRow, ContactRow, ContentRow, DeviceRow, PackageObject,
    PackageVersionRow, SiteMessage, StoreError,
};
use muster_site::testing::{TestDb, on_both};
use muster_site_core::device::Admission;
use muster_site_core::occurrence::Revision;
use uuid::Uuid;

use crate::support::*;

fn order(by: &str) -> Order {
    Order { by: by.into(), reason: "because".into(), kill: false }
}

#[tokio::test]
async fn an_object_reads_back_as_it_was_written() {
    on_both(async |test: TestDb| {
        let mut row = object(Kind::Collection, Uuid::from_u128(1), "lab – süd");
        row.set_name = Some("set".into());
        let mut tx = test.db.begin().await.unwrap();
        tx.object_insert(&row).await.unwrap();
        assert_eq!(tx.object_load(row.id).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.object_find(Kind::Collection, &row.name).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.object_find(Kind::Package, &row.name).await.unwrap(), None);
        assert_eq!(tx.object_list_set("set").await.unwrap(), [row.clone()]);
        row.name = name("lab");
        row.changed = Revision(7);
        row.document = "{}".into();
        tx.object_update(&row).await.unwrap();
        assert_eq!(tx.object_load(row.id).await.unwrap(), Some(row));
    })
    .await;
}

#[tokio::test]
async fn a_name_or_its_look_alike_is_taken_until_its_object_is_archived() {
    on_both(async |test: TestDb| {
        let mut first = object(Kind::Collection, Uuid::from_u128(1), "paypal");
        let mut tx = test.db.begin().await.unwrap();
        tx.object_insert(&first).await.unwrap();
        tx.commit().await.unwrap();
        let second = |called| object(Kind::Collection, Uuid::from_u128(2), called);
        for called in ["paypal", "p\u{430}ypal"] {
            let mut tx = test.db.begin().await.unwrap();
            let error = tx.object_insert(&second(called)).await.unwrap_err();
            assert!(error.is_taken(), "{error}");
            drop(tx);
            let mut reader = test.db.read().await.unwrap();
            let there = reader.object_find_look(Kind::Collection, &name(called)).await.unwrap();
            assert_eq!(there.as_ref(), Some(&first));
        }
        let mut tx = test.db.begin().await.unwrap();
        tx.object_insert(&object(Kind::Package, Uuid::from_u128(3), "paypal")).await.unwrap();
        first.archived_at = Some(NOW);
        tx.object_update(&first).await.unwrap();
        tx.object_insert(&second("paypal")).await.unwrap();
        assert_eq!(tx.object_load(first.id).await.unwrap(), Some(first));
    })
    .await;
}

#[tokio::test]
async fn objects_are_listed_by_name_byte_for_byte() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        for (n, called) in ["b", "B", "a", "é", "Z"].into_iter().enumerate() {
            let row = object(Kind::Collection, Uuid::from_u128(n as u128 + 1), called);
            tx.object_insert(&row).await.unwrap();
        }
        let names = async |tx: &mut muster_site::store::Tx, after: Option<&str>, limit| {
            let after = after.map(name);
            let rows = tx.object_list(Kind::Collection, after.as_ref(), limit).await.unwrap();
            rows.into_iter().map(|row| row.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut tx, None, 3).await, ["B", "Z", "a"]);
        assert_eq!(names(&mut tx, Some("a"), 3).await, ["b", "é"]);
    })
    .await;
}

#[tokio::test]
async fn a_package_version_is_published_once_and_can_be_revoked() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        let package = package_id();
        tx.object_insert(&object(Kind::Package, package.0, "hello")).await.unwrap();
        let signature = KeySignature { key: PublicKey([3; 32]), signature: Signature([4; 64]) };
        let row = PackageVersionRow {
            package,
            version: "2.10".into(),
            manifest: Digest::of(b"m"),
            spec: r#"{"version":"2.10"}"#.into(),
            signatures: vec![signature],
            content_bytes: 5,
            published: Revision(3),
            published_at: NOW,
            published_by: "ann".into(),
            revoked: None,
        };
        let objects =
            [1_u8, 2].map(|n| PackageObject { digest: Digest::of(&[n]), bytes: n.into() });
        tx.package_version_insert(&row, &objects).await.unwrap();
        assert_eq!(tx.package_object_list(package, "2.10").await.unwrap(), objects);
        assert_eq!(tx.package_version_find(row.manifest).await.unwrap(), Some(row.clone()));
        let revoked = PackageVersionRow { revoked: Some(order("bob")), ..row.clone() };
        let done = tx.package_version_revoke(package, "2.10", revoked.revoked.as_ref()).await;
        assert!(done.unwrap());
        assert!(!tx.package_version_revoke(package, "9", None).await.unwrap());
        assert_eq!(tx.package_version_load(package, "2.10").await.unwrap(), Some(revoked.clone()));
        let newer = PackageVersionRow {
            version: "2.9".into(),
            published: Revision(4),
            manifest: Digest::of(b"n"),
            ..row.clone()
        };
        tx.package_version_insert(&newer, &[]).await.unwrap();
        assert_eq!(tx.package_version_list(package).await.unwrap(), [newer, revoked]);
        let error = tx.package_version_insert(&row, &[]).await.unwrap_err();
        assert!(error.is_taken(), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_advertisement_keeps_what_each_of_its_revisions_said() {
    on_both(async |test: TestDb| {
        site(&test.db, []).await;
        advertise(&test.db, 1, "first#1").await;
        let mut tx = test.db.begin().await.unwrap();
        let mut row = advertisement_row(1);
        assert_eq!(tx.advertisement_load(row.id).await.unwrap(), Some(row.clone()));
        row.revision = 2;
        row.expires = Some(Wall(9));
        row.stopped = Some(order("ann"));
        tx.advertisement_update(&row).await.unwrap();
        let said = |revision: u32| AdvertisementRevisionRow {
            advertisement: row.id,
            revision,
            document: format!("{{\"n\":{revision}}}"),
            version: "1".into(),
            manifest: row.manifest,
            at: NOW,
            principal: "ann".into(),
        };
        for revision in [2, 1] {
            tx.advertisement_revision_insert(&said(revision)).await.unwrap();
        }
        let list = tx.advertisement_revision_list(row.id).await.unwrap();
        assert_eq!(list, [said(1), said(2)]);
        let live = [row.clone()];
        assert_eq!(tx.advertisement_list_live().await.unwrap(), live);
        assert_eq!(tx.advertisement_list_package(row.package).await.unwrap(), live);
        assert_eq!(tx.advertisement_list_collection(row.collection).await.unwrap(), live);
        row.deleted_at = Some(NOW);
        tx.advertisement_update(&row).await.unwrap();
        assert_eq!(tx.advertisement_list_live().await.unwrap(), []);
        assert_eq!(tx.advertisement_load(row.id).await.unwrap(), Some(row));
    })
    .await;
}

#[tokio::test]
async fn what_is_offered_moves_the_policy_version_and_who_joins_does_not() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        let offered = advertise(&test.db, 1, "first#1").await;
        let mut tx = test.db.begin().await.unwrap();
        tx.membership_change(collection_id(1), &devices([2]), &BTreeSet::new(), NOW).await.unwrap();
        tx.collection_evaluated(collection_id(1), Wall(4), Some("cycle")).await.unwrap();
        let joined = tx.revision_take().await.unwrap();
        let rows = tx.collection_list().await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].policy_version, rows[0].membership_version), (offered.0, joined));
        assert_eq!(
            (rows[0].evaluated_at, rows[0].error.as_deref()),
            (Some(Wall(4)), Some("cycle"))
        );
    })
    .await;
}

#[tokio::test]
async fn member_names_are_bound_and_an_unresolved_one_is_bound_by_its_token() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=2).await;
        let names = [(name("d1"), Some(device_id(1))), (name("later"), None)];
        let mut tx = test.db.begin().await.unwrap();
        tx.binding_replace(collection_id(1), &[(name("old"), None)]).await.unwrap();
        tx.binding_replace(collection_id(1), &names).await.unwrap();
        let row = |called: &str, device| BindingRow {
            collection: collection_id(1),
            name: name(called),
            device,
        };
        let bound = [row("d1", Some(device_id(1))), row("later", None)];
        assert_eq!(tx.binding_list(collection_id(1)).await.unwrap(), bound);
        let resolved = tx.binding_resolve(&name("later"), device_id(2)).await.unwrap();
        assert_eq!(resolved, [collection_id(1)]);
        assert_eq!(tx.binding_resolve(&name("d1"), device_id(2)).await.unwrap(), []);
        let all = tx.binding_list_all().await.unwrap();
        assert_eq!(all, [row("d1", Some(device_id(1))), row("later", Some(device_id(2)))]);
    })
    .await;
}

#[tokio::test]
async fn a_device_reads_back_as_it_was_written() {
    on_both(async |test: TestDb| {
        let mut row = device_row(1);
        row.machine = Some(Digest::of(b"machine"));
        let mut tx = test.db.begin().await.unwrap();
        tx.device_insert(&row).await.unwrap();
        assert_eq!(tx.device_find_key(&row.key).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.device_find_machine(Digest::of(b"machine")).await.unwrap(), [row.clone()]);
        row.device.admission = Admission::Held { order: order("fork") };
        row.settings = {
            let mut settings = Settings::default();
            settings.set("pollWait", muster_model::period::Period::secs(1)).unwrap();
            settings
        };
        row.generation = 3;
        assert!(tx.device_lock(device_id(1)).await.unwrap().is_some());
        tx.device_update(&row).await.unwrap();
        assert_eq!(tx.device_load(device_id(1)).await.unwrap(), Some(row.clone()));
        assert_eq!(tx.device_counts().await.unwrap(), [("held".to_owned(), 1)]);
        let twin = DeviceRow { key: row.key, ..device_row(2) };
        let error = tx.device_insert(&twin).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Taken { what, .. } if what.contains("key")),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn devices_may_share_a_name_and_come_in_pages() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        for n in 1..=3 {
            let mut row = device_row(n);
            row.device.name = name("twin");
            row.retired_at = (n == 1).then_some(NOW);
            tx.device_insert(&row).await.unwrap();
        }
        let named = tx.device_find_name(&name("twin")).await.unwrap();
        let ids: Vec<_> = named.iter().map(|row| row.device.id).collect();
        assert_eq!(ids, [device_id(2), device_id(3), device_id(1)]);
        let page = tx.device_list(Some(device_id(1)), 1).await.unwrap();
        assert_eq!(page[0].device.id, device_id(2));
        let some = tx.device_load_many(&[device_id(3), device_id(9)]).await.unwrap();
        assert_eq!(some.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn contacts_never_go_back() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=2).await;
        let contact = |at, revision, tag: &[u8]| ContactRow {
            device: device_id(1),
            at: Wall(at),
            revision: Revision(revision),
            tag: Some(Digest::of(tag)),
        };
        let mut tx = test.db.begin().await.unwrap();
        tx.contact_note_many(&[contact(5, 5, b"five")]).await.unwrap();
        tx.contact_note_many(&[contact(9, 3, b"three")]).await.unwrap();
        tx.contact_note_many(&[contact(7, 5, b"five again")]).await.unwrap();
        let known = tx.contact_load_many(&[device_id(1), device_id(2)]).await.unwrap();
        assert_eq!(known, [contact(9, 5, b"five again")]);
        let known = async |tx: &mut muster_site::store::Tx, revision| {
            tx.contact_known(collection_id(1), Revision(revision)).await.unwrap()
        };
        assert_eq!((known(&mut tx, 5).await, known(&mut tx, 6).await), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn content_that_no_package_needs_is_listed_for_removal() {
    on_both(async |test: TestDb| {
        let row = |n: u8| ContentRow { digest: Digest::of(&[n]), bytes: n.into(), stored_at: NOW };
        let mut tx = test.db.begin().await.unwrap();
        tx.content_insert_many(&[row(1), row(2), row(3)]).await.unwrap();
        tx.content_insert_many(&[row(1)]).await.unwrap();
        assert_eq!(tx.content_bytes().await.unwrap(), 6);
        tx.object_insert(&object(Kind::Package, package_id().0, "hello")).await.unwrap();
        let version = PackageVersionRow {
            package: package_id(),
            version: "1".into(),
            manifest: Digest::of(&[2]),
            spec: "{}".into(),
            signatures: vec![],
            content_bytes: 1,
            published: Revision(1),
            published_at: NOW,
            published_by: "p".into(),
            revoked: None,
        };
        let needed = [PackageObject { digest: Digest::of(&[1]), bytes: 1 }];
        tx.package_version_insert(&version, &needed).await.unwrap();
        assert_eq!(tx.content_unused_list(NOW).await.unwrap(), [], "not old enough");
        assert_eq!(tx.content_unused_list(Wall(NOW.0 + 1)).await.unwrap(), [row(3)]);
        tx.content_delete_many(&[row(3).digest]).await.unwrap();
        let left = tx.content_load_many(&[row(1).digest, row(3).digest]).await.unwrap();
        assert_eq!(left, [row(1)]);
    })
    .await;
}

#[tokio::test]
async fn messages_of_the_site_are_written_with_its_revisions() {
    on_both(async |test: TestDb| {
        let message = |text: &str, device| SiteMessage {
            at: NOW,
            code: 30_000,
            severity: muster_model::message::Severity::Warning,
            component: "site".into(),
            principal: "ann".into(),
            advertisement: None,
            device,
            text: text.into(),
        };
        let mut revisions = Vec::new();
        for text in ["one", "two"] {
            let mut tx = test.db.begin().await.unwrap();
            let both = [message(text, None), message("of d1", Some(device_id(1)))];
            revisions.push(tx.site_message_insert(&both).await.unwrap());
            tx.commit().await.unwrap();
        }
        let mut reader = test.db.read().await.unwrap();
        let texts = |rows: Vec<muster_site::store::SiteMessageRow>| -> Vec<String> {
            rows.into_iter().map(|row| row.message.text).collect()
        };
        let newest = reader.site_message_list(None, None, None, 2).await.unwrap();
        let before = newest.last().map(|row| (row.revision, row.item));
        assert_eq!(texts(newest), ["of d1", "two"]);
        let older = reader.site_message_list(None, None, before, 9).await.unwrap();
        assert_eq!(older[1].message, message("one", None));
        assert_eq!(texts(older), ["of d1", "one"]);
        let of = reader.site_message_list(Some(device_id(1)), None, None, 9).await.unwrap();
        assert_eq!(of.len(), 2);
        let after = reader.site_message_after(revisions[0], 9).await.unwrap();
        assert_eq!(texts(after), ["two", "of d1"]);
    })
    .await;
}
