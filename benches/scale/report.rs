//! The head of the tables, and where what is kept goes.

use std::path::PathBuf;
use std::process::Command;

pub(crate) fn head() -> String {
    format!(
        "members are probed each 500 ms, suspect after 2 s, down after 10 s; a message takes 0.2 to 2 ms\n\
         {}, load before: {}\n",
        output("uname", &["-srm"]),
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

/// Writes a figure beside the documents.
pub(crate) fn save(ending: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/figures");
    let date = output("date", &["-u", "+%Y-%m-%d"]);
    let file = folder.join(format!("scale-{date}{ending}"));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(&file, format!("{}\n", text.trim_end())).expect("the file can be written");
    file
}
