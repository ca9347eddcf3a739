//! `kvctl man`: manual pages, made of what `--help` says.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use serde_json::json;

use super::args;
use super::exit::Failure;
use super::output::Output;

/// `kvctl man`
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Where to write the pages, one for each command; made if it is not there. Pages of the same names
    /// are replaced
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes all pages.
pub(crate) fn run(args: &ManArgs, output: &mut Output) -> Result<(), Failure> {
    fs::create_dir_all(&args.dir).map_err(|error| failed(&args.dir, &error))?;
    let mut whole = args::command();
    // So every page knows the options of all commands.
    whole.build();
    let mut pages = Vec::new();
    collect(&whole, &mut pages);
    for page in &pages {
        let page = clap_mangen::Man::new(page.clone()).manual("Roundtable");
        let path = args.dir.join(page.get_filename());
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = page.render(&mut text);
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    if output.format().is_json() {
        return output.json(&json!({ "pages": pages.len(), "dir": args.dir }));
    }
    output.line(&format!("{} pages in {}", pages.len(), args.dir.display()))
}

fn collect(command: &Command, pages: &mut Vec<Command>) {
    pages.push(command.clone());
    for below in command.get_subcommands() {
        collect(below, pages);
    }
}

fn failed(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot write {}: {error}", path.display()))
}
