//! The functions on Lambda: wiring of the engine to AWS, and the events that Lambda brings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use jiff::Timestamp;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::deliver::Deliverer;
use crate::domain::name::Name;
use crate::domain::secret::SecretRef;
use crate::intake::{Answer, Incoming, Intake, Invoked, MAX_BODY};
use crate::overdue::{Late, Overdue};
use crate::port::{Clock as _, Outbox, Queue, Received, SecretBackend, State};
use crate::probe::Probe;
use crate::relay::Relay;
use crate::relay::extent::{self, Extent, Whole};
use crate::relay::format::Span;
use crate::rim::aws;
use crate::rim::aws::signing::SigningSender;
use crate::rim::chance;
use crate::rim::clock::SystemClock;
use crate::rim::config::{self, ConfigError};
use crate::rim::local::secrets::AllSecrets;
use crate::rim::metrics::EmbeddedMetrics;
use crate::rim::published::Published;
use crate::rim::sender::HttpSender;
use crate::rim::subscriptions::SnsSubscriptions;
use crate::secrets::{CACHE, SecretStore};
use crate::source::{Invocation, SNS};

/// How long the secrets that are fetched ahead, during init, may take: what is not there then comes on first use.
const AHEAD: Duration = Duration::from_secs(2);
/// How many secrets are fetched ahead: one call's worth.
const MOST_AHEAD: usize = 10;
/// For how long init asks for a relay file that cannot be had at the moment: what else there is to do fits into the ten
/// seconds that Lambda gives init, too.
const INIT_PATIENCE: Duration = Duration::from_secs(6);
/// For how long an invocation asks for it then. After such an init, its sender does not wait much longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The wait before it is asked for the second time, and at most; about.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// For how long messages that could not even be read are hidden, at first and at most: as each time counts among the
/// thousand after which the queue gives a message up by itself, the wait doubles.
const FIRST_HOLD: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// An error that ends a function or fails an invocation; its words are logged by the runtime.
pub type Failure = lambda_runtime::Error;

/// What all functions have.
struct House {
    sdk: aws::Sdk,
    relay: Arc<Relay>,
    secrets: Arc<SecretStore>,
    meter: Arc<EmbeddedMetrics>,
}

