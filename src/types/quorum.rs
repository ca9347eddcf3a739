//! How many answers a request asks for, as a client says it.

use core::fmt;
use core::str::FromStr;

/// A read or write quorum, relative to the table's n where it is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// One answer.
    One,
    /// A majority of n.
    Majority,
    /// All n.
    All,
    /// This many: 1..=n.
    Count(u8),
}

impl Quorum {
    /// The number of answers among `n` owners, or `None` when it is 0 or above `n`.
    pub fn resolve(self, n: u8) -> Option<u8> {
        let count = match self {
            Quorum::One => 1,
            Quorum::Majority => n / 2 + 1,
            Quorum::All => n,
            Quorum::Count(count) => count,
        };
        (1..=n).contains(&count).then_some(count)
    }
}

impl FromStr for Quorum {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "one" => Ok(Quorum::One),
            "quorum" => Ok(Quorum::Majority),
            "all" => Ok(Quorum::All),
            number => number
                .parse()
                .map(Quorum::Count)
                .map_err(|_| format!("quorum {number:?} is none of one, quorum, all or a number")),
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quorum::One => f.write_str("one"),
            Quorum::Majority => f.write_str("quorum"),
            Quorum::All => f.write_str("all"),
            Quorum::Count(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_between_one_and_n() {
        assert_eq!(Quorum::Majority.resolve(3), Some(2));
        assert_eq!(Quorum::Majority.resolve(4), Some(3));
        assert_eq!(Quorum::All.resolve(5), Some(5));
        assert_eq!(Quorum::Count(0).resolve(3), None);
        assert_eq!(Quorum::Count(4).resolve(3), None);
        assert_eq!("quorum".parse(), Ok(Quorum::Majority));
        assert!("two".parse::<Quorum>().is_err());
    }
}
