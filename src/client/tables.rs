//! Tables: made, listed, described, altered and dropped. A change is safe to repeat: the servers
//! know the attempts of one request by its id, and make it once.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::types::{Epoch, Sloppy, TableId, TableKind, limits};
use crate::wire::proto::v1;

use super::Error;
use super::call::{Core, Operation, Try};
use super::convert::malformed;
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_status;

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// Its number, never given to another.
    pub id: TableId,
    /// Its name.
    pub name: String,
    /// What it promises about concurrent writes.
    pub kind: TableKind,
    /// Copies of each key.
    pub n: u8,
    /// Read quorum of requests that name none.
    pub r: u8,
    /// Write quorum of requests that name none.
    pub w: u8,
    /// Read floor.
    pub r_min: u8,
    /// Write floor.
    pub w_min: u8,
    /// Whether stand-ins may count.
    pub sloppy: Sloppy,
    /// Default time to live.
    pub ttl: Option<Duration>,
    /// Largest value, in bytes.
    pub value_bytes_max: u32,
    /// Tables of one class have the same owners.
    pub class: u32,
}

/// All tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableList {
    /// The epoch it was answered at.
    pub epoch: Epoch,
    /// Whether a majority of the council has confirmed that this is the newest there is. If not,
    /// newer tables may be missing and dropped ones may be shown.
    pub confirmed: bool,
    /// In the order in which they were made.
    pub tables: Vec<Table>,
}

/// Requests about tables. Cheap to make.
#[derive(Clone, Debug)]
pub struct Tables {
    core: Arc<Core>,
}

macro_rules! table_request {
    (
        $(#[$doc:meta])* $name:ident { $($field:ident),* } -> $answer:ty,
        $message:ident, $method:ident, $changes:literal, $convert:path
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a request is sent when it is awaited"]
        pub struct $name {
            core: Arc<Core>,
            timeout: Option<Duration>,
            message: v1::$message,
        }

        impl $name {
            fn new(core: Arc<Core> $(, $field: String)*) -> $name {
                let message = v1::$message { $($field,)* ..Default::default() };
                $name { core, timeout: None, message }
            }

            /// Sets how long the request may take over all its attempts; the client's default
            /// when left out.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.timeout = Some(timeout);
                self
            }
        }

        impl Operation for $name {
            type Answer = $answer;

            fn place(&self) -> Place<'_> {
                Place::Anywhere
            }

            fn is_write(&self) -> bool {
                $changes
            }

            fn is_known_by_id(&self) -> bool {
                $changes
            }

            async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<$answer, Error> {
                let mut message = self.message.clone();
                message.header = Some(header(this));
                let mut request = Request::new(message);
                request.set_timeout(this.remaining);
                let answer = endpoint.tables().$method(request).await;
                $convert(answer.map_err(|status| from_status(&status, $changes))?.into_inner())
            }
        }

        impl IntoFuture for $name {
            type Output = Result<$answer, Error>;
            type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(async move { self.core.run(&self, self.timeout).await })
            }
        }
    };
}

table_request!(
    /// Makes a table: `.await` it. Once it is answered, every node serves the table.
    CreateTableRequest { name } -> Option<Table>,
    CreateTableRequest, create, true, changed
);
table_request!(
    /// Gives a table other defaults: `.await` it. What is not set stays as it is.
    AlterTableRequest { name } -> Option<Table>,
    AlterTableRequest, alter, true, changed
);
table_request!(
    /// Drops a table and all its keys, for good: `.await` it for the epoch as of which it is gone.
    DropTableRequest { name } -> Epoch,
    DropTableRequest, drop, true, dropped
);
table_request!(
    /// Asks for one table: `.await` it.
    DescribeTableRequest { name } -> Table,
    DescribeTableRequest, describe, false, described
);
table_request!(
    /// Asks for all tables: `.await` it.
    ListTablesRequest {} -> TableList,
    ListTablesRequest, list, false, listed
);

impl Tables {
    pub(crate) fn new(core: Arc<Core>) -> Tables {
        Tables { core }
    }

    /// Makes a table. Its answer is `None` when an earlier attempt had made it and somebody has
    /// changed it since.
    pub fn create(&self, name: impl Into<String>) -> CreateTableRequest {
        CreateTableRequest::new(self.core.clone(), name.into())
    }

    /// Gives a table other defaults.
    pub fn alter(&self, name: impl Into<String>) -> AlterTableRequest {
        AlterTableRequest::new(self.core.clone(), name.into())
    }

    /// Drops a table and all its keys.
    pub fn drop(&self, name: impl Into<String>) -> DropTableRequest {
        DropTableRequest::new(self.core.clone(), name.into())
    }

    /// Asks for one table.
    pub fn describe(&self, name: impl Into<String>) -> DescribeTableRequest {
        DescribeTableRequest::new(self.core.clone(), name.into())
    }

