//! The waterfall of a request as lines of text: a bar for each question, from when it was asked to when
//! its answer came.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::client::Trace;

/// Columns of the bars.
const WIDTH: u128 = 40;

/// One question.
struct Bar<'a> {
    member: &'a str,
    asked: &'a str,
    from: Duration,
    /// How it ended, and when; `None` when nothing was heard until the client was answered.
    ended: Option<(&'a str, Duration)>,
}

/// As JSON, in microseconds.
pub(crate) fn json(trace: &Trace) -> Json {
    let micros = |at: Duration| at.as_secs_f64() * 1e6;
    let steps = trace
        .steps
        .iter()
        .map(|step| json!({ "at_us": micros(step.at), "node": step.member, "event": step.event }));
    json!({ "total_us": micros(trace.total), "steps": steps.collect::<Vec<_>>() })
}

/// As lines.
pub(crate) fn lines(trace: &Trace) -> Vec<String> {
    let bars = bars(trace);
    let name = |bar: &Bar<'_>| bar.member.chars().count();
    let names = bars.iter().map(name).max().unwrap_or(0);
    let line = |bar: &Bar<'_>| {
        let end = bar.ended.map_or(trace.total, |(_, at)| at);
        let drawn = drawn(bar.from, end, trace.total);
        let how = bar.ended.map_or("no answer yet", |(how, _)| how);
        let (from, to) = (millis(bar.from), millis(end));
        format!("{:<names$}  {:<8}|{drawn}| {from}..{to} ms  {how}", bar.member, bar.asked)
    };
    let mut lines: Vec<String> = bars.iter().map(line).collect();
    lines.push(format!("answered after {} ms", millis(trace.total)));
    lines
}

fn bars(trace: &Trace) -> Vec<Bar<'_>> {
    let mut bars: Vec<Bar<'_>> = Vec::new();
    for step in &trace.steps {
        let event = step.event.as_str();
        if matches!(event, "answered" | "refused" | "lost") {
            let waits = |bar: &&mut Bar<'_>| bar.member == step.member && bar.ended.is_none();
            if let Some(bar) = bars.iter_mut().find(waits) {
                bar.ended = Some((event, step.at));
            }
            continue;
        }
        let ended = match event {
            // Nobody waits for a repair.
            "repair" => Some(("sent", step.at)),
            "away" => Some(("cannot be reached: not asked", step.at)),
            _ => None,
        };
        bars.push(Bar { member: &step.member, asked: event, from: step.at, ended });
    }
    bars
}

fn drawn(from: Duration, to: Duration, total: Duration) -> String {
    let column = |at: Duration| {
        let at = at.min(total).as_nanos() * (WIDTH - 1) / total.as_nanos().max(1);
        usize::try_from(at).unwrap_or(0)
    };
    let (first, last) = (column(from), column(to).max(column(from)));
    let columns = usize::try_from(WIDTH).unwrap_or(0);
    (0..columns).map(|at| if (first..=last).contains(&at) { '=' } else { ' ' }).collect()
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::TraceStep;

    fn trace(steps: &[(u64, &str, &str)], total: u64) -> Trace {
        let step = |&(at, member, event): &(u64, &str, &str)| TraceStep {
            at: Duration::from_millis(at),
            member: member.to_owned(),
            event: event.to_owned(),
        };
        let steps = steps.iter().map(step).collect();
        Trace { steps, total: Duration::from_millis(total) }
    }

    #[test]
    fn each_question_has_a_bar_from_asking_to_answer() {
        let trace = trace(
            &[
                (0, "n1", "read"),
                (0, "n22", "read"),
                (1, "n1", "answered"),
                (2, "n3", "read"),
                (4, "n3", "answered"),
                (4, "n1", "repair"),
            ],
            4,
        );
        let lines = lines(&trace);
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("n1   read    |=========="), "{}", lines[0]);
        assert!(lines[0].ends_with("| 0.00..1.00 ms  answered"), "{}", lines[0]);
        assert!(lines[1].ends_with(&format!("{}| 0.00..4.00 ms  no answer yet", "=".repeat(40))));
        assert!(lines[2].contains("|          ") && lines[2].ends_with("2.00..4.00 ms  answered"));
        assert!(lines[3].ends_with("4.00..4.00 ms  sent"), "{}", lines[3]);
        assert_eq!(lines[4], "answered after 4.00 ms");
    }

    #[test]
    fn an_owner_that_was_not_asked_is_shown_as_that() {
        let lines =
            lines(&trace(&[(0, "n1", "write"), (1, "n1", "answered"), (2, "n2", "away")], 2));
        assert!(lines[0].contains("write") && lines[0].ends_with("answered"), "{}", lines[0]);
        assert!(lines[1].ends_with("2.00..2.00 ms  cannot be reached: not asked"), "{}", lines[1]);
    }

    #[test]
    fn a_member_asked_twice_is_answered_in_turn_and_nothing_divides_by_zero() {
        let steps = [(0, "n1", "prepare"), (0, "n1", "accept"), (0, "n1", "refused")];
        let lines = lines(&trace(&steps, 0));
        assert!(lines[0].ends_with("refused") && lines[1].ends_with("no answer yet"));
        assert_eq!(json(&trace(&steps, 0))["steps"][2]["event"], "refused");
    }
}
