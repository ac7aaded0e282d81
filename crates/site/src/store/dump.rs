//! Every row of every table as JSON, and back: what a backup holds, the same for both engines.
//!
//! Called by `app/backup.rs` and `app/restore.rs`. Tables and columns come from the engine's own
//! catalogue, so a new table cannot be forgotten. A dump is of one instant: it is read within one
//! [`Read`]. Rows of an SQLite site may be loaded into PostgreSQL and the other way round.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};

use super::arg::{Arg, Kind};
use super::db::{Conn, Read, Tx};
use super::error::StoreError;
use super::sql::{Statement, sql, sql_of};

/// Rows in one statement that loads a dump.
const LOAD_ROWS: usize = 200;
/// The key under which the bytes of a binary column stand, to tell them from text.
const BYTES_KEY: &str = "base64";
/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    name: String,
    kind: Kind,
    numbered: bool,
}

/// A table and its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Its name.
    pub name: String,
    columns: Vec<ColumnShape>,
}

impl Read {
    /// Every table but those that a new database fills by itself, in an order in which rows can be
    /// loaded: what is referred to comes first.
    pub async fn tables(&mut self) -> Result<Vec<TableShape>, StoreError> {
        let text = match &self.conn {
            Conn::Lite(_) => {
                "SELECT t.name AS tab, c.name AS col, lower(c.type) AS type,
                        CASE WHEN instr(lower(t.sql), 'autoincrement') > 0 AND c.pk = 1
                             THEN 1 ELSE 0 END AS numbered
                 FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'
                   AND t.name NOT IN ('schema', '_sqlx_migrations')
                 ORDER BY t.rowid, c.cid"
            }
            Conn::Pg(_) => {
                "SELECT t.relname::text AS tab, a.attname::text AS col,
                        format_type(a.atttypid, NULL) AS type,
                        CASE WHEN a.attidentity = '' THEN 0::bigint ELSE 1::bigint END AS numbered
                 FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid
                 WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace
                   AND a.attnum > 0 AND NOT a.attisdropped
                   AND t.relname NOT IN ('schema', '_sqlx_migrations')
                 ORDER BY t.oid, a.attnum"
            }
        };
        let found = self
            .all(sql("tables", text), |row| {
                let kind: String = row.get("type")?;
                let column = ColumnShape {
                    name: row.get("col")?,
                    kind: kind_of(&kind).ok_or_else(|| row.damaged("type", kind))?,
                    numbered: row.get::<i64>("numbered")? != 0,
                };
                Ok((row.get::<String>("tab")?, column))
            })
            .await?;
        let mut tables: Vec<TableShape> = Vec::new();
        for (name, column) in found {
            match tables.last_mut().filter(|last| last.name == name) {
                Some(table) => table.columns.push(column),
                None => tables.push(TableShape { name, columns: vec![column] }),
            }
        }
        Ok(tables)
    }

