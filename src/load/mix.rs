//! What is asked for: shares of reads, puts and deletes. Pure.

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read.
    Get,
    /// A write.
    Put,
    /// A delete.
    Delete,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 3] = [Kind::Get, Kind::Put, Kind::Delete];

    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::Delete => "delete",
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
}

impl Mix {
    /// YCSB A: half reads, half writes.
    pub const YCSB_A: Mix = Mix { get: 50, put: 50, delete: 0 };
    /// YCSB B: nearly all reads.
    pub const YCSB_B: Mix = Mix { get: 95, put: 5, delete: 0 };
    /// YCSB C: reads only.
    pub const YCSB_C: Mix = Mix { get: 100, put: 0, delete: 0 };

    /// Draws a kind.
    pub fn draw(self, rng: &mut fastrand::Rng) -> Kind {
        let [get, put, delete] = [self.get, self.put, self.delete].map(u32::from);
        match rng.u32(..(get + put + delete).max(1)) {
            drawn if drawn < get => Kind::Get,
            drawn if drawn < get + put => Kind::Put,
            _ if delete > 0 => Kind::Delete,
            _ => Kind::Get,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_in_their_shares() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mix = Mix { get: 2, put: 1, delete: 1 };
        let drawn = (0..40_000).map(|_| mix.draw(&mut rng)).collect::<Vec<_>>();
        let count = |kind| drawn.iter().filter(|drawn| **drawn == kind).count();
        assert!((19_000..21_000).contains(&count(Kind::Get)));
        assert!((9_000..11_000).contains(&count(Kind::Delete)));
        let none = Mix { get: 0, put: 0, delete: 0 };
        assert_eq!(none.draw(&mut rng), Kind::Get);
        assert!((0..99).all(|_| Mix::YCSB_C.draw(&mut rng) == Kind::Get));
    }
}
