//! The question what is known of a key: one node is asked, and asks the others.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::types::{Epoch, Stamp, WallTime};
use crate::wire::proto::admin;
use crate::wire::proto::admin::explain_response as pb;

use super::Error;
use super::call::{Core, Operation, Try};
use super::convert::{malformed, stamp};
use super::data::checked_key;
use super::endpoint::Endpoint;
use super::status_error::from_status;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The node that answered, and had asked the others.
    pub me: String,
    /// The newest epoch it knows to be in force.
    pub epoch: Epoch,
    /// The class of the table.
    pub class: u32,
    /// The partition that holds the key.
    pub partition: u32,
    /// The last epoch in which that partition's owners changed.
    pub changed_at: Epoch,
    /// `lww`, `causal` or `linearizable`.
    pub kind: String,
    /// The stamp of the newest version that anybody told of; `None` when nobody holds one, and in
    /// causal tables.
    pub newest: Option<Stamp>,
    /// Whether all owners hold the same; `None` when those that told do, and some did not tell.
    pub agree: Option<bool>,
    /// All of it in one sentence.
    pub in_all: String,
    /// The key's owners, in preference order.
    pub owners: Vec<OwnerCopy>,
    /// Members that did not tell, by name, and why: hints they keep are not known.
    pub silent: Vec<(String, String)>,
}

/// One owner of a key, and what is known of its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerCopy {
    /// Its name.
    pub node: String,
    /// `alive`, `suspect`, `down` or `left`, as the node that answered sees it.
    pub state: String,
    /// Its copy, or why it did not tell.
    pub copy: Result<OwnCopy, String>,
    /// Whether what it told is durable on its disk; `None` when that is not known.
    pub durable: Option<bool>,
    /// What others keep for it: by whom, and which version.
    pub hints: Vec<(String, HeldVersion)>,
    /// `newest`, `nothing`, `hinted`, `stale`, `missing`, `same`, `differs`, `silent` or `untold`.
    pub verdict: String,
    /// The same in words.
    pub why: String,
}

/// A node's own copy of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnCopy {
    /// It cannot be told; says why.
    Untold(String),
    /// Of a linearizable table.
    Register(RegisterFacts),
    /// Of a table where the highest stamp wins; `None` when it holds nothing, not even a tombstone.
    Version(Option<HeldVersion>),
    /// Of a causal table; empty when it holds none.
    Siblings(Vec<SiblingVersion>),
}

/// A version, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldVersion {
    /// Its place in the order of versions.
    pub stamp: Stamp,
    /// Bytes of its value; 0 for a tombstone.
    pub bytes: u64,
    /// It is a delete.
    pub tombstone: bool,
    /// When it ceases to be visible.
    pub expires: Option<WallTime>,
}

/// What an acceptor of a linearizable table holds, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisterFacts {
    /// The highest ballot it has promised itself to; zero when none.
    pub promised: Stamp,
    /// The ballot under which it has accepted a state last; zero when none.
    pub accepted: Stamp,
    /// That state; `None` when it has accepted none.
    pub version: Option<HeldVersion>,
}

/// A sibling, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiblingVersion {
    /// The name of the write that made it.
    pub dot: String,
    /// The stamp of that write.
    pub stamp: Stamp,
    /// Bytes of its value.
    pub bytes: u64,
    /// When it ceases to be visible.
    pub expires: Option<WallTime>,
}

/// Asks what is known of a key: `.await` it. One node is asked, which is up to the picker; it asks the
/// others, and waits for them two fifths of the timeout, two seconds at most. Changes nothing.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct ExplainRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    table: String,
    key: Bytes,
}

impl ExplainRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes) -> ExplainRequest {
        ExplainRequest { core, timeout: None, table: String::new(), key }
    }

    /// Sets how long the request may take over all its attempts; the client's default when left
    /// out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Chooses the table; "default" when left out.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }
}

impl Operation for ExplainRequest {
    type Answer = Explanation;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Explanation, Error> {
        let key = checked_key(self.key.clone())?;
        let mut request = Request::new(admin::ExplainRequest { table: self.table.clone(), key });
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().explain(request).await;
        explanation(answer.map_err(|status| from_status(&status, false))?.into_inner())
    }
}

impl IntoFuture for ExplainRequest {
    type Output = Result<Explanation, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn explanation(answer: admin::ExplainResponse) -> Result<Explanation, Error> {
    let newest = Some(stamp(&answer.newest)?).filter(|newest| *newest != Stamp::ZERO);
    let kind = answer.kind;
    let owners = answer.owners.into_iter().map(|told| owner(told, &kind));
    let owners = owners.collect::<Result<_, Error>>()?;
    Ok(Explanation {
        me: answer.me,
        epoch: Epoch(answer.epoch),
        class: answer.class,
        partition: answer.partition,
        changed_at: Epoch(answer.changed_at),
        newest,
        agree: answer.agree,
        in_all: answer.in_all,
        owners,
        kind,
        silent: answer.silent.into_iter().map(|silent| (silent.node, silent.why)).collect(),
    })
}

fn owner(told: pb::Owner, kind: &str) -> Result<OwnerCopy, Error> {
    let hint = |hint: pb::Hint| {
        let kept = hint.version.ok_or_else(|| malformed("a hint without a version"))?;
        Ok((hint.holder, version(kept)?))
    };
    let copy = if !told.unanswered.is_empty() {
        Err(told.unanswered)
    } else if !told.untold.is_empty() {
        Ok(OwnCopy::Untold(told.untold))
    } else if kind == "causal" {
        let siblings = told.siblings.into_iter().map(sibling).collect::<Result<_, _>>()?;
        Ok(OwnCopy::Siblings(siblings))
    } else if let Some(held) = told.register {
        Ok(OwnCopy::Register(RegisterFacts {
            promised: stamp(&held.promised)?,
            accepted: stamp(&held.accepted)?,
            version: held.version.map(version).transpose()?,
        }))
    } else {
        Ok(OwnCopy::Version(told.version.map(version).transpose()?))
    };
    Ok(OwnerCopy {
        node: told.node,
        state: told.state,
        copy,
        durable: told.durable,
        hints: told.hints.into_iter().map(hint).collect::<Result<_, Error>>()?,
        verdict: told.verdict,
        why: told.why,
    })
}

fn version(facts: pb::Version) -> Result<HeldVersion, Error> {
    Ok(HeldVersion {
        stamp: stamp(&facts.stamp)?,
        bytes: facts.bytes,
        tombstone: facts.tombstone,
        expires: facts.expires_ns.map(WallTime),
    })
}

fn sibling(facts: pb::Sibling) -> Result<SiblingVersion, Error> {
    Ok(SiblingVersion {
        dot: facts.dot,
        stamp: stamp(&facts.stamp)?,
        bytes: facts.bytes,
        expires: facts.expires_ns.map(WallTime),
    })
}
