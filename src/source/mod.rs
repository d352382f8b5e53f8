//! Sources: who tells us. One file per type, and one list of them.
//!
//! A source is *authenticate* and *parse* over a request that is already in memory and secrets that are already
//! resolved. Parsing takes nothing but an [`Authentic`] request, and only the checks in [`auth`] make one.

pub mod acr;
pub mod alarm;
pub mod alert;
pub mod alertmanager;
pub mod aliyun_acr;
pub mod amazon;
pub mod argocd;
pub mod artifactory;
pub mod auth;
pub mod aws;
pub mod azure_devops;
pub mod bitbucket;
pub mod buildkite;
pub mod cdevents;
pub mod cloud_event;
pub mod cloudevents;
pub mod cloudsmith;
pub mod cloudwatch;
pub mod codecommit;
pub mod distribution;
pub mod dockerhub;
pub mod ecr;
mod elsewhere;
pub mod fields;
pub mod flux;
pub mod gcr;
pub mod generic;
pub mod ghcr;
pub mod git;
pub mod gitea;
pub mod github;
pub mod github_alert;
pub mod github_hook;
pub mod gitlab;
pub mod grafana;
pub mod harbor;
pub mod json;
pub mod jwt;
pub mod kubernetes;
pub mod nexus;
pub mod notification;
pub mod oci;
pub mod quay;
pub mod severity;
pub mod sns;
pub mod standard_webhooks;
pub mod zot;

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;

use crate::domain::event::{Detail, Original};
use crate::domain::name::Name;
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::relay::format::{At, Fields, KeyDescription, Keys, Problems};
use auth::{AuthError, Authentic, Proof};
use aws::{AccountId, TopicArn};
use elsewhere::Elsewhere;

/// Which function a source belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// Git-host events in.
    GitWebhook,
    /// Registry pushes in.
    RegistryPush,
    /// Alerts in.
    AlertIntake,
}

/// A row in the list of source types.
#[derive(Debug)]
pub struct SourceType {
    /// The type's name in the relay file, and of its folder in `events/`.
    pub name: &'static str,
    /// The function that takes its requests, unless an entry says otherwise ([`Source::function`]).
    pub function: Function,
    /// How its sender proves who it is, in a few words for the README's table.
    pub authenticates_by: &'static str,
    /// Reads the type's own keys.
    pub read: fn(&mut Fields<'_, '_>) -> Option<Box<dyn Source>>,
    describe: fn(&mut Vec<KeyDescription>),
    is_anywhere: bool,
}

impl SourceType {
    const fn new<S: Source + 'static>(name: &'static str, function: Function, authenticates_by: &'static str) -> Self {
        Self { name, function, authenticates_by, read: read::<S>, describe: S::describe, is_anywhere: false }
    }

    /// One whose entries may belong to another function than `function`.
    const fn anywhere(mut self) -> Self {
        self.is_anywhere = true;
        self
    }

    /// The same for the binary of one function. Descriptions are for people.
    const fn within<S: Source + 'static>(mut self, function: Function) -> Self {
        if !self.is_anywhere && self.function as u8 != function as u8 {
            self.read = read::<Elsewhere<S>>;
        }
        self.describe = |_| {};
        self
    }

    /// The type's own keys; none in the lists of single functions.
    pub fn keys(&self) -> Vec<KeyDescription> {
        let mut keys = Vec::new();
        (self.describe)(&mut keys);
        keys
    }
}

fn read<S: Source + 'static>(fields: &mut Fields<'_, '_>) -> Option<Box<dyn Source>> {
    S::take(fields).map(|source| Box::new(source) as Box<dyn Source>)
}

macro_rules! types {
    ($(new::<$of:ty>($name:literal, $function:expr, $by:literal) $($anywhere:ident)?,)*) => {
        /// Every source type. The relay file, the functions, the command, the README's table and the tests go by it.
        pub static TYPES: &[SourceType] = &[$(SourceType::new::<$of>($name, $function, $by)),*];

        /// The same types with no more of those of other functions than their keys, for each function.
        pub(crate) static GIT_WEBHOOK: &[SourceType] =
            &[$(SourceType::new::<$of>($name, $function, $by)$(.$anywhere())?.within::<$of>(Function::GitWebhook)),*];
        pub(crate) static REGISTRY_PUSH: &[SourceType] =
            &[$(SourceType::new::<$of>($name, $function, $by)$(.$anywhere())?.within::<$of>(Function::RegistryPush)),*];
        pub(crate) static ALERT_INTAKE: &[SourceType] =
            &[$(SourceType::new::<$of>($name, $function, $by)$(.$anywhere())?.within::<$of>(Function::AlertIntake)),*];
    };
}

