//! Whether an endpoint is worth asking: a few failures in a row take it out for a while, then one
//! request at a time tries it, and an answer lets it back. Knows no socket; time is handed in.

use core::time::Duration;

use crate::types::Time;

/// Failures in a row that take an endpoint out.
const FAILURES_MAX: u32 = 2;
/// So many reads in a row that another node has answered first count as a failure: it may stand still.
const OUTRUN_MAX: u32 = 4;
/// How long it is out the first time; doubled with each failed trial.
const EJECTION_MIN: Duration = Duration::from_millis(250);
/// The longest it is out between trials.
const EJECTION_MAX: Duration = Duration::from_secs(8);

/// Health of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    /// Reads in a row that another has answered first.
    outrun: u32,
    /// Out until then; `None` while it is in.
    out_until: Option<Time>,
}

/// What the picker may do with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ask it.
    In,
    /// Ask it once, to see.
    Trial,
    /// Leave it alone until then.
    Out(Time),
}

impl Health {
    /// Where it stands at `now`.
    pub(crate) fn standing(&self, now: Time) -> Standing {
        match self.out_until {
            None => Standing::In,
            Some(until) if until <= now => Standing::Trial,
            Some(until) => Standing::Out(until),
        }
    }

    /// A trial begins: nobody else tries until it has had its chance.
    pub(crate) fn begin_trial(&mut self, now: Time) {
        self.out_until = Some(now.plus(self.ejection()));
    }

    /// It answered, be it with an error.
    pub(crate) fn answered(&mut self) {
        *self = Health::default();
    }

    /// It could not be reached, did not answer in time, or does not serve.
    pub(crate) fn failed(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.out_until = Some(now.plus(self.ejection()));
        }
    }

    /// Another node, asked later, has answered a read before it.
    pub(crate) fn outrun(&mut self, now: Time) {
        self.outrun += 1;
        if self.outrun >= OUTRUN_MAX {
            self.outrun = 0;
            self.failed(now);
        }
    }

    fn ejection(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FAILURES_MAX).min(16);
        EJECTION_MIN.saturating_mul(1 << doublings).min(EJECTION_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(0);

    #[test]
    fn who_is_outrun_again_and_again_is_out_and_one_answer_in_between_keeps_it_in() {
        let mut health = Health::default();
        for _ in 0..OUTRUN_MAX * FAILURES_MAX - 1 {
            health.outrun(Time(0));
        }
        assert_eq!(health.standing(Time(0)), Standing::In);
        health.outrun(Time(0));
        assert!(matches!(health.standing(Time(0)), Standing::Out(_)));
        let mut health = Health::default();
        for at in 0..OUTRUN_MAX * FAILURES_MAX * 2 {
            if at % OUTRUN_MAX == 0 {
                health.answered();
            }
            health.outrun(Time(0));
        }
        assert_eq!(health.standing(Time(0)), Standing::In);
    }

    #[test]
    fn failures_in_a_row_take_it_out_and_a_good_trial_lets_it_back() {
        let mut health = Health::default();
        health.failed(START);
        assert_eq!(health.standing(START), Standing::In);
        health.failed(START);
        let out = START.plus(EJECTION_MIN);
        assert_eq!(health.standing(START), Standing::Out(out));
        assert_eq!(health.standing(out), Standing::Trial);
        health.begin_trial(out);
        assert_eq!(health.standing(out), Standing::Out(out.plus(EJECTION_MIN)));
        health.answered();
        assert_eq!(health.standing(out), Standing::In);
    }

    #[test]
    fn each_failed_trial_doubles_the_wait_up_to_a_bound() {
        let mut health = Health::default();
        let mut waits = Vec::new();
        for _ in 0..30 {
            health.failed(START);
            if let Standing::Out(until) = health.standing(START) {
                waits.push(until.since(START));
            }
        }
        assert_eq!(waits[0], EJECTION_MIN);
        assert_eq!(waits[1], EJECTION_MIN * 2);
        assert_eq!(waits.last(), Some(&EJECTION_MAX));
    }

    #[test]
    fn an_answer_in_between_forgives_a_single_failure() {
        let mut health = Health::default();
        for _ in 0..10 {
            health.failed(START);
            health.answered();
        }
        assert_eq!(health.standing(START), Standing::In);
    }
}
