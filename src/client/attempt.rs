//! The attempts of one write (design: "Retries"). Each attempt may be stamped only within its
//! window, and the windows of one write follow each other without overlap: an attempt that was
//! given up and wakes up late can only lose to the one after it.

use core::time::Duration;

use crate::message::{Applied, Attempt};
use crate::types::limits::ATTEMPT_WINDOW;
use crate::types::{RequestId, WallTime};

use super::WriteId;

/// A write with a name, and whether it may have been sent before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) write: WriteId,
    pub(crate) again: bool,
}

/// The attempts of one write so far.
#[derive(Debug)]
pub(crate) struct Attempts {
    id: RequestId,
    /// When the write had not begun yet, by the servers' time; 0 while nobody knows.
    since: WallTime,
    next: u32,
    /// Where the window of the last attempt that may have had an effect ended.
    lower: WallTime,
    /// Where the last attempt's window ended.
    upper: WallTime,
    /// The last attempt's window had an end.
    bounded: bool,
    applied: Applied,
}

impl Attempts {
    /// A write without attempts.
    pub(crate) fn new(id: RequestId) -> Attempts {
        let (lower, upper) = (WallTime(0), WallTime(0));
        let (since, applied) = (WallTime(0), Applied::No);
        Attempts { id, since, next: 0, lower, upper, bounded: true, applied }
    }

    /// A write under a name that was given to it before: sent for the first time, or `again`, perhaps
    /// by another program, and then nobody knows what came of it. The first attempt of one that is
    /// sent again is stamped above all windows that were open until now.
    pub(crate) fn named(write: &Named, server_time: Option<WallTime>) -> Attempts {
        let Named { write, again } = *write;
        let attempts = Attempts { since: write.since, ..Attempts::new(write.id) };
        if !again {
            return attempts;
        }
        let open = server_time.map_or(WallTime(0), |now| now.plus(ATTEMPT_WINDOW));
        let lower = write.last.max(open);
        Attempts { next: 1, lower, upper: lower, applied: Applied::Unknown, ..attempts }
    }

    /// What names this write to those who ask what became of it.
    pub(crate) fn write(&self) -> WriteId {
        WriteId { id: self.id, since: self.since, last: self.upper }
    }

    /// The next attempt, given the servers' time now, if it is known. The last one must have been
    /// given up.
    pub(crate) fn begin(&mut self, server_time: Option<WallTime>) -> Attempt {
        let lower = self.lower;
        // A window is never empty: stamps above `lower` exist in it even when the estimate has
        // stood still.
        let upper = server_time.map(|now| now.plus(ATTEMPT_WINDOW).max(WallTime(lower.0 + 1)));
        let number = self.next;
        if number == 0 && self.since == WallTime(0) {
            self.since = server_time.unwrap_or_default();
        }
        self.next += 1;
        self.bounded = upper.is_some();
        self.upper = upper.unwrap_or(lower);
        Attempt { id: self.id, number, lower, upper, since: self.since }
    }

    /// How long the next attempt should wait, given the servers' time now, so that its stamp need
    /// not be ahead of it: retries that do not wait drive the clocks of the cluster forward.
    pub(crate) fn ahead(&self, server_time: Option<WallTime>) -> Duration {
        server_time.map_or(Duration::ZERO, |now| self.lower.ahead_of(now))
    }

    /// How long the window of the attempt under way is open yet; nothing when it has no end.
    pub(crate) fn open(&self, server_time: Option<WallTime>) -> Duration {
        server_time.map_or(Duration::ZERO, |now| self.upper.ahead_of(now))
    }

    /// Takes note of how the last attempt failed.
    pub(crate) fn failed(&mut self, applied: Applied) {
        if applied != Applied::No {
            self.lower = self.upper;
        }
        self.applied = match (self.applied, applied) {
            (Applied::Yes, _) | (_, Applied::Yes) => Applied::Yes,
            (Applied::No, Applied::No) => Applied::No,
            _ => Applied::Unknown,
        };
    }

    /// Whether another attempt may follow one that failed with `applied`: when that had no effect,
    /// or when its window keeps it below the next.
    pub(crate) fn may_follow(&self, applied: Applied) -> bool {
        match applied {
            Applied::No => true,
            Applied::Unknown => self.bounded,
            Applied::Yes => false,
        }
    }

