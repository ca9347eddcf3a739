//! `docs/transcripts.md`: every command of `kvctl`, run as the page has it, against a cluster of real
//! processes. What comes out must be what the page shows, but for figures, moments and hashes.
//!
//! `KVD_TRANSCRIPTS=write cargo test --test tour` writes what differs into the page.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{Place, binaries};

/// Longer outputs are cut in the page.
const LINES_MAX: usize = 30;

/// One command of the page, with what it shows.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The page in parts: prose, and the steps of `console` blocks.
enum Part {
    Prose(String),
    Steps(Vec<Step>),
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut is_console = false;
    for line in page.lines() {
        match (line, is_console, parts.last_mut()) {
            ("```console", false, _) => {
                is_console = true;
                parts.push(Part::Steps(Vec::new()));
            }
            ("```", true, _) => is_console = false,
            (line, true, Some(Part::Steps(steps))) => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { command: command.to_owned(), shown: Vec::new() });
                }
                None => steps.last_mut().expect("a command first").shown.push(line.to_owned()),
            },
            (line, _, Some(Part::Prose(prose))) => {
                prose.push_str(line);
                prose.push('\n');
            }
            (line, _, _) => parts.push(Part::Prose(format!("{line}\n"))),
        }
    }
    parts
}

fn written(parts: &[Part]) -> String {
    let mut page = String::new();
    for part in parts {
        match part {
            Part::Prose(prose) => page.push_str(prose),
            Part::Steps(steps) => {
                page.push_str("```console\n");
                for Step { command, shown } in steps {
                    page.push_str(&format!("$ {command}\n"));
                    shown.iter().for_each(|line| page.push_str(&format!("{line}\n")));
                }
                page.push_str("```\n");
            }
        }
    }
    page
}

/// Units that a figure may have; which one depends on the figure.
const UNITS: [&str; 17] = [
    "ns", "us", "µs", "ms", "s", "m", "h", "d", "B", "KiB", "MiB", "GiB", "day", "days", "min",
    "%", "x",
];

/// A line without what differs from run to run: figures, hashes, tokens, bars and the width of columns.
fn shape(line: &str) -> String {
    let is_bar = |c: char| "▁▂▃▄▅▆▇█░▒▓━╸·".contains(c) || c == '|' || c == '=';
    let words =
        line.split([' ', '\t', ',', '(', ')', '"', '{', '}', '[', ']']).filter(|w| !w.is_empty());
    let mut shape: Vec<String> = Vec::new();
    for word in words {
        let bare = word.trim_matches(['`', ':', ';', '.']);
        let is_hex = bare.chars().all(|c| c.is_ascii_hexdigit());
        let is_token = bare.chars().any(|c| c.is_ascii_digit())
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c));
        let is_hash = bare.len() >= 8 && (is_hex || is_token);
        let word = match () {
            () if is_hash => "#".to_owned(),
            () if word.chars().all(is_bar) => "~".to_owned(),
            () => figures_as_one(word),
        };
        let is_unit =
            UNITS.contains(&word.as_str()) && shape.last().is_some_and(|last| last == "#");
        let again = word == "~" && shape.last().is_some_and(|last| last == "~");
        if !is_unit && !again {
            shape.push(word);
        }
    }
    shape.join(" ")
}

/// `127.0.0.1:7450` stays; `41.8`, `12s`, `–` and `2026-11-27T13:43:10Z` become one sign.
fn figures_as_one(word: &str) -> String {
    let is_figure = word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        && word.chars().any(|c| c.is_ascii_digit());
    let is_address = word.contains("127.0.0.1");
    let bare = word.trim_end_matches([':', ';', '.']);
    if matches!(bare, "–" | "-" | "=") {
        return "#".to_owned();
    }
    if !is_figure || is_address {
        return word.to_owned();
    }
    let unit = bare.trim_start_matches(|c: char| c.is_ascii_digit() || ".+-:TZe/".contains(c));
    if unit.is_empty() || UNITS.contains(&unit) { "#".to_owned() } else { word.to_owned() }
}

/// Whether lines are as expected, where `...` stands for any.
fn fits(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any.trim() == "..." => {
            (0..=lines.len()).any(|skipped| fits(rest, lines.split_at(skipped).1))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| shape(first) == shape(line) && fits(rest, others)),
    }
}