impl House {
    /// `backend` finds secrets: with no more in it than the function needs, or all carry everything.
    async fn build<E: Extent>(sdk: &aws::Sdk, backend: &Arc<dyn SecretBackend>) -> Result<Self, Failure> {
        let relay = Arc::new(config::from_environment::<E>(backend.as_ref()).await?);
        let secrets = Arc::new(SecretStore::new(backend.clone(), Arc::new(SystemClock), CACHE));
        Ok(Self { sdk: sdk.clone(), relay, secrets, meter: Arc::default() })
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

/// What a function works with. It is made during init; where the relay file cannot be had then, the function starts
/// nevertheless, and each invocation tries again: whoever waits for an answer gets one.
struct Lazy<T, F> {
    made: OnceCell<T>,
    make: F,
}

impl<T, F: AsyncFn() -> Result<T, Failure>> Lazy<T, F> {
    /// An error is one that time does not mend.
    async fn begin(make: F) -> Result<Self, Failure> {
        let lazy = Self { made: OnceCell::new(), make };
        match lazy.within(INIT_PATIENCE).await {
            Err(error) if is_passing(&error) => tracing::error!(%error, "every invocation tries again"),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(lazy)
    }

    async fn get(&self) -> Result<&T, Failure> {
        self.within(PATIENCE).await
    }

    async fn within(&self, patience: Duration) -> Result<&T, Failure> {
        self.made.get_or_try_init(|| self.make_within(patience)).await
    }

    async fn make_within(&self, patience: Duration) -> Result<T, Failure> {
        let (end, mut wait) = (Instant::now() + patience, FIRST_WAIT);
        loop {
            let late = |_| Err(ConfigError::Unavailable("no answer in time".into()).into());
            let made = tokio::time::timeout_at(end, (self.make)()).await.unwrap_or_else(late);
            let again = Instant::now() + wait.mul_f64(0.5 + chance::number());
            match made {
                Err(error) if is_passing(&error) && again < end => tokio::time::sleep_until(again).await,
                made => return made,
            }
            wait = (2 * wait).min(LONGEST_WAIT);
        }
    }
}

/// Whether another time it may work.
fn is_passing(error: &Failure) -> bool {
    matches!(error.downcast_ref(), Some(ConfigError::Unavailable(_)))
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

/// The function `git-webhook`.
pub fn git_webhook() -> std::process::ExitCode {
    run(intake::<extent::GitWebhook>(|_| None))
}

/// The function `registry-push`.
pub fn registry_push() -> std::process::ExitCode {
    run(intake::<extent::RegistryPush>(|_| None))
}

/// The function `alert-intake`.
pub fn alert_intake() -> std::process::ExitCode {
    run(intake::<extent::AlertIntake>(|sdk| {
        let table = variable("SLUICE_STATE_TABLE").ok()?;
        Some(Arc::new(sdk.state(table, Arc::new(SystemClock))))
    }))
}

/// An intake function. `state` makes what notes open alerts, for the one that has any: it is in no other binary.
async fn intake<E: Extent>(state: fn(&aws::Sdk) -> Option<Arc<dyn State>>) -> Result<(), Failure> {
    let sdk = aws::from_environment();
    let secrets = AllSecrets::new(Arc::new(sdk.secrets())).with_published(Published::new());
    let backend: Arc<dyn SecretBackend> = Arc::new(secrets);
    let lazy = Lazy::begin(async || {
        let house = House::build::<E>(&sdk, &backend).await?;
        let intake = Intake {
            relay: house.relay.clone(),
            secrets: house.secrets.clone(),
            queue: Arc::new(house.sdk.queue(variable("SLUICE_QUEUE_URL")?, queue_limit()?)),
            agents: agents(&house)?,
            state: state(&house.sdk),
            clock: Arc::new(SystemClock),
            meter: house.meter.clone(),
            subscriptions: Arc::new(SnsSubscriptions::new(house.sdk.endpoint("SNS"))),
            function: E::FUNCTION,
        };
        Ok((house, intake))
    })
    .await?;
    if let Some((house, _)) = lazy.made.get() {
        let own = house.relay.sources.values().filter(|entry| E::FUNCTION == Some(entry.function()));
        house.fetch_ahead(own.flat_map(|entry| entry.secrets())).await;
    }
    let lazy = &lazy;
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        let (payload, context) = event.into_parts();
        let event = read_event(payload, &context.request_id)?;
        let (house, intake) = match lazy.get().await {
            Ok(made) => made,
            Err(error) => return without_relay_file(&event, error),
        };
        let reply = match event {
            Event::Request(incoming) => Ok(Reply::Http(Box::new(response(&intake.answer(incoming).await)))),
            Event::Answered(answer) => Ok(Reply::Http(Box::new(response(&answer)))),
            Event::Invoked(events) => take(intake, events).await,
        };
        house.flush(&context);
        reply
    }))
    .await
}

/// What becomes of an invocation while the relay file cannot be had: who sends a request is told to come again, and who
/// invokes the function by an event sees it fail.
fn without_relay_file(event: &Event, error: Failure) -> Result<Reply, Failure> {
    match event {
        Event::Request(_) | Event::Answered(_) if is_passing(&error) => {
            tracing::error!(%error, "a request is answered 503");
            Ok(Reply::Http(Box::new(response(&Answer::without_relay_file()))))
        }
        _ => Err(error),
    }
}

/// The queues of agents. Every agent that a target names has to have one.
fn agents(house: &House) -> Result<BTreeMap<Name, Arc<dyn Outbox>>, Failure> {
    let urls = aws::sqs::agent_queues(&env::var("SLUICE_AGENT_QUEUES").unwrap_or_default())?;
    let mut named = house.relay.targets.iter().filter_map(|(target, entry)| Some((target, entry.keys.agent.as_ref()?)));
    if let Some((target, agent)) = named.find(|(_, agent)| !urls.contains_key(*agent)) {
        return Err(
            format!("target `{target}` has `agent: {agent}`, for which SLUICE_AGENT_QUEUES has no queue").into()
        );
    }
    let limit = queue_limit()?;
    Ok(urls.into_iter().map(|(agent, url)| (agent, Arc::new(house.sdk.queue(url, limit)) as Arc<dyn Outbox>)).collect())
}

/// Takes events without HTTP, all of them even if one fails: what is taken already is not relayed twice.
async fn take(intake: &Intake, events: Vec<Invoked>) -> Result<Reply, Failure> {
    let (mut answers, mut failed) = (Vec::new(), Vec::new());
    for event in events {
        match intake.take(event).await {
            Ok(answer) => answers.push(answer.body),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if failed.is_empty() { Ok(Reply::Taken(answers)) } else { Err(failed.join("; ").into()) }
}

/// What an invocation returns.
#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    /// To a request.
    Http(Box<ApiGatewayV2httpResponse>),
    /// To events without HTTP: an answer for each. Nobody reads it but who invokes the function by hand.
    Taken(Vec<Value>),
}

/// What Lambda brought.
pub enum Event {
    /// A request.
    Request(Incoming),
    /// A request that is answered already: too large even to decode.
    Answered(Answer),
    /// Events without HTTP.
    Invoked(Vec<Invoked>),
}

/// Reads an event of payload version 2.0 (HTTP API, Function URL, or invoked directly), of EventBridge or of SNS.
///
/// # Errors
/// Where it is none of them, or its body is not base64 though it says so.
pub fn read_event(payload: Box<RawValue>, request_id: &str) -> Result<Event, Failure> {
    let event: ApiGatewayV2httpRequest = match serde_json::from_str(payload.get()) {
        Ok(event) => event,
        // Judged after the first failure, so that requests, which may be large, are read only once.
        Err(error) => {
            let events = invoked(payload, request_id).ok_or_else(|| {
                format!("this is no event of an HTTP API (payload version 2.0: {error}), of EventBridge or of SNS")
            })?;
            return Ok(Event::Invoked(events));
        }
    };
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
        request_id: request_id.to_owned(),
        method: http.method,
        path: event.raw_path.or(http.path).unwrap_or_default(),
        headers: event.headers,
        body,
        address: http.source_ip.and_then(|address| address.parse().ok()),
    }))
}

