//! The way to each member and back, as this node's own requests find it: whether reads should be
//! asked of it. Judges in milliseconds, by what was asked and answered; `members` judges in
//! seconds, by silence, and says who can be asked at all.
//!
//! A verdict only changes the order in which owners are asked. An unwell one still takes every
//! write, answers when too few well ones are left, and now and then gets a read that nobody waits
//! for: by that it returns. Ejecting by failures and by comparison with the others is what load
//! balancers call outlier detection.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::message::{Unwell, UnwellLink};
use crate::types::{NodeId, Time, limits};

/// An ask unanswered for so long has stalled.
const STALLED_AFTER: Duration = Duration::from_millis(300);
/// Failures in a row that make a link unwell.
const FAILURES_MAX: u8 = 3;
/// A link is slow at so many times the median of the others, ...
const SLOW_TIMES: u32 = 8;
/// ... and at no less than this: below it a user sees no difference.
const SLOW_MIN: Duration = Duration::from_millis(25);
/// The share of a new measurement in the smoothed latency, as a divisor.
const SMOOTHING: u32 = 8;
/// An unwell link is tried once in each of these.
const TRIAL_EVERY: Duration = Duration::from_millis(250);
/// Reads of one link that are timed at once; more are not.
const TIMED_MAX: usize = 64;
/// Who becomes unwell so soon after it was let back needs twice as many good trials, ...
const RELAPSE_WITHIN: Duration = Duration::from_secs(10);
/// ... at most so many in a row.
const TRIALS_MAX: u8 = 16;

/// What is asked of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskKind {
    /// A read.
    Read,
    /// A write: its latency is the disk's, and says little of reads; silence says something.
    Write,
    /// A promise or an acceptance of a register: its latency is the disk's too, but who refuses it
    /// fails as in a read, and who gives it in time does not stand still.
    Round,
}

/// How an answer came out, as far as the link is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// What was asked has been done.
    Well,
    /// Nothing against the link: a refusal that another member would have given too.
    Neutral,
    /// It is overloaded, does not serve, or its store fails.
    Failed,
}

/// Which of some owners to read from, as bitmaps of their list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Links that are well.
    pub well: u16,
    /// Unwell ones whose trial is due.
    pub trials: u16,
}

/// A link that has changed: why it is unwell, or `None` when it is well again.
pub type LinkNews = (NodeId, Option<Unwell>);

/// All links of a node, the one to its own disk included. Memory: one entry a member asked, of at
/// most 64 reads being timed.
#[derive(Debug, Default)]
pub struct Links {
    links: BTreeMap<NodeId, Link>,
    /// At most one entry a link.
    news: BTreeMap<NodeId, Option<Unwell>>,
    ejections: u64,
}

#[derive(Debug, Default)]
struct Link {
    unwell: Option<Unwell>,
    /// Since when it is, if it is.
    unwell_at: Time,
    /// Reads unanswered, by operation, and when each was asked; both increase.
    reads: VecDeque<(u64, Time)>,
    /// When the oldest of what waits for a disk was asked, since the link last answered anything.
    write: Option<Time>,
    failures: u8,
    /// Of reads, smoothed; `None` before the first.
    latency: Option<Duration>,
    /// When an unwell link may be tried next.
    trial_at: Time,
    /// Good trials in a row, and how many it takes.
    good: u8,
    needed: u8,
    let_back_at: Option<Time>,
}

