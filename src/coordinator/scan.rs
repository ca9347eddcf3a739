//! One page of a scan: every member reads its own units in byte order; the page is the merge of
//! their answers up to the lowest key any of them has stopped at, in reverse down to the highest, once r owners
//! of every unit have answered. Each key of the page so rests on r owners, like a get.
//!
//! A page of a stream asks no more members than it needs at first, and the same ones for each page: they
//! keep a cursor open for it. `docs/protocol/scan.md`.

use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::causality::{SiblingSet, order};
use crate::message::{
    Applied, ClientResult, ErrorCode, OpError, Receipt, Refusal, Reply, RoundId, ScanAsk,
    ScanEntry, ScanPart, ScanReply,
};
use crate::types::{
    ClassId, ClusterState, Epoch, Key, NodeId, Record, TableId, TableKind, Time, TraceId, Value,
    WallTime, limits,
};

use super::{Action, Ask, Step};
use registers::{Making, Registers};

mod registers;

/// When a page may be asked for again that members had no room for.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A scan in flight.
#[derive(Clone, Debug)]
pub struct Scan {
    order: ScanOrder,
    /// All members that own a unit of the class, in order of id.
    members: Vec<NodeId>,
    answered: Vec<NodeId>,
    failed: BTreeMap<NodeId, Failed>,
    /// Those that are not asked at first: the others are enough.
    spare: Vec<NodeId>,
    /// Entries that are asked of each.
    share: u32,
    /// The newest version of every key in the answers so far, in the order in which keys are read.
    newest: Vec<(Key, Record)>,
    /// The same of a causal table: the merge of all answers.
    sets: BTreeMap<Key, SiblingSet>,
    /// The same of a linearizable table.
    registers: Registers,
    /// Bytes of the answers so far.
    bytes: usize,
    /// The first, as it is read, of the keys at which answers stopped.
    frontier: Option<Key>,
    retry_at: Time,
}

/// Why a member gives no page.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failed {
    /// It has no room for one now.
    Overloaded,
    /// In words.
    Otherwise(String),
}

impl Failed {
    fn unreachable() -> Failed {
        Failed::Otherwise("cannot be reached".to_owned())
    }
}

impl core::fmt::Display for Failed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Failed::Overloaded => f.write_str("is overloaded"),
            Failed::Otherwise(why) => f.write_str(why),
        }
    }
}

/// What a scan is made of.
#[derive(Clone, Debug)]
pub struct ScanOrder {
    /// The operation's number.
    pub op: u64,
    /// The state whose units are read.
    pub state: Arc<ClusterState>,
    /// The table.
    pub table: TableId,
    /// Its kind.
    pub kind: TableKind,
    /// Its class.
    pub class: ClassId,
    /// The quorum of each unit.
    pub r: u8,
    /// Below the floors.
    pub weak: bool,
    /// Members for which custody is known to be held, where the table may be sloppy.
    pub returning: Vec<NodeId>,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Keys strictly above this, in reverse strictly below it; empty: all.
    pub after: Bytes,
    /// Most entries.
    pub limit: u32,
    /// Leave values out.
    pub keys_only: bool,
    /// From the highest key down.
    pub reverse: bool,
    /// Of which scan it is a page, by this node's number.
    pub part: Option<ScanPart>,
    /// This node: what it holds itself costs least.
    pub own: NodeId,
    /// The request's.
    pub trace: TraceId,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long a member may take before it is asked again.
    pub retry_interval: Duration,
}

impl Scan {
    /// The table that is read.
    pub fn table(&self) -> TableId {
        self.order.table
    }

    /// The class whose units are read.
    pub fn class(&self) -> ClassId {
        self.order.class
    }

    /// The epoch at which the owners of any of them last changed.
    pub fn changed_at(&self) -> Epoch {
        self.order.state.class_changed_at(self.order.class)
    }

