//! `kvctl batch`
//!
//! Operations are read from lines of JSON, sent in groups, and answered in the order of the lines. Operations on
//! one key keep their order; nothing is atomic over them, unless `--atomic` asks for it: then all lines are one
//! batch, and the writes of a partition are made together.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::client::{BatchItem, BatchReply, BatchRequest, Client, Error, ErrorKind};
use crate::types::{Key, Quorum, Value, limits};

use super::args::{quorum, ttl};
use super::exit::Failure;
use super::line::field;
use super::lines::{self, Line};
use super::output::{self, Output};
use super::{Context, text};

/// Operations of a group: their answers wait for the slowest of them, in memory.
const GROUP: usize = 128;

/// `kvctl batch`
#[derive(Args, Debug)]
pub(crate) struct BatchArgs {
    /// The file; - reads stdin, which is meant when it is left out
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: String,
    /// Replicas that must answer reads: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    /// Replicas that must acknowledge writes: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    /// Make the writes of a partition together or not at all: puts and deletes of one lww table, at most 256
    /// lines; when one of them is wrong nothing is sent
    #[arg(long)]
    atomic: bool,
}

/// A line. Fields that are not known are refused: one that is ignored may be the one that matters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Kind,
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    ttl: Option<String>,
    by: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Get,
    Put,
    Del,
    Incr,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::Del => "del",
            Kind::Incr => "incr",
        }
    }
}

/// An operation that is to be carried out, or why it is none.
struct Wanted {
    number: u64,
    what: Result<(Kind, Bytes, BatchItem), String>,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    all: u64,
    failed: u64,
}

/// Carries out many operations.
pub(crate) async fn run(
    context: &Context<'_>,
    args: BatchArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    if args.atomic {
        return atomic(context, &client, &args, output).await;
    }
    let (mut chunks, _) = lines::open(&args.file)?;
    let mut done = Done::default();
    let mut broken = None;
    let mut ended = Ok(());
    while let (Ok(()), Some(chunk)) = (&ended, chunks.recv().await) {
        let lines = chunk.unwrap_or_else(|error| {
            broken = Some(error);
            Vec::new()
        });
        let wanted: Vec<Wanted> =
            lines.into_iter().filter_map(|line| wanted(context, &client, &args, line)).collect();
        let mut wanted = wanted.into_iter().peekable();
        while ended.is_ok() && wanted.peek().is_some() {
            let group = wanted.by_ref().take(GROUP).collect();
            ended = carry_out(&client, group, &mut done, output).await;
            output.finish()?;
        }
    }
    if output.format().is_json() {
        output.end_elements()?;
    }
    ended?;
    match broken {
        Some(error) => Err(Failure::partial(format!("reading {} failed: {error}", args.file))),
        None => done.verdict(),
    }
}

/// Carries out all lines as one batch. The exit is 8 when some of it was made and some was not; a batch that
/// has lines that are none of it is a usage error, and nothing is sent.
async fn atomic(
    context: &Context<'_>,
    client: &Client,
    args: &BatchArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let (mut chunks, _) = lines::open(&args.file)?;
    let (mut lines, mut items) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.recv().await {
        let unread = |error| Failure::usage(format!("reading {} failed: {error}", args.file));
        for line in chunk.map_err(unread)? {
            let Some(Wanted { number, what }) = wanted(context, client, args, line) else {
                continue;
            };
            let wrong = |why| Failure::usage(format!("line {number}: {why}; nothing was sent"));
            let (kind, key, item) = what.map_err(wrong)?;
            if !matches!(kind, Kind::Put | Kind::Del) {
                return Err(wrong(format!("{} is none of an atomic batch", kind.name())));
            }
            if items.len() == limits::BATCH_ITEMS_MAX {
                let most = limits::BATCH_ITEMS_MAX;
                return Err(wrong(format!("an atomic batch has at most {most} writes")));
            }
            lines.push((number, kind, key));
            items.push(item);
        }
    }
    let batch = items.into_iter().fold(client.batch(), BatchRequest::with).atomic();
    let mut done = Done::default();
    for ((number, kind, key), outcome) in lines.into_iter().zip(batch.await) {
        done.all += 1;
        done.failed += u64::from(outcome.is_err());
        show(number, Some((kind, key)), outcome.map_err(Failure::from), output)?;
    }
    output.finish()?;
    if output.format().is_json() {
        output.end_elements()?;
    }
    done.verdict()
}

impl Done {
    fn verdict(&self) -> Result<(), Failure> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::partial(format!("{failed} of {} operations failed", self.all))),
        }
    }
}