impl Links {
    /// Forgets links to all others than these.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.links.retain(|id, _| keep(*id));
        self.news.retain(|id, _| keep(*id));
    }

    /// A member is asked something on behalf of operation `op`; numbers of operations increase.
    pub fn on_asked(&mut self, now: Time, to: NodeId, kind: AskKind, op: u64) {
        let link = self.links.entry(to).or_default();
        if kind != AskKind::Read {
            link.write.get_or_insert(now);
            return;
        }
        if link.unwell.is_some() {
            link.trial_at = now.plus(TRIAL_EVERY);
            if link.reads.len() >= TIMED_MAX {
                // None of them may ever be answered, and the trial's must be known.
                link.reads.clear();
            }
        }
        let newest = link.reads.back().is_none_or(|(newest, _)| *newest < op);
        if newest && link.reads.len() < TIMED_MAX {
            link.reads.push_back((op, now));
        }
    }

    /// A member has answered what it was asked on behalf of `op`.
    pub fn on_answered(
        &mut self,
        now: Time,
        from: NodeId,
        (kind, op): (AskKind, u64),
        answered: Answered,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        let asked = link.write.take();
        match kind {
            AskKind::Read => {}
            AskKind::Write => return,
            AskKind::Round => return self.on_round(now, from, asked, answered),
        }
        let took = link.take(now, op);
        if answered == Answered::Failed {
            return self.failed(now, from);
        }
        let (Answered::Well, Some(took)) = (answered, took) else { return };
        link.failures = 0;
        if link.unwell.is_some() {
            let good = took < STALLED_AFTER && !self.is_slow(from, took);
            return self.tried(now, from, (good, Some(took)));
        }
        let before = link.latency.unwrap_or(took);
        let smoothed = (before * (SMOOTHING - 1) + took) / SMOOTHING;
        link.latency = Some(smoothed);
        if self.is_slow(from, smoothed) {
            self.eject(now, from, Unwell::Slow);
        }
    }

    /// The transport cannot reach a member: what it was asked may never be answered.
    pub fn on_lost(&mut self, now: Time, peer: NodeId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.reads.clear();
            link.write = None;
            self.failed(now, peer);
        }
    }

    /// Which of these owners to read from. A link of which nothing is known is well.
    pub fn prefer(&mut self, now: Time, owners: &[NodeId]) -> Preference {
        let mut preference = Preference::default();
        for (index, owner) in owners.iter().enumerate().take(16) {
            let Some(link) = self.links.get(owner) else {
                preference.well |= 1 << index;
                continue;
            };
            if link.unwell.is_none() && link.has_stalled(now) {
                self.eject(now, *owner, Unwell::Stalled);
            }
            let Some(link) = self.links.get(owner) else { continue };
            if link.unwell.is_none() {
                preference.well |= 1 << index;
            } else if link.trial_at <= now && !crate::mutant!("link-never-tried") {
                preference.trials |= 1 << index;
            }
        }
        preference
    }

    /// Why a link is unwell, if it is.
    pub fn unwell(&self, member: NodeId) -> Option<Unwell> {
        self.links.get(&member).and_then(|link| link.unwell)
    }

    /// What others are told: whom reads leave out, why, and for how long.
    pub fn told(&self, now: Time) -> Vec<UnwellLink> {
        let unwell = self.links.iter().filter_map(|(member, link)| {
            let (member, age) = (*member, now.since(link.unwell_at));
            link.unwell.map(|why| UnwellLink { member, why, age })
        });
        unwell.take(limits::UNWELL_NEWS_MAX).collect()
    }

    /// The smoothed latency of reads; `None` before the first answer.
    pub fn latency(&self, member: NodeId) -> Option<Duration> {
        self.links.get(&member).and_then(|link| link.latency)
    }

    /// How often links have become unwell since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections
    }

    /// A link that has changed since it was last told.
    pub fn poll_news(&mut self) -> Option<LinkNews> {
        self.news.pop_first()
    }

    fn failed(&mut self, now: Time, member: NodeId) {
        let Some(link) = self.links.get_mut(&member) else { return };
        link.failures = link.failures.saturating_add(1);
        link.good = 0;
        if link.unwell.is_none() && link.failures >= FAILURES_MAX {
            self.eject(now, member, Unwell::Failing);
        }
    }

    /// A promise or an acceptance, or its refusal, has come; the oldest that was missing had been asked
    /// at a time. In tables of registers nothing else may ever be asked, so by these an unwell link
    /// comes back as well, but for one that is slow: that is told by reads.
    fn on_round(&mut self, now: Time, from: NodeId, asked: Option<Time>, answered: Answered) {
        match answered {
            Answered::Failed => return self.failed(now, from),
            Answered::Neutral => return,
            Answered::Well => {}
        }
        let Some(link) = self.links.get_mut(&from) else { return };
        link.failures = 0;
        if matches!(link.unwell, Some(Unwell::Stalled | Unwell::Failing))
            && let Some(asked) = asked
        {
            self.tried(now, from, (now.since(asked) < STALLED_AFTER, None));
        }
    }

    /// Something asked of an unwell link has been answered, in time or not; a read in this time.
    fn tried(&mut self, now: Time, member: NodeId, (good, took): (bool, Option<Duration>)) {
        let Some(link) = self.links.get_mut(&member) else { return };
        if !good {
            link.good = 0;
            return;
        }
        link.good += 1;
        if link.good >= link.needed {
            crate::sometimes!("link: is let back");
            link.unwell = None;
            link.latency = took.or(link.latency);
            link.write = None;
            link.let_back_at = Some(now);
            self.news.insert(member, None);
        }
    }

    fn eject(&mut self, now: Time, member: NodeId, why: Unwell) {
        let Some(link) = self.links.get_mut(&member) else { return };
        crate::sometimes!("link: is unwell");
        let relapsed = link.let_back_at.is_some_and(|at| now.since(at) < RELAPSE_WITHIN);
        link.needed = if relapsed { (link.needed * 2).clamp(1, TRIALS_MAX) } else { 1 };
        link.good = 0;
        link.unwell = Some(why);
        link.unwell_at = now;
        link.trial_at = now;
        self.ejections += 1;
        self.news.insert(member, Some(why));
    }

    /// Whether a latency stands out from those of the other links. Where nothing is known of the
    /// others, or most are as slow, nothing does.
    fn is_slow(&self, member: NodeId, latency: Duration) -> bool {
        if latency < SLOW_MIN || crate::mutant!("link-slow-unseen") {
            return false;
        }
        let others = self.links.iter().filter(|(id, _)| **id != member);
        let mut known: Vec<Duration> = others.filter_map(|(_, link)| link.latency).collect();
        known.sort_unstable();
        // Of an even number the lower one in the middle: with two others, one may be slow too.
        let median = known.len().checked_sub(1).and_then(|last| known.get(last / 2));
        median.is_some_and(|median| latency >= *median * SLOW_TIMES)
    }
}

impl Link {
    /// Takes the answer to `op` in: how long it took, if that was timed. What was asked before and
    /// has been overtaken is not waited for any longer: the link works, whatever became of it.
    fn take(&mut self, now: Time, op: u64) -> Option<Duration> {
        while self.reads.front().is_some_and(|(oldest, _)| *oldest < op) {
            self.reads.pop_front();
        }
        let (_, asked) = *self.reads.front().filter(|(oldest, _)| *oldest == op)?;
        self.reads.pop_front();
        Some(now.since(asked))
    }

    fn has_stalled(&self, now: Time) -> bool {
        let oldest = self.reads.front().map(|(_, asked)| *asked).into_iter().chain(self.write);
        oldest.min().is_some_and(|asked| now.since(asked) >= STALLED_AFTER)
            && !crate::mutant!("link-stall-unseen")
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
