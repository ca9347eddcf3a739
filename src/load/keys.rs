//! Which key is asked for next. Pure: the generator of random numbers is handed in.

use std::sync::Arc;

use crate::types::Key;

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All keys alike.
    Uniform,
    /// A few keys take most requests: key rank `k` is asked for in proportion to `1 / k^theta`.
    /// `theta` is in (0, 1); 0.99 is what YCSB uses. Which keys are the hot ones is scrambled, so
    /// that they do not sit side by side.
    Zipfian {
        /// The skew.
        theta: f64,
    },
    /// The keys that were added last take most requests: as `Zipfian`, but rank 0 is the newest key,
    /// and nothing is scrambled.
    Latest {
        /// The skew.
        theta: f64,
    },
}

/// Chooses among `count` keys.
///
/// Zipfian numbers are drawn as in Gray et al., "Quickly Generating Billion-Record Synthetic
/// Databases" (SIGMOD 1994).
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    prefix: String,
    zipf: Option<Zipf>,
    /// Ranks count back from the newest key.
    is_latest: bool,
    /// The keys themselves, where they do not follow from the prefix.
    listed: Arc<[Key]>,
}

#[derive(Clone, Debug)]
struct Zipf {
    theta: f64,
    alpha: f64,
    zeta_n: f64,
    eta: f64,
}

impl Keys {
    /// Keys `prefix` + 12 digits, `count` of them; at least one.
    ///
    /// # Errors
    /// `theta` is outside (0, 1), or the prefix leaves no room for a key.
    pub fn new(
        prefix: impl Into<String>,
        count: u64,
        distribution: Distribution,
    ) -> Result<Keys, String> {
        let (prefix, count) = (prefix.into(), count.max(1));
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian { theta } | Distribution::Latest { theta } => {
                if !(theta > 0.0 && theta < 1.0) {
                    return Err(format!("theta {theta} is not in (0, 1)"));
                }
                Some(Zipf::new(count, theta))
            }
        };
        let is_latest = matches!(distribution, Distribution::Latest { .. });
        let keys = Keys { count, prefix, zipf, is_latest, listed: Arc::default() };
        Key::new(keys.name(u64::MAX)).map_err(|error| error.to_string())?;
        Ok(keys)
    }

    /// Exactly these keys, all alike.
    ///
    /// # Errors
    /// There is none.
    pub fn listed(keys: Vec<Key>) -> Result<Keys, String> {
        if keys.is_empty() {
            return Err("no keys to choose among".to_owned());
        }
        let count = keys.len() as u64;
        let prefix = String::new();
        Ok(Keys { count, prefix, zipf: None, is_latest: false, listed: keys.into() })
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Key number `index`.
    pub fn key(&self, index: u64) -> Key {
        let listed = usize::try_from(index).ok().and_then(|index| self.listed.get(index));
        if let Some(key) = listed {
            return key.clone();
        }
        Key::new(self.name(index)).expect("the longest name was checked at birth")
    }

    /// Draws a key.
    pub fn draw(&self, rng: &mut fastrand::Rng) -> Key {
        self.key(self.draw_index(rng))
    }

    /// Draws a key's number, below [`Keys::count`].
    pub fn draw_index(&self, rng: &mut fastrand::Rng) -> u64 {
        self.draw_of(self.count, rng)
    }

    /// Draws a key's number when there are `present` keys by now, at least [`Keys::count`]: uniform
    /// over all of them, the newest most of all, or zipfian over the first ones, whose hot keys stay
    /// the same.
    pub fn draw_of(&self, present: u64, rng: &mut fastrand::Rng) -> u64 {
        let present = present.max(self.count);
        match &self.zipf {
            None => rng.u64(..present),
            Some(zipf) if self.is_latest => present - 1 - zipf.rank(self.count, rng.f64()),
            Some(zipf) => scramble(zipf.rank(self.count, rng.f64())) % self.count,
        }
    }

    /// What all keys begin with; empty where they are listed.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, index: u64) -> String {
        format!("{}{index:012}", self.prefix)
    }
}

impl Zipf {
    #[allow(clippy::cast_precision_loss, reason = "a distribution, not an account")]
    fn new(count: u64, theta: f64) -> Zipf {
        let zeta_n = zeta(count, theta);
        let alpha = 1.0 / (1.0 - theta);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - zeta(2, theta) / zeta_n);
        Zipf { theta, alpha, zeta_n, eta }
    }

    /// The rank, from 0, that the uniform number `u` in [0, 1) stands for.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, and the result is clamped to the count"
    )]
    fn rank(&self, count: u64, u: f64) -> u64 {
        let scaled = u * self.zeta_n;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1.min(count - 1);
        }
        let rank = count as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(count - 1)
    }
}

