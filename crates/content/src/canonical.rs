//! Canonical JSON: one value has exactly one encoding, so that a digest names a meaning.
//!
//! The form: no white space, keys of every object in strictly rising byte order, strings escaped
//! only where JSON demands it, numbers whole. The manifest and the trust document are made in it
//! once and never re-serialised; who reads them checks the form without knowing the fields, so an
//! older document stays readable when a type learns new fields. Never changes a byte it checks.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Bytes that are not canonical JSON.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    /// Not JSON at all, a fraction, a key out of order or a key given twice.
    #[error("read the document as canonical JSON")]
    Json(#[source] serde_json::Error),
    /// JSON that says the same in other bytes: white space, needless escapes.
    #[error("read the document as canonical JSON: byte {at} is not what the canonical form has")]
    OtherBytes {
        /// Offset of the first byte that differs.
        at: usize,
    },
}

/// The canonical encoding of `value`.
///
/// Fails only for what JSON cannot hold (keys that are not strings) and for fractions.
pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    write(&serde_json::to_value(value)?, &mut bytes)?;
    Ok(bytes)
}

fn write(value: &Value, to: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(items) => {
            to.push(b'[');
            for (i, item) in items.iter().enumerate() {
                comma(i, to);
                write(item, to)?;
            }
            to.push(b']');
        }
        Value::Object(fields) => {
            // Sorted here rather than by the map, whose order a feature of serde_json can change.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_bytes());
            to.push(b'{');
            for (i, (key, item)) in fields.into_iter().enumerate() {
                comma(i, to);
                serde_json::to_writer(&mut *to, key)?;
                to.push(b':');
                write(item, to)?;
            }
            to.push(b'}');
        }
        Value::Number(number) if number.is_f64() => {
            return Err(serde::ser::Error::custom("canonical JSON has no fractions"));
        }
        scalar => serde_json::to_writer(&mut *to, scalar)?,
    }
    Ok(())
}

fn comma(index: usize, to: &mut Vec<u8>) {
    if index > 0 {
        to.push(b',');
    }
}

/// Checks that `bytes` are canonical. Needs no memory beside the longest string, whatever the
/// length of `bytes`.
pub(crate) fn check(bytes: &[u8]) -> Result<(), NotCanonical> {
    let mut same = Same { expected: bytes, at: 0, differs: false };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Transcode(&mut same).deserialize(&mut reader).and_then(|()| reader.end());
    match read {
        _ if same.differs => Err(NotCanonical::OtherBytes { at: same.at }),
        Err(error) => Err(NotCanonical::Json(error)),
        Ok(()) if same.at < bytes.len() => Err(NotCanonical::OtherBytes { at: same.at }),
        Ok(()) => Ok(()),
    }
}

/// A sink that compares what is written with what is expected; `at` stays at the first difference.
struct Same<'a> {
    expected: &'a [u8],
    at: usize,
    differs: bool,
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = &self.expected[self.at..];
        let alike = rest.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        self.at += alike;
        self.differs |= alike < bytes.len();
        if self.differs { Err(io::Error::other("other bytes")) } else { Ok(bytes.len()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads any JSON value and writes it again, canonically, into the comparing sink.
struct Transcode<'s, 'a>(&'s mut Same<'a>);

impl Transcode<'_, '_> {
    fn put<E: serde::de::Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.0.write_all(bytes).map_err(E::custom)
    }
    fn scalar<E: serde::de::Error>(&mut self, value: impl Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut *self.0, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Transcode<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcode<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canonical JSON, which has no fractions")
    }
    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.scalar(())
    }
    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }
    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }
    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }
    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.put(b"[")?;
        let mut first = true;
        while items.next_element_seed(Item { sink: self.0, first })?.is_some() {
            first = false;
        }
        self.put(b"]")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        self.put(b"{")?;
        let mut before: Option<String> = None;
        while let Some(key) = fields.next_key::<String>()? {
            if before.as_ref().is_some_and(|before| before.as_bytes() >= key.as_bytes()) {
                return Err(A::Error::custom(format!(
                    "key {key:?} is given twice or out of order"
                )));
            }
            if before.is_some() {
                self.put(b",")?;
            }
            self.scalar(&key)?;
            self.put(b":")?;
            fields.next_value_seed(Transcode(self.0))?;
            before = Some(key);
        }
        self.put(b"}")
    }
}

/// One element of an array, with the comma before it.
struct Item<'s, 'a> {
    sink: &'s mut Same<'a>,
    first: bool,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let mut transcode = Transcode(self.sink);
        if !self.first {
            transcode.put(b",")?;
        }
        transcode.deserialize(reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn refused(text: &str, said: &str) {
        let error = check(text.as_bytes()).unwrap_err();
        let mut all = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            all += &format!(": {source}");
        }
        assert!(all.contains(said), "{text}: {all}");
    }

    #[test]
    fn keys_are_sorted_and_nothing_is_added() {
        let value = json!({"b": [1, -2, true, null], "a": {"\u{7f}": "tab\t, ü", "B": ""}});
        let bytes = encode(&value).unwrap();
        let text = "{\"a\":{\"B\":\"\",\"\u{7f}\":\"tab\\t, ü\"},\"b\":[1,-2,true,null]}";
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), text);
        check(&bytes).unwrap();
    }

    #[test]
    fn a_second_spelling_is_refused() {
        refused(r#"{"a":1,"a":1}"#, "given twice");
        refused(r#"{"b":1,"a":1}"#, "out of order");
        refused(r#"{"a": 1}"#, "byte 5");
        refused("{\"a\":1}\n", "byte 7");
        refused(r#" {"a":1}"#, "byte 0");
        refused(r#"["\u0061"]"#, "byte 2");
        refused(r#"["\/"]"#, "byte 2");
        refused("[1.0]", "no fractions");
        refused("[1e2]", "no fractions");
        refused("[-0]", "no fractions");
        refused("[18446744073709551616]", "no fractions");
        refused("[1]]", "trailing");
        refused("[1,]", "trailing comma");
        refused("", "EOF");
        refused(&"[".repeat(100_000), "recursion limit");
    }

    #[test]
    fn fractions_are_not_encoded() {
        assert!(encode(&1.5).is_err());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_canonical(value in any_value()) {
            check(&encode(&value).unwrap()).unwrap();
        }
    }
}
