//! Plots over time: a few lines on one scale, with marks at the moments that explain them. For the
//! latencies of a run through faults, and for throughput under overload.

use core::fmt::Write as _;

use super::svg::{Escaped, STYLE, member_colour};

/// What to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// The heading.
    pub title: String,
    /// What the horizontal axis says, with its unit.
    pub x_label: String,
    /// What the vertical axis says, with its unit.
    pub y_label: String,
    /// Whether the vertical axis is logarithmic. Values of zero and below then lie on its foot.
    pub is_log: bool,
    /// The lines.
    pub lines: Vec<Line>,
    /// Moments with a name.
    pub marks: Vec<(f64, String)>,
}

/// One line. Points that are not finite interrupt it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in order of x.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 840.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 330.0;
/// Longer lines are thinned out to about so many points: a screen shows no more.
const POINTS_MAX: usize = 2000;

/// Draws the plot. The text is a whole SVG document, whose size depends on the number of lines and
/// not on their length.
pub fn plot_svg(plot: &Plot) -> String {
    let scale = Scale::of(plot);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\"><title>{}</title><style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        Escaped(&plot.title),
        Escaped(&plot.title),
    );
    axes(&mut svg, plot, &scale);
    for (at, name) in &plot.marks {
        let x = scale.x(*at);
        let _ = writeln!(
            svg,
            "<line class=\"mark\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 4.0,
            TOP + 12.0,
            Escaped(name)
        );
    }
    for (index, line) in plot.lines.iter().enumerate() {
        let colour = member_colour(index);
        let _ = writeln!(
            svg,
            "<path class=\"line\" stroke=\"{colour}\" d=\"{}\"><title>{}</title></path>\
             <text x=\"{:.1}\" y=\"44\" style=\"fill:{colour}\">{}</text>",
            path(line, &scale),
            Escaped(&line.name),
            LEFT + 150.0 * f64::from(u32::try_from(index).unwrap_or(0)),
            Escaped(&line.name),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// From values to places.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    is_log: bool,
}

impl Scale {
    fn of(plot: &Plot) -> Scale {
        let points = || plot.lines.iter().flat_map(|line| &line.points);
        let finite = |value: &f64| value.is_finite();
        let low = |a: f64, b: f64| a.min(b);
        let high = |a: f64, b: f64| a.max(b);
        let xs = || points().map(|point| point.0).filter(finite);
        let ys = || points().map(|point| point.1).filter(finite);
        let x = (xs().fold(f64::MAX, low), xs().fold(f64::MIN, high));
        let top = ys().fold(0.0, high);
        let y = if plot.is_log {
            let least = ys().filter(|y| *y > 0.0).fold(f64::MAX, low);
            let least = if least == f64::MAX { 1.0 } else { least };
            (least.log10().floor(), high(top, least * 10.0).log10().ceil())
        } else {
            (0.0, if top > 0.0 { top * 1.05 } else { 1.0 })
        };
        let x = if x.0 < x.1 { x } else { (0.0, 1.0) };
        Scale { x, y, is_log: plot.is_log }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0);
        LEFT + (RIGHT - LEFT) * share.clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (value - self.y.0) / (self.y.1 - self.y.0);
        BOTTOM - (BOTTOM - TOP) * share.clamp(0.0, 1.0)
    }

    /// The values that get a line across: powers of ten, or round numbers.
    fn steps(&self) -> Vec<f64> {
        if !self.is_log {
            return round_steps(self.y, 6.0);
        }
        let mut steps = vec![self.y.0];
        while let Some(last) = steps.last().filter(|last| **last < self.y.1) {
            steps.push(last + 1.0);
        }
        steps.into_iter().map(|power| 10f64.powf(power)).collect()
    }
}

fn axes(svg: &mut String, plot: &Plot, scale: &Scale) {
    for value in scale.steps() {
        let y = scale.y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            number(value)
        );
    }
    for value in round_steps(scale.x, 11.0) {
        let _ = writeln!(
            svg,
            "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            scale.x(value),
            BOTTOM + 16.0,
            number(value)
        );
    }
    let _ = writeln!(
        svg,
        "<text text-anchor=\"end\" x=\"{RIGHT}\" y=\"{:.1}\">{}</text>\
         <text x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
        BOTTOM + 36.0,
        Escaped(&plot.x_label),
        TOP - 4.0,
        Escaped(&plot.y_label)
    );
}

fn path(line: &Line, scale: &Scale) -> String {
    let every = line.points.len().div_ceil(POINTS_MAX).max(1);
    let (mut path, mut pen) = (String::new(), 'M');
    for (x, y) in line.points.iter().step_by(every) {
        if x.is_finite() && y.is_finite() {
            let _ = write!(path, "{pen}{:.1} {:.1}", scale.x(*x), scale.y(*y));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    path
}

/// Round numbers within `range`: at most about `most`, each 1, 2 or 5 times a power of ten further.
pub(super) fn round_steps(range: (f64, f64), most: f64) -> Vec<f64> {
    let least = (range.1 - range.0) / most;
    if !(least.is_finite() && least > 0.0) {
        return vec![range.0];
    }
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|times| times * power).into_iter().find(|step| *step >= least);
    let step = step.unwrap_or(10.0 * power);
    let first = (range.0 / step - 1e-9).ceil();
    let values = (0..32).map(|index| (first + f64::from(index)) * step);
    values.take_while(|value| *value <= range.1 + step * 1e-9).collect()
}

/// A number with about three digits, none of which is a zero that says nothing.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => return format!("{:.0}k", value / 1000.0),
        size if size >= 100.0 => return format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>, is_log: bool) -> Plot {
        let line = Line { name: "p99 <ms>".to_owned(), points };
        let marks = vec![(2.0, "kill -9 & co".to_owned())];
        Plot { title: "t".to_owned(), is_log, lines: vec![line], marks, ..Plot::default() }
    }

    #[test]
    fn points_stand_where_the_scale_says_and_names_are_escaped() {
        let svg = plot_svg(&plot(vec![(0.0, 0.0), (4.0, 100.0)], false));
        assert!(svg.contains("M70.0 330.0L840.0 72.9"), "{svg}");
        assert!(svg.contains("p99 &lt;ms&gt;") && svg.contains("kill -9 &amp; co"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_logarithmic_scale_has_a_line_for_each_power_of_ten() {
        let svg = plot_svg(&plot(vec![(0.0, 1.0), (4.0, 1000.0)], true));
        for label in [">1<", ">10<", ">100<", ">1000<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn nothing_holes_and_long_lines_are_drawn_too() {
        assert!(!plot_svg(&Plot::default()).contains("NaN"));
        let holes = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, f64::INFINITY), (3.0, 2.0), (4.0, 3.0)];
        let svg = plot_svg(&plot(holes, false));
        assert_eq!(svg.matches('M').count() - svg.matches("Ma").count(), 2, "{svg}");
        let long = (0..1_000_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        assert!(plot_svg(&plot(long, true)).len() < 60_000);
    }

    #[test]
    fn axes_are_labelled_with_round_numbers() {
        assert_eq!(round_steps((0.0, 357.0), 6.0), [0.0, 100.0, 200.0, 300.0]);
        assert_eq!(round_steps((0.5, 14.5), 11.0), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        assert_eq!(round_steps((1.0, 1.0), 6.0), [1.0]);
        assert_eq!([0.05, 8.0, 2.5, 0.0, 12_000.0].map(number), ["0.05", "8", "2.5", "0", "12k"]);
    }
}
