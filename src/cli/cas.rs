//! `kvctl cas` and `kvctl outcome`: what only linearizable tables offer.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value as Json};

use crate::client::{CasReply, Outcome, WriteId};
use crate::types::Stamp;

use super::args::{KeyArgs, ttl};
use super::exit::Failure;
use super::item::ValueSource;
use super::output::Output;
use super::{Context, text};

/// `kvctl cas`
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("expected").required(true)))]
#[command(group(clap::ArgGroup::new("new").required(true)))]
pub(crate) struct CasArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Only if the key holds exactly this value
    #[arg(long, value_name = "V", group = "expected", allow_hyphen_values = true)]
    expect: Option<String>,
    /// The same, in base64
    #[arg(long, value_name = "B64", group = "expected")]
    expect_b64: Option<String>,
    /// Only if there is no such key
    #[arg(long, group = "expected")]
    expect_absent: bool,
    /// Only if the key holds what was written under this stamp
    #[arg(long, value_name = "STAMP", group = "expected", value_parser = stamp)]
    expect_stamp: Option<Stamp>,
    /// The new value
    #[arg(long, value_name = "VALUE", group = "new", allow_hyphen_values = true)]
    value: Option<String>,
    /// The same, in base64
    #[arg(long, value_name = "B64", group = "new")]
    value_b64: Option<String>,
    /// Delete the key instead
    #[arg(long, group = "new")]
    delete: bool,
    /// How long the new value lives, as 90s or 7d; the table's default when left out
    #[arg(long, value_name = "D", value_parser = ttl, conflicts_with = "delete")]
    ttl: Option<Duration>,
    /// The value lives for ever, whatever the table's default is
    #[arg(long, conflicts_with_all = ["ttl", "delete"])]
    no_ttl: bool,
    /// Send this write once more: as an error has named it, unchanged
    #[arg(long, value_name = "WRITE", value_parser = write)]
    again: Option<WriteId>,
}

/// `kvctl outcome`
#[derive(Args, Debug)]
pub(crate) struct OutcomeArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The write, as an error has named it; its first 32 digits will do
    #[arg(long, value_name = "WRITE", value_parser = write)]
    write: WriteId,
}

fn stamp(text: &str) -> Result<Stamp, String> {
    let digits = Some(text).filter(|text| text.len() == 32);
    let bits = digits.and_then(|text| u128::from_str_radix(text, 16).ok());
    let bits = bits.ok_or("a stamp has 32 hexadecimal digits")?;
    Ok(Stamp::from_bytes(bits.to_be_bytes()))
}

fn write(text: &str) -> Result<WriteId, String> {
    text.parse()
}

/// Changes one key if it holds what is expected.
pub(crate) async fn run(
    context: &Context<'_>,
    args: CasArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let value = match (args.value, args.value_b64) {
        (Some(literal), _) => Some(ValueSource::Literal(literal).read()?),
        (None, Some(b64)) => Some(ValueSource::Base64(b64).read()?),
        (None, None) => None,
    };
    let client = context.client()?;
    let cas = match value {
        Some(value) => client.cas(key.clone(), value),
        None => client.cas_delete(key.clone()),
    };
    let mut cas = cas.table(context.table());
    cas = match (args.expect, args.expect_b64, args.expect_stamp) {
        (Some(literal), ..) => cas.expect(ValueSource::Literal(literal).read()?),
        (None, Some(b64), _) => cas.expect(ValueSource::Base64(b64).read()?),
        (None, None, Some(stamp)) => cas.expect_stamp(stamp),
        (None, None, None) => cas.expect_absent(),
    };
    if args.ttl.is_some() || args.no_ttl {
        cas = cas.ttl(args.ttl);
    }
    if let Some(write) = &args.again {
        cas = cas.again(write);
    }
    show(&key, cas.await?, output)
}

/// Shows what came of it; what was found instead is a conflict.
fn show(key: &[u8], reply: CasReply, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", key);
        object.insert("applied".to_owned(), reply.applied.into());
        object.insert("stamp".to_owned(), text::stamp(reply.receipt.stamp).into());
        if !reply.applied {
            let current = reply.current.as_ref().map_or(Json::Null, |current| {
                let mut object = Map::new();
                text::put_bytes(&mut object, "value", &current.value);
                object.insert("stamp".to_owned(), text::stamp(current.stamp).into());
                object.insert("expires_ms".to_owned(), text::expires_ms(current.expires));
                object.into()
            });
            object.insert("current".to_owned(), current);
        }
        object.insert("receipt".to_owned(), text::receipt(&reply.receipt));
        output.json(&object.into())?;
    } else if let Some(current) = reply.current.as_ref().filter(|_| !reply.applied) {
        output.bytes(&current.value)?;
        if output.is_terminal() {
            output.bytes(b"\n")?;
        }
    }
    if reply.applied { Ok(()) } else { Err(Failure::mismatch(reply.current.is_some())) }
}

/// Asks what became of a write.
pub(crate) async fn outcome(
    context: &Context<'_>,
    args: OutcomeArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let asked = context.client()?.outcome(key.clone(), &args.write).table(context.table());
    let (word, made) = match asked.await? {
        Outcome::Applied(stamp) => ("applied", Some(stamp)),
        Outcome::Cancelled => ("cancelled", None),
    };
    if !output.format().is_json() {
        return output.line(word);
    }
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", &key);
    object.insert("outcome".to_owned(), word.into());
    object.insert("stamp".to_owned(), made.map_or(Json::Null, |made| text::stamp(made).into()));
    output.json(&object.into())
}
