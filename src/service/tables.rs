//! `roundtable.v1.Tables`: what is asked about tables.

use tonic::{Request, Response, Status};

use crate::message::{OpError, Reply};
use crate::runtime::Handle;
use crate::wire::client::{Call, mismatched};
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;
use crate::wire::proto::v1::tables_server::Tables;
use crate::wire::tables::{
    Asked, alter_from_wire, create_from_wire, describe_from_wire, drop_from_wire, list_from_wire,
    table_to_wire, tables_to_wire,
};

use super::call;

/// The tables' plane.
pub(super) struct TablesService {
    handle: Handle,
}

impl TablesService {
    pub(super) fn new(handle: Handle) -> TablesService {
        TablesService { handle }
    }

    async fn run<T>(
        &self,
        request: Request<T>,
        decode: fn(&Call, T) -> Result<Asked, OpError>,
    ) -> Result<Reply, Status> {
        let call = call(&self.handle, request.metadata());
        let asked = decode(&call, request.into_inner());
        let (deadline, request) = asked.map_err(|error| status_of(&error))?;
        self.handle.admin(deadline, request).await.map_err(|error| status_of(&error))
    }

    async fn table<T>(
        &self,
        request: Request<T>,
        decode: fn(&Call, T) -> Result<Asked, OpError>,
    ) -> Result<Response<pb::TableResponse>, Status> {
        match self.run(request, decode).await? {
            Reply::Table(reply) => Ok(Response::new(table_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }
}

#[tonic::async_trait]
impl Tables for TablesService {
    async fn create(
        &self,
        request: Request<pb::CreateTableRequest>,
    ) -> Result<Response<pb::TableResponse>, Status> {
        self.table(request, create_from_wire).await
    }

    async fn alter(
        &self,
        request: Request<pb::AlterTableRequest>,
    ) -> Result<Response<pb::TableResponse>, Status> {
        self.table(request, alter_from_wire).await
    }

    async fn drop(
        &self,
        request: Request<pb::DropTableRequest>,
    ) -> Result<Response<pb::TableResponse>, Status> {
        self.table(request, drop_from_wire).await
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeTableRequest>,
    ) -> Result<Response<pb::TableResponse>, Status> {
        self.table(request, describe_from_wire).await
    }

    async fn list(
        &self,
        request: Request<pb::ListTablesRequest>,
    ) -> Result<Response<pb::ListTablesResponse>, Status> {
        match self.run(request, list_from_wire).await? {
            Reply::Tables(reply) => Ok(Response::new(tables_to_wire(&reply))),
            _ => Err(status_of(&mismatched())),
        }
    }
}
