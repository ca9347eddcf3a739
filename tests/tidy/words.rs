//! Words, sizes and names that the house does not want: docs/style.md as a test.

use crate::Finding;
use crate::source::{Code, File, Token};

pub(crate) const FILE_LINES_MAX: usize = 600;
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

const FILE_NAMES_BANNED: &[&str] = &["utils", "common", "helpers", "manager", "misc"];

/// Where printing to standard output is the job.
const PRINTS: &[&str] = &[
    "src/cli/output.rs",
    "src/main.rs",
    "src/bin/",
    "build.rs",
    "tests/",
    "examples/",
    "benches/",
];

/// A sequence of tokens that must not occur, and what to do instead.
struct Banned {
    tokens: &'static [&'static str],
    instead: &'static str,
    in_tests: bool,
}

const fn banned(tokens: &'static [&'static str], instead: &'static str, in_tests: bool) -> Banned {
    Banned { tokens, instead, in_tests }
}

const BANNED: &[Banned] = &[
    banned(&["todo", "!"], "finish it or leave it out", true),
    banned(&["unimplemented", "!"], "finish it or leave it out", true),
    banned(&["#", "[", "ignore"], "a test that does not run is no test", true),
    banned(&["should_panic"], "assert on an error value", true),
    banned(&["thread", "::", "sleep"], "wait for an event, not for a while", false),
    banned(&[".", "unwrap", "("], "expect(\"why it cannot fail\")", false),
];

/// Checks one Rust file.
pub(crate) fn check(file: &File, code: &Code, is_test_file: bool, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(file.finding(lines, format!("{lines} lines; at most {FILE_LINES_MAX}")));
    }
    let stem = file.path.rsplit('/').next().unwrap_or("").trim_end_matches(".rs");
    if FILE_NAMES_BANNED.contains(&stem) {
        findings
            .push(file.finding(1, format!("a file named `{stem}` says nothing of what is in it")));
    }
    if !is_test_file {
        for (name, line, count) in code.functions() {
            if count > FUNCTION_LINES_MAX {
                let why = format!("`{name}` has {count} lines; at most {FUNCTION_LINES_MAX}");
                findings.push(file.finding(line, why));
            }
        }
    }
    for (at, token) in code.tokens.iter().enumerate() {
        let tail = code.tokens.get(at..).unwrap_or(&[]);
        let in_test = is_test_file || code.is_test(token.line);
        if let Some(why) = wrong_word(file, tail, in_test) {
            findings.push(file.finding(token.line, why));
        }
    }
}

fn wrong_word(file: &File, tail: &[Token], in_test: bool) -> Option<String> {
    let first = tail.first()?.text.as_str();
    let starts_with = |wanted: &[&str]| {
        wanted.len() <= tail.len()
            && wanted.iter().zip(tail).all(|(word, token)| *word == token.text)
    };
    for word in BANNED.iter().filter(|word| word.in_tests || !in_test) {
        if starts_with(word.tokens) {
            return Some(format!("`{}`: {}", word.tokens.concat(), word.instead));
        }
    }
    // A local variable may be called so; a call, a path to it and a type are the real thing.
    let is_queue = starts_with(&["unbounded", "("])
        || ["unbounded_", "Unbounded"]
            .iter()
            .any(|start| first.len() > start.len() && first.starts_with(start));
    if is_queue && !in_test {
        return Some(format!("`{first}`: every queue has a bound"));
    }
    let prints = ["println", "print"].iter().any(|word| starts_with(&[word, "!"]));
    if prints && !in_test && !PRINTS.iter().any(|place| file.path.starts_with(place)) {
        return Some(format!("`{first}!`: standard output belongs to src/cli/output.rs"));
    }
    None
}

/// Checks that a module file says what it is about.
pub(crate) fn check_module_docs(file: &File, findings: &mut Vec<Finding>) {
    if !file.text.starts_with("//!") {
        findings.push(
            file.finding(
                1,
                "a module starts with `//!`: what it decides and what it does not know",
            ),
        );
    }
}

/// Checks a Markdown file: one title, and it comes first.
pub(crate) fn check_markdown(file: &File, findings: &mut Vec<Finding>) {
    let mut fenced = false;
    let mut titles = Vec::new();
    let mut first_text = None;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("# ") {
            titles.push(index + 1);
        }
        if first_text.is_none() && !line.trim().is_empty() {
            first_text = Some(index + 1);
        }
    }
    if titles.len() != 1 {
        let line = titles.get(1).copied().unwrap_or(1);
        findings.push(file.finding(line, format!("{} `# ` titles; exactly one", titles.len())));
    } else if titles.first() != first_text.as_ref() {
        findings.push(file.finding(first_text.unwrap_or(1), "the title comes first"));
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX && !file.path.ends_with("CHANGELOG.md") {
        findings.push(file.finding(lines, format!("{lines} lines; at most {FILE_LINES_MAX}")));
    }
}

/// Checks any text file for what belongs to one machine only.
pub(crate) fn check_hygiene(file: &File, findings: &mut Vec<Finding>) {
    // Put together here, so that this file does not contain what it looks for.
    let paths = ["work", "root", "farm"].map(|name| format!("/{name}/"));
    let hosts = ["registry.npmjs", "pypi", "static.crates", "index.crates", "crates"];
    let hosts = hosts.iter().zip([".org", ".org", ".io", ".io", ".io"]);
    let hosts: Vec<String> = hosts.map(|(name, end)| format!("{name}{end}")).collect();
    for (index, line) in file.text.lines().enumerate() {
        if paths.iter().any(|path| has_path(line, path)) {
            findings.push(file.finding(index + 1, "a path of one machine"));
        }
        if hosts.iter().any(|host| line.contains(host)) {
            findings.push(file.finding(index + 1, "the host of a package registry"));
        }
        if line.ends_with(' ') && file.path.ends_with(".rs") {
            findings.push(file.finding(index + 1, "blanks at the end of the line"));
        }
    }
}

/// Whether `path` occurs as the start of an absolute path, and not inside a longer one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/')))
    })
}
