//! `sluice agent`: deliveries inside a network that nothing outside can reach. It asks for its work and needs no way
//! in, but for whoever looks after its health.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use tokio::sync::watch;

use super::serve::interrupted;
use super::{ActionError, Common};
use crate::deliver::Deliverer;
use crate::domain::name::Name;
use crate::rim::aws;
use crate::rim::aws::signing::SigningSender;
use crate::rim::chance;
use crate::rim::clock::SystemClock;
use crate::rim::consumer::{Consumer, Pulse};
use crate::rim::local::server;
use crate::rim::metrics::PrometheusMetrics;
use crate::secrets::{CACHE, SecretStore};

/// Which agent this is.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The agent's name, as targets have it under `agent`.
    #[arg(long, value_parser = Name::parse)]
    name: Name,
    /// The address for /livez, /healthz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8081", value_name = "ADDR")]
    listen: String,
    /// The agent's SQS FIFO queue.
    #[arg(long, env = "SLUICE_QUEUE_URL", value_name = "URL")]
    queue_url: String,
    /// The agent's dead-letter queue.
    #[arg(long, env = "SLUICE_DEAD_LETTER_URL", value_name = "URL")]
    dead_letter_url: String,
    /// The DynamoDB table.
    #[arg(long, env = "SLUICE_STATE_TABLE", value_name = "NAME")]
    state_table: String,
    /// What the queues take, in bytes.
    #[arg(long, env = "SLUICE_QUEUE_LIMIT", default_value_t = aws::sqs::DEFAULT_LIMIT, value_name = "BYTES")]
    queue_limit: usize,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    let backend = common.backend();
    let relay = Arc::new(common.relay(backend.as_ref()).await?);
    if !relay.has_agent(&options.name) {
        return Err(ActionError::Usage(format!("no target of the relay file has `agent: {}`", options.name)));
    }
    let sdk = aws::from_default_chain().await;
    let clock = Arc::new(SystemClock);
    let meter = Arc::new(PrometheusMetrics::default());
    let queue = Arc::new(sdk.queue(options.queue_url, options.queue_limit));
    let deliverer = Arc::new(Deliverer {
        relay,
        secrets: Arc::new(SecretStore::new(backend, clock.clone(), CACHE)),
        queue: queue.clone(),
        dead_letters: Arc::new(sdk.queue(options.dead_letter_url, options.queue_limit)),
        state: Arc::new(sdk.state(options.state_table, clock.clone())),
        sender: Arc::new(SigningSender::new(std::future::ready(sdk))),
        clock,
        meter: meter.clone(),
        chance: chance::number,
        memory: Default::default(),
    });
    let listener = server::listen(&options.listen).await.map_err(anyhow::Error::from)?;
    let address = listener.local_addr().context("the address that is listened on")?;
    println!("sluice agent {} is at work; http://{address}/healthz and /metrics tell how it is", options.name);
    let (stop, stopping) = watch::channel(false);
    let (pulse, felt) = watch::channel(Pulse::begin());
    let handle = move |request: Request<Bytes>, _: SocketAddr| {
        let (pulse, metrics) = (*felt.borrow(), meter.clone());
        async move { look(&request, pulse, &metrics) }
    };
    let health = tokio::spawn(server::serve(listener, handle, stopping.clone()));
    let consumer = Consumer { queue, deliverer, may_give_up: false, pulse };
    let work = tokio::spawn(consumer.run(stopping));
    interrupted().await.context("signals")?;
    tracing::info!("stopping: what is under way ends");
    let _ = stop.send(true);
    work.await.context("the consumer")?;
    health.await.context("the health port")?;
    Ok(())
}

fn look(request: &Request<Bytes>, pulse: Pulse, metrics: &PrometheusMetrics) -> Response<Full<Bytes>> {
    match request.uri().path() {
        // A process that is ended because the queue is out of reach comes back no better, and has forgotten its secrets.
        "/livez" if pulse.is_alive() => server::plain(200, "ok\n"),
        "/livez" => server::plain(503, "no messages are asked for any more\n"),
        "/healthz" if pulse.is_well() => server::plain(200, "ok\n"),
        "/healthz" => server::plain(503, "the queue has not answered for a minute\n"),
        "/metrics" => {
            let mut response = Response::new(Full::from(metrics.text()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        _ => server::plain(404, "there are /livez, /healthz and /metrics\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_whose_queue_is_silent_is_not_ready_and_is_left_alive() {
        let (pulse, metrics) = (Pulse::begin(), PrometheusMetrics::default());
        let status = |path: &str| {
            let request = Request::get(path).body(Bytes::new()).expect("a request");
            look(&request, pulse, &metrics).status().as_u16()
        };
        assert_eq!(["/livez", "/healthz"].map(status), [200, 200]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(["/livez", "/healthz"].map(status), [200, 503]);
        // Nothing has even been asked for.
        tokio::time::advance(Duration::from_secs(240)).await;
        assert_eq!(["/livez", "/healthz", "/"].map(status), [503, 503, 404]);
    }
}
