//! One statement text for both engines.
//!
//! The noun files of the store write SQL with `$1`, `$2`, ... and call [`Read::all`], [`Read::one`],
//! [`Tx::run`] and their `_many` forms; nothing else in the house writes SQL. [`on_engine!`] is the
//! one place where the engines part. What differs in the text itself stands in
//! [`Dialect`](super::dialect::Dialect).
//!
//! A `_many` statement is one text over many rows: it starts with `WITH k(columns) AS (...)`, filled
//! from `UNNEST` of arrays in PostgreSQL and from `VALUES` in SQLite, and goes on as
//! `INSERT ... SELECT ... FROM k`, `UPDATE ... FROM k`, `SELECT ... JOIN k`. It is cut into pieces
//! that stay below the engines' limits, in the order of the rows, within the one transaction; one
//! that looks at all of its rows together is run by [`Read::all_whole`], which never cuts.

use sqlx::error::BoxDynError;
use sqlx::query::Query;
use sqlx::{
    Arguments, AssertSqlSafe, Database, IntoArguments, Postgres, SqlSafeStr, SqlStr, Sqlite,
};

use super::arg::{Arg, Kind, ToArg};
use super::db::{Conn, Read, Tx};
use super::error::StoreError;
use super::row::{EngineRow, Row};

/// Rows in one piece of a `_many` statement. More gain nothing measurable on either engine.
const PIECE_ROWS_MAX: usize = 1_000;
/// Values in one SQLite statement (SQLITE_MAX_VARIABLE_NUMBER, since 3.32).
const LITE_VALUES_MAX: usize = 32_766;

/// Expands `$body` once for each engine, with `$tx` the open transaction of that engine's driver.
/// The two bodies are the same text over different types, which is what makes the store code one.
macro_rules! on_engine {
    ($conn:expr, $tx:ident => $body:expr) => {
        match $conn {
            Conn::Lite($tx) => $body,
            Conn::Pg($tx) => $body,
        }
    };
}
pub(super) use on_engine;

/// A statement with its values. `operation` names the store function, in errors and traces.
pub(crate) struct Statement<'a> {
    operation: &'static str,
    text: SqlStr,
    args: Vec<Arg<'a>>,
}

/// A statement of fixed text.
pub(crate) fn sql<'a>(operation: &'static str, text: &'static str) -> Statement<'a> {
    Statement { operation, text: text.into_sql_str(), args: Vec::new() }
}

/// A statement whose text was put together from fixed pieces. Only the store calls it, and never
/// with a value in the text.
pub(crate) fn sql_of<'a>(operation: &'static str, text: String) -> Statement<'a> {
    Statement { operation, text: AssertSqlSafe(text).into_sql_str(), args: Vec::new() }
}

impl<'a> Statement<'a> {
    /// Adds the next value.
    pub(crate) fn bind(mut self, value: impl ToArg<'a>) -> Self {
        self.args.push(value.to_arg());
        self
    }
}

