//! What is asked for: shares of each kind of operation. Pure.

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read.
    Get,
    /// A write.
    Put,
    /// A delete.
    Delete,
    /// A short scan from a drawn key on.
    Scan,
    /// A write of a key that was never there.
    Insert,
    /// A read, and a write of the same key once it is answered: one operation.
    Modify,
    /// An increment of a counter, which stands beside the keys that hold values.
    Increment,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] = [
        Kind::Get,
        Kind::Put,
        Kind::Delete,
        Kind::Scan,
        Kind::Insert,
        Kind::Modify,
        Kind::Increment,
    ];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::Delete => "delete",
            Kind::Scan => "scan",
            Kind::Insert => "insert",
            Kind::Modify => "modify",
            Kind::Increment => "increment",
        }
    }
}

/// Shares of the kinds, relative to their sum. All zero means reads only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Share of reads.
    pub get: u16,
    /// Share of writes.
    pub put: u16,
    /// Share of deletes.
    pub delete: u16,
    /// Share of scans.
    pub scan: u16,
    /// Share of writes of new keys.
    pub insert: u16,
    /// Share of reads that are followed by a write of the same key.
    pub modify: u16,
    /// Share of increments: of tables of kind causal or linearizable.
    pub increment: u16,
}

impl Mix {
    /// No share of anything: for naming only some in `Mix { get: 1, ..Mix::NONE }`.
    pub const NONE: Mix =
        Mix { get: 0, put: 0, delete: 0, scan: 0, insert: 0, modify: 0, increment: 0 };
    /// YCSB A: half reads, half writes.
    pub const YCSB_A: Mix = Mix { get: 50, put: 50, ..Mix::NONE };
    /// YCSB B: nearly all reads.
    pub const YCSB_B: Mix = Mix { get: 95, put: 5, ..Mix::NONE };
    /// YCSB C: reads only.
    pub const YCSB_C: Mix = Mix { get: 100, ..Mix::NONE };
    /// YCSB D: reads of what was inserted last.
    pub const YCSB_D: Mix = Mix { get: 95, insert: 5, ..Mix::NONE };
    /// YCSB E: short scans, and inserts.
    pub const YCSB_E: Mix = Mix { scan: 95, insert: 5, ..Mix::NONE };
    /// YCSB F: half reads, half reads that are followed by a write.
    pub const YCSB_F: Mix = Mix { get: 50, modify: 50, ..Mix::NONE };

    /// The share of a kind, relative to the sum of all.
    pub fn share(self, kind: Kind) -> u16 {
        match kind {
            Kind::Get => self.get,
            Kind::Put => self.put,
            Kind::Delete => self.delete,
            Kind::Scan => self.scan,
            Kind::Insert => self.insert,
            Kind::Modify => self.modify,
            Kind::Increment => self.increment,
        }
    }

    /// Draws a kind.
    pub fn draw(self, rng: &mut fastrand::Rng) -> Kind {
        let shares = Kind::ALL.map(|kind| (kind, u32::from(self.share(kind))));
        let sum: u32 = shares.iter().map(|(_, share)| share).sum();
        let mut drawn = rng.u32(..sum.max(1));
        for (kind, share) in shares {
            if drawn < share {
                return kind;
            }
            drawn -= share;
        }
        Kind::Get
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_in_their_shares() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mix = Mix { get: 2, put: 1, delete: 1, ..Mix::NONE };
        let drawn = (0..40_000).map(|_| mix.draw(&mut rng)).collect::<Vec<_>>();
        let count = |kind| drawn.iter().filter(|drawn| **drawn == kind).count();
        assert!((19_000..21_000).contains(&count(Kind::Get)));
        assert!((9_000..11_000).contains(&count(Kind::Delete)));
        let counts = Mix { increment: 3, ..Mix::NONE };
        assert!((0..99).all(|_| counts.draw(&mut rng) == Kind::Increment));
        assert_eq!(Mix::NONE.draw(&mut rng), Kind::Get);
        assert!((0..99).all(|_| Mix::YCSB_C.draw(&mut rng) == Kind::Get));
    }

    #[test]
    fn the_workloads_of_ycsb_have_their_shares() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (mix, shares) in [
            (Mix::YCSB_A, vec![(Kind::Get, 0.5), (Kind::Put, 0.5)]),
            (Mix::YCSB_B, vec![(Kind::Get, 0.95), (Kind::Put, 0.05)]),
            (Mix::YCSB_C, vec![(Kind::Get, 1.0)]),
            (Mix::YCSB_D, vec![(Kind::Get, 0.95), (Kind::Insert, 0.05)]),
            (Mix::YCSB_E, vec![(Kind::Scan, 0.95), (Kind::Insert, 0.05)]),
            (Mix::YCSB_F, vec![(Kind::Get, 0.5), (Kind::Modify, 0.5)]),
        ] {
            let drawn = (0..20_000).map(|_| mix.draw(&mut rng)).collect::<Vec<_>>();
            let of = |kind| drawn.iter().filter(|drawn| **drawn == kind).count() as f64 / 20_000.0;
            for kind in Kind::ALL {
                let wanted = shares.iter().find(|(named, _)| *named == kind).map_or(0.0, |it| it.1);
                // Four standard deviations of a share of a half.
                assert!((of(kind) - wanted).abs() < 0.015, "{mix:?} {kind:?}: {}", of(kind));
            }
        }
    }
}