types! {
    new::<github::Github>("github", Function::GitWebhook, "HMAC-SHA256 over the body"),
    new::<ghcr::Ghcr>("ghcr", Function::RegistryPush, "HMAC-SHA256 over the body"),
    new::<gitea::Gitea>("gitea", Function::GitWebhook, "HMAC-SHA256 over the JSON"),
    new::<gitlab::Gitlab>("gitlab", Function::GitWebhook, "secret token, or Standard Webhooks signature"),
    new::<bitbucket::Bitbucket>("bitbucket", Function::GitWebhook, "HMAC-SHA256 over the body"),
    new::<azure_devops::AzureDevOps>(
        "azure-devops",
        Function::GitWebhook,
        "user name and password, or a header's value"
    ),
    new::<codecommit::CodeCommit>(
        "codecommit",
        Function::GitWebhook,
        "IAM; SNS's signature; a secret in a header from API destinations"
    ),
    new::<dockerhub::DockerHub>("dockerhub", Function::RegistryPush, "the URL's token"),
    new::<quay::Quay>("quay", Function::RegistryPush, "the URL's token"),
    new::<harbor::Harbor>("harbor", Function::RegistryPush, "a header's value"),
    new::<acr::Acr>("acr", Function::RegistryPush, "a header's value"),
    new::<distribution::Distribution>("distribution", Function::RegistryPush, "a header's value"),
    // GitLab itself tells nobody of pushes; the registry beneath it is a fork of Distribution.
    new::<distribution::Distribution>("gitlab-registry", Function::RegistryPush, "a header's value"),
    new::<gcr::Gcr>("gcr", Function::RegistryPush, "a token that Google signs (OpenID Connect)"),
    new::<ecr::Ecr>("ecr", Function::RegistryPush, "IAM; SNS's signature; a secret in a header from API destinations"),
    new::<artifactory::Artifactory>(
        "artifactory",
        Function::RegistryPush,
        "HMAC-SHA256 over the body, or a header's value"
    ),
    new::<nexus::Nexus>("nexus", Function::RegistryPush, "HMAC-SHA1 over the body"),
    new::<zot::Zot>("zot", Function::RegistryPush, "user name and password, or a header's value"),
    new::<aliyun_acr::AliyunAcr>("aliyun-acr", Function::RegistryPush, "the URL's token"),
    new::<cloudsmith::Cloudsmith>("cloudsmith", Function::RegistryPush, "HMAC-SHA1 over the body, or a header's value"),
    new::<buildkite::Buildkite>(
        "buildkite",
        Function::RegistryPush,
        "HMAC-SHA256 over time and body, or a header's value"
    ),
    new::<cdevents::CdEvents>("cdevents", Function::RegistryPush, "a header's value"),
    new::<flux::Flux>("flux", Function::AlertIntake, "HMAC-SHA256 over the body"),
    new::<cloudwatch::CloudWatch>(
        "cloudwatch",
        Function::AlertIntake,
        "IAM; SNS's signature; a secret in a header from API destinations"
    ),
    new::<amazon::Amazon>(
        "aws",
        Function::AlertIntake,
        "IAM; SNS's signature; a secret in a header from API destinations"
    ),
    new::<alertmanager::Alertmanager>("alertmanager", Function::AlertIntake, "a header's value"),
    new::<grafana::Grafana>(
        "grafana",
        Function::AlertIntake,
        "a header's value, or HMAC-SHA256 over the body or time and body"
    ),
    new::<kubernetes::Kubernetes>("kubernetes", Function::AlertIntake, "a header's value"),
    new::<argocd::ArgoCd>("argocd", Function::AlertIntake, "a header's value"),
    // Of these three the entry's `emits` decides the function: they are in all of them.
    new::<cloudevents::CloudEvents>("cloudevents", Function::RegistryPush, "a secret in a header") anywhere,
    new::<standard_webhooks::StandardWebhooks>(
        "standard-webhooks",
        Function::RegistryPush,
        "HMAC-SHA256 over id, time and body"
    ) anywhere,
    new::<generic::Generic>("generic", Function::RegistryPush, "a secret in a header, or HMAC over the body") anywhere,
}

