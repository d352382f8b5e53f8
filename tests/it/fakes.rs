//! Fakes at the ports.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;
use sluice::domain::secret::{Secret, SecretRef};
use sluice::port::*;
use sluice::relay::Relay;
use sluice::rim::yaml;
use sluice::secrets::{CACHE, SecretStore};
use sluice::source::Confirmation;
use sluice::target::{Outbound, Response};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds a lock")
}

/// A clock that stands still until it is moved.
pub struct FakeClock(Mutex<Timestamp>);

impl Default for FakeClock {
    fn default() -> Self {
        Self(Mutex::new("2026-08-20T12:00:00Z".parse().expect("time")))
    }
}

impl FakeClock {
    pub fn pass(&self, time: Duration) {
        let mut now = lock(&self.0);
        *now = now.checked_add(time).expect("time");
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }
}

/// Secrets by reference: the current value, then the one before it.
#[derive(Default)]
pub struct FakeSecrets {
    pub values: Mutex<BTreeMap<String, Vec<String>>>,
    pub failure: Mutex<Option<FetchError>>,
    /// Of calls for the value before the current one alone.
    pub failure_before: Mutex<Option<FetchError>>,
    pub fetches: AtomicUsize,
    pub fetches_before: AtomicUsize,
}

impl FakeSecrets {
    pub fn set(&self, reference: &str, values: &[&str]) {
        lock(&self.values).insert(reference.into(), values.iter().map(|value| (*value).to_owned()).collect());
    }

    pub fn fail(&self, error: Option<FetchError>) {
        *lock(&self.failure) = error;
    }

    fn nth(&self, reference: &SecretRef, index: usize) -> Result<Option<Fetched>, FetchError> {
        if let Some(error) = lock(&self.failure).clone() {
            return Err(error);
        }
        let values = lock(&self.values);
        let values = values.get(&reference.to_string()).ok_or(FetchError::NotFound)?;
        Ok(values.get(index).map(|value| Fetched {
            value: Secret::new(value.clone()),
            version: value.clone(),
            // As of what is published, of which nobody tells.
            made: reference.is_secret().then(|| FakeClock::default().now()),
        }))
    }
}

#[async_trait]
impl SecretBackend for FakeSecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        references.iter().map(|one| self.nth(one, 0).and_then(|found| found.ok_or(FetchError::NotFound))).collect()
    }

    async fn previous(&self, reference: &SecretRef, _: &Fetched) -> Result<Option<Fetched>, FetchError> {
        self.fetches_before.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = lock(&self.failure_before).clone() {
            return Err(error);
        }
        self.nth(reference, 1)
    }
}

/// For how long a queue knows a message again, as SQS does.
const DEDUPLICATION: Duration = Duration::from_secs(300);

/// A queue in memory: order per group, deduplication by the fake clock's time, holds are the test's.
pub struct FakeQueue {
    /// Whose time decides what is known again.
    pub clock: Arc<FakeClock>,
    pub limit: usize,
    pub sent: Mutex<Vec<Message>>,
    pub known: Mutex<BTreeMap<String, Timestamp>>,
    pub deleted: Mutex<Vec<String>>,
    pub held: Mutex<Vec<(Vec<String>, Duration)>>,
    pub down: Mutex<bool>,
    pub full: Mutex<bool>,
    /// How many deletions will yet fail.
    pub refused_deletions: Mutex<usize>,
    pub silent: Mutex<bool>,
}

impl Default for FakeQueue {
    fn default() -> Self {
        Self {
            clock: Arc::default(),
            limit: 262_144,
            sent: Mutex::default(),
            known: Mutex::default(),
            deleted: Mutex::default(),
            held: Mutex::default(),
            down: Mutex::default(),
            full: Mutex::default(),
            refused_deletions: Mutex::default(),
            silent: Mutex::default(),
        }
    }
}

impl FakeQueue {
    /// Whether nothing can be put on it, while all else works.
    pub fn refuse_sends(&self, full: bool) {
        *lock(&self.full) = full;
    }

    pub fn set_down(&self, down: bool) {
        *lock(&self.down) = down;
    }

    /// The next `count` deletions fail.
    pub fn refuse_deletions(&self, count: usize) {
        *lock(&self.refused_deletions) = count;
    }

