//! Lines typed at a terminal: editing, history, completion.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Helper};

use super::super::args;
use super::super::exit::Failure;

/// Keys that are remembered for completion.
const KEYS_MAX: usize = 10_000;
/// Lines kept from one shell to the next.
const HISTORY_MAX: usize = 10_000;
const OWN_WORDS: [&str; 7] = ["exit", "help", "\\use", "\\o", "\\timing", "\\q", "\\?"];

/// What was typed.
pub(super) enum Typed {
    /// A line.
    Line(String),
    /// Ctrl-C: the line was given up.
    Given,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// The terminal.
pub(super) struct Editor {
    editor: rustyline::Editor<Words, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    pub(super) fn new(keeps_history: bool) -> Result<Editor, Failure> {
        let failed = |error: ReadlineError| Failure::internal(format!("the terminal: {error}"));
        // Whoever does not want a value in the history puts a blank before the line.
        let config = Config::builder().history_ignore_space(true).auto_add_history(true);
        let config = config.max_history_size(HISTORY_MAX).map_err(failed)?.build();
        let mut editor = rustyline::Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Words::default()));
        let history = keeps_history.then(history_file).flatten();
        if let Some(file) = &history {
            // There is none before the first time.
            let _ = editor.load_history(file);
        }
        Ok(Editor { editor, history })
    }

    pub(super) fn read(&mut self, prompt: &str) -> Typed {
        match self.editor.readline(prompt) {
            Ok(line) => {
                if let Some(file) = &self.history {
                    // A shell without a history is still a shell.
                    let _ = self.editor.append_history(file);
                }
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Given,
            Err(_) => Typed::End,
        }
    }

    /// Takes keys that were read or written for later completion.
    pub(super) fn saw(&mut self, keys: impl IntoIterator<Item = String>) {
        if let Some(words) = self.editor.helper_mut() {
            let room = KEYS_MAX.saturating_sub(words.keys.len());
            words.keys.extend(keys.into_iter().take(room));
        }
    }
}

/// Where lines are kept, by the rules of XDG; its folder is made. Readable by its owner alone.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty());
    let state = state.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(PathBuf::from(home).join(".local/state"))
    })?;
    let dir = state.join("kvctl");
    fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

/// What words can be completed to.
#[derive(Default)]
struct Words {
    keys: BTreeSet<String>,
}

impl Words {
    /// All that may stand where `start` is, behind `words`.
    fn candidates(&self, words: &[&str], start: &str) -> Vec<String> {
        let root = args::command();
        let mut command = &root;
        for word in words {
            match command.find_subcommand(word) {
                Some(below) => command = below,
                None => break,
            }
        }
        let mut all: Vec<String> = Vec::new();
        if start.starts_with('-') {
            let options = root.get_arguments().chain(command.get_arguments());
            all.extend(options.filter_map(|arg| Some(format!("--{}", arg.get_long()?))));
        } else if command.has_subcommands() {
            all.extend(command.get_subcommands().map(|below| below.get_name().to_owned()));
            if words.is_empty() {
                all.extend(OWN_WORDS.map(str::to_owned));
            }
        } else {
            all.extend(self.keys.iter().cloned());
        }
        all.retain(|candidate| candidate.starts_with(start));
        all.sort();
        all.dedup();
        all
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..pos).unwrap_or(line);
        let at = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (words, start) = before.split_at(at);
        let words: Vec<&str> = words.split_whitespace().collect();
        Ok((at, self.candidates(&words, start)))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_options_and_keys_complete() {
        let words = Words { keys: BTreeSet::from(["user:1".to_owned(), "other".to_owned()]) };
        assert_eq!(words.candidates(&[], "sca"), ["scan"]);
        assert_eq!(words.candidates(&["table"], "cr"), ["create"]);
        assert_eq!(words.candidates(&["scan"], "--pre"), ["--prefix"]);
        assert_eq!(words.candidates(&["scan"], "--time"), ["--timeout"]);
        assert_eq!(words.candidates(&["get"], "user"), ["user:1"]);
        assert_eq!(words.candidates(&[], "\\t"), ["\\timing"]);
    }
}
