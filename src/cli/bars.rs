//! Bars of something that has many parts: one for the whole, one for each part that is under way.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Parts that are drawn: more do not fit a terminal.
const LINES_MAX: usize = 12;

/// The bars.
pub(crate) struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    lines: Vec<ProgressBar>,
}

fn style(template: &str) -> ProgressStyle {
    let plain = ProgressStyle::default_bar().progress_chars("━╸·");
    plain.clone().template(template).unwrap_or(plain)
}

impl Bars {
    /// Bars that are drawn on `all`.
    pub(super) fn new(all: MultiProgress) -> Bars {
        let whole = all.add(ProgressBar::new(0));
        whole.set_style(style("{bar:32} {percent:>3}%  {pos}/{len}  {msg}  {elapsed}"));
        Bars { all, whole, lines: Vec::new() }
    }

    /// Draws the whole.
    pub(crate) fn whole(&self, done: u64, total: u64, text: &str) {
        self.whole.set_length(total);
        self.whole.set_position(done);
        self.whole.set_message(text.to_owned());
    }

    /// Draws the parts: a name, thousandths, and a text each.
    pub(crate) fn lines(&mut self, parts: impl Iterator<Item = (String, u64, String)>) {
        let mut used = 0;
        for (name, milli, text) in parts.take(LINES_MAX) {
            if self.lines.len() == used {
                let line = self.all.add(ProgressBar::new(1000));
                line.set_style(style("{prefix:>14} {bar:16} {percent:>3}%  {msg}"));
                self.lines.push(line);
            }
            let Some(line) = self.lines.get(used) else { break };
            line.set_prefix(name);
            line.set_position(milli);
            line.set_message(text);
            used += 1;
        }
        for line in self.lines.drain(used..) {
            line.finish_and_clear();
            self.all.remove(&line);
        }
    }

    /// Takes all of them away.
    pub(crate) fn finish(self) {
        let _ = self.all.clear();
    }
}
