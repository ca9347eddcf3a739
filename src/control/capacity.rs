//! How many members to reserve: the smallest R for which more than R of n are gone at once only as rarely
//! as is wanted, when each is gone with probability p and none because of another. The exact binomial
//! tail, in logarithms: no normal or Poisson approximation, which are wrong exactly in the tail, and no
//! power of 1 - p, which underflows for large clusters. Failures that have a common cause (a rack, a
//! version) are not in it.

mod sets;

pub use sets::{Chance, any_gone, distinct};

/// Most nodes that [`tail`] sums over.
pub const NODES_MAX: u32 = 1_000_000;

/// P(more than `r` of `nodes` are gone) for each r from 0 on, up to `nodes`, where it is 0. `nodes` is
/// cut to [`NODES_MAX`], `p` to 0..=1.
pub fn tail(nodes: u32, p: f64) -> Vec<f64> {
    let (nodes, p) = (nodes.min(NODES_MAX), p.clamp(0.0, 1.0));
    let count = usize::try_from(nodes).unwrap_or(usize::MAX);
    if p == 0.0 {
        return vec![0.0; count.saturating_add(1)];
    }
    let mut tail = vec![0.0; count.saturating_add(1)];
    // From the far end, where the terms are smallest, so that adding loses none of them.
    let (mut ln_term, mut sum) = (f64::from(nodes) * p.ln(), 0.0);
    let step = (-p).ln_1p() - p.ln();
    for gone in (1..=nodes).rev() {
        sum += ln_term.exp();
        let place = usize::try_from(gone - 1).unwrap_or(usize::MAX);
        if let Some(beyond) = tail.get_mut(place) {
            *beyond = f64::min(sum, 1.0);
        }
        // The term of gone - 1, from that of gone.
        ln_term += f64::from(gone).ln() - f64::from(nodes - gone + 1).ln() + step;
    }
    tail
}

/// The smallest R with P(at most R of `nodes` are gone) above `confidence`, which is in 0..1.
pub fn reserve(nodes: u32, p: f64, confidence: f64) -> u32 {
    smallest(&tail(nodes, p), confidence)
}

/// The same, of a [`tail`].
pub fn smallest(tail: &[f64], confidence: f64) -> u32 {
    let allowed = 1.0 - confidence;
    let enough = tail.iter().position(|beyond| *beyond < allowed);
    u32::try_from(enough.unwrap_or(tail.len().saturating_sub(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserves_are_those_of_exact_fractions() {
        // Computed in rational numbers without rounding.
        for (nodes, p, confidence, reserved) in [
            (1000, 0.005, 0.9, 8),
            (1000, 0.005, 0.95, 9),
            (1000, 0.005, 0.99, 11),
            (1000, 0.005, 0.999, 13),
            (1000, 0.005, 0.9999, 15),
            (1000, 2.0 / 365.0, 0.99, 12),
            (1000, 2.0 / 367.0, 0.99, 12),
            (10, 0.3, 0.99, 7),
            (100, 0.05, 0.99, 11),
            (1000, 1.0 / 3.0, 0.99, 368),
            (10_000, 0.001, 0.99, 18),
        ] {
            assert_eq!(reserve(nodes, p, confidence), reserved, "{nodes} {p} {confidence}");
        }
    }

    #[test]
    fn the_confidence_must_be_exceeded_not_only_met() {
        // P(0 of 1) is a half, P(at most 1 of 2) three quarters, both exactly.
        assert_eq!((reserve(1, 0.5, 0.5), reserve(2, 0.5, 0.75)), (1, 2));
        assert_eq!((reserve(1, 0.5, 0.49), reserve(2, 0.5, 0.74)), (0, 1));
    }

    #[test]
    fn the_ends_are_certain() {
        assert_eq!(
            (reserve(5, 0.0, 0.9999), reserve(5, 1.0, 0.5), reserve(0, 0.5, 0.5)),
            (0, 5, 0)
        );
        // (1 - p)^n is far below the smallest number there is.
        let many = reserve(NODES_MAX, 0.1, 0.99);
        assert!((100_600..100_800).contains(&many), "{many}");
    }

    /// The plain way, for numbers that do not underflow.
    fn plain(nodes: u32, p: f64) -> Vec<f64> {
        let mut term = (1.0 - p).powi(i32::try_from(nodes).unwrap());
        let mut within = 0.0;
        (0..=nodes)
            .map(|gone| {
                within += term;
                term *= f64::from(nodes - gone) / f64::from(gone + 1) * p / (1.0 - p);
                1.0 - within
            })
            .collect()
    }

    proptest! {
        #[test]
        fn logarithms_agree_with_plain_products(nodes in 0u32..200, p in 0.001f64..0.9) {
            for (logs, plain) in tail(nodes, p).iter().zip(plain(nodes, p)) {
                prop_assert!((logs - plain).abs() < 1e-10, "{logs} {plain}");
            }
        }
    }
}
