//! A table: its kind, its replication parameters and its floors.

use core::fmt;
use core::time::Duration;
use serde::{Deserialize, Serialize};

use super::{ClassId, TableId, limits};

/// What a table promises about concurrent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Registers; the highest stamp wins.
    Lww,
    /// All concurrent writes are kept as siblings.
    Causal,
    /// Reads and writes behave as on one copy.
    Linearizable,
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableKind::Lww => "lww",
            TableKind::Causal => "causal",
            TableKind::Linearizable => "linearizable",
        })
    }
}

/// Whether stand-ins may count towards a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sloppy {
    /// Never.
    Never,
    /// When the request says so.
    Request,
    /// Always.
    Always,
}

impl fmt::Display for Sloppy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sloppy::Never => "never",
            Sloppy::Request => "request",
            Sloppy::Always => "always",
        })
    }
}

/// A table's name: `[a-z0-9_-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TableName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let fits = (1..=limits::TABLE_NAME_BYTES_MAX).contains(&text.len());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if fits && text.bytes().all(plain) {
            Ok(TableName(text))
        } else {
            Err(format!(
                "table name {text:?} is not [a-z0-9_-]{{1,{}}}",
                limits::TABLE_NAME_BYTES_MAX
            ))
        }
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> String {
        name.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One table. `r` and `w` are the defaults of requests; `r_min` and `w_min` are the floors below
/// which a request is served with a `weak` receipt and no promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub id: TableId,
    /// Its name.
    pub name: TableName,
    /// Its kind.
    pub kind: TableKind,
    /// The class that carries n and the floors.
    pub class: ClassId,
    /// Copies of each key.
    pub n: u8,
    /// Default read quorum.
    pub r: u8,
    /// Default write quorum.
    pub w: u8,
    /// Read floor.
    pub r_min: u8,
    /// Write floor.
    pub w_min: u8,
    /// Whether stand-ins may count.
    pub sloppy: Sloppy,
    /// Default time to live.
    pub ttl: Option<Duration>,
    /// Largest value, in bytes; at most [`limits::VALUE_BYTES_MAX`].
    pub value_bytes_max: u32,
}

impl Table {
    /// Checks the floors and quorums against each other (design: floors).
    ///
    /// # Errors
    /// The first rule that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        let Table { n, r, w, r_min, w_min, .. } = *self;
        if n == 0 || n > limits::REPLICAS_MAX {
            return Err(format!("n is {n}; it must be 1..={}", limits::REPLICAS_MAX));
        }
        for (name, value) in [("r", r), ("w", w), ("r_min", r_min), ("w_min", w_min)] {
            if value == 0 || value > n {
                return Err(format!("{name} is {value}; it must be 1..={n}"));
            }
        }
        if r_min + w_min <= n {
            return Err(format!("r_min + w_min is {}; it must be above n = {n}", r_min + w_min));
        }
        if 2 * w_min <= n {
            return Err(format!("2 w_min is {}; it must be above n = {n}", 2 * w_min));
        }
        if n >= 3 && r_min < 2 {
            return Err("r_min is 1; it must be at least 2 when n >= 3".to_owned());
        }
        Ok(())
    }
}
