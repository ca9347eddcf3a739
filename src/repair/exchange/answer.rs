//! The side that answers. It keeps nothing of a session: each answer is made of the tree, and of what is
//! read of one range when the question comes.

use super::terms::{Ask, Cell, Mark, Node, Said, Terms};
use super::{MARKS_MAX, RANGE_ENTRIES_MAX};
use crate::repair::tree::{Entry, Range, Sum, Tree};

/// Answers a question. `read` reads the entries of a range in order, at most so many.
///
/// # Errors
/// What `read` says; there is no answer then.
pub fn answer<E>(
    ask: &Ask,
    terms: &Terms,
    tree: &Tree,
    mut read: impl FnMut(&Range, usize) -> Result<Vec<Entry>, E>,
) -> Result<Said, E> {
    let mut entries = |range: &Range| {
        let entries = read(range, RANGE_ENTRIES_MAX + 1)?;
        Ok((entries.len() <= RANGE_ENTRIES_MAX).then_some(entries))
    };
    Ok(match ask {
        Ask::Root => Said::Root(tree.root()),
        Ask::Nodes(range) => Said::Nodes(nodes(tree, range, terms)),
        Ask::Cells(range, cells) => entries(range)?.map_or(Said::TooMany, |entries| {
            let digests = cells.iter().flat_map(|cell| digests(terms, &entries, *cell));
            Said::Cells(below(terms, &entries, cells), digests.collect())
        }),
        Ask::Entries(range, cells) => entries(range)?.map_or(Said::TooMany, |entries| {
            let of = cells.iter().map(|cell| singles(terms, &entries, *cell));
            Said::Entries(below(terms, &entries, cells), of.collect())
        }),
        Ask::Places(range, digests) => entries(range)?.map_or(Said::TooMany, |entries| {
            let is_asked = |entry: &&Entry| digests.contains(&terms.digest(entry.print));
            let mark = |entry: &Entry| Mark {
                place: entry.place.clone(),
                stamp: entry.stamp,
                kind: entry.kind,
            };
            Said::Places(entries.iter().filter(is_asked).take(2 * MARKS_MAX).map(mark).collect())
        }),
    })
}

/// The nodes of a range.
pub(super) fn nodes(tree: &Tree, range: &Range, terms: &Terms) -> Vec<Node> {
    let told = |(from, sum): (_, Sum)| {
        let lane = sum.print.lane(terms.session);
        Node { from, count: sum.count, lane }
    };
    tree.nodes(range).into_iter().map(told).collect()
}

fn below(terms: &Terms, entries: &[Entry], cells: &[Cell]) -> Option<Sum> {
    (cells == [Cell::ALL]).then(|| terms.below(entries))
}

/// The digests of the parts of a cell.
pub(super) fn digests(terms: &Terms, entries: &[Entry], cell: Cell) -> Vec<u32> {
    let mut parts: Vec<(Cell, Sum)> = cell.parts().map(|part| (part, Sum::default())).collect();
    for entry in entries {
        let hash = entry.place.hash(terms.seed);
        let holds = |(part, _): &&mut (Cell, Sum)| part.holds(hash);
        parts.iter_mut().filter(holds).for_each(|(_, sum)| sum.add(entry.print));
    }
    parts.into_iter().map(|(_, sum)| terms.digest(sum.print)).collect()
}

/// What is in a cell.
pub(super) fn inside(terms: &Terms, entries: &[Entry], cell: Cell) -> Sum {
    let mut sum = Sum::default();
    let of = entries.iter().filter(|entry| cell.holds(entry.place.hash(terms.seed)));
    of.for_each(|entry| sum.add(entry.print));
    sum
}

/// The digests of the entries of a cell.
pub(super) fn singles(terms: &Terms, entries: &[Entry], cell: Cell) -> Vec<u32> {
    let of = entries.iter().filter(|entry| cell.holds(entry.place.hash(terms.seed)));
    let mut digests: Vec<u32> = of.map(|entry| terms.digest(entry.print)).collect();
    digests.sort_unstable();
    digests
}
