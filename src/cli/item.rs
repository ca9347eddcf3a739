//! Keys and values as the command line gives them.

use std::io::Read;

use bytes::Bytes;

use crate::types::{Key, Value, limits};

use super::args::KeyArgs;
use super::exit::Failure;
use super::text::from_base64;

impl KeyArgs {
    /// The key.
    ///
    /// # Errors
    /// Usage: it is no key.
    pub(crate) fn resolve(self) -> Result<Bytes, Failure> {
        key(self.key, self.key_b64)
    }
}

/// The key, from its text or its base64.
pub(crate) fn key(text: Option<String>, b64: Option<String>) -> Result<Bytes, Failure> {
    let bytes = match (text, b64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(b64)) => from_base64("the key", &b64).map_err(Failure::usage)?,
        _ => return Err(Failure::usage("one of KEY and --key-b64 is needed")),
    };
    let key = Key::new(bytes).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(key.bytes().clone())
}

/// Where a value comes from.
pub(crate) enum ValueSource {
    /// As given on the command line.
    Literal(String),
    /// Base64 on the command line.
    Base64(String),
    /// `-`: stdin; `@FILE`: a file; anything else as it is.
    Positional(String),
}

impl ValueSource {
    /// The value.
    ///
    /// # Errors
    /// Usage, when it is over the limit or no base64; internal, when it cannot be read.
    pub(crate) fn read(self) -> Result<Bytes, Failure> {
        let bytes = match self {
            ValueSource::Literal(text) => text.into_bytes(),
            ValueSource::Base64(text) => from_base64("the value", &text).map_err(Failure::usage)?,
            ValueSource::Positional(text) if text == "-" => {
                bounded(std::io::stdin().lock()).map_err(|error| unreadable("stdin", &error))?
            }
            ValueSource::Positional(text) => match text.strip_prefix('@') {
                None => text.into_bytes(),
                Some(path) => std::fs::OpenOptions::new()
                    .read(true)
                    .open(path)
                    .and_then(bounded)
                    .map_err(|error| unreadable(path, &error))?,
            },
        };
        let value = Value::new(bytes).map_err(|_| {
            let limit = limits::VALUE_BYTES_MAX;
            Failure::usage(format!("the value is over the limit of {limit} bytes"))
        })?;
        Ok(value.into_bytes())
    }
}

/// Reads to the end, but not much beyond the limit of a value.
fn bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let most = u64::try_from(limits::VALUE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    source.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn values_come_from_the_line_from_base64_and_from_files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from a file").unwrap();
        let path = format!("@{}", file.path().display());
        let cases = [
            (ValueSource::Literal("@x".to_owned()), "@x"),
            (ValueSource::Positional("x".to_owned()), "x"),
            (ValueSource::Base64("eA==".to_owned()), "x"),
            (ValueSource::Positional(path), "from a file"),
        ];
        for (source, expected) in cases {
            assert_eq!(source.read().unwrap(), expected);
        }
        let missing = ValueSource::Positional("@/no/such/file".to_owned());
        assert!(missing.read().is_err());
    }

    #[test]
    fn a_value_over_the_limit_is_refused_without_reading_it_all() {
        let endless = bounded(std::io::repeat(7)).unwrap();
        assert_eq!(endless.len(), limits::VALUE_BYTES_MAX + 1);
    }
}
