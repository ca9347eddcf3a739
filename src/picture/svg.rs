//! The few pieces of SVG that the pictures are made of: escaping, points on a circle, ring sectors
//! and colours that can be told apart, also by the colour-blind.

use core::f64::consts::TAU;
use core::fmt;

/// How plots look, in light and in dark. The same for all of them: styles of pictures that stand in one
/// page apply to all of it.
pub(super) const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2933;\
font-size:12px}.title{font-size:15px;font-weight:600}.grid{stroke:#d5dbe1;stroke-width:1}\
.mark{stroke:#66788a;stroke-width:1;stroke-dasharray:4 3}.line{fill:none;stroke-width:1.8}\
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.grid{stroke:#38424d}}";

/// Text as it may stand in an element or an attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // XML has no way to write the other control characters.
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// A circle to draw on.
#[derive(Clone, Copy)]
pub(super) struct Circle {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Circle {
    /// The point at `turn` (0 is the top, 0.25 the right) and `radius`.
    pub(super) fn at(self, turn: f64, radius: f64) -> (f64, f64) {
        let angle = turn * TAU;
        (self.x + radius * angle.sin(), self.y - radius * angle.cos())
    }

    /// The path of the ring sector from turn `from` to `to`, between two radii.
    pub(super) fn sector(self, from: f64, to: f64, inner: f64, outer: f64) -> String {
        // A whole turn has the same start and end, which SVG draws as nothing.
        let to = to.min(from + 0.999_99);
        let large = u8::from(to - from > 0.5);
        let ((ax, ay), (bx, by)) = (self.at(from, outer), self.at(to, outer));
        let ((cx, cy), (dx, dy)) = (self.at(to, inner), self.at(from, inner));
        format!(
            "M{ax:.2} {ay:.2}A{outer} {outer} 0 {large} 1 {bx:.2} {by:.2}\
             L{cx:.2} {cy:.2}A{inner} {inner} 0 {large} 0 {dx:.2} {dy:.2}Z"
        )
    }
}

/// Colours for members: the first eight are those of Okabe and Ito, brightened to one lightness,
/// the others fill up.
const MEMBERS: &[&str] = &[
    "#4e8fd0", "#e69f3c", "#35a883", "#d2649a", "#8c7ae0", "#c9b43a", "#56b4e9", "#d55e3a",
    "#7d9b4e", "#a86f4c", "#5d6fa8", "#b55fc4", "#3f9aa6", "#c27a7a", "#88a0b8", "#9aa83a",
];

/// Colours for zones: quiet, so that the members' stand out.
const ZONES: &[&str] = &["#9fb3c8", "#e3cba8", "#a8d5ba", "#d9b8d6", "#c9c4ee", "#dcd9a0"];

pub(super) fn member_colour(index: usize) -> &'static str {
    pick(MEMBERS, index)
}

pub(super) fn zone_colour(index: usize) -> &'static str {
    pick(ZONES, index)
}

fn pick(colours: &[&'static str], index: usize) -> &'static str {
    colours.get(index % colours.len()).copied().unwrap_or("#888888")
}

/// A latency in seconds, with its unit and without needless digits: for axes.
pub(super) fn seconds(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value < 1e-3 => (value * 1e6, "µs"),
        value if value < 1.0 => (value * 1e3, "ms"),
        value => (value, "s"),
    };
    // One digit after the point at most, and none that is zero.
    let tenths = (scaled * 10.0).round() / 10.0;
    format!("{tenths} {unit}")
}
