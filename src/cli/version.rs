//! `kvctl version`

use clap::Args;
use serde_json::json;

use super::Context;
use super::exit::Failure;
use super::output::Output;

/// `kvctl version`
#[derive(Args, Debug)]
pub(crate) struct VersionArgs {
    /// Ask a node for its version as well
    #[arg(long)]
    server: bool,
}

/// Shows versions.
pub(crate) async fn run(
    context: &Context<'_>,
    args: &VersionArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let mine = env!("CARGO_PKG_VERSION");
    let server = if args.server { Some(context.client()?.version().await?) } else { None };
    if output.format().is_json() {
        let server = server.map(|server| {
            json!({
                "version": server.version,
                "protocol_min": server.protocol_min,
                "protocol_max": server.protocol_max,
                "feature_level": server.feature_level,
            })
        });
        return output.json(&json!({ "client": { "version": mine }, "server": server }));
    }
    output.line(&format!("kvctl {mine}"))?;
    if let Some(server) = server {
        let (min, max) = (server.protocol_min, server.protocol_max);
        let version = server.version;
        let level = server.feature_level;
        output.line(&format!("kvd {version} (protocol {min}..{max}, features {level})"))?;
    }
    Ok(())
}
