//! Where latencies lie over time: a column for each stretch of time, a cell for each class of latency,
//! the stronger the more operations are in it. One colour on any background, so that light, dark and the
//! eyes of the colour-blind all see the same order.

use core::fmt::Write as _;

use super::plot::{number, round_steps};
use super::svg::{Escaped, STYLE, seconds};

/// What to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DensityPicture {
    /// The heading.
    pub title: String,
    /// How long a column is, in seconds.
    pub width: f64,
    /// The columns, in order of time.
    pub columns: Vec<Column>,
}

/// A stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// The lower bound of each class of latency, in seconds, and how many operations were in it.
    pub classes: Vec<(f64, u32)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 840.0;
const TOP: f64 = 50.0;
const PLOT: f64 = 260.0;
const BOTTOM: f64 = TOP + PLOT;
/// Cells in a factor of ten, of equal height.
const PER_DECADE: f64 = 10.0;
/// More columns than this cannot be told apart: longer runs are drawn by several stretches a column.
const COLUMNS_MAX: usize = 240;
const COLOUR: &str = "#3f7fd0";

/// A row and its count, for the columns that are drawn.
type Cells = Vec<std::collections::BTreeMap<i32, u64>>;

/// Draws the map. The text is a whole SVG document, at most about a megabyte.
pub fn density_svg(picture: &DensityPicture) -> String {
    let joined = picture.columns.len().div_ceil(COLUMNS_MAX).max(1);
    let cells = cells(&picture.columns, joined);
    let rows = || cells.iter().flat_map(|column| column.keys().copied());
    let (low, high) = (rows().min().unwrap_or(-30), rows().max().unwrap_or(-21) + 1);
    let most = cells.iter().flat_map(|column| column.values().copied()).max().unwrap_or(1);
    let step = picture.width * count(joined);
    let columns = count(picture.columns.len()) / count(joined);
    let title = Escaped(&picture.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\">\
         <title>{title}</title><style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n",
        BOTTOM + 66.0
    );
    let scale = Scale { low: f64::from(low), high: f64::from(high), columns };
    for (at, column) in cells.iter().enumerate() {
        let (x, next) = (scale.x(count(at)), scale.x(count(at) + 1.0));
        for (row, number) in column {
            let (y, above) = (scale.y(f64::from(*row)), scale.y(f64::from(row + 1)));
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{above:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill=\"{COLOUR}\" fill-opacity=\"{:.2}\"><title>{:.0} s, from {}: {number}\
                 </title></rect>",
                next - x,
                y - above,
                strength(*number, most),
                step * count(at),
                seconds(lower(*row)),
            );
        }
    }
    axes(&mut svg, &scale, step * columns);
    legend(&mut svg, most);
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    low: f64,
    high: f64,
    columns: f64,
}

impl Scale {
    fn x(&self, column: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (column / self.columns.max(1.0)).min(1.0)
    }

    fn y(&self, row: f64) -> f64 {
        BOTTOM - PLOT * ((row - self.low) / (self.high - self.low))
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The rows of all columns, with `joined` stretches in each.
fn cells(columns: &[Column], joined: usize) -> Cells {
    let sum = |stretches: &[Column]| {
        let mut rows = std::collections::BTreeMap::new();
        for (bound, number) in stretches.iter().flat_map(|stretch| &stretch.classes) {
            *rows.entry(row(*bound)).or_default() += u64::from(*number);
        }
        rows
    };
    columns.chunks(joined).map(sum).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
fn row(latency: f64) -> i32 {
    (latency.max(1e-9).log10() * PER_DECADE + 1e-9).floor() as i32
}

fn lower(row: i32) -> f64 {
    10f64.powf(f64::from(row) / PER_DECADE)
}

/// How strong a cell is: by the logarithm, so that one slow operation among thousands is seen.
#[allow(clippy::cast_precision_loss, reason = "a shade, not an account")]
fn strength(number: u64, most: u64) -> f64 {
    0.15 + 0.85 * (number as f64).ln_1p() / (most.max(1) as f64).ln_1p()
}

/// Latencies with a line across: powers of ten, and where these are few, twice and five times them.
fn labels(scale: &Scale) -> Vec<f64> {
    let times: &[f64] =
        if scale.high - scale.low < 3.0 * PER_DECADE { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut power = (scale.low / PER_DECADE).floor();
    let mut labels = Vec::new();
    while power * PER_DECADE <= scale.high {
        labels.extend(times.iter().map(|times| times * 10f64.powf(power)));
        power += 1.0;
    }
    let row = |latency: &f64| latency.log10() * PER_DECADE;
    labels.retain(|latency| (scale.low - 1e-6..=scale.high + 1e-6).contains(&row(latency)));
    labels
}

fn axes(svg: &mut String, scale: &Scale, end: f64) {
    for latency in labels(scale) {
        let y = scale.y(latency.log10() * PER_DECADE);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            seconds(latency),
        );
    }
    for at in round_steps((0.0, end), 11.0) {
        let _ = writeln!(
            svg,
            "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + (RIGHT - LEFT) * at / end.max(1e-9),
            BOTTOM + 16.0,
            number(at)
        );
    }
    let _ = writeln!(
        svg,
        "<text text-anchor=\"end\" x=\"{RIGHT}\" y=\"{:.1}\">seconds from the end of the warm-up\
         </text><text x=\"{LEFT}\" y=\"{:.1}\">latency</text>",
        BOTTOM + 36.0,
        TOP - 6.0
    );
}

fn legend(svg: &mut String, most: u64) {
    let y = BOTTOM + 52.0;
    let mut x = LEFT;
    let mut number = 1;
    loop {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{COLOUR}\" \
             fill-opacity=\"{:.2}\"/><text x=\"{:.1}\" y=\"{y:.1}\">{number}</text>",
            y - 10.0,
            strength(number, most),
            x + 16.0,
        );
        if number >= most {
            break;
        }
        number = number.saturating_mul(10).min(most);
        x += 70.0;
    }
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{y:.1}\">operations</text>", x + 80.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(columns: usize) -> DensityPicture {
        let column = |at: usize| {
            let slow = if at == 1 { vec![(0.5, 1)] } else { Vec::new() };
            Column { classes: [vec![(1e-3, 1000), (1.1e-3, 500)], slow].concat() }
        };
        DensityPicture {
            title: "a <b>".to_owned(),
            width: 1.0,
            columns: (0..columns).map(column).collect(),
        }
    }

    #[test]
    fn one_slow_operation_among_thousands_has_a_cell_of_its_own() {
        let svg = density_svg(&picture(3));
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a &lt;b&gt;")
        );
        assert!(svg.contains("1 s, from 398.1 ms: 1</title>"), "{svg}");
        // 1 ms and 1.1 ms share a cell; four steps of the legend: 1, 10, 100, 1000, and the most.
        assert!(svg.contains("0 s, from 1 ms: 1500</title>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 3 + 1 + 5, "{svg}");
        assert!(svg.contains(">10 ms<") && svg.contains(">100 ms<"));
    }

    #[test]
    fn nothing_is_drawn_too_and_long_runs_are_joined() {
        assert!(!density_svg(&DensityPicture::default()).contains("NaN"));
        let svg = density_svg(&picture(5000));
        assert!(svg.len() < 1 << 20 && svg.contains(">5000<"), "{}", svg.len());
    }
}
