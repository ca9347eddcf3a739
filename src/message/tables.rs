//! What operators ask about tables, and what they are answered.

use core::time::Duration;
use std::sync::Arc;

use crate::types::{Epoch, RequestId, Sloppy, Table, TableKind, TableName};

/// A table to be made. What is left out has the default that `control::schema` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name.
    pub name: TableName,
    /// Its kind.
    pub kind: TableKind,
    /// Copies of each key; as many as table `default` was born with when left out.
    pub n: Option<u8>,
    /// Default read quorum; a majority, or the read floor where that is more.
    pub r: Option<u8>,
    /// Default write quorum; a majority, or the write floor where that is more.
    pub w: Option<u8>,
    /// Read floor; a majority.
    pub r_min: Option<u8>,
    /// Write floor; a majority.
    pub w_min: Option<u8>,
    /// Whether stand-ins may count; when a request says so, and never on linearizable tables.
    pub sloppy: Option<Sloppy>,
    /// Default time to live; none when left out.
    pub ttl: Option<Duration>,
    /// Largest value, in bytes; the limit of all values when left out.
    pub value_bytes_max: Option<u32>,
}

/// New defaults of a table. What is left out stays. Kind, n and floors never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableAlteration {
    /// Which table.
    pub name: TableName,
    /// Default read quorum.
    pub r: Option<u8>,
    /// Default write quorum.
    pub w: Option<u8>,
    /// Whether stand-ins may count.
    pub sloppy: Option<Sloppy>,
    /// Default time to live; `Some(None)` takes it away.
    pub ttl: Option<Option<Duration>>,
    /// Largest value, in bytes.
    pub value_bytes_max: Option<u32>,
}

/// A change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// Make a table.
    Create(TableSpec),
    /// Give a table other defaults.
    Alter(TableAlteration),
    /// Drop a table and all its keys.
    Drop(TableName),
}

/// What operators may ask about tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRequest {
    /// Change the schema.
    Change {
        /// Chosen by the client, the same over all its attempts: a change that was made is not
        /// made again. 0 is "none".
        id: RequestId,
        /// What to change.
        change: TableChange,
    },
    /// All tables.
    List,
    /// One table.
    Describe(TableName),
}

/// The answer to a change, or about one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReply {
    /// The epoch that the change became; of a question, the epoch it was answered at.
    pub epoch: Epoch,
    /// As in [`TablesReply`]; a change always is.
    pub confirmed: bool,
    /// The table as of that epoch. `None` of a drop, and of a change that was found to have been
    /// made before and has been overtaken since.
    pub table: Option<Table>,
}

/// The answer about all tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablesReply {
    /// The epoch it was answered at.
    pub epoch: Epoch,
    /// Whether a majority of the council has confirmed that nothing newer was decided before the
    /// question. If not, newer tables may be missing and dropped ones may be shown.
    pub confirmed: bool,
    /// All tables, by id.
    pub tables: Arc<[Table]>,
}
