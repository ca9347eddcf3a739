//! Streams between nodes: opened with a handshake that the other side judges, broken by crashes
//! and cuts, and carrying messages while they stand.

use roundtable::control::admission;
use roundtable::message::{CopyMessage, Event, Hello, HelloRefusal, LifeAnswer, PeerMessage};

use crate::plan::{Fault, MS};

use super::host::member;
use super::life::Point;
use super::network::Stream;
use super::{Happening, Stage, World};

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        if to >= self.hosts.len() || to == from {
            let text = format_args!("n{} sends to n{}: {message:?}", from + 1, to + 1);
            return self.find(crate::judge::Checker::Run, text);
        }
        self.totals.messages += 1;
        let (from_life, to_life) = (self.hosts[from].life, self.hosts[to].life);
        let up = self.network.link(from, to).stream == Stream::Up(from_life, to_life);
        if !up {
            self.trace.step(
                self.now,
                [20, from as u64, to as u64],
                format_args!("n{} -x n{} {message:?}", from + 1, to + 1),
            );
            self.totals.undeliverable += 1;
            let late = self.rng.u64(..MS / 2);
            self.later(late, Happening::Unreachable { from, to, life: from_life });
            return self.open_soon(from, to);
        }
        let arrivals = self.network.arrivals(&mut self.net_rng, self.now, from, to);
        self.trace.step(
            self.now,
            [21, (from * 16 + to) as u64, arrivals.len() as u64],
            format_args!("n{} -> n{} x{} {message:?}", from + 1, to + 1, arrivals.len()),
        );
        self.totals.lost += u64::from(arrivals.is_empty());
        self.totals.duplicated += u64::from(arrivals.len() > 1);
        for at in arrivals {
            let message = message.clone();
            self.queue.push(at, Happening::Deliver { from, to, life: to_life, message });
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, life: u64, message: PeerMessage) {
        if !self.is_alive(to, life) {
            return;
        }
        self.trace.step(
            self.now,
            [22, from as u64, to as u64],
            format_args!("n{} => n{} {message:?}", from + 1, to + 1),
        );
        if let PeerMessage::Registered { boot, answer: LifeAnswer::Noted } = &message {
            self.hosts[to].noted.insert((boot.number, from));
        }
        if let PeerMessage::Read(ask) = &message
            && ask.hint_for.is_none()
        {
            let fence = (ask.unit, ask.changed_at);
            self.moves.reads((member(to), member(from)), ask.round, fence);
        }
        if let PeerMessage::Copy(copy) = &message
            && let CopyMessage::Ask(ask) = &**copy
        {
            self.floors.asked((member(to), member(from)), ask.round, ask.unit);
        }
        self.feed(to, Event::Peer { from: member(from), message }, Point::Message);
    }

    /// A stream from `from` to `to` is attempted soon, unless one stands or is being attempted.
    pub(super) fn open_soon(&mut self, from: usize, to: usize) {
        let alive = self.hosts[from].running.is_some();
        let life = self.hosts[from].life;
        let back_off = self.net_rng.u64(5 * MS..150 * MS);
        let link = self.network.link(from, to);
        if alive && link.stream == Stream::Down(false) {
            link.stream = Stream::Down(true);
            self.later(back_off, Happening::Connect { from, to, life });
        }
    }

    pub(super) fn connect(&mut self, from: usize, to: usize, life: u64) {
        if self.network.link(from, to).stream != Stream::Down(true) {
            return;
        }
        self.network.link(from, to).stream = Stream::Down(false);
        if !self.is_alive(from, life) {
            // A later life of this machine has to begin anew.
            return self.open_soon(from, to);
        }
        if !self.network.passes(from, to) || self.hosts[to].running.is_none() {
            return self.open_soon(from, to);
        }
        let views = (self.hosts[from].view.clone(), self.hosts[to].view.clone());
        let (Some(opener), Some(judge)) = views else { return self.open_soon(from, to) };
        let hello = Hello { to: member(to), ..opener.hello.clone() };
        let verdict = admission::judge(&judge, &hello);
        self.trace.step(
            self.now,
            [23, (from * 16 + to) as u64, u64::from(verdict.is_ok())],
            format_args!("n{} opens to n{}: {verdict:?}", from + 1, to + 1),
        );
        match verdict {
            Ok(()) => {
                self.totals.streams += 1;
                let lives = Stream::Up(life, self.hosts[to].life);
                self.network.link(from, to).stream = lives;
            }
            Err(reason) => {
                self.totals.refusals += 1;
                let delay = self.network.delay(&mut self.net_rng);
                self.later(delay, Happening::Refused { from, to, life, reason });
                self.open_soon(from, to);
            }
        }
    }

    pub(super) fn refused(&mut self, from: usize, to: usize, life: u64, reason: HelloRefusal) {
        if self.is_alive(from, life) {
            self.feed(from, Event::Rejected { peer: member(to), reason }, Point::Other);
        }
    }

    pub(super) fn unreachable(&mut self, from: usize, to: usize, life: u64) {
        if self.is_alive(from, life) {
            self.feed(from, Event::Unreachable { peer: member(to) }, Point::Other);
        }
    }

    /// Cuts one direction; what else is noticed depends on the seed.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.network.link(from, to).cut = true;
        if self.plan.has(Fault::BrokenStreams) {
            for (a, b) in [(from, to), (to, from)] {
                if matches!(self.network.link(a, b).stream, Stream::Up(..)) {
                    self.network.link(a, b).stream = Stream::Down(false);
                    let life = self.hosts[a].life;
                    let late = self.rng.u64(..5 * MS);
                    self.later(late, Happening::Unreachable { from: a, to: b, life });
                    self.open_soon(a, b);
                }
            }
        }
    }

    /// Joins one direction again.
    pub(super) fn join(&mut self, from: usize, to: usize) {
        if self.stage == Stage::Turmoil {
            self.network.link(from, to).cut = false;
        }
    }
}
