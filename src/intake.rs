//! Intake: authenticate, parse, route, enqueue, and tell the sender what became of it.

mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::delivery::{Delivery, TooLarge};
use crate::domain::event::Original;
use crate::domain::name::Name;
use crate::domain::secret::{Resolved, SecretRef};
use crate::port::{Clock, FetchError, Message, Meter, Of, Outbox, State, Subscriptions, Unavailable, Unit};
use crate::relay::{Relay, SourceEntry};
use crate::secrets::SecretStore;
use crate::source::auth::{AuthError, Authentic};
use crate::source::{Confirmation, Function, Invocation, ParseError, Parsed, Request, Via};
use open::OpenAlerts;

/// The largest body that is taken, in bytes: what a Flux Receiver takes.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Room that a message's body leaves under the queue's limit, for the reason that a dead letter adds to it.
const HEADROOM: usize = 4096;

/// How long a sender is asked to wait when we cannot take its event, in seconds.
const RETRY_AFTER: u8 = 5;

/// A request as it comes in.
#[derive(Debug)]
pub struct Incoming {
    /// Names this request in logs and answers; stands for the event where its sender has nothing better.
    pub request_id: String,
    /// The method.
    pub method: Method,
    /// The path, as sent.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The address that the front door saw.
    pub address: Option<IpAddr>,
}

/// An event without HTTP as it comes in: the function was invoked with it (EventBridge, SNS).
#[derive(Debug)]
pub struct Invoked {
    /// Names this invocation in logs and answers; stands for the event where it has nothing better.
    pub request_id: String,
    /// What tells the source that the event belongs to.
    pub invocation: Invocation,
    /// The event's JSON.
    pub body: Bytes,
}

/// The invocation has to fail: the event is not taken. Says what HTTP would have been told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(String);

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers besides the content type.
    pub headers: Vec<(&'static str, String)>,
    /// Whether the body is problem details (RFC 9457), else it is plain JSON.
    pub problem: bool,
    /// The body.
    pub body: Value,
}

impl Answer {
    fn plain(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), problem: false, body }
    }

    fn problem(status: u16, title: &str, detail: impl Into<String>) -> Self {
        let body = json!({ "type": "about:blank", "title": title, "status": status, "detail": detail.into() });
        Self { status, headers: Vec::new(), problem: true, body }
    }

    fn unavailable(detail: impl Into<String>) -> Self {
        let headers = vec![("Retry-After", RETRY_AFTER.to_string())];
        Self { headers, ..Self::problem(503, "Service Unavailable", detail) }
    }

    /// Unknown sources and wrong URL tokens get one and the same answer.
    fn not_found() -> Self {
        Self::problem(404, "Not Found", "there is no such source, or its URL token is wrong")
    }

    fn too_large(detail: impl Into<String>) -> Self {
        Self::problem(413, "Content Too Large", detail)
    }

    /// The answer where too much is under way to take a request in.
    pub fn overloaded() -> Self {
        Self::unavailable("too much is under way at the moment; please send again")
    }

    /// The answer while the relay file cannot be had.
    pub fn without_relay_file() -> Self {
        Self::unavailable("the relay cannot read its own configuration at the moment; please send again")
    }

    /// The answer to a body that is over [`MAX_BODY`].
    pub fn body_too_large() -> Self {
        Self::too_large(format!("the body is over the {MAX_BODY} bytes that are taken"))
    }

    /// The media type of the body.
    pub fn content_type(&self) -> &'static str {
        if self.problem { "application/problem+json" } else { "application/json" }
    }

    /// All headers of the answer.
    pub fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        for (name, value) in &self.headers {
            // Values out of requests came out of headers, so that they fit into one again.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(value)) {
                map.insert(name, value);
            }
        }
        map
    }
}

/// A delivery as the sender is told of it.
#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a Name>,
}

