//! The tables, the plots, and where what is kept goes.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use roundtable::picture::{Line, Plot, plot_svg};

use crate::others::{fixed, scan};
use crate::session::Cost;
use crate::store::UNITS;

/// So many keys of so many differed.
pub(crate) struct Row {
    pub(crate) keys: u64,
    pub(crate) differing: u64,
    pub(crate) cost: Cost,
}

pub(crate) fn head(keys: u64) -> String {
    format!(
        "{keys} keys a replica in {UNITS} units, of two owners; every other key is newer here, the rest there\n\
         {}, load before: {}\n\n",
        output("uname", &["-srm"]),
        output("cut", &["-d ", "-f1-3", "/proc/loadavg"]),
    )
}

/// CPU time of this thread.
pub(crate) fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// One line a row.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>9} {:>8} {:>10} {:>8} {:>9} {:>9} {:>9} {:>8} {:>12} {:>12}\n",
        "keys",
        "differ",
        "to find",
        "a key",
        "questions",
        "read",
        "a key",
        "CPU ms",
        "scan: B",
        "2^15: B"
    );
    for Row { keys, differing, cost } in rows {
        let each = |sum: u64| sum as f64 / *differing as f64;
        let roots = UNITS * Cost::ROOT_BYTES;
        let beside = cost.find_bytes.saturating_sub(roots + cost.key_bytes);
        let _ = writeln!(
            text,
            "{keys:>9} {differing:>8} {:>10} {:>8.0} {:>9} {:>9} {:>9.1} {:>8.1} {:>12.0} {:>12.0}",
            cost.find_bytes,
            each(beside),
            cost.questions,
            cost.entries_read,
            each(cost.entries_read),
            cost.cpu_ms,
            scan(*keys).bytes,
            fixed(*keys, *differing).bytes,
        );
    }
    text += "to find: bytes of questions and answers, roots of all units included; a key: without these roots and \
             the keys themselves; values come on top\nread: entries, by both sides\n";
    text
}

/// Endings of files, and what belongs in them. Sizes are drawn by powers of ten.
pub(crate) fn plots(rows: &[Row]) -> Vec<(&'static str, String)> {
    let line = |name: &str, value: &dyn Fn(&Row) -> f64| {
        let points = rows.iter().map(|row| ((row.differing as f64).log10(), value(row)));
        Line { name: name.to_owned(), points: points.collect() }
    };
    let plot = |title: &str, y_label: &str, lines| {
        let (title, y_label) = (title.to_owned(), y_label.to_owned());
        let x_label = "keys that differ, as a power of ten".to_owned();
        let is_log = true;
        plot_svg(&Plot { title, x_label, y_label, is_log, lines, ..Plot::default() })
    };
    let bytes = vec![
        line("this", &|row| row.cost.find_bytes as f64),
        line("tree of 2^15", &|row| fixed(row.keys, row.differing).bytes),
        line("full scan", &|row| scan(row.keys).bytes),
    ];
    let read = vec![
        line("this", &|row| row.cost.entries_read as f64),
        line("tree of 2^15", &|row| fixed(row.keys, row.differing).entries),
        line("full scan", &|row| scan(row.keys).entries),
    ];
    vec![
        ("-bytes.svg", plot("What it takes to find what differs", "bytes", bytes)),
        ("-read.svg", plot("What is read for it", "entries", read)),
    ]
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Writes a figure beside the documents.
pub(crate) fn save(ending: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/figures");
    let date = output("date", &["-u", "+%Y-%m-%d"]);
    let file = folder.join(format!("antientropy-{date}{ending}"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(&file, format!("{}\n", text.trim_end())).expect("the file can be written");
    file
}
