//! The ports: what the relay needs of the world, in the words of the design. Each has an implementation on AWS
//! and one on the local machine, at the rim.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::egress;
use crate::domain::secret::{Secret, SecretRef};
use crate::source::Confirmation;
use crate::target::{Outbound, Response};

/// Something that we depend on did not do what it should; `message` never holds a secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {message}")]
pub struct Unavailable {
    /// What it was: `queue`, `state`, `secret store`.
    pub what: &'static str,
    /// What it said.
    pub message: String,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// A message to put on a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Messages of one group are handed out in the order in which they were sent, one batch at a time.
    pub group: String,
    /// A second message with this id within five minutes is taken and forgotten.
    pub deduplication_id: String,
    /// At most the queue's limit.
    pub body: String,
}

/// A message that was handed out. It stays hidden, and its group with it, until it is deleted, held or its
/// visibility times out.
#[derive(Debug, Clone)]
pub struct Received {
    /// Names this message in logs.
    pub message_id: String,
    /// Names this handing out; needed to delete or hold it.
    pub receipt: String,
    /// Its group.
    pub group: String,
    /// How many times it was handed out, this time included.
    pub receives: u32,
    /// Its body.
    pub body: String,
}

/// The sending half of a durable FIFO queue; apart, so that a binary which only sends does not link the receiving half.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The largest body that [`send`](Self::send) takes, in bytes.
    fn limit(&self) -> usize;

    /// Stores all of `messages`, in their order. On an error some may be stored; sending all of them again does
    /// not store those twice.
    async fn send(&self, messages: &[Message]) -> Result<(), Unavailable>;
}

/// A durable FIFO queue: order per group, at least once.
#[async_trait]
pub trait Queue: Outbox {
    /// Hands out up to `max` (1 to 10) messages, waiting up to `wait` for the first.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Unavailable>;

    /// Deletes a message that was handed out.
    async fn delete(&self, message: &Received) -> Result<(), Unavailable>;

    /// Hides messages that were handed out for `wait` (at most 12 hours) from now; zero hands them out again at
    /// once.
    async fn hold(&self, messages: &[Received], wait: Duration) -> Result<(), Unavailable>;
}

/// A place for one [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Begins `target#NAME`, `source#NAME`, `due#` or `push#`: rights are given by this prefix.
    pub pk: String,
    /// Sorts the records of one `pk`.
    pub sk: String,
}

/// What is kept under a [`Key`].
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Any JSON.
    pub value: Value,
    /// When it is forgotten; an expired record is never returned.
    pub expires: Timestamp,
}

/// State that outlives an invocation.
#[async_trait]
pub trait State: Send + Sync {
    /// What is kept under `key`.
    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable>;

    /// Keeps `record` under `key`, whatever was there.
    async fn put(&self, key: &Key, record: Record) -> Result<(), Unavailable>;

    /// Keeps `record` under `key` if nothing is there that has not expired; `false` if something is.
    async fn create(&self, key: &Key, record: Record) -> Result<bool, Unavailable>;

    /// Forgets what is kept under `key`.
    async fn delete(&self, key: &Key) -> Result<(), Unavailable>;

    /// Everything under one `pk` that has not expired, sorted by `sk`.
    async fn list(&self, pk: &str) -> Result<Vec<(Key, Record)>, Unavailable>;
}

/// A value out of a secret store.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The whole stored value, before a JSON key is looked up in it.
    pub value: Secret,
    /// The store's name for this version.
    pub version: String,
    /// When this version was made, where the store knows.
    pub made: Option<Timestamp>,
}

/// Why a secret, or something else that is kept, could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no such thing (or no such version of it).
    #[error("not found")]
    NotFound,
    /// We may not read it; the store's words, which never hold a value.
    #[error("access denied: {0}")]
    Denied(String),
    /// What is stored cannot be used: binary where text is needed, not JSON where a key is asked for.
    #[error("{0}")]
    Unusable(String),
    /// Time-outs, throttling, 5xx: another time it may work.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Where secrets are kept.
#[async_trait]
pub trait SecretBackend: Send + Sync {
    /// The current values, in the order of `references`, in as few calls as the store allows.
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>>;

    /// The value before `current`, if there is one.
    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError>;
}

/// Confirms subscriptions to SNS topics.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// Tells SNS that we want what it asks about. No error holds the token.
    async fn confirm(&self, confirmation: &Confirmation) -> Result<(), Unavailable>;
}

/// How a target is connected to.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// What may be connected to.
    pub egress: egress::Rules,
    /// Whether what is not encrypted may go to public addresses.
    pub plaintext: bool,
    /// Certificates (PEM) of the authorities that are trusted, instead of the machine's own.
    pub ca: Option<Secret>,
    /// What we show who we are by: certificates and their private key (PEM), in any order.
    pub client_certificate: Option<Secret>,
    /// URL of the HTTP proxy that is gone through, with credentials if it wants any.
    pub proxy: Option<Secret>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The egress rules forbid it; begins with `egress`.
    #[error("{0}")]
    Egress(String),
    /// What the target is configured with cannot be used: a certificate that is none, a proxy that is no URL.
    #[error("{0}")]
    Unusable(String),
    /// Nothing of the request left: no name, no connection, or none in time.
    #[error("no connection: {0}")]
    Connect(String),
    /// One side does not trust the other, or they do not speak the same TLS.
    #[error("no connection: TLS: {0}")]
    Tls(String),
    /// The request left, and no answer came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request left, and the connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Sends requests. Redirects are not followed; bodies of answers are read up to a limit.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Sends one request and waits up to `timeout` for the answer. No error holds the URL or a header.
    async fn send(&self, request: Outbound, connection: &Connection, timeout: Duration) -> Result<Response, SendError>;
}

/// What was seen of a target without asking it for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialled {
    /// Whether TLS protects the connection.
    pub encrypted: bool,
    /// When its certificate ends, or one that vouches for it, where that is soon.
    pub ends: Option<Timestamp>,
}

/// Connects to targets and hangs up: nothing is asked for.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Does what sending `request` begins with: it is signed where it has to be, the name is resolved, the egress rules
    /// are asked, TCP and TLS connect; of a target behind a proxy, only the proxy is connected to. `soon` is how far ahead
    /// the ends of certificates are told. No error holds the URL.
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        timeout: Duration,
        soon: Duration,
    ) -> Result<Dialled, SendError>;
}

/// Counts and measures what happens, for dashboards and alarms.
pub trait Meter: Send + Sync {
    /// Adds `value` (in `unit`) to the metric `name` of one source or target.
    fn record(&self, name: &'static str, of: Of<'_>, value: f64, unit: Unit);
}

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of<'a> {
    /// A source.
    Source(&'a str),
    /// A target.
    Target(&'a str),
}

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Thousandths of a second.
    Milliseconds,
}