/// What tells an event of EventBridge (`detail-type`, `detail`), of SNS (`Records`) or of an alarm whose action the
/// function is (`alarmData`) from others.
#[derive(Deserialize)]
struct WithoutHttp<'a> {
    source: Option<String>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    account: Option<String>,
    region: Option<String>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(rename = "accountId")]
    account_id: Option<String>,
    #[serde(rename = "alarmData", borrow)]
    alarm: Option<&'a RawValue>,
    #[serde(rename = "Records", borrow, default)]
    records: Vec<Record<'a>>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "EventSource", borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(rename = "Sns", borrow)]
    sns: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(rename = "TopicArn")]
    arn: Option<String>,
}

/// The events in a payload without HTTP: EventBridge's and an alarm's is the event itself, of SNS it is each record's
/// message, in the form in which SNS posts it over HTTPS. `None` where it is none of them.
fn invoked(payload: Box<RawValue>, request_id: &str) -> Option<Vec<Invoked>> {
    let request_id = request_id.to_owned();
    let event: WithoutHttp<'_> = serde_json::from_str(payload.get()).ok()?;
    let is_event = event.detail.is_some() && event.detail_type.is_some();
    if is_event || event.alarm.is_some() {
        let WithoutHttp { source, detail_type, account, account_id, region, .. } = event;
        let (source, account) = (source.unwrap_or_default(), account.or(account_id));
        let invocation = Invocation { source, detail_type, account, region, topic: None };
        let body = Bytes::from(String::from(Box::<str>::from(payload)));
        return Some(vec![Invoked { request_id, invocation, body }]);
    }
    let message = |record: &Record<'_>| {
        let sns = record.sns.filter(|_| record.source.as_deref() == Some(SNS))?;
        let topic = serde_json::from_str::<Topic>(sns.get()).ok()?.arn;
        // arn:aws:sns:REGION:ACCOUNT:NAME
        let part = |index| topic.as_deref().and_then(|arn| arn.split(':').nth(index)).map(str::to_owned);
        let (region, account) = (part(3), part(4));
        let invocation = Invocation { source: SNS.into(), detail_type: None, account, region, topic };
        Some(Invoked { request_id: request_id.clone(), invocation, body: Bytes::from(sns.get().to_owned()) })
    };
    let messages: Option<Vec<_>> = event.records.iter().map(message).collect();
    messages.filter(|messages| !messages.is_empty())
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
        let sdk = aws::from_environment();
        let backend: Arc<dyn SecretBackend> = Arc::new(AllSecrets::new(Arc::new(sdk.secrets_and_identity())));
        let limit = queue_limit()?;
        let queue = Arc::new(sdk.queue(variable("SLUICE_QUEUE_URL")?, limit));
        let lazy = Lazy::begin(async || {
            let house = House::build::<Whole>(&sdk, &backend).await?;
            let clock = Arc::new(SystemClock);
            let deliverer = Deliverer {
                relay: house.relay.clone(),
                secrets: house.secrets.clone(),
                queue: queue.clone(),
                dead_letters: Arc::new(house.sdk.queue(variable("SLUICE_DEAD_LETTER_URL")?, limit)),
                state: Arc::new(house.sdk.state(variable("SLUICE_STATE_TABLE")?, clock.clone())),
                sender: Arc::new(SigningSender::new(std::future::ready(house.sdk.clone()))),
                clock,
                meter: house.meter.clone(),
                chance: chance::number,
                memory: Default::default(),
            };
            Ok((house, deliverer))
        })
        .await?;
        if let Some((house, _)) = lazy.made.get() {
            // What an agent delivers to is the agent's, its secrets too. An agent's relay file has targets and nothing else.
            let is_agents = house.relay.sources.is_empty();
            let own = house.relay.targets.values().filter(|entry| is_agents || entry.keys.agent.is_none());
            house.fetch_ahead(own.flat_map(|entry| entry.secrets())).await;
        }
        let (lazy, queue) = (&lazy, queue.as_ref());
        lambda_runtime::run(service_fn(async move |event: LambdaEvent<aws::sqs::SqsEvent>| {
            let (event, context) = event.into_parts();
            let (messages, deadline) = (event.into_received(), Instant::now() + time_left(&context));
            let (house, deliverer) = match lazy.get().await {
                Ok(made) => made,
                Err(error) => {
                    hand_back(queue, &messages).await;
                    return Err(error);
                }
            };
            deliverer.hide(&messages, deadline).await;
            let kept = deliverer.work(messages, deadline).await;
            house.flush(&context);
            Ok::<_, Failure>(aws::sqs::BatchResponse::new(&kept))
        }))
        .await
    })
}

