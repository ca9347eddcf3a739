//! Asking a member to be taken in, from a node that is none yet.

use std::sync::Arc;

use tokio::time::timeout;

use crate::message::{ErrorCode, OpError};
use crate::types::{ClusterState, limits};
use crate::wire::error::error_of;
use crate::wire::join::{JoinCall, join_to_wire, joined_from_wire};
use crate::wire::proto::peer::peer_client::PeerClient;

use super::TransportConfig;
use super::connect::{Connector, endpoint};

/// How long a member may take to have the cluster decide.
const ANSWER_TIMEOUT: core::time::Duration = core::time::Duration::from_secs(10);

/// Asks the member at `address` (`host:port` for peers). Safe to repeat.
///
/// # Errors
/// What the member said, or why it could not be asked: [`ErrorCode::NotReady`].
pub async fn join<C: Connector>(
    connector: C,
    config: &TransportConfig,
    address: &str,
    call: &JoinCall,
) -> Result<Arc<ClusterState>, OpError> {
    let silent = |why: String| OpError::new(ErrorCode::NotReady, format!("{address}: {why}"));
    let endpoint = endpoint(address, config).map_err(silent)?;
    let channel = timeout(config.connect_timeout, connector.connect(endpoint))
        .await
        .map_err(|_| silent("connecting took too long".to_owned()))?
        .map_err(|error| silent(error.to_string()))?;
    let mut client = PeerClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let answer = timeout(ANSWER_TIMEOUT, client.join(join_to_wire(call)))
        .await
        .map_err(|_| silent("no answer in time".to_owned()))?
        .map_err(|status| error_of(&status))?;
    let state = joined_from_wire(answer.into_inner());
    state.map(Arc::new).map_err(|malformed| silent(malformed.to_string()))
}