    /// Hands every row of `table` to `take`, one at a time: a table of any size needs little memory.
    /// Ends early when `take` answers `false`.
    pub async fn dump(
        &mut self,
        table: &TableShape,
        mut take: impl FnMut(Map<String, Value>) -> bool,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::of("dump", source);
        let text = sqlx::AssertSqlSafe(format!("SELECT * FROM {}", quoted(&table.name)));
        match &mut self.conn {
            Conn::Lite(tx) => {
                let mut rows = sqlx::query(text).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    if !take(lite_row(&row).map_err(failed)?) {
                        break;
                    }
                }
            }
            Conn::Pg(tx) => {
                // A table may take longer than one statement of daily work may.
                sqlx::query("SET LOCAL statement_timeout = 0")
                    .execute(&mut **tx)
                    .await
                    .map_err(failed)?;
                let mut rows = sqlx::query(text).fetch(&mut **tx);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    if !take(pg_row(&row).map_err(failed)?) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Tx {
    /// Empties every table of a database that nobody uses yet, so that a dump can be loaded.
    pub async fn empty(&mut self, tables: &[TableShape]) -> Result<(), StoreError> {
        for table in tables.iter().rev() {
            let text = format!("DELETE FROM {}", quoted(&table.name));
            self.run(sql_of("empty", text)).await?;
        }
        Ok(())
    }

    /// Adds dumped rows to `table`. A column that the table does not have is refused by name; one
    /// that the rows do not have stays at its default.
    pub async fn load(
        &mut self,
        table: &TableShape,
        rows: &[Map<String, Value>],
    ) -> Result<(), StoreError> {
        for rows in rows.chunks(LOAD_ROWS) {
            let Some(first) = rows.first() else { continue };
            let columns: Vec<&ColumnShape> = first
                .keys()
                .map(|key| {
                    let known = table.columns.iter().find(|column| column.name == *key);
                    known.ok_or_else(|| damaged(&table.name, key, "no such column"))
                })
                .collect::<Result<_, _>>()?;
            let mut statement = self.insert(table, &columns, rows.len());
            for row in rows {
                for column in &columns {
                    let value = row.get(&column.name).unwrap_or(&Value::Null);
                    statement = statement.bind(Loaded(arg(table, column, value)?));
                }
            }
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Lets numbers that the database draws go on behind those that were loaded.
    pub async fn renumber(&mut self, tables: &[TableShape]) -> Result<(), StoreError> {
        if !matches!(self.conn, Conn::Pg(_)) {
            // SQLite's AUTOINCREMENT goes on behind the highest number by itself.
            return Ok(());
        }
        for table in tables {
            for column in table.columns.iter().filter(|column| column.numbered) {
                let (name, column) = (quoted(&table.name), quoted(&column.name));
                let text = format!(
                    "SELECT setval(pg_get_serial_sequence('{0}', '{1}'),
                            (SELECT coalesce(max({column}), 0) + 1 FROM {name}), false)",
                    table.name,
                    column.trim_matches('"'),
                );
                self.run(sql_of("renumber", text)).await?;
            }
        }
        Ok(())
    }

    fn insert(
        &self,
        table: &TableShape,
        columns: &[&ColumnShape],
        rows: usize,
    ) -> Statement<'static> {
        let overriding = match self.conn {
            Conn::Pg(_) if columns.iter().any(|column| column.numbered) => {
                "OVERRIDING SYSTEM VALUE"
            }
            _ => "",
        };
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let row = |row: usize| {
            let at = |column: usize| format!("${}", row * columns.len() + column + 1);
            format!("({})", (0..columns.len()).map(at).collect::<Vec<_>>().join(", "))
        };
        let values: Vec<String> = (0..rows).map(row).collect();
        let (name, names, values) = (quoted(&table.name), names.join(", "), values.join(", "));
        sql_of("load", format!("INSERT INTO {name} ({names}) {overriding} VALUES {values}"))
    }
}

/// A value that is an argument already.
struct Loaded(Arg<'static>);

impl super::arg::ToArg<'static> for Loaded {
    const KIND: Kind = Kind::Text;
    fn to_arg(self) -> Arg<'static> {
        self.0
    }
}

/// A name of the catalogue in a statement. Names come from our own migrations.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn kind_of(engine_type: &str) -> Option<Kind> {
    match engine_type {
        "bigint" | "integer" => Some(Kind::Int),
        "text" => Some(Kind::Text),
        "bytea" | "blob" => Some(Kind::Bytes),
        "uuid" => Some(Kind::Id),
        _ => None,
    }
}

fn bytes_value(bytes: &[u8]) -> Value {
    Value::Object(Map::from_iter([(BYTES_KEY.to_owned(), STANDARD.encode(bytes).into())]))
}

fn lite_row(row: &SqliteRow) -> sqlx::Result<Map<String, Value>> {
    let mut found = Map::new();
    for (at, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(at)?;
        let value = match (raw.is_null(), raw.type_info().name()) {
            (true, _) => Value::Null,
            (_, "INTEGER") => row.try_get::<i64, _>(at)?.into(),
            (_, "BLOB") => bytes_value(row.try_get::<&[u8], _>(at)?),
            _ => row.try_get::<String, _>(at)?.into(),
        };
        found.insert(column.name().to_owned(), value);
    }
    Ok(found)
}

fn pg_row(row: &PgRow) -> sqlx::Result<Map<String, Value>> {
    let mut found = Map::new();
    for (at, column) in row.columns().iter().enumerate() {
        let value = match (row.try_get_raw(at)?.is_null(), column.type_info().name()) {
            (true, _) => Value::Null,
            (_, "INT8") => row.try_get::<i64, _>(at)?.into(),
            (_, "BYTEA") => bytes_value(row.try_get::<&[u8], _>(at)?),
            (_, "UUID") => row.try_get::<uuid::Uuid, _>(at)?.to_string().into(),
            _ => row.try_get::<String, _>(at)?.into(),
        };
        found.insert(column.name().to_owned(), value);
    }
    Ok(found)
}

fn arg(
    table: &TableShape,
    column: &ColumnShape,
    value: &Value,
) -> Result<Arg<'static>, StoreError> {
    let wrong = |what: &str| damaged(&table.name, &column.name, what);
    Ok(match (column.kind, value) {
        (kind, Value::Null) => Arg::Null(kind),
        (Kind::Int, Value::Number(number)) => {
            Arg::Int(number.as_i64().ok_or_else(|| wrong("a number of 64 bits"))?)
        }
        (Kind::Text, Value::String(text)) => Arg::Text(text.clone().into()),
        (Kind::Id, Value::String(text)) => Arg::Id(text.parse().map_err(|_| wrong("an id"))?),
        (Kind::Bytes, Value::Object(map)) => {
            let text = map.get(BYTES_KEY).and_then(Value::as_str).ok_or_else(|| wrong("bytes"))?;
            Arg::Bytes(STANDARD.decode(text).map_err(|_| wrong("base64"))?.into())
        }
        _ => return Err(wrong("a value of its kind")),
    })
}

fn damaged(table: &str, column: &str, detail: &str) -> StoreError {
    StoreError::Damaged {
        operation: "load",
        column: format!("{table}.{column}"),
        detail: detail.to_owned(),
    }
}
