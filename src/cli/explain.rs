//! `kvctl explain`: what every replica of a key holds, what waits for it elsewhere, and why replicas
//! differ. Every node is asked by itself, so that a picture is had also of a cluster that is split.

mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value as Json, json};
use tokio::task::JoinSet;

use crate::client::{Explanation, HeldVersion, NodeStatus, OwnCopy, SiblingVersion, Status};
use crate::types::WallTime;

use super::args::{Format, KeyArgs};
use super::exit::Failure;
use super::output::Output;
use super::stores::addresses;
use super::{Context, text};

use verdict::{Held, Replica, Verdict};

/// A node that does not answer is not waited for any longer: what it does not say is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// `kvctl explain`
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    key: KeyArgs,
}

/// What has been learned of a key.
struct Picture {
    key: Bytes,
    table: String,
    /// What one of the nodes that answered says of the key's place: the one that knows most.
    place: Explanation,
    replicas: Vec<Replica>,
    verdicts: Vec<Verdict>,
    /// Nodes that did not answer: hints they keep are not known.
    silent: Vec<(String, String)>,
}

/// Shows what is known of a key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ExplainArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let client = context.client()?;
    // The table is looked for before nodes are asked that may not have heard of it yet.
    client.locate(key.clone()).table(context.table()).await?;
    let status = client.status().await?;
    let answers = ask(context, &status, &key).await?;
    let picture = picture(&key, context.table(), &status, answers)?;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&picture.json()),
        Format::Table => picture.show(output),
        Format::Plain => picture.lines(output),
    }?;
    for (name, why) in &picture.silent {
        output.note(&format!("note: {name} does not say what it keeps for others: {why}"));
    }
    Ok(())
}

/// Asks all members at once, each by itself.
async fn ask(
    context: &Context<'_>,
    status: &Status,
    key: &Bytes,
) -> Result<BTreeMap<String, Result<Explanation, String>>, Failure> {
    let nodes: Vec<&NodeStatus> = status.nodes.iter().filter(|node| node.state != "left").collect();
    let addresses = addresses(context, &nodes).await?;
    let mut answers = BTreeMap::new();
    let mut asked = JoinSet::new();
    for node in nodes {
        let name = node.name.clone();
        let Some(address) = addresses.get(&name) else {
            answers.insert(name, Err("its address is not known".to_owned()));
            continue;
        };
        let client = context.client_over([address])?;
        let ask = client.explain(key.clone()).table(context.table());
        let ask = ask.timeout(context.timeout().min(PATIENCE));
        asked.spawn(async move { (name, ask.await.map_err(|error| error.to_string())) });
    }
    while let Some(answer) = asked.join_next().await {
        let (name, answer) =
            answer.map_err(|error| Failure::internal(format!("a question broke: {error}")))?;
        answers.insert(name, answer);
    }
    Ok(answers)
}

fn picture(
    key: &Bytes,
    table: &str,
    status: &Status,
    answers: BTreeMap<String, Result<Explanation, String>>,
) -> Result<Picture, Failure> {
    // Owners are those of the highest epoch that anybody knows.
    let known = answers.values().flatten();
    let Some(place) = known.max_by_key(|answer| answer.epoch).cloned() else {
        return Err(Failure::unavailable("no node says what it knows of the key"));
    };
    let held_for = |owner: &String| {
        let of_holder = |(holder, answer): (&String, &Result<Explanation, String>)| {
            let hints = answer.iter().flat_map(|answer| &answer.hints);
            let hints = hints.filter(|(target, _)| target == owner);
            hints.map(|(_, version)| Held { holder: holder.clone(), version: *version }).collect()
        };
        answers.iter().flat_map(|entry| -> Vec<Held> { of_holder(entry) }).collect()
    };
    let replica = |owner: &String| {
        let node = status.nodes.iter().find(|node| node.name == *owner);
        let copy = match answers.get(owner) {
            Some(Ok(answer)) => answer.copy.clone().ok_or_else(|| {
                format!("it does not know yet that it owns the key: its epoch is {}", answer.epoch)
            }),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it is no member any more".to_owned()),
        };
        Replica {
            node: owner.clone(),
            state: node.map_or_else(|| "unknown".to_owned(), |node| node.state.clone()),
            copy,
            hints: held_for(owner),
        }
    };
    let replicas: Vec<Replica> = place.owners.iter().map(replica).collect();
    let silent = answers
        .iter()
        .filter_map(|(name, answer)| Some((name.clone(), answer.as_ref().err()?.clone())));
    Ok(Picture {
        key: key.clone(),
        table: table.to_owned(),
        verdicts: verdict::judge(&replicas, place.wall),
        silent: silent.collect(),
        replicas,
        place,
    })
}

