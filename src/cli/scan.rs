//! `kvctl scan`

use std::pin::pin;

use clap::Args;
use serde_json::Map;
use tokio_stream::StreamExt;

use crate::types::{Quorum, limits};

use super::args::quorum;
use super::exit::Failure;
use super::output::Output;
use super::{Context, text};

/// `kvctl scan`
#[derive(Args, Debug)]
pub(crate) struct ScanArgs {
    /// Only keys that begin with this
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Only keys at or above this
    #[arg(long, value_name = "K")]
    from: Option<String>,
    /// Only keys below this
    #[arg(long, value_name = "K")]
    to: Option<String>,
    /// At most this many keys
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    /// Keys a request, 1..1000
    #[arg(
        long, value_name = "N", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SCAN_PAGE_ENTRIES_MAX))
    )]
    page_size: u32,
    /// Replicas that must answer: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    /// From the highest key down
    #[arg(long)]
    reverse: bool,
}

/// Lists keys.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ScanArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut scan = context.client()?.scan().table(context.table()).page_size(args.page_size);
    if let Some(prefix) = args.prefix {
        scan = scan.prefix(prefix);
    }
    if let Some(from) = args.from {
        scan = scan.from(from);
    }
    if let Some(to) = args.to {
        scan = scan.to(to);
    }
    if let Some(limit) = args.limit {
        scan = scan.limit(limit);
    }
    if args.keys_only {
        scan = scan.keys_only();
    }
    if args.reverse {
        scan = scan.reverse();
    }
    if let Some(r) = args.r {
        scan = scan.r(r);
    }
    let mut left_out = 0u64;
    let mut pages = pin!(scan.pages());
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            left_out += u64::from(entry.value_left_out);
            context.saw(&entry.key);
            if output.format().is_json() {
                let mut object = Map::new();
                text::put_bytes(&mut object, "key", &entry.key);
                if !args.keys_only && !entry.value_left_out {
                    text::put_bytes(&mut object, "value", &entry.value);
                }
                if entry.siblings > 1 || entry.value_left_out {
                    object.insert("siblings".to_owned(), entry.siblings.into());
                }
                object.insert("stamp".to_owned(), text::stamp(entry.stamp).into());
                object.insert("expires_ms".to_owned(), text::expires_ms(entry.expires));
                output.element(&object.into())?;
            } else {
                output.bytes(&text::escape(&entry.key))?;
                if !args.keys_only {
                    output.bytes(b"\t")?;
                    output.bytes(&text::escape(&entry.value))?;
                }
                output.bytes(b"\n")?;
            }
        }
    }
    if left_out > 0 {
        output.note(&format!(
            "note: {left_out} keys are shown without a value: they have several siblings, or large \
             ones; `kvctl get --siblings` shows them"
        ));
    }
    output.end_elements()
}
