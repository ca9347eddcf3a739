//! `kvctl resolve`: shows the siblings of a key of a causal table, and settles on one value.

use clap::Args;
use serde_json::{Map, Value as Json};

use crate::client::{Context as Seen, Siblings};
use crate::types::Quorum;

use super::args::{KeyArgs, quorum};
use super::exit::Failure;
use super::item::ValueSource;
use super::output::Output;
use super::put::wrote;
use super::{Context, text};

/// `kvctl resolve`
#[derive(Args, Debug)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Keep the sibling with this number, as shown; 0 is the oldest
    #[arg(long, value_name = "N", conflicts_with_all = ["value", "value_b64", "delete"])]
    pick: Option<usize>,
    /// Write this value in the place of all siblings
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true,
        conflicts_with_all = ["value_b64", "delete"])]
    value: Option<String>,
    /// The same, in base64
    #[arg(long, value_name = "B64", conflicts_with = "delete")]
    value_b64: Option<String>,
    /// Delete all siblings
    #[arg(long)]
    delete: bool,
    /// Replicas that must answer the read: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    /// Replicas that must acknowledge: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
}

/// Shows siblings, or settles on one value.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ResolveArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let client = context.client()?;
    let mut get = client.get(key.clone()).table(context.table());
    if let Some(r) = args.r {
        get = get.r(r);
    }
    let found = get.siblings().await?;
    if found.values.is_empty() {
        return Err(Failure::key_not_found());
    }
    let value = match (args.pick, args.value, args.value_b64) {
        (Some(number), ..) => {
            let count = found.values.len();
            let chosen = found.values.get(number).ok_or_else(|| {
                Failure::usage(format!("--pick is {number}; the key has siblings 0..{count}"))
            })?;
            Some(chosen.value.clone())
        }
        (None, Some(literal), _) => Some(ValueSource::Literal(literal).read()?),
        (None, None, Some(b64)) => Some(ValueSource::Base64(b64).read()?),
        (None, None, None) if args.delete => None,
        (None, None, None) => return show_and_ask(&key, &found, output),
    };
    let written = match value {
        Some(value) => {
            let mut put = client.put(key.clone(), value).table(context.table());
            put = put.context(&found.context);
            if let Some(w) = args.w {
                put = put.w(w);
            }
            put.returning_context().await?
        }
        None => {
            let mut delete = client.delete(key.clone()).table(context.table());
            delete = delete.context(&found.context);
            if let Some(w) = args.w {
                delete = delete.w(w);
            }
            delete.returning_context().await?
        }
    };
    wrote(&key, &written, output)
}

/// Without a choice: what there is to choose from. A conflict, unless there is none.
fn show_and_ask(key: &[u8], found: &Siblings, output: &mut Output) -> Result<(), Failure> {
    show(key, found, output)?;
    if found.count > 1 {
        return Err(Failure::siblings(found.count, "choose with --pick, --value or --delete"));
    }
    Ok(())
}

/// Shows all siblings: numbered for people, as one document for scripts.
pub(crate) fn show(key: &[u8], found: &Siblings, output: &mut Output) -> Result<(), Failure> {
    let left_out = usize::try_from(found.count).unwrap_or(0).saturating_sub(found.values.len());
    if left_out > 0 {
        output.note(&format!(
            "note: {left_out} more siblings do not fit this answer; resolve these, then read again"
        ));
    }
    if !output.format().is_json() {
        for (number, sibling) in found.values.iter().enumerate() {
            output.bytes(format!("{number}\t{}\t", text::stamp(sibling.stamp)).as_bytes())?;
            output.bytes(&text::escape(&sibling.value))?;
            output.bytes(b"\n")?;
        }
        return Ok(());
    }
    let one = |sibling: &crate::client::Sibling| {
        let mut object = Map::new();
        text::put_bytes(&mut object, "value", &sibling.value);
        object.insert("stamp".to_owned(), text::stamp(sibling.stamp).into());
        object.insert("expires_ms".to_owned(), text::expires_ms(sibling.expires));
        if sibling.is_counter {
            object.insert("counter".to_owned(), true.into());
        }
        Json::from(object)
    };
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", key);
    let siblings: Vec<Json> = found.values.iter().map(one).collect();
    object.insert("siblings".to_owned(), siblings.into());
    object.insert("count".to_owned(), found.count.into());
    object.insert("context".to_owned(), context_json(&found.context));
    object.insert("receipt".to_owned(), text::receipt(&found.receipt));
    output.json(&object.into())
}

/// A context for scripts: base64, or null in tables of other kinds.
pub(crate) fn context_json(context: &Seen) -> Json {
    if context.is_empty() { Json::Null } else { text::to_base64(context.as_bytes()).into() }
}

/// A context as a script gives it back.
pub(crate) fn context_from(text: Option<String>) -> Result<Option<Seen>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let bytes = text::from_base64("the context", &text).map_err(Failure::usage)?;
    if bytes.is_empty() {
        return Err(Failure::usage("the context is empty"));
    }
    Ok(Some(Seen::from(bytes::Bytes::from(bytes))))
}
