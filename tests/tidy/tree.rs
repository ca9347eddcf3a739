//! Which files belong to the program: every Rust file must be reachable from a target of
//! `Cargo.toml` by `mod` declarations, and a file declared under `#[cfg(test)]` is test code.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::source::{Code, File};

/// Files reachable from the targets, and those of them that are test code.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) reached: BTreeSet<String>,
    pub(crate) tests: BTreeSet<String>,
}

impl Tree {
    /// Follows the declarations from `roots`.
    pub(crate) fn new(roots: &[String], files: &BTreeMap<String, (File, Code)>) -> Tree {
        let mut tree = Tree::default();
        let mut open: Vec<(String, bool)> = roots
            .iter()
            .map(|root| (root.clone(), root.starts_with("tests/") || root.starts_with("benches/")))
            .collect();
        let is_root = |path: &str| roots.iter().any(|root| root == path);
        while let Some((path, is_test)) = open.pop() {
            let Some((file, code)) = files.get(&path) else { continue };
            let is_new = tree.reached.insert(path.clone());
            if is_test && !tree.tests.insert(path.clone()) || !is_test && !is_new {
                continue;
            }
            for declared in &code.declared {
                let is_test = is_test || declared.is_test;
                let directory = directory_of(&path, is_root(&path));
                let named = path_attribute(file, declared.line);
                let candidates = match named {
                    Some(named) => vec![format!("{}/{named}", parent(&path))],
                    None => {
                        let mut parts = vec![directory];
                        parts.extend(declared.inside.iter().cloned());
                        parts.push(declared.name.clone());
                        let stem = parts.join("/");
                        vec![format!("{stem}.rs"), format!("{stem}/mod.rs")]
                    }
                };
                let found = candidates.into_iter().find(|path| files.contains_key(path));
                open.extend(found.map(|path| (path, is_test)));
            }
        }
        tree
    }

    /// Finds the files that no target reaches.
    pub(crate) fn check(
        &self,
        files: &BTreeMap<String, (File, Code)>,
        findings: &mut Vec<Finding>,
    ) {
        for (path, (file, _)) in files {
            if !self.reached.contains(path) {
                let why =
                    "no target of Cargo.toml reaches this file by `mod`: declare or remove it";
                findings.push(file.finding(1, why));
            }
        }
    }
}

/// The targets that the `manifest` in `folder` names, as paths of their root files. The folder of the
/// repository is empty, every other one ends in a slash.
pub(crate) fn roots(folder: &str, manifest: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut roots = vec!["src/lib.rs".to_owned(), "build.rs".to_owned()];
    let table: toml::Table = manifest.parse().expect("Cargo.toml is TOML, or cargo would not run");
    let exists = |path: &str| exists(&format!("{folder}{path}"));
    let kinds =
        [("bin", "src/bin"), ("test", "tests"), ("bench", "benches"), ("example", "examples")];
    for (kind, place) in kinds {
        let targets = table.get(kind).and_then(toml::Value::as_array).into_iter().flatten();
        for target in targets {
            let text = |key: &str| target.get(key).and_then(toml::Value::as_str);
            let name = text("name").unwrap_or("");
            let guesses = [format!("{place}/{name}.rs"), format!("{place}/{name}/main.rs")];
            let guess = guesses.into_iter().find(|path| exists(path));
            roots.extend(text("path").map(str::to_owned).or(guess));
        }
    }
    roots.into_iter().map(|root| format!("{folder}{root}")).collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Where the modules that a file declares are looked for.
fn directory_of(path: &str, is_root: bool) -> String {
    if is_root || path.ends_with("/mod.rs") {
        parent(path).to_owned()
    } else {
        path.trim_end_matches(".rs").to_owned()
    }
}

/// The value of `#[path = "..."]` on the lines right above a declaration.
fn path_attribute(file: &File, line: usize) -> Option<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let above = lines.get(..line - 1)?;
    let attributes = above.iter().rev().take_while(|line| line.trim_start().starts_with("#["));
    let mut named = attributes.filter_map(|line| line.trim().strip_prefix("#[path = \""));
    named.next().and_then(|rest| rest.split('"').next()).map(str::to_owned)
}