/// The sum of `1 / k^theta` for k in 1..=count: exactly for the first million terms, by the
/// integral for the rest, which is good to better than a millionth there.
#[allow(clippy::cast_precision_loss, reason = "a distribution, not an account")]
fn zeta(count: u64, theta: f64) -> f64 {
    let exact = count.min(1_000_000);
    let head: f64 = (1..=exact).map(|k| (k as f64).powf(-theta)).sum();
    let antiderivative = |x: f64| x.powf(1.0 - theta) / (1.0 - theta);
    head + antiderivative(count as f64 + 0.5) - antiderivative(exact as f64 + 0.5)
}

/// A bijection that spreads neighbours (the finisher of SplitMix64, Steele et al. 2014).
fn scramble(index: u64) -> u64 {
    let mixed = (index ^ (index >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_drawn_and_no_others() {
        let keys: Vec<Key> = ["a", "b", "c"].map(|key| Key::new(key).unwrap()).to_vec();
        let listed = Keys::listed(keys.clone()).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let drawn: std::collections::BTreeSet<Key> =
            (0..99).map(|_| listed.draw(&mut rng)).collect();
        assert_eq!(drawn, keys.into_iter().collect());
        assert!(Keys::listed(Vec::new()).is_err());
    }
    use std::collections::BTreeMap;

    fn counts(distribution: Distribution, count: u64, draws: u64) -> Vec<u64> {
        let keys = Keys::new("k", count, distribution).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = BTreeMap::<u64, u64>::new();
        (0..draws).for_each(|_| *counts.entry(keys.draw_index(&mut rng)).or_default() += 1);
        assert!(counts.keys().all(|index| *index < count));
        let mut counts = counts.into_values().collect::<Vec<_>>();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    #[test]
    fn uniform_draws_leave_no_key_out_and_favour_none() {
        let counts = counts(Distribution::Uniform, 100, 100_000);
        assert_eq!(counts.len(), 100);
        assert!(counts[0] < 1200 && counts[99] > 800, "{counts:?}");
    }

    #[test]
    fn zipfian_draws_follow_the_law() {
        let counts = counts(Distribution::Zipfian { theta: 0.99 }, 10_000, 200_000);
        // The hottest key takes 1 / zeta(10,000, 0.99), about 9.9 %, of the draws.
        assert!((18_000..22_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[1] && counts[1] > counts[9]);
        let top: u64 = counts.iter().take(100).sum();
        assert!(top > 100_000, "{top} of 200,000 for the hottest hundredth");
    }

    #[test]
    fn the_first_ranks_come_as_often_as_zipf_says() {
        let (count, theta, draws) = (1000, 0.9, 400_000);
        let latest = Keys::new("k", count, Distribution::Latest { theta }).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut counts = vec![0u32; 1000];
        // 500 keys have been added since: the newest is number 1499.
        for _ in 0..draws {
            let rank = 1499 - latest.draw_of(1500, &mut rng);
            counts[usize::try_from(rank).unwrap()] += 1;
        }
        let zeta_n = zeta(count, theta);
        for rank in [0, 1] {
            let wanted = (rank as f64 + 1.0).powf(-theta) / zeta_n * f64::from(draws);
            let got = f64::from(counts[rank]);
            assert!((got / wanted - 1.0).abs() < 0.03, "rank {rank}: {got}, not {wanted}");
        }
        // From rank 2 on the method approximates: sums over tens of ranks are within a twentieth.
        for ranks in [2..20, 20..200, 200..1000] {
            let law = |rank: usize| (rank as f64 + 1.0).powf(-theta) / zeta_n * f64::from(draws);
            let wanted: f64 = ranks.clone().map(law).sum();
            let got = f64::from(counts[ranks.clone()].iter().sum::<u32>());
            assert!((got / wanted - 1.0).abs() < 0.08, "{ranks:?}: {got}, not {wanted}");
        }
    }

    #[test]
    fn uniform_draws_reach_keys_that_were_added() {
        let keys = Keys::new("k", 10, Distribution::Uniform).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let drawn: std::collections::BTreeSet<u64> =
            (0..999).map(|_| keys.draw_of(20, &mut rng)).collect();
        assert_eq!(drawn, (0..20).collect());
    }

    #[test]
    fn the_tail_of_zeta_is_as_good_as_its_head() {
        let exact: f64 = (1..=1_500_000_u32).map(|k| f64::from(k).powf(-0.9)).sum();
        assert!((zeta(1_500_000, 0.9) - exact).abs() < 1e-6);
    }

    #[test]
    fn impossible_choices_are_refused() {
        assert!(Keys::new("k", 9, Distribution::Zipfian { theta: 1.0 }).is_err());
        assert!(Keys::new("x".repeat(4096), 9, Distribution::Uniform).is_err());
        assert_eq!(counts(Distribution::Zipfian { theta: 0.5 }, 1, 50), [50]);
    }
}
