//! What clients ask of this node, and how long it takes: the last slice of time as a table, the last minutes as a
//! picture.

use core::time::Duration;
use std::fmt::Write;

use crate::picture::{Line, Plot, plot_svg};
use crate::telemetry::{OpKind, Slice, SliceKind};

/// The part of the page. `recent` has the oldest slice first.
pub(super) fn render(page: &mut String, recent: &[Slice]) {
    page.push_str("<h2>Requests</h2>");
    let Some(last) = recent.last() else {
        page.push_str("<p>The first figures come some seconds after the start.</p>");
        return;
    };
    let seconds = last.length.as_secs_f64();
    let shown: Vec<&SliceKind> = last.kinds.iter().filter(|it| it.kind != OpKind::Admin).collect();
    if shown.is_empty() {
        let _ = write!(page, "<p>None in the last {seconds:.0} seconds.</p>");
    } else {
        let _ = write!(
            page,
            "<p>To this node, in the last {seconds:.0} seconds:</p><table><tr><th>kind</th>\
             <th class=\"n\">a second</th><th class=\"n\">failed</th><th class=\"n\">p50, ms</th>\
             <th class=\"n\">p99, ms</th></tr>"
        );
        for kind in shown {
            let class = if kind.failed > 0 { " class=\"bad\"" } else { "" };
            let _ = write!(
                page,
                "<tr{class}><td>{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td></tr>",
                kind.kind.as_str(),
                per_second(kind, last.length),
                kind.failed,
                millis(kind.p50),
                millis(kind.p99),
            );
        }
        page.push_str("</table>");
    }
    let lines = [
        line(recent, "get p50", OpKind::Get, |it| it.p50),
        line(recent, "get p99", OpKind::Get, |it| it.p99),
        line(recent, "put p50", OpKind::Put, |it| it.p50),
        line(recent, "put p99", OpKind::Put, |it| it.p99),
    ];
    if recent.len() > 1 && lines.iter().any(|line| line.points.iter().any(|at| at.1.is_finite())) {
        page.push_str(&plot_svg(&Plot {
            title: "Latencies at this node".to_owned(),
            x_label: "minutes ago".to_owned(),
            y_label: "ms".to_owned(),
            is_log: true,
            lines: lines.to_vec(),
            marks: Vec::new(),
        }));
    }
}

/// One latency over time; interrupted where nothing was asked.
fn line(recent: &[Slice], name: &str, kind: OpKind, of: fn(&SliceKind) -> Duration) -> Line {
    let mut age = Duration::ZERO;
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(recent.len());
    for slice in recent.iter().rev() {
        let found = slice.kinds.iter().find(|it| it.kind == kind);
        let value = found.map_or(f64::NAN, |it| millis(of(it)));
        points.push((-age.as_secs_f64() / 60.0, value));
        age += slice.length;
    }
    points.reverse();
    Line { name: name.to_owned(), points }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(kind: &SliceKind, length: Duration) -> f64 {
    kind.done as f64 / length.as_secs_f64().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(kinds: &[(OpKind, u64, u64)]) -> Slice {
        let kinds = kinds.iter().map(|(kind, done, failed)| SliceKind {
            kind: *kind,
            done: *done,
            failed: *failed,
            p50: Duration::from_micros(1500),
            p99: Duration::from_millis(20),
        });
        Slice { length: Duration::from_secs(10), kinds: kinds.collect() }
    }

    fn rendered(recent: &[Slice]) -> String {
        let mut page = String::new();
        render(&mut page, recent);
        page
    }

    #[test]
    fn rates_failures_and_latencies_are_shown_and_drawn() {
        let page = rendered(&[
            slice(&[(OpKind::Get, 10, 0)]),
            slice(&[(OpKind::Get, 1234, 0), (OpKind::Put, 50, 3), (OpKind::Admin, 9, 0)]),
        ]);
        for expected in ["<td>get</td><td class=\"n\">123.4</td>", "1.5", "20.0", "<svg", "get p99"]
        {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert!(
            page.contains("class=\"bad\"><td>put</td><td class=\"n\">5.0</td><td class=\"n\">3<")
        );
        assert!(!page.contains("<td>admin</td>"));
    }

    /// Styles of pictures that stand in one page hold for all of them: the ring's must not colour these lines.
    #[test]
    fn the_ring_beside_it_does_not_paint_its_lines() {
        let curves = rendered(&[slice(&[(OpKind::Get, 10, 0)]), slice(&[(OpKind::Get, 10, 0)])]);
        let ring = crate::picture::ring_svg(&crate::picture::RingPicture::default());
        let classes = |svg: &str| -> Vec<String> {
            let named = svg.split("class=\"").skip(1).filter_map(|rest| rest.split('"').next());
            named.map(|name| format!(".{name}{{stroke:")).collect()
        };
        for class in classes(&curves).iter().filter(|class| class.starts_with(".line")) {
            assert!(!ring.contains(class.as_str()), "{class} in the ring's style");
        }
        assert!(classes(&curves).contains(&".line{stroke:".to_owned()));
    }

    #[test]
    fn an_idle_node_and_a_new_one_say_so() {
        assert!(rendered(&[]).contains("after the start"));
        let idle = rendered(&[slice(&[]), slice(&[])]);
        assert!(idle.contains("None in the last 10 seconds") && !idle.contains("<svg"));
    }
}
