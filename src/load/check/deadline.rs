//! I13: no request outlives its deadline by more than [`OVERRUN_MAX`] on a healthy node.

use core::time::Duration;

use crate::types::Time;

use super::Violation;

/// How long after its deadline a request may at most be answered.
pub const OVERRUN_MAX: Duration = Duration::from_millis(100);

/// One request as its caller, or its node, saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When its answer was no longer wanted.
    pub deadline: Time,
    /// When it was answered, or given up with an error; `None` when it still was not by the end.
    pub completed: Option<Time>,
}

/// Checks that every request was over in time. `end` is when observation ended, by the same clock.
pub fn deadlines(requests: impl IntoIterator<Item = Deadline>, end: Time) -> Vec<Violation> {
    let overrun = |(request, seen): (usize, Deadline)| {
        let by = seen.completed.unwrap_or(end).since(seen.deadline);
        (by > OVERRUN_MAX).then_some(Violation::DeadlineOverrun { request, by })
    };
    requests.into_iter().enumerate().filter_map(overrun).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(deadline_ms: u64, completed_ms: Option<u64>) -> Deadline {
        Deadline {
            deadline: Time(deadline_ms * MS),
            completed: completed_ms.map(|ms| Time(ms * MS)),
        }
    }

    #[test]
    fn requests_within_the_allowance_and_young_open_ones_pass() {
        let requests = [seen(1000, Some(10)), seen(1000, Some(1100)), seen(5000, None)];
        assert_eq!(deadlines(requests, Time(2000 * MS)), []);
    }

    #[test]
    fn late_answers_and_forgotten_requests_are_found_with_their_overrun() {
        let requests = [seen(1000, Some(999)), seen(1000, Some(1101)), seen(1000, None)];
        let found = deadlines(requests, Time(3000 * MS));
        let by = Duration::from_millis;
        let expected = [(1, by(101)), (2, by(2000))];
        let expected = expected.map(|(request, by)| Violation::DeadlineOverrun { request, by });
        assert_eq!(found, expected);
    }
}