/// Lets messages of which none was looked at come back soon: the queue hides them for as long as a batch may take.
async fn hand_back(queue: &dyn Queue, messages: &[Received]) {
    let receives = messages.iter().map(|message| message.receives).max().unwrap_or(1);
    let wait = FIRST_HOLD.saturating_mul(2_u32.saturating_pow(receives.saturating_sub(1))).min(LONGEST_HOLD);
    if let Err(error) = queue.hold(messages, wait).await {
        tracing::warn!(%error, "messages could not be handed back; they come back by themselves");
    }
}

/// The function `probe`.
pub fn probe() -> std::process::ExitCode {
    run(async {
        let sdk = aws::from_environment();
        let backend: Arc<dyn SecretBackend> = Arc::new(AllSecrets::new(Arc::new(sdk.secrets())));
        let lazy = Lazy::begin(async || {
            let house = House::build::<Whole>(&sdk, &backend).await?;
            let probe = Probe {
                relay: house.relay.clone(),
                agent: None,
                secrets: house.secrets.clone(),
                sender: Arc::new(HttpSender::new()),
                meter: house.meter.clone(),
            };
            // Without a table there is nothing to see of deliveries.
            let overdue = match variable("SLUICE_STATE_TABLE") {
                Err(_) => None,
                Ok(table) => Some(Overdue {
                    relay: house.relay.clone(),
                    state: Arc::new(house.sdk.state(table, Arc::new(SystemClock))),
                    clock: Arc::new(SystemClock),
                    meter: house.meter.clone(),
                    after: overdue_after()?,
                }),
            };
            Ok((house, probe, overdue))
        })
        .await?;
        if let Some((house, ..)) = lazy.made.get() {
            house.fetch_ahead(crate::probe::secrets(&house.relay).into_iter()).await;
        }
        let lazy = &lazy;
        // Whatever the schedule sends starts a run. Targets that fail do not fail it: it would only be repeated.
        lambda_runtime::run(service_fn(async move |event: LambdaEvent<IgnoredAny>| {
            let deadline = Instant::now() + time_left(&event.context);
            let (house, probe, overdue) = lazy.get().await?;
            let late = async {
                match overdue {
                    Some(overdue) => Some(overdue.run(deadline).await),
                    None => None,
                }
            };
            let (receivers, overdue) = tokio::join!(probe.run(deadline), late);
            house.flush(&event.context);
            Ok::<_, Failure>(Probed { receivers, overdue })
        }))
        .await
    })
}

