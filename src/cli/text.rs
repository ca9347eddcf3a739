//! Bytes as text, both ways: JSON fields, base64, and the escapes of plain output and tsv.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::client::{Receipt, Stamp};
use crate::types::WallTime;

/// Adds `name` to `object` when `bytes` are UTF-8, `name_b64` when they are not.
pub(crate) fn put_bytes(object: &mut Map<String, Json>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_b64"), STANDARD.encode(bytes).into()),
    };
}

/// Reads base64.
///
/// # Errors
/// What is wrong, naming `what`.
pub(crate) fn from_base64(what: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{what} is not base64: {error}"))
}

/// Writes base64.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Escapes tab, newline, carriage return and backslash.
pub(crate) fn escape(bytes: &[u8]) -> Cow<'_, [u8]> {
    let needs = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b'\\');
    if !bytes.iter().any(needs) {
        return Cow::Borrowed(bytes);
    }
    let mut escaped = Vec::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            b'\t' => escaped.extend(b"\\t"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            b'\\' => escaped.extend(b"\\\\"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// The inverse of [`escape`].
///
/// # Errors
/// A backslash is followed by something else.
pub(crate) fn unescape(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        plain.push(match rest.next() {
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'\\') => b'\\',
            Some(other) => return Err(format!("unknown escape \\{}", other.escape_ascii())),
            None => return Err("a backslash at the end".to_owned()),
        });
    }
    Ok(plain)
}

/// A stamp for scripts: 32 hex digits that sort as stamps do.
pub(crate) fn stamp(stamp: Stamp) -> String {
    format!("{:032x}", u128::from_be_bytes(stamp.to_bytes()))
}

/// When a value expires, in milliseconds of Unix time; null: never.
pub(crate) fn expires_ms(expires: Option<WallTime>) -> Json {
    expires.map_or(Json::Null, |at| (at.0 / 1_000_000).into())
}

/// A receipt as JSON.
pub(crate) fn receipt(receipt: &Receipt) -> Json {
    let places = |bits: u16| (0..16).filter(|bit| bits >> bit & 1 == 1).collect::<Vec<u32>>();
    json!({
        "epoch": receipt.epoch.0,
        "stamp": stamp(receipt.stamp),
        "answered": places(receipt.answered),
        "stand_ins": places(receipt.stand_ins),
        "may_miss": receipt.may_miss,
        "n": receipt.n,
        "needed": receipt.needed,
        "weak": receipt.weak,
        "repaired": receipt.repaired,
        "many_siblings": receipt.many_siblings,
        "client_time": receipt.stamp.is_of_client(),
        "superseded": receipt.superseded_by.is_some(),
        "superseded_by": receipt.superseded_by.map(stamp),
        "server_time": receipt.server_time.0.to_string(),
        "trace_id": receipt.trace.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escapes_read_back_and_leave_no_separator(bytes: Vec<u8>) {
            let escaped = escape(&bytes);
            prop_assert!(!escaped.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')));
            prop_assert_eq!(unescape(&escaped).unwrap(), bytes);
        }
    }

    #[test]
    fn unknown_escapes_are_refused() {
        assert!(unescape(b"a\\x").is_err() && unescape(b"a\\").is_err());
    }

    #[test]
    fn json_shows_text_as_text_and_other_bytes_in_base64() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", b"plain");
        put_bytes(&mut object, "value", &[0xff]);
        assert_eq!(Json::from(object), json!({ "key": "plain", "value_b64": "/w==" }));
    }
}
