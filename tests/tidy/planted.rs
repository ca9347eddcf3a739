//! The checker checked: small repositories with one planted breach each, and innocent ones that
//! look like a breach.

use crate::check;
use crate::source::{File, blank};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// A repository of `lib.rs` that declares `modules`, and these files.
fn repository(modules: &str, files: &[(&str, &str)]) -> Vec<File> {
    let mut all = vec![
        file(
            "Cargo.toml",
            "[[bin]]\nname = \"kvd\"\npath = \"src/main.rs\"\n[[test]]\nname = \"t\"\n",
        ),
        file("src/lib.rs", &format!("//! A crate.\n{modules}")),
        file("src/main.rs", "fn main() {}\n"),
    ];
    all.extend(files.iter().map(|(path, text)| file(path, text)));
    all
}

/// The findings as `path:line`, each with a message that contains `about`.
#[track_caller]
fn assert_found(modules: &str, files: &[(&str, &str)], places: &[&str], about: &str) {
    let findings = check(repository(modules, files));
    let got: Vec<String> = findings.iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
    assert_eq!(got, places, "{findings:#?}");
    for finding in findings {
        assert!(finding.message.contains(about), "{finding} does not speak of {about:?}");
    }
}

/// One module `name` of this text.
#[track_caller]
fn assert_in_module(name: &str, text: &str, lines: &[usize], about: &str) {
    let path = format!("src/{name}/mod.rs");
    let places: Vec<String> = lines.iter().map(|line| format!("{path}:{line}")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    assert_found(&format!("mod {name};"), &[(&path, text)], &places, about);
}

#[test]
fn a_lock_file_of_a_package_beside_that_lacks_a_dependency_is_found() {
    let manifest = "[dependencies]\nbytes = \"1\"\nnew = \"1\"\n\
                    maybe = { version = \"1\", optional = true }\n";
    let lock = "[[package]]\nname = \"roundtable\"\ndependencies = [\"bytes 1.2.3\"]\n";
    let files = vec![
        file("Cargo.toml", manifest),
        file("src/lib.rs", "//! A crate.\n"),
        file("fuzz/Cargo.lock", lock),
        file("other/Cargo.lock", "[[package]]\nname = \"else\"\n"),
    ];
    let findings = check(files);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].to_string().contains("fuzz/Cargo.lock:1: this package depends on new"));
}

#[test]
fn an_import_to_the_right_is_found_however_it_is_written() {
    let about = "may not import";
    assert_in_module("ring", "//! .\nuse crate::node::Node;\n", &[2], about);
    assert_in_module(
        "ring",
        "//! .\nuse crate::{\n    types::Key,\n    node::Node,\n};\n",
        &[4],
        about,
    );
    assert_in_module("ring", "//! .\nuse super::message;\n", &[2], about);
    assert_in_module("ring", "//! .\nfn f(_: crate::control::Plan) {}\n", &[2], about);
    assert_in_module("coordinator", "//! .\nuse crate::membership::View;\n", &[2], about);
    assert_in_module("types", "//! .\nmod a {\n    use super::super::wire;\n}\n", &[3], about);
    assert_in_module("client", "//! .\nuse crate::control::plan;\n", &[2], about);
    assert_in_module("cli", "//! .\nuse crate::runtime;\n", &[2], about);
    assert_in_module("storage", "//! .\nuse crate::types::Key;\n", &[2], about);
    assert_in_module("picture", "//! .\nuse crate::ring::Ring;\n", &[2], about);
}

#[test]
fn imports_to_the_left_macros_and_words_in_comments_are_no_findings() {
    assert_in_module("ring", "//! .\nuse crate::types::{Key, limits::A};\n", &[], "");
    assert_in_module(
        "storage",
        "//! .\nuse crate::types::limits;\nuse crate::storage::wal;\n",
        &[],
        "",
    );
    assert_in_module("client", "//! .\nuse crate::control::capacity::tail;\n", &[], "");
    assert_in_module("coordinator", "//! .\nfn f() -> bool { crate::mutant!(\"a\") }\n", &[], "");
    assert_in_module(
        "node",
        "//! Not crate::storage.\n// std::fs\nconst A: &str = \"tokio::x\";\n",
        &[],
        "",
    );
    assert_in_module(
        "ring",
        "//! .\nuse super::ring::Token;\nuse core::time::Duration;\n",
        &[],
        "",
    );
}

#[test]
fn a_module_without_a_layer_is_found() {
    assert_in_module("stuff", "//! .\n", &[1], "no layer");
}

#[test]
fn pure_modules_know_no_clock_no_disk_and_no_hash_maps() {
    assert_in_module("node", "//! .\nuse std::time::Instant;\n", &[2], "std::time");
    assert_in_module("node", "//! .\nuse std::{collections::BTreeMap, fs};\n", &[2], "std::fs");
    assert_in_module("ring", "//! .\nfn f() { std::thread::yield_now() }\n", &[2], "std::thread");
    assert_in_module("ring", "//! .\nfn f() { tokio::spawn(x) }\n", &[2], "tokio");
    assert_in_module("control", "//! .\nuse std::collections::HashMap;\n", &[2], "HashMap");
    assert_in_module("storage", "//! .\nuse tokio::fs;\n", &[2], "tokio");
    assert_in_module("storage", "//! .\nuse std::fs;\nuse std::collections::HashMap;\n", &[], "");
    let in_test = "//! .\n#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    assert_in_module("ring", in_test, &[], "");
}

