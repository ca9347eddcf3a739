//! How much of the room for operations in flight one table, or one client, may take: a share of what
//! is left. Whoever floods the node fills the room only so far that the next one finds some, and the
//! more of them flood it, the less each gets. No list of who asks is needed, and no clock.
//!
//! This is the dynamic threshold of Choudhury and Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches" (1998): with `a` times the free room for each, one alone takes
//! a / (1 + a) of all, k of them a / (1 + k a). A fixed half for each would be half empty when one
//! is alone, and full when two are not.

use std::collections::BTreeMap;

use crate::message::Bound;
use crate::types::TableId;

/// Room, or what is taken of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Operations without an answer.
    pub operations: usize,
    /// Bytes of operations, those included that only wait for stragglers.
    pub bytes: usize,
}

/// What one may take when it is alone, in percent of the node's room, 1 to 100; 100 is no bound.
#[derive(Clone, Copy, Debug)]
pub struct ShareLimits {
    /// Of a table.
    pub table: u8,
    /// Of a client.
    pub client: u8,
}

/// For whom an operation takes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its table.
    pub table: TableId,
    /// Its client's number; `None` for who has none: another node, the node's own.
    pub client: Option<u64>,
}

/// A share that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareFull {
    /// Whose.
    pub bound: Bound,
    /// What is counted: "operations" or "bytes of them".
    pub what: &'static str,
    /// What it may take at the moment.
    pub limit: usize,
    /// What it has taken.
    pub taken: usize,
}

/// What each has taken. Memory: one entry for each table and client with an operation in flight.
#[derive(Debug, Default)]
pub struct Shares {
    tables: BTreeMap<TableId, Room>,
    clients: BTreeMap<u64, Room>,
}

impl Shares {
    /// Whether one more operation fits, where `free` is left of the node's room.
    ///
    /// # Errors
    /// The share that is full, the client's before the table's.
    pub fn admit(&self, of: Holder, limits: ShareLimits, free: Room) -> Result<(), ShareFull> {
        let client = of.client.and_then(|client| self.clients.get(&client));
        let table = self.tables.get(&of.table);
        for (taken, percent, bound) in
            [(client, limits.client, Bound::Client), (table, limits.table, Bound::Table)]
        {
            let Some(taken) = taken else { continue };
            fits((taken.operations, free.operations), (percent, bound), "operations")?;
            fits((taken.bytes, free.bytes), (percent, bound), "bytes of them")?;
        }
        Ok(())
    }

    /// An operation begins.
    pub fn begin(&mut self, of: Holder, bytes: usize) {
        self.each(of, |taken| {
            taken.operations += 1;
            taken.bytes += bytes;
        });
    }

    /// An operation holds more or fewer bytes than before.
    pub fn resize(&mut self, of: Holder, (before, after): (usize, usize)) {
        self.each(of, |taken| taken.bytes = taken.bytes - before + after);
    }

    /// An operation has been answered; its bytes stay until it ends.
    pub fn answered(&mut self, of: Holder) {
        self.each(of, |taken| taken.operations -= 1);
    }

    /// An operation ends, answered before or not.
    pub fn end(&mut self, of: Holder, bytes: usize, answered: bool) {
        self.each(of, |taken| {
            taken.operations -= usize::from(!answered);
            taken.bytes -= bytes;
        });
    }

    fn each(&mut self, of: Holder, change: impl Fn(&mut Room)) {
        let table = self.tables.entry(of.table).or_default();
        change(table);
        if *table == Room::default() {
            self.tables.remove(&of.table);
        }
        if let Some(client) = of.client {
            let taken = self.clients.entry(client).or_default();
            change(taken);
            if *taken == Room::default() {
                self.clients.remove(&client);
            }
        }
    }
}

