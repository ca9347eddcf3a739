//! How well this node itself is, as far as its judgement of others goes (Lifeguard; Dadgar,
//! Phillips, Currey, 2017). One that is slow finds others silent that are not: answers have come and
//! lie in its own queues. So it gives everybody more time, by as much as it notices that it is slow.

/// The score at its worst: everything then takes so many times as long, and once more.
const SCORE_MAX: u32 = 8;

/// The score, 0 for a node that is well.
#[derive(Debug, Default)]
pub(super) struct Health {
    score: u32,
    /// Since the last period: answers in time, and what speaks against this node.
    good: u32,
    bad: u32,
}

impl Health {
    /// By how much everything is stretched.
    pub(super) fn patience(&self) -> u32 {
        if crate::mutant!("slow-observer-convicts") { 1 } else { 1 + self.score }
    }

    /// An answer has come, in time or late.
    pub(super) fn answered(&mut self, in_time: bool) {
        if in_time {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }

    /// Somebody who is there has not even said that it has tried.
    pub(super) fn missed(&mut self) {
        self.bad += 1;
    }

    /// This node has slept, or others had come to suspect it.
    pub(super) fn failed(&mut self) {
        self.score = (self.score + 1).min(SCORE_MAX);
    }

    /// A period is over. One bad link among good ones says nothing about this node.
    pub(super) fn on_period(&mut self) {
        if self.bad > self.good {
            self.failed();
        } else if self.good > 0 {
            self.score = self.score.saturating_sub(1);
        }
        (self.good, self.bad) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_make_patient_and_timely_ones_bring_it_back() {
        let mut health = Health::default();
        health.answered(true);
        health.answered(false);
        health.on_period();
        assert_eq!(health.patience(), 1, "one of two says nothing");
        for period in 0..20 {
            health.answered(false);
            health.on_period();
            assert_eq!(health.patience(), (period + 2).min(9));
        }
        health.on_period();
        assert_eq!(health.patience(), 9, "silence says nothing either");
        health.answered(true);
        health.on_period();
        assert_eq!(health.patience(), 8);
    }
}
