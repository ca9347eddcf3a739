//! One client that asks a node for far more than it takes, all at once: its share is bounded, and others
//! find room.

use fastrand::Rng;
use roundtable::message::{
    Bound, ClientBody, ClientRequest, ClientResult, Event, Get, Principal, QuorumMode,
};
use roundtable::node::NodeConfig;
use roundtable::types::TraceId;

use crate::client::keys;
use crate::judge::{Checker, share_fault, taken_fault};
use crate::plan::{MS, SECOND, exponential};

use super::schema::Asked;
use super::{Happening, Stage, World};

/// The number of the client that floods; those of others count from 0.
const FLOODER: u64 = u64::MAX;

/// How often a node is flooded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloodPlan {
    every: u64,
    operations_max: usize,
}

impl FloodPlan {
    /// One seed in six. Drawn apart, so that seeds stay what they are.
    pub(crate) fn draw(seed: u64) -> Option<FloodPlan> {
        let mut rng = Rng::with_seed(seed ^ 0x666c_6f6f_6421_2121);
        (rng.u8(..6) == 0).then(|| FloodPlan {
            every: rng.u64(2 * SECOND..8 * SECOND),
            operations_max: rng.usize(32..64),
        })
    }

    /// Sets how much a node takes, so that a flood is soon too much.
    pub(crate) fn bound(&self, config: &mut NodeConfig) {
        config.operations_max = self.operations_max;
    }
}

impl World {
    /// Begins to flood nodes, if this seed does.
    pub(super) fn schedule_floods(&mut self) {
        if self.plan.flood.is_some() {
            self.later(3 * SECOND, Happening::Flood);
        }
    }

    /// Asks a node for twice what it takes, at one moment, as one client, and then once as another.
    pub(super) fn flood(&mut self) {
        let Some(plan) = self.plan.flood.filter(|_| self.stage == Stage::Turmoil) else { return };
        let wait = exponential(&mut self.flood_rng, plan.every) + 50 * MS;
        self.later(wait, Happening::Flood);
        let host = self.flood_rng.usize(..self.hosts.len());
        if !self.hosts[host].serves() {
            return;
        }
        let room = plan.operations_max;
        self.totals.floods += 1;
        for _ in 0..2 * room {
            self.ask_in_flood(host, FLOODER);
            let taken = self.open_in_flood(host);
            if let Some(fault) = taken_fault(taken, room) {
                return self.find(Checker::Shares, format_args!("n{}: {fault}", host + 1));
            }
        }
        // One of many: a client that has asked nothing yet.
        let other = FLOODER - self.totals.floods;
        self.ask_in_flood(host, other);
    }

    fn ask_in_flood(&mut self, host: usize, client: u64) {
        let keys = keys(&self.plan.clients);
        let key = keys[self.flood_rng.usize(..keys.len())].clone();
        let table = "default".to_owned().try_into().expect("a plain name");
        let (r, mode, monotonic, traced) = (None, QuorumMode::ByTable, false, false);
        let body = ClientBody::Get(Get { table, key, r, mode, monotonic, traced });
        self.ask_about_tables(host, Asked::Flood { client }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(client));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    /// Requests of the flood that a node has yet to answer.
    fn open_in_flood(&self, host: usize) -> usize {
        let Some(running) = &self.hosts[host].running else { return 0 };
        let floods = |asked: &&Asked| matches!(asked, Asked::Flood { client: FLOODER });
        running.asked.values().filter(floods).count()
    }

    /// A node has answered a request of the flood, or of whoever came after it.
    pub(super) fn flood_answered(&mut self, host: usize, client: u64, result: &ClientResult) {
        let bound = result.as_ref().err().and_then(|error| error.facts.bound);
        if client == FLOODER {
            self.totals.flood_refused += u64::from(bound == Some(Bound::Client));
            return;
        }
        let fault = result.as_ref().err().and_then(|error| share_fault(error, 0));
        if let Some(fault) = fault {
            self.find(Checker::Shares, format_args!("n{}: {fault}", host + 1));
        }
        // Others may have what is left of the table's share.
        self.totals.flood_others_served += u64::from(bound.is_none());
    }
}
