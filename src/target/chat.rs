//! What services that people read have in common: a message is drawn within their limits, with a plain form to fall
//! back to, and their answers say «later» in several ways. What differs from one to the next is [`Draw`] and [`Notifier`].

use std::fmt::Debug;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::message::{self, Message};
use super::poke::held;
use super::text::Unit;
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status, excerpt, not_now, pause};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, Keys, OneOrMany, Problems, Read, parsed};

/// How large a part of a body is, and what the service takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Which part.
    pub what: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    /// Its size.
    pub size: usize,
    /// The largest that is taken.
    pub limit: usize,
}

impl Size {
    /// The size of `what` in `unit`.
    pub fn new(what: &'static str, unit: Unit, size: usize, limit: usize) -> Self {
        Self { what, unit, size, limit }
    }

    /// Whether it is within the limit.
    pub fn fits(&self) -> bool {
        self.size <= self.limit
    }
}

/// A service that people read: how a message looks there. A body is JSON, or what is made of JSON (a form) when it is
/// sent.
pub trait Draw {
    /// The body for all of `message`, with every text cut to what its own place takes.
    fn draw(&self, message: &Message) -> Value;

    /// The plain, short form of it, which the service takes even where it refuses the other one.
    fn draw_plain(&self, message: &Message) -> Value;

    /// How large the parts of `body` are that have limits.
    fn sizes(&self, body: &Value) -> Vec<Size>;

    /// `body` as a person would see it, as plain text.
    fn preview(&self, body: &Value) -> String;
}

/// An attempt to deliver, as far as a request depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// What is delivered.
    pub delivery: &'a Delivery,
    /// The target's secrets.
    pub secrets: &'a Resolved,
    /// The time.
    pub now: Timestamp,
}

/// A service that people read. Implementing it makes a [`Target`], whose order is kept, which is told a [`Message`], and
/// which is told once more in plain form what it refused.
pub trait Notifier: Draw + Keys + Debug + Send + Sync {
    /// Whether it is told of nothing but what begins and ends ([`Message::step`]), as incident services are.
    const STEPS_ONLY: bool = false;

    /// As [`Target::wants`].
    fn wants(&self, event: &Event) -> Result<(), String> {
        if Self::STEPS_ONLY { Message::of(event).step().map(drop) } else { Ok(()) }
    }

    /// As [`Target::is_idempotent`]. What is told of beginnings and ends knows them by the message's key: one more
    /// beginning is added to what is open, one more end changes nothing.
    fn is_idempotent(&self) -> bool {
        Self::STEPS_ONLY
    }

    /// The request that brings `body`, which was drawn for the delivery.
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError>;

    /// Judges the answer, as [`Target::classify`]. What is [`Outcome::Rejected`] is tried in its plain form.
    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        classify(response, None, now)
    }

    /// As [`Target::doubts_secret`].
    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403)
    }
}

impl<N: Notifier> Target for N {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        Notifier::wants(self, event)
    }

    fn is_idempotent(&self) -> bool {
        Notifier::is_idempotent(self)
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        Notifier::wants(self, &delivery.event).map_err(RenderError::Unfit)?;
        let attempt = Attempt { delivery, secrets, now };
        bodies(self, &delivery.event).into_iter().map(|body| self.request(body, &attempt)).collect()
    }

    fn tries_next(&self, response: &Response) -> bool {
        // Some say in a 200 that they refuse. The time matters to waits alone.
        let refuses = matches!(response.status, 200 | 400 | 413 | 422);
        refuses && matches!(Notifier::classify(self, response, Timestamp::UNIX_EPOCH), Outcome::Rejected { .. })
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        Notifier::classify(self, response, now)
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        Notifier::doubts_secret(self, response)
    }

    fn as_draw(&self) -> Option<&dyn Draw> {
        Some(self)
    }
}

/// [`Notifier::doubts_secret`] of a service whose secret is the URL: where that leads nowhere, it may be another one by now.
pub fn doubts_url(response: &Response) -> bool {
    matches!(response.status, 401 | 403 | 404 | 410)
}

/// Whom `message` pings of those that the key `mention` names: nobody, unless it is pressing.
pub fn pinged<'m, M>(mention: &'m Option<OneOrMany<M>>, message: &Message) -> &'m [M] {
    mention.as_ref().filter(|_| message.is_pressing()).map_or(&[], |all| &all.0)
}

