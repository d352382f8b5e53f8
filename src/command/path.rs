//! `sluice path`: where a Flux Receiver listens.

use anyhow::Context as _;
use serde_json::json;

use super::{ActionError, Common, store};
use crate::domain::secret::Secret;
use crate::target::flux::hook_path;

/// Of which Receiver.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The `flux` target; all of them if left out.
    target: Option<String>,
    /// Instead of a target: the Receiver's name (with --namespace, and --token-file or --oidc).
    #[arg(long, requires_all = ["namespace", "token"], conflicts_with = "target")]
    name: Option<String>,
    /// The Receiver's namespace.
    #[arg(long, requires = "name")]
    namespace: Option<String>,
    /// A file that holds the Receiver's token, byte for byte; - is standard input.
    #[arg(long, requires = "name", value_name = "PATH", group = "token")]
    token_file: Option<String>,
    /// The Receiver is of type generic-oidc, which has no token.
    #[arg(long, requires = "name", group = "token")]
    oidc: bool,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    if let (Some(name), Some(namespace)) = (&options.name, &options.namespace) {
        let token = match &options.token_file {
            Some(file) => read(file).with_context(|| file.clone())?,
            None => Secret::new(""),
        };
        if token.ends_in_white_space() {
            eprintln!("sluice: warning: the token ends in white space, which counts; is the cluster's the same?");
        }
        let path = hook_path(&token, name, namespace);
        common.print(&json!({ "path": path }), &path);
        return Ok(());
    }
    let backend = common.backend();
    let relay = common.relay(backend.as_ref()).await?;
    let store = store(backend);
    let mut rows = Vec::new();
    for (name, entry) in &relay.targets {
        if options.target.as_deref().is_some_and(|one| one != name.as_str()) {
            continue;
        }
        let Some(flux) = entry.target.as_flux() else { continue };
        let token: Vec<_> = flux.token().cloned().into_iter().collect();
        let found = store.find(&token, None).await;
        let path = flux.path(&found.resolved).map_err(|error| {
            let why = found.missing.first().map_or_else(String::new, |(_, why)| format!(" ({why})"));
            anyhow::anyhow!("target `{name}`: {error}{why}")
        })?;
        rows.push((name, (flux.url.join(&path), path)));
    }
    if let (Some(name), true) = (&options.target, rows.is_empty()) {
        return Err(ActionError::Usage(format!("the relay file has no target `{name}` of type flux")));
    }
    let json: Vec<_> =
        rows.iter().map(|(name, (url, path))| json!({ "target": name, "path": path, "url": url })).collect();
    let text: Vec<_> = rows.iter().map(|(name, (_, path))| format!("{name}\t{path}")).collect();
    common.print(&json!(json), &text.join("\n"));
    Ok(())
}

fn read(file: &str) -> std::io::Result<Secret> {
    let mut token = Vec::new();
    match file {
        "-" => std::io::Read::read_to_end(&mut std::io::stdin(), &mut token).map(drop)?,
        path => token = std::fs::read(path)?,
    }
    Ok(Secret::new(token))
}
