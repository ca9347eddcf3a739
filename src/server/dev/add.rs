//! `kvd dev --add`: one more node, that joins the running cluster of a directory. It runs by itself;
//! `kvd dev --stop` and the end of `kvd dev` stop it with the others.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};

use super::{Added, DevNode, POLL, READY_TIMEOUT, SHAPE_FILE, Shape, Wish, http_get, last_words};
use crate::types::{NodeName, Zone};

/// Starts node `name` of the cluster in `dir`, and returns when it is a member that serves. One that
/// was added before is started again.
///
/// # Errors
/// There is no running cluster, the name is taken, or the node did not come to serve.
pub async fn add(dir: &Path, name: &str, zone: &str, set: &[String]) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(dir)?;
    if !dir.join(SHAPE_FILE).exists() {
        bail!("{} holds no cluster of `kvd dev`", dir.display());
    }
    name.parse::<NodeName>().map_err(anyhow::Error::msg)?;
    Zone::try_from(zone.to_owned()).map_err(anyhow::Error::msg)?;
    let mut shape = Shape::resolve(&Wish::default(), &dir)?;
    let before = shape.nodes(&dir);
    let known = before.iter().position(|node| node.name == name);
    match known {
        Some(at) if at < usize::from(shape.nodes) => bail!("{name} is a founder of this cluster"),
        Some(_) if before.iter().any(|node| node.name == name && node.running().is_some()) => {
            bail!("{name} is running already");
        }
        Some(_) => {}
        None => {
            let (name, zone) = (name.to_owned(), zone.to_owned());
            shape.added.push(Added { name, zone });
            shape.check().map_err(anyhow::Error::msg)?;
            // Before it is started: a second try finds the same ports.
            std::fs::write(dir.join(SHAPE_FILE), toml::to_string(&shape)?)?;
        }
    }
    if !before.iter().any(|node| node.name != name && node.running().is_some()) {
        bail!("no node of {} is running: start the cluster first", dir.display());
    }
    let nodes = shape.nodes(&dir);
    let found = (0..).zip(&nodes).find(|(_, node)| node.name == name);
    let (index, node) = found.context("a node that was just added")?;
    let wish = Wish { set: set.to_vec(), ..Wish::default() };
    let mut child = super::spawn(&shape, index, node, &wish, true)?;
    ready(node, &mut child).await?;
    let mut out = std::io::stdout();
    writeln!(out, "joined: {}", node.client)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn ready(node: &DevNode, child: &mut tokio::process::Child) -> anyhow::Result<()> {
    let poll = async {
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("{} has ended ({status}):\n{}", node.name, last_words(node));
            }
            if let Ok((200, _)) = http_get(&node.http, "/readyz").await {
                return Ok(());
            }
            sleep(POLL).await;
        }
    };
    match timeout(READY_TIMEOUT, poll).await {
        Ok(result) => result,
        Err(_) => bail!("{} does not serve after {READY_TIMEOUT:?}", node.name),
    }
}
