//! Questions about tables and changes of them, between `message` and `proto/kv.proto`. Fields are
//! checked one by one here; whether they fit each other and the cluster is `control::schema`'s.

use core::time::Duration;

use crate::message::{
    AdminRequest, ErrorCode, OpError, TableAlteration, TableChange, TableReply, TableRequest,
    TableSpec, TablesReply,
};
use crate::types::{RequestId, Sloppy, Table, TableKind, TableName, Time, limits};

use super::client::{Call, id_from_wire};
use super::proto::v1 as pb;

/// A question or change, and when its answer is no longer wanted.
pub type Asked = (Time, AdminRequest);

fn invalid(text: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::TableInvalid, text)
}

fn header(call: &Call, header: Option<pb::TableHeader>) -> Result<(Time, RequestId), OpError> {
    let header = header.unwrap_or_default();
    let id = RequestId(id_from_wire(&header.request_id, "request_id")?);
    Ok((call.deadline(header.timeout_ms)?, id))
}

fn name(name: String) -> Result<TableName, OpError> {
    TableName::try_from(name).map_err(|text| OpError::new(ErrorCode::TableNameInvalid, text))
}

fn quorum(number: Option<u32>, what: &str) -> Result<Option<u8>, OpError> {
    let Some(number) = number else { return Ok(None) };
    let most = limits::REPLICAS_MAX;
    match u8::try_from(number) {
        Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
        Ok(_) | Err(_) => Err(invalid(format!("{what} is {number}; it must be 1..={most}"))),
    }
}

fn kind(kind: i32) -> Result<TableKind, OpError> {
    match pb::TableKind::try_from(kind) {
        Ok(pb::TableKind::Unspecified | pb::TableKind::Lww) => Ok(TableKind::Lww),
        Ok(pb::TableKind::Causal) => Ok(TableKind::Causal),
        Ok(pb::TableKind::Linearizable) => Ok(TableKind::Linearizable),
        Err(_) => Err(invalid(format!("there is no kind of table {kind}"))),
    }
}

fn sloppy(sloppy: i32) -> Result<Option<Sloppy>, OpError> {
    match pb::Sloppy::try_from(sloppy) {
        Ok(pb::Sloppy::Unspecified) => Ok(None),
        Ok(pb::Sloppy::Never) => Ok(Some(Sloppy::Never)),
        Ok(pb::Sloppy::Request) => Ok(Some(Sloppy::Request)),
        Ok(pb::Sloppy::Always) => Ok(Some(Sloppy::Always)),
        Err(_) => Err(invalid(format!("sloppy is {sloppy}"))),
    }
}

/// A table's default; its bounds are the schema's business.
fn ttl(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn change(id: RequestId, change: TableChange) -> AdminRequest {
    AdminRequest::Table(Box::new(TableRequest::Change { id, change }))
}

/// A table to be made.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn create_from_wire(call: &Call, ask: pb::CreateTableRequest) -> Result<Asked, OpError> {
    let (deadline, id) = header(call, ask.header)?;
    let spec = TableSpec {
        name: name(ask.name)?,
        kind: kind(ask.kind)?,
        n: quorum(ask.n, "n")?,
        r: quorum(ask.r, "r")?,
        w: quorum(ask.w, "w")?,
        r_min: quorum(ask.r_min, "r_min")?,
        w_min: quorum(ask.w_min, "w_min")?,
        sloppy: sloppy(ask.sloppy)?,
        ttl: ttl(ask.ttl_ms),
        value_bytes_max: ask.value_bytes_max,
    };
    Ok((deadline, change(id, TableChange::Create(spec))))
}

/// New defaults of a table.
///
/// # Errors
/// The first field that is outside its bounds, or there is nothing to alter.
pub fn alter_from_wire(call: &Call, ask: pb::AlterTableRequest) -> Result<Asked, OpError> {
    let (deadline, id) = header(call, ask.header)?;
    let alteration = TableAlteration {
        name: name(ask.name)?,
        r: quorum(ask.r, "r")?,
        w: quorum(ask.w, "w")?,
        sloppy: ask.sloppy.map_or(Ok(None), sloppy)?,
        ttl: ask.ttl_ms.map(ttl),
        value_bytes_max: ask.value_bytes_max,
    };
    let TableAlteration { r, w, sloppy, ttl, value_bytes_max, .. } = &alteration;
    if r.is_none() && w.is_none() && sloppy.is_none() && ttl.is_none() && value_bytes_max.is_none()
    {
        return Err(invalid("there is nothing to alter: r, w, sloppy, ttl or value_bytes_max"));
    }
    Ok((deadline, change(id, TableChange::Alter(alteration))))
}

/// A table to be dropped.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn drop_from_wire(call: &Call, ask: pb::DropTableRequest) -> Result<Asked, OpError> {
    let (deadline, id) = header(call, ask.header)?;
    Ok((deadline, change(id, TableChange::Drop(name(ask.name)?))))
}

/// A question about one table.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn describe_from_wire(call: &Call, ask: pb::DescribeTableRequest) -> Result<Asked, OpError> {
    let (deadline, _) = header(call, ask.header)?;
    let request = TableRequest::Describe(name(ask.name)?);
    Ok((deadline, AdminRequest::Table(Box::new(request))))
}

/// A question about all tables.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn list_from_wire(call: &Call, ask: pb::ListTablesRequest) -> Result<Asked, OpError> {
    let (deadline, _) = header(call, ask.header)?;
    Ok((deadline, AdminRequest::Table(Box::new(TableRequest::List))))
}

/// The answer to a change, or about one table.
pub fn table_to_wire(reply: TableReply) -> pb::TableResponse {
    let TableReply { epoch, confirmed, table } = reply;
    pb::TableResponse { epoch: epoch.0, confirmed, table: table.as_ref().map(to_wire) }
}

/// The answer about all tables.
pub fn tables_to_wire(reply: &TablesReply) -> pb::ListTablesResponse {
    pb::ListTablesResponse {
        epoch: reply.epoch.0,
        confirmed: reply.confirmed,
        tables: reply.tables.iter().map(to_wire).collect(),
    }
}

fn to_wire(table: &Table) -> pb::Table {
    let kind = match table.kind {
        TableKind::Lww => pb::TableKind::Lww,
        TableKind::Causal => pb::TableKind::Causal,
        TableKind::Linearizable => pb::TableKind::Linearizable,
    };
    let sloppy = match table.sloppy {
        Sloppy::Never => pb::Sloppy::Never,
        Sloppy::Request => pb::Sloppy::Request,
        Sloppy::Always => pb::Sloppy::Always,
    };
    let ttl_ms = table.ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    pb::Table {
        id: table.id.0,
        name: table.name.as_str().to_owned(),
        kind: kind.into(),
        n: table.n.into(),
        r: table.r.into(),
        w: table.w.into(),
        r_min: table.r_min.into(),
        w_min: table.w_min.into(),
        sloppy: sloppy.into(),
        ttl_ms,
        value_bytes_max: table.value_bytes_max,
        class: table.class.0.into(),
    }
}
