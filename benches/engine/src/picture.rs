//! Latencies as a drawing: for each workload and engine a line from the median to the longest, on a
//! logarithmic scale, with dots at p50, p99, p99.9 and the maximum.

use std::fmt::Write;

use crate::engine::Kind;

/// Latencies of one engine in one workload, in microseconds: p50, p99, p99.9, maximum.
pub(crate) struct Line {
    pub(crate) kind: Kind,
    pub(crate) micros: [f64; 4],
}

/// One workload.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

const LEFT: f64 = 230.0;
const WIDTH: f64 = 700.0;
const STEP: f64 = 13.0;
const TOP: f64 = 60.0;
/// Powers of ten of a microsecond at both ends of the scale.
const FROM: i32 = -1;
const TO: i32 = 6;

fn x(micros: f64) -> f64 {
    let place = (micros.max(1e-9).log10() - f64::from(FROM)) / f64::from(TO - FROM);
    LEFT + WIDTH * place.clamp(0.0, 1.0)
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "#c02f1d",
        Kind::Fjall => "#1d6fc0",
        Kind::RocksDb => "#4a8f3c",
        Kind::Raw => "#777777",
    }
}

/// The drawing, as the text of an SVG file.
pub(crate) fn draw(title: &str, groups: &[Group]) -> String {
    let lines: usize = groups.iter().map(|group| group.lines.len() + 1).sum();
    let bottom = TOP + lines as f64 * STEP;
    let (width, height) = (LEFT + WIDTH + 40.0, bottom + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\">{title}</text>\n"
    );
    axis(&mut svg, bottom);
    legend(&mut svg);
    let mut y = TOP + STEP;
    for group in groups {
        let name = &group.name;
        let middle = y + (group.lines.len() as f64 - 1.0) * STEP / 2.0 + 4.0;
        let end = LEFT - 12.0;
        text(&mut svg, end, middle, "end", name);
        for line in &group.lines {
            measured(&mut svg, y, line);
            y += STEP;
        }
        y += STEP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    // Writing to a string cannot fail.
    let _written =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn axis(svg: &mut String, bottom: f64) {
    for power in FROM..=TO {
        let at = x(10f64.powi(power));
        let words = match power {
            -1 => "100 ns".to_owned(),
            0..=2 => format!("{} us", 10i32.pow(power.unsigned_abs())),
            3..=5 => format!("{} ms", 10i32.pow(power.unsigned_abs() - 3)),
            _ => "1 s".to_owned(),
        };
        text(svg, at, TOP - 6.0, "middle", &words);
        let _written = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>"
        );
    }
}

fn legend(svg: &mut String) {
    let kinds = [Kind::Ours, Kind::Fjall, Kind::RocksDb, Kind::Raw];
    for (at, kind) in kinds.into_iter().enumerate() {
        let from = LEFT + at as f64 * 90.0;
        let color = color(kind);
        let _written = writeln!(svg, "<circle cx=\"{from}\" cy=\"32\" r=\"4\" fill=\"{color}\"/>");
        text(svg, from + 8.0, 36.0, "start", kind.name());
    }
    text(svg, LEFT + 380.0, 36.0, "start", "dots: p50, p99, p99.9, maximum");
}

fn measured(svg: &mut String, y: f64, line: &Line) {
    let color = color(line.kind);
    let [first, .., last] = line.micros.map(x);
    let _written = writeln!(
        svg,
        "<line x1=\"{first:.1}\" y1=\"{y:.1}\" x2=\"{last:.1}\" y2=\"{y:.1}\" stroke=\"{color}\"/>"
    );
    for (at, radius) in line.micros.map(x).into_iter().zip([4.0, 3.0, 2.5, 2.0]) {
        let _written =
            writeln!(svg, "<circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, LEFT, Line, WIDTH, draw, x};
    use crate::engine::Kind;

    #[test]
    fn the_scale_is_logarithmic_and_keeps_everything_on_the_page() {
        assert_eq!(x(0.1), LEFT);
        assert_eq!(x(1e6), LEFT + WIDTH);
        assert!((x(10.0) - x(1.0) - (x(1.0) - x(0.1))).abs() < 1e-9);
        assert_eq!(x(0.0), LEFT);
        assert_eq!(x(1e9), LEFT + WIDTH);
    }

    #[test]
    fn every_measurement_has_four_dots() {
        let line = |kind| Line { kind, micros: [1.0, 2.0, 5.0, 900.0] };
        let lines = vec![line(Kind::Ours), line(Kind::RocksDb)];
        let svg = draw("t", &[Group { name: "overwrite".to_owned(), lines }]);
        assert_eq!(svg.matches("<circle").count(), 4 + 2 * 4, "legend and dots");
        assert!(svg.contains(">overwrite</text>"));
    }
}