    /// What is known of the write, over all its attempts: one that may have had an effect is not
    /// taken back by a later one that had none.
    pub(crate) fn applied(&self) -> Applied {
        self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId(7);
    const WINDOW_NS: u64 = 200_000_000;

    #[test]
    fn windows_follow_each_other_without_overlap() {
        let mut attempts = Attempts::new(ID);
        let first = attempts.begin(Some(WallTime(1_000)));
        attempts.failed(Applied::Unknown);
        let second = attempts.begin(Some(WallTime(5_000)));
        assert_eq!((first.number, first.lower), (0, WallTime(0)));
        assert_eq!(first.upper, Some(WallTime(1_000 + WINDOW_NS)));
        assert_eq!((second.id, second.number), (ID, 1));
        assert_eq!(Some(second.lower), first.upper);
        assert_eq!(second.upper, Some(WallTime(5_000 + WINDOW_NS)));
    }

    #[test]
    fn a_window_is_never_empty_even_when_server_time_stands_still() {
        let mut attempts = Attempts::new(ID);
        attempts.begin(Some(WallTime(1_000)));
        attempts.failed(Applied::Unknown);
        let second = attempts.begin(Some(WallTime(1_000)));
        assert!(second.upper > Some(second.lower));
    }

    #[test]
    fn an_attempt_without_effect_neither_moves_the_window_nor_makes_the_next_one_wait() {
        let mut attempts = Attempts::new(ID);
        attempts.begin(Some(WallTime(1_000)));
        attempts.failed(Applied::No);
        assert_eq!(attempts.ahead(Some(WallTime(2_000))), Duration::ZERO);
        let second = attempts.begin(Some(WallTime(2_000)));
        assert_eq!(second.lower, WallTime(0));
        attempts.failed(Applied::Unknown);
        assert_eq!(attempts.ahead(Some(WallTime(2_000))), ATTEMPT_WINDOW);
        assert_eq!(attempts.ahead(None), Duration::ZERO);
    }

    #[test]
    fn before_server_time_is_known_only_a_harmless_failure_is_retried() {
        let mut attempts = Attempts::new(ID);
        let first = attempts.begin(None);
        assert_eq!((first.lower, first.upper), (WallTime(0), None));
        assert!(attempts.may_follow(Applied::No));
        assert!(!attempts.may_follow(Applied::Unknown));
        attempts.begin(Some(WallTime(1_000)));
        assert!(attempts.may_follow(Applied::Unknown));
        assert!(!attempts.may_follow(Applied::Yes));
    }

    #[test]
    fn all_attempts_say_since_when_the_write_can_have_begun() {
        let mut attempts = Attempts::new(ID);
        assert_eq!(attempts.begin(Some(WallTime(1_000))).since, WallTime(1_000));
        attempts.failed(Applied::Unknown);
        let second = attempts.begin(Some(WallTime(5_000)));
        assert_eq!(second.since, WallTime(1_000));
        let write = attempts.write();
        assert_eq!((write.id, write.since, Some(write.last)), (ID, second.since, second.upper));
    }

    #[test]
    fn a_write_of_elsewhere_goes_on_above_all_windows_that_may_be_open() {
        let write = WriteId { id: ID, since: WallTime(3), last: WallTime(0) };
        let named = |again| Attempts::named(&Named { write, again }, Some(WallTime(1_000)));
        let first = named(false).begin(Some(WallTime(1_000)));
        assert_eq!((first.id, first.number, first.since), (ID, 0, WallTime(3)));
        assert_eq!(first.lower, WallTime(0));
        let mut attempts = named(true);
        let next = attempts.begin(Some(WallTime(1_000)));
        assert_eq!((next.id, next.number, next.since), (ID, 1, WallTime(3)));
        assert_eq!(next.lower, WallTime(1_000 + WINDOW_NS));
        attempts.failed(Applied::No);
        assert_eq!(attempts.applied(), Applied::Unknown);
    }

    #[test]
    fn an_unknown_attempt_keeps_the_whole_write_unknown() {
        let mut attempts = Attempts::new(ID);
        attempts.failed(Applied::Unknown);
        attempts.failed(Applied::No);
        assert_eq!(attempts.applied(), Applied::Unknown);
        attempts.failed(Applied::Yes);
        attempts.failed(Applied::Unknown);
        assert_eq!(attempts.applied(), Applied::Yes);
    }
}