/// The intake of one function, or of all of them.
pub struct Intake {
    /// The relay file.
    pub relay: Arc<Relay>,
    /// The secrets.
    pub secrets: Arc<SecretStore>,
    /// The delivery queue.
    pub queue: Arc<dyn Outbox>,
    /// The queues of agents: who is in a network of its own. A target whose agent has none here is told from the
    /// delivery queue.
    pub agents: BTreeMap<Name, Arc<dyn Outbox>>,
    /// Where alerts that fire are noted, for sources with heartbeats. Without it, heartbeats are ignored.
    pub state: Option<Arc<dyn State>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where counts go.
    pub meter: Arc<dyn Meter>,
    /// Confirms subscriptions.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The function whose sources this is; `None` for all.
    pub function: Option<Function>,
}

impl Intake {
    /// Answers a request. With a 2xx for an event that is relayed, all of its deliveries are in the queue.
    pub async fn answer(&self, incoming: Incoming) -> Answer {
        if incoming.path == "/healthz" {
            return match incoming.method {
                Method::GET | Method::HEAD => Answer::plain(200, json!({ "status": "ok" })),
                _ => method_not_allowed("GET, HEAD"),
            };
        }
        let Some((name, token)) = self.locate(&incoming.path) else {
            tracing::info!(request = %incoming.request_id, status = 404, "no such source");
            return Answer::not_found();
        };
        let Some((name, entry)) = self.relay.sources.get_key_value(name) else { return Answer::not_found() };
        let token = token.map(str::to_owned);
        let Incoming { request_id, method, headers, body, address, .. } = incoming;
        let request = Request { via: Via::Http, source: name.clone(), token, method, headers, body, address };
        let answer = self.relay_request(name, entry, &request, &request_id).await;
        self.report(name, &answer, &request_id);
        answer
    }

    /// Takes an event without HTTP. It belongs to one source: the first by name that claims it, of those whose type is
    /// for such events; else of those that take any. With `Ok`, all that
    /// is to be relayed of it is in the queue, or there is nothing to do; an event that no source claims is of no
    /// use to anybody, and trying it again would not change that.
    ///
    /// # Errors
    /// Where HTTP would not say 2xx, so that whoever invoked the function tries again or keeps the event.
    pub async fn take(&self, invoked: Invoked) -> Result<Answer, NotTaken> {
        let Invoked { request_id, invocation, body } = invoked;
        let own = self.relay.sources.iter().filter(|(_, entry)| self.is_ours(entry));
        let claims = own.filter_map(|(name, entry)| Some((name, entry, entry.claim()?)));
        let covering = claims.filter(|(_, _, claim)| claim.covers(&invocation));
        // Of equals the first is the least.
        let found = covering.min_by_key(|(_, _, claim)| claim.sources.is_none()).map(|(name, entry, _)| (name, entry));
        let Some((name, entry)) = found else {
            let Invocation { source, detail_type, account, region, topic } = invocation;
            tracing::warn!(
                request = %request_id,
                from = source,
                detail_type,
                account,
                region,
                topic,
                "no source claims this event; it is dropped"
            );
            let event = detail_type.map_or(source.clone(), |detail_type| format!("{source} {detail_type}"));
            let ignored = "no source of this function claims this event";
            return Ok(Answer::plain(200, json!({ "id": request_id, "event": event, "ignored": ignored })));
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (via, method) = (Via::Invocation, Method::POST);
        let request = Request { via, source: name.clone(), token: None, method, headers, body, address: None };
        let answer = self.relay_request(name, entry, &request, &request_id).await;
        self.report(name, &answer, &request_id);
        match answer.status {
            200..=299 => Ok(answer),
            status => {
                let detail = answer.body.get("detail").and_then(Value::as_str).unwrap_or_default();
                Err(NotTaken(format!("source `{name}`: {status}: {detail}")))
            }
        }
    }

    /// Counts a request, and logs what became of it.
    fn report(&self, name: &Name, answer: &Answer, request_id: &str) {
        self.meter.record("Requests", Of::Source(name.as_str()), 1.0, Unit::Count);
        let class = match answer.status {
            200..=299 => None,
            401 | 404 => Some("RequestsRefused"),
            503 => Some("RequestsFailed"),
            _ => Some("RequestsMalformed"),
        };
        if let Some(class) = class {
            self.meter.record(class, Of::Source(name.as_str()), 1.0, Unit::Count);
        }
        let text = |key| answer.body.get(key).and_then(Value::as_str);
        let (event, detail) = (text("event"), text("detail").or(text("ignored")));
        let deliveries = answer.body.get("deliveries").and_then(Value::as_array).map(Vec::len);
        tracing::info!(
            request = %request_id,
            source = %name,
            status = answer.status,
            event,
            deliveries,
            detail,
            "request"
        );
    }

    fn is_ours(&self, entry: &SourceEntry) -> bool {
        self.function.is_none_or(|function| entry.function() == function)
    }

    /// The source and the URL token in a path, if the source is one of this function's.
    fn locate<'p>(&self, path: &'p str) -> Option<(&'p str, Option<&'p str>)> {
        let (name, token) = match path.strip_prefix('/')?.split_once('/') {
            Some((name, token)) => (name, Some(token)),
            None => (&path[1..], None),
        };
        let entry = self.relay.sources.get(name)?;
        self.is_ours(entry).then_some((name, token))
    }

