//! Intake: authenticate, parse, route, enqueue, and tell the sender what became of it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::delivery::{Delivery, TooLarge};
use crate::domain::event::Event;
use crate::domain::name::Name;
use crate::domain::secret::Resolved;
use crate::port::{Clock, Message, Meter, Of, Queue, Unavailable, Unit};
use crate::relay::{Relay, SourceEntry};
use crate::secrets::SecretStore;
use crate::source::auth::{AuthError, Authentic};
use crate::source::{Function, ParseError, Parsed, Request, Via};

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
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where counts go.
    pub meter: Arc<dyn Meter>,
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
        answer
    }

    /// The source and the URL token in a path, if the source is one of this function's.
    fn locate<'p>(&self, path: &'p str) -> Option<(&'p str, Option<&'p str>)> {
        let (name, token) = match path.strip_prefix('/')?.split_once('/') {
            Some((name, token)) => (name, Some(token)),
            None => (&path[1..], None),
        };
        let entry = self.relay.sources.get(name)?;
        self.function.is_none_or(|function| entry.of.function == function).then_some((name, token))
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
        let parsed = match entry.source.parse(authentic) {
            Ok(parsed) => parsed,
            Err(ParseError::Malformed(why)) => return Answer::problem(400, "Bad Request", why),
            Err(ParseError::UnsupportedMediaType(why)) => return Answer::problem(415, "Unsupported Media Type", why),
        };
        self.enqueue(name, entry, parsed, request_id).await
    }

    async fn authenticate<'r>(&self, entry: &SourceEntry, request: &'r Request) -> Result<Authentic<'r>, Answer> {
        let by_url = entry.url_secret().is_some();
        let refused = |error: AuthError| match by_url {
            true => Answer::not_found(),
            false => Answer::problem(401, "Unauthorized", error.to_string()),
        };
        if let Some(networks) = &entry.keys.allow_cidrs {
            let allowed = |address: IpAddr| networks.0.iter().any(|network| network.0.contains(&address));
            if !request.address.is_some_and(allowed) {
                return Err(Answer::problem(401, "Unauthorized", "requests from this address are not accepted"));
            }
        }
        let check = |secrets: &Resolved| entry.authenticate(request, secrets, self.clock.now());
        // What is not even of the right form costs no look-up.
        if let Err(error @ AuthError::Missing(_)) = check(&Resolved::default()) {
            return Err(refused(error));
        }
        let grace = Some(entry.keys.grace.0);
        for refreshed in [false, true] {
            let found = self.secrets.find(entry.secrets(), grace).await;
            match check(&found.resolved) {
                Ok(authentic) => return Ok(authentic),
                // The secret that would fit may be the one that cannot be had: ours to mend, not the sender's.
                Err(AuthError::Mismatch(_)) if !found.missing.is_empty() => {
                    return Err(Answer::unavailable(
                        "this source's secret cannot be had at the moment; please send again",
                    ));
                }
                Err(error @ AuthError::Mismatch(_)) => {
                    if refreshed || !self.secrets.refresh(entry.secrets()).await {
                        return Err(refused(error));
                    }
                }
                Err(error @ AuthError::Missing(_)) => return Err(refused(error)),
            }
        }
        Err(Answer::problem(401, "Unauthorized", "authentication failed"))
    }

    async fn enqueue(&self, name: &Name, entry: &SourceEntry, parsed: Parsed, request_id: &str) -> Answer {
        if let Some(reply) = parsed.reply {
            return Answer::plain(200, reply);
        }
        let now = self.clock.now();
        let expose = entry.keys.expose_targets;
        let mut left_out: Vec<String> = parsed.ignored.into_iter().collect();
        let mut messages = Vec::new();
        let mut deliveries = Vec::new();
        let limit = self.queue.limit().saturating_sub(HEADROOM);
        for (i, found) in parsed.events.into_iter().enumerate() {
            // Each event of the request is one of its own.
            let identity = found.identity.unwrap_or_else(|| match i {
                0 => request_id.to_owned(),
                i => format!("{request_id} {i}"),
            });
            let event = Event {
                detail: found.detail,
                id: Event::id_of(name, &identity),
                source: name.clone(),
                cluster: entry.keys.cluster.clone(),
                labels: entry.keys.labels.clone().unwrap_or_default(),
                time: found.time,
            };
            let targets = self.relay.targets_of(&event);
            if targets.is_empty() {
                left_out.push("no route takes this event".into());
            }
            for (target, of) in targets {
                if let Err(why) = of.target.wants(&event) {
                    left_out.push(if expose { format!("{target}: {why}") } else { why });
                    continue;
                }
                let original = of.target.needs_original(&event).then(|| parsed.original.clone()).flatten();
                let delivery = Delivery::new(event.clone(), &identity, target, original, now);
                let body = match delivery.encode(limit) {
                    Ok(body) => body,
                    Err(TooLarge { bytes, limit }) => {
                        return Answer::too_large(format!(
                            "the event takes {bytes} bytes compressed, and the queue takes {limit}"
                        ));
                    }
                };
                messages.push(Message {
                    group: target.to_string(),
                    deduplication_id: delivery.deduplication_id(),
                    body,
                });
                deliveries.push((delivery.id, target.clone()));
            }
        }
        if !messages.is_empty()
            && let Err(Unavailable { what, message }) = self.queue.send(&messages).await
        {
            tracing::error!(request = %request_id, source = %name, error = %message, "the {what} cannot be reached");
            return Answer::unavailable("the queue cannot be reached; please send again");
        }
        self.meter.record("DeliveriesQueued", Of::Source(name.as_str()), count(deliveries.len()), Unit::Count);
        left_out.dedup();
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