/// After how long a delivery is overdue.
fn overdue_after() -> Result<Duration, Failure> {
    match env::var("SLUICE_OVERDUE") {
        Ok(after) if !after.is_empty() => Ok(Span::parse(&after).map_err(|why| format!("SLUICE_OVERDUE: {why}"))?.0),
        _ => Ok(crate::overdue::AFTER),
    }
}

/// What the function `probe` answers.
#[derive(Serialize)]
struct Probed {
    #[serde(flatten)]
    receivers: crate::probe::Summary,
    /// Targets with overdue deliveries, where the function can see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    overdue: Option<Vec<Late>>,
}

/// How long the invocation may go on.
fn time_left(context: &Context) -> Duration {
    let deadline = i64::try_from(context.deadline).ok().and_then(|deadline| Timestamp::from_millisecond(deadline).ok());
    let left = deadline.map(|deadline| deadline.duration_since(SystemClock.now()));
    left.and_then(|left| left.try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: serde_json::Value) -> Result<Event, String> {
        read_event(serde_json::value::to_raw_value(&payload).expect("JSON"), "r-1").map_err(|error| error.to_string())
    }

    fn invoked_with(payload: serde_json::Value) -> Vec<Invoked> {
        match event(payload) {
            Ok(Event::Invoked(events)) => events,
            Ok(_) => panic!("not taken for an event without HTTP"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_event_of_eventbridge_is_known_by_its_detail_and_passed_on_byte_for_byte() {
        let payload = serde_json::json!({
            "version": "0", "id": "e-1", "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": "123456789012", "region": "eu-central-1", "resources": [], "detail": { "a": 1.50 },
        });
        let events = invoked_with(payload.clone());
        assert_eq!(events[0].body, payload.to_string());
        assert_eq!(
            events[0].invocation,
            Invocation {
                source: "aws.ecr".into(),
                detail_type: Some("ECR Image Action".into()),
                account: Some("123456789012".into()),
                region: Some("eu-central-1".into()),
                topic: None,
            }
        );
    }

    #[test]
    fn an_alarm_whose_action_is_the_function_is_an_event_of_cloudwatch() {
        let payload = serde_json::json!({
            "source": "aws.cloudwatch", "alarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a",
            "accountId": "123456789012", "time": "2026-03-05T09:12:24.100+0000", "region": "eu-west-1",
            "alarmData": { "alarmName": "a", "state": { "value": "ALARM" } },
        });
        let events = invoked_with(payload.clone());
        assert_eq!(events[0].body, payload.to_string());
        let Invocation { source, account, region, .. } = &events[0].invocation;
        assert_eq!(
            (source.as_str(), account.as_deref(), region.as_deref()),
            ("aws.cloudwatch", Some("123456789012"), Some("eu-west-1"))
        );
    }

    #[test]
    fn every_message_of_sns_is_an_event_with_topic_account_and_region() {
        let arn = "arn:aws:sns:eu-west-1:123456789012:alarms";
        let record = |id| {
            let sns = serde_json::json!({ "TopicArn": arn, "MessageId": id, "Message": "{}" });
            serde_json::json!({ "EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sns })
        };
        let events = invoked_with(serde_json::json!({ "Records": [record("m-1"), record("m-2")] }));
        assert_eq!(events.len(), 2);
        let Invocation { source, account, region, topic, .. } = &events[1].invocation;
        assert_eq!(
            (source.as_str(), account.as_deref(), region.as_deref(), topic.as_deref()),
            (SNS, Some("123456789012"), Some("eu-west-1"), Some(arn))
        );
        assert!(String::from_utf8_lossy(&events[1].body).contains("m-2"));
    }

    #[test]
    fn what_is_neither_http_nor_an_event_we_know_fails_the_invocation_with_a_clear_error() {
        for payload in [
            serde_json::json!({}),
            serde_json::json!([]),
            serde_json::json!({ "Records": [] }),
            serde_json::json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }),
            serde_json::json!({ "detail-type": "without detail" }),
            serde_json::json!({ "httpMethod": "POST", "path": "/github", "requestContext": {} }),
        ] {
            let error = event(payload.clone()).err().unwrap_or_else(|| panic!("{payload} was taken"));
            assert!(error.contains("HTTP API") && error.contains("EventBridge"), "{error}");
        }
    }
}
