//! `kvctl metrics`, and the reading of what nodes count.

use clap::Args;
use serde_json::json;

use super::exit::Failure;
use super::output::Output;
use super::{Context, stores};

/// `kvctl metrics`
#[derive(Args, Debug)]
pub(crate) struct MetricsArgs {
    /// The node; whoever answers when left out
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Shows what one node counts.
pub(crate) async fn run(
    context: &Context<'_>,
    args: MetricsArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let client = match args.node {
        None => client,
        Some(name) => {
            let status = client.status().await?;
            let node = status.nodes.iter().find(|node| node.name == name);
            let node = node.ok_or_else(|| Failure::usage(format!("there is no node {name:?}")))?;
            let addresses = stores::addresses(context, &[node]).await?;
            let unknown = || Failure::unavailable(format!("{name}: its address is not known"));
            context.client_over([addresses.get(&name).ok_or_else(unknown)?])?
        }
    };
    let text = client.metrics().await?;
    if !output.format().is_json() {
        return output.bytes(text.as_bytes());
    }
    for sample in samples(&text) {
        let labels: serde_json::Map<_, _> =
            sample.labels().map(|(name, value)| (name.to_owned(), value.into())).collect();
        output.element(&json!({ "name": sample.name, "labels": labels, "value": sample.value }))?;
    }
    output.end_elements()
}

/// One sample of OpenMetrics text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    /// The metric, with the ending of its kind, such as `_total`.
    pub(crate) name: &'a str,
    labels: &'a str,
    /// What it counts.
    pub(crate) value: f64,
}

impl<'a> Sample<'a> {
    /// Its labels. Quoted marks in values stay as they are: Roundtable's own have none.
    pub(crate) fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.labels.split("\",");
        pairs.filter_map(|pair| {
            let (name, value) = pair.split_once("=\"")?;
            Some((name, value.trim_end_matches('"')))
        })
    }

    /// The value of a label.
    pub(crate) fn label(self, wanted: &str) -> Option<&'a str> {
        self.labels().find_map(|(name, value)| (name == wanted).then_some(value))
    }
}

/// The samples of a text; lines that are none are left out.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, labels, value) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, value) = rest.rsplit_once('}')?;
                (name, labels, value)
            }
            None => {
                let (name, value) = line.split_once(' ')?;
                (name, "", value)
            }
        };
        Some(Sample { name, labels, value: value.split_whitespace().next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_and_without_labels() {
        let text = "# TYPE kv_epoch gauge\nkv_epoch 7\n\
            kv_operations_total{op=\"get\",outcome=\"ok\"} 42\nnonsense\nkv_x{le=\"+Inf\"} 1e3 5\n# EOF\n";
        let seen: Vec<_> = samples(text).collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!((seen[0].name, seen[0].value, seen[0].label("op")), ("kv_epoch", 7.0, None));
        assert_eq!((seen[1].label("op"), seen[1].label("outcome")), (Some("get"), Some("ok")));
        assert_eq!((seen[2].label("le"), seen[2].value), (Some("+Inf"), 1000.0));
    }
}
