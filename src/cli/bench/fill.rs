//! Writes all keys once, with progress, before they are asked for.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::Client;
use crate::load::generator::{Outcomes, Pace, Plan, run_over};
use crate::load::growth::Growth;
use crate::load::mix::{Kind, Mix};

use crate::cli::exit::Failure;
use crate::cli::output::Output;

/// Writes in flight.
const WORKERS: u32 = 64;
/// A fill takes as long as it takes.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
const LOOK: Duration = Duration::from_millis(200);

/// Writes all keys of `plan`.
///
/// # Errors
/// Some keys were not written, or none.
pub(super) async fn fill(clients: &[Client], plan: &Plan, output: &Output) -> Result<f64, Failure> {
    let keys = plan.keys.count();
    let growth = Arc::new(Mutex::new(Growth::new(0)));
    let fill = Plan {
        mix: Mix { insert: 1, ..Mix::NONE },
        pace: Pace::Closed,
        workers: WORKERS,
        warmup: Duration::ZERO,
        duration: LONGEST,
        operations_max: Some(keys),
        growth: growth.clone(),
        series: None,
        // Another seed: its values are none of the run's.
        seed: !plan.seed,
        ..plan.clone()
    };
    let bar = output.counter(keys, "keys are written");
    let report = {
        let mut filling = std::pin::pin!(run_over(clients, &fill));
        loop {
            tokio::select! {
                report = &mut filling => break report,
                () = tokio::time::sleep(LOOK) => bar.set_position(growth.lock().present()),
            }
        }
    };
    bar.finish_and_clear();
    let outcomes = report.outcomes.get(&Kind::Insert).cloned().unwrap_or_default();
    let Outcomes { errors, .. } = &outcomes;
    match (outcomes.failed(), errors.iter().max_by_key(|(_, count)| **count)) {
        (0, _) | (_, None) => Ok(report.elapsed.as_secs_f64()),
        (failed, Some((code, _))) => {
            let text = format!("{failed} of {keys} keys were not written, most with {code}");
            Err(if failed == keys { Failure::unavailable(text) } else { Failure::partial(text) })
        }
    }
}
