//! The functions on Lambda: wiring of the engine to AWS, and the events that Lambda brings.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use jiff::Timestamp;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::deliver::Deliverer;
use crate::domain::secret::SecretRef;
use crate::intake::{Answer, Incoming, Intake, MAX_BODY};
use crate::port::{Clock as _, SecretBackend};
use crate::relay::Relay;
use crate::rim::aws;
use crate::rim::chance;
use crate::rim::clock::SystemClock;
use crate::rim::config;
use crate::rim::local::secrets::AllSecrets;
use crate::rim::metrics::EmbeddedMetrics;
use crate::rim::sender::HttpSender;
use crate::secrets::{CACHE, SecretStore};
use crate::source::Function;

/// How long the secrets that are fetched ahead, during init, may take: what is not there then comes on first use.
const AHEAD: Duration = Duration::from_secs(2);
/// How many secrets are fetched ahead: one call's worth.
const MOST_AHEAD: usize = 10;

/// An error that ends a function or fails an invocation; its words are logged by the runtime.
type Failure = lambda_runtime::Error;

/// What all functions have.
struct House {
    sdk: aws::Sdk,
    relay: Arc<Relay>,
    secrets: Arc<SecretStore>,
    meter: Arc<EmbeddedMetrics>,
}

impl House {
    async fn build(secrets: fn(&aws::Sdk) -> Arc<dyn SecretBackend>) -> Result<Self, Failure> {
        let sdk = aws::from_environment();
        let backend: Arc<dyn SecretBackend> = Arc::new(AllSecrets::new(secrets(&sdk)));
        let relay = Arc::new(config::from_environment(backend.as_ref()).await?);
        let secrets = Arc::new(SecretStore::new(backend, Arc::new(SystemClock), CACHE));
        Ok(Self { sdk, relay, secrets, meter: Arc::default() })
    }

    /// Fetches secrets during init, where the processor is free of throttling. Best effort.
    async fn fetch_ahead(&self, references: impl Iterator<Item = &SecretRef>) {
        let mut references: Vec<_> = references.cloned().collect();
        references.sort();
        references.dedup();
        references.truncate(MOST_AHEAD);
        if tokio::time::timeout(AHEAD, self.secrets.find(&references, None)).await.is_err() {
            tracing::warn!("fetching secrets ahead took too long; they come on first use");
        }
    }

    fn flush(&self, context: &Context) {
        self.meter.flush(&context.env_config.function_name, SystemClock.now());
    }
}

/// A variable that has to be set.
fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} is not set").into())
}

/// The queue's limit in bytes.
fn queue_limit() -> Result<usize, Failure> {
    match env::var("SLUICE_QUEUE_LIMIT") {
        Ok(limit) => limit.parse().map_err(|_| "SLUICE_QUEUE_LIMIT is not a number of bytes".into()),
        Err(_) => Ok(aws::sqs::DEFAULT_LIMIT),
    }
}

/// Runs a function to its end; what it returns is the process's exit status.
fn run(function: impl Future<Output = Result<(), Failure>>) -> std::process::ExitCode {
    crate::rim::logging::init_function();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(function)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function cannot start");
            std::process::ExitCode::FAILURE
        }
    }
}

/// An intake function: `git-webhook`, `registry-push` or `alert-intake`.
pub fn intake(function: Function) -> std::process::ExitCode {
    run(async move {
        let house = House::build(|sdk| Arc::new(sdk.secrets())).await?;
        let queue = house.sdk.queue(variable("SLUICE_QUEUE_URL")?, queue_limit()?);
        let own = house.relay.sources.values().filter(|entry| entry.of.function == function);
        house.fetch_ahead(own.flat_map(|entry| entry.secrets())).await;
        let intake = Intake {
            relay: house.relay.clone(),
            secrets: house.secrets.clone(),
            queue: Arc::new(queue),
            clock: Arc::new(SystemClock),
            meter: house.meter.clone(),
            function: Some(function),
        };
        let (house, intake) = (&house, &intake);
        lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
            let (payload, context) = event.into_parts();
            let answer = match read_event(payload, &context)? {
                Event::Request(incoming) => intake.answer(incoming).await,
                Event::Answered(answer) => answer,
            };
            house.flush(&context);
            Ok::<_, Failure>(response(&answer))
        }))
        .await
    })
}