    /// Begins a scan; `reachable` tells of each member whether it can be asked now.
    pub fn begin(
        order: ScanOrder,
        reachable: impl Fn(NodeId) -> bool,
        step: &mut Step<'_>,
    ) -> Scan {
        let mut members: Vec<NodeId> = order
            .state
            .class(order.class)
            .map_or(&[][..], |class| &class.owners)
            .iter()
            .flatten()
            .copied()
            .collect();
        members.sort_unstable();
        members.dedup();
        let (answered, failed) = (Vec::new(), BTreeMap::new());
        let (newest, frontier, retry_at) = (Vec::new(), None, Time(u64::MAX));
        let (bytes, sets, registers) = (0, BTreeMap::new(), Registers::default());
        let (spare, share) = (Vec::new(), order.limit);
        let mut scan = Scan {
            order,
            members,
            answered,
            failed,
            spare,
            share,
            newest,
            sets,
            registers,
            bytes,
            frontier,
            retry_at,
        };
        for member in scan.members.clone() {
            if !reachable(member) {
                scan.failed.insert(member, Failed::unreachable());
            }
        }
        if scan.order.part.is_some() {
            scan.choose();
        }
        if scan.is_impossible() {
            scan.fail(step);
        } else {
            scan.ask_missing(&reachable, step);
        }
        scan
    }

    /// Bytes of the keys and values it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The quorum of each unit.
    pub fn quorum(&self) -> u8 {
        self.order.r
    }

    /// When its answer is no longer wanted.
    pub fn deadline(&self) -> Time {
        self.order.deadline
    }

