//! `kvctl locate`

use clap::Args;
use serde_json::{Map, json};

use super::args::{Format, KeyArgs};
use super::exit::Failure;
use super::output::Output;
use super::{Context, text};

/// `kvctl locate`
#[derive(Args, Debug)]
pub(crate) struct LocateArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// Shows where a key lives.
pub(crate) async fn run(
    context: &Context<'_>,
    args: LocateArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let found = context.client()?.locate(key.clone()).table(context.table()).await?;
    let token = format!("{:016x}", found.token);
    if output.format().is_json() {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", &key);
        object.insert("token".to_owned(), token.into());
        object.insert("class".to_owned(), found.class.into());
        object.insert("partition".to_owned(), found.partition.into());
        object.insert("owners".to_owned(), json!(found.owners));
        object.insert("stand_ins".to_owned(), json!(found.stand_ins));
        return output.json(&object.into());
    }
    if output.format() == Format::Table {
        let shown = String::from_utf8_lossy(&text::escape(&key)).into_owned();
        let (partition, n) = (found.partition, found.owners.len());
        output.line(&format!("key {shown}   token 0x{token}   partition {partition}   N={n}"))?;
    }
    let owners = found.owners.iter().map(|name| (name, "owner"));
    let stand_ins = found.stand_ins.iter().map(|name| (name, "stand-in"));
    for (place, (name, role)) in owners.chain(stand_ins).enumerate() {
        let place = place + 1;
        match output.format() {
            Format::Table => output.line(&format!("{place:>3}  {name:<32}  {role}"))?,
            _ => output.line(&format!("{place}\t{name}\t{role}"))?,
        }
    }
    Ok(())
}
