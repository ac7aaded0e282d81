//! YAML in and out: documents with the line of every field, so that a fault can be pointed at.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, Yaml, YamlData, YamlEmitter};
use serde_json::{Map, Number, Value};

/// The largest manifest file, in bytes. Content never stands in a manifest.
pub(crate) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How deep documents nest: manifests need 6.
const DEPTH_MAX: usize = 64;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The content, as JSON.
    pub(crate) value: Value,
    /// The line of each field, by path (`spec.programs[0].name`).
    lines: BTreeMap<String, usize>,
}

/// Text that is not YAML that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(crate) struct YamlFault {
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) why: String,
}

impl Document {
    /// The line of `field`, or of the nearest field around it that stands in the file.
    pub(crate) fn line(&self, field: &str) -> usize {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.lines.get("").copied().unwrap_or(1),
            }
        }
    }
}

/// Reads all documents of a file. Duplicate keys, tags, anchors and keys that are not text are
/// refused; empty documents are left out.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, YamlFault> {
    let nodes = MarkedYaml::load_from_str(text)
        .map_err(|fault| YamlFault { line: fault.marker().line(), why: fault.info().to_owned() })?;
    let mut documents = Vec::new();
    for node in nodes {
        let mut lines = BTreeMap::new();
        let value = convert(&node, "", 0, &mut lines)?;
        if !value.is_null() {
            documents.push(Document { value, lines });
        }
    }
    Ok(documents)
}

fn convert(
    node: &MarkedYaml<'_>,
    path: &str,
    depth: usize,
    lines: &mut BTreeMap<String, usize>,
) -> Result<Value, YamlFault> {
    let line = node.span.start.line();
    let fault = |why: &str| YamlFault { line, why: why.to_owned() };
    lines.entry(path.to_owned()).or_insert(line);
    if depth > DEPTH_MAX {
        return Err(fault("the document nests deeper than 64 levels"));
    }
    match &node.data {
        YamlData::Value(scalar) => convert_scalar(scalar).ok_or_else(|| fault("not a number")),
        YamlData::Sequence(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                list.push(convert(item, &format!("{path}[{i}]"), depth + 1, lines)?);
            }
            Ok(Value::Array(list))
        }
        YamlData::Mapping(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let YamlData::Value(Scalar::String(name)) = &key.data else {
                    return Err(fault("a key is text; put it in quotes"));
                };
                let below =
                    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                lines.insert(below.clone(), key.span.start.line());
                map.insert(name.to_string(), convert(item, &below, depth + 1, lines)?);
            }
            Ok(Value::Object(map))
        }
        YamlData::Tagged(..) => Err(fault("tags (`!...`) are not used here")),
        YamlData::Alias(_) => Err(fault("anchors and aliases are not used here")),
        YamlData::Representation(..) | YamlData::BadValue => Err(fault("not a value")),
    }
}

fn convert_scalar(scalar: &Scalar<'_>) -> Option<Value> {
    Some(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(flag) => Value::Bool(*flag),
        Scalar::Integer(number) => Value::Number((*number).into()),
        Scalar::FloatingPoint(number) => Value::Number(Number::from_f64(number.into_inner())?),
        Scalar::String(text) => Value::String(text.to_string()),
    })
}

/// Writes one value as a YAML document without the leading `---`, ending with a line feed.
pub(crate) fn write(value: &Value) -> String {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    // Multi-line text is written in quotes: a block scalar cannot carry every text unchanged.
    emitter.multiline(false);
    // Writing to a string cannot fail, and every JSON value has a YAML form.
    let _ = emitter.dump(&to_yaml(value));
    let body = text.strip_prefix("---").unwrap_or(&text).trim_start();
    format!("{}\n", body.trim_end())
}

fn to_yaml(value: &Value) -> Yaml<'_> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(flag) => Yaml::Value(Scalar::Boolean(*flag)),
        Value::Number(number) => Yaml::Value(match number.as_i64() {
            Some(number) => Scalar::Integer(number),
            None => Scalar::String(Cow::Owned(number.to_string())),
        }),
        Value::String(text) => Yaml::Value(Scalar::String(Cow::Borrowed(text))),
        Value::Array(items) => Yaml::Sequence(items.iter().map(to_yaml).collect()),
        Value::Object(map) => Yaml::Mapping(
            map.iter()
                .map(|(key, item)| {
                    (Yaml::Value(Scalar::String(Cow::Borrowed(key.as_str()))), to_yaml(item))
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Package\nspec:\n  version: \"2.10\"\n  programs:\n    - name: install\n      attempts: 3\n---\nkind: Collection\nspec: {members: [d1, d2]}\n";

    #[test]
    fn every_field_has_its_line() {
        let documents = read(TEXT).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].line("spec.programs[0].attempts"), 6);
        assert_eq!(documents[0].line("spec.programs[0].maxRunTime"), 5);
        assert_eq!(documents[1].line("spec.members[1]"), 9);
        assert_eq!(documents[0].value["spec"]["version"], "2.10");
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for (text, line) in [("a: 1\na: 2\n", 2), ("1: x\n", 1), ("a: !x y\n", 1)] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({
            "version": "2.10", "yes": "yes", "null": "null", "date": "2027-01-01T00:00:00Z",
            "text": "two\nlines: # no comment", "empty": "", "list": [], "map": {}, "n": 3,
            "nested": [{"a": [1, {"b": "c"}]}], "quote": "it's \"so\"", "tilde": "~", "hex": "0x10",
        });
        let text = write(&value);
        assert_eq!(read(&text).unwrap()[0].value, value, "{text}");
    }

    #[test]
    fn an_empty_document_is_left_out() {
        assert_eq!(read("---\n---\n# nothing\n").unwrap(), []);
    }
}
