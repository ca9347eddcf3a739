//! As much of etcd's protocol as two calls need: messages with the fields that are used, by the numbers
//! of its public `rpc.proto` and `kv.proto`. What is not named is skipped.

use bytes::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// Without `serializable` a range is read with a majority: as fresh as what R + W > N promises.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

/// One member, over one connection.
#[derive(Clone)]
pub(crate) struct Etcd(Channel);

impl Etcd {
    /// A connection that is made when it is needed.
    pub(crate) fn new(address: &str) -> anyhow::Result<Etcd> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(Etcd(endpoint.tcp_nodelay(true).connect_lazy()))
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        let closed = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
        grpc.ready().await.map_err(closed)?;
        let request = tonic::Request::new(request);
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), tonic::Status> {
        let request = PutRequest { key, value };
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    /// The value, if there is one.
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<Bytes>, tonic::Status> {
        let request = RangeRequest { key };
        let found: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.into_iter().next().map(|found| found.value))
    }
}
