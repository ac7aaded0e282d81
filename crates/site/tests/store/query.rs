//! An administrator's questions.

use std::time::Duration;

use muster_site::store::{CONNECTIONS_MAX, QUERY_ROWS_MAX, QueryError, STATEMENT_TIME_MAX, Table};
use muster_site::testing::{TestDb, on_both};
use serde_json::{Value, json};

use crate::support::*;

async fn ask(test: &TestDb, question: &str) -> Result<Table, QueryError> {
    test.db.read().await.unwrap().query(question, STATEMENT_TIME_MAX).await
}

#[tokio::test]
async fn ids_and_times_are_text_numbers_are_numbers() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        let question = "select id, name, os, enrolled, retired, 0.5 as half from device -- note";
        let table = ask(&test, question).await.unwrap();
        assert_eq!(table.columns, ["id", "name", "os", "enrolled", "retired", "half"]);
        let row = device_row(1);
        let enrolled = jiff::Timestamp::from_millisecond(row.enrolled_at.0).unwrap();
        let enrolled = format!("{enrolled:.3}");
        let expected = [
            json!(device_id(1)),
            json!("d1"),
            json!(row.device.facts.os),
            json!(enrolled),
            Value::Null,
            json!(0.5),
        ];
        assert_eq!(table.rows, [expected]);
        let found = format!("select name from device where id = '{}'", device_id(1));
        assert_eq!(ask(&test, &found).await.unwrap().rows, [[json!("d1")]]);
    })
    .await;
}

#[tokio::test]
async fn every_table_that_is_offered_can_be_asked() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        for table in [
            "site",
            "device",
            "package",
            "package_version",
            "collection",
            "member",
            "advertisement",
            "obligation",
            "message",
            "audit",
            "gap",
            "set_aside",
            "token",
            "credential",
        ] {
            let answered = ask(&test, &format!("select * from {table} t where 1 = 1")).await;
            let found = answered.unwrap_or_else(|why| panic!("{table}: {why}"));
            assert!(found.columns.len() > 4, "{table}: {:?}", found.columns);
            for hidden in ["secret", "key", "machine", "chain", "bytes"] {
                let asked = ask(&test, &format!("select {hidden} from {table}")).await;
                assert!(matches!(asked, Err(QueryError::Refused(_))), "{table}.{hidden}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn joins_tables_of_its_own_and_json_are_answered_alike() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=3).await;
        let question =
            "with named as (select name, facts ->> 'os' as os from device where name <> 'd2')
            select d.name, n.os from device d join named n on n.name = d.name order by d.name desc";
        let table = ask(&test, question).await.unwrap();
        let names: Vec<&Value> = table.rows.iter().map(|row| &row[0]).collect();
        assert_eq!(names, ["d3", "d1"]);
        let table = ask(&test, "select facts from device where name = 'd1'").await.unwrap();
        assert!(table.rows[0][0].as_str().unwrap().starts_with('{'), "{table:?}");
    })
    .await;
}

#[tokio::test]
async fn sums_and_empty_answers_have_their_columns() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=3).await;
        let table = ask(&test, "select count(*) n, sum(length(name)) s from device").await.unwrap();
        assert_eq!(
            (table.columns, table.rows),
            (vec!["n".into(), "s".into()], vec![vec![json!(3), json!(6)]])
        );
        let table = ask(&test, "select name as n from device where 1 = 0").await.unwrap();
        assert_eq!((table.columns, table.rows.len()), (vec!["n".to_owned()], 0));
    })
    .await;
}

#[tokio::test]
async fn nothing_can_be_changed_and_the_engine_says_what_is_wrong() {
    on_both(async |test: TestDb| {
        site(&test.db, 1..=1).await;
        for question in [
            "delete from device",
            "select 1; delete from device",
            "with gone as (delete from device returning id) select * from gone",
            "select 1) q; delete from device; select * from (select 1",
            "select * from nowhere",
            "select * from principal",
            "select secret from token",
            "with token as (select 1) select * from token",
            "with a as (select secret from token), b as (select 1) select * from a",
        ] {
            let error = ask(&test, question).await.unwrap_err();
            assert!(!matches!(error, QueryError::Store(_)), "{question}: {error:?}");
        }
        let error = ask(&test, "select * from nowhere").await.unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert_eq!(ask(&test, "select count(*) from device").await.unwrap().rows, [[json!(1)]]);
    })
    .await;
}

#[tokio::test]
async fn a_long_answer_is_cut_and_says_so() {
    on_both(async |test: TestDb| {
        let numbers = |n| format!("with recursive a(n) as (values (1) union all select n + 1 from a where n < {n}) select n from a");
        let table = ask(&test, &numbers(QUERY_ROWS_MAX + 5)).await.unwrap();
        assert_eq!((table.rows.len(), table.truncated), (QUERY_ROWS_MAX as usize, true));
        let table = ask(&test, &numbers(QUERY_ROWS_MAX)).await.unwrap();
        assert_eq!((table.rows.len(), table.truncated), (QUERY_ROWS_MAX as usize, false));
    })
    .await;
}

/// Counts for ever.
const ENDLESS: &str = "with recursive a(n) as (select 1 union all select n + 1 from a where n > 0)
    select count(*) from a";

#[tokio::test]
async fn a_question_without_end_is_ended_and_the_next_one_has_its_own_time() {
    on_both(async |test: TestDb| {
        let short = Duration::from_millis(300);
        let mut reader = test.db.read().await.unwrap();
        let error = reader.query(ENDLESS, short).await.unwrap_err();
        assert!(matches!(error, QueryError::TooSlow(time) if time == short), "{error:?}");
        drop(reader);
        site(&test.db, 1..=1_000).await;
        // An asker that goes away leaves nothing behind that would end somebody else's reading: not
        // on any of the connections, of which one waits here until the question is ended.
        let mut reader = test.db.read().await.unwrap();
        let asked = tokio::time::timeout(short / 3, reader.query(ENDLESS, short)).await;
        assert!(asked.is_err());
        drop(reader);
        let mut readers = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            readers.push(test.db.read().await.unwrap());
        }
        for reader in &mut readers {
            assert_eq!(reader.device_list(None, 1_000).await.unwrap().len(), 1_000);
        }
    })
    .await;
}
