//! The README's five-minute tour, run as a new user would: its shell blocks, in order, in an empty
//! directory. Only the addresses are changed, so that several runs can share a machine.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod transcripts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

const README: &str = include_str!("../../README.md");

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

/// An empty directory to take the tour in; whatever still runs there in the end is ended.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// The processes that were started in the directory, or that name it, with their command lines.
    fn processes(&self) -> Vec<(Pid, String)> {
        let entries = fs::read_dir("/proc").unwrap();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| self.process(Pid::from_raw(name.parse().ok()?)?)).collect()
    }

    /// One that has ended has no command line, and those of other users are none of ours.
    fn process(&self, pid: Pid) -> Option<(Pid, String)> {
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let line = fs::read(proc.join("cmdline")).ok().filter(|line| !line.is_empty())?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let here = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.path()));
        (here || line.contains(self.path().to_str().unwrap())).then_some((pid, line))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut stop = Command::new(env!("CARGO_BIN_EXE_kvd"));
        let _stopped = stop.args(["dev", "--stop"]).current_dir(self.dir.path()).output();
        for (pid, _) in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn the_tour_of_the_readme_runs_as_written() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    let [high, low] = u16::try_from(std::process::id() % 0xfff0).unwrap().to_be_bytes();
    let host = format!("127.71.{high}.{}", low.max(1));
    let output = Command::new("bash")
        .args(["-c", &script(&host)])
        .current_dir(place.path())
        .env("PATH", binaries())
        .env("KVCTL_ENDPOINTS", format!("{host}:7450"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        for node in ["n1", "n2", "n3"] {
            let log = fs::read_to_string(place.path().join(".dev").join(node).join("log"));
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
    assert_eq!(place.processes(), [], "what the tour started, it stops");
}

#[test]
fn a_process_of_the_tour_that_is_left_behind_is_seen_and_ended() {
    let place = Place { dir: tempfile::tempdir().unwrap() };
    assert_eq!(place.processes(), []);
    let mut left = Command::new("sleep").arg("60").current_dir(place.path()).spawn().unwrap();
    // Its command line appears a moment after it has been started.
    let is_left = |(pid, _): &(Pid, String)| *pid == Pid::from_child(&left);
    let looks = (0..10_000).map(|_| place.processes());
    assert!(looks.into_iter().any(|seen| seen.iter().any(is_left)), "it is not seen");
    drop(place);
    assert!(!left.wait().unwrap().success(), "it was killed");
}
