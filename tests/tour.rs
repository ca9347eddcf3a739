//! The README's five-minute tour, run as a new user would: its shell blocks, in order, in an empty
//! directory. Only the addresses are changed, so that several runs can share a machine.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The lines of all `sh` blocks.
fn blocks(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line),
            _ => {}
        }
    }
    lines
}

/// The script: the tour without its build, on an address of this test's own.
fn script(host: &str) -> String {
    let lines = blocks(README);
    assert_eq!(lines.first(), Some(&"cargo build --release"), "the tour begins with the build");
    let mut script = String::from("set -euo pipefail\n");
    let own =
        lines.iter().filter(|line| !line.starts_with("cargo ") && !line.starts_with("export"));
    for line in own {
        let line = line.replace("kvd dev --detach", &format!("kvd dev --detach --host {host}"));
        script.push_str(&line.replace("127.0.0.1", host));
        script.push('\n');
    }
    script
}

fn binaries() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_kvd")).parent().unwrap();
    format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn the_tour_of_the_readme_runs_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let [high, low] = u16::try_from(std::process::id() % 0xfff0).unwrap().to_be_bytes();
    let host = format!("127.71.{high}.{}", low.max(1));
    let output = Command::new("bash")
        .args(["-c", &script(&host)])
        .current_dir(dir.path())
        .env("PATH", binaries())
        .env("KVCTL_ENDPOINTS", format!("{host}:7450"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let mut stop = Command::new(env!("CARGO_BIN_EXE_kvd"));
        let _stopped = stop.args(["dev", "--stop"]).current_dir(dir.path()).output();
        for node in ["n1", "n2", "n3"] {
            let log = std::fs::read_to_string(dir.path().join(".dev").join(node).join("log"));
            eprintln!("--- log of {node}\n{}", log.unwrap_or_default());
        }
    }
    assert!(
        output.status.success(),
        "{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
        output.status
    );
    for expected in [
        "hello, ring",
        "exit code 3: not found",
        "user:3",
        "written while n3 is dead",
        "name 1",
        "exit code 4: no quorum",
    ] {
        assert!(
            stdout.contains(expected),
            "{expected:?} is not in\n{stdout}\n--- stderr\n{stderr}"
        );
    }
    assert!(stderr.contains("QUORUM_NOT_REACHED") || stderr.contains("needed 2"), "{stderr}");
}