    async fn relay_request(&self, name: &Name, entry: &SourceEntry, request: &Request, request_id: &str) -> Answer {
        // A source has exactly one form of URL.
        if request.token.is_some() != entry.url_secret().is_some() {
            return Answer::not_found();
        }
        if request.method == Method::OPTIONS && entry.source.shakes_hands() {
            return handshake(request);
        }
        if request.method != Method::POST {
            return method_not_allowed("POST");
        }
        if request.body.len() > MAX_BODY {
            return Answer::body_too_large();
        }
        let authentic = match self.authenticate(entry, request).await {
            Ok(authentic) => authentic,
            Err(answer) => return answer,
        };
        let mut parsed = match entry.source.parse(authentic) {
            Ok(parsed) => parsed,
            Err(ParseError::Malformed(why)) => return Answer::problem(400, "Bad Request", why),
            Err(ParseError::UnsupportedMediaType(why)) => return Answer::problem(415, "Unsupported Media Type", why),
        };
        if let Some(confirmation) = &parsed.confirm
            && let Err(answer) = self.confirm(confirmation, name, request_id).await
        {
            return answer;
        }
        // What a type has nothing to say about is passed on as it came.
        parsed.original.get_or_insert_with(|| Original {
            content_type: request.media_type().unwrap_or_else(|| "application/octet-stream".to_owned()),
            headers: Vec::new(),
            body: request.body.clone(),
        });
        self.enqueue(name, entry, parsed, request_id).await
    }