/// How a request reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over HTTP.
    Http,
    /// By an invocation of the function (EventBridge, SNS): IAM has authenticated whoever made it.
    Invocation,
}

/// [`Invocation::source`] of what comes by SNS.
pub const SNS: &str = "aws:sns";

/// What is known of an event without HTTP, to find the source that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// EventBridge's `source`, such as `aws.ecr`; [`SNS`] for SNS.
    pub source: String,
    /// EventBridge's `detail-type`.
    pub detail_type: Option<String>,
    /// The AWS account that it happened in.
    pub account: Option<String>,
    /// The region that it happened in.
    pub region: Option<String>,
    /// ARN of the SNS topic.
    pub topic: Option<String>,
}

/// Which events without HTTP a source takes. What is left out is any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim<'a> {
    /// The values of [`Invocation::source`].
    pub sources: Option<&'a [&'a str]>,
    /// The accounts.
    pub accounts: Option<&'a [AccountId]>,
    /// The regions.
    pub regions: Option<&'a [String]>,
    /// The SNS topics; events that came by none are not concerned.
    pub topics: Option<&'a [TopicArn]>,
}

impl Claim<'_> {
    /// Whether the source takes this event.
    pub fn covers(&self, invocation: &Invocation) -> bool {
        fn among<T>(list: Option<&[T]>, value: Option<&str>, is: impl Fn(&T, &str) -> bool) -> bool {
            list.is_none_or(|list| value.is_some_and(|value| list.iter().any(|one| is(one, value))))
        }
        among(self.sources, Some(&invocation.source), |one, value| *one == value)
            && among(self.accounts, invocation.account.as_deref(), |one, value| one.0 == value)
            && among(self.regions, invocation.region.as_deref(), |one, value| one == value)
            && (invocation.topic.is_none()
                || among(self.topics, invocation.topic.as_deref(), |one, value| one.as_str() == value))
    }

    /// Whether there could be an event that both sources take.
    pub fn overlaps(&self, other: &Claim<'_>) -> bool {
        fn meet<T: PartialEq>(one: Option<&[T]>, other: Option<&[T]>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => one.iter().any(|value| other.contains(value)),
                _ => true,
            }
        }
        // Who names the sources goes before who takes any. Messages of SNS say no more than their topic: without topics,
        // who names SNS would take those, too, that it has no use for.
        let goes_before = |one: &Claim<'_>, other: &Claim<'_>| {
            let named = one.sources.filter(|_| other.sources.is_none());
            named.is_some_and(|sources| one.topics.is_some() || !sources.contains(&SNS))
        };
        if goes_before(self, other) || goes_before(other, self) {
            return false;
        }
        let takes = |claim: &Claim<'_>, source: &str| claim.sources.is_none_or(|sources| sources.contains(&source));
        let both = |source: &str| takes(self, source) && takes(other, source);
        let named = [self.sources, other.sources];
        let mut named = named.iter().copied().flatten().flatten().filter(|source| both(source)).peekable();
        let unlimited = self.sources.is_none() && other.sources.is_none();
        // Topics keep apart only what comes by topics.
        let by_topic_only = !unlimited && named.peek().is_some() && named.clone().all(|source| *source == SNS);
        (unlimited || named.peek().is_some())
            && (!by_topic_only || meet(self.topics, other.topics))
            && meet(self.accounts, other.accounts)
            && meet(self.regions, other.regions)
    }
}

/// A request, completely in memory. An event without HTTP is one, too: its body is the event's JSON.
#[derive(Debug, Clone)]
pub struct Request {
    /// How it reached us.
    pub via: Via,
    /// The name of the source in the path.
    pub source: Name,
    /// What follows the source's name in the path: the URL token of senders that cannot sign.
    pub token: Option<String>,
    /// The method.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The address that the front door saw; never one out of a header.
    pub address: Option<IpAddr>,
}

impl Request {
    /// The text of a header that is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// The media type of the body, in lower case and without its parameters.
    pub fn media_type(&self) -> Option<String> {
        let (essence, _) = self.header("content-type")?.split_once(';').unwrap_or((self.header("content-type")?, ""));
        Some(essence.trim().to_ascii_lowercase())
    }
}

