//! `kvctl shell`: commands one after the other, without `kvctl` in front, over connections that stay
//! open. On a terminal with a history and completion; else lines of stdin are carried out, up to the
//! first that fails.

mod editor;
mod line;

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::client::Clock;

use super::args::{Cli, Command, Global};
use super::exit::{self, Exit, Failure};
use super::{Kept, args, interruptible, output};

use editor::{Editor, Typed};
use line::Line;

/// `kvctl shell`
#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    /// Go on after a line that fails; then end with exit code 8. On a terminal it always goes on
    #[arg(long)]
    keep_going: bool,
    /// Keep no history in a file
    #[arg(long)]
    no_history: bool,
}

/// What is remembered from line to line.
struct Shell<'a> {
    runtime: &'a Runtime,
    global: Global,
    kept: Kept,
    timing: bool,
    failed: u64,
}

/// Whether there will be another line.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Goes,
    Ends,
}

/// Carries out lines until there are no more, or one says so.
pub(super) fn run(runtime: &Runtime, global: Global, args: &ShellArgs) -> ExitCode {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let shell = Shell { runtime, global, kept: Kept::default(), timing: false, failed: 0 };
    if terminal { by_hand(shell, args) } else { by_script(shell, args) }
}

fn by_hand(mut shell: Shell<'_>, args: &ShellArgs) -> ExitCode {
    let mut editor = match Editor::new(!args.no_history) {
        Ok(editor) => editor,
        Err(failure) => return exit::report(&failure, shell.global.is_json()),
    };
    output::error_line("type a command, `help`, or `exit`; keys and commands complete with Tab");
    loop {
        let line = match editor.read(&format!("{}> ", shell.global.table)) {
            Typed::Line(line) => line,
            Typed::Given => continue,
            Typed::End => return ExitCode::SUCCESS,
        };
        let next = shell.line(&line);
        editor.saw(shell.kept.take_seen());
        match next {
            Ok(Next::Goes) => {}
            Ok(Next::Ends) => return ExitCode::SUCCESS,
            Err(failure) => {
                exit::report(&failure, shell.global.is_json());
            }
        }
    }
}

fn by_script(mut shell: Shell<'_>, args: &ShellArgs) -> ExitCode {
    let mut lines = stdin_lines(shell.runtime);
    loop {
        // A signal ends the wait for a line too, not only a command.
        let line = shell.runtime.block_on(async {
            tokio::select! {
                line = lines.recv() => Ok(line),
                _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            }
        });
        let json = shell.global.is_json();
        let outcome = match line {
            Ok(None) => break,
            Ok(Some(line)) => line.and_then(|line| shell.line(&line)),
            Err(failure) => return exit::report(&failure, json),
        };
        shell.kept.take_seen();
        match outcome {
            Ok(Next::Goes) => {}
            Ok(Next::Ends) => break,
            Err(failure) => {
                let code = exit::report(&failure, json);
                if !args.keep_going || failure.exit == Exit::Interrupted {
                    return code;
                }
                shell.failed += 1;
            }
        }
    }
    match shell.failed {
        0 => ExitCode::SUCCESS,
        failed => exit::report(
            &Failure::partial(format!("{failed} lines failed")),
            shell.global.is_json(),
        ),
    }
}

/// Lines of stdin, read by a thread that may wait for ever.
fn stdin_lines(runtime: &Runtime) -> mpsc::Receiver<Result<String, Failure>> {
    let (sender, lines) = mpsc::channel(16);
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::usage(format!("cannot read stdin: {error}")));
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    // It is not waited for: like any reader of stdin it may be blocked for ever.
    drop(runtime.spawn_blocking(read));
    lines
}

impl Shell<'_> {
    /// Carries out one line.
    fn line(&mut self, text: &str) -> Result<Next, Failure> {
        match line::read(text)? {
            Line::Nothing => Ok(Next::Goes),
            Line::End => Ok(Next::Ends),
            Line::Use(table) => {
                self.global.table = table;
                Ok(Next::Goes)
            }
            Line::Format(format) => {
                self.global.output = Some(format);
                Ok(Next::Goes)
            }
            Line::Timing(timing) => {
                self.timing = timing.unwrap_or(!self.timing);
                let is = if self.timing { "on" } else { "off" };
                output::error_line(&format!("timing is {is}"));
                Ok(Next::Goes)
            }
            Line::Help => {
                output::error_line(line::HELP);
                Ok(Next::Goes)
            }
            Line::Command(words) => self.command(words).map(|()| Next::Goes),
        }
    }

    fn command(&mut self, words: Vec<String>) -> Result<(), Failure> {
        let argv = std::iter::once("kvctl".to_owned()).chain(words);
        let matches = match args::command().try_get_matches_from(argv) {
            Ok(matches) => matches,
            Err(error) if error.use_stderr() => return Err(Failure::from_clap(&error)),
            Err(help) => {
                // Help and version: a reader that has gone away is no failure of theirs.
                let _ = help.print();
                return Ok(());
            }
        };
        let mut cli =
            Cli::from_arg_matches(&matches).map_err(|error| Failure::from_clap(&error))?;
        cli.global.take_from(&self.global, &matches);
        if matches!(cli.command, Command::Shell(_)) {
            return Err(Failure::usage("this is the shell already"));
        }
        let clock = Clock::start();
        let outcome = self.runtime.block_on(interruptible(cli, Some(&self.kept)));
        if self.timing {
            let time = Duration::from_micros(clock.now().0 / 1000);
            output::error_line(&format!("time: {}", humantime::format_duration(time)));
        }
        outcome
    }
}
