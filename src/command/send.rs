//! `sluice send`: signs a sample event as its sender would, and posts it.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{ActionError, Common, default_data, store};
use crate::domain::egress;
use crate::domain::signature;
use crate::port::{Clock as _, Connection, Sender as _};
use crate::rim::clock::SystemClock;
use crate::rim::local::samples;
use crate::rim::sender::HttpSender;
use crate::source::{Request, Via};
use crate::target::Outbound;

/// What to send where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The source, by its name in the relay file.
    source: String,
    /// The sample: a file, or TYPE/CASE below events/ (github/push).
    event: String,
    /// The front door's URL.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    let backend = common.backend();
    let example = default_data().join("relay.yaml");
    let relay = match &common.config {
        // What `sluice serve` made for its example.
        None if example.exists() => {
            let common = Common { config: Some(example.display().to_string()), json: common.json };
            common.relay(backend.as_ref()).await?
        }
        _ => common.relay(backend.as_ref()).await?,
    };
    let Some((name, entry)) = relay.sources.get_key_value(options.source.as_str()) else {
        let known: Vec<_> = relay.sources.keys().map(|name| name.as_str()).collect();
        return Err(ActionError::Usage(format!(
            "there is no source `{}`; there are: {}",
            options.source,
            known.join(", ")
        )));
    };
    let file = samples::find(&options.event).ok_or_else(|| {
        ActionError::Usage(format!("there is no sample `{}`, neither as a file nor below events/", options.event))
    })?;
    let sample = samples::read(&file).context("the sample cannot be read")?;
    let store = store(backend);
    let found = store.find(entry.secrets(), None).await;
    let mut request = Request {
        source: name.clone(),
        token: None,
        via: Via::Http,
        method: http::Method::POST,
        headers: sample.headers,
        body: sample.body,
        address: None,
    };
    let sign = entry.source.sign(&mut request, &found.resolved, SystemClock.now());
    sign.map_err(|why| match found.missing.first() {
        Some((_, error)) => anyhow::anyhow!("{why}: {error}"),
        None => anyhow::anyhow!(why),
    })?;
    let mut path = format!("/{name}");
    if let Some(secret) = entry.url_secret().and_then(|reference| found.resolved.current(reference)) {
        path = format!("{path}/{}", signature::url_token(secret, name.as_str()));
    }
    let url = format!("{}{path}", options.url.trim_end_matches('/'));
    let outbound = Outbound { headers: request.headers, body: request.body, ..Outbound::new(request.method, url) };
    // The address is the user's own choice.
    let everywhere = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|network| network.parse().ok()).collect();
    let connection =
        Connection { egress: egress::Rules { allow: everywhere }, plaintext: true, ..Connection::default() };
    let response = HttpSender::new()
        .send(outbound, &connection, Duration::from_secs(30))
        .await
        .with_context(|| format!("nothing was sent to {}; is `sluice serve` running there?", options.url))?;
    let body: Value = serde_json::from_slice(&response.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&response.body).into_owned().into());
    common.print(&json!({ "status": response.status, "body": body }), &format!("{}\n{body:#}", response.status));
    if (200..300).contains(&response.status) { Ok(()) } else { Err(ActionError::Problems) }
}