    /// Asks for all tables.
    pub fn list(&self) -> ListTablesRequest {
        ListTablesRequest::new(self.core.clone())
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $(
            $(#[$doc])*
            pub fn $name(mut self, $name: u8) -> Self {
                self.message.$name = Some($name.into());
                self
            }
        )*
    };
}

impl CreateTableRequest {
    /// Sets what the table promises about concurrent writes; `lww` when left out.
    pub fn kind(mut self, kind: TableKind) -> Self {
        let kind = match kind {
            TableKind::Lww => v1::TableKind::Lww,
            TableKind::Causal => v1::TableKind::Causal,
            TableKind::Linearizable => v1::TableKind::Linearizable,
        };
        self.message.kind = kind.into();
        self
    }

    setters!(
        /// Sets the copies of each key; as many as the table every cluster is born with when left
        /// out.
        n,
        /// Sets the read quorum of requests that name none; a majority when left out.
        r,
        /// Sets the write quorum of requests that name none; a majority when left out.
        w,
        /// Sets the read floor; a majority when left out. Requests below it get no promise.
        r_min,
        /// Sets the write floor; a majority when left out. Requests below it get no promise.
        w_min
    );

    /// Sets whether stand-ins may count; when a request says so, if left out.
    pub fn sloppy(mut self, sloppy: Sloppy) -> Self {
        self.message.sloppy = sloppy_to_wire(sloppy).into();
        self
    }

    /// Sets the default time to live, in whole milliseconds; none when left out.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.message.ttl_ms = millis(ttl).max(1);
        self
    }

    /// Sets the largest value, in bytes; the limit of all values when left out.
    pub fn value_bytes_max(mut self, bytes: u32) -> Self {
        self.message.value_bytes_max = Some(bytes);
        self
    }
}

impl AlterTableRequest {
    /// Sets the read quorum of requests that name none.
    pub fn r(mut self, r: u8) -> Self {
        self.message.r = Some(r.into());
        self
    }

    /// Sets the write quorum of requests that name none.
    pub fn w(mut self, w: u8) -> Self {
        self.message.w = Some(w.into());
        self
    }

    /// Sets whether stand-ins may count.
    pub fn sloppy(mut self, sloppy: Sloppy) -> Self {
        self.message.sloppy = Some(sloppy_to_wire(sloppy).into());
        self
    }

    /// Sets the default time to live, in whole milliseconds; `None` takes it away.
    pub fn ttl(mut self, ttl: Option<Duration>) -> Self {
        self.message.ttl_ms = Some(ttl.map_or(0, |ttl| millis(ttl).max(1)));
        self
    }

    /// Sets the largest value, in bytes.
    pub fn value_bytes_max(mut self, bytes: u32) -> Self {
        self.message.value_bytes_max = Some(bytes);
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn sloppy_to_wire(sloppy: Sloppy) -> v1::Sloppy {
    match sloppy {
        Sloppy::Never => v1::Sloppy::Never,
        Sloppy::Request => v1::Sloppy::Request,
        Sloppy::Always => v1::Sloppy::Always,
    }
}

fn header(this: Try) -> v1::TableHeader {
    let timeout = this.remaining.min(limits::REQUEST_TIMEOUT_MAX).as_millis().max(1);
    let id = this.attempt.map(|attempt| attempt.id.0);
    v1::TableHeader {
        timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
        request_id: id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.to_be_bytes())),
    }
}

fn changed(response: v1::TableResponse) -> Result<Option<Table>, Error> {
    response.table.map(table).transpose()
}

fn dropped(response: v1::TableResponse) -> Result<Epoch, Error> {
    Ok(Epoch(response.epoch))
}

fn described(response: v1::TableResponse) -> Result<Table, Error> {
    table(response.table.ok_or_else(|| malformed("no table"))?)
}

fn listed(response: v1::ListTablesResponse) -> Result<TableList, Error> {
    let tables = response.tables.into_iter().map(table).collect::<Result<_, _>>()?;
    Ok(TableList { epoch: Epoch(response.epoch), confirmed: response.confirmed, tables })
}

fn table(wire: v1::Table) -> Result<Table, Error> {
    let kind = match wire.kind() {
        v1::TableKind::Lww => TableKind::Lww,
        v1::TableKind::Causal => TableKind::Causal,
        v1::TableKind::Linearizable => TableKind::Linearizable,
        v1::TableKind::Unspecified => return Err(malformed("a table of no kind")),
    };
    let sloppy = match wire.sloppy() {
        v1::Sloppy::Never => Sloppy::Never,
        v1::Sloppy::Request => Sloppy::Request,
        v1::Sloppy::Always => Sloppy::Always,
        v1::Sloppy::Unspecified => return Err(malformed("a table without sloppiness")),
    };
    let small = |number: u32| u8::try_from(number).map_err(|_| malformed("a quorum above 255"));
    Ok(Table {
        id: TableId(wire.id),
        kind,
        n: small(wire.n)?,
        r: small(wire.r)?,
        w: small(wire.w)?,
        r_min: small(wire.r_min)?,
        w_min: small(wire.w_min)?,
        sloppy,
        ttl: (wire.ttl_ms > 0).then(|| Duration::from_millis(wire.ttl_ms)),
        value_bytes_max: wire.value_bytes_max,
        class: wire.class,
        name: wire.name,
    })
}
