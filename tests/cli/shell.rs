//! `kvctl shell` as scripts see it: lines on stdin.

use crate::fake::Fake;
use crate::kvctl::{Ran, kvctl_with};

fn shell(at: &str, args: &[&str], lines: &str) -> Ran {
    let mut argv = vec!["shell"];
    argv.extend(args);
    kvctl_with(at, &argv, lines.as_bytes())
}

async fn server() -> Fake {
    Fake::start(1_000_000_000_000, []).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lines_are_commands_and_share_their_connection() {
    let fake = server().await;
    let lines =
        "# a comment\n\nput a 'two words'\nkvctl get a\n\\o json\nget a\nscan\nexit\nput b 1\n";
    let ran = shell(&fake.address, &[], lines);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut seen = ran.stdout.splitn(2, '{');
    assert!(seen.next().unwrap().contains("two words"), "{}", ran.stdout);
    assert!(seen.next().unwrap().contains("\"value\":\"two words\""), "{}", ran.stdout);
    // What comes after `exit` is not carried out.
    assert_eq!(shell(&fake.address, &[], "get b\n").code, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_line_that_fails_ends_it_unless_it_is_to_go_on() {
    let fake = server().await;
    let lines = "get nothing\nput a 1\n";
    let ran = shell(&fake.address, &[], lines);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("key not found"), "{}", ran.stderr);
    let ran = shell(&fake.address, &["--keep-going", "-o", "json"], lines);
    assert_eq!(ran.code, 8, "{}", ran.stderr);
    assert!(ran.stdout.contains("\"stamp\""), "{}", ran.stdout);
    assert!(ran.stderr.contains("\"KEY_NOT_FOUND\"") && ran.stderr.contains("\"PARTIAL\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_shell_cannot_do_it_says() {
    let fake = server().await;
    for (line, words) in [
        ("put a -", "name"),
        ("put a 'open", "quote"),
        ("shell", "already"),
        ("frobnicate", "frobnicate"),
        ("\\o xml", "jsonl"),
        ("import -", "name a file"),
    ] {
        let ran = shell(&fake.address, &[], line);
        assert_eq!(ran.code, 2, "{line}: {}", ran.stderr);
        let fits = ran.stderr.contains(words) || ran.stderr.contains("@FILE");
        assert!(fits, "{line}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_shells_own_words_hold_for_the_lines_after_them() {
    let fake = server().await;
    let ran =
        shell(&fake.address, &["-t", "users"], "\\timing on\nput a 1\n\\use carts\nget a\nhelp\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("time: ") && ran.stderr.contains("\\timing"), "{}", ran.stderr);
}