/// A statement over many rows of `N` columns.
pub(crate) struct Many<'a, const N: usize> {
    operation: &'static str,
    columns: [(&'static str, Kind); N],
    /// The text after `WITH k(...) AS (...)`.
    tail: String,
    rows: Vec<[Arg<'a>; N]>,
}

/// A statement over `rows`, each the values of `columns` in order.
pub(crate) fn many<'a, const N: usize>(
    operation: &'static str,
    columns: [(&'static str, Kind); N],
    rows: Vec<[Arg<'a>; N]>,
    tail: impl Into<String>,
) -> Many<'a, N> {
    Many { operation, columns, tail: tail.into(), rows }
}

impl Read {
    /// Every row that the statement answers, each read by `read`.
    pub(crate) async fn all<T>(
        &mut self,
        statement: Statement<'_>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.fetch(statement).await?;
        rows.iter().map(read).collect()
    }

    /// The first row that the statement answers.
    pub(crate) async fn one<T>(
        &mut self,
        statement: Statement<'_>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.fetch(statement).await?;
        rows.first().map(read).transpose()
    }

    /// Every row that a statement over many rows answers.
    pub(crate) async fn all_many<T, const N: usize>(
        &mut self,
        many: Many<'_, N>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::with_capacity(many.rows.len());
        for piece in many.pieces(&self.conn) {
            for row in self.fetch(piece).await? {
                found.push(read(&row)?);
            }
        }
        Ok(found)
    }

    /// Every row that a statement over few rows answers, which must not be cut into pieces because
    /// it looks at all of them together.
    pub(crate) async fn all_whole<T, const N: usize>(
        &mut self,
        many: Many<'_, N>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let Many { operation, columns, tail, rows } = many;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let whole = piece(&self.conn, operation, &columns, &tail, rows);
        self.all(whole, read).await
    }

    pub(super) async fn fetch(&mut self, statement: Statement<'_>) -> Result<Vec<Row>, StoreError> {
        let Statement { operation, text, args } = statement;
        check_range(operation, &args)?;
        let rows: sqlx::Result<Vec<EngineRow>> = on_engine!(&mut self.conn, tx => async {
            let rows = query(text, &args)?.fetch_all(&mut **tx).await?;
            Ok(rows.into_iter().map(EngineRow::from).collect())
        }.await);
        let rows = rows.map_err(|source| StoreError::of(operation, source))?;
        Ok(rows.into_iter().map(|engine| Row { operation, engine }).collect())
    }
}

impl Tx {
    /// Runs a statement that changes rows; answers how many.
    pub(crate) async fn run(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let Statement { operation, text, args } = statement;
        check_range(operation, &args)?;
        let changed: sqlx::Result<u64> = on_engine!(&mut self.conn, tx => async {
            Ok(query(text, &args)?.execute(&mut **tx).await?.rows_affected())
        }.await);
        changed.map_err(|source| StoreError::of(operation, source))
    }

    /// Runs a statement over many rows that changes rows; answers how many.
    pub(crate) async fn run_many<const N: usize>(
        &mut self,
        many: Many<'_, N>,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for piece in many.pieces(&self.conn) {
            changed += self.run(piece).await?;
        }
        Ok(changed)
    }
}

impl<'a, const N: usize> Many<'a, N> {
    fn pieces(self, conn: &Conn) -> Vec<Statement<'a>> {
        let Self { operation, columns, tail, mut rows } = self;
        let mut pieces = Vec::new();
        while !rows.is_empty() {
            let rest = rows.split_off(piece_rows(conn, rows.len(), N));
            pieces.push(piece(conn, operation, &columns, &tail, rows));
            rows = rest;
        }
        pieces
    }
}

fn piece<'a, const N: usize>(
    conn: &Conn,
    operation: &'static str,
    columns: &[(&'static str, Kind); N],
    tail: &str,
    rows: Vec<[Arg<'a>; N]>,
) -> Statement<'a> {
    let (source, args) = match conn {
        Conn::Lite(_) => values(rows),
        Conn::Pg(_) => unnest(columns, rows),
    };
    let names = columns.map(|(name, _)| name).join(", ");
    let text = format!("WITH k({names}) AS ({source}) {tail}");
    Statement { args, ..sql_of(operation, text) }
}

/// How many of `left` rows go into the next piece. SQLite's text depends on the number of rows, so
/// it is a power of two there: ten texts a statement, all of them in the cache of prepared ones.
fn piece_rows(conn: &Conn, left: usize, columns: usize) -> usize {
    match conn {
        Conn::Pg(_) => left.min(PIECE_ROWS_MAX),
        Conn::Lite(_) => {
            let most = left.min(PIECE_ROWS_MAX).min(LITE_VALUES_MAX / columns);
            1 << most.ilog2()
        }
    }
}

/// `VALUES (?, ?), (?, ?)` and the values in that order. Without names: SQLite looks a name up among
/// all others, which for thousands of them costs more than the insert.
fn values<'a, const N: usize>(rows: Vec<[Arg<'a>; N]>) -> (String, Vec<Arg<'a>>) {
    let row = format!("({})", ["?"; N].join(", "));
    let text = format!("VALUES {}", vec![row; rows.len()].join(", "));
    (text, rows.into_iter().flatten().collect())
}

