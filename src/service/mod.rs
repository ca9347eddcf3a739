//! The clients' port: gRPC services that turn calls into operations and outcomes into answers.
//! Decides nothing; checks are `wire`'s, answers are the node's.

mod admin;
mod batch;
mod health;
mod kv;
mod ring;
mod scan;
mod session;
mod tables;
mod watch;

use core::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;

use crate::message::Principal;
use crate::runtime::{Handle, incoming};
use crate::types::limits;
use crate::wire::client::Call;
use crate::wire::proto;
use crate::wire::proto::admin::admin_server::AdminServer;
use crate::wire::proto::v1::kv_server::KvServer;
use crate::wire::proto::v1::tables_server::TablesServer;

use admin::AdminService;
use kv::KvService;
use tables::TablesService;

/// Resets of streams by a client that do not count as an attack: a client that times out many calls
/// resets each of them.
const RESETS_MAX: usize = 10_000;
/// Calls and sessions one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 4096;
/// Idle time after which a client's connection is tested, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Serves clients and operators on `listener` until `closing` is cancelled and all calls have ended.
///
/// # Errors
/// The listener failed.
pub async fn serve_clients(
    listener: TcpListener,
    handle: Handle,
    closing: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let most = limits::MESSAGE_BYTES_MAX;
    let kv = KvServer::new(KvService::start(handle.clone()))
        .max_decoding_message_size(most)
        .max_encoding_message_size(most);
    let admin = AdminServer::new(AdminService::new(handle.clone()))
        .max_decoding_message_size(most)
        .max_encoding_message_size(most);
    let tables = TablesServer::new(TablesService::new(handle.clone()))
        .max_decoding_message_size(most)
        .max_encoding_message_size(most);
    let (health, _follower) = health::service(handle.view()).await;
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(kv)
        .add_service(admin)
        .add_service(tables)
        .add_service(health)
        .add_service(reflection!(build_v1))
        .add_service(reflection!(build_v1alpha))
        .serve_with_incoming_shutdown(incoming(listener), closing.cancelled_owned())
        .await
}

/// Reflection in one of its two versions; some clients still speak only the old one.
macro_rules! reflection {
    ($build:ident) => {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .$build()
            .expect("the descriptors are made by this build")
    };
}
use reflection;

/// What the edge knows of a call.
fn call(handle: &Handle, metadata: &MetadataMap) -> Call {
    Call {
        now: handle.now(),
        transport_timeout: metadata
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok())
            .and_then(grpc_timeout),
        default_timeout: handle.default_timeout(),
        principal: Principal::Anonymous,
    }
}

/// Who calls: until there are roles, whoever is at the other end of the connection.
fn principal<T>(request: &Request<T>) -> Principal {
    request.remote_addr().map_or(Principal::Anonymous, |address| {
        let number = xxhash_rust::xxh3::xxh3_64(address.to_string().as_bytes());
        Principal::Connection(number)
    })
}

/// Reads a `grpc-timeout` header: at most eight digits and a unit. A tenth, at most 5 ms, is left
/// for the way back, so that our typed answer arrives before the transport gives up.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout - (timeout / 10).min(Duration::from_millis(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_read_in_all_its_units() {
        assert_eq!(grpc_timeout("100m"), Some(Duration::from_millis(95)));
        assert_eq!(grpc_timeout("1S"), Some(Duration::from_millis(995)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_millis(359_999_996_400_000 - 5)));
        for bad in ["", "m", "1", "1x", "-1m", "999999999m", "é"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
