//! The fuzz targets for a moment each, without a fuzzer: the kept corpus, random bytes, and valid
//! bytes with small mistakes in them. `KVD_FUZZ_CASES` sets the cases for each target (default 400).

use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::targets::{TARGETS, exported, footer_of_first, of_kind};

fn cases() -> u64 {
    std::env::var("KVD_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

/// Valid inputs of a target, to be made a little wrong. A first byte of 1 turns checksums off.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let kept = fs::read_dir(dir).into_iter().flatten();
    let mut seeds: Vec<_> = kept.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    seeds.sort();
    let kind = match target {
        "wal_reader" => ".wal",
        "sstable_table" => ".sst",
        "manifest" => "MANIFEST",
        "blob_file" => ".blob",
        "sstable_footer" => {
            seeds.extend((0..2u8).map(|flag| [&[flag], footer_of_first().1].concat()));
            return seeds;
        }
        "ingest" => {
            for (place, (_, content)) in exported().iter().enumerate() {
                for checked in 0..2u8 {
                    seeds.push([&[(place as u8) << 1 | checked], content.as_slice()].concat());
                }
            }
            return seeds;
        }
        _ => return seeds,
    };
    for (place, (_, content)) in of_kind(kind).into_iter().enumerate() {
        for checked in 0..2u8 {
            seeds.push([&[(place as u8) << 1 | checked], content.as_slice()].concat());
        }
    }
    seeds
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(..600);
    (0..length).map(|_| if rng.bool() { rng.u8(..) } else { rng.u8(..8) }).collect()
}

/// A few of the mistakes that fuzzers make: flips, other numbers, cuts, repetitions, splices.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.usize(..4) {
        if bytes.len() < 2 {
            return bytes.extend(noise(rng));
        }
        let at = rng.usize(1..bytes.len());
        let to = rng.usize(at..=bytes.len()).min(at + 40);
        match rng.u8(..7) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            2 => bytes[at..to].iter_mut().for_each(|byte| *byte = rng.u8(..)),
            3 => bytes.truncate(at),
            4 => {
                bytes.drain(at..to);
            }
            5 => {
                let piece = bytes[at..to].to_vec();
                let place = rng.usize(1..bytes.len());
                bytes.splice(place..place, piece);
            }
            _ => bytes[at..to].fill(0xff),
        }
    }
}

fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| target(seed));
    target(&[]);
    for case in 0..cases() {
        let mut rng = Rng::with_seed(case);
        let mut input = match rng.choice(&seeds) {
            Some(seed) if rng.u8(..8) > 0 => seed.clone(),
            _ => noise(&mut rng),
        };
        mutate(&mut input, &mut rng);
        // A target that fails says with which input, in the form of a corpus file's content.
        let told = std::panic::catch_unwind(|| target(&input));
        if let Err(panic) = told {
            println!("{name} case {case}: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn any_log_is_read_without_a_panic_and_gives_a_store_that_works() {
    run("wal_reader");
}

#[test]
fn any_block_is_read_without_a_panic() {
    run("sstable_block");
}

#[test]
fn any_index_is_read_without_a_panic() {
    run("sstable_index");
}

#[test]
fn any_footer_is_read_without_a_panic() {
    run("sstable_footer");
}

#[test]
fn any_table_is_read_without_a_panic() {
    run("sstable_table");
}

#[test]
fn any_blob_file_is_read_without_a_panic() {
    run("blob_file");
}

#[test]
fn any_filter_is_read_without_a_panic_and_none_denies_what_it_holds() {
    run("filter");
}

#[test]
fn any_manifest_is_read_without_a_panic() {
    run("manifest");
}

#[test]
fn any_export_is_taken_in_whole_or_refused_without_a_panic() {
    run("ingest");
}

#[test]
fn any_message_of_a_peer_is_refused_or_means_the_same_when_sent_on() {
    run("wire_peer");
}

#[test]
fn any_stream_of_operations_leaves_the_engine_like_a_map() {
    run("engine_ops");
}

#[test]
fn every_target_is_here() {
    let text = include_str!("fuzz.rs");
    for (name, _) in TARGETS {
        assert!(text.contains(&format!("run(\"{name}\")")), "{name} is not run here");
    }
}
