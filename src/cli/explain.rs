//! `kvctl explain`: what every replica of a key holds, what waits for it elsewhere, and why replicas
//! differ. One node is asked, which asks the others.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::client::{Explanation, HeldVersion, OwnCopy, OwnerCopy, SiblingVersion};
use crate::types::WallTime;

use super::args::{Format, KeyArgs};
use super::exit::Failure;
use super::output::Output;
use super::{Context, text};

/// `kvctl explain`
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// What has been learned of a key.
struct Picture<'a> {
    key: &'a Bytes,
    table: &'a str,
    known: Explanation,
}

/// Shows what is known of a key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ExplainArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let known = context.client()?.explain(key.clone()).table(context.table()).await?;
    let picture = Picture { key: &key, table: context.table(), known };
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&picture.json()),
        Format::Table => picture.show(output),
        Format::Plain => picture.lines(output),
    }?;
    for (name, why) in &picture.known.silent {
        output.note(&format!("note: {name} does not say what it keeps for others: {why}"));
    }
    Ok(())
}

impl Picture<'_> {
    fn json(&self) -> Json {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", self.key);
        let known = &self.known;
        let rest = json!({
            "table": self.table,
            "kind": known.kind,
            "class": known.class,
            "partition": known.partition,
            "epoch": known.epoch.0,
            "changed_at": known.changed_at.0,
            "asked": known.me,
            "newest": known.newest.map(text::stamp),
            "agree": known.agree,
            "summary": known.in_all,
            "owners": known.owners.iter().map(owner_json).collect::<Vec<_>>(),
            "silent": known.silent.iter()
                .map(|(node, error)| json!({ "node": node, "error": error }))
                .collect::<Vec<_>>(),
        });
        if let Json::Object(rest) = rest {
            object.extend(rest);
        }
        object.into()
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let known = &self.known;
        let key = String::from_utf8_lossy(&text::escape(self.key)).into_owned();
        output.line(&format!(
            "key {key}   table {} ({})   partition {}   epoch {}, these owners since epoch {}",
            self.table, known.kind, known.partition, known.epoch, known.changed_at
        ))?;
        let name = |owner: &OwnerCopy| owner.node.chars().count();
        let width = known.owners.iter().map(name).max().unwrap_or(0);
        for (at, owner) in known.owners.iter().enumerate() {
            let place = at + 1;
            let (node, state, held) = (&owner.node, &owner.state, holding(owner));
            output.line(&format!("{place:>3}  {node:<width$}  {state:<7}  {held}"))?;
            output.line(&format!("     {:width$}  {:7}  {}", "", "", owner.why))?;
            let siblings = match &owner.copy {
                Ok(OwnCopy::Siblings(siblings)) => siblings.as_slice(),
                _ => &[],
            };
            for sibling in siblings {
                let shown = sibling_text(sibling);
                output.line(&format!("     {:width$}  {:7}  {shown}", "", ""))?;
            }
            for (holder, version) in &owner.hints {
                let shown = version_text(version);
                output.line(&format!("     {:width$}  {:7}  hint at {holder}: {shown}", "", ""))?;
            }
        }
        output.line(&known.in_all)
    }

    fn lines(&self, output: &mut Output) -> Result<(), Failure> {
        for owner in &self.known.owners {
            let version = match &owner.copy {
                Ok(OwnCopy::Version(version)) => version.as_ref(),
                Ok(OwnCopy::Register(register)) => register.version.as_ref(),
                _ => None,
            };
            let stamp = version.map_or_else(String::new, |version| text::stamp(version.stamp));
            let bytes = version.map_or_else(String::new, |version| version.bytes.to_string());
            let (node, state, code, why) = (&owner.node, &owner.state, &owner.verdict, &owner.why);
            output.line(&format!("{node}\t{state}\t{code}\t{stamp}\t{bytes}\t{why}"))?;
        }
        Ok(())
    }
}

fn owner_json(owner: &OwnerCopy) -> Json {
    let (mut version, mut siblings, mut error) = (Json::Null, Json::Null, Json::Null);
    let mut register = Json::Null;
    match &owner.copy {
        Ok(OwnCopy::Version(held)) => version = held.as_ref().map_or(Json::Null, version_json),
        Ok(OwnCopy::Register(held)) => {
            version = held.version.as_ref().map_or(Json::Null, version_json);
            register = json!({
                "promised": text::stamp(held.promised),
                "accepted": text::stamp(held.accepted),
            });
        }
        Ok(OwnCopy::Siblings(held)) => siblings = held.iter().map(sibling_json).collect(),
        Ok(OwnCopy::Untold(why)) | Err(why) => error = why.clone().into(),
    }
    let hint = |(holder, version): &(String, HeldVersion)| {
        let mut hint = version_json(version);
        if let Json::Object(hint) = &mut hint {
            hint.insert("holder".to_owned(), holder.clone().into());
        }
        hint
    };
    json!({
        "node": owner.node,
        "state": owner.state,
        "answered": owner.copy.is_ok(),
        "error": error,
        "version": version,
        "register": register,
        "siblings": siblings,
        "durable": owner.durable,
        "hints": owner.hints.iter().map(hint).collect::<Vec<_>>(),
        "verdict": owner.verdict,
        "why": owner.why,
    })
}

fn version_json(version: &HeldVersion) -> Json {
    json!({
        "stamp": text::stamp(version.stamp),
        "bytes": version.bytes,
        "tombstone": version.tombstone,
        "expires_ms": text::expires_ms(version.expires),
    })
}

fn sibling_json(sibling: &SiblingVersion) -> Json {
    json!({
        "dot": sibling.dot,
        "stamp": text::stamp(sibling.stamp),
        "bytes": sibling.bytes,
        "expires_ms": text::expires_ms(sibling.expires),
    })
}

fn holding(owner: &OwnerCopy) -> String {
    match &owner.copy {
        Ok(OwnCopy::Version(Some(version))) => version_text(version),
        Ok(OwnCopy::Version(None)) => "nothing, not even a tombstone".to_owned(),
        Ok(OwnCopy::Register(register)) => match &register.version {
            Some(version) => {
                let ballot = text::stamp(register.accepted);
                format!("accepted under ballot {ballot}: {}", version_text(version))
            }
            None => "has accepted nothing".to_owned(),
        },
        Ok(OwnCopy::Siblings(siblings)) => match siblings.len() {
            0 => "no value".to_owned(),
            1 => "1 value".to_owned(),
            count => format!("{count} siblings"),
        },
        Ok(OwnCopy::Untold(why)) | Err(why) => why.clone(),
    }
}

fn version_text(version: &HeldVersion) -> String {
    let what =
        if version.tombstone { "deleted".to_owned() } else { format!("{} B", version.bytes) };
    let expires = expires_text(version.expires);
    let written = time_text(version.stamp.time);
    let by = if version.stamp.is_of_client() {
        "by its client's clock".to_owned()
    } else {
        format!("by node {}", version.stamp.node)
    };
    format!("{what}, written {written} {by}{expires}   {}", text::stamp(version.stamp))
}

fn sibling_text(sibling: &SiblingVersion) -> String {
    let (bytes, expires) = (sibling.bytes, expires_text(sibling.expires));
    format!("{bytes} B, written {}{expires}   {}", time_text(sibling.stamp.time), sibling.dot)
}

fn expires_text(expires: Option<WallTime>) -> String {
    expires.map_or_else(String::new, |at| format!(", expires {}", time_text(at)))
}

fn time_text(at: WallTime) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_nanos(at.0)) {
        Some(time) => humantime::format_rfc3339_millis(time).to_string(),
        None => at.0.to_string(),
    }
}