#[test]
fn banned_words_are_found_outside_tests_or_everywhere() {
    assert_in_module("ring", "//! .\nfn f() { todo!() }\n", &[2], "todo!");
    assert_in_module("ring", "//! .\nfn f() { x.unwrap(); }\n", &[2], "unwrap");
    assert_in_module("server", "//! .\nfn f() { println!(\"x\"); }\n", &[2], "println!");
    assert_in_module("server", "//! .\nfn f() { mpsc::unbounded_channel(); }\n", &[2], "bound");
    assert_in_module("storage", "//! .\nfn f() { std::thread::sleep(d) }\n", &[2], "sleep");
    let tests = "//! .\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn a() { x.unwrap(); }\n}\n";
    assert_in_module("ring", tests, &[], "");
    let ignored =
        "//! .\n#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore]\n    fn a() {}\n}\n";
    assert_in_module("ring", ignored, &[5], "ignore");
    assert_in_module(
        "ring",
        "//! .\nfn f() { x.unwrap_or(1); Bound::Unbounded; let unbounded = true; }\n",
        &[],
        "",
    );
}

#[test]
fn a_test_module_in_its_own_file_is_test_code() {
    let files = [
        ("src/ring/mod.rs", "//! .\n#[cfg(test)]\nmod ring_tests;\n"),
        ("src/ring/ring_tests.rs", "//! .\nfn f() { x.unwrap(); }\n"),
    ];
    assert_found("mod ring;", &files, &[], "");
    let files = [("tests/t.rs", "mod other;\nfn f() { x.unwrap(); }\n"), ("tests/other.rs", "\n")];
    assert_found("", &files, &[], "");
}

#[test]
fn dead_files_and_forgotten_targets_are_found() {
    let files = [
        ("src/ring/mod.rs", "//! .\nmod a;\n"),
        ("src/ring/a.rs", "//! .\n"),
        ("src/ring/b.rs", "//! .\n"),
    ];
    assert_found("mod ring;", &files, &["src/ring/b.rs:1"], "no target");
    assert_found("", &[("tests/forgotten.rs", "\n")], &["tests/forgotten.rs:1"], "no target");
    let package = ("benches/own/Cargo.toml", "[[bin]]\nname = \"b\"\npath = \"src/main.rs\"\n");
    let main = ("benches/own/src/main.rs", "mod a;\n");
    let files = [package, main, ("benches/own/src/a.rs", "\n"), ("benches/own/src/b.rs", "\n")];
    assert_found("", &files, &["benches/own/src/b.rs:1"], "no target");
    let nested = [("src/ring/mod.rs", "//! .\nmod a { mod b; }\n"), ("src/ring/a/b.rs", "//! .\n")];
    assert_found("mod ring;", &nested, &[], "");
}

#[test]
fn long_files_long_functions_and_empty_names_are_found() {
    let long = format!("//! .\nfn f() {{\n{}}}\n", "    g();\n".repeat(71));
    assert_in_module("ring", &long, &[2], "`f` has 71 lines");
    let bearable = format!("//! .\nfn f() {{\n{}// {}}}\n", "    g();\n".repeat(70), "why\n");
    assert_in_module("ring", &bearable, &[], "");
    let file = format!("//! .\n{}", "// A line.\n".repeat(600));
    assert_in_module("ring", &file, &[601], "601 lines");
    let files = [("src/ring/mod.rs", "//! .\nmod utils;\n"), ("src/ring/utils.rs", "//! .\n")];
    assert_found("mod ring;", &files, &["src/ring/utils.rs:1"], "says nothing");
}

#[test]
fn modules_without_docs_are_found() {
    assert_in_module("ring", "use core::fmt;\n", &[1], "starts with");
}

#[test]
fn documents_have_one_title_which_comes_first() {
    let text = "# A\n\n```\n# a comment\n```\n## B\n";
    assert_found("", &[("docs/a.md", text)], &[], "");
    assert_found("", &[("docs/a.md", "# A\n# B\n")], &["docs/a.md:2"], "2 `# ` titles");
    assert_found("", &[("README.md", "text\n")], &["README.md:1"], "0 `# ` titles");
    assert_found("", &[("README.md", "text\n\n# A\n")], &["README.md:1"], "first");
}

#[test]
fn paths_of_one_machine_and_hosts_of_registries_are_found() {
    let bad = ["see /wor", "k/x"].concat();
    assert_found("", &[("config/a.toml", &bad)], &["config/a.toml:1"], "path");
    let host = ["https://static.cra", "tes.io/a"].concat();
    assert_found("", &[("a.sh", &host)], &["a.sh:1"], "registry");
    let fine = ["target/wor", "k/x ./ro", "ot/y"].concat();
    assert_found("", &[("a.sh", &fine), ("Cargo.lock", &host)], &[], "");
}

#[test]
fn literals_and_comments_are_blanked_and_lines_kept() {
    let text = "a /* b /* c */ d */ e // f\n\"g\\\"h\" 'i' '\\'' 'j: r#\"k\"l\"# b\"m\" br\"n\" o";
    let blanked = blank(text);
    assert_eq!(blanked.split_whitespace().collect::<Vec<_>>(), ["a", "e", "'j:", "b", "b", "o"]);
    assert_eq!(blanked.lines().count(), 2);
}
