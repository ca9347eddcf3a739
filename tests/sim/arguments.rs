//! What the command line and the environment ask of the simulator.

use crate::plan::Plan;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Run the tests.
    Tests,
    /// Name the tests.
    List,
    /// Replay one seed.
    One(u64),
    /// Print the full trace hashes of these seeds.
    Hash(Vec<u64>),
    /// Look for seeds that catch a planted bug.
    Search(String),
}

/// Everything that was asked.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// What to do.
    pub(crate) mode: Mode,
    /// How many fresh seeds.
    pub(crate) seeds: u64,
    /// The first fresh seed; drawn when absent.
    pub(crate) base: Option<u64>,
    /// Run only those of the fresh seeds in which members change.
    pub(crate) members: bool,
    /// Run only those in which things come late.
    pub(crate) late: bool,
    /// Take the seed for that of an hour without an operator.
    pub(crate) hour: bool,
    /// Print the trace, from so many seconds on.
    pub(crate) trace: Option<u64>,
    /// Arm this planted bug.
    pub(crate) mutant: Option<String>,
    filters: Vec<String>,
    exact: bool,
    skip: Vec<String>,
}

/// Fresh seeds when nobody says how many.
const SEEDS: u64 = 100;

impl Arguments {
    /// Reads both; arguments win.
    pub(crate) fn read() -> Result<Arguments, String> {
        let number = |name: &str| match std::env::var(name) {
            Ok(text) => {
                text.parse().map(Some).map_err(|_| format!("{name} is {text:?}, no number"))
            }
            Err(_) => Ok(None),
        };
        let mut arguments = Arguments {
            mode: number("KVD_SIM_SEED")?.map_or(Mode::Tests, Mode::One),
            seeds: number("KVD_SIM_SEEDS")?.unwrap_or(SEEDS),
            base: number("KVD_SIM_BASE")?,
            members: false,
            late: false,
            hour: false,
            trace: (std::env::var("KVD_SIM_TRACE").is_ok_and(|text| text == "1")).then_some(0),
            mutant: None,
            filters: Vec::new(),
            exact: false,
            skip: Vec::new(),
        };
        arguments.take(std::env::args().skip(1))?;
        Ok(arguments)
    }

    fn take(&mut self, mut given: impl Iterator<Item = String>) -> Result<(), String> {
        fn next(given: &mut impl Iterator<Item = String>, of: &str) -> Result<String, String> {
            given.next().ok_or_else(|| format!("{of} wants a value"))
        }
        fn parse(text: &str, of: &str) -> Result<u64, String> {
            text.parse().map_err(|_| format!("{of} wants a number, not {text:?}"))
        }
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--seed" => self.mode = Mode::One(parse(&next(&mut given, "--seed")?, "--seed")?),
                "--seeds" => self.seeds = parse(&next(&mut given, "--seeds")?, "--seeds")?,
                "--base" => self.base = Some(parse(&next(&mut given, "--base")?, "--base")?),
                "--trace" => self.trace = self.trace.or(Some(0)),
                "--from" => self.trace = Some(parse(&next(&mut given, "--from")?, "--from")?),
                "--members" => self.members = true,
                "--late" => self.late = true,
                "--hour" => self.hour = true,
                "--mutant" => self.mutant = Some(next(&mut given, "--mutant")?),
                "--search" => self.mode = Mode::Search(next(&mut given, "--search")?),
                "--hash" => {
                    let list = next(&mut given, "--hash")?;
                    let seeds = list.split(',').map(|text| parse(text, "--hash"));
                    self.mode = Mode::Hash(seeds.collect::<Result<_, _>>()?);
                }
                "--list" => self.mode = Mode::List,
                "--exact" => self.exact = true,
                "--skip" => self.skip.push(next(&mut given, "--skip")?),
                // What people give to every test binary at once, and means nothing here.
                "--format" | "--test-threads" | "--color" | "--logfile" => {
                    next(&mut given, &argument)?;
                }
                flag if flag.starts_with('-') => {}
                filter => self.filters.push(filter.to_owned()),
            }
        }
        Ok(())
    }

    /// The seeds from `base` on that were asked for.
    pub(crate) fn fresh(&self, base: u64) -> impl Iterator<Item = u64> + use<> {
        let (members, late) = (self.members, self.late);
        let wanted = move |seed: &u64| {
            let fits =
                |plan: &Plan| !(members && plan.topology.is_none() || late && plan.late.is_none());
            !members && !late || fits(&Plan::draw(*seed))
        };
        (base..base + self.seeds).filter(wanted)
    }

    /// Whether this word was given, as the name of a test.
    pub(crate) fn names(&self, word: &str) -> bool {
        self.filters.iter().any(|filter| filter == word)
    }

    /// Whether the test `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let hit = |filter: &String| if self.exact { name == filter } else { name.contains(filter) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skip.iter().any(hit)
    }
}