/// `SELECT * FROM UNNEST($1::bigint[], $2::text[])` and one array a column.
fn unnest<'a, const N: usize>(
    columns: &[(&'static str, Kind); N],
    rows: Vec<[Arg<'a>; N]>,
) -> (String, Vec<Arg<'a>>) {
    let mut arrays = columns.map(|(_, kind)| (kind, Vec::with_capacity(rows.len())));
    for row in rows {
        for ((_, array), arg) in arrays.iter_mut().zip(row) {
            array.push(arg);
        }
    }
    let casts: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, (_, kind))| format!("${}::{}[]", i + 1, pg_type(*kind)))
        .collect();
    let text = format!("SELECT * FROM UNNEST({})", casts.join(", "));
    (text, arrays.into_iter().map(|(kind, args)| Arg::Array(kind, args)).collect())
}

fn pg_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "bigint",
        Kind::Text => "text",
        Kind::Bytes => "bytea",
        Kind::Id => "uuid",
    }
}

pub(super) fn check_range(operation: &'static str, args: &[Arg<'_>]) -> Result<(), StoreError> {
    args.iter().try_for_each(|arg| match arg {
        Arg::TooLarge(value) => Err(StoreError::TooLarge { operation, value: *value }),
        Arg::Array(_, args) => check_range(operation, args),
        _ => Ok(()),
    })
}

/// A driver that takes our values.
trait Engine: Database<Arguments: IntoArguments<Self>> {
    fn add(list: &mut Self::Arguments, arg: &Arg<'_>) -> Result<(), BoxDynError>;
}

fn query<E: Engine>(
    text: SqlStr,
    args: &[Arg<'_>],
) -> sqlx::Result<Query<'static, E, E::Arguments>> {
    let mut list = E::Arguments::default();
    args.iter().try_for_each(|arg| E::add(&mut list, arg)).map_err(sqlx::Error::Encode)?;
    Ok(sqlx::query_with(text, list))
}

impl Engine for Sqlite {
    fn add(list: &mut Self::Arguments, arg: &Arg<'_>) -> Result<(), BoxDynError> {
        match arg {
            Arg::Int(value) => list.add(*value),
            Arg::Text(value) => list.add(&**value),
            Arg::Bytes(value) => list.add(&**value),
            Arg::Id(value) => list.add(value.hyphenated()),
            Arg::Null(_) => list.add(None::<i64>),
            Arg::TooLarge(_) | Arg::Array(..) => Err("not a value of SQLite".into()),
        }
    }
}

impl Engine for Postgres {
    fn add(list: &mut Self::Arguments, arg: &Arg<'_>) -> Result<(), BoxDynError> {
        match arg {
            Arg::Int(value) => list.add(*value),
            Arg::Text(value) => list.add(&**value),
            Arg::Bytes(value) => list.add(&**value),
            Arg::Id(value) => list.add(*value),
            Arg::Null(Kind::Int) => list.add(None::<i64>),
            Arg::Null(Kind::Text) => list.add(None::<&str>),
            Arg::Null(Kind::Bytes) => list.add(None::<&[u8]>),
            Arg::Null(Kind::Id) => list.add(None::<uuid::Uuid>),
            Arg::Array(Kind::Int, args) => list.add(array(args, Arg::int)),
            Arg::Array(Kind::Text, args) => list.add(array(args, Arg::text)),
            Arg::Array(Kind::Bytes, args) => list.add(array(args, Arg::bytes)),
            Arg::Array(Kind::Id, args) => list.add(array(args, Arg::id)),
            Arg::TooLarge(_) => Err("not a value of PostgreSQL".into()),
        }
    }
}

fn array<'a, T>(args: &'a [Arg<'a>], value: impl Fn(&'a Arg<'a>) -> Option<T>) -> Vec<Option<T>> {
    args.iter().map(value).collect()
}
