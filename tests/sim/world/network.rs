//! The network between nodes: one stream for each ordered pair, which must be opened with a
//! handshake, and everything that can go wrong with what travels on it.

use fastrand::Rng;

use crate::plan::{MS, NetworkPlan, exponential};

/// Whether a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Nobody has opened it, or it broke; `true` when an attempt to open it is under way.
    Down(bool),
    /// Opened, by these lives of its two ends.
    Up(u64, u64),
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    /// What is sent vanishes.
    pub(crate) cut: bool,
    /// Extra delay.
    pub(crate) slow: u64,
    /// When the latest message arrives: the next is behind it where nothing is reordered.
    last: u64,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    links: Vec<Link>,
    pub(crate) delay_min: u64,
    pub(crate) delay_mean: u64,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) client_loss: f64,
    pub(crate) reordering: bool,
}

impl Network {
    /// A network of `nodes` nodes, no stream open yet.
    pub(crate) fn new(nodes: usize, plan: &NetworkPlan, reordering: bool) -> Network {
        let link = Link { stream: Stream::Down(false), cut: false, slow: 0, last: 0 };
        Network {
            nodes,
            links: vec![link; nodes * nodes],
            delay_min: plan.delay_min,
            delay_mean: plan.delay_mean,
            loss: plan.loss,
            duplication: plan.duplication,
            client_loss: plan.client_loss,
            reordering,
        }
    }

    /// The link from one node to another.
    pub(crate) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// Whether a handshake can pass: it needs both directions.
    pub(crate) fn passes(&mut self, from: usize, to: usize) -> bool {
        !self.link(from, to).cut && !self.link(to, from).cut
    }

    /// Whether messages come through in both directions, without delay or loss.
    pub(crate) fn is_clear(&mut self, one: usize, other: usize) -> bool {
        let lossy = self.loss > 0.0;
        let clear = |link: &Link| !link.cut && link.slow == 0;
        !lossy && clear(self.link(one, other)) && clear(self.link(other, one))
    }

    /// Breaks all streams of a node.
    pub(crate) fn reset(&mut self, node: usize) -> Vec<(usize, usize)> {
        let others: Vec<usize> = (0..self.nodes).filter(|other| *other != node).collect();
        let mut broken = Vec::new();
        for other in others {
            for (from, to) in [(node, other), (other, node)] {
                let link = self.link(from, to);
                if matches!(link.stream, Stream::Up(..)) {
                    link.stream = Stream::Down(false);
                    broken.push((from, to));
                }
            }
        }
        broken
    }

    /// How long one message takes.
    pub(crate) fn delay(&self, rng: &mut Rng) -> u64 {
        self.delay_min + exponential(rng, self.delay_mean)
    }

    /// When the copies of a message sent now arrive: none, one or two moments.
    pub(crate) fn arrivals(&mut self, rng: &mut Rng, now: u64, from: usize, to: usize) -> Vec<u64> {
        if self.link(from, to).cut || rng.f64() < self.loss {
            return Vec::new();
        }
        let copies = if rng.f64() < self.duplication { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let delay = self.delay(rng);
                let reordering = self.reordering;
                let link = self.link(from, to);
                let at = now + delay + link.slow;
                let at = if reordering { at } else { at.max(link.last + MS / 1000) };
                link.last = at;
                at
            })
            .collect()
    }

    /// Ends everything that is wrong. Returns when the last of what slow links hold arrives: where nothing is
    /// reordered, what is sent from now on waits behind it.
    pub(crate) fn heal(&mut self) -> u64 {
        let mut held_until = 0;
        for link in &mut self.links {
            if link.slow > 0 && !self.reordering {
                held_until = held_until.max(link.last);
            }
            link.cut = false;
            link.slow = 0;
        }
        self.loss = 0.0;
        self.duplication = 0.0;
        self.client_loss = 0.0;
        held_until
    }
}
