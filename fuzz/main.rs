//! All fuzz targets in one binary; `KVD_FUZZ_TARGET` names the one that runs. Use `fuzz/run`.
#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a target that meets the unexpected is to fail there, loudly"
)]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "../tests/storage/ops/mod.rs"]
mod ops;
#[path = "../tests/storage/targets.rs"]
mod targets;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let wanted = std::env::var("KVD_FUZZ_TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
        let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
        found.unwrap_or_else(|| panic!("{wanted:?} is no target; these are: {names:?}")).1
    })
}

fuzz_target!(|data: &[u8]| target()(data));
