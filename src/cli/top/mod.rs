//! `kvctl top`: the cluster as it is at work, drawn again and again. Rates and latencies are those
//! between two looks, computed here from what nodes count; nothing is kept at the nodes.

mod figures;
mod screen;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use clap::Args;

use crate::client::{Client, Clock, NodeStatus, Status};
use crate::types::Time;

use super::args::duration;
use super::exit::Failure;
use super::output::Output;
use super::{Context, stores};

use figures::{Counts, Figures};

/// How long a look may take, at most: a node that does not answer is shown without figures.
const LOOK: Duration = Duration::from_millis(800);
/// Looks whose rate is drawn.
const KEPT: usize = 60;

/// `kvctl top`
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// How long between two looks
    #[arg(long, value_name = "D", value_parser = duration, default_value = "1s")]
    interval: Duration,
    /// Show one look, and end; rates are those of one interval
    #[arg(long)]
    once: bool,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "once")]
    count: Option<u64>,
}

/// A node as it is shown.
struct Line {
    node: NodeStatus,
    /// `None` when it did not answer twice in a row.
    figures: Option<Figures>,
}

/// One look at all nodes.
struct Look {
    status: Status,
    lines: Vec<Line>,
    /// Operations a second of the whole cluster, the newest last.
    rates: Vec<f64>,
    /// What is on the move: moves done, and all of them.
    plan: Option<(u32, u32)>,
}

/// Looks until it is told to end.
pub(crate) async fn run(
    context: &Context<'_>,
    args: TopArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let clock = Clock::start();
    let mut eye = Eye { clients: BTreeMap::new(), before: BTreeMap::new(), rates: Vec::new() };
    // The first counts are only what the first rates are computed from.
    eye.look(context, &client, &clock).await?;
    let mut left = if args.once { Some(1) } else { args.count };
    let live = output.is_terminal() && !output.format().is_json() && !args.once;
    loop {
        tokio::time::sleep(args.interval).await;
        let look = eye.look(context, &client, &clock).await?;
        if output.format().is_json() {
            output.line(&screen::json(&look).to_string())?;
        } else {
            let text = screen::text(&look, output.color());
            if live {
                output.clear_screen()?;
            }
            output.bytes(text.as_bytes())?;
        }
        output.finish()?;
        left = left.map(|left| left - 1);
        if left == Some(0) {
            return Ok(());
        }
    }
}

/// What is remembered from look to look.
struct Eye {
    clients: BTreeMap<String, Client>,
    before: BTreeMap<String, (Time, Counts)>,
    rates: Vec<f64>,
}

impl Eye {
    async fn look(
        &mut self,
        context: &Context<'_>,
        client: &Client,
        clock: &Clock,
    ) -> Result<Look, Failure> {
        let mut status = client.status().await?;
        status.nodes.sort_by_key(|node| node.id);
        self.connect(context, &status).await?;
        let asked = status.nodes.iter().map(|node| {
            let client = self.clients.get(&node.name).cloned();
            let (name, clock) = (node.name.clone(), *clock);
            async move {
                let text = client?.metrics().timeout(LOOK).await.ok()?;
                Some((name, clock.now(), Counts::read(&text)))
            }
        });
        let mut asked: tokio::task::JoinSet<_> = asked.collect();
        let mut now = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some((name, at, counts))) = answer {
                now.insert(name, (at, counts));
            }
        }
        let plan = client.plans().show().timeout(LOOK).await.ok();
        let plan = plan.and_then(|topology| topology.running).map(|plan| (plan.done, plan.total));
        Ok(self.compare(status, now, plan))
    }

    /// A client for each node whose address is known, and for no other.
    async fn connect(&mut self, context: &Context<'_>, status: &Status) -> Result<(), Failure> {
        let nodes: Vec<&NodeStatus> = status.nodes.iter().collect();
        self.clients.retain(|name, _| nodes.iter().any(|node| node.name == *name));
        if nodes.iter().all(|node| self.clients.contains_key(&node.name)) {
            return Ok(());
        }
        for (name, address) in stores::addresses(context, &nodes).await? {
            if let Entry::Vacant(missing) = self.clients.entry(name) {
                missing.insert(context.client_over([&address])?);
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        status: Status,
        now: BTreeMap<String, (Time, Counts)>,
        plan: Option<(u32, u32)>,
    ) -> Look {
        let line = |node: &NodeStatus| {
            let figures = now.get(&node.name).zip(self.before.get(&node.name));
            let figures =
                figures.and_then(|((at, now), (then, before))| now.since(before, at.since(*then)));
            Line { node: node.clone(), figures }
        };
        let lines: Vec<Line> = status.nodes.iter().map(line).collect();
        if !self.before.is_empty() {
            let rates = lines.iter().filter_map(|line| line.figures.as_ref());
            self.rates.push(rates.map(Figures::operations).sum());
            let beyond = self.rates.len().saturating_sub(KEPT);
            self.rates.drain(..beyond);
        }
        self.before = now;
        Look { status, lines, rates: self.rates.clone(), plan }
    }
}
