//! The secret store: a cache over the backends that holds what it fetched for a while, accepts the value before
//! the current one for a grace time, and lets no flood of bad credentials reach the backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::port::{Clock, Connection, FetchError, Fetched, SecretBackend};
use crate::relay::{Relay, TargetEntry};

/// How long a value is used before it is fetched again.
pub const CACHE: Duration = Duration::from_secs(5 * 60);
/// How long a value is used, at most, while the store cannot be reached.
const STALE: Duration = Duration::from_secs(60 * 60);
/// After a failed fetch of a value, or of the one before it, the store is left alone for this long, so that requests
/// do not queue up behind its time-outs.
const PAUSE: Duration = Duration::from_secs(2);
/// A bucket of forced refreshes holds this many …
const REFRESHES: f64 = 5.0;
/// … and gains one each.
const REFILL: Duration = Duration::from_secs(60);

/// What was found of the secrets that were asked for.
#[derive(Debug, Default)]
pub struct LookedUp {
    /// The values.
    pub resolved: Resolved,
    /// What could not be had, and why.
    pub missing: Vec<(SecretRef, FetchError)>,
}

impl LookedUp {
    /// How the target `entry` is connected to. The error says which secret is not there.
    pub fn connection(&self, relay: &Relay, entry: &TargetEntry) -> Result<Connection, String> {
        let secret = |reference: &Option<SecretRef>| match reference {
            None => Ok(None),
            Some(reference) => {
                self.resolved.current(reference).cloned().map(Some).ok_or_else(|| self.without(reference))
            }
        };
        Ok(Connection {
            egress: relay.egress.clone(),
            plaintext: entry.keys.plaintext,
            ca: secret(&entry.keys.ca)?,
            client_certificate: secret(&entry.keys.client_certificate)?,
            proxy: secret(&entry.keys.proxy)?,
        })
    }

    /// What is said where `reference` is needed and not there.
    pub fn without(&self, reference: &SecretRef) -> String {
        let why = self.missing.iter().find(|(missing, _)| missing == reference);
        let why = why.map_or_else(|| "it is empty".to_owned(), |(_, error)| error.to_string());
        format!("the secret {reference} cannot be had: {why}")
    }
}

struct Cached {
    current: Fetched,
    /// `None` until it was asked for.
    previous: Option<Option<Fetched>>,
    at: Timestamp,
}

/// What a flood is held back by: it holds [`REFRESHES`] tokens, and gains one each [`REFILL`].
struct Bucket {
    tokens: f64,
    refilled: Timestamp,
}

impl Bucket {
    fn full(now: Timestamp) -> Self {
        Self { tokens: REFRESHES, refilled: now }
    }

