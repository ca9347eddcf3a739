//! The only place of `kvctl` that prints: data to stdout, everything else to stderr. It knows
//! whether anybody watches, and in which format they want it.

use std::io::{self, BufWriter, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value as Json;

use super::args::{Color, Format, Global};
use super::bars::Bars;
use super::exit::Failure;

/// Where output goes and what it looks like.
pub(crate) struct Output {
    stdout: BufWriter<io::Stdout>,
    format: Format,
    terminal: bool,
    color: bool,
    quiet: bool,
    progress: bool,
    /// Elements of a JSON array written so far, while one is open.
    elements: Option<u64>,
}

impl Output {
    /// Output as the command line asks for it.
    pub(crate) fn new(global: &Global) -> Output {
        let terminal = io::stdout().is_terminal();
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Output {
            stdout: BufWriter::with_capacity(64 << 10, io::stdout()),
            format: global.format(),
            terminal,
            color,
            quiet: global.quiet,
            progress: !global.quiet && !global.no_progress && io::stderr().is_terminal(),
            elements: None,
        }
    }

    /// The format asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether to use colour.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|error| Failure::from_stdout(&error))
    }

    /// Clears the screen, and puts what comes next at its top.
    pub(crate) fn clear_screen(&mut self) -> Result<(), Failure> {
        self.bytes(b"\x1b[H\x1b[2J")
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a JSON document: for people to read on a terminal, in one line elsewhere.
    pub(crate) fn json(&mut self, json: &Json) -> Result<(), Failure> {
        if self.terminal && self.format == Format::Json {
            self.line(&format!("{json:#}"))
        } else {
            self.line(&json.to_string())
        }
    }

    /// Writes one of many JSON values: an element of one array with `json`, a line with `jsonl`.
    pub(crate) fn element(&mut self, json: &Json) -> Result<(), Failure> {
        if self.format == Format::Jsonl {
            return self.line(&json.to_string());
        }
        let written = self.elements.unwrap_or(0);
        self.elements = Some(written + 1);
        self.bytes(if written == 0 { b"[\n" } else { b",\n" })?;
        self.bytes(json.to_string().as_bytes())
    }

    /// Ends what [`Output::element`] began, also when there was none.
    pub(crate) fn end_elements(&mut self) -> Result<(), Failure> {
        match (self.format, self.elements.take()) {
            (Format::Json, None) => self.bytes(b"[]\n"),
            (Format::Json, Some(_)) => self.bytes(b"\n]\n"),
            _ => Ok(()),
        }
    }

    /// Sends out what is still buffered.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| Failure::from_stdout(&error))
    }

    /// Says something on stderr, unless asked to be quiet.
    pub(crate) fn note(&self, note: &str) {
        if !self.quiet {
            error_line(note);
        }
    }

    /// A progress bar on stderr over `total` bytes, or a spinner when the total is not known; it
    /// draws nothing when nobody watches.
    pub(crate) fn progress(&self, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{bar:32} {percent:>3}%  {bytes}/{total_bytes}  {msg}  eta {eta}",
            )),
            None => ProgressBar::no_length().with_style(style("{spinner} {msg}  {elapsed}")),
        };
        let target = ProgressDrawTarget::stderr_with_hz(10);
        bar.set_draw_target(if self.progress { target } else { ProgressDrawTarget::hidden() });
        bar
    }

    /// A progress bar on stderr over `total` of what `unit` says.
    pub(crate) fn counter(&self, total: u64, unit: &'static str) -> ProgressBar {
        let bar = self.progress(Some(total)).with_message(unit);
        bar.set_style(style("{bar:32} {percent:>3}%  {human_pos} of {human_len} {msg}  eta {eta}"));
        bar
    }
}

impl Output {
    /// Bars of something that has many parts, on stderr; `None` when nobody watches.
    pub(crate) fn bars(&self) -> Option<Bars> {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        self.progress.then(|| Bars::new(MultiProgress::with_draw_target(target)))
    }
}

fn style(template: &str) -> ProgressStyle {
    let plain = ProgressStyle::default_bar();
    let plain = plain.progress_chars("━╸─");
    plain.clone().template(template).unwrap_or(plain)
}

/// Writes a line to stderr. Nobody can be told when that fails.
pub(crate) fn error_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
