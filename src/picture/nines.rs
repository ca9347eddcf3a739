//! Percentile curves: latency against how many were faster, on an axis that gives each further nine the
//! same room. An average hides the one request in a thousand; here it has a third of the picture.

use core::fmt::Write as _;

use super::svg::{Escaped, STYLE, member_colour, seconds};

/// What to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NinesPicture {
    /// The heading.
    pub title: String,
    /// The curves.
    pub lines: Vec<NinesLine>,
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NinesLine {
    /// Its name in the legend.
    pub name: String,
    /// Which colour: curves of the same index have the same.
    pub colour: usize,
    /// Whether it is dashed.
    pub is_dashed: bool,
    /// Fractions in [0, 1], ascending, and the latency in seconds that each stayed within.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 840.0;
const TOP: f64 = 76.0;
const PLOT: f64 = 270.0;
/// Nines that the axis shows at most, and at least.
const NINES: (f64, f64) = (6.0, 2.0);
/// Names in a row of the legend.
const NAMED: usize = 5;

/// Draws the curves. The text is a whole SVG document, whose size depends on the number of lines and on
/// that of their points, of which those that lie in the same place are left out.
pub fn nines_svg(picture: &NinesPicture) -> String {
    let scale = Scale::of(picture);
    let height = scale.bottom + 50.0;
    let title = Escaped(&picture.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>{title}</title><style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n"
    );
    axes(&mut svg, &scale);
    for (index, line) in picture.lines.iter().enumerate() {
        let colour = member_colour(line.colour);
        let dash = if line.is_dashed { " stroke-dasharray=\"7 4\"" } else { "" };
        let (row, column) = (index / NAMED, index % NAMED);
        let (x, y) = (LEFT + 155.0 * small(column), 44.0 + 16.0 * small(row));
        let name = Escaped(&line.name);
        let _ = writeln!(
            svg,
            "<path class=\"line\" stroke=\"{colour}\"{dash} d=\"{}\"><title>{name}</title></path>\
             <path class=\"line\" stroke=\"{colour}\"{dash} d=\"M{x:.1} {:.1}h22\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
            path(line, &scale),
            y - 4.0,
            x + 27.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    nines: f64,
    /// Logarithms of the lowest and the highest latency shown.
    y: (f64, f64),
    top: f64,
    bottom: f64,
}

impl Scale {
    fn of(picture: &NinesPicture) -> Scale {
        let points = || picture.lines.iter().flat_map(|line| &line.points);
        let values = || points().map(|point| point.1).filter(|value| *value > 0.0);
        let low = values().fold(f64::MAX, f64::min);
        let low = if low == f64::MAX { 1e-3 } else { low };
        let high = values().fold(low * 10.0, f64::max);
        let nines = points().map(|point| nines(point.0)).filter(|nines| nines.is_finite());
        let nines = nines.fold(NINES.1, f64::max).min(NINES.0);
        let top = TOP + 16.0 * small(picture.lines.len().saturating_sub(1) / NAMED);
        Scale { nines, y: (low.log10().floor(), high.log10().ceil()), top, bottom: top + PLOT }
    }

    fn x(&self, fraction: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (nines(fraction).min(self.nines) / self.nines).clamp(0.0, 1.0)
    }

    fn y(&self, latency: f64) -> f64 {
        let log = latency.max(1e-12).log10();
        let share = ((log - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0);
        self.bottom - (self.bottom - self.top) * share
    }
}

/// How many nines a fraction has: 0.99 has two.
fn nines(fraction: f64) -> f64 {
    -(1.0 - fraction.clamp(0.0, 1.0)).log10()
}

fn small(number: usize) -> f64 {
    f64::from(u16::try_from(number).unwrap_or(u16::MAX))
}

fn axes(svg: &mut String, scale: &Scale) {
    let (top, bottom) = (scale.top, scale.bottom);
    let mut power = scale.y.0;
    while power <= scale.y.1 {
        let y = scale.y(10f64.powf(power));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            seconds(10f64.powf(power)),
        );
        power += 1.0;
    }
    let shown = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
        (0.999_999, "99.9999 %"),
    ];
    for (fraction, text) in shown.into_iter().filter(|it| nines(it.0) <= scale.nines + 1e-6) {
        let x = scale.x(fraction);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
             <text text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
            bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text text-anchor=\"end\" x=\"{RIGHT}\" y=\"{:.1}\">operations at least as fast</text>\
         <text x=\"{LEFT}\" y=\"{:.1}\">latency</text>",
        bottom + 36.0,
        top - 6.0
    );
}

/// The line as steps that the eye cannot tell from a curve; points on the same spot are left out.
fn path(line: &NinesLine, scale: &Scale) -> String {
    let (mut path, mut last, mut pen) = (String::new(), String::new(), 'M');
    for (fraction, latency) in &line.points {
        let at = format!("{:.1} {:.1}", scale.x(*fraction), scale.y(*latency));
        if at != last {
            let _ = write!(path, "{pen}{at}");
            (last, pen) = (at, 'L');
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: Vec<(f64, f64)>) -> NinesLine {
        NinesLine { name: "get <&>".to_owned(), points, ..NinesLine::default() }
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let points = vec![(0.0, 1e-4), (0.9, 1e-3), (0.99, 1e-2), (0.999, 1e-1), (1.0, 1.0)];
        let picture = NinesPicture { title: "t".to_owned(), lines: vec![line(points)] };
        let svg = nines_svg(&picture);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("&lt;&amp;"));
        // Three nines beside 100 %, which stands at the edge.
        let curve = "M70.0 346.0L326.7 278.5L583.3 211.0L840.0 143.5L840.0 76.0";
        assert!(svg.contains(curve), "{svg}");
        for label in [">99.9 %<", ">100 µs<", ">1 ms<", ">1 s<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
        assert!(!svg.contains("99.99 %"));
    }

    #[test]
    fn nothing_and_points_on_one_spot_are_drawn_too() {
        assert!(!nines_svg(&NinesPicture::default()).contains("NaN"));
        let many = (0..50_000).map(|i| (f64::from(i) / 50_000.0, 1e-3)).collect();
        let lines = (0..7).map(|_| NinesLine { is_dashed: true, ..line(vec![]) });
        let picture =
            NinesPicture { lines: lines.chain([line(many)]).collect(), ..Default::default() };
        let svg = nines_svg(&picture);
        assert!(
            svg.len() < 200_000 && !svg.contains("NaN") && !svg.contains("inf"),
            "{}",
            svg.len()
        );
    }
}
