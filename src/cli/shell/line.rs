//! What a line of the shell means: words as other shells split them, and a few words of its own.

use clap::ValueEnum;

use super::super::args::Format;
use super::super::exit::Failure;

/// What `help` says.
pub(super) const HELP: &str = "\
Every command of kvctl, without `kvctl` in front: put a 1, get a, scan --prefix user: ...
  help COMMAND         what a command does, with examples; `--help` lists them all
  \\use TABLE           commands are about this table from now on
  \\o FORMAT            table, json, jsonl or plain from now on
  \\timing [on|off]     say how long each command takes
  exit, \\q, Ctrl-D     end
Words are split as by sh: 'it is one', \"so is this\", a\\ blank. A line that begins with # is a comment.";

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Blank, or a comment.
    Nothing,
    /// A command of `kvctl`, by its words.
    Command(Vec<String>),
    /// Another table.
    Use(String),
    /// Another format of output.
    Format(Format),
    /// Whether to say how long commands take; the other way round when left out.
    Timing(Option<bool>),
    /// What can be typed.
    Help,
    /// No more lines.
    End,
}

/// Reads a line.
///
/// # Errors
/// Usage: its quotes do not close, or its first word is one of the shell's and the others do not fit.
pub(super) fn read(text: &str) -> Result<Line, Failure> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(Line::Nothing);
    }
    if let Some(own) = text.strip_prefix('\\') {
        return own_word(own);
    }
    let unclosed = || Failure::usage("a quote is not closed, or the line ends with a backslash");
    let mut words = shlex::split(text).ok_or_else(unclosed)?;
    // Whoever pastes from a document pastes the program's name too.
    if words.first().is_some_and(|first| first == "kvctl") {
        words.remove(0);
    }
    let line = words.iter().map(String::as_str).collect::<Vec<_>>();
    match line.as_slice() {
        [] => Ok(Line::Nothing),
        ["exit" | "quit"] => Ok(Line::End),
        ["help"] => Ok(Line::Help),
        ["help", command @ ..] => {
            let command = command.iter().copied().chain(["--help"]);
            Ok(Line::Command(command.map(str::to_owned).collect()))
        }
        ["put", ..] if reads_stdin(&line) => Err(Failure::usage(
            "- would read what is typed here; take @FILE, or --value - for the sign itself",
        )),
        ["batch" | "import", rest @ ..] if rest.contains(&"-") || is_batch_of_stdin(&line) => {
            Err(Failure::usage("stdin is where lines of the shell come from: name a file"))
        }
        _ => Ok(Line::Command(words)),
    }
}

/// Whether a put takes its value from stdin: a `-` that is no option's value.
fn reads_stdin(words: &[&str]) -> bool {
    let before = words.iter().zip(words.iter().skip(1));
    before.into_iter().any(|(before, word)| *word == "-" && *before != "--value")
}

/// `batch` without a file reads stdin.
fn is_batch_of_stdin(words: &[&str]) -> bool {
    words == ["batch"]
}

fn own_word(text: &str) -> Result<Line, Failure> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["q" | "quit"] => Ok(Line::End),
        ["?" | "h" | "help"] => Ok(Line::Help),
        ["use", table] => Ok(Line::Use((*table).to_owned())),
        ["o", format] => match Format::from_str(format, true) {
            Ok(format) => Ok(Line::Format(format)),
            Err(_) => Err(Failure::usage("\\o takes one of table, json, jsonl, plain")),
        },
        ["timing"] => Ok(Line::Timing(None)),
        ["timing", "on"] => Ok(Line::Timing(Some(true))),
        ["timing", "off"] => Ok(Line::Timing(Some(false))),
        _ => Err(Failure::usage(format!("\\{text}: the shell has no such word; `help` has all"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        match read(text) {
            Ok(Line::Command(words)) => words,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn words_are_split_as_by_a_shell() {
        assert_eq!(words("put a 'two words'"), ["put", "a", "two words"]);
        assert_eq!(words("  kvctl get a\\ b "), ["get", "a b"]);
        assert_eq!(words("put a \"\""), ["put", "a", ""]);
        assert_eq!(words("put a --value -"), ["put", "a", "--value", "-"]);
        assert_eq!(words("help table create"), ["table", "create", "--help"]);
        assert!(read("put a 'open").is_err());
    }

    #[test]
    fn the_shells_own_words_are_told_from_commands() {
        for (text, line) in [
            ("", Line::Nothing),
            ("# put a 1", Line::Nothing),
            ("kvctl", Line::Nothing),
            ("exit", Line::End),
            ("\\q", Line::End),
            ("\\use users", Line::Use("users".to_owned())),
            ("\\o json", Line::Format(Format::Json)),
            ("\\timing", Line::Timing(None)),
            ("\\timing off", Line::Timing(Some(false))),
            ("help", Line::Help),
        ] {
            assert_eq!(read(text).unwrap(), line, "{text}");
        }
        for bad in ["\\", "\\use", "\\o xml", "\\frob", "put a -", "import -", "batch -", "batch"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
