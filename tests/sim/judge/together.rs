//! Batches: all of one is there, or nothing of it.

use roundtable::types::Stamp;

/// What is wrong with a store that holds these versions of the keys of a batch with `stamp` after a crash, when
/// nobody but its coordinator has brought any; `None`: there is nothing of it.
pub(crate) fn crash_fault(stamp: Stamp, held: &[Option<Stamp>]) -> Option<Result<(), String>> {
    if !held.contains(&Some(stamp)) {
        // Never there, or each was written over.
        return None;
    }
    let is_lacking = |held: &&Option<Stamp>| held.is_none_or(|held| held < stamp);
    let lacking = held.iter().filter(is_lacking).count();
    Some(match lacking {
        0 => Ok(()),
        _ => Err(format!("{lacking} of {} of the batch at {stamp} are not there", held.len())),
    })
}

/// What is wrong with what all owners show in the end of the keys of a batch that wrote `value`; `None`: nothing of
/// it is shown.
pub(crate) fn end_fault(
    value: &[u8],
    shown: &[(Stamp, Option<Vec<u8>>)],
) -> Option<Result<(), String>> {
    let is_of_it = |(_, shown): &&(Stamp, Option<Vec<u8>>)| shown.as_deref() == Some(value);
    let stamp = shown.iter().filter(is_of_it).map(|(stamp, _)| *stamp).max()?;
    let lacking = shown.iter().filter(|(other, _)| *other < stamp).count();
    Some(match lacking {
        0 => Ok(()),
        _ => Err(format!("{lacking} of {} of the batch at {stamp} were never made", shown.len())),
    })
}