    async fn authenticate<'r>(&self, entry: &SourceEntry, request: &'r Request) -> Result<Authentic<'r>, Answer> {
        let by_url = entry.url_secret().is_some();
        let refused = |error: AuthError| match by_url {
            true => Answer::not_found(),
            false => Answer::problem(401, "Unauthorized", error.to_string()),
        };
        if let (Via::Http, Some(networks)) = (request.via, &entry.keys.allow_cidrs) {
            let allowed = |address: IpAddr| networks.0.iter().any(|network| network.0.contains(&address));
            if !request.address.is_some_and(allowed) {
                return Err(Answer::problem(401, "Unauthorized", "requests from this address are not accepted"));
            }
        }
        let check = |secrets: &Resolved| entry.authenticate(request, secrets, self.clock.now());
        // What is not even of the right form costs no look-up, and neither does what needs no secret (IAM).
        match check(&Resolved::default()) {
            Ok(authentic) => return Ok(authentic),
            Err(error @ AuthError::Missing(_)) => return Err(refused(error)),
            Err(AuthError::Mismatch(_)) => {}
        }
        let grace = Some(entry.keys.grace.0);
        let named = entry.source.named_by(request);
        let references = named.as_ref().map_or_else(|| entry.secrets(), std::slice::from_ref);
        // What a request names may be nothing that there is: that is its own fault.
        let is_ours =
            |(_, error): &(SecretRef, FetchError)| named.is_none() || matches!(error, FetchError::Unavailable(_));
        let mut refreshed = false;
        loop {
            let mut found = self.secrets.find(references, None).await;
            let mut checked = check(&found.resolved);
            // Only who does not have the current value waits for the one before it. What is published has none.
            if named.is_none() && matches!(checked, Err(AuthError::Mismatch(_))) {
                found = self.secrets.find(references, grace).await;
                checked = check(&found.resolved);
            }
            let error = match checked {
                Ok(authentic) => return Ok(authentic),
                // The secret that would fit may be the one that cannot be had: ours to mend, not the sender's.
                Err(AuthError::Mismatch(_)) if found.missing.iter().any(is_ours) => {
                    return Err(Answer::unavailable(
                        "what this is checked by cannot be had at the moment; please send again",
                    ));
                }
                Err(error) => error,
            };
            // It may fit what the secret is by now. A certificate that is renewed has another name.
            let may_be_new = !refreshed && named.is_none() && matches!(error, AuthError::Mismatch(_));
            if !may_be_new || !self.secrets.refresh(references).await {
                return Err(refused(error));
            }
            refreshed = true;
        }
    }

    async fn confirm(&self, confirmation: &Confirmation, name: &Name, request_id: &str) -> Result<(), Answer> {
        let topic = confirmation.topic.as_str();
        let confirmed = self.subscriptions.confirm(confirmation).await;
        confirmed.map_err(|error| {
            tracing::error!(request = %request_id, source = %name, topic, %error, "a subscription is not confirmed");
            Answer::unavailable("the subscription could not be confirmed; please send again")
        })
    }

    fn queue_of(&self, agent: Option<&Name>) -> &Arc<dyn Outbox> {
        agent.and_then(|agent| self.agents.get(agent)).unwrap_or(&self.queue)
    }

    async fn enqueue(&self, name: &Name, entry: &SourceEntry, parsed: Parsed, request_id: &str) -> Answer {
        if let Some(reply) = parsed.reply {
            return Answer::plain(200, reply);
        }
        let now = self.clock.now();
        let open = self.state.as_deref().filter(|_| entry.source.has_heartbeats());
        let open = open.map(|state| OpenAlerts { state, source: name, now });
        let ended = match &open {
            Some(open) => open.ended_by(parsed.heartbeats).await,
            None => Ok(Vec::new()),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return unavailable(&error, name, request_id),
        };
        let expose = entry.keys.expose_targets;
        let mut left_out: Vec<String> = parsed.ignored.filter(|_| ended.is_empty()).into_iter().collect();
        let mut queues: BTreeMap<Option<&Name>, Vec<Message>> = BTreeMap::new();
        let mut deliveries = Vec::new();
        let mut relayed = Vec::new();
        for (i, found) in parsed.events.into_iter().chain(ended).enumerate() {
            let (identity, event) = entry.event(name, found, request_id, i);
            let before = deliveries.len();
            let routed = self.relay.route(&event, now);
            match (routed.muted, routed.told.is_empty()) {
                (true, _) => left_out.push("a route that takes this event is mute at the moment".into()),
                (false, true) => left_out.push("no route takes this event".into()),
                (false, false) => {}
            }
            for (target, of, event) in routed.told {
                if let Err(why) = of.target.wants(&event, parsed.original.as_ref()) {
                    left_out.push(if expose { format!("{target}: {why}") } else { why });
                    continue;
                }
                let original = of.target.needs_original(&event).then(|| parsed.original.clone()).flatten();
                let mut event = event.into_owned();
                // Who speaks for no cluster is told of with the one that it is told to.
                event.cluster = event.cluster.or_else(|| of.keys.cluster.clone());
                let delivery = Delivery::new(event, &identity, target, original, now);
                let agent = of.keys.agent.as_ref().filter(|agent| self.agents.contains_key(*agent));
                let limit = self.queue_of(agent).limit().saturating_sub(HEADROOM);
                let body = match delivery.encode(limit) {
                    Ok(body) => body,
                    Err(TooLarge { bytes, limit }) => {
                        return Answer::too_large(format!(
                            "the event takes {bytes} bytes compressed, and the queue takes {limit}"
                        ));
                    }
                };
                queues.entry(agent).or_default().push(Message {
                    group: target.to_string(),
                    deduplication_id: delivery.deduplication_id(),
                    body,
                });
                deliveries.push((delivery.id, target.clone()));
            }
            let told: Vec<_> = deliveries[before..].iter().map(|(_, target)| target.clone()).collect();
            if open.is_some() && !told.is_empty() {
                relayed.push((event, told));
            }
        }
        // Noted before it is told: what is told and not noted would never be over.
        if let Some(open) = &open
            && let Err(error) = open.note_what_fires(&relayed).await
        {
            return unavailable(&error, name, request_id);
        }
        for (agent, messages) in &queues {
            if let Err(error) = self.queue_of(*agent).send(messages).await {
                return unavailable(&error, name, request_id);
            }
        }
        if let Some(open) = &open
            && let Err(error) = open.forget_what_is_over(&relayed).await
        {
            // What is in the queue is answered 2xx. A note too many costs no more than another word that it is over.
            tracing::warn!(request = %request_id, source = %name, %error, "an alert that is over stays noted");
        }
        self.meter.record("DeliveriesQueued", Of::Source(name.as_str()), count(deliveries.len()), Unit::Count);
        let mut said = BTreeSet::new();
        left_out.retain(|why| said.insert(why.clone()));
        let ignored = (!left_out.is_empty()).then(|| left_out.join("; "));
        let id = parsed.delivery_id.as_deref().unwrap_or(request_id);
        let mut body = json!({ "id": id, "source": name, "event": parsed.summary });
        let status = if deliveries.is_empty() {
            body["ignored"] = ignored.unwrap_or_else(|| "there is nothing in it to relay".into()).into();
            200
        } else {
            let told: Vec<_> =
                deliveries.iter().map(|(id, target)| Told { id, target: expose.then_some(target) }).collect();
            body["deliveries"] = json!(told);
            if let Some(ignored) = ignored {
                body["ignored"] = ignored.into();
            }
            202
        };
        Answer::plain(status, body)
    }
}

/// The answer where queue or state cannot be reached, which is logged.
fn unavailable(error: &Unavailable, name: &Name, request_id: &str) -> Answer {
    tracing::error!(request = %request_id, source = %name, %error, "nothing can be relayed now");
    Answer::unavailable(format!("the {} cannot be reached; please send again", error.what))
}

/// Whoever asks may send: what is sent has to prove itself. Nothing limits the rate but the front door.
fn handshake(request: &Request) -> Answer {
    match request.header("webhook-request-origin") {
        Some(origin) => Answer {
            headers: vec![
                ("WebHook-Allowed-Origin", origin.to_owned()),
                ("WebHook-Allowed-Rate", "*".to_owned()),
                ("Allow", "POST, OPTIONS".to_owned()),
            ],
            ..Answer::plain(200, json!({ "source": request.source }))
        },
        None => method_not_allowed("POST"),
    }
}

fn method_not_allowed(allow: &'static str) -> Answer {
    Answer {
        headers: vec![("Allow", allow.to_owned())],
        ..Answer::problem(405, "Method Not Allowed", format!("use {allow}"))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count of deliveries is far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
