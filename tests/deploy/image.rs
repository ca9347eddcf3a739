//! The Dockerfile.

use std::process::Command;

use super::{Environment, read};

/// The instructions, with their lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap();
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

fn instruction(wanted: &str) -> String {
    let found = instructions().into_iter().find(|(word, _)| word == wanted);
    found.unwrap_or_else(|| panic!("no {wanted}")).1
}

/// What every node of the image is told.
pub(super) fn environment() -> Environment {
    let text = instruction("ENV");
    let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_image_holds_nothing_else_and_runs_as_nobody() {
    assert_eq!(instruction("FROM"), "scratch");
    let user = instruction("USER");
    assert!(instruction("COPY").contains(&format!("--chown={user} ")));
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() >= 1000 && gid.parse::<u32>().unwrap() >= 1000);
    assert_eq!(instruction("VOLUME"), environment()["KVD_NODE__DATA_DIR"]);
    let ports: Vec<String> = ["CLIENT", "PEER", "HTTP"]
        .iter()
        .map(|port| environment()[&format!("KVD_LISTEN__{port}")].replace("0.0.0.0:", ""))
        .collect();
    assert_eq!(instruction("EXPOSE"), ports.join(" "));
}

#[test]
fn the_health_check_is_a_command_that_exists_and_says_no_where_nobody_is() {
    let health = instruction("HEALTHCHECK");
    let command = health.split_once("CMD ").unwrap().1;
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(words[..2], ["/usr/bin/kvd", "health"]);
    assert_eq!(instruction("ENTRYPOINT"), "[\"/usr/bin/kvd\"]");
    let mut probe = Command::new(env!("CARGO_BIN_EXE_kvd"));
    // As in a container: the environment says where to ask. There, nobody listens on this port.
    let probe = probe.args(&words[1..]).env("KVD_LISTEN__HTTP", "127.0.0.1:1").output().unwrap();
    assert_eq!(probe.status.code(), Some(4), "{probe:?}");
}
