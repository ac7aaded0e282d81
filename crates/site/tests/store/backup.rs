//! A backup holds every row and every object, and a restore gives them back with a new epoch.

use muster_host::objects::{DirStore, ObjectStore};
use muster_host::publish::create_private_dir;
use muster_model::digest::Digest;
use muster_model::id::EpochId;
use muster_site::backup::{self, BackupError, Restore};
use muster_site::folder::{CONFIG_FORMAT, Folder, SiteConfig};
use muster_site::store::{Db, Location, SiteRow};
use muster_site::testing::{TestDb, on_both, postgres_database};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{NOW, site};

/// A whole site folder around the test's database, with one object of content.
async fn furnish(test: &TestDb) -> Folder {
    site(&test.db, 1..=3).await;
    let mut tx = test.db.begin().await.unwrap();
    let row = SiteRow {
        code: "ABC".into(),
        epoch: EpochId(Uuid::from_u128(1)),
        url: "https://127.0.0.1:1".into(),
        created_at: NOW,
        settings: Default::default(),
        settings_version: 1,
        trust_number: 0,
        halted: None,
        halt_version: 0,
    };
    tx.site_insert(&row).await.unwrap();
    tx.commit().await.unwrap();
    let folder = Folder::at(test.folder.path());
    create_private_dir(&folder.keys_dir()).unwrap();
    folder.make_keys("ABC", [5; 32], NOW).unwrap();
    let database = match &test.location {
        Location::Sqlite(_) => None,
        Location::Postgres(url) => Some(url.clone()),
    };
    let config = SiteConfig {
        format: CONFIG_FORMAT,
        code: "ABC".into(),
        listen: "127.0.0.1:1".parse().unwrap(),
        metrics_listen: "127.0.0.1:2".parse().unwrap(),
        url: "https://127.0.0.1:1".into(),
        database,
        content: None,
        quota: None,
    };
    folder.save_config(&config).unwrap();
    let content = DirStore::open(&folder.content(&config), None).unwrap();
    content.put(Digest::of(b"hello"), "hello".into()).await.unwrap();
    folder
}

/// Every row of every table, as sorted lines.
async fn lines(db: &Db) -> Vec<String> {
    let mut read = db.read().await.unwrap();
    let mut lines = Vec::new();
    for table in read.tables().await.unwrap() {
        read.dump(&table, |mut row| {
            if table.name == "site" {
                row.insert("epoch".into(), Value::Null);
            }
            lines.push(format!("{} {}", table.name, Value::Object(row)));
            true
        })
        .await
        .unwrap();
    }
    lines.sort();
    lines
}

#[tokio::test]
async fn a_restored_site_has_every_row_and_object_and_a_new_epoch() {
    on_both(async |test| {
        let folder = furnish(&test).await;
        let file = test.folder.path().join("backup.tar.zst");
        let wrote = backup::write(folder.path(), &file, Some("correct horse"), NOW).await.unwrap();
        assert!(wrote.rows > 10 && wrote.keys_sealed, "{wrote:?}");
        let again = backup::write(folder.path(), &file, None, NOW).await;
        assert!(matches!(again, Err(BackupError::Exists(_))));

        let data = test.folder.path().join("restored");
        let database = match &test.location {
            Location::Sqlite(_) => None,
            Location::Postgres(_) => Some(postgres_database().await),
        };
        let ask = Restore {
            data: &data,
            file: &file,
            passphrase: Some("correct horse"),
            database,
            epoch: EpochId(Uuid::from_u128(2)),
        };
        let read = backup::restore(ask.clone()).await.unwrap();
        assert_eq!((read.rows, read.objects), (wrote.rows, 1));
        let restored = Folder::at(&data);
        let config = restored.config().unwrap();
        assert_eq!(config.listen, folder.config().unwrap().listen);
        assert_eq!(restored.keys().unwrap().ca.pin(), folder.keys().unwrap().ca.pin());
        let db = Db::open(restored.database(&config)).await.unwrap();
        assert_eq!(lines(&db).await, lines(&test.db).await);
        let found = db.read().await.unwrap().site_load().await.unwrap().unwrap();
        assert_eq!(found.epoch, EpochId(Uuid::from_u128(2)));

        let twice = backup::restore(ask).await;
        assert!(matches!(twice, Err(BackupError::Folder(_))), "the folder is not empty");
    })
    .await;
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_no_site() {
    let test = TestDb::sqlite().await;
    let folder = furnish(&test).await;
    let file = test.folder.path().join("backup.tar.zst");
    backup::write(folder.path(), &file, None, NOW).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    for (n, cut) in [1, whole.len() / 3, whole.len() - 5].into_iter().enumerate() {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let data = test.folder.path().join(format!("restored-{n}"));
        let epoch = EpochId(Uuid::from_u128(2));
        let ask = Restore { data: &data, file: &file, passphrase: None, database: None, epoch };
        assert!(backup::restore(ask).await.is_err(), "cut at {cut}");
        assert!(Folder::at(&data).config().is_err(), "cut at {cut} left a site");
    }
}
