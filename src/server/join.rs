//! How an empty node becomes a member: it draws the nonce it is born with, makes it durable, asks a
//! member to be taken in until it is, and makes the state that it is given durable. Interrupted
//! anywhere, it goes on with the same nonce, and gets the same id.

use core::time::Duration;
use std::sync::{Arc, mpsc};

use anyhow::{Context, bail};
use tokio::time::sleep;

use crate::message::{
    AdminRequest, Applicant, BirthRecord, DiskAnswer, DiskRequest, ErrorCode, MetaRecord, OpError,
    Reply, Restored,
};
use crate::replica::Replica;
use crate::runtime::{Handle, entropy};
use crate::storage::RealVfs;
use crate::transport::{Doorkeeper, TcpConnector, join};
use crate::types::{Addresses, ClusterState, Nonce, limits};
use crate::wire::join::JoinCall;

use super::Settings;
use super::waiting::Waiting;

/// Pause before asking again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the cluster may take to decide.
const DECISION_TIMEOUT: Duration = Duration::from_secs(8);

/// Makes the node of `settings` a member, if it is none yet and is to join. Returns at once otherwise.
/// What it waits for is said to `waiting`.
///
/// # Errors
/// The store does not open or cannot be written; or the cluster refuses for good: another cluster, a
/// name that is taken.
pub(super) async fn become_member(settings: &Settings, waiting: &Waiting) -> anyhow::Result<()> {
    let Some(wish) = &settings.join else { return Ok(()) };
    let (dir, options) = (&settings.data_dir, settings.storage.clone());
    let (replica, restored) = Replica::open(Arc::new(RealVfs), dir, options)?;
    let outcome = async {
        if restored.state.is_some() {
            return Ok(());
        }
        let birth = own_birth(&replica, &restored)?;
        let call = JoinCall {
            cluster_name: settings.node.charter.cluster_name.clone(),
            protocol: (limits::PROTOCOL_MIN, limits::PROTOCOL_MAX),
            applicant: Applicant {
                name: settings.node.name.clone(),
                birth,
                addresses: Addresses {
                    client: settings.node.client_address.clone(),
                    peer: settings.node.peer_address.clone(),
                },
                zone: wish.zone.clone(),
                weight_milli: wish.weight_milli,
                feature_level: limits::FEATURE_LEVEL,
            },
        };
        waiting.joins(&format!("{} is asked to let this node in", wish.address));
        let state = ask((settings, waiting), &wish.address, &call).await?;
        let id = state.member_named(&settings.node.name).map(|member| member.id);
        let id = id.context("the state does not name this node")?;
        tracing::info!(cluster = %state.cluster, epoch = %state.epoch, %id, "joined");
        persist(&replica, MetaRecord::State(state))
    };
    let outcome = outcome.await;
    // The server opens the store again.
    replica.close()?;
    outcome
}

/// The nonce this node was born with: drawn now, if it is new.
fn own_birth(replica: &Replica, restored: &Restored) -> anyhow::Result<Nonce> {
    if let Some(birth) = restored.birth {
        return Ok(birth.nonce);
    }
    if restored.pledge.is_some() {
        bail!("the data directory belongs to a founder that never was in a cluster");
    }
    let mut rng = fastrand::Rng::with_seed(entropy::seed());
    let nonce = Nonce(rng.u128(1..));
    persist(replica, MetaRecord::Birth(BirthRecord { nonce }))?;
    Ok(nonce)
}

fn persist(replica: &Replica, record: MetaRecord) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let done = Box::new(move |result| {
        // The receiver waits below; it cannot be gone.
        let _received = sender.send(result);
    });
    replica.execute(DiskRequest::Persist(vec![record]), done);
    match receiver.recv()? {
        Ok(DiskAnswer::Persisted) => Ok(()),
        Ok(other) => bail!("the disk gave another answer: {other:?}"),
        Err(error) => Err(error.into()),
    }
}

/// Asks until the cluster has said yes, or no for good.
async fn ask(
    (settings, waiting): (&Settings, &Waiting),
    address: &str,
    call: &JoinCall,
) -> anyhow::Result<Arc<ClusterState>> {
    let mut told = None;
    loop {
        match join::join(TcpConnector, &settings.transport, address, call).await {
            Ok(state) => return Ok(state),
            Err(error) if is_final(error.code) => bail!("cannot join: {error}"),
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    tracing::warn!(member = address, why = %text, "waiting to join");
                    waiting.joins(&format!("{address} has not let this node in: {text}"));
                    told = Some(text);
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether asking again cannot help.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::MemberExists
            | ErrorCode::PlanInvalid
            | ErrorCode::ClusterMismatch
            | ErrorCode::ProtocolMismatch
            | ErrorCode::RequestMalformed
    )
}

/// Shows applicants to the node behind a handle.
pub(super) struct Door(pub(super) Handle);

#[tonic::async_trait]
impl Doorkeeper for Door {
    async fn admit(&self, applicant: Applicant) -> Result<Arc<ClusterState>, OpError> {
        let deadline = self.0.now().plus(DECISION_TIMEOUT);
        match self.0.admin(deadline, AdminRequest::Join(Box::new(applicant))).await? {
            Reply::Joined(state) => Ok(state),
            other => Err(OpError::new(ErrorCode::Internal, format!("another answer: {other:?}"))),
        }
    }
}
