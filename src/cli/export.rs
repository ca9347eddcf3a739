//! `kvctl export`

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio_stream::StreamExt;

use crate::client::{Client, Clock};
use crate::types::Quorum;

use super::Context;
use super::args::quorum;
use super::exit::Failure;
use super::line;
use super::output::Output;

/// `kvctl export`
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The file; - writes to stdout
    #[arg(value_name = "FILE")]
    file: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Replicas that must answer for each key: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
}

/// Writes all keys.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ExportArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let mut scan = client.scan().table(context.table());
    if let Some(prefix) = args.prefix {
        scan = scan.prefix(prefix);
    }
    if let Some(r) = args.r {
        scan = scan.r(r);
    }
    let mut file = if args.file == "-" { None } else { Some(Target::create(&args.file)?) };
    let clock = Clock::start();
    let progress = output.progress(None);
    let mut exported: u64 = 0;
    let mut pages = pin!(scan.pages());
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            let values = if entry.value_left_out {
                siblings(&client, context.table(), &entry.key, args.r).await?
            } else {
                vec![entry.value]
            };
            for value in values {
                let line = line::ndjson(&entry.key, &value);
                match &mut file {
                    Some(file) => file.line(&line)?,
                    None => output.line(&line)?,
                }
                exported += 1;
            }
        }
        progress.tick();
        progress.set_message(format!("{exported} keys"));
    }
    progress.finish_and_clear();
    let Some(file) = file else {
        // Stdout is the data's: the summary would be read as a line of it.
        return Ok(());
    };
    file.commit()?;
    let seconds = Duration::from_nanos(clock.now().0).as_secs_f64();
    if output.format().is_json() {
        return output.json(&json!({ "exported": exported, "seconds": seconds }));
    }
    output.line(&format!("exported {exported} in {seconds:.1} s"))
}

/// The values of a key of a causal table that a page had no room for: one line each.
async fn siblings(
    client: &Client,
    table: &str,
    key: &Bytes,
    r: Option<Quorum>,
) -> Result<Vec<Bytes>, Failure> {
    let mut get = client.get(key.clone()).table(table);
    if let Some(r) = r {
        get = get.r(r);
    }
    let found = get.siblings().await?;
    if usize::try_from(found.count).unwrap_or(usize::MAX) > found.values.len() {
        let key = key.escape_ascii();
        let text = format!("{key} has more siblings than fit one answer; resolve them first");
        return Err(Failure::internal(text));
    }
    Ok(found.values.into_iter().map(|sibling| sibling.value).collect())
}

/// A file that appears under its name only when it is complete.
struct Target {
    path: PathBuf,
    partial: PathBuf,
    writer: BufWriter<std::fs::File>,
}

impl Target {
    fn create(path: &str) -> Result<Target, Failure> {
        let path = Path::new(path).to_owned();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).open(&partial);
        let file = opened.map_err(|error| {
            Failure::usage(format!("cannot write {}: {error}", partial.display()))
        })?;
        Ok(Target { path, partial, writer: BufWriter::with_capacity(256 << 10, file) })
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(line.as_bytes());
        let written = written.and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|error| self.failed(&error))
    }

    fn commit(mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        let renamed = flushed.and_then(|()| std::fs::rename(&self.partial, &self.path));
        renamed.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::internal(format!("cannot write {}: {error}", self.partial.display()))
    }
}
