//! The workloads of YCSB (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010) and
//! mixes of one's own.

use clap::ValueEnum;
use comfy_table::Cell;
use serde_json::{Value as Json, json};

use crate::load::mix::{Kind, Mix};

use crate::cli::args::Format;
use crate::cli::exit::Failure;
use crate::cli::grid::grid;
use crate::cli::output::Output;

/// A workload by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// Half reads, half writes
    A,
    /// 95 % reads, 5 % writes
    B,
    /// Reads only
    C,
    /// 95 % reads of the newest keys, 5 % inserts
    D,
    /// 95 % short scans, 5 % inserts
    E,
    /// Half reads, half reads followed by a write of the same key
    F,
}

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Dist {
    /// All keys alike
    Uniform,
    /// A few keys take most requests, spread over all keys
    Zipfian,
    /// The keys that were added last take most requests
    Latest,
}

impl Dist {
    pub(super) fn name(self) -> &'static str {
        match self {
            Dist::Uniform => "uniform",
            Dist::Zipfian => "zipfian",
            Dist::Latest => "latest",
        }
    }
}

impl Workload {
    const ALL: [Workload; 6] =
        [Workload::A, Workload::B, Workload::C, Workload::D, Workload::E, Workload::F];

    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::A => "a",
            Workload::B => "b",
            Workload::C => "c",
            Workload::D => "d",
            Workload::E => "e",
            Workload::F => "f",
        }
    }

    pub(super) fn mix(self) -> Mix {
        match self {
            Workload::A => Mix::YCSB_A,
            Workload::B => Mix::YCSB_B,
            Workload::C => Mix::YCSB_C,
            Workload::D => Mix::YCSB_D,
            Workload::E => Mix::YCSB_E,
            Workload::F => Mix::YCSB_F,
        }
    }

    /// The distribution that the definition asks for.
    pub(super) fn dist(self) -> Dist {
        if self == Workload::D { Dist::Latest } else { Dist::Zipfian }
    }

    /// What is like it, and what it does.
    fn story(self) -> &'static str {
        match self {
            Workload::A => "a store of sessions: half reads, half writes of whole values",
            Workload::B => "tags on photographs: nearly all reads, some writes",
            Workload::C => "a cache of profiles that are made elsewhere: reads only",
            Workload::D => "news: new keys are added, and the newest are read most",
            Workload::E => "threads of messages: scans of 1 to 100 keys, and new keys",
            Workload::F => "records that users change: a read, then a write of the same key",
        }
    }
}

/// Reads shares such as `get=50,put=40,delete=5,scan=5`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn mix(text: &str) -> Result<Mix, String> {
    let mut mix = Mix::NONE;
    for part in text.split(',') {
        let (name, share) = part.split_once('=').ok_or(format!("{part:?} is not KIND=SHARE"))?;
        let kinds = Kind::ALL.map(Kind::as_str);
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name.trim());
        let Some(kind) = kind else {
            return Err(format!("there is no kind {name:?}, only {}", kinds.join(", ")));
        };
        let share = share.trim().parse::<u16>().ok().filter(|share| *share <= 10_000);
        let share = share.ok_or(format!("the share of {name} is a whole number up to 10000"))?;
        let place = match kind {
            Kind::Get => &mut mix.get,
            Kind::Put => &mut mix.put,
            Kind::Delete => &mut mix.delete,
            Kind::Scan => &mut mix.scan,
            Kind::Insert => &mut mix.insert,
            Kind::Modify => &mut mix.modify,
            Kind::Increment => &mut mix.increment,
        };
        if std::mem::replace(place, share) != 0 {
            return Err(format!("{name} is there twice"));
        }
    }
    if mix == Mix::NONE { Err("all shares are zero".to_owned()) } else { Ok(mix) }
}

/// Shares in percent: `50 % get, 50 % put`.
pub(super) fn mix_text<'a>(shares: impl IntoIterator<Item = (&'a str, u16)> + Clone) -> String {
    let sum: f64 = shares.clone().into_iter().map(|(_, share)| f64::from(share)).sum();
    let percent = |share: u16| {
        let tenths = (f64::from(share) * 1000.0 / sum.max(1.0)).round() / 10.0;
        format!("{tenths} %")
    };
    let parts = shares.into_iter().filter(|(_, share)| *share > 0);
    parts.map(|(kind, share)| format!("{} {kind}", percent(share))).collect::<Vec<_>>().join(", ")
}

/// The shares of a mix, by name, without those that are zero.
pub(super) fn shares(mix: Mix) -> impl Iterator<Item = (&'static str, u16)> + Clone {
    let named = Kind::ALL.into_iter().map(move |kind| (kind.as_str(), mix.share(kind)));
    named.filter(|(_, share)| *share > 0)
}

/// Shows the workloads.
pub(super) fn list(output: &mut Output) -> Result<(), Failure> {
    let facts = Workload::ALL.map(|workload| {
        let mix = mix_text(shares(workload.mix()));
        (workload.name(), mix, workload.dist().name(), workload.story())
    });
    match output.format() {
        Format::Json | Format::Jsonl => {
            for (workload, (name, _, dist, story)) in Workload::ALL.into_iter().zip(facts) {
                let mix: serde_json::Map<String, Json> = shares(workload.mix())
                    .map(|(kind, share)| (kind.to_owned(), share.into()))
                    .collect();
                output
                    .element(&json!({ "name": name, "mix": mix, "dist": dist, "like": story }))?;
            }
            output.end_elements()
        }
        Format::Plain => facts.iter().try_for_each(|(name, mix, dist, story)| {
            output.line(&format!("{name}\t{mix}\t{dist}\t{story}"))
        }),
        Format::Table => {
            let row = |(name, mix, dist, story): &(&str, String, &str, &str)| {
                [*name, mix.as_str(), *dist, *story].map(Cell::new).to_vec()
            };
            let rows = facts.iter().map(row).collect();
            let text = grid(&["NAME", "OPERATIONS", "KEYS", "LIKE"], 4, rows, output.color());
            output.bytes(text.as_bytes())?;
            output.note("hint: `kvctl bench run NAME --load` runs one; `--mix` makes others");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_read_and_mistakes_are_named() {
        let read = mix("get=50, put=40,delete=5,scan=5").unwrap();
        assert_eq!(read, Mix { get: 50, put: 40, delete: 5, scan: 5, ..Mix::NONE });
        let counts = mix("get=1,increment=3").unwrap();
        assert_eq!(counts, Mix { get: 1, increment: 3, ..Mix::NONE });
        assert_eq!(mix_text(shares(read)), "50 % get, 40 % put, 5 % delete, 5 % scan");
        assert_eq!(mix_text(shares(mix("get=2,modify=1").unwrap())), "66.7 % get, 33.3 % modify");
        for (text, why) in [
            ("get", "KIND=SHARE"),
            ("read=1", "no kind \"read\", only get, put"),
            ("get=-1", "share of get"),
            ("get=10001", "up to 10000"),
            ("get=1,get=2", "twice"),
            ("get=0", "zero"),
            ("", "KIND=SHARE"),
        ] {
            let error = mix(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
