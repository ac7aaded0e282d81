//! Opening, migrating, refusing, filling up.

use muster_model::id::EpochId;
use muster_site::store::{Db, Location, Options, SiteRow, StoreError, Subject};
use muster_site::testing::{TestDb, on_both, postgres_database};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::*;

fn site_row() -> SiteRow {
    SiteRow {
        code: "ABC".into(),
        epoch: EpochId(uuid::Uuid::from_u128(1)),
        url: "https://site".into(),
        created_at: NOW,
        settings: Default::default(),
        settings_version: 0,
        trust_number: 0,
        halted: None,
        halt_version: 0,
    }
}

/// Runs a statement beside the store: a person with a database client.
async fn beside(test: &TestDb, statement: &str) {
    let statement = AssertSqlSafe(statement.to_owned());
    match &test.location {
        Location::Sqlite(path) => {
            let url = format!("sqlite:{}", path.display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            connection.execute(statement).await.unwrap();
        }
        Location::Postgres(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            connection.execute(statement).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_committed_is_there_when_it_opens_again_and_nothing_else() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        tx.site_insert(&site_row()).await.unwrap();
        tx.commit().await.unwrap();
        let mut dropped = test.db.begin().await.unwrap();
        let other = SiteRow { code: "XYZ".into(), ..site_row() };
        dropped.site_update(&other).await.unwrap();
        drop(dropped);
        test.db.close().await;
        let db = test.reopen().await;
        assert_eq!(db.read().await.unwrap().site_load().await.unwrap(), Some(site_row()));
    })
    .await;
}

#[tokio::test]
async fn a_second_site_in_one_database_is_refused_by_name() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        tx.site_insert(&site_row()).await.unwrap();
        let error = tx.site_insert(&site_row()).await.unwrap_err();
        assert!(matches!(error, StoreError::Taken { operation: "site_insert", .. }), "{error}");
        assert!(error.to_string().contains("site_insert"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_reader_sees_one_instant() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        tx.site_insert(&site_row()).await.unwrap();
        tx.commit().await.unwrap();
        let mut reader = test.db.read().await.unwrap();
        let before = reader.revision_newest().await.unwrap();
        let mut tx = test.db.begin().await.unwrap();
        tx.change_insert(&[Subject::Site]).await.unwrap();
        tx.site_update(&SiteRow { code: "XYZ".into(), ..site_row() }).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(reader.site_load().await.unwrap().unwrap().code, "ABC");
        assert_eq!(reader.revision_newest().await.unwrap(), before);
        let mut later = test.db.read().await.unwrap();
        assert_eq!(later.site_load().await.unwrap().unwrap().code, "XYZ");
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_asks_for_a_newer_program_is_refused_and_one_that_does_not_opens() {
    on_both(async |test: TestDb| {
        beside(&test, "UPDATE schema SET number = 99").await;
        test.reopen().await;
        beside(&test, "UPDATE schema SET oldest_writer = 98").await;
        let error = Db::open(Options::from(test.location.clone())).await.unwrap_err();
        assert!(matches!(error, StoreError::SchemaTooNew { found: 99, least: 98, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_acknowledges_before_it_writes_is_refused_by_the_name_of_its_setting() {
    let url = postgres_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    let statement = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    let error = Db::open(Location::Postgres(url)).await.unwrap_err();
    assert!(error.to_string().contains("synchronous_commit = off"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_is_committed_stays() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=2).await;
        let db = match &test.location {
            Location::Sqlite(_) => {
                // As little as the file has: nothing more goes in.
                let options = Options { bytes_max: Some(4096), location: test.location.clone() };
                Db::open(options).await.unwrap()
            }
            // The server's own error, raised where the next write of a device goes.
            Location::Postgres(_) => {
                beside(
                    &test,
                    "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
                     CREATE TRIGGER full_disk BEFORE INSERT ON device
                     FOR EACH ROW EXECUTE FUNCTION full_disk()",
                )
                .await;
                test.db.clone()
            }
        };
        let mut tx = db.begin().await.unwrap();
        let error = async {
            for n in 3..1_000 {
                tx.device_insert(&device_row(n)).await?;
            }
            Ok::<_, StoreError>(())
        };
        let error = error.await.unwrap_err();
        assert!(error.is_disk_full(), "{error:?}");
        drop(tx);
        let devices = db.read().await.unwrap().device_list(None, 10).await.unwrap();
        assert_eq!(devices.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_number_that_the_database_cannot_hold_is_refused_not_bent() {
    on_both(async |test: TestDb| {
        let mut tx = test.db.begin().await.unwrap();
        let row = SiteRow { settings_version: u64::MAX, ..site_row() };
        let error = tx.site_insert(&row).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { value: u64::MAX, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_value_that_no_program_writes_is_named_with_its_column() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        beside(&test, "UPDATE device SET admission = 'perhaps'").await;
        let mut reader = test.db.read().await.unwrap();
        let error = reader.device_load(device_id(1)).await.unwrap_err().to_string();
        assert!(error.contains("`admission`") && error.contains("perhaps"), "{error}");
    })
    .await;
}
