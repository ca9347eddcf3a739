//! The question what would be lost if members stopped.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use tonic::Request;

use crate::types::Epoch;
use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::endpoint::Endpoint;
use super::status_error::from_status;

/// What would be if members stopped, with those who are away already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// The state it was judged by.
    pub epoch: Epoch,
    /// The node that answered.
    pub me: String,
    /// Who would stop.
    pub gone: Vec<String>,
    /// Who does not answer now besides.
    pub down: Vec<String>,
    /// Why it is not safe; it is when there are none.
    pub reasons: Vec<OutageReason>,
    /// What should be known.
    pub warnings: Vec<OutageReason>,
    /// Table by table.
    pub lines: Vec<OutageLine>,
    /// Units that could not do all they can now; at most 65,536.
    pub units: Vec<OutageUnit>,
    /// Who would stand in, for how many units.
    pub stand_ins: Vec<(String, u32)>,
    /// Who of those away could be replaced, and by whom.
    pub replaced: Vec<(String, Option<String>)>,
    /// Bytes of hints that would be kept for them; `None`: not known.
    pub hint_bytes: Option<u64>,
    /// Bytes of hints that the others have room for.
    pub hint_room: u64,
}

impl Outage {
    /// Whether nothing is lost.
    pub fn is_safe(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Why it is not safe, or what should be known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageReason {
    /// `data`, `writes`, `reads`, `linearizable`, `council`, `plan` or `hints`.
    pub kind: String,
    /// In words.
    pub text: String,
    /// How many units; 0 where it is not about units.
    pub units: u32,
    /// The first of them: class and partition.
    pub examples: Vec<(u32, u32)>,
    /// Whose.
    pub tables: Vec<String>,
}

/// Tables of a class that ask for the same quorums.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageLine {
    /// Their class.
    pub class: u32,
    /// Their names.
    pub tables: Vec<String>,
    /// `lww`, `causal` or `linearizable`.
    pub kind: String,
    /// Copies.
    pub n: u32,
    /// What a read needs.
    pub r: u32,
    /// What a write needs.
    pub w: u32,
    /// Partitions.
    pub partitions: u32,
    /// So many could be written.
    pub writable: u32,
    /// Of those, by stand-ins alone.
    pub by_stand_ins: u32,
    /// So many could be read.
    pub readable: u32,
    /// So many would have one complete owner left.
    pub last_copy: u32,
    /// So many none.
    pub lost: u32,
}

/// A unit that could not do all it can now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageUnit {
    /// Its class.
    pub class: u32,
    /// Its partition.
    pub partition: u32,
    /// It could not be written.
    pub writes: bool,
    /// It could not be read.
    pub reads: bool,
    /// No complete owner would be left.
    pub lost: bool,
}

/// Asks what would be if members stopped: `.await` it. Changes nothing.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct OutageRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    ask: admin::OutageRequest,
}

impl OutageRequest {
    pub(crate) fn new(core: Arc<Core>, nodes: Vec<String>) -> OutageRequest {
        let ask = admin::OutageRequest { nodes, lasts_ms: 3_600_000, ..Default::default() };
        OutageRequest { core, timeout: None, ask }
    }

    /// And all members of a zone.
    pub fn zone(mut self, zone: impl Into<String>) -> OutageRequest {
        self.ask.zones.push(zone.into());
        self
    }

    /// How long they would be away; an hour when left out.
    pub fn lasts(mut self, lasts: Duration) -> OutageRequest {
        self.ask.lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// How long it may take.
    pub fn timeout(mut self, timeout: Duration) -> OutageRequest {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for OutageRequest {
    type Answer = Outage;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Outage, Error> {
        let mut request = Request::new(self.ask.clone());
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().outage(request).await;
        let answer = answer.map_err(|status| from_status(&status, false))?;
        Ok(outage(answer.into_inner()))
    }
}

impl IntoFuture for OutageRequest {
    type Output = Result<Outage, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn outage(answer: admin::OutageResponse) -> Outage {
    let by = |by: String| (!by.is_empty()).then_some(by);
    Outage {
        epoch: Epoch(answer.epoch),
        me: answer.me,
        gone: answer.gone,
        down: answer.down,
        reasons: answer.reasons.into_iter().map(reason).collect(),
        warnings: answer.warnings.into_iter().map(reason).collect(),
        lines: answer.lines.into_iter().map(line).collect(),
        units: answer.units.into_iter().map(unit).collect(),
        stand_ins: answer.stand_ins.into_iter().map(|it| (it.node, it.units)).collect(),
        replaced: answer.replaced.into_iter().map(|it| (it.node, by(it.by))).collect(),
        hint_bytes: answer.hint_bytes,
        hint_room: answer.hint_room,
    }
}

fn reason(it: admin::outage_response::Reason) -> OutageReason {
    OutageReason {
        kind: it.kind,
        text: it.text,
        units: it.units,
        examples: it.examples.into_iter().map(|at| (at.class, at.partition)).collect(),
        tables: it.tables,
    }
}

fn line(it: admin::outage_response::Line) -> OutageLine {
    OutageLine {
        class: it.class,
        tables: it.tables,
        kind: it.kind,
        n: it.n,
        r: it.r,
        w: it.w,
        partitions: it.partitions,
        writable: it.writable,
        by_stand_ins: it.by_stand_ins,
        readable: it.readable,
        last_copy: it.last_copy,
        lost: it.lost,
    }
}

fn unit(it: admin::outage_response::Unit) -> OutageUnit {
    OutageUnit {
        class: it.class,
        partition: it.partition,
        writes: it.writes,
        reads: it.reads,
        lost: it.lost,
    }
}

#[cfg(test)]
impl OutageLine {
    /// Of the first class, for tests of how it is shown.
    pub(crate) fn of(
        table: &str,
        (n, r, w): (u32, u32, u32),
        (partitions, writable, readable, last_copy): (u32, u32, u32, u32),
    ) -> OutageLine {
        let (tables, kind) = (vec![table.to_owned()], "lww".to_owned());
        let (class, by_stand_ins, lost) = (0, 0, 0);
        OutageLine {
            class,
            tables,
            kind,
            n,
            r,
            w,
            partitions,
            writable,
            by_stand_ins,
            readable,
            last_copy,
            lost,
        }
    }
}

#[cfg(test)]
impl OutageReason {
    /// With one example, for tests of how it is shown.
    pub(crate) fn of(kind: &str, text: &str, units: u32) -> OutageReason {
        let (kind, text) = (kind.to_owned(), text.to_owned());
        OutageReason { kind, text, units, examples: vec![(0, 7)], tables: Vec::new() }
    }
}

#[cfg(test)]
impl Outage {
    /// Of a cluster in which n3 is down, for tests of how it is shown.
    pub(crate) fn of(
        epoch: Epoch,
        gone: Vec<String>,
        (reasons, lines, units): (Vec<OutageReason>, Vec<OutageLine>, Vec<OutageUnit>),
    ) -> Outage {
        Outage {
            epoch,
            me: "n1".to_owned(),
            replaced: gone.iter().map(|name| (name.clone(), None)).collect(),
            gone,
            down: vec!["n3".to_owned()],
            reasons,
            warnings: Vec::new(),
            lines,
            units,
            stand_ins: Vec::new(),
            hint_bytes: None,
            hint_room: 1 << 30,
        }
    }
}
