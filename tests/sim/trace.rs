//! What a run leaves behind: a hash of every step, and the steps themselves for whoever reads a
//! failing seed. The digest folds a few numbers of each step, which is cheap enough for every run;
//! the full one folds the text of it too, so that two runs with equal hashes are equal in every
//! field that can be printed.

use core::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::plan::{MS, SECOND};

/// How much of each step is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// A few numbers.
    Digest,
    /// Every field.
    Full,
    /// Every field, and printed, from so many seconds on; what is before costs nothing.
    Print(u64),
}

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    detail: Detail,
    hash: u64,
    steps: u64,
}

impl Trace {
    /// A trace without steps.
    pub(crate) fn new(detail: Detail) -> Trace {
        Trace { detail, hash: 0, steps: 0 }
    }

    /// Adds a step: `numbers` are always folded, `text` only in full traces.
    pub(crate) fn step(&mut self, now: u64, numbers: [u64; 3], text: fmt::Arguments<'_>) {
        self.steps += 1;
        self.fold(now);
        for number in numbers {
            self.fold(number);
        }
        let is_wanted = match self.detail {
            Detail::Digest => false,
            Detail::Full => true,
            Detail::Print(from) => now >= from * SECOND,
        };
        if is_wanted {
            let text = text.to_string();
            self.fold(xxh3_64(text.as_bytes()));
            if matches!(self.detail, Detail::Print(_)) {
                let (seconds, micros) = (now / SECOND, now % SECOND / (MS / 1000));
                println!("{seconds:>3}.{micros:06} {text}");
            }
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    fn fold(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