fn wanted(context: &Context<'_>, client: &Client, args: &BatchArgs, line: Line) -> Option<Wanted> {
    let number = line.number;
    let Some(bytes) = line.bytes else {
        let what = Err(format!("the line is over {} bytes", lines::LINE_BYTES_MAX));
        return Some(Wanted { number, what });
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let read = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
    let what = read.and_then(|operation| item(context, client, args, operation));
    Some(Wanted { number, what })
}

fn item(
    context: &Context<'_>,
    client: &Client,
    args: &BatchArgs,
    line: Operation,
) -> Result<(Kind, Bytes, BatchItem), String> {
    let Operation { op, key, key_b64, value, value_b64, ttl: lives, by } = line;
    let key = Key::new(field("key", key, key_b64)?).map_err(|error| error.to_string())?;
    let key = key.bytes().clone();
    if op != Kind::Put && (value.is_some() || value_b64.is_some() || lives.is_some()) {
        return Err(format!("value and ttl are of put, not of {}", op.name()));
    }
    if op != Kind::Incr && by.is_some() {
        return Err(format!("by is of incr, not of {}", op.name()));
    }
    let item = match op {
        Kind::Get => {
            let get = client.get(key.clone()).table(context.table());
            args.r.map_or(get.clone(), |r| get.r(r)).into()
        }
        Kind::Put => {
            let value = Value::new(field("value", value, value_b64)?).map_err(|len| {
                format!("value has {len} bytes; the limit is {} bytes", limits::VALUE_BYTES_MAX)
            })?;
            let lives: Option<Duration> = lives.as_deref().map(ttl).transpose()?;
            let mut put = client.put(key.clone(), value.into_bytes()).table(context.table());
            if let Some(lives) = lives {
                put = put.ttl(lives);
            }
            args.w.map_or(put.clone(), |w| put.w(w)).into()
        }
        Kind::Del => {
            let delete = client.delete(key.clone()).table(context.table());
            args.w.map_or(delete.clone(), |w| delete.w(w)).into()
        }
        Kind::Incr => {
            let add = client.increment(key.clone(), by.unwrap_or(1)).table(context.table());
            args.w.map_or(add.clone(), |w| add.w(w)).into()
        }
    };
    Ok((op, key, item))
}

/// Sends a group, and shows what came of each.
///
/// # Errors
/// Nobody could be reached for any of them: there is no point in going on.
async fn carry_out(
    client: &Client,
    group: Vec<Wanted>,
    done: &mut Done,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut batch = client.batch();
    let mut lines = Vec::with_capacity(group.len());
    for Wanted { number, what } in group {
        lines.push(match what {
            Ok((kind, key, item)) => {
                batch = batch.with(item);
                (number, Ok((kind, key)))
            }
            Err(why) => (number, Err(why)),
        });
    }
    let mut outcomes = batch.await.into_iter();
    let (mut sent, mut unreachable) = (0, 0);
    for (number, what) in lines {
        done.all += 1;
        let outcome = match what {
            Err(why) => {
                done.failed += 1;
                show(number, None, Err(Failure::usage(why)), output)?;
                continue;
            }
            Ok(about) => outcomes.next().map(|outcome| (about, outcome)),
        };
        let Some((about, outcome)) = outcome else { continue };
        sent += 1;
        unreachable += u64::from(is_unreachable(&outcome));
        done.failed += u64::from(outcome.is_err());
        show(number, Some(about), outcome.map_err(Failure::from), output)?;
    }
    if sent > 0 && unreachable == sent {
        return Err(Failure::unavailable("gave up: the cluster cannot be reached"));
    }
    Ok(())
}

fn is_unreachable(outcome: &Result<BatchReply, Error>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

fn show(
    number: u64,
    about: Option<(Kind, Bytes)>,
    outcome: Result<BatchReply, Failure>,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.format().is_json() {
        return output.element(&json(number, about, &outcome));
    }
    let (status, value) = match &outcome {
        Ok(BatchReply::Get(reply)) => match &reply.value {
            Some(value) => ("ok", value.clone()),
            None => ("absent", Bytes::new()),
        },
        Ok(BatchReply::Increment(made)) => ("ok", sum(made.value)),
        Ok(_) => ("ok", Bytes::new()),
        Err(failure) => {
            output::error_line(&format!("line {number}: {failure}"));
            (failure.code(), Bytes::new())
        }
    };
    let (name, key) = about.map_or(("-", Bytes::new()), |(kind, key)| (kind.name(), key));
    output.bytes(format!("{status}\t{name}\t").as_bytes())?;
    output.bytes(&text::escape(&key))?;
    output.bytes(b"\t")?;
    output.bytes(&text::escape(&value))?;
    output.bytes(b"\n")
}

/// What a counter holds, in decimal; nothing when that is not known.
fn sum(value: Option<i64>) -> Bytes {
    value.map_or_else(Bytes::new, |value| value.to_string().into())
}

fn json(number: u64, about: Option<(Kind, Bytes)>, outcome: &Result<BatchReply, Failure>) -> Json {
    let mut object = Map::new();
    object.insert("line".to_owned(), number.into());
    if let Some((kind, key)) = about {
        object.insert("op".to_owned(), kind.name().into());
        text::put_bytes(&mut object, "key", &key);
    }
    match outcome {
        Ok(BatchReply::Get(reply)) => {
            object.insert("found".to_owned(), reply.value.is_some().into());
            if let Some(value) = &reply.value {
                text::put_bytes(&mut object, "value", value);
                object.insert("expires_ms".to_owned(), text::expires_ms(reply.expires));
            }
            object.insert("stamp".to_owned(), text::stamp(reply.receipt.stamp).into());
        }
        Ok(BatchReply::Put(receipt) | BatchReply::Delete(receipt)) => {
            object.insert("stamp".to_owned(), text::stamp(receipt.stamp).into());
        }
        Ok(BatchReply::Increment(made)) => {
            object.insert("value".to_owned(), made.value.into());
            object.insert("stamp".to_owned(), text::stamp(made.receipt.stamp).into());
        }
        Ok(BatchReply::Cas(_)) => {}
        Err(failure) => drop(object.insert("error".to_owned(), failure.json())),
    }
    object.into()
}