/// What Lambda brought.
enum Event {
    /// A request.
    Request(Incoming),
    /// A request that is answered already: too large even to decode.
    Answered(Answer),
}

/// Reads an event of payload version 2.0 (HTTP API, Function URL, or invoked directly).
fn read_event(payload: Box<RawValue>, context: &Context) -> Result<Event, Failure> {
    let event: ApiGatewayV2httpRequest = serde_json::from_str(payload.get())
        .map_err(|error| format!("this is no event of an HTTP API (payload version 2.0): {error}"))?;
    drop(payload);
    let http = event.request_context.http;
    let body = match (event.body, event.is_base64_encoded) {
        (None, _) => Bytes::new(),
        (Some(text), false) => Bytes::from(text),
        (Some(text), true) => {
            // Judged by the text, so that what is too large is never decoded.
            if text.len() / 4 * 3 > MAX_BODY + 3 {
                return Ok(Event::Answered(Answer::body_too_large()));
            }
            let decoded = BASE64.decode(text.as_bytes());
            decoded.map(Bytes::from).map_err(|_| "the event's body is not base64, as it says")?
        }
    };
    Ok(Event::Request(Incoming {
        request_id: context.request_id.clone(),
        method: http.method,
        path: event.raw_path.or(http.path).unwrap_or_default(),
        headers: event.headers,
        body,
        address: http.source_ip.and_then(|address| address.parse().ok()),
    }))
}

fn response(answer: &Answer) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(answer.status);
    response.headers = answer.header_map();
    response.body = Some(lambda_http::Body::Text(answer.body.to_string()));
    response
}

/// The function `deliver`.
pub fn deliver() -> std::process::ExitCode {
    run(async {
        let house = House::build(|sdk| Arc::new(sdk.secrets_and_identity())).await?;
        let limit = queue_limit()?;
        let clock = Arc::new(SystemClock);
        let deliverer = Deliverer {
            relay: house.relay.clone(),
            secrets: house.secrets.clone(),
            queue: Arc::new(house.sdk.queue(variable("SLUICE_QUEUE_URL")?, limit)),
            dead_letters: Arc::new(house.sdk.queue(variable("SLUICE_DEAD_LETTER_URL")?, limit)),
            state: Arc::new(house.sdk.state(variable("SLUICE_STATE_TABLE")?, clock.clone())),
            sender: Arc::new(HttpSender::new()?),
            clock,
            meter: house.meter.clone(),
            chance: chance::number,
            timed_out: Default::default(),
        };
        house.fetch_ahead(house.relay.targets.values().flat_map(|entry| entry.secrets())).await;
        let (house, deliverer) = (&house, &deliverer);
        lambda_runtime::run(service_fn(async move |event: LambdaEvent<aws::sqs::SqsEvent>| {
            let (event, context) = event.into_parts();
            let left = time_left(&context);
            let kept = deliverer.work(event.into_received(), Instant::now() + left).await;
            house.flush(&context);
            Ok::<_, Failure>(aws::sqs::BatchResponse::new(&kept))
        }))
        .await
    })
}

/// How long the invocation may go on.
fn time_left(context: &Context) -> Duration {
    let deadline = i64::try_from(context.deadline).ok().and_then(|deadline| Timestamp::from_millisecond(deadline).ok());
    let left = deadline.map(|deadline| deadline.duration_since(SystemClock.now()));
    left.and_then(|left| left.try_into().ok()).unwrap_or_default()
}
