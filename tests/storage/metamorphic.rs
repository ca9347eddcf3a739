//! One stream of operations under many settings: options, threads and disks may change how fast an
//! answer comes, never what it is.
//!
//! `KVD_STREAMS` sets how many streams are played (default 20), `KVD_STREAM` plays that one alone.

use fastrand::Rng;
use roundtable::storage::{FaultyVfs, MemoryVfs, ThreadMode};

use crate::ops::{Disk, Draws, Op, Setting, play};

/// Settings that each stream is played under.
const SETTINGS: u64 = 24;

/// The first settings are plain, the others as random as options can be. `dir` is a place for real
/// files, which are slow.
fn setting(number: u64, dir: Option<&std::path::Path>) -> Setting {
    let disk = match (number % 8, dir) {
        (5 | 7, Some(dir)) => {
            let dir = dir.join(number.to_string());
            std::fs::create_dir(&dir).unwrap();
            Disk::Real(dir)
        }
        (0 | 3 | 7, _) => Disk::Memory(MemoryVfs::default()),
        _ => Disk::Faulty(FaultyVfs::new(number)),
    };
    if number == 0 {
        return Setting::plain(disk);
    }
    let mut rng = Rng::with_seed(number);
    let bytes: Vec<u8> = (0..32).map(|_| rng.u8(..)).collect();
    let mut setting = Setting::draw(&mut Draws::new(&bytes), disk);
    if number % 4 == 3 {
        setting.options.threads = ThreadMode::Threaded;
    }
    setting
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

fn stream(seed: u64) -> Vec<Op> {
    let mut rng = Rng::with_seed(seed);
    let bytes: Vec<u8> = (0..rng.usize(600..2_000)).map(|_| rng.u8(..)).collect();
    Op::stream(&bytes)
}

/// Plays streams, each under one setting without threads, until one fails. Returns which.
pub(crate) fn failing_stream(streams: u64) -> Option<u64> {
    (0..streams).find(|seed| {
        let played = || play(&stream(*seed), &setting(1 + 4 * (seed % 5), None));
        std::panic::catch_unwind(played).is_err()
    })
}

#[test]
fn whatever_the_options_the_history_of_a_stream_is_the_same() {
    let streams = number_from("KVD_STREAMS").unwrap_or(20);
    let only = number_from("KVD_STREAM");
    let (mut played, mut lines) = (0, 0);
    for seed in only.map_or(0..streams, |seed| seed..seed + 1) {
        let ops = stream(seed);
        let dir = tempfile::tempdir().unwrap();
        let real = seed.is_multiple_of(8).then(|| dir.path());
        let mut first: Option<Vec<String>> = None;
        for number in 0..SETTINGS {
            println!("stream {seed} setting {number}");
            let history = play(&ops, &setting(number, real));
            let expected = first.get_or_insert_with(|| history.clone());
            let differs = history.iter().zip(expected.iter()).find(|(one, other)| one != other);
            assert_eq!(differs, None, "stream {seed}, setting {number}");
            assert_eq!(history.len(), expected.len());
            played += 1;
            lines += history.iter().filter(|line| !line.ends_with(' ')).count();
        }
    }
    println!("{played} plays, {lines} answers");
    assert!(lines as u64 > played * 50, "the streams have become shallow");
}
