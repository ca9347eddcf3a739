//! The head of the table, and where what is kept goes.

use std::path::PathBuf;
use std::process::Command;

use crate::Options;
use crate::scenario::RATE;

pub(crate) fn head(options: &Options) -> String {
    let third = options.third().as_secs();
    let machine = output("uname", &["-srm"]);
    format!(
        "{RATE} requests a second, half reads, N = 3, R = W = 2, sync = always, 100 B values; faults \
         from {third} s to {} s of {} s\n{machine}, load before: {}\n",
        2 * third,
        3 * third,
        output("cut", &["-d ", "-f1-3", "/proc/loadavg"]),
    )
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Writes the table beside the documents; that of one scenario under its name, so that the table of
/// all stays.
pub(crate) fn save_text(only: Option<&str>, text: &str) -> PathBuf {
    let scenario = only.map_or(String::new(), |only| format!("{only}-"));
    write(&format!("faults-{scenario}{}.txt", date()), text)
}

/// Writes a figure beside the documents.
pub(crate) fn save(ending: &str, text: &str) -> PathBuf {
    write(&format!("faults-{}-{ending}", date()), text)
}

fn date() -> String {
    output("date", &["-u", "+%Y-%m-%d"])
}

fn write(name: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/figures");
    let file = folder.join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(&file, format!("{}\n", text.trim_end())).expect("the file can be written");
    file
}
