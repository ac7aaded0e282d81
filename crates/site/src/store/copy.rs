//! Rows added in bulk: `COPY` in PostgreSQL, an `INSERT` over many rows in SQLite.
//!
//! Called by the noun files for rows that are known not to be there, under a lock that keeps it so:
//! `COPY` has no `ON CONFLICT`. It spares the server the arrays and the plan of a statement over many
//! rows, and lets it fill a page of the table at a time.
//!
//! The bytes are those of the binary format in PostgreSQL's manual, `COPY`, "Binary Format": a
//! signature, then each row as its number of fields and each field behind its length.

use sqlx::postgres::PgConnection;

use super::arg::{Arg, Kind};
use super::db::{Conn, Tx};
use super::error::StoreError;
use super::sql::{check_range, many};

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Stands in place of a row's number of fields behind the last row.
const TRAILER: i16 = -1;
/// Stands in place of the length of a field without a value.
const NULL: i32 = -1;
/// Bytes that are handed to the connection at once: some hundred messages, so that the server works
/// while the next ones are written out.
const PIECE_BYTES: usize = 256 * 1024;

impl Tx {
    /// Adds `rows`, each the values of `columns` in order, to `table`. None of them may be there:
    /// [`StoreError::Taken`] says that one was, and the transaction is lost.
    pub(crate) async fn add_many<const N: usize>(
        &mut self,
        operation: &'static str,
        table: &'static str,
        columns: [(&'static str, Kind); N],
        rows: Vec<[Arg<'_>; N]>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let names = columns.map(|(name, _)| name).join(", ");
        if let Conn::Pg(tx) = &mut self.conn {
            rows.iter().try_for_each(|row| check_range(operation, row))?;
            let text = format!("COPY {table} ({names}) FROM STDIN WITH (FORMAT binary)");
            let copied = copy(tx, &text, &rows).await;
            return copied.map_err(|source| StoreError::of(operation, source));
        }
        let tail = format!("INSERT INTO {table} ({names}) SELECT {names} FROM k");
        self.run_many(many(operation, columns, rows, tail)).await.map(drop)
    }
}

async fn copy<const N: usize>(
    connection: &mut PgConnection,
    text: &str,
    rows: &[[Arg<'_>; N]],
) -> sqlx::Result<()> {
    let mut copy = connection.copy_in_raw(text).await?;
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    bytes.extend_from_slice(HEADER);
    for row in rows {
        put_row(&mut bytes, row)?;
        if bytes.len() >= PIECE_BYTES {
            copy.send(bytes.as_slice()).await?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(&TRAILER.to_be_bytes());
    copy.send(bytes.as_slice()).await?;
    copy.finish().await.map(drop)
}

fn put_row<const N: usize>(bytes: &mut Vec<u8>, row: &[Arg<'_>; N]) -> sqlx::Result<()> {
    let fields = i16::try_from(N).map_err(|_| unfit("a row with so many fields"))?;
    bytes.extend_from_slice(&fields.to_be_bytes());
    row.iter().try_for_each(|field| put_field(bytes, field))
}

fn put_field(bytes: &mut Vec<u8>, field: &Arg<'_>) -> sqlx::Result<()> {
    match field {
        Arg::Int(value) => put_value(bytes, &value.to_be_bytes()),
        Arg::Text(value) => put_value(bytes, value.as_bytes()),
        Arg::Bytes(value) => put_value(bytes, value),
        Arg::Id(value) => put_value(bytes, value.as_bytes()),
        Arg::Null(_) => {
            bytes.extend_from_slice(&NULL.to_be_bytes());
            Ok(())
        }
        Arg::TooLarge(_) | Arg::Array(..) => Err(unfit("not a value of one field")),
    }
}

fn put_value(bytes: &mut Vec<u8>, value: &[u8]) -> sqlx::Result<()> {
    let length = i32::try_from(value.len()).map_err(|_| unfit("a field of 2 GiB"))?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
    Ok(())
}

fn unfit(what: &'static str) -> sqlx::Error {
    sqlx::Error::Encode(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[track_caller]
    fn check(row: [Arg<'_>; 1], expected: &[u8]) {
        let mut bytes = Vec::new();
        put_row(&mut bytes, &row).unwrap();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_row_is_its_number_of_fields_and_each_field_behind_its_length() {
        check([Arg::Int(-2)], b"\0\x01\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe");
        check([Arg::Text(Cow::Borrowed("né"))], b"\0\x01\0\0\0\x03n\xc3\xa9");
        check([Arg::Bytes(Cow::Borrowed(&[0, 255]))], b"\0\x01\0\0\0\x02\0\xff");
        let id = uuid::Uuid::from_u128(1);
        check([Arg::Id(id)], b"\0\x01\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
        check([Arg::Null(Kind::Text)], b"\0\x01\xff\xff\xff\xff");
    }

    #[test]
    fn what_is_no_single_value_is_refused() {
        for bad in [Arg::TooLarge(u64::MAX), Arg::Array(Kind::Int, Vec::new())] {
            assert!(put_row(&mut Vec::new(), &[bad]).is_err());
        }
    }
}
