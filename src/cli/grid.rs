//! Tables for people: a head, columns that stand under it, no lines. And bars, and sizes.

use bytesize::ByteSize;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

/// Lays out rows under their heads; columns from `right` on hold numbers. Every line ends with a
/// newline.
pub(crate) fn grid(heads: &[&str], right: usize, rows: Vec<Vec<Cell>>, color: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
    for row in rows {
        table.add_row(row);
    }
    for index in right..heads.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar of `width` characters, of which `part` of `whole` is filled, to the half.
pub(crate) fn bar(part: u64, whole: u64, width: u64) -> String {
    let halves = (part.min(whole) * width * 2).checked_div(whole).unwrap_or(0);
    let mut text = String::new();
    for place in 0..width {
        text.push(match halves.saturating_sub(place * 2) {
            0 => '·',
            1 => '╸',
            _ => '━',
        });
    }
    text
}

/// Bytes, as people read them.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `part` of `whole` in tenths of a percent, rounded.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let tenths = (part * 1000 + whole / 2) / whole;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A number with gaps between thousands: `201 443`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_filled_to_the_half() {
        assert_eq!(bar(0, 4, 4), "····");
        assert_eq!(bar(1, 4, 4), "━···");
        assert_eq!(bar(3, 8, 4), "━╸··");
        assert_eq!(bar(9, 8, 4), "━━━━");
        assert_eq!(bar(1, 0, 3), "···");
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let row = |name: &str, count: &str| vec![Cell::new(name), Cell::new(count)];
        let text = grid(&["NODE", "COPIES"], 1, vec![row("n1", "1 000"), row("n10", "7")], false);
        assert_eq!(text, " NODE  COPIES\n n1     1 000\n n10        7\n");
    }
}
