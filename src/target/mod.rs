//! Targets: whom we tell. One file per type, and one list of them.
//!
//! A target is *render* (delivery → request, by HTTP but for NATS) and *classify* (answer → outcome). Connecting, sending and
//! retrying exist once, elsewhere.

pub mod alertmanager;
pub mod amazonq;
pub mod argo_events;
pub mod argocd;
pub mod aws;
pub mod chat;
pub mod code_host;
pub mod comment;
pub mod commit_status;
pub mod datadog;
pub mod dingtalk;
pub mod discord;
pub mod email;
pub mod eventbridge;
pub mod flux;
pub mod gitea;
pub mod github;
pub mod github_dispatch;
pub mod gitlab;
pub mod gitlab_trigger;
pub mod googlechat;
pub mod googlepubsub;
pub mod grafana;
pub mod grafana_irm;
pub mod http;
pub mod image_updater;
pub mod incidentio;
pub mod jenkins;
pub mod kargo;
pub mod keel;
pub mod lark;
pub mod markup;
pub mod matrix;
pub mod mattermost;
pub mod message;
pub mod nats;
pub mod ntfy;
pub mod opsgenie;
pub mod pagerduty;
pub mod pause;
pub mod poke;
pub mod pushover;
pub mod rocketchat;
pub mod sentry;
pub mod slack;
pub mod sns;
pub mod splunk_oncall;
pub mod teams;
pub mod tekton;
pub mod telegram;
pub mod template;
pub mod text;
mod wanted;
pub mod webex;
pub mod wecom;
pub mod zoom;
pub mod zulip;

use std::fmt::{self, Debug};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::Value;

use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};
use wanted::Wanted;

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
    const fn new<T: Target + 'static>(name: &'static str, about: &'static str) -> Self {
        fn read<T: Target + 'static>(fields: &mut Fields<'_, '_>) -> Option<Box<dyn Target>> {
            T::take(fields).map(|target| Box::new(target) as Box<dyn Target>)
        }
        Self { name, about, read: read::<T>, describe: T::describe }
    }

    /// The type's own keys; none in the list for intake functions.
    pub fn keys(&self) -> Vec<KeyDescription> {
        let mut keys = Vec::new();
        (self.describe)(&mut keys);
        keys
    }
}

macro_rules! types {
    ($(new::<$of:ty>($name:literal, $about:literal),)*) => {
        /// Every target type. The relay file, the command, the README's table and the tests go by it.
        pub static TYPES: &[TargetType] = &[$(TargetType::new::<$of>($name, $about)),*];

        /// The same types for who asks them what they want and nothing else.
        pub(crate) static WANTED: &[TargetType] = &[$(TargetType::new::<Wanted<$of>>($name, $about)),*];
    };
}