/// Whether what is taken is at most `percent / (100 - percent)` times what is free.
fn fits(
    (taken, free): (usize, usize),
    (percent, bound): (u8, Bound),
    what: &'static str,
) -> Result<(), ShareFull> {
    let percent = usize::from(percent.min(100));
    let limit = match 100 - percent {
        0 => return Ok(()),
        rest => free.saturating_mul(percent) / rest,
    };
    if taken <= limit || crate::mutant!("shares-unbounded") {
        return Ok(());
    }
    crate::sometimes!("shares: one is full");
    Err(ShareFull { bound, what, limit, taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { operations: 1000, bytes: 1_000_000 };
    const LIMITS: ShareLimits = ShareLimits { table: 100, client: 75 };

    fn holder(client: u64) -> Holder {
        Holder { table: TableId(1), client: Some(client) }
    }

    /// The room of a node, and clients that take of it as long as they may.
    struct Node {
        shares: Shares,
        taken: Room,
    }

    impl Node {
        fn free(&self) -> Room {
            let operations = ROOM.operations.saturating_sub(self.taken.operations);
            Room { operations, bytes: ROOM.bytes.saturating_sub(self.taken.bytes) }
        }

        fn ask(&mut self, of: Holder, bytes: usize) -> Result<(), ShareFull> {
            self.shares.admit(of, LIMITS, self.free())?;
            assert!(self.free().operations > 0 && self.free().bytes > 0, "the node is full");
            self.shares.begin(of, bytes);
            self.taken.operations += 1;
            self.taken.bytes += bytes;
            Ok(())
        }
    }

    fn flooded(clients: u64, bytes: usize) -> Node {
        let mut node = Node { shares: Shares::default(), taken: Room::default() };
        let mut asks = true;
        while asks {
            // All of them ask, also behind one who got in.
            asks = (1..=clients).filter(|id| node.ask(holder(*id), bytes).is_ok()).count() > 0;
        }
        node
    }

    #[test]
    fn however_many_flood_the_node_the_next_one_finds_room() {
        for bytes in [10, 9000] {
            for (clients, asks) in [(1, 9), (2, 5), (5, 3), (20, 1)] {
                let mut node = flooded(clients, bytes);
                for _ in 0..asks {
                    assert!(node.ask(holder(99), bytes).is_ok(), "{clients} with {bytes}");
                }
            }
        }
    }

    #[test]
    fn one_that_is_alone_takes_its_percentage_and_no_more() {
        let mut node = flooded(1, 10);
        assert_eq!(node.taken.operations, 751);
        let full = node.ask(holder(1), 10).unwrap_err();
        assert_eq!(
            (full.bound, full.what, full.limit, full.taken),
            (Bound::Client, "operations", 747, 751)
        );
        let full = flooded(1, 9000).ask(holder(1), 9000).unwrap_err();
        assert_eq!(full.what, "bytes of them");
    }

    #[test]
    fn tables_are_bounded_like_clients_and_one_hundred_percent_is_no_bound() {
        let mut shares = Shares::default();
        let of = Holder { table: TableId(7), client: None };
        (0..80).for_each(|_| shares.begin(of, 0));
        let free = Room { operations: 20, bytes: 1 };
        let limits = |table| ShareLimits { table, client: 50 };
        assert!(shares.admit(of, limits(80), free).is_ok());
        shares.begin(of, 0);
        let full = shares.admit(of, limits(80), free).unwrap_err();
        assert_eq!((full.bound, full.limit, full.taken), (Bound::Table, 80, 81));
        assert!(shares.admit(of, limits(100), free).is_ok());
        let other = Holder { table: TableId(8), client: Some(1) };
        assert!(shares.admit(other, limits(80), free).is_ok());
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let mut shares = Shares::default();
        for answered in [false, true] {
            shares.begin(holder(1), 100);
            shares.resize(holder(1), (100, 250));
            if answered {
                shares.answered(holder(1));
                assert_eq!(shares.clients[&1], Room { operations: 0, bytes: 250 });
            }
            shares.end(holder(1), 250, answered);
            assert!(shares.tables.is_empty() && shares.clients.is_empty(), "nothing is kept");
        }
    }
}