    /// Takes a token out, if there is one.
    fn take(&mut self, now: Timestamp) -> bool {
        let passed = Duration::try_from(now.duration_since(self.refilled)).unwrap_or_default();
        let gained = passed.as_secs_f64() / REFILL.as_secs_f64();
        self.tokens = (self.tokens + gained).min(REFRESHES);
        self.refilled = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

struct Entry {
    cached: Option<Cached>,
    failed: Option<(Timestamp, FetchError)>,
    /// The same for the value before the current one.
    failed_before: Option<(Timestamp, FetchError)>,
    /// For forced refreshes.
    bucket: Bucket,
    /// Held by whoever fetches: others wait for the result instead of fetching, too.
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// A cache over the backends. Cheap to share; safe to use from many tasks at once.
pub struct SecretStore {
    backend: Arc<dyn SecretBackend>,
    clock: Arc<dyn Clock>,
    cache: Duration,
    entries: Mutex<BTreeMap<SecretRef, Entry>>,
    /// For what requests name and nobody has seen before: there is no end of that, so that all of it has one bucket.
    strange: Mutex<Bucket>,
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

impl SecretStore {
    /// A store that uses a value for `cache` ([`CACHE`] by default) before it is fetched again.
    pub fn new(backend: Arc<dyn SecretBackend>, clock: Arc<dyn Clock>, cache: Duration) -> Self {
        let strange = Mutex::new(Bucket::full(clock.now()));
        Self { backend, clock, cache, entries: Mutex::default(), strange }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SecretRef, Entry>> {
        // No code panics while it holds this lock; were it poisoned all the same, the cache is still sound.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_entry<T>(&self, reference: &SecretRef, change: impl FnOnce(&mut Entry) -> T) -> T {
        let now = self.clock.now();
        let mut entries = self.entries();
        change(entries.entry(reference.clone()).or_insert_with(|| Entry {
            cached: None,
            failed: None,
            failed_before: None,
            bucket: Bucket::full(now),
            flight: Arc::default(),
        }))
    }

    /// Finds the values of `references`. With a `grace`, the value before the current one is found, too, as long as
    /// the current one is not older than that.
    pub async fn find(&self, references: &[SecretRef], grace: Option<Duration>) -> LookedUp {
        self.fetch(references, false).await;
        let mut found = LookedUp::default();
        for reference in references {
            if let Some(grace) = grace {
                self.fetch_previous(reference, grace).await.unwrap_or_else(|error| {
                    found.missing.push((reference.clone(), error));
                });
            }
            match self.values(reference, grace) {
                Ok(values) => found.resolved.insert(reference.clone(), values),
                Err(error) => found.missing.push((reference.clone(), error)),
            }
            self.forget_strange(reference);
        }
        found
    }

    /// When the value of `reference` that was found last was made, where its store knows.
    pub fn made(&self, reference: &SecretRef) -> Option<Timestamp> {
        self.entries().get(reference)?.cached.as_ref()?.current.made
    }

    /// Whether `reference` may be fetched: what requests name only as far as the bucket allows, unless it is known.
    fn admits(&self, reference: &SecretRef) -> bool {
        if !reference.is_named_by_requests() || self.with_entry(reference, |entry| entry.cached.is_some()) {
            return true;
        }
        let now = self.clock.now();
        let admitted = self.strange.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if !admitted {
            let why = FetchError::Unavailable("too many that nobody knows were asked for lately".into());
            self.with_entry(reference, |entry| entry.failed = Some((now, why)));
        }
        admitted
    }

    /// Forgets what requests name and is not to be had: there is no end of that.
    fn forget_strange(&self, reference: &SecretRef) {
        let mut entries = self.entries();
        if reference.is_named_by_requests() && entries.get(reference).is_some_and(|entry| entry.cached.is_none()) {
            entries.remove(reference);
        }
    }

    /// Fetches `references` again, as far as their buckets allow it. Returns whether a value changed.
    pub async fn refresh(&self, references: &[SecretRef]) -> bool {
        let now = self.clock.now();
        let granted = |reference: &&SecretRef| self.with_entry(reference, |entry| entry.bucket.take(now));
        let granted: Vec<_> = references.iter().filter(granted).cloned().collect();
        if granted.is_empty() {
            return false;
        }
        let versions = || -> Vec<_> { granted.iter().map(|reference| self.version(reference)).collect() };
        let before = versions();
        self.fetch(&granted, true).await;
        before != versions()
    }

    fn version(&self, reference: &SecretRef) -> Option<(String, Secret)> {
        self.with_entry(reference, |entry| {
            entry.cached.as_ref().map(|cached| (cached.current.version.clone(), cached.current.value.clone()))
        })
    }

    /// Whether the cached value may still be used without asking.
    fn is_fresh(&self, entry: &Entry) -> bool {
        let now = self.clock.now();
        let fresh = entry.cached.as_ref().is_some_and(|cached| now < after(cached.at, self.cache));
        let paused = entry.failed.as_ref().is_some_and(|(at, _)| now < after(*at, PAUSE));
        fresh || paused
    }

    async fn fetch(&self, references: &[SecretRef], forced: bool) {
        let needed = |asked: &BTreeSet<SecretRef>| -> BTreeSet<SecretRef> {
            asked
                .iter()
                .filter(|reference| forced || !self.with_entry(reference, |entry| self.is_fresh(entry)))
                .cloned()
                .collect()
        };
        let asked = needed(&references.iter().cloned().collect());
        if asked.is_empty() {
            return;
        }
        // Taken in the order of the references, so that two callers cannot wait for each other.
        let mut flights = Vec::with_capacity(asked.len());
        for reference in &asked {
            let flight = self.with_entry(reference, |entry| entry.flight.clone());
            flights.push(flight.lock_owned().await);
        }
        // Whoever held the flight may have fetched what we want.
        let asked: Vec<SecretRef> = needed(&asked).into_iter().filter(|one| self.admits(one)).collect();
        if asked.is_empty() {
            return;
        }
        let answers = self.backend.current(&asked).await;
        let now = self.clock.now();
        for (reference, answer) in asked.iter().zip(answers) {
            self.with_entry(reference, |entry| match answer {
                Ok(current) => {
                    let previous = entry
                        .cached
                        .take()
                        .filter(|cached| cached.current.version == current.version)
                        .and_then(|cached| cached.previous);
                    entry.cached = Some(Cached { current, previous, at: now });
                    entry.failed = None;
                }
                Err(error) => {
                    if !matches!(error, FetchError::Unavailable(_)) {
                        entry.cached = None;
                    }
                    tracing::warn!(secret = %reference, %error, "a secret could not be fetched");
                    entry.failed = Some((now, error));
                }
            });
        }
    }

    /// The current value whose predecessor is wanted and not known; an error where it was asked for in vain just now.
    fn without_previous(&self, reference: &SecretRef, grace: Duration) -> Result<Option<Fetched>, FetchError> {
        let now = self.clock.now();
        self.with_entry(reference, |entry| {
            let in_grace = |cached: &&Cached| cached.current.made.is_some_and(|made| now < after(made, grace));
            let cached = entry.cached.as_ref().filter(in_grace).filter(|cached| cached.previous.is_none());
            match &entry.failed_before {
                Some((at, error)) if cached.is_some() && now < after(*at, PAUSE) => Err(error.clone()),
                _ => Ok(cached.map(|cached| cached.current.clone())),
            }
        })
    }

    async fn fetch_previous(&self, reference: &SecretRef, grace: Duration) -> Result<(), FetchError> {
        if self.without_previous(reference, grace)?.is_none() {
            return Ok(());
        }
        let flight = self.with_entry(reference, |entry| entry.flight.clone());
        let _flight = flight.lock().await;
        // Whoever held the flight may have fetched it, or tried to.
        let Some(current) = self.without_previous(reference, grace)? else { return Ok(()) };
        let answer = self.backend.previous(reference, &current).await;
        let now = self.clock.now();
        self.with_entry(reference, |entry| match answer {
            Ok(previous) => {
                if let Some(cached) = entry.cached.as_mut().filter(|cached| cached.current.version == current.version) {
                    cached.previous = Some(previous);
                }
                entry.failed_before = None;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(secret = %reference, %error, "the value before a secret's current one could not be fetched");
                entry.failed_before = Some((now, error.clone()));
                Err(error)
            }
        })
    }

    fn values(&self, reference: &SecretRef, grace: Option<Duration>) -> Result<Vec<Secret>, FetchError> {
        let now = self.clock.now();
        self.with_entry(reference, |entry| {
            let failed = || entry.failed.as_ref().map_or(FetchError::NotFound, |(_, error)| error.clone());
            let cached = entry.cached.as_ref().filter(|cached| now < after(cached.at, STALE)).ok_or_else(failed)?;
            let mut values = vec![at_key(reference, &cached.current.value)?];
            let in_grace = |made| grace.is_some_and(|grace| now < after(made, grace));
            if let (Some(made), Some(Some(previous))) = (cached.current.made, &cached.previous)
                && in_grace(made)
            {
                // A value before that never had this key is simply not accepted.
                values.extend(at_key(reference, &previous.value));
            }
            Ok(values)
        })
    }
}

/// The part of a stored value that a reference means.
fn at_key(reference: &SecretRef, value: &Secret) -> Result<Secret, FetchError> {
    let SecretRef::SecretsManager { key: Some(key), .. } = reference else { return Ok(value.clone()) };
    let unusable = |why: &str| FetchError::Unusable(format!("`{key}` {why}"));
    let json: Value = serde_json::from_slice(value.expose())
        .map_err(|_| FetchError::Unusable("a JSON key is asked for, but the value is not JSON".into()))?;
    let found = json.get(key).or_else(|| key.split('.').try_fold(&json, |json, part| json.get(part)));
    match found {
        Some(Value::String(text)) => Ok(Secret::new(text.clone())),
        Some(_) => Err(unusable("is not a text")),
        None => Err(unusable("is not a key of the stored JSON")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;

    struct FakeClock(Mutex<Timestamp>);

    impl FakeClock {
        fn pass(&self, time: Duration) {
            let mut now = self.0.lock().expect("clock");
            *now = after(*now, time);
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().expect("clock")
        }
    }

    #[derive(Default)]
    struct FakeBackend {
        /// All versions of the one secret that there is, oldest first, with the time of their making.
        versions: Mutex<Vec<(String, Timestamp)>>,
        failure: Mutex<Option<FetchError>>,
        /// Of calls for the value before the current one alone.
        failure_before: Mutex<Option<FetchError>>,
        fetches: AtomicUsize,
        fetches_before: AtomicUsize,
    }

    #[async_trait]
    impl SecretBackend for FakeBackend {
        async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            references.iter().map(|_| self.nth(1).transpose().unwrap_or(Err(FetchError::NotFound))).collect()
        }

        async fn previous(&self, _: &SecretRef, _: &Fetched) -> Result<Option<Fetched>, FetchError> {
            self.fetches_before.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            match self.failure_before.lock().expect("lock").clone() {
                Some(error) => Err(error),
                None => self.nth(2),
            }
        }
    }

    impl FakeBackend {
        fn nth(&self, from_the_end: usize) -> Result<Option<Fetched>, FetchError> {
            if let Some(error) = self.failure.lock().expect("lock").clone() {
                return Err(error);
            }
            let versions = self.versions.lock().expect("lock");
            let index = versions.len().checked_sub(from_the_end);
            Ok(index.map(|index| Fetched {
                value: Secret::new(versions[index].0.clone()),
                version: index.to_string(),
                made: Some(versions[index].1),
            }))
        }
    }

    struct World {
        store: SecretStore,
        clock: Arc<FakeClock>,
        backend: Arc<FakeBackend>,
        secret: Vec<SecretRef>,
    }

    fn world(reference: &str) -> World {
        let clock = Arc::new(FakeClock(Mutex::new("2026-01-01T00:00:00Z".parse().expect("time"))));
        let backend = Arc::new(FakeBackend::default());
        let store = SecretStore::new(backend.clone(), clock.clone(), CACHE);
        World { store, clock, backend, secret: vec![SecretRef::parse(reference).expect("reference")] }
    }

    impl World {
        fn store_value(&self, value: &str) {
            self.backend.versions.lock().expect("lock").push((value.into(), self.clock.now()));
        }

        fn fail(&self, error: Option<FetchError>) {
            *self.backend.failure.lock().expect("lock") = error;
        }

        async fn accepted(&self, grace_hours: u64) -> Vec<String> {
            let grace = Duration::from_secs(grace_hours * 3600);
            let found = self.store.find(&self.secret, Some(grace)).await;
            let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).expect("text");
            found.resolved.accepted(&self.secret).map(text).collect()
        }

        fn fetches(&self) -> usize {
            self.backend.fetches.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_value_is_fetched_once_and_then_used_for_five_minutes() {
        let world = world("ssm:/a");
        world.store_value("one");
        assert_eq!(world.accepted(0).await, ["one"]);
        world.store_value("two");
        world.clock.pass(Duration::from_secs(299));
        assert_eq!(world.accepted(0).await, ["one"]);
        world.clock.pass(Duration::from_secs(1));
        assert_eq!(world.accepted(0).await, ["two"]);
        assert_eq!(world.fetches(), 2);
    }

    #[tokio::test]
    async fn requests_that_come_together_fetch_once() {
        let world = world("ssm:/a");
        world.store_value("one");
        let all = futures_util::future::join_all((0..20).map(|_| world.accepted(0))).await;
        assert!(all.iter().all(|accepted| accepted == &["one"]));
        assert_eq!(world.fetches(), 1);
    }

    #[tokio::test]
    async fn the_value_before_is_accepted_until_its_grace_is_over() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.clock.pass(Duration::from_secs(10 * 3600));
        world.store_value("two");
        assert_eq!(world.accepted(24).await, ["two", "one"]);
        world.clock.pass(Duration::from_secs(23 * 3600));
        assert_eq!(world.accepted(24).await, ["two", "one"]);
        world.clock.pass(Duration::from_secs(3600));
        assert_eq!(world.accepted(24).await, ["two"]);
    }

    #[tokio::test]
    async fn while_only_the_value_before_cannot_be_had_it_is_asked_for_once_in_a_pause() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.store_value("two");
        let failure = |error| *world.backend.failure_before.lock().expect("lock") = error;
        failure(Some(FetchError::Unavailable("throttled".into())));
        let fetches_before = || world.backend.fetches_before.load(Ordering::SeqCst);
        for pauses in 1..=2 {
            // One after the other, and all at once.
            for _ in 0..500 {
                assert_eq!(world.accepted(24).await, ["two"]);
            }
            let all = futures_util::future::join_all((0..500).map(|_| world.accepted(24))).await;
            assert!(all.iter().all(|accepted| accepted == &["two"]));
            assert_eq!((world.fetches(), fetches_before()), (1, pauses));
            world.clock.pass(PAUSE);
        }
        failure(None);
        let all = futures_util::future::join_all((0..500).map(|_| world.accepted(24))).await;
        assert!(all.iter().all(|accepted| accepted == &["two", "one"]));
        assert_eq!((world.fetches(), fetches_before()), (1, 3));
    }

    #[tokio::test]
    async fn no_grace_accepts_the_current_value_only() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.store_value("two");
        assert_eq!(world.accepted(0).await, ["two"]);
    }

    #[tokio::test]
    async fn a_flood_of_refreshes_costs_five_and_then_one_a_minute() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.accepted(0).await;
        for _ in 0..1000 {
            assert!(!world.store.refresh(&world.secret).await);
        }
        assert_eq!(world.fetches(), 1 + 5);
        world.clock.pass(Duration::from_secs(60));
        for _ in 0..1000 {
            world.store.refresh(&world.secret).await;
        }
        assert_eq!(world.fetches(), 1 + 5 + 1);
    }

    #[tokio::test]
    async fn a_flood_of_certificates_that_nobody_knows_costs_five_fetches_and_no_memory() {
        let world = world("ssm:/a");
        let known = [SecretRef::Certificate("https://sns.example/known.pem".into())];
        let strange = |i: usize| [SecretRef::Certificate(format!("https://sns.example/{i}.pem"))];
        world.store_value("certificate");
        assert!(world.store.find(&known, None).await.missing.is_empty());
        world.fail(Some(FetchError::NotFound));
        for i in 0..1000 {
            assert_eq!(world.store.find(&strange(i), None).await.missing.len(), 1);
        }
        assert_eq!(world.fetches(), 5);
        assert_eq!(world.store.entries().len(), 1, "what is known, and nothing else");
        // What is known is not kept from being fetched again.
        world.fail(None);
        world.clock.pass(CACHE);
        world.store_value("another");
        let found = world.store.find(&known, None).await;
        assert_eq!(found.resolved.current(&known[0]).map(Secret::expose), Some(b"another".as_slice()));
    }

    #[tokio::test]
    async fn a_refresh_says_whether_the_value_changed() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.accepted(0).await;
        assert!(!world.store.refresh(&world.secret).await);
        world.store_value("two");
        assert!(world.store.refresh(&world.secret).await);
        assert_eq!(world.accepted(24).await, ["two", "one"]);
    }

    #[tokio::test]
    async fn stale_values_serve_for_an_hour_while_the_store_is_down() {
        let world = world("ssm:/a");
        world.store_value("one");
        world.accepted(0).await;
        world.fail(Some(FetchError::Unavailable("throttled".into())));
        world.clock.pass(Duration::from_secs(3599));
        assert_eq!(world.accepted(0).await, ["one"]);
        world.clock.pass(Duration::from_secs(1));
        let found = world.store.find(&world.secret, None).await;
        assert!(matches!(found.missing[..], [(_, FetchError::Unavailable(_))]));
    }

    #[tokio::test]
    async fn a_secret_that_is_gone_or_denied_is_forgotten_at_once() {
        for error in [FetchError::NotFound, FetchError::Denied("no".into())] {
            let world = world("ssm:/a");
            world.store_value("one");
            world.accepted(0).await;
            world.fail(Some(error));
            world.clock.pass(CACHE);
            assert!(world.accepted(0).await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_left_alone_for_a_moment() {
        let world = world("ssm:/a");
        world.fail(Some(FetchError::Unavailable("down".into())));
        for _ in 0..10 {
            assert!(world.accepted(0).await.is_empty());
        }
        assert_eq!(world.fetches(), 1);
        world.fail(None);
        world.store_value("one");
        world.clock.pass(PAUSE);
        assert_eq!(world.accepted(0).await, ["one"]);
    }

    #[tokio::test]
    async fn a_json_key_is_looked_up_in_the_value() {
        let world = world("secretsmanager:a#b.token");
        world.store_value(r#"{"b":{"token":"x"}}"#);
        assert_eq!(world.accepted(0).await, ["x"]);
        world.store_value(r#"{"b":{"other":"hunter2"}}"#);
        world.clock.pass(CACHE);
        let found = world.store.find(&world.secret, None).await;
        let (_, error) = &found.missing[0];
        assert!(error.to_string().contains("`b.token`") && !error.to_string().contains("hunter2"));
    }
}