    /// When [`Scan::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.retry_at)
    }

    /// A member has answered.
    pub fn on_answer(
        &mut self,
        member: NodeId,
        result: Result<(Vec<(Key, Record)>, bool), Refusal>,
        step: &mut Step<'_>,
    ) {
        let is_told = self.answered.contains(&member) || self.registers.is_made();
        if is_told || !self.members.contains(&member) {
            return;
        }
        match result {
            Ok((entries, _)) if !self.is_as_asked(&entries) => self.on_other_page(member, step),
            Ok((entries, complete)) => {
                let last = entries.last().filter(|_| !complete).map(|(key, _)| key.clone());
                match self.order.kind {
                    TableKind::Causal => {
                        entries.into_iter().for_each(|(key, set)| self.merge_siblings(key, set));
                    }
                    TableKind::Linearizable => match self.registers.add(member, entries) {
                        Some(bytes) => self.bytes += bytes,
                        None => return self.on_other_page(member, step),
                    },
                    TableKind::Lww => {
                        for (_, record) in &entries {
                            step.clock.observe(step.now.wall, record.stamp);
                        }
                        self.merge_newest(entries);
                    }
                }
                self.failed.remove(&member);
                self.answered.push(member);
                self.stops_at(last);
                if self.weakest_unit() < self.order.r {
                    return;
                }
                match self.order.kind {
                    TableKind::Linearizable => self.make_registers(step),
                    TableKind::Lww | TableKind::Causal => self.reply(step),
                }
            }
            // The time is over here as well, which says so.
            Err(Refusal::Expired) => {}
            Err(Refusal::Overloaded) => self.on_failed(member, Failed::Overloaded, step),
            Err(refusal) => {
                let why = format!("refused: {refusal:?}");
                self.on_failed(member, Failed::Otherwise(why), step);
            }
        }
    }

    fn on_other_page(&mut self, member: NodeId, step: &mut Step<'_>) {
        let why = "answered with another page than was asked for".to_owned();
        self.on_failed(member, Failed::Otherwise(why), step);
    }

    /// An answer has gone no further than to this key.
    fn stops_at(&mut self, last: Option<Key>) {
        let Some(last) = last else { return };
        let frontier = self.frontier.as_ref();
        if frontier.is_none_or(|frontier| self.is_beyond(frontier, &last)) {
            self.frontier = Some(last);
        }
    }

    /// Enough owners have shown what they have accepted: makes a page of that.
    fn make_registers(&mut self, step: &mut Step<'_>) {
        let mut registers = core::mem::take(&mut self.registers);
        let making = Making {
            state: &self.order.state,
            class: self.order.class,
            answered: &self.answered,
            limit: self.order.limit as usize,
            reverse: self.order.reverse,
            wall: step.now.wall,
        };
        let frontier = self.frontier.as_ref();
        let is_inside = |key: &Key| !frontier.is_some_and(|frontier| self.is_beyond(key, frontier));
        let cut = registers.make(&making, is_inside);
        self.frontier = cut.or_else(|| self.frontier.take());
        self.registers = registers;
        self.retry_at = Time(u64::MAX);
        self.read_registers(step);
    }

    /// Has the next keys read that its owners do not agree on; answers when there are none left.
    fn read_registers(&mut self, step: &mut Step<'_>) {
        while let Some(key) = self.registers.next() {
            step.out.push(Action::Read(key));
        }
        self.bytes = self.registers.bytes();
        if self.registers.is_read() {
            self.reply(step);
        }
    }

    /// A key has been read, as was asked by [`Action::Read`]; or (`None`) could not be, since its owners have
    /// changed. An error is that of the page.
    pub fn on_read(&mut self, key: &Key, result: Option<ClientResult>, step: &mut Step<'_>) {
        match result {
            None => self.registers.again(key.clone()),
            Some(Ok(Reply::Get(reply))) => {
                self.registers.read(key, reply.record, self.order.keys_only);
            }
            Some(Ok(_)) => self.registers.read(key, None, self.order.keys_only),
            Some(Err(mut error)) => {
                error.message = format!("a key of the page could not be read: {}", error.message);
                step.out.push(Action::Reply(Box::new(Err(error.with_applied(Applied::No)))));
                step.out.push(Action::Done);
                return;
            }
        }
        self.read_registers(step);
    }

    fn on_failed(&mut self, member: NodeId, why: Failed, step: &mut Step<'_>) {
        self.failed.insert(member, why);
        if self.is_impossible() {
            self.fail(step);
        } else if !self.spare.is_empty() {
            // Those that were asked may not be enough any more.
            self.ask_spare(step);
        }
    }

    /// Leaves out whom it can: of each unit r owners are asked, this node first. Pages of one scan ask the
    /// same members, for they have cursors; scans differ in whom they leave out.
    fn choose(&mut self) {
        let Some(class) = self.order.state.class(self.order.class) else { return };
        let mut units: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let mut asked = Vec::with_capacity(class.owners.len());
        for (unit, owners) in class.owners.iter().enumerate() {
            let left = owners.iter().filter(|owner| !self.failed.contains_key(owner));
            asked.push(left.count());
            owners.iter().for_each(|owner| units.entry(*owner).or_default().push(unit));
        }
        let most = units.values().map(Vec::len).max().unwrap_or(0) as u64;
        let (all, limit) = (class.owners.len().max(1) as u64, u64::from(self.order.limit));
        // Somewhat more than its share of a page: they end at the same key, more or less.
        let share = limit * most * 9 / (all * 8) + 8;
        self.share = u32::try_from(share.min(limit)).unwrap_or(self.order.limit);
        let turn = self.order.part.map_or(0, |part| part.scan) % self.members.len().max(1) as u64;
        let (late, early) = self.members.split_at(usize::try_from(turn).unwrap_or(0));
        let r = usize::from(self.order.r);
        for member in early.iter().chain(late) {
            let is_asked = *member != self.order.own && !self.failed.contains_key(member);
            let own = units.get(member).map_or(&[][..], Vec::as_slice);
            if is_asked && own.iter().all(|unit| asked.get(*unit).is_some_and(|n| *n > r)) {
                for unit in own {
                    if let Some(asked) = asked.get_mut(*unit) {
                        *asked -= 1;
                    }
                }
                self.spare.push(*member);
            }
        }
    }

    /// Asks those that were left out.
    fn ask_spare(&mut self, step: &mut Step<'_>) {
        for member in core::mem::take(&mut self.spare) {
            self.ask(member, step);
        }
    }

    /// Whether a page has its keys in the order that was asked for, and begins behind where it was to. Of
    /// one that does not, the last key is no bound for what the member has.
    fn is_as_asked(&self, entries: &[(Key, Record)]) -> bool {
        let Some((first, _)) = entries.first() else { return true };
        let ScanOrder { reverse, after, .. } = &self.order;
        let goes_on = entries.is_sorted_by(|(a, _), (b, _)| if *reverse { b < a } else { a < b });
        let (first, after) = (first.as_bytes(), &after[..]);
        let is_behind = after.is_empty() || if *reverse { first < after } else { first > after };
        goes_on && is_behind || crate::mutant!("scan-page-unchecked")
    }

    /// Whether a scan comes to `key` later than to `other`.
    fn is_beyond(&self, key: &Key, other: &Key) -> bool {
        if self.order.reverse && !crate::mutant!("scan-frontier-forward") {
            key < other
        } else {
            key > other
        }
    }

    /// Merges an answer with those before: all are in order, so it is one walk along both.
    fn merge_newest(&mut self, entries: Vec<(Key, Record)>) {
        if self.newest.is_empty() {
            self.bytes = entries.iter().map(|(key, r)| key.as_bytes().len() + r.bytes()).sum();
            self.newest = entries;
            return;
        }
        let held = core::mem::take(&mut self.newest);
        let mut merged = Vec::with_capacity(held.len().max(entries.len()) + 16);
        let mut held = held.into_iter().peekable();
        for (key, record) in entries {
            merged.extend(core::iter::from_fn(|| held.next_if(|(at, _)| self.is_beyond(&key, at))));
            match held.next_if(|(at, _)| *at == key) {
                Some((at, older)) if order(&older, &record).is_ge() => merged.push((at, older)),
                _ => {
                    self.bytes += key.as_bytes().len() + record.bytes();
                    merged.push((key, record));
                }
            }
        }
        merged.extend(held);
        self.newest = merged;
    }

    /// Merges a key of a causal table, whose set travels in the place of a value. One that does not
    /// decode cannot come from a replica that checks what it reads.
    fn merge_siblings(&mut self, key: Key, record: Record) {
        let bytes = record.value.map(Value::into_bytes).unwrap_or_default();
        let Some(set) = SiblingSet::decode(bytes) else { return };
        self.bytes += key.as_bytes().len() + set.bytes();
        self.sets.entry(key).or_default().join(set);
    }

    /// What a page shows of a key of a causal table, if anything.
    fn shown(&self, key: &Key, set: &SiblingSet, wall: WallTime) -> Option<ScanEntry> {
        let shown = set.shown(wall);
        let first = shown.first()?;
        // Parts of counters come along with the keys.
        let is_alone = shown.len() == 1 && !self.order.keys_only;
        let value = if is_alone { first.value().cloned() } else { None };
        let record = Record { stamp: first.first().stamp(), expiry: first.expiry, value };
        let siblings = u32::try_from(shown.len()).unwrap_or(u32::MAX);
        Some(ScanEntry { key: key.clone(), record, siblings })
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let is_told = self.answered.contains(&member) || self.registers.is_made();
        if self.members.contains(&member) && !is_told {
            self.on_failed(member, Failed::unreachable(), step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, reachable: impl Fn(NodeId) -> bool, step: &mut Step<'_>) {
        if step.now.mono >= self.order.deadline {
            let message = "deadline passed before r owners of every unit answered";
            let mut error = OpError::new(ErrorCode::DeadlineExceeded, message);
            error.facts.epoch = Some(self.order.state.epoch);
            step.out.push(Action::Reply(Box::new(Err(error))));
            step.out.push(Action::Done);
        } else if step.now.mono >= self.retry_at {
            self.spare.clear();
            self.ask_missing(&reachable, step);
        }
    }

    fn ask_missing(&mut self, reachable: &dyn Fn(NodeId) -> bool, step: &mut Step<'_>) {
        for &member in &self.members {
            let is_done = self.answered.contains(&member) || self.spare.contains(&member);
            if !is_done && reachable(member) {
                self.ask(member, step);
            }
        }
        // Pages are large: asking again too early would only add to the load. Whom it has left out it asks
        // sooner: one that is silent is to cost a stream no second.
        let times = if self.spare.is_empty() { 4 } else { 1 };
        self.retry_at = step.now.mono.plus(self.order.retry_interval.saturating_mul(times));
    }

    fn ask(&self, member: NodeId, step: &mut Step<'_>) {
        let order = &self.order;
        let ask = ScanAsk {
            round: RoundId { op: order.op, round: 1 },
            changed_at: self.changed_at(),
            table: order.table,
            prefix: order.prefix.clone(),
            after: order.after.clone(),
            limit: self.share,
            keys_only: order.keys_only,
            reverse: order.reverse,
            part: order.part,
            remaining: step.remaining(order.deadline),
        };
        step.out.push(Action::Ask(member, Ask::Scan(Box::new(ask))));
    }

    fn owners(&self) -> impl Iterator<Item = &Vec<NodeId>> {
        let class = self.order.state.class(self.order.class);
        class.into_iter().flat_map(|class| class.owners.iter())
    }

    /// The fewest owners of any unit that have answered.
    fn weakest_unit(&self) -> u8 {
        let answered = |owners: &Vec<NodeId>| {
            owners.iter().filter(|owner| self.answered.contains(owner)).count()
        };
        let fewest = self.owners().map(answered).min().unwrap_or(0);
        u8::try_from(fewest).unwrap_or(u8::MAX)
    }

    /// Whether some unit has too few owners left that have not failed.
    fn is_impossible(&self) -> bool {
        self.lacks(|_| true)
    }

    /// Whether some unit has too few owners left that have not failed, for such a reason.
    fn lacks(&self, counts: impl Fn(&Failed) -> bool) -> bool {
        let is_left = |owner: &&NodeId| !self.failed.get(owner).is_some_and(&counts);
        let left = |owners: &Vec<NodeId>| owners.iter().filter(is_left).count();
        self.owners().any(|owners| left(owners) < usize::from(self.order.r))
    }

    fn reply(&mut self, step: &mut Step<'_>) {
        let mut entries = Vec::new();
        let (mut bytes, mut resume) = (0, self.frontier.clone());
        for entry in self.visible(step.now.wall) {
            let frontier = self.frontier.as_ref();
            if frontier.is_some_and(|frontier| self.is_beyond(&entry.key, frontier)) {
                break;
            }
            bytes += entry.key.as_bytes().len() + entry.record.bytes();
            let full = entries.len() >= self.order.limit as usize
                || (bytes > limits::SCAN_PAGE_BYTES_MAX && !entries.is_empty());
            if full {
                resume = entries.last().map(|entry: &ScanEntry| entry.key.clone());
                break;
            }
            entries.push(entry);
        }
        let receipt = Receipt {
            epoch: self.order.state.epoch,
            needed: self.order.r,
            n: self.order.state.class(self.order.class).map_or(0, |class| class.n),
            weak: self.order.weak,
            may_miss: self.answered.iter().any(|member| self.order.returning.contains(member)),
            server_time: step.clock.of_record(step.now.wall),
            trace: self.order.trace,
            ..Receipt::default()
        };
        let resume = resume.map(|key| key.bytes().clone());
        let reply = Reply::Scan(ScanReply { entries, resume, receipt });
        step.out.push(Action::Reply(Box::new(Ok(reply))));
        step.out.push(Action::Done);
    }

    /// What is there to show, in the order it is read.
    fn visible(&mut self, wall: WallTime) -> Vec<ScanEntry> {
        if self.order.kind == TableKind::Linearizable {
            return self.registers.take();
        }
        if self.order.kind == TableKind::Lww {
            let newest = core::mem::take(&mut self.newest).into_iter();
            let visible = newest.filter(|(_, record)| record.is_visible(wall));
            return visible.map(|(key, record)| ScanEntry { key, record, siblings: 1 }).collect();
        }
        let sets = core::mem::take(&mut self.sets);
        let shown = sets.iter().filter_map(|(key, set)| self.shown(key, set, wall));
        if self.order.reverse { shown.rev().collect() } else { shown.collect() }
    }

    fn fail(&mut self, step: &mut Step<'_>) {
        let reasons: Vec<String> =
            self.failed.iter().map(|(id, reason)| format!("member {id} {reason}")).collect();
        let message = format!(
            "some units have fewer than {} owners that can answer: {}",
            self.order.r,
            reasons.join(", ")
        );
        // With room for it, it could be read.
        let is_overload = !self.lacks(|why| *why != Failed::Overloaded)
            && !crate::mutant!("scan-overload-is-no-quorum");
        let code = if is_overload { ErrorCode::Overloaded } else { ErrorCode::QuorumNotReached };
        let mut error = OpError::new(code, message).with_applied(Applied::No);
        error.facts.retry_after = is_overload.then_some(RETRY_AFTER);
        error.facts.needed = Some(u64::from(self.order.r));
        error.facts.got = Some(u64::from(self.weakest_unit()));
        error.facts.epoch = Some(self.order.state.epoch);
        step.out.push(Action::Reply(Box::new(Err(error))));
        step.out.push(Action::Done);
    }
}
