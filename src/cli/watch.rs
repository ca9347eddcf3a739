//! `kvctl watch`: changes of a table, as they are applied.

use core::time::Duration;
use std::pin::pin;

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value as Json, json};
use tokio_stream::StreamExt;

use crate::client::{KeyChange, WatchBatch, WatchEvent};

use super::exit::Failure;
use super::output::Output;
use super::{Context, text};

/// `kvctl watch`
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// Only keys that begin with this
    #[arg(long, value_name = "P")]
    prefix: Option<String>,
    /// Go on behind what another watch has told, instead of from now on
    #[arg(long, value_name = "T", value_parser = token)]
    from_token: Option<Bytes>,
    /// With the values that the keys hold then, if they are not above 64 KiB
    #[arg(long)]
    values: bool,
    /// With JSON: tell after each message where it stands
    #[arg(long)]
    tokens: bool,
    /// End after this many changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// End after this time, e.g. 10s
    #[arg(long = "for", value_name = "D", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

fn token(text: &str) -> Result<Bytes, String> {
    text::from_base64("the token", text).map(Bytes::from)
}

/// Shows changes until it is interrupted, or as many or as long as was asked.
pub(crate) async fn run(
    context: &Context<'_>,
    args: WatchArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut watch = context.client()?.watch().table(context.table());
    if let Some(prefix) = args.prefix {
        watch = watch.prefix(prefix);
    }
    if args.values {
        watch = watch.values();
    }
    let mut token = args.from_token.unwrap_or_default();
    watch = watch.from_token(token.clone());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let time = args.time;
    let ended = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => core::future::pending().await,
        }
    };
    let (mut ended, mut batches) = (pin!(ended), pin!(watch.batches()));
    while left > 0 {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            () = &mut ended => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(batch) = batch else { break };
        let WatchBatch { events, token: behind, .. } = batch?;
        let told = events.len();
        let mut shown = 0;
        for event in events {
            if left == 0 {
                break;
            }
            left -= u64::from(matches!(event, WatchEvent::Change(_)));
            show(&event, args.values, output)?;
            shown += 1;
        }
        // Of a message that was cut short the rest is told again.
        if shown == told {
            token = behind;
        }
        if shown > 0 {
            if args.tokens && output.format().is_json() {
                output.element(&as_token(&token))?;
            }
            output.finish()?;
        }
    }
    if output.format().is_json() {
        output.element(&as_token(&token))?;
    } else if !token.is_empty() {
        output.note(&format!("go on with --from-token {}", text::to_base64(&token)));
    }
    output.end_elements()
}

fn as_token(token: &[u8]) -> Json {
    json!({ "event": "token", "token": text::to_base64(token) })
}

fn show(event: &WatchEvent, values: bool, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        return output.element(&as_json(event));
    }
    match event {
        WatchEvent::Began => output.line("began"),
        WatchEvent::Whole => output.line("whole"),
        WatchEvent::Gap(gap) => output.line(&format!("gap\t{}\t{}", gap.reason, gap.count)),
        WatchEvent::Change(change) => {
            output.bytes(if change.deleted { b"del\t" } else { b"put\t" })?;
            output.bytes(&text::escape(&change.key))?;
            output.bytes(b"\t")?;
            output.bytes(text::stamp(change.stamp).as_bytes())?;
            if values {
                output.bytes(b"\t")?;
                output.bytes(&text::escape(change.value.as_deref().unwrap_or_default()))?;
            }
            output.bytes(b"\n")
        }
    }
}

fn as_json(event: &WatchEvent) -> Json {
    match event {
        WatchEvent::Began => json!({ "event": "began" }),
        WatchEvent::Whole => json!({ "event": "whole" }),
        WatchEvent::Gap(gap) => json!({
            "event": "gap",
            "reason": gap.reason,
            "partitions": gap.partitions,
            "count": gap.count,
        }),
        WatchEvent::Change(change) => change_json(change),
    }
}

fn change_json(change: &KeyChange) -> Json {
    let mut object = Map::new();
    object.insert("event".to_owned(), if change.deleted { "del" } else { "put" }.into());
    text::put_bytes(&mut object, "key", &change.key);
    object.insert("stamp".to_owned(), text::stamp(change.stamp).into());
    object.insert("expires_ms".to_owned(), text::expires_ms(change.expires));
    if change.siblings > 1 {
        object.insert("siblings".to_owned(), change.siblings.into());
    }
    if let Some(value) = &change.value {
        text::put_bytes(&mut object, "value", value);
    }
    if change.value_left_out {
        object.insert("value_left_out".to_owned(), true.into());
    }
    object.into()
}
