//! What is known of one other member.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::message::{FactsVersion, FillState, Incarnation, Liveness, ProbeFacts};
use crate::types::Time;

/// One other member.
#[derive(Debug)]
pub(super) struct Peer {
    /// The highest incarnation heard of.
    pub(super) incarnation: Incarnation,
    /// What is held of that incarnation, whatever the link to it.
    pub(super) verdict: Liveness,
    /// The worst that others say of that incarnation and this node knows better.
    pub(super) accused: Liveness,
    /// When it last said anything to this node itself.
    pub(super) heard: Time,
    /// When it last did that, or another member had it from it.
    pub(super) vouched: Time,
    /// Nothing has failed since it was last heard.
    pub(super) link_up: bool,
    /// Probes since it was last heard, and when the first was sent.
    pub(super) unanswered: (u32, Time),
    /// Probes have gone unanswered for so long that nothing should be asked of it, although others
    /// may hear it.
    pub(super) mute: bool,
    /// When it was last told that it is accused.
    pub(super) told_at: Option<Time>,
    /// Smoothed, of probes.
    pub(super) round_trip: Option<Duration>,
    pub(super) facts: Option<Facts>,
    /// Who answers in its name has booted less often than it has: an older copy of its disk runs, and
    /// may not serve. What it last said of itself says nothing of that one.
    pub(super) is_older_self: bool,
    /// Its wall clock against ours, in nanoseconds.
    pub(super) clock_offset_ns: i64,
}

/// What a member has told of itself.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) version: FactsVersion,
    pub(super) facts: Arc<ProbeFacts>,
    /// When it told them; what travelled through others is older than it seems by its travels.
    pub(super) told: Time,
    /// Whether that was since this node has been watching.
    pub(super) is_of_now: bool,
}

impl Peer {
    /// One that nothing is known of: it is given the benefit of the doubt.
    pub(super) fn new(now: Time) -> Peer {
        Peer {
            incarnation: Incarnation::default(),
            verdict: Liveness::Alive,
            accused: Liveness::Alive,
            heard: now,
            vouched: now,
            link_up: true,
            unanswered: (0, now),
            mute: false,
            told_at: None,
            round_trip: None,
            facts: None,
            is_older_self: false,
            clock_offset_ns: 0,
        }
    }

    /// What this node says of it. Who cannot be sent anything is suspect here, and only here.
    pub(super) fn liveness(&self) -> Liveness {
        if self.link_up { self.verdict } else { self.verdict.max(Liveness::Suspect) }
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.link_up && !self.mute && self.verdict != Liveness::Down
    }

    /// Whether it may be asked to probe others, or told of them first.
    pub(super) fn is_well(&self) -> bool {
        self.link_up && self.verdict == Liveness::Alive
    }

    /// The newest that is known, for comparison with others'.
    pub(super) fn version(&self) -> FactsVersion {
        let told = self.facts.as_ref().map(|facts| facts.version).unwrap_or_default();
        told.max(FactsVersion { incarnation: self.incarnation, seq: 0 })
    }
}

/// Whether others should hear of it soon that `before` has become `after`. The rest, sizes and clocks
/// and how far fills are, may come when it comes.
pub(super) fn is_news(before: &ProbeFacts, after: &ProbeFacts) -> bool {
    let flat = |facts: &ProbeFacts| {
        (facts.epoch, facts.stored, facts.serving, facts.acknowledged, facts.boot)
    };
    let held = |facts: &ProbeFacts| {
        let held = facts.custody.targets.iter().filter(|(_, count)| *count > 0);
        (held.map(|(target, _)| *target).collect::<BTreeSet<_>>(), facts.custody.others)
    };
    let fills = |facts: &ProbeFacts| {
        let state = |state| match state {
            FillState::Filling { .. } => FillState::Filling { done_milli: 0 },
            said => said,
        };
        let fills = facts.fills.iter().map(|fill| (fill.unit, fill.entry, state(fill.state)));
        fills.collect::<Vec<_>>()
    };
    flat(before) != flat(after)
        || before.client_address != after.client_address
        || held(before) != held(after)
        || fills(before) != fills(after)
}
