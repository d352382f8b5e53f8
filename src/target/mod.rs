//! Targets: whom we tell. One file per type, and one list of them.
//!
//! A target is *render* (delivery → HTTP request) and *classify* (answer → outcome). Connecting, sending and
//! retrying exist once, elsewhere.

pub mod argo_events;
pub mod argocd;
pub mod chat;
pub mod flux;
pub mod github_dispatch;
pub mod gitlab_trigger;
pub mod http;
pub mod image_updater;
pub mod jenkins;
pub mod kargo;
pub mod keel;
pub mod markup;
pub mod message;
pub mod opsgenie;
pub mod pagerduty;
pub mod poke;
pub mod slack;
pub mod tekton;
pub mod telegram;
pub mod template;
pub mod text;

use std::fmt::{self, Debug};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};

/// What kind of service a target is; it decides what happens to a delivery that fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A receiver inside a cluster: a poke is a poke, and the next one must not wait for a bad one.
    InCluster,
    /// Something people or their tools read: order matters, deliveries keep their place.
    Feed,
}

/// A row in the list of target types.
#[derive(Debug)]
pub struct TargetType {
    /// The type's name in the relay file.
    pub name: &'static str,
    /// What it is, in a few words for the README's table.
    pub about: &'static str,
    /// Reads the type's own keys.
    pub read: fn(&mut Fields<'_, '_>) -> Option<Box<dyn Target>>,
    describe: fn(&mut Vec<KeyDescription>),
}

impl TargetType {
    const fn new<T: Target + Keys + 'static>(name: &'static str, about: &'static str) -> Self {
        fn read<T: Target + Keys + 'static>(fields: &mut Fields<'_, '_>) -> Option<Box<dyn Target>> {
            T::take(fields).map(|target| Box::new(target) as Box<dyn Target>)
        }
        Self { name, about, read: read::<T>, describe: T::describe }
    }

    /// The type's own keys.
    pub fn keys(&self) -> Vec<KeyDescription> {
        let mut keys = Vec::new();
        (self.describe)(&mut keys);
        keys
    }
}

/// Every target type. The relay file, the command, the README's table and the tests go by it.
pub static TYPES: &[TargetType] = &[
    TargetType::new::<flux::Flux>("flux", "a Receiver of Flux's notification-controller"),
    TargetType::new::<argocd::Argocd>("argocd", "Argo CD's webhook: pushes, and images in ghcr.io"),
    TargetType::new::<image_updater::ImageUpdater>("image-updater", "Argo CD Image Updater's webhook server"),
    TargetType::new::<kargo::Kargo>("kargo", "a webhook receiver of Kargo, of its type github"),
    TargetType::new::<keel::Keel>("keel", "Keel's native webhook"),
    TargetType::new::<argo_events::ArgoEvents>("argo-events", "a webhook EventSource of Argo Events"),
    TargetType::new::<tekton::Tekton>("tekton", "a Tekton EventListener with the GitHub interceptor"),
    TargetType::new::<jenkins::Jenkins>("jenkins", "Jenkins with the Generic Webhook Trigger plugin"),
    TargetType::new::<github_dispatch::GithubDispatch>("github-dispatch", "workflows of a repository at GitHub"),
    TargetType::new::<gitlab_trigger::GitlabTrigger>("gitlab-trigger", "a pipeline of a project at GitLab"),
    TargetType::new::<http::Http>("http", "any HTTP endpoint"),
    TargetType::new::<slack::Slack>("slack", "a channel of Slack, by an incoming webhook or a bot's token"),
    TargetType::new::<pagerduty::Pagerduty>("pagerduty", "alerts of a service at PagerDuty, triggered and resolved"),
    TargetType::new::<opsgenie::Opsgenie>("opsgenie", "alerts at Opsgenie, created and closed"),
    TargetType::new::<opsgenie::Opsgenie>("jsm", "alerts of Jira Service Management, created and closed"),
    TargetType::new::<telegram::Telegram>("telegram", "a chat of Telegram, by a bot's token"),
];

/// Words of a URL from this length on, in bytes, are taken for credentials.
const LONG_WORD: usize = 16;
/// The shortest credential that is looked for in an answer, in bytes.
const SHORTEST_CREDENTIAL: usize = 6;

/// A request to send. Its URL may be a secret in itself, so that `Debug` shows only method and host.
#[derive(Clone)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// The whole URL, byte for byte.
    pub url: String,
    /// The headers; one that carries a credential is marked sensitive.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Outbound {
    /// A POST of `body`.
    pub fn post(url: String, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(::http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { method: Method::POST, url, headers, body: body.into() }
    }

    /// Sets a header to a text that is no secret. A text that no header can carry is an error.
    pub fn header(&mut self, name: &'static str, value: &str) -> Result<(), RenderError> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            RenderError::Unfit(format!("the value for the header {name} has characters that no header can carry"))
        })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }

    /// Sets a header to a credential, marked so that nothing prints it.
    pub fn credential(&mut self, name: HeaderName, value: &[u8]) -> Result<(), RenderError> {
        let mut value = HeaderValue::from_bytes(value).map_err(|_| {
            RenderError::UnusableSecret(format!(
                "the secret for the header {name} has characters that no header can carry (a trailing newline?)"
            ))
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }
}

impl Outbound {
    /// What of this request may be a credential: headers that are marked as one, and long words in path and query.
    pub fn credentials(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            let bytes = value.as_bytes();
            found.push(bytes.to_vec());
            found.extend(bytes.split(|byte| *byte == b' ').skip(1).map(<[u8]>::to_vec));
        }
        let place = self.url.splitn(4, '/').nth(3).unwrap_or_default();
        let words = place.split(['/', '?', '&', '=']).filter(|word| word.len() >= LONG_WORD);
        found.extend(words.map(|word| word.as_bytes().to_vec()));
        found
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = url::Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        write!(f, "{} {} ({} bytes)", self.method, host.as_deref().unwrap_or("?"), self.body.len())
    }
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, up to the reading limit.
    pub body: Bytes,
}