/// Runs one command in the place, as a shell would.
fn run(place: &Place, host: &str, command: &str) -> Vec<String> {
    let typed = command
        .replace("127.0.0.1", host)
        .replace("kvd dev --detach", &format!("kvd dev --detach --host {host}"));
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1\n{typed}")])
        .current_dir(place.path())
        .env("PATH", binaries())
        .env("KVCTL_ENDPOINTS", format!("{host}:7450"))
        .env("KVCTL_OUTPUT", "table")
        .env("KVCTL_COLOR", "never")
        .env("COLUMNS", "120")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace(host, "127.0.0.1");
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// The words of all commands that do something, as their manual pages are named.
fn commands(place: &Place) -> BTreeSet<String> {
    let pages = place.path().join("pages");
    let made = Command::new(env!("CARGO_BIN_EXE_kvctl")).arg("man").arg(&pages).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let names = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let names: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_suffix(".1")?.to_owned())).collect();
    let is_leaf = |name: &&String| {
        let below = format!("{name}-");
        let text = fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        !names.iter().any(|other| other.starts_with(&below)) && !text.contains(".SH SUBCOMMANDS")
    };
    names.iter().filter(is_leaf).cloned().collect()
}

#[test]
fn every_command_shows_what_its_transcript_has() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/transcripts.md");
    let mut parts = parts(&fs::read_to_string(&page).unwrap());
    let place = Place { dir: tempfile::tempdir().unwrap() };
    // As long as the address that the page has, so that columns stay where they are.
    let pid = std::process::id();
    let host = format!("127.{}.{}.{}", 2 + pid / 90 % 8, pid / 9 % 10, 1 + pid % 9);
    let mut wrong = Vec::new();
    let steps = parts.iter_mut().filter_map(|part| match part {
        Part::Steps(steps) => Some(steps),
        Part::Prose(_) => None,
    });
    for step in steps.flatten() {
        let mut lines = run(&place, &host, &step.command);
        if fits(&step.shown, &lines) {
            continue;
        }
        wrong.push(format!("$ {}\n{}", step.command, lines.join("\n")));
        if lines.len() > LINES_MAX {
            lines.truncate(LINES_MAX);
            lines.push("...".to_owned());
        }
        step.shown = lines;
    }
    assert_eq!(place.processes(), [], "what the page starts, it stops");
    if std::env::var("KVD_TRANSCRIPTS").is_ok_and(|what| what == "write") {
        fs::write(&page, written(&parts)).unwrap();
        return;
    }
    assert!(
        wrong.is_empty(),
        "the page does not have this (KVD_TRANSCRIPTS=write writes it anew):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_command_has_a_transcript() {
    let page = include_str!("../../docs/transcripts.md");
    let place = Place { dir: tempfile::tempdir().unwrap() };
    let (all, lines) = (commands(&place), page.lines().filter(|line| line.starts_with("$ ")));
    let lines: Vec<&str> = lines.collect();
    assert!(all.len() > 40, "{all:?}");
    // Global options may stand between `kvctl` and the words.
    let has = |name: &String| {
        let words = name.trim_start_matches("kvctl-").replace('-', " ");
        lines.iter().any(|line| {
            let plain =
                line.replace(['-', ';'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{plain} ").contains(&format!(" {words} "))
        })
    };
    let without: Vec<&String> = all.iter().filter(|name| !has(name)).collect();
    assert!(without.is_empty(), "no transcript: {without:?}");
}

#[test]
fn shapes_keep_words_and_forget_figures() {
    for (a, b) in [
        ("n1  41.8 KiB   12", "n1 3.2 MiB 7"),
        ("answered after 1.95 ms", "answered after 311.00 us"),
        (
            "Plan eaf906178e1cce9a4408577474aef286 on epoch 4",
            "Plan 00f906178e1cce9a4408577474aef286 on epoch 5",
        ),
        ("2026-11-27T13:43:10Z  epoch 2", "2027-01-02T03:04:05Z epoch 11"),
    ] {
        assert_eq!(shape(a), shape(b));
    }
    for (a, b) in [("n1 up", "n1 down"), ("n1 active", "n2 active"), ("error: a", "error: b")] {
        assert_ne!(shape(a), shape(b));
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&lines("a\n...\nd"), &lines("a\nb\nc\nd")));
    assert!(!fits(&lines("a\n...\nd"), &lines("a\nb\nc")));
    assert!(!fits(&lines("a"), &lines("a\nb")) && !fits(&lines("a\nb"), &lines("a")));
}
