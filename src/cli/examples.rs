//! Examples that `--help` and the man pages show, in one place, so that a test can try each of them.

use clap::Command;

/// A command's words, and what may be typed with what it does. Commands that say it themselves are not
/// here.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "put",
        &[
            ("put user:42 '{\"name\":\"Ada\"}'", "a value as it is"),
            ("put photo:7 @photo.jpg --ttl 30d", "a file's content, for thirty days"),
            ("put odd --value=-5", "a value that begins with - or @"),
        ],
    ),
    (
        "get",
        &[
            ("get user:42", "the raw value"),
            ("get user:42 -r all -o json", "asked of all owners, with stamp and receipt"),
            ("get cart:7 -t carts --siblings", "all concurrent values of a causal table"),
        ],
    ),
    ("del", &[("del user:42", "also when it is not there")]),
    (
        "incr",
        &[
            ("incr visits -t tallies", "one more; shows the sum"),
            ("incr stock:7 --by=-3 -t stock", "three less"),
        ],
    ),
    (
        "cas",
        &[
            ("cas lock:db --expect-absent --value me -t locks", "take a lock that is free"),
            ("cas lock:db --expect me --delete -t locks", "give it back"),
        ],
    ),
    (
        "outcome",
        &[(
            "outcome lock:db --write 1f0c2a9d5b7e4c3f8a6d1e2b3c4d5e6f -t locks",
            "what became of a write whose answer was lost",
        )],
    ),
    ("resolve", &[("resolve cart:7 --value apples -t carts", "one value in place of siblings")]),
    (
        "scan",
        &[
            ("scan --prefix user: --keys-only", "keys, in byte order"),
            ("scan --from a --to b --reverse --limit 10", "the last ten of a range"),
        ],
    ),
    (
        "watch",
        &[
            ("watch --prefix user: --values", "changes of keys, as they are applied"),
            ("watch --for 1m --tokens -o jsonl", "for scripts; go on later with --from-token"),
        ],
    ),
    (
        "batch",
        &[
            (
                "batch changes.ndjson",
                "lines such as {\"op\":\"put\",\"key\":\"a\",\"value\":\"1\"}",
            ),
            ("batch --atomic order.ndjson", "all writes of a partition together, or none of them"),
        ],
    ),
    (
        "import",
        &[
            ("import users.ndjson", "lines such as {\"key\":\"a\",\"value\":\"1\"}"),
            ("import - --format tsv --concurrency 64", "from stdin"),
        ],
    ),
    ("export", &[("export users.ndjson --prefix user:", "what import reads")]),
    ("status", &[("status", "one line a node"), ("status -o json", "for scripts")]),
    (
        "top",
        &[("top", "every second, until Ctrl-C"), ("top --once -o json", "one look, for scripts")],
    ),
    ("metrics", &[("metrics --node n2", "what n2 counts, as OpenMetrics text")]),
    (
        "shell",
        &[
            ("shell", "type commands without `kvctl` in front"),
            ("shell -t users", "of one table, until it is changed with \\use"),
        ],
    ),
    ("ring", &[("ring", "who holds how much"), ("ring --svg ring.svg", "as a picture")]),
    ("locate", &[("locate user:42", "its owners, and who stands in for them")]),
    ("explain", &[("explain user:42", "what each owner holds of it, and why they differ")]),
    (
        "table create",
        &[
            ("table create users", "last write wins, three copies"),
            (
                "table create carts --kind causal --sloppy",
                "concurrent writes are kept, stand-ins count",
            ),
            ("table create locks --kind linearizable", "as on one copy"),
        ],
    ),
    ("table list", &[("table list", "names, kinds and quorums")]),
    ("table describe", &[("table describe users", "all there is to say of it")]),
    ("table alter", &[("table alter users --ttl 7d", "what is written from now on lives a week")]),
    ("table drop", &[("table drop users --yes", "with all its keys, for good")]),
    ("node join", &[("node join n4", "then `plan show`, `plan commit`: n4 takes its share")]),
    (
        "node leave",
        &[("node leave n2", "then `plan show`, `plan commit`: n2 gives its share away")],
    ),
    ("node replace", &[("node replace n2 n5", "n5 takes over all that n2 owns")]),
    ("node set", &[("node set n2 weight=2 zone=b", "a larger share, another zone")]),
    ("plan show", &[("plan show", "what would move, for how long, and what is at risk meanwhile")]),
    (
        "plan commit",
        &[("plan commit 5d1c0f3a9e8b7d6c5a4f3e2d1c0b9a88", "the hash that `plan show` showed")],
    ),
    ("plan status", &[("plan status --watch", "until it has ended")]),
    ("plan pause", &[("plan pause", "moves that have begun go on")]),
    ("plan resume", &[("plan resume", "go on")]),
    ("plan rollback", &[("plan rollback", "everything back where it was")]),
    ("plan clear", &[("plan clear", "nothing is staged any more")]),
    ("plan retarget", &[("plan retarget n4 n5", "n4 died while it was being filled")]),
    (
        "grow show",
        &[("grow show", "what is foreseen, and whether more nodes should own, or fewer")],
    ),
    (
        "grow commit",
        &[("grow commit 5d1c0f3a", "the first digits of the hash that `grow show` showed")],
    ),
    (
        "grow dismiss",
        &[("grow dismiss 5d1c0f3a", "not proposed again before it changes, or a week is over")],
    ),
    (
        "plan accept-loss",
        &[("plan accept-loss 0/17 --gone n2,n3", "the unit as `plan show` names it")],
    ),
    (
        "lineage force",
        &[(
            "lineage force --gone n2,n3 -e 10.0.0.1:7450",
            "n2 and n3, most of the council, are gone for good",
        )],
    ),
    (
        "safe-to stop",
        &[
            ("safe-to stop n2", "exit code 4 and the reasons when it is not"),
            ("safe-to stop --zone a --for 2h", "a whole zone, for two hours"),
        ],
    ),
    (
        "whatif",
        &[(
            "whatif --kill n2,n3 --svg lost.svg",
            "what could be read and written, and what would be lost",
        )],
    ),
    (
        "events",
        &[
            ("events --since 12h", "what the cluster did at night, and why"),
            ("events --follow", "as it happens"),
        ],
    ),
    (
        "hot",
        &[("hot --keys --limit 20", "the keys that are asked for most"), ("hot", "partitions too")],
    ),
    (
        "wait",
        &[
            ("wait --for ready --timeout 30s", "every partition has a live quorum"),
            ("wait --for converged", "all owners have been found equal"),
        ],
    ),
    ("hints list", &[("hints list", "for whom each node keeps writes, since when, how many")]),
    ("hints replay", &[("hints replay", "do not wait for the next try")]),
    ("hints drop", &[("hints drop --target n3 --yes", "n3 will not come back")]),
    ("repair start", &[("repair start --wait", "until all owners have been compared")]),
    ("repair status", &[("repair status", "how far each node is")]),
    ("repair cancel", &[("repair cancel", "what was started out of turn")]),
    ("tree diff", &[("tree diff n1 n2", "keys that differ, and how")]),
    ("gc status", &[("gc status", "who holds back that deletes are purged")]),
    ("scrub start", &[("scrub start", "on all nodes")]),
    ("scrub status", &[("scrub status", "what was read, found and healed")]),
    ("flush", &[("flush --node n1", "one node alone")]),
    ("compact", &[("compact", "all nodes, one after the other")]),
    ("bench list", &[("bench list", "what A to F are")]),
    ("version", &[("version --server", "of this program and of a node")]),
    (
        "completion",
        &[("completion bash", "to be sourced, or kept where bash looks for completions")],
    ),
    ("man", &[("man ./man1", "a page for each command")]),
];

