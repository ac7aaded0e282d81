//! The two schemas are one.

use std::collections::BTreeMap;

use muster_site::store::STATEMENT_TIME_MAX;
use muster_site::testing::TestDb;

/// Table and column -> whether it may be null.
async fn catalogue(test: &TestDb, question: &str) -> BTreeMap<String, bool> {
    let table =
        test.db.read().await.unwrap().query_unfenced(question, STATEMENT_TIME_MAX).await.unwrap();
    assert!(!table.truncated);
    table
        .rows
        .iter()
        .map(|row| {
            let text = |i: usize| row[i].as_str().unwrap().to_owned();
            (format!("{}.{}", text(0), text(1)), row[2].as_i64() == Some(1))
        })
        .collect()
}

#[tokio::test]
async fn both_engines_have_the_same_tables_columns_and_nullability() {
    let sqlite = catalogue(
        &TestDb::sqlite().await,
        "SELECT t.name, c.name, CASE WHEN c.\"notnull\" = 0 THEN 1 ELSE 0 END
         FROM sqlite_schema t JOIN pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name <> '_sqlx_migrations'",
    )
    .await;
    let postgres = catalogue(
        &TestDb::postgres().await,
        "SELECT table_name, column_name, CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END
         FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'",
    )
    .await;
    assert!(sqlite.len() > 100, "{} columns", sqlite.len());
    assert_eq!(sqlite, postgres);
}

#[tokio::test]
async fn both_engines_have_the_same_indexes_and_uniqueness() {
    let sqlite = catalogue(
        &TestDb::sqlite().await,
        "SELECT t.name, i.name, i.\"unique\" FROM sqlite_schema t
         JOIN pragma_index_list(t.name) i WHERE t.type = 'table' AND i.origin = 'c'",
    )
    .await;
    let postgres = catalogue(
        &TestDb::postgres().await,
        "SELECT c.relname, i.relname, CASE WHEN x.indisunique THEN 1 ELSE 0 END
         FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND NOT x.indisprimary",
    )
    .await;
    assert_eq!(sqlite, postgres);
}

/// Without statistics PostgreSQL cannot tell such an index from the primary key's, and looks keys up in
/// the wrong one: it then reads every row that begins alike.
#[tokio::test]
async fn no_whole_index_begins_as_its_tables_primary_key_does() {
    let alike = catalogue(
        &TestDb::postgres().await,
        "SELECT c.relname, i.relname, 0
         FROM pg_index x JOIN pg_index p ON p.indrelid = x.indrelid AND p.indisprimary
         JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND NOT x.indisprimary AND x.indpred IS NULL
         AND x.indnatts > 1 AND x.indkey[0] = p.indkey[0] AND x.indkey[1] = p.indkey[1]",
    )
    .await;
    assert_eq!(alike, BTreeMap::new());
}
