//! The hybrid logical clock that gives stamps (Kulkarni et al., "Logical Physical Clocks", 2014,
//! section 3), with a durable ceiling: no stamp at or above it is given before it has been raised
//! on disk, so that a restart, even with the wall clock set back, starts above every stamp of the
//! lives before (I8).

use crate::types::{NodeId, Stamp, WallTime, limits};

/// Gives this node's stamps.
#[derive(Clone, Debug)]
pub struct Clock {
    me: NodeId,
    /// INVARIANT: at or above every stamp given; its time never goes back.
    last: (WallTime, u32),
    /// INVARIANT: durable, and above the time of every stamp given.
    ceiling: WallTime,
    reserving: Option<WallTime>,
}

/// Why no stamp could be given now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampError {
    /// The ceiling must be raised on disk first; ask again then.
    Ceiling,
    /// The stamp would be above what the attempt allows.
    AboveUpper,
    /// The stamp would be too far ahead of this node's clocks.
    TooFarAhead,
}

impl Clock {
    /// The clock of a node whose store held `ceiling`.
    pub fn new(me: NodeId, ceiling: WallTime) -> Clock {
        let start = if crate::mutant!("clock-back-on-restart") { WallTime(0) } else { ceiling };
        Clock { me, last: (start, 0), ceiling, reserving: None }
    }

    /// The clock of record: the wall clock, or the last stamp where that is ahead of it.
    pub fn of_record(&self, wall: WallTime) -> WallTime {
        wall.max(self.last.0)
    }

    /// The durable ceiling.
    pub fn ceiling(&self) -> WallTime {
        self.ceiling
    }

    /// Takes note of a stamp from elsewhere, so that later stamps of this node are above it; but
    /// never moves further than the clock bound past the wall clock, whatever arrives.
    pub fn observe(&mut self, wall: WallTime, stamp: Stamp) {
        let bound = wall.plus(limits::CLOCK_AHEAD_MAX);
        if stamp.time <= bound {
            self.last = self.last.max((stamp.time, stamp.counter));
        } else {
            self.last = self.last.max((bound, 0));
        }
    }

    /// Gives a stamp above every one given before and above `above`, with a time above `lower`
    /// and not above `upper`.
    ///
    /// # Errors
    /// Says why not; the clock has not moved.
    pub fn stamp(
        &mut self,
        wall: WallTime,
        above: Stamp,
        lower: WallTime,
        upper: Option<WallTime>,
    ) -> Result<Stamp, StampError> {
        let floor = self.last.max((above.time, above.counter));
        let earliest = wall.max(WallTime(lower.0.saturating_add(1)));
        let next = if earliest > floor.0 {
            (earliest, 0)
        } else {
            match floor.1.checked_add(1) {
                Some(counter) => (floor.0, counter),
                // At the end of time the counter stays, and the bound below refuses.
                None => match floor.0.0.checked_add(1) {
                    Some(time) => (WallTime(time), 0),
                    None => return Err(StampError::TooFarAhead),
                },
            }
        };
        if upper.is_some_and(|upper| next.0 > upper) {
            return Err(StampError::AboveUpper);
        }
        let pushed = next.0 > floor.0 && next.0 > wall.plus(limits::WINDOW_AHEAD_MAX);
        if pushed || next.0 > self.of_record(wall).plus(limits::CLOCK_AHEAD_MAX) {
            return Err(StampError::TooFarAhead);
        }
        if next.0 >= self.ceiling && !crate::mutant!("ceiling-not-durable") {
            return Err(StampError::Ceiling);
        }
        self.last = next;
        Ok(Stamp { time: next.0, counter: next.1, node: self.me })
    }

    /// The ceiling to persist now, if one should be: half of the reserve is used up, or `wanted`
    /// (a stamp's time that was refused for it) is above it. One is persisted at a time.
    pub fn reserve(&mut self, wall: WallTime, wanted: WallTime) -> Option<WallTime> {
        if self.reserving.is_some() {
            return None;
        }
        let clock = self.of_record(wall).max(wanted);
        if self.ceiling.ahead_of(clock) > limits::CEILING_RESERVE / 2 {
            return None;
        }
        let ceiling = clock.plus(limits::CEILING_RESERVE);
        self.reserving = Some(ceiling);
        Some(ceiling)
    }

