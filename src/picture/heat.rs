//! How equal the owners of units are: a row for each two of them, a cell for each unit.

use core::fmt::Write as _;

use super::svg::Escaped;

const LEFT: f64 = 150.0;
const TOP: f64 = 60.0;
const ROW: f64 = 16.0;
const WIDTH: f64 = 960.0;

/// What is known of a unit of two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// They do not share it.
    None,
    /// Found equal lately.
    Equal,
    /// Found equal, longer ago than it should be.
    Old,
    /// Not found equal since their start.
    Never,
    /// So many keys differed when it was last compared.
    Differs(u64),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeatRow {
    /// Whose.
    pub name: String,
    /// For each unit.
    pub cells: Vec<Heat>,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeatPicture {
    /// Above it.
    pub title: String,
    /// The rows.
    pub rows: Vec<HeatRow>,
    /// Names of the units, as a tooltip says them.
    pub units: Vec<String>,
}

impl Heat {
    /// In words.
    pub fn text(self) -> String {
        match self {
            Heat::None => "not shared".to_owned(),
            Heat::Equal => "equal".to_owned(),
            Heat::Old => "equal, some time ago".to_owned(),
            Heat::Never => "not found equal yet".to_owned(),
            Heat::Differs(1) => "1 key differed".to_owned(),
            Heat::Differs(keys) => format!("{keys} keys differed"),
        }
    }

    /// Of several units the one that matters most.
    #[must_use]
    pub fn worst(self, other: Heat) -> Heat {
        if self.rank() >= other.rank() { self } else { other }
    }

    fn rank(self) -> u64 {
        match self {
            Heat::None => 0,
            Heat::Equal => 1,
            Heat::Old => 2,
            Heat::Never => 3,
            Heat::Differs(keys) => keys.saturating_add(4),
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Heat::None => "none",
            Heat::Equal => "#35a883",
            Heat::Old => "#a9cbb9",
            Heat::Never => "#9aa5b1",
            Heat::Differs(..10) => "#e6c73c",
            Heat::Differs(..1000) => "#e69f3c",
            Heat::Differs(_) => "#d5453a",
        }
    }
}

/// Draws the map. The text is a whole SVG document.
pub fn heat_svg(picture: &HeatPicture) -> String {
    let count = |length: usize| f64::from(u32::try_from(length).unwrap_or(u32::MAX));
    let height = TOP + ROW * count(picture.rows.len()) + 40.0;
    let title = Escaped(&picture.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\"><title>{title}</title><style>text{{font-family:system-ui,-apple-system,\
         'Segoe UI','DejaVu Sans',sans-serif;font-size:11px;fill:#1f2933}}.title{{font-size:15px;\
         font-weight:600}}@media(prefers-color-scheme:dark){{text{{fill:#e4e9ee}}}}</style>\n\
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>\n"
    );
    let width = (WIDTH - LEFT - 12.0) / count(picture.units.len()).max(1.0);
    for (index, row) in picture.rows.iter().enumerate() {
        let y = TOP + ROW * count(index);
        let text = y + ROW - 4.0;
        let name = Escaped(&row.name);
        let _ = writeln!(svg, "<text x=\"12\" y=\"{text:.1}\">{name}</text>");
        for (at, (heat, unit)) in row.cells.iter().zip(&picture.units).enumerate() {
            if *heat == Heat::None {
                continue;
            }
            let x = LEFT + width * count(at);
            let tip = format!("{}, unit {unit}: {}", row.name, heat.text());
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{:.1}\" \
                 fill=\"{}\"><title>{}</title></rect>",
                ROW - 2.0,
                heat.colour(),
                Escaped(&tip),
            );
        }
    }
    legend(&mut svg, height - 14.0);
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, y: f64) {
    let shown = [
        (Heat::Equal, "equal"),
        (Heat::Old, "equal, some time ago"),
        (Heat::Never, "not found equal yet"),
        (Heat::Differs(1), "differs: 1.."),
        (Heat::Differs(10), "10.."),
        (Heat::Differs(1000), "1000 keys and more"),
    ];
    let mut x = 12.0;
    for (heat, text) in shown {
        let (colour, top) = (heat.colour(), y - 10.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{text}</text>",
            x + 17.0,
        );
        x += 150.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shared_unit_is_drawn_and_named() {
        let cells = vec![Heat::Equal, Heat::None, Heat::Differs(1234), Heat::Never];
        let picture = HeatPicture {
            title: "a <b>".to_owned(),
            rows: vec![HeatRow { name: "n1 – n2".to_owned(), cells }],
            units: (0..4).map(|unit| format!("0/{unit}")).collect(),
        };
        let svg = heat_svg(&picture);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("unit 0/1:"));
        assert!(svg.contains("n1 – n2, unit 0/2: 1234 keys differed"));
        assert_eq!(svg.matches("<rect").count(), 3 + 6);
    }

    #[test]
    fn the_worst_is_what_differs_most() {
        let all =
            [Heat::None, Heat::Equal, Heat::Old, Heat::Never, Heat::Differs(1), Heat::Differs(9)];
        for (index, heat) in all.iter().enumerate() {
            for other in &all[..=index] {
                assert_eq!((heat.worst(*other), other.worst(*heat)), (*heat, *heat));
            }
        }
    }
}