impl Response {
    /// Puts `***` in place of each of these in the body; of those that are so short that they may stand in any text, none.
    pub fn mask<'s>(&mut self, credentials: impl Iterator<Item = &'s [u8]>) {
        let mut credentials: Vec<_> = credentials.filter(|one| one.len() >= SHORTEST_CREDENTIAL).collect();
        // One may be a part of another.
        credentials.sort_by_key(|one| std::cmp::Reverse(one.len()));
        for credential in credentials {
            let at = |body: &[u8]| body.windows(credential.len()).position(|window| window == credential);
            let mut rest = &self.body[..];
            let mut masked = Vec::new();
            while let Some(found) = at(rest) {
                masked.extend_from_slice(&rest[..found]);
                masked.extend_from_slice(b"***");
                rest = &rest[found + credential.len()..];
            }
            if !masked.is_empty() {
                masked.extend_from_slice(rest);
                self.body = masked.into();
            }
        }
    }
}

/// Why no request can be made of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A secret that the target needs is not there (yet): worth another try.
    #[error("the secret {0} could not be had")]
    NoSecret(SecretRef),
    /// A secret of the target is there, but cannot be used as it is: worth another try, as it will be mended. Says what
    /// is wrong with it, without repeating it.
    #[error("{0}")]
    UnusableSecret(String),
    /// This delivery can never be rendered for this target; says why.
    #[error("{0}")]
    Unfit(String),
}

/// A type of target: pure functions over what is in memory.
pub trait Target: Debug + Send + Sync {
    /// What kind of service it is.
    fn class(&self) -> Class;

    /// Why the target has no use for any event of this kind (`image_push`, `git`, `alert`), if it has none.
    fn refuses(&self, _kind: &str) -> Option<String> {
        None
    }

    /// Whether the target has any use for `event`, which came by `original`; the error completes «not told: …». Asked
    /// before anything is queued.
    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        self.refuses(event.kind()).map_or(Ok(()), Err)
    }

    /// Whether the request is rendered from the sender's own one.
    fn needs_original(&self, event: &Event) -> bool;

    /// Makes the request; after it, what is to be tried instead, in this order, where [`tries_next`](Self::tries_next)
    /// says so of an answer.
    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError>;

    /// Whether after this answer the next of several renderings is worth a try.
    fn tries_next(&self, _response: &Response) -> bool {
        false
    }

    /// Judges the answer.
    fn classify(&self, response: &Response, now: Timestamp) -> Outcome;

    /// Whether `response` may mean that the target's secret has changed: then it is read anew once before the
    /// delivery is judged.
    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403)
    }

    /// The target as a service that people read, if it is one.
    fn as_draw(&self) -> Option<&dyn chat::Draw> {
        None
    }

    /// The target as a Flux Receiver, if it is one.
    fn as_flux(&self) -> Option<&flux::Flux> {
        None
    }

    /// Shows every secret reference among its keys to `seen`.
    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef));
}

/// The longest excerpt of an answer's body that goes into a reason, in characters.
const EXCERPT: usize = 200;

/// What an answer's body says, shortened and on one line, for a reason; empty where it says nothing.
pub fn excerpt(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body);
    let line: String =
        text.chars().map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c }).take(EXCERPT * 4).collect();
    let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(EXCERPT).collect()
}

/// The outcome that a status has where the target's type knows nothing better.
pub fn classify_by_status(response: &Response, now: Timestamp) -> Outcome {
    let said = match excerpt(response) {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    };
    let status = response.status;
    let reason = |what: &str| format!("{status}: {what}{said}");
    match status {
        202 => Outcome::Accepted,
        200..=299 => Outcome::Delivered,
        300..=399 => Outcome::Rejected { reason: reason("redirects are not followed; use the URL it leads to") },
        401 | 403 => Outcome::Retry { blame: Blame::Setup, reason: reason("the target refuses our credential") },
        404 => Outcome::Retry { blame: Blame::Setup, reason: reason("there is nothing at this URL") },
        408 | 425 => Outcome::Retry { blame: Blame::Target, reason: reason("the target wants it later") },
        429 | 503 => match retry_after(&response.headers, now) {
            Some(wait) => Outcome::RetryAfter { wait, reason: reason("the target asks for a pause") },
            None => Outcome::Retry { blame: Blame::Target, reason: reason("the target asks for a pause") },
        },
        410 => Outcome::Retry { blame: Blame::Setup, reason: reason("this endpoint is gone for good") },
        400..=499 => Outcome::Rejected { reason: reason("the target refuses this request") },
        502 | 504 => {
            Outcome::Retry { blame: Blame::Target, reason: reason("what stands before the target cannot reach it") }
        }
        _ => Outcome::Retry { blame: Blame::Event, reason: reason("the target failed") },
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<std::time::Duration> {
    let value = headers.get(::http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return std::time::Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
    Some(date.duration_since(now).try_into().unwrap_or_default())
}
