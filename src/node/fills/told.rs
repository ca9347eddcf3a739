//! What one probe tells of units that are filled or have lost data, where there are more than it has room for.

use crate::message::{FillNews, FillState};

/// At most `most` of what there is to tell. What is complete is told with each probe, since moves wait for all of a
/// unit's owners at once. Of the rest each `turn` tells the next stretch: who hears of a loss acts on it by itself.
pub(super) fn page(mut news: Vec<FillNews>, turn: u64, most: usize) -> Vec<FillNews> {
    if news.len() <= most {
        return news;
    }
    let is_complete = |news: &FillNews| news.state == FillState::Complete;
    // The sort keeps the order of units.
    news.sort_by_key(|news| !is_complete(news));
    let complete = news.iter().filter(|news| is_complete(news)).count();
    let room = most.saturating_sub(complete);
    if let Some(rest) = news.get_mut(complete..)
        && let Ok(count) = u64::try_from(rest.len())
        && let Ok(room) = u64::try_from(room)
        && count > 0
    {
        let begin = turn.wrapping_mul(room) % count;
        let begin = if crate::mutant!("losses-told-in-part") { 0 } else { begin };
        rest.rotate_left(usize::try_from(begin).unwrap_or(0));
    }
    news.truncate(most);
    news
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::types::{ClassId, Epoch, Partition, Unit};

    fn news(number: u16, state: FillState) -> FillNews {
        let unit = Unit { class: ClassId(0), partition: Partition(number) };
        FillNews { unit, entry: Epoch(1), state }
    }

    fn many() -> Vec<FillNews> {
        let state = |number: u16| match number % 10 {
            0 => FillState::Complete,
            5 => FillState::Filling { done_milli: 1 },
            _ => FillState::Lost,
        };
        (0..50).map(|number| news(number, state(number))).collect()
    }

    #[test]
    fn what_fits_is_told_as_it_is() {
        assert_eq!(page(many(), 7, 50), many());
        assert_eq!(page(Vec::new(), 7, 0), Vec::new());
    }

    #[test]
    fn all_losses_are_told_by_turns_and_what_is_complete_always() {
        let mut told = BTreeSet::new();
        for turn in 3..8 {
            let page = page(many(), turn, 15);
            assert_eq!(page.len(), 15);
            let complete = page.iter().filter(|news| news.state == FillState::Complete);
            assert_eq!(complete.count(), 5);
            told.extend(page.iter().map(|news| news.unit.partition));
        }
        assert_eq!(told.len(), 50, "45 in five turns of ten");
    }

    #[test]
    fn more_that_is_complete_than_there_is_room_for_leaves_none() {
        let all = (0..9).map(|number| news(number, FillState::Complete)).collect();
        assert_eq!(page(all, 2, 4).len(), 4);
    }

    #[test]
    fn told_in_part_for_ever_is_noticed() {
        let _armed = crate::testing::arm_mutant("losses-told-in-part");
        let of_turn = |turn| page(many(), turn, 15);
        assert_eq!(of_turn(3), of_turn(4), "the test above would see it");
    }
}