types! {
    new::<flux::Flux>("flux", "a Receiver of Flux's notification-controller"),
    new::<argocd::Argocd>("argocd", "Argo CD's webhook: pushes, and images in ghcr.io"),
    new::<image_updater::ImageUpdater>("image-updater", "Argo CD Image Updater's webhook server"),
    new::<kargo::Kargo>("kargo", "a webhook receiver of Kargo, of its type github"),
    new::<keel::Keel>("keel", "Keel's native webhook"),
    new::<argo_events::ArgoEvents>("argo-events", "a webhook EventSource of Argo Events"),
    new::<tekton::Tekton>("tekton", "a Tekton EventListener with the GitHub interceptor"),
    new::<jenkins::Jenkins>("jenkins", "Jenkins with the Generic Webhook Trigger plugin"),
    new::<github_dispatch::GithubDispatch>("github-dispatch", "workflows of a repository at GitHub"),
    new::<gitlab_trigger::GitlabTrigger>("gitlab-trigger", "a pipeline of a project at GitLab"),
    new::<http::Http>("http", "any HTTP endpoint"),
    new::<slack::Slack>("slack", "a channel of Slack, by an incoming webhook or a bot's token"),
    new::<pagerduty::Pagerduty>("pagerduty", "alerts of a service at PagerDuty, triggered and resolved"),
    new::<opsgenie::Opsgenie>("opsgenie", "alerts at Opsgenie, created and closed"),
    new::<opsgenie::Opsgenie>("jsm", "alerts of Jira Service Management, created and closed"),
    new::<telegram::Telegram>("telegram", "a chat of Telegram, by a bot's token"),
    new::<discord::Discord>("discord", "a channel of Discord, by a webhook"),
    new::<teams::Teams>("teams", "a channel or chat of Microsoft Teams, by a flow of Workflows"),
    new::<googlechat::GoogleChat>("googlechat", "a space of Google Chat, by an incoming webhook"),
    new::<mattermost::Mattermost>("mattermost", "a channel of Mattermost, by an incoming webhook"),
    new::<matrix::Matrix>("matrix", "a room of Matrix, by a bot's access token"),
    new::<alertmanager::Alertmanager>("alertmanager", "Alertmanager, by its API: what is told becomes its own alert"),
    new::<sns::Sns>("sns", "a topic of Amazon SNS, standard or FIFO"),
    new::<amazonq::Amazonq>("amazonq", "channels of Slack or Teams, by Amazon Q Developer in chat applications"),
    new::<email::Email>("email", "mailboxes, by Amazon SES"),
    new::<eventbridge::Eventbridge>("eventbridge", "an event bus of Amazon EventBridge"),
    new::<commit_status::CommitStatus<github::Github>>("github-status", "statuses of commits at GitHub"),
    new::<comment::Comment<github::Github>>("github-comment", "comments on pull requests at GitHub"),
    new::<commit_status::CommitStatus<gitlab::Gitlab>>("gitlab-status", "statuses of commits at GitLab"),
    new::<comment::Comment<gitlab::Gitlab>>("gitlab-comment", "comments on merge requests at GitLab"),
    new::<commit_status::CommitStatus<gitea::Gitea>>("gitea-status", "statuses of commits at Gitea or Forgejo"),
    new::<comment::Comment<gitea::Gitea>>("gitea-comment", "comments on pull requests at Gitea or Forgejo"),
    new::<googlepubsub::Googlepubsub>("googlepubsub", "a topic of Google Cloud Pub/Sub"),
    new::<nats::Nats>("nats", "a subject of NATS, by a server alone or a stream of JetStream"),
    new::<rocketchat::RocketChat>("rocketchat", "a channel of Rocket.Chat, by an incoming webhook"),
    new::<zulip::Zulip>("zulip", "a channel of Zulip, by a bot's key"),
    new::<webex::Webex>("webex", "a room of Webex, by a bot's token"),
    new::<lark::Lark>("lark", "a group of Lark or Feishu, by a custom bot's webhook"),
    new::<dingtalk::DingTalk>("dingtalk", "a group of DingTalk, by a custom robot's webhook"),
    new::<wecom::WeCom>("wecom", "a group of WeCom, by a group robot's webhook"),
    new::<zoom::Zoom>("zoom", "a channel or chat of Zoom, by the Incoming Webhook app"),
    new::<ntfy::Ntfy>("ntfy", "a topic of ntfy"),
    new::<pushover::Pushover>("pushover", "a user's or a group's devices, by Pushover"),
    new::<incidentio::Incidentio>("incidentio", "alerts at incident.io, fired and resolved"),
    new::<grafana_irm::GrafanaIrm>("grafana-irm", "alerts of Grafana IRM, by a formatted webhook"),
    new::<grafana::Grafana>("grafana", "annotations on Grafana's dashboards"),
    new::<splunk_oncall::SplunkOncall>("splunk-oncall", "incidents at Splunk On-Call, opened and ended"),
    new::<datadog::Datadog>("datadog", "events at Datadog"),
    new::<sentry::Sentry>("sentry", "events of a project at Sentry"),
}

/// Words of a URL from this length on, in bytes, are taken for credentials.
const LONG_WORD: usize = 16;
/// The shortest credential that is looked for in an answer, in bytes.
const SHORTEST_CREDENTIAL: usize = 6;

/// A request to send. Its URL may be a secret in itself, so that `Debug` shows only method and host.
#[derive(Clone)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// The whole URL, byte for byte; of a request to a service of AWS the path alone: where that is, those who sign it
    /// know.
    pub url: String,
    /// The headers; one that carries a credential is marked sensitive.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The service of AWS that it is for: it is signed with the credentials of the process that sends it.
    pub aws: Option<aws::Service>,
    /// How a token for it is had, which is its credential.
    pub token: Option<Box<TokenRequest>>,
    /// What it is where it is no HTTP: a message for NATS, of which this request has the server's URL and the body.
    pub nats: Option<nats::Publication>,
    /// Whether the answer's body is what it is sent for, so that more is read of it: 1 MiB instead of 64 KiB.
    pub long_answer: bool,
}

/// A token that is asked for before a request that needs it, and serves further ones until it ends: the answer to a
/// signed statement of who we are (a JWT, RS256).
#[derive(Clone)]
pub struct TokenRequest {
    /// What asks for it, without the statement.
    pub request: Outbound,
    /// What is stated.
    pub claims: Value,
    /// The private key (PEM) that it is signed with.
    pub key: Secret,
    /// Where the statement goes.
    pub statement: Statement,
}

/// Where a statement goes in the request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Into the header `Authorization`, as a bearer token.
    Bearer,
    /// Into the body, as an assertion (RFC 7523, 2.1).
    Form,
}