impl Picture {
    fn json(&self) -> Json {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", &self.key);
        let place = &self.place;
        let rest = json!({
            "table": self.table,
            "kind": place.kind,
            "class": place.class,
            "partition": place.partition,
            "epoch": place.epoch.0,
            "changed_at": place.changed_at.0,
            "newest": verdict::newest(&self.replicas).map(|version| text::stamp(version.stamp)),
            "agree": verdict::agree(&self.verdicts),
            "owners": self.replicas.iter().zip(&self.verdicts).map(owner_json).collect::<Vec<_>>(),
            "silent": self.silent.iter()
                .map(|(node, error)| json!({ "node": node, "error": error }))
                .collect::<Vec<_>>(),
        });
        if let Json::Object(rest) = rest {
            object.extend(rest);
        }
        object.into()
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let place = &self.place;
        let key = String::from_utf8_lossy(&text::escape(&self.key)).into_owned();
        output.line(&format!(
            "key {key}   table {} ({})   partition {}   epoch {}, these owners since epoch {}",
            self.table, place.kind, place.partition, place.epoch, place.changed_at
        ))?;
        let name = |replica: &Replica| replica.node.chars().count();
        let width = self.replicas.iter().map(name).max().unwrap_or(0);
        for (at, (replica, verdict)) in self.replicas.iter().zip(&self.verdicts).enumerate() {
            let place = at + 1;
            let (node, state, held) = (&replica.node, &replica.state, holding(replica));
            output.line(&format!("{place:>3}  {node:<width$}  {state:<7}  {held}"))?;
            output.line(&format!("     {:width$}  {:7}  {}", "", "", verdict.why))?;
            let siblings = match &replica.copy {
                Ok(OwnCopy::Siblings(siblings)) => siblings.as_slice(),
                _ => &[],
            };
            for sibling in siblings {
                let shown = sibling_text(sibling);
                output.line(&format!("     {:width$}  {:7}  {shown}", "", ""))?;
            }
            for held in &replica.hints {
                let (holder, shown) = (&held.holder, version_text(&held.version));
                output.line(&format!("     {:width$}  {:7}  hint at {holder}: {shown}", "", ""))?;
            }
        }
        output.line(verdict::in_all(&self.verdicts))
    }

    fn lines(&self, output: &mut Output) -> Result<(), Failure> {
        for (replica, verdict) in self.replicas.iter().zip(&self.verdicts) {
            let version = match &replica.copy {
                Ok(OwnCopy::Version(version)) => version.as_ref(),
                Ok(OwnCopy::Register(register)) => register.version.as_ref(),
                _ => None,
            };
            let stamp = version.map_or_else(String::new, |version| text::stamp(version.stamp));
            let bytes = version.map_or_else(String::new, |version| version.bytes.to_string());
            let (node, state, code, why) =
                (&replica.node, &replica.state, verdict.code, &verdict.why);
            output.line(&format!("{node}\t{state}\t{code}\t{stamp}\t{bytes}\t{why}"))?;
        }
        Ok(())
    }
}

fn owner_json((replica, verdict): (&Replica, &Verdict)) -> Json {
    let (mut version, mut siblings, mut error) = (Json::Null, Json::Null, Json::Null);
    let mut register = Json::Null;
    match &replica.copy {
        Ok(OwnCopy::Version(held)) => version = held.as_ref().map_or(Json::Null, version_json),
        Ok(OwnCopy::Register(held)) => {
            version = held.version.as_ref().map_or(Json::Null, version_json);
            register = json!({
                "promised": text::stamp(held.promised),
                "accepted": text::stamp(held.accepted),
            });
        }
        Ok(OwnCopy::Siblings(held)) => siblings = held.iter().map(sibling_json).collect(),
        Ok(OwnCopy::Untold(why)) => error = why.clone().into(),
        Err(why) => error = why.clone().into(),
    }
    let hint = |held: &Held| {
        let mut hint = version_json(&held.version);
        if let Json::Object(hint) = &mut hint {
            hint.insert("holder".to_owned(), held.holder.clone().into());
        }
        hint
    };
    json!({
        "node": replica.node,
        "state": replica.state,
        "answered": replica.copy.is_ok(),
        "error": error,
        "version": version,
        "register": register,
        "siblings": siblings,
        "hints": replica.hints.iter().map(hint).collect::<Vec<_>>(),
        "verdict": verdict.code,
        "why": verdict.why,
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

fn holding(replica: &Replica) -> String {
    match &replica.copy {
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
    let (written, by) = (time_text(version.stamp.time), version.stamp.node);
    format!("{what}, written {written} by node {by}{expires}   {}", text::stamp(version.stamp))
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
