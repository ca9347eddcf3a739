//! Packages of their own beside this one (fuzzers, models, rivals) have lock files of their own. One
//! that does not know a dependency which this package has taken on since cannot be built with
//! `--locked`, and nobody notices before the day it is needed.

use std::collections::BTreeSet;

use crate::Finding;
use crate::source::File;

/// Compares every lock file below the root with the manifest of the root.
pub(crate) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let Some(manifest) = files.iter().find(|file| file.path == "Cargo.toml") else { return };
    let needed = needed(&manifest.text);
    for file in files.iter().filter(|file| file.path.ends_with("/Cargo.lock")) {
        let Some(known) = known(&file.text) else { continue };
        for name in needed.difference(&known) {
            let why = format!("this package depends on {name} by now: write the lock file anew");
            findings.push(file.finding(1, why));
        }
    }
}

/// What the package always depends on.
fn needed(manifest: &str) -> BTreeSet<String> {
    let table: toml::Table = manifest.parse().expect("Cargo.toml is TOML, or cargo would not run");
    let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
    let is_always =
        |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool) != Some(true);
    let always = dependencies.into_iter().flatten().filter(|(_, value)| is_always(value));
    always.map(|(name, _)| name.clone()).collect()
}

/// The dependencies that a lock file knows of this package; `None` if it does not use it.
fn known(lock: &str) -> Option<BTreeSet<String>> {
    let table: toml::Table = lock.parse().expect("a lock file is TOML: cargo writes it");
    let packages = table.get("package").and_then(toml::Value::as_array)?;
    let name = |package: &toml::Value| package.get("name")?.as_str().map(str::to_owned);
    let ours = packages.iter().find(|package| name(package).as_deref() == Some("roundtable"))?;
    let list = ours.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
    // A name is followed by a version where there are several.
    let names = list.filter_map(toml::Value::as_str).filter_map(|entry| entry.split(' ').next());
    Some(names.map(str::to_owned).collect())
}
