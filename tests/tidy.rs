//! The house rules as a test: who imports whom, sizes, names, words, dead files, documents. Each
//! finding names file and line. What a rule is for stands in ARCHITECTURE.md and docs/style.md.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/locks.rs"]
mod locks;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/protos.rs"]
mod protos;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use source::{Code, File};
use tree::Tree;

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl File {
    /// A finding in this file.
    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

/// Checks a repository given as its text files.
pub(crate) fn check(files: Vec<File>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rust: BTreeMap<String, (File, Code)> = BTreeMap::new();
    let mut manifests = Vec::new();
    locks::check(&files, &mut findings);
    for file in files {
        // A package of its own below this one has targets of its own.
        if let Some(folder) = file.path.strip_suffix("Cargo.toml") {
            manifests.push((folder.to_owned(), file.text.clone()));
        }
        // A lock file names the registry on every line, and cargo writes it.
        if !file.path.ends_with("Cargo.lock") {
            words::check_hygiene(&file, &mut findings);
        }
        if file.path.ends_with(".md") {
            words::check_markdown(&file, &mut findings);
        }
        if file.path == "proto/kv.proto" {
            protos::check(&file, &mut findings);
        }
        let is_ours = ["src/", "tests/", "benches/", "examples/", "build.rs"]
            .iter()
            .any(|place| file.path.starts_with(place));
        if is_ours && file.path.ends_with(".rs") {
            let code = Code::new(&file.text);
            rust.insert(file.path.clone(), (file, code));
        }
    }
    let of_package = |(folder, text): &(String, String)| {
        tree::roots(folder, text, |path| rust.contains_key(path))
    };
    let roots: Vec<String> = manifests.iter().flat_map(of_package).collect();
    let tree = Tree::new(&roots, &rust);
    tree.check(&rust, &mut findings);
    for (path, (file, code)) in &rust {
        words::check(file, code, tree.tests.contains(path), &mut findings);
        imports::check(file, code, &mut findings);
        let is_module = path.starts_with("src/") && !roots.contains(path);
        if is_module || path == "src/lib.rs" {
            words::check_module_docs(file, &mut findings);
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// Reads the text files below `folder`, without what git ignores.
fn read(root: &Path, folder: &Path, files: &mut Vec<File>) -> std::io::Result<()> {
    const SKIPPED: &[&str] = &["target", ".git", ".dev", "corpus", "artifacts", "node_modules"];
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if SKIPPED.iter().any(|skipped| name == *skipped) || kind.is_symlink() {
            continue;
        }
        let path = entry.path();
        if kind.is_dir() {
            read(root, &path, files)?;
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let below = path.strip_prefix(root).unwrap_or(&path);
            files.push(File { path: below.to_string_lossy().replace('\\', "/"), text });
        }
    }
    Ok(())
}

#[test]
fn the_repository_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read(root, root, &mut files).expect("the repository can be read");
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "this is the repository");
    let findings = check(files);
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}
