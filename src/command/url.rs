//! `sluice url`: where each source's sender has to send to.

use anyhow::Context as _;
use serde_json::json;

use super::{ActionError, Common, store};
use crate::domain::signature;
use crate::relay::SourceEntry;

/// For which sources.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The source; all if left out.
    source: Option<String>,
    /// What precedes the source's name: the front door's URL.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    base: String,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    let backend = common.backend();
    let relay = common.relay(backend.as_ref()).await?;
    let store = store(backend);
    if let Some(name) = &options.source
        && !relay.sources.contains_key(name.as_str())
    {
        return Err(ActionError::Usage(format!("the relay file has no source `{name}`")));
    }
    let chosen =
        relay.sources.iter().filter(|(name, _)| options.source.as_deref().is_none_or(|one| one == name.as_str()));
    let base = options.base.trim_end_matches('/');
    let mut rows = Vec::new();
    for (name, entry) in chosen {
        let url = match token(entry, name.as_str(), &store).await? {
            Some(token) => format!("{base}/{name}/{token}"),
            None => format!("{base}/{name}"),
        };
        rows.push((name, entry.of.name, url));
    }
    let json: Vec<_> = rows.iter().map(|(name, of, url)| json!({ "source": name, "type": of, "url": url })).collect();
    let text: Vec<_> = rows.iter().map(|(name, of, url)| format!("{name} ({of})\t{url}")).collect();
    common.print(&json!(json), &text.join("\n"));
    Ok(())
}

/// The URL token, for senders that cannot sign.
async fn token(
    entry: &SourceEntry,
    name: &str,
    store: &crate::secrets::SecretStore,
) -> Result<Option<String>, ActionError> {
    let Some(reference) = entry.url_secret() else { return Ok(None) };
    let found = store.find(std::slice::from_ref(reference), None).await;
    if let Some((_, error)) = found.missing.first() {
        return Err(anyhow::anyhow!("{error}").context(format!("the secret {reference} of source `{name}`")).into());
    }
    let secret = found.resolved.current(reference).filter(|secret| !secret.is_empty());
    let secret = secret.with_context(|| format!("the secret {reference} of source `{name}` is empty"))?;
    Ok(Some(signature::url_token(secret, name)))
}
