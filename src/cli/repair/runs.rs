//! Comparisons out of turn: started at each node, and waited for.

use core::time::Duration;
use std::collections::BTreeMap;

use serde_json::json;

use crate::client::{Client, Repair, RunLine};

use super::{ASK_TIMEOUT, Answers, StartArgs, ask, clients};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Output;

const INTERVAL: Duration = Duration::from_millis(500);

/// What was started at which node.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    started: BTreeMap<String, u64>,
}

impl Runs {
    fn note(&mut self, answers: &Answers) {
        for (name, told) in &answers.told {
            if let Some(run) = told.runs.last() {
                self.started.insert(name.clone(), run.id);
            }
        }
    }

    fn of<'a>(&self, name: &str, told: &'a Repair) -> Option<&'a RunLine> {
        let id = self.started.get(name)?;
        told.runs.iter().find(|run| run.id == *id)
    }

    /// Pairs that were found equal since, of all; or why that cannot be said.
    fn progress(&self, answers: &Answers) -> Result<(u64, u64), String> {
        if let Some((name, failure)) = answers.failed.first() {
            return Err(format!("{name} does not say: {failure}"));
        }
        let (mut done, mut all) = (0, 0);
        for (name, told) in &answers.told {
            let Some(run) = self.of(name, told) else {
                return Err(format!("{name} was started again, or knows of too many runs"));
            };
            (done, all) = (done + run.total - run.left, all + run.total);
        }
        Ok((done, all))
    }

    /// Whether all owners of all units have been found equal since this was first asked; if not, why.
    pub(crate) async fn converged(&mut self, context: &Context<'_>) -> Result<(), String> {
        let clients = clients(context, None).await.map_err(|failure| failure.to_string())?;
        let is_known = |of: &(String, _)| self.started.contains_key(&of.0);
        let (known, new): (Vec<_>, Vec<_>) = clients.into_iter().partition(is_known);
        let started = ask(&new, |client| client.start_repair().timeout(ASK_TIMEOUT)).await;
        self.note(&started);
        let mut answers = ask(&known, |client| client.repair_status().timeout(ASK_TIMEOUT)).await;
        for (name, told) in &answers.told {
            if self.of(name, told).is_none() {
                // It has started again since, and has forgotten.
                self.started.remove(name);
            }
        }
        answers.told.extend(started.told);
        answers.failed.extend(started.failed);
        match self.progress(&answers)? {
            (done, all) if done < all => {
                let left = all - done;
                Err(format!("{left} of {all} pairs of replicas have not been found equal yet"))
            }
            _ => Ok(()),
        }
    }
}

/// Starts comparisons, and waits for them if that is wanted.
pub(super) async fn start(
    context: &Context<'_>,
    args: StartArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let clients = clients(context, args.node.as_deref()).await?;
    let request = |client: &Client| {
        let mut request = client.start_repair();
        // The default table's class has others in it as a rule; it stands for all.
        if context.table() != "default" {
            request = request.table(context.table());
        }
        if let Some((first, last)) = args.range {
            request = request.partitions(first, last);
        }
        if args.node.is_some() { request.all_pairs() } else { request }
    };
    let mut runs = Runs::default();
    let started = ask(&clients, request).await;
    runs.note(&started);
    if args.wait && started.failed.is_empty() {
        let limit = context.global.timeout;
        let waiting = wait(&clients, &runs, output);
        match limit {
            None => waiting.await?,
            Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| {
                let limit = humantime::format_duration(limit);
                Failure::deadline(format!("not all was found equal after {limit}"))
            })??,
        }
    }
    let line = |(name, told): (&String, &Repair)| {
        let run = runs.of(name, told);
        (name.clone(), run.map_or(0, |run| run.total))
    };
    let lines: Vec<(String, u64)> = started.told.iter().map(line).collect();
    if output.format().is_json() {
        let nodes = lines.iter().map(|(name, pairs)| json!({ "node": name, "pairs": pairs }));
        let nodes: Vec<_> = nodes.collect();
        output.json(&json!({
            "started": nodes, "waited": args.wait, "failed": started.failed_json(),
        }))?;
    } else {
        let verb = if args.wait { "compared" } else { "started" };
        for (name, pairs) in &lines {
            output.line(&format!("{verb} {pairs} pairs of replicas at {name}"))?;
        }
    }
    started.finish(output)
}

async fn wait(
    clients: &[(String, Result<Client, Failure>)],
    runs: &Runs,
    output: &Output,
) -> Result<(), Failure> {
    let bars = output.bars();
    loop {
        let answers = ask(clients, |client| client.repair_status().timeout(ASK_TIMEOUT)).await;
        match runs.progress(&answers) {
            Ok((done, all)) => {
                if let Some(bars) = &bars {
                    let text = left(&answers, runs).map_or_else(String::new, |left| {
                        format!("about {} left", humantime::format_duration(left))
                    });
                    bars.whole(done, all, &text);
                }
                if done >= all {
                    break;
                }
            }
            Err(why) if answers.failed.is_empty() => return Err(Failure::unavailable(why)),
            Err(why) => output.note(&why),
        }
        tokio::time::sleep(INTERVAL).await;
    }
    if let Some(bars) = bars {
        bars.finish();
    }
    Ok(())
}

/// How long it will take still, if it goes on as it went.
fn left(answers: &Answers, runs: &Runs) -> Option<Duration> {
    let of = answers.told.iter().filter_map(|(name, told)| runs.of(name, told));
    of.filter_map(time_left).max()
}

/// The same of one run.
pub(super) fn time_left(run: &RunLine) -> Option<Duration> {
    let done = run.total.checked_sub(run.left).filter(|done| *done > 0)?;
    let nanos = run.age.as_nanos().saturating_mul(u128::from(run.left)) / u128::from(done);
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_what_was_done() {
        let run = |total, left| RunLine { id: 1, age: Duration::from_secs(60), total, left };
        assert_eq!(time_left(&run(100, 25)), Some(Duration::from_secs(20)));
        assert_eq!(time_left(&run(100, 0)), Some(Duration::ZERO));
        assert_eq!(time_left(&run(100, 100)), None);
    }
}
