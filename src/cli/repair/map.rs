//! The map: which owners of which units are equal, as far as either says.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::client::UnitName;
use crate::picture::{Heat, HeatPicture, HeatRow, heat_svg};

use super::Answers;
use crate::cli::exit::Failure;
use crate::cli::output::Output;

/// Columns of a terminal that units share.
const COLUMNS: usize = 64;

/// What either of two owners knows of a unit; the later of both counts.
#[derive(Clone, Copy)]
struct Known {
    verified: Option<Duration>,
    keys: u64,
    under_way: bool,
}

fn heat(known: Known, interval: Duration) -> Heat {
    match known {
        Known { keys, under_way: true, .. } => Heat::Differs(keys.max(1)),
        Known { verified: None, keys: 0, .. } => Heat::Never,
        Known { verified: None, keys, .. } => Heat::Differs(keys),
        Known { verified: Some(age), .. } if age > interval => Heat::Old,
        Known { verified: Some(_), .. } => Heat::Equal,
    }
}

fn picture(answers: &Answers) -> HeatPicture {
    let mut found: BTreeMap<(String, String), BTreeMap<UnitName, Known>> = BTreeMap::new();
    let (mut units, mut interval) = (BTreeSet::new(), Duration::ZERO);
    for (name, told) in &answers.told {
        interval = interval.max(told.interval);
        for pair in &told.pairs {
            units.insert(pair.unit);
            let two = if *name < pair.peer {
                (name.clone(), pair.peer.clone())
            } else {
                (pair.peer.clone(), name.clone())
            };
            let known =
                Known { verified: pair.verified, keys: pair.keys, under_way: pair.under_way };
            let later = |other: &Known| match (known.verified, other.verified) {
                (Some(own), Some(other)) => own < other,
                (own, _) => own.is_some() || known.keys > other.keys,
            };
            let row = found.entry(two).or_default();
            if row.get(&pair.unit).is_none_or(later) {
                row.insert(pair.unit, known);
            }
        }
    }
    let cell = |row: &BTreeMap<UnitName, Known>, unit: &UnitName| {
        row.get(unit).map_or(Heat::None, |known| heat(*known, interval))
    };
    let rows = found.iter().map(|((a, b), row)| HeatRow {
        name: format!("{a} – {b}"),
        cells: units.iter().map(|unit| cell(row, unit)).collect(),
    });
    HeatPicture {
        title: "How equal replicas are".to_owned(),
        rows: rows.collect(),
        units: units.iter().map(|unit| format!("{}/{}", unit.class, unit.partition)).collect(),
    }
}

/// Draws it into a file, or to stdout.
pub(super) fn draw(answers: &Answers, path: &str, output: &mut Output) -> Result<(), Failure> {
    let svg = heat_svg(&picture(answers));
    if path == "-" {
        return output.bytes(svg.as_bytes());
    }
    let unwritable = |error| Failure::internal(format!("cannot write {path}: {error}"));
    std::fs::write(path, svg).map_err(unwritable)?;
    output.note(&format!("the picture is in {path}"));
    Ok(())
}

/// The same in characters. Of units that share a column the worst is shown.
pub(super) fn text(answers: &Answers) -> String {
    let picture = picture(answers);
    let each = picture.units.len().div_ceil(COLUMNS).max(1);
    let width = picture.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for row in &picture.rows {
        let cells = row.cells.chunks(each);
        let cells = cells.map(|some| some.iter().copied().fold(Heat::None, Heat::worst));
        let cells: String = cells.map(sign).collect();
        let _ = writeln!(text, "{:width$}  {cells}", row.name);
    }
    text.push_str(
        "\n· equal  : equal, longer ago than the interval  ? not found equal yet  \
         1..9 digits of the number of keys that differ\n",
    );
    text
}

fn sign(heat: Heat) -> char {
    match heat {
        Heat::None => ' ',
        Heat::Equal => '·',
        Heat::Old => ':',
        Heat::Never => '?',
        Heat::Differs(keys) => char::from_digit(keys.max(1).ilog10().min(8) + 1, 10).unwrap_or('9'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Repair;

    #[test]
    fn the_later_word_counts_and_what_differs_shows() {
        let interval = Duration::from_secs(600);
        let known = |verified: Option<u64>, keys, under_way| Known {
            verified: verified.map(Duration::from_secs),
            keys,
            under_way,
        };
        assert_eq!(heat(known(Some(9), 7, false), interval), Heat::Equal);
        assert_eq!(heat(known(Some(900), 0, false), interval), Heat::Old);
        assert_eq!(heat(known(None, 0, false), interval), Heat::Never);
        assert_eq!(heat(known(None, 12, false), interval), Heat::Differs(12));
        assert_eq!(heat(known(Some(9), 0, true), interval), Heat::Differs(1));
        assert_eq!([1, 9, 10, 12_345].map(|keys| sign(Heat::Differs(keys))), ['1', '1', '2', '5']);
        let mut answers = Answers::default();
        answers.told.insert("n1".to_owned(), Repair::default());
        assert!(text(&answers).contains("equal") && picture(&answers).rows.is_empty());
    }
}