/// The same as one text, in which each stands as `name` says; `None` if it is nobody.
pub fn pings<M>(mention: &Option<OneOrMany<M>>, message: &Message, name: fn(&M) -> &str) -> Option<String> {
    let names: Vec<_> = pinged(mention, message).iter().map(name).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// `text` below `pings`, if there are any.
pub fn below(pings: Option<String>, text: &str) -> String {
    pings.map_or_else(|| text.to_owned(), |pings| format!("{pings}\n{text}"))
}

/// Who is pinged where a service knows people by `@name`: one of the words here, channel and all, or an `@name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtName(String);

impl AtName {
    /// The name with its `@`.
    pub fn markup(&self) -> &str {
        &self.0
    }
}

impl Read for AtName {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let name = text.strip_prefix('@');
            let is_name = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            };
            match (text, name) {
                ("here" | "channel" | "all", _) => Ok(Self(format!("@{text}"))),
                (_, Some(name)) if is_name(name) => Ok(Self(text.into())),
                _ => Err("expected here, channel, all, or the @name of a user or a group".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(here|channel|all|@[A-Za-z0-9._-]+)$" })
    }
}

/// The bodies for `event`: one with as much of it as the service takes, and the plain one to fall back to, if it is
/// another one.
pub fn bodies(service: &(impl Draw + ?Sized), event: &Event) -> Vec<Value> {
    let message = Message::of(event);
    let fits = |body: &Value| service.sizes(body).iter().all(Size::fits);
    let mut bodies = vec![
        message::fit(&message, |message| service.draw(message), fits),
        message::fit_plain(&message, |message| service.draw_plain(message), fits),
    ];
    bodies.dedup();
    bodies
}

/// The value of a secret that is a whole URL.
pub fn secret_url(secrets: &Resolved, reference: &SecretRef) -> Result<String, RenderError> {
    let secret = super::poke::current(secrets, reference)?;
    let url = secret.expose_text().map(str::trim).filter(|text| url::Url::parse(text).is_ok_and(|url| url.has_host()));
    let unusable = || RenderError::UnusableSecret(format!("the secret {reference} is not the URL of a webhook"));
    url.map(str::to_owned).ok_or_else(unusable)
}

/// `url` with one more parameter in its query.
pub fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={value}")
}

/// The value of a secret that is a text on one line.
pub fn secret_text<'s>(secrets: &'s Resolved, reference: &SecretRef) -> Result<&'s str, RenderError> {
    let text = super::poke::current(secrets, reference)?.expose_text().map(str::trim_end);
    let text = text.filter(|text| !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace()));
    text.ok_or_else(|| RenderError::UnusableSecret(format!("the secret {reference} is not one word of text")))
}

/// The texts at the top of a body, by their names: the fields of a form.
pub fn fields(body: &Value) -> impl Iterator<Item = (&str, &str)> {
    let fields = body.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
}

/// The body of an answer as JSON; `null` where it is none.
pub fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or(Value::Null)
}

/// `response` with nothing but `words` in its body: for a service whose answers may repeat our secret.
pub fn saying(response: &Response, words: &str) -> Response {
    Response { body: words.to_owned().into(), ..response.clone() }
}

/// What comes of an answer of success that is not the service's own: no other message would fare better, so that none is
/// tried in its plain form. `place` says where the answer came from, as in «is `url` right?».
pub fn foreign(response: &Response, service: &str, place: &str) -> Outcome {
    held(format!(
        "{}: the answer is not {service}'s; is {place} right, or does something else answer there (a page to log in, or one \
         of maintenance)?",
        response.status
    ))
}

/// Whether `response` is a page for people, which is no answer of any service's API.
pub fn is_page(response: &Response) -> bool {
    let media_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let start = response.body.trim_ascii_start().iter().take(9).map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    media_type.starts_with("text/html") || start.starts_with(b"<html") || start.starts_with(b"<!doctype")
}

/// «Later», with the longest of the waits that the answer names, and no longer than a queue can hold a message. `known`
/// is the wait that its type alone knows of.
pub fn later(response: &Response, known: Option<Duration>, now: Timestamp) -> Outcome {
    let reason = format!("{}: the service asks for a pause", response.status);
    match pause::asked(response, now).max(known) {
        Some(wait) => Outcome::RetryAfter { wait: wait.min(pause::LONGEST), reason },
        None => Outcome::Retry { blame: Blame::Target, reason },
    }
}

/// The outcome that a status has at a service that people read, where its type knows nothing better; `known` as in
/// [`later`].
pub fn classify(response: &Response, known: Option<Duration>, now: Timestamp) -> Outcome {
    match response.status {
        200..=299 if is_page(response) => foreign(response, "the service", "its URL"),
        429 | 503 => later(response, known, now),
        // What it cannot take now it may take later; the order is kept meanwhile.
        500 | 502 | 504..=599 => {
            let reason = format!("{}: the service failed: {}", response.status, excerpt(response));
            not_now(response, Blame::Target, reason, now)
        }
        _ => classify_by_status(response, now),
    }
}