/// The command with the examples of all that are below it.
pub(super) fn add(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let words: Vec<&str> = path.split(' ').collect();
        at(command, &words, &text(examples))
    })
}

fn at(command: Command, words: &[&str], text: &str) -> Command {
    match words.split_first() {
        None => command.after_help(text.to_owned()),
        Some((first, rest)) => command.mut_subcommand(*first, |below| at(below, rest, text)),
    }
}

fn text(examples: &[(&str, &str)]) -> String {
    let lines = examples.iter().map(|(line, does)| format!("  kvctl {line}\n      {does}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::args::command;
    use super::*;

    /// All commands that do something, by their words.
    fn leaves(command: &Command, words: &str, found: &mut Vec<(String, bool)>) {
        for below in command.get_subcommands() {
            let words = format!("{words} {}", below.get_name());
            if below.has_subcommands() {
                leaves(below, &words, found);
            } else {
                let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
                found.push((words.trim().to_owned(), help.starts_with("Examples:\n")));
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut found = Vec::new();
        leaves(&command(), "", &mut found);
        assert!(found.len() > 40, "{found:?}");
        let without: Vec<_> = found.iter().filter(|(_, has)| !has).collect();
        assert!(without.is_empty(), "{without:?}");
        for (path, _) in EXAMPLES {
            assert!(found.iter().any(|(words, _)| words == path), "there is no command {path}");
        }
    }

    #[test]
    fn every_example_is_a_command_line() {
        let lines = EXAMPLES
            .iter()
            .flat_map(|(path, examples)| examples.iter().map(move |(line, _)| (*path, *line)));
        for (path, line) in lines {
            assert!(line.starts_with(path), "{line}");
            let words = shlex::split(&format!("kvctl {line}")).unwrap();
            if let Err(error) = command().try_get_matches_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
