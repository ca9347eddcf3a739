//! One key and its value as a line of a file: ndjson or tsv.

use bytes::Bytes;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Map;

use crate::types::{Key, Value, limits};

use super::text;

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// JSON objects with key or key_b64, value or value_b64
    Ndjson,
    /// key, tab, value, with \t \n \r \\ escaped
    Tsv,
}

// Fields that are not known are refused: one that later versions write may mean something that
// must not be dropped in silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
}

/// Reads a line, without its line end.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(format: LineFormat, line: &[u8]) -> Result<(Bytes, Bytes), String> {
    let (key, value) = match format {
        LineFormat::Ndjson => {
            let line: JsonLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            (field("key", line.key, line.key_b64)?, field("value", line.value, line.value_b64)?)
        }
        LineFormat::Tsv => {
            let tab = line.iter().position(|byte| *byte == b'\t').ok_or("there is no tab")?;
            let (key, value) = line.split_at(tab);
            let value = value.get(1..).unwrap_or_default();
            (text::unescape(key)?, text::unescape(value)?)
        }
    };
    let key = Key::new(key).map_err(|error| error.to_string())?.bytes().clone();
    let value = Value::new(value).map_err(|len| {
        format!("value has {len} bytes; the limit is {} bytes", limits::VALUE_BYTES_MAX)
    })?;
    Ok((key, value.into_bytes()))
}

/// One of a field's two forms.
///
/// # Errors
/// There is none, or both, or it is no base64.
pub(super) fn field(
    name: &str,
    text: Option<String>,
    b64: Option<String>,
) -> Result<Vec<u8>, String> {
    match (text, b64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(b64)) => text::from_base64(name, &b64),
        (None, None) => Err(format!("there is neither {name} nor {name}_b64")),
        (Some(_), Some(_)) => Err(format!("there are both {name} and {name}_b64")),
    }
}

/// The ndjson line, without line end, that [`parse`] reads back.
pub(crate) fn ndjson(key: &[u8], value: &[u8]) -> String {
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", key);
    text::put_bytes(&mut object, "value", value);
    serde_json::Value::from(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_exported_is_read_back(key in proptest::collection::vec(any::<u8>(), 1..9),
                                         value: Vec<u8>) {
            let line = ndjson(&key, &value);
            prop_assert!(!line.contains('\n'));
            let read = parse(LineFormat::Ndjson, line.as_bytes()).unwrap();
            prop_assert_eq!(read, (key.into(), value.into()));
        }

        #[test]
        fn no_line_panics(line: Vec<u8>) {
            let _ = parse(LineFormat::Ndjson, &line);
            let _ = parse(LineFormat::Tsv, &line);
        }
    }

    #[test]
    fn tsv_takes_the_first_tab_as_the_separator() {
        let read = parse(LineFormat::Tsv, b"a\\tb\tc\\n").unwrap();
        assert_eq!(read, ("a\tb".into(), "c\n".into()));
        assert!(parse(LineFormat::Tsv, b"no tab").is_err());
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let cases = [
            (r#"{"key":"k"}"#, "neither value nor value_b64"),
            (r#"{"key":"k","key_b64":"aw==","value":""}"#, "both key and key_b64"),
            (r#"{"key":"","value":""}"#, "key is empty"),
            (r#"{"key":"k","value":"v","ttl":1}"#, "unknown field `ttl`"),
            (r#"{"key":"k","value_b64":"*"}"#, "not base64"),
            ("nonsense", "expected"),
        ];
        for (line, expected) in cases {
            let error = parse(LineFormat::Ndjson, line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