impl Outbound {
    /// A request without headers and body.
    pub fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            aws: None,
            token: None,
            nats: None,
            long_answer: false,
        }
    }

    /// A POST of `body`.
    pub fn post(url: String, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new(Method::POST, url);
        request.set_body(content_type, body);
        request
    }

    /// A POST of a form.
    pub fn form<'p>(url: String, fields: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self::post(url, "application/x-www-form-urlencoded", body)
    }

    /// Sets the body, and the header that says what it is.
    pub fn set_body(&mut self, content_type: &'static str, body: impl Into<Bytes>) {
        self.headers.insert(::http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body.into();
    }

    /// The same with `body` as JSON.
    pub fn with_json(mut self, body: &Value) -> Self {
        self.set_body("application/json", body.to_string());
        self
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

    /// Adds `Authorization: Basic …` (RFC 7617).
    pub fn basic(&mut self, username: &str, password: &[u8]) -> Result<(), RenderError> {
        let pair = [username.as_bytes(), b":", password].concat();
        self.credential(::http::header::AUTHORIZATION, format!("Basic {}", BASE64.encode(&pair)).as_bytes())
    }

    /// Adds `Authorization: Bearer …` (RFC 6750).
    pub fn bearer(&mut self, token: &[u8]) -> Result<(), RenderError> {
        self.credential(::http::header::AUTHORIZATION, &[b"Bearer ", token].concat())
    }
}

impl Outbound {
    /// What of its headers is a credential: what is marked as one, whole and in its words.
    pub fn marked_credentials(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for value in self.headers.values().filter(|value| value.is_sensitive()) {
            let bytes = value.as_bytes();
            found.push(bytes.to_vec());
            found.extend(bytes.split(|byte| *byte == b' ').skip(1).map(<[u8]>::to_vec));
        }
        found
    }

    /// What of this request may be a credential: headers that are marked as one, and long words in path and query.
    pub fn credentials(&self) -> Vec<Vec<u8>> {
        let mut found = self.marked_credentials();
        let place = self.url.splitn(4, '/').nth(3).unwrap_or_default();
        let words = place.split(['/', '?', '&', '=']).filter(|word| word.len() >= LONG_WORD);
        found.extend(words.map(|word| word.as_bytes().to_vec()));
        found
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = url::Url::parse(&self.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.or_else(|| self.aws.as_ref().map(|service| service.id.to_owned()));
        write!(f, "{} {} ({} bytes)", self.method, host.as_deref().unwrap_or("?"), self.body.len())
    }
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status; of what is no HTTP, 0 where it has none.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, up to the reading limit.
    pub body: Bytes,
}

impl Response {
    /// Replaces each of these credentials in the body by `***`, except ones so short that they would match ordinary text.
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

/// A type of target: pure functions over what is in memory. A service that people read is a [`chat::Notifier`], which
/// makes it one.
pub trait Target: Keys + Debug + Send + Sync {
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

    /// Whether a delivery that is sent twice is as good as one: the service knows it again, or what it does for it does
    /// no harm twice. Else a delivery that was not answered is repeated as the target's `retry.unanswered` says.
    fn is_idempotent(&self) -> bool {
        self.class() == Class::InCluster
    }

    /// Whether it is reached by HTTP, so that an HTTP proxy can lead there.
    fn by_http(&self) -> bool {
        true
    }

    /// Whether the request is rendered from the sender's own one.
    fn needs_original(&self, _event: &Event) -> bool {
        false
    }

    /// Makes the request; after it, what is to be tried instead, in this order, where [`tries_next`](Self::tries_next)
    /// says so of an answer.
    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError>;

    /// The next request of a delivery in several steps (find a comment, then change it); its answer counts instead.
    /// `None`: `answer` is final.
    fn follow_up(
        &self,
        _delivery: &Delivery,
        _asked: &Outbound,
        _answer: &Response,
        _secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Option<Outbound>, RenderError> {
        Ok(None)
    }

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
        408 | 425 => not_now(response, Blame::Target, reason("the target wants it later"), now),
        429 | 503 => not_now(response, Blame::Target, reason("the target asks for a pause"), now),
        410 => Outcome::Retry { blame: Blame::Setup, reason: reason("this endpoint is gone for good") },
        400..=499 => Outcome::Rejected { reason: reason("the target refuses this request") },
        502 | 504 => not_now(response, Blame::Target, reason("what stands before the target cannot reach it"), now),
        _ => not_now(response, Blame::Event, reason("the target failed"), now),
    }
}

/// The outcome of what may pass by itself: after the wait that the answer asks for or, where it asks for none, at our own
/// pace, with `blame` for whose fault it is.
pub fn not_now(response: &Response, blame: Blame, reason: String, now: Timestamp) -> Outcome {
    match pause::asked(response, now) {
        Some(wait) => Outcome::RetryAfter { wait, reason },
        None => Outcome::Retry { blame, reason },
    }
}