/// What came out of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The sender's id for this request, if it gives one; redeliveries repeat it.
    pub delivery_id: Option<String>,
    /// What the request says, in a few words: `push refs/heads/main`.
    pub summary: String,
    /// The events in it, in their order.
    pub events: Vec<Found>,
    /// Signs that all is well, each an alert that is over. They are events only where that alert is known to fire, which
    /// is kept for sources that [have](Source::has_heartbeats) heartbeats.
    pub heartbeats: Vec<Found>,
    /// Why there is no event, or what was left out.
    pub ignored: Option<String>,
    /// The sender's own request, for targets that get it passed through.
    pub original: Option<Original>,
    /// What a handshake is answered with, instead of our own words.
    pub reply: Option<serde_json::Value>,
    /// The subscription that is to be confirmed before there is an answer.
    pub confirm: Option<Confirmation>,
}

/// A subscription of ours to an SNS topic, which SNS asks us to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The topic, which the relay file names.
    pub topic: TopicArn,
    /// What SNS wants back. Whoever has it can confirm, too.
    pub token: Secret,
}

impl Parsed {
    /// An authentic request that is of no use; `why` completes «ignored: …».
    pub fn ignored(summary: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            delivery_id: None,
            summary: summary.into(),
            events: Vec::new(),
            heartbeats: Vec::new(),
            ignored: Some(why.into()),
            original: None,
            reply: None,
            confirm: None,
        }
    }

    /// An authentic request with these events in it.
    pub fn events(summary: impl Into<String>, events: Vec<Found>) -> Self {
        Self { events, ignored: None, ..Self::ignored(summary, "") }
    }
}

/// One event in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Tells this event from all others of its source, and is the same when it is delivered again. `None` where
    /// two real events could look the same: then each request is an event of its own.
    pub identity: Option<String>,
    /// What happened.
    pub detail: Detail,
    /// When, as the sender says.
    pub time: Option<Timestamp>,
}

/// Why an authentic request cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The body is not what this type of sender sends; the sentence names the place in it, never its content.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// The content type is none that this type of sender uses.
    #[error("{0}")]
    UnsupportedMediaType(Cow<'static, str>),
}

/// A type of source: pure functions over what is in memory.
pub trait Source: Keys + Debug + Send + Sync {
    /// Checks that the request comes from somebody who knows the secret.
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError>;

    /// The certificate that the request names for its own verification (SNS), if its URL is one that only the sender's
    /// platform controls. `None`: the source's own secrets are used.
    fn named_by(&self, _request: &Request) -> Option<SecretRef> {
        None
    }

    /// Finds the events in a request.
    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError>;

    /// Adds to `request` what its sender would to prove who it is: for samples that are sent by hand, and for tests.
    /// The error says what is missing.
    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String>;

    /// The function that takes its requests, where its own keys decide that and not its type.
    fn function(&self) -> Option<Function> {
        None
    }

    /// Notes what is wrong with its keys in combination; `at` is the place of the entry.
    fn check(&self, _at: &At, _problems: &mut Problems) {}

    /// The events without HTTP that are for this source, by its type and its own keys.
    fn claim(&self) -> Option<Claim<'_>> {
        None
    }

    /// Whether its sender asks before it sends: with `OPTIONS` and `WebHook-Request-Origin`, as «HTTP 1.1 Web Hooks
    /// for Event Delivery» of CloudEvents has it (section 4).
    fn shakes_hands(&self) -> bool {
        false
    }

    /// The secret from which the URL token is made, for types whose senders cannot sign.
    fn url_secret(&self) -> Option<&SecretRef> {
        None
    }

    /// The kinds of event that it has besides those of its function.
    fn other_kinds(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether its sender says that all is well by [heartbeats](Parsed::heartbeats) only.
    fn has_heartbeats(&self) -> bool {
        false
    }
}

/// A source that is authenticated by a scheme which several types share. It implements [`parse`](Self::parse); that makes
/// it a [`Source`].
pub trait Proven: Keys + Debug + Send + Sync {
    /// The keys.
    fn proof(&self) -> &dyn Proof;

    /// As [`Source::parse`].
    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError>;

    /// As [`Source::shakes_hands`].
    fn shakes_hands(&self) -> bool {
        false
    }
}

impl<P: Proven> Source for P {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.proof().authenticate(request, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        Proven::parse(self, request)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        self.proof().sign(request, secrets)
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.proof().check(at, problems);
    }

    fn shakes_hands(&self) -> bool {
        Proven::shakes_hands(self)
    }

    fn url_secret(&self) -> Option<&SecretRef> {
        self.proof().url_secret()
    }
}