    /// From now on, who wants to hold messages gets no answer.
    pub fn fall_silent(&self) {
        *lock(&self.silent) = true;
    }

    pub fn sent(&self) -> Vec<Message> {
        lock(&self.sent).clone()
    }

    pub fn deleted(&self) -> Vec<String> {
        lock(&self.deleted).clone()
    }

    /// The waits that were asked for, each with the messages that wait.
    pub fn held(&self) -> Vec<(Vec<String>, Duration)> {
        lock(&self.held).clone()
    }

    fn reach(&self) -> Result<(), Unavailable> {
        match *lock(&self.down) {
            true => Err(Unavailable { what: "queue", message: "it is down".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Outbox for FakeQueue {
    fn limit(&self) -> usize {
        self.limit
    }

    async fn send(&self, messages: &[Message]) -> Result<(), Unavailable> {
        self.reach()?;
        if *lock(&self.full) {
            return Err(Unavailable { what: "queue", message: "it is full".into() });
        }
        for message in messages {
            assert!(message.body.len() <= self.limit, "a message over the limit");
            assert!(message.group.len() <= 128 && message.deduplication_id.len() <= 128);
            let mut known = lock(&self.known);
            let now = self.clock.now();
            let forgotten = |since: &Timestamp| now.duration_since(*since) >= DEDUPLICATION.try_into().expect("time");
            if known.get(&message.deduplication_id).is_none_or(forgotten) {
                known.insert(message.deduplication_id.clone(), now);
                lock(&self.sent).push(message.clone());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for FakeQueue {
    async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Received>, Unavailable> {
        unimplemented!("tests hand messages out by themselves")
    }

    async fn delete(&self, message: &Received) -> Result<(), Unavailable> {
        self.reach()?;
        let mut refused = lock(&self.refused_deletions);
        if *refused > 0 {
            *refused -= 1;
            return Err(Unavailable { what: "queue", message: "it does not delete".into() });
        }
        lock(&self.deleted).push(message.message_id.clone());
        Ok(())
    }

    async fn hold(&self, messages: &[Received], wait: Duration) -> Result<(), Unavailable> {
        self.reach()?;
        let silent = *lock(&self.silent);
        if silent {
            std::future::pending::<()>().await;
        }
        lock(&self.held).push((messages.iter().map(|message| message.message_id.clone()).collect(), wait));
        Ok(())
    }
}

/// State in memory.
#[derive(Default)]
pub struct FakeState {
    /// Whose time decides what has expired.
    pub clock: Arc<FakeClock>,
    pub records: Mutex<BTreeMap<Key, Record>>,
    pub down: Mutex<bool>,
    pub writes: AtomicUsize,
    pub silent: Mutex<bool>,
}

impl FakeState {
    async fn reach(&self) -> Result<(), Unavailable> {
        let silent = *lock(&self.silent);
        if silent {
            std::future::pending::<()>().await;
        }
        match *lock(&self.down) {
            true => Err(Unavailable { what: "state", message: "it is down".into() }),
            false => Ok(()),
        }
    }

    pub fn set_down(&self, down: bool) {
        *lock(&self.down) = down;
    }

    /// From now on nobody gets an answer.
    pub fn fall_silent(&self) {
        *lock(&self.silent) = true;
    }
}

#[async_trait]
impl State for FakeState {
    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        self.reach().await?;
        Ok(lock(&self.records).get(key).filter(|record| record.expires > self.clock.now()).cloned())
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), Unavailable> {
        self.reach().await?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        lock(&self.records).insert(key.clone(), record);
        Ok(())
    }

    async fn create(&self, key: &Key, record: Record) -> Result<bool, Unavailable> {
        self.reach().await?;
        let mut records = lock(&self.records);
        let free = records.get(key).is_none_or(|record| record.expires <= self.clock.now());
        if free {
            records.insert(key.clone(), record);
        }
        Ok(free)
    }

    async fn delete(&self, key: &Key) -> Result<(), Unavailable> {
        self.reach().await?;
        lock(&self.records).remove(key);
        Ok(())
    }

    async fn list(&self, pk: &str) -> Result<Vec<(Key, Record)>, Unavailable> {
        self.reach().await?;
        let records = lock(&self.records);
        let current = records.iter().filter(|(key, record)| key.pk == pk && record.expires > self.clock.now());
        Ok(current.map(|(key, record)| (key.clone(), record.clone())).collect())
    }
}

/// Answers in the order in which they were prepared; what is sent without one is a defect of the test.
#[derive(Default)]
pub struct FakeSender {
    pub answers: Mutex<VecDeque<Result<Response, SendError>>>,
    pub sent: Mutex<Vec<Outbound>>,
    /// A body that makes sending panic.
    pub poison: Mutex<Option<&'static str>>,
    /// Whether sending never ends, as when the process dies.
    dying: Mutex<bool>,
    /// How long what goes to a host takes; to all where it is empty.
    seconds: Mutex<(&'static str, u64)>,
    died: tokio::sync::Notify,
}

impl FakeSender {
    pub fn answer(&self, status: u16, body: &'static str) {
        lock(&self.answers).push_back(Ok(response(status, &[], body)));
    }

    pub fn answer_with(&self, answer: Result<Response, SendError>) {
        lock(&self.answers).push_back(answer);
    }

    /// From now on every answer takes this long.
    pub fn take_seconds(&self, seconds: u64) {
        self.take_seconds_at("", seconds);
    }

    /// From now on every answer of this host takes this long.
    pub fn take_seconds_at(&self, host: &'static str, seconds: u64) {
        *lock(&self.seconds) = (host, seconds);
    }

    /// The next attempt ends the process: it never returns.
    pub fn die(&self) {
        *lock(&self.dying) = true;
    }

    /// Returns when that attempt was begun.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    pub fn sent(&self) -> Vec<Outbound> {
        lock(&self.sent).clone()
    }
}

/// An answer of a target.
pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("header");
        map.insert(name, value.parse().expect("header"));
    }
    Response { status, headers: map, body: body.to_owned().into() }
}

#[async_trait]
impl Sender for FakeSender {
    async fn send(&self, request: Outbound, _: &Connection, _: Duration) -> Result<Response, SendError> {
        let dying = std::mem::take(&mut *lock(&self.dying));
        if dying {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        let (host, seconds) = *lock(&self.seconds);
        if seconds > 0 && request.url.contains(host) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        let poison = *lock(&self.poison);
        if let Some(poison) = poison {
            assert!(!String::from_utf8_lossy(&request.body).contains(poison), "poisoned");
        }
        lock(&self.sent).push(request);
        lock(&self.answers).pop_front().expect("an answer was prepared for every request")
    }
}

/// Remembers which subscriptions were confirmed, by topic and token.
#[derive(Default)]
pub struct FakeSubscriptions {
    pub confirmed: Mutex<Vec<(String, String)>>,
    pub down: Mutex<bool>,
}

#[async_trait]
impl Subscriptions for FakeSubscriptions {
    async fn confirm(&self, confirmation: &Confirmation) -> Result<(), Unavailable> {
        if *lock(&self.down) {
            return Err(Unavailable { what: "SNS", message: "it is down".into() });
        }
        let token = confirmation.token.expose_text().expect("text").to_owned();
        lock(&self.confirmed).push((confirmation.topic.as_str().to_owned(), token));
        Ok(())
    }
}

/// A metric as it was recorded: name, whom it is about, value.
type Recorded = (&'static str, String, f64);

/// Remembers what was counted.
#[derive(Default)]
pub struct FakeMeter(pub Mutex<Vec<Recorded>>);

impl Meter for FakeMeter {
    fn record(&self, name: &'static str, of: Of<'_>, value: f64, _: Unit) {
        let (Of::Source(of) | Of::Target(of)) = of;
        lock(&self.0).push((name, of.to_owned(), value));
    }
}

impl FakeMeter {
    pub fn total(&self, name: &str) -> f64 {
        lock(&self.0).iter().filter(|(one, _, _)| *one == name).map(|(_, _, value)| value).sum()
    }
}

/// A relay file that has to be sound.
pub fn relay(text: &str) -> Arc<Relay> {
    let document = yaml::parse(text).unwrap_or_else(|why| panic!("{why}"));
    Arc::new(Relay::from_value(&document.value).unwrap_or_else(|why| panic!("{why}")))
}

/// A store over fake secrets.
pub fn store(secrets: &Arc<FakeSecrets>, clock: &Arc<FakeClock>) -> Arc<SecretStore> {
    Arc::new(SecretStore::new(secrets.clone(), clock.clone(), CACHE))
}

/// JSON out of text.
pub fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}