    /// The reservation has been made durable, or has failed.
    pub fn reserved(&mut self, durable: bool) {
        if let Some(ceiling) = self.reserving.take()
            && durable
        {
            self.ceiling = self.ceiling.max(ceiling);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ready(wall: WallTime) -> Clock {
        let mut clock = Clock::new(NodeId(1), WallTime(0));
        clock.reserve(wall, wall).unwrap();
        clock.reserved(true);
        clock
    }

    fn stamp(clock: &mut Clock, wall: u64) -> Result<Stamp, StampError> {
        clock.stamp(WallTime(wall), Stamp::ZERO, WallTime(0), None)
    }

    #[test]
    fn stamps_increase_though_the_wall_clock_goes_back() {
        let mut clock = ready(WallTime(1000 * MS));
        let a = stamp(&mut clock, 1000 * MS).unwrap();
        let b = stamp(&mut clock, 900 * MS).unwrap();
        let c = stamp(&mut clock, 1000 * MS + 1).unwrap();
        assert!(a < b && b < c);
    }

    #[test]
    fn windows_push_the_clock_no_further_than_their_bound_past_the_wall() {
        let wall = WallTime(10_000 * MS);
        let mut clock = ready(wall);
        let mut lower = wall;
        let refused = (0..20).find_map(|_| {
            lower = lower.plus(limits::ATTEMPT_WINDOW);
            clock.reserve(wall, lower);
            clock.reserved(true);
            clock.stamp(wall, Stamp::ZERO, lower, None).err()
        });
        assert_eq!(refused, Some(StampError::TooFarAhead));
        let bound = wall.plus(limits::WINDOW_AHEAD_MAX);
        assert!(clock.of_record(wall) <= bound && lower.plus(limits::ATTEMPT_WINDOW) > bound);
        // What is stamped already is gone above all the same.
        let seen = Stamp { time: clock.of_record(wall), counter: 5, node: NodeId(2) };
        assert!(clock.stamp(wall, seen, WallTime(0), None).unwrap() > seen);
        // And the wall catches up.
        assert!(clock.stamp(wall.plus(limits::WINDOW_AHEAD_MAX), Stamp::ZERO, lower, None).is_ok());
    }

    #[test]
    fn no_stamp_is_given_at_or_above_the_durable_ceiling() {
        let mut clock = ready(WallTime(1000 * MS));
        let above = clock.ceiling();
        assert_eq!(stamp(&mut clock, above.0), Err(StampError::Ceiling));
        assert!(clock.reserve(above, above).is_some());
        assert_eq!(stamp(&mut clock, above.0), Err(StampError::Ceiling));
        clock.reserved(true);
        assert!(stamp(&mut clock, above.0).is_ok());
    }

    #[test]
    fn a_restart_with_the_clock_set_back_starts_above_the_lives_before() {
        let mut clock = ready(WallTime(1000 * MS));
        let before = stamp(&mut clock, 1100 * MS).unwrap();
        let mut clock = Clock::new(NodeId(1), clock.ceiling());
        assert_eq!(stamp(&mut clock, 1), Err(StampError::Ceiling));
        clock.reserve(WallTime(1), WallTime(1)).unwrap();
        clock.reserved(true);
        assert!(stamp(&mut clock, 1).unwrap() > before);
    }

    #[test]
    fn an_arriving_stamp_moves_the_clock_at_most_to_the_bound() {
        let mut clock = ready(WallTime(1000 * MS));
        let far = Stamp { time: WallTime(u64::MAX), counter: 0, node: NodeId(2) };
        clock.observe(WallTime(1000 * MS), far);
        assert_eq!(clock.of_record(WallTime(1000 * MS)), WallTime(1500 * MS));
    }

    #[test]
    fn an_attempt_stamps_inside_its_window_or_not_at_all() {
        let mut clock = ready(WallTime(1000 * MS));
        let (wall, lower) = (WallTime(1000 * MS), WallTime(1010 * MS));
        let given = clock.stamp(wall, Stamp::ZERO, lower, Some(WallTime(1011 * MS))).unwrap();
        assert!(given.time > lower);
        let late = clock.stamp(wall, Stamp::ZERO, WallTime(0), Some(WallTime(999 * MS)));
        assert_eq!(late, Err(StampError::AboveUpper));
        let far = clock.stamp(wall, Stamp::ZERO, WallTime(9000 * MS), None);
        assert_eq!(far, Err(StampError::TooFarAhead));
    }

    #[test]
    fn a_stamp_at_the_end_of_time_is_too_far_ahead_and_does_not_turn_the_clock_over() {
        let mut clock = ready(WallTime(1000 * MS));
        let last = Stamp { time: WallTime(u64::MAX), counter: u32::MAX, node: NodeId(9) };
        let given = clock.stamp(WallTime(1000 * MS), last, WallTime(0), None);
        assert_eq!(given, Err(StampError::TooFarAhead));
    }
}
