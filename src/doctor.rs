//! The doctor: is everything that the relay needs reachable, permitted and current? It asks, and changes nothing.
//!
//! Secrets are read and held against what they are for. Receivers of Flux are asked for by the [`probe`](crate::probe).
//! Of every other target, a sample event is rendered with its real secrets, which says where deliveries go, and a
//! connection is made to there: nothing is sent, so that nobody is told anything. Queues and table are described,
//! and what is kept of each target is read.
//!
//! All of it is asked as whoever runs it: what the functions' own roles may do, only they can say.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, join3, try_join};
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::deliver::breaker;
use crate::domain::alert::{Alert, Alerts, Object, Severity, Status};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, GitEvent, ImagePush, Original};
use crate::domain::name::Name;
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::overdue::{self, Late};
use crate::port::{Clock, Dialer, FetchError, State};
use crate::probe::{Probe, unsent};
use crate::relay::format;
use crate::relay::{Relay, SourceEntry, TargetEntry};
use crate::secrets::LookedUp;
use crate::source::{Request, Via};
use crate::target::{Outbound, RenderError};
use crate::words;

/// How far ahead the end of a certificate is told.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// AWS refuses what was signed by a clock that is further off («Troubleshooting Signature Version 4», IAM User Guide,
/// read 2026-11).
const SKEW: Duration = Duration::from_secs(5 * 60);
/// At most so many of a kind are asked at once.
const AT_ONCE: usize = 16;
/// One question has at most this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// All targets together have this long.
const LONGEST: Duration = Duration::from_secs(60);
/// All secrets together, which are asked for in as few calls as their stores allow, have this long.
const STORES: Duration = Duration::from_secs(20);
/// Stands for secrets where one alone is tried: a word that is also a signing secret of Standard Webhooks.
const STAND_IN: &str = "whsec_c3RhbmQtaW4gc3RhbmQtaW4gc3RhbmQtaW4=";
/// The keys of the state's table, as [`TableFacts`] has them.
const KEYS: [&str; 2] = ["pk HASH S", "sk RANGE S"];
/// The attribute by which records of the state expire.
const EXPIRES: &str = "expires";

words! {
    /// How it is with what was asked.
    pub enum Level {
        /// As it should be.
        Fine = "fine",
        /// Not asked; the message says why.
        NotAsked = "not_asked",
        /// It works, and somebody should look all the same.
        Warning = "warning",
        /// It does not work, or will lose something.
        Problem = "problem",
    }
}

impl From<format::Level> for Level {
    fn from(level: format::Level) -> Self {
        match level {
            format::Level::Error => Self::Problem,
            format::Level::Warning => Self::Warning,
        }
    }
}

/// What was asked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// How it is.
    pub level: Level,
    /// What kind of thing was asked: `aws`, `secret`, `source`, `target`, `queue`, `dead-letter queue`, `agent`, `state`,
    /// `breaker` or `deliveries`.
    pub about: &'static str,
    /// Which of them.
    pub name: String,
    /// What is known of it, what is wrong, and what to do; never holds a secret.
    pub message: String,
}

impl Answer {
    fn new(about: &'static str, name: impl Into<String>, level: Level, message: impl Into<String>) -> Self {
        Self { level, about, name: name.into(), message: message.into() }
    }
}

/// As whom AWS knows us.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The ARN.
    pub arn: Result<String, FetchError>,
    /// What time it was at AWS when it answered, if it did: whole seconds.
    pub time: Option<Timestamp>,
}

/// What is known of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    /// Whether it is a FIFO queue.
    pub is_fifo: bool,
    /// The largest message that it takes, in bytes.
    pub limit: usize,
    /// For how long it keeps a message.
    pub retention: Duration,
    /// About how many messages can be received.
    pub waiting: u64,
    /// About how many were handed out: they are worked on, or held.
    pub hidden: u64,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Its keys, each as name, role and type in DynamoDB's words: `pk HASH S`.
    pub keys: Vec<String>,
    /// The attribute by which records expire, where they do.
    pub expires: Option<String>,
}

/// What the relay uses in AWS, looked at from outside.
#[async_trait]
pub trait Deployed: Send + Sync {
    /// As whom we ask, and what AWS's clock says.
    async fn caller(&self) -> Caller;

    /// The queue at `url`.
    async fn queue(&self, url: &str) -> Result<QueueFacts, FetchError>;

    /// The table of this name.
    async fn table(&self, name: &str) -> Result<TableFacts, FetchError>;
}

/// What of AWS is asked. What is not named is not.
pub struct Deployment {
    /// Asks AWS.
    pub aws: Arc<dyn Deployed>,
    /// URL of the delivery queue.
    pub queue: Option<String>,
    /// URLs of the dead-letter queue and, after it, of further queues that dead letters are in.
    pub dead_letters: Vec<String>,
    /// URLs of the agents' queues.
    pub agents: BTreeMap<Name, String>,
    /// The largest message that is put on delivery queues, in bytes.
    pub queue_limit: usize,
    /// The state's table, by its name and as the state.
    pub table: Option<(String, Arc<dyn State>)>,
}

/// Asks how everything is.
pub struct Doctor {
    /// Asks for the Receivers. Its relay file, agent and secrets are the doctor's, too.
    pub probe: Probe,
    /// Connects to all other targets.
    pub dialer: Arc<dyn Dialer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What of AWS is asked; nothing where there is none.
    pub deployment: Option<Deployment>,
}

impl Doctor {
    /// Asks everything; takes about a minute and a half at most, however much of it does not answer.
    pub async fn run(&self) -> Vec<Answer> {
        let deployed = async {
            match &self.deployment {
                Some(deployment) => {
                    deployment.ask(&self.probe.relay, self.probe.agent.as_ref(), self.clock.as_ref()).await
                }
                None => vec![Answer::new("aws", "", Level::NotAsked, NOTHING_THERE)],
            }
        };
        // Secrets come before targets, which then need not fetch theirs.
        let (mut answers, secrets) = join(deployed, self.secrets()).await;
        answers.extend(secrets);
        answers.extend(self.targets().await);
        answers
    }

    async fn secrets(&self) -> Vec<Answer> {
        let (relay, secrets) = (&self.probe.relay, &self.probe.secrets);
        let users = users(relay);
        let kept: Vec<_> = users.keys().filter(|reference| is_kept(reference)).map(|one| (*one).clone()).collect();
        let Ok(found) = timeout(STORES, secrets.find(&kept, None)).await else {
            let why = format!("no answer within {STORES:?}; are their stores reachable from here?");
            return vec![Answer::new("secret", "all", Level::Problem, why)];
        };
        let questions = users.iter().map(|(reference, users)| self.secret(reference, users, &found));
        let mut answers: Vec<_> = in_turn(questions).await;
        for (name, entry) in &relay.sources {
            let unfit = unfit(name, entry, &found.resolved, self.clock.now());
            answers.extend(unfit.map(|why| Answer::new("source", name.as_str(), Level::Problem, why)));
        }
        answers
    }

    async fn secret(&self, reference: &SecretRef, users: &[String], found: &LookedUp) -> Answer {
        let answer = |level: Level, message: String| {
            let users: Vec<_> = users.iter().map(|pointer| pointer.trim_start_matches('/').replace('/', ".")).collect();
            Answer::new("secret", reference.to_string(), level, format!("{message} (for {})", users.join(", ")))
        };
        if !is_kept(reference) {
            return answer(Level::NotAsked, "is made for the role that delivers, which is not who asks here".into());
        }
        if let Some((level, why)) = flaw(found, reference) {
            let error = found.missing.iter().find(|(missing, _)| missing == reference);
            return answer(level.into(), format!("{why}{}", error.map_or("", |(_, error)| hint(error))));
        }
        let secrets = &self.probe.secrets;
        let made = secrets.made(reference);
        let mut said = vec!["can be read".to_owned()];
        said.extend(made.map(|made| format!("made {made:.0}")));
        let mut level = Level::Fine;
        let reference = slice::from_ref(reference);
        let checked = self.probe.relay.sources.iter().filter(|(_, entry)| entry.secrets().contains(&reference[0]));
        for (source, entry) in checked {
            let grace = entry.keys.grace.0;
            let before = timeout(PATIENCE, secrets.find(reference, Some(grace))).await;
            let error = match &before {
                Ok(found) => found.missing.first().map(|(_, error)| error.to_string()),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            if let Some(error) = error {
                level = Level::Warning;
                said.push(format!(
                    "source `{source}` does not accept the value before it, which cannot be read: {error}"
                ));
            } else if before.is_ok_and(|found| found.resolved.accepted(reference).count() > 1)
                && let Some(until) = made.and_then(|made| made.checked_add(grace).ok())
            {
                said.push(format!("source `{source}` accepts the value before it until {until:.0}"));
            }
        }
        answer(level, said.join("; "))
    }

    async fn targets(&self) -> Vec<Answer> {
        let targets = &self.probe.relay.targets;
        let rounds = u32::try_from(targets.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX).max(1);
        let share = PATIENCE.min(LONGEST / rounds);
        let questions = targets.iter().map(|(name, entry)| self.target(name, entry, share));
        let (probed, answers) = join(self.probe.run(Instant::now() + LONGEST), in_turn(questions)).await;
        let by_probe = |name: &Name| {
            let failed = probed.failed.iter().find(|failed| failed.target == name.as_str());
            let (level, message) = match failed {
                Some(failed) => (Level::Problem, failed.reason.as_str()),
                None => (Level::Fine, "the controller is there"),
            };
            Answer::new("target", name.as_str(), level, message)
        };
        let named = targets.keys().zip(answers);
        named.map(|(name, answer)| answer.unwrap_or_else(|| by_probe(name))).collect()
    }

    /// How a target is; `None` where the probe says it.
    async fn target(&self, name: &Name, entry: &TargetEntry, share: Duration) -> Option<Answer> {
        let ends = Instant::now() + share.min(entry.keys.timeout.0);
        let answer = |level, message: String| Some(Answer::new("target", name.as_str(), level, message));
        if entry.keys.agent != self.probe.agent {
            let why = match &entry.keys.agent {
                Some(agent) => {
                    format!("only agent `{agent}` reaches it: ask from inside its network, by --agent {agent}")
                }
                None => "it is no target of this agent".to_owned(),
            };
            return answer(Level::NotAsked, why);
        }
        let is_receiver = entry.target.as_flux().is_some();
        let kept: Vec<_> = entry.secrets().iter().filter(|reference| is_kept(reference)).cloned().collect();
        let Ok(found) = timeout_at(ends, self.probe.secrets.find(&kept, None)).await else {
            return match is_receiver {
                true => None,
                false => answer(Level::NotAsked, "its secrets did not come in time".into()),
            };
        };
        let request = match request(name, entry, &found.resolved, self.clock.now()) {
            Err(RenderError::UnusableSecret(why)) => return answer(Level::Problem, why),
            _ if is_receiver => return None,
            Err(RenderError::NoSecret(reference)) => return answer(Level::NotAsked, found.without(&reference)),
            Err(RenderError::Unfit(why)) => {
                return answer(Level::NotAsked, format!("no sample event can be rendered for it: {why}"));
            }
            Ok(request) => request,
        };
        let connection = match found.connection(&self.probe.relay, entry) {
            Ok(connection) => connection,
            Err(why) => return answer(Level::NotAsked, why),
        };
        let left = ends.saturating_duration_since(Instant::now());
        match self.dialer.dial(&request, &connection, left, SOON).await {
            Err(error) => answer(Level::Problem, unsent(error).reason),
            Ok(dialled) => {
                let which = if connection.proxy.is_some() { "its proxy" } else { "it" };
                let how = if dialled.encrypted { "by TLS" } else { "without TLS" };
                let connects = format!("{which} can be connected to, {how}");
                match dialled.ends {
                    Some(end) => answer(Level::Warning, format!("{connects}; its certificate ends {end:.0}: renew it")),
                    None => answer(Level::Fine, connects),
                }
            }
        }
    }
}

/// What is said where nothing of AWS is asked.
const NOTHING_THERE: &str = "no secret in AWS is named, and none of SLUICE_QUEUE_URL, SLUICE_DEAD_LETTER_URL, \
                             SLUICE_AGENT_QUEUES and SLUICE_STATE_TABLE is set";

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Deliveries, which are tried for up to this long.
    Deliveries { max_age: Duration },
    /// What `deliver` gives up.
    DeadLetters,
    /// Other dead letters, such as failed invocations.
    OtherDeadLetters,
}

impl Deployment {
    async fn ask(&self, relay: &Relay, agent: Option<&Name>, clock: &dyn Clock) -> Vec<Answer> {
        let caller = async {
            let caller = timeout(PATIENCE, self.aws.caller()).await;
            judge_caller(caller.as_ref().ok(), clock.now())
        };
        let queues = self.queues(relay, agent).into_iter().map(|(about, url, of)| self.queue(about, url, of));
        let (caller, queues, state) = join3(caller, in_turn(queues), self.state(relay, clock.now())).await;
        let mut answers = vec![caller];
        answers.extend(queues);
        if self.queue.is_some() && agent.is_none() {
            answers.extend(self.agents_without_queue(relay));
        }
        answers.extend(state);
        answers
    }

    /// The queues with what they are for.
    fn queues<'a>(&'a self, relay: &Relay, agent: Option<&Name>) -> Vec<(&'static str, &'a str, Use)> {
        let deliveries = |agent: Option<&Name>| {
            let own = relay.targets.values().filter(|entry| entry.keys.agent.as_ref() == agent);
            Use::Deliveries { max_age: own.map(|entry| entry.keys.max_age()).max().unwrap_or_default() }
        };
        let mut queues = Vec::new();
        queues.extend(self.queue.iter().map(|url| ("queue", url.as_str(), deliveries(agent))));
        queues.extend(self.agents.iter().map(|(agent, url)| ("queue", url.as_str(), deliveries(Some(agent)))));
        let uses = std::iter::once(Use::DeadLetters).chain(std::iter::repeat(Use::OtherDeadLetters));
        queues.extend(self.dead_letters.iter().zip(uses).map(|(url, of)| ("dead-letter queue", url.as_str(), of)));
        queues
    }

    async fn queue(&self, about: &'static str, url: &str, of: Use) -> Answer {
        let facts = in_time(self.aws.queue(url)).await;
        let (level, message) = match facts {
            Ok(facts) => judge_queue(&facts, url, of, self.queue_limit),
            Err(error) => (Level::Problem, format!("cannot be looked at: {error}{}", hint(&error))),
        };
        Answer::new(about, url.rsplit('/').next().unwrap_or(url), level, message)
    }

    fn agents_without_queue(&self, relay: &Relay) -> Vec<Answer> {
        let mut named: Vec<_> = relay.targets.values().filter_map(|entry| entry.keys.agent.as_ref()).collect();
        named.sort();
        named.dedup();
        let without = named.into_iter().filter(|agent| !self.agents.contains_key(*agent));
        let why = "SLUICE_AGENT_QUEUES has no queue for it: functions that take events in do not start";
        without.map(|agent| Answer::new("agent", agent.as_str(), Level::Problem, why)).collect()
    }

    async fn state(&self, relay: &Relay, now: Timestamp) -> Vec<Answer> {
        let Some((table, state)) = &self.table else { return Vec::new() };
        let facts = in_time(self.aws.table(table));
        let kept = relay.targets.keys().map(|target| {
            in_time(async move {
                let kept = try_join(
                    breaker::open(state.as_ref(), target),
                    overdue::late(state.as_ref(), target, now, overdue::AFTER),
                );
                kept.await.map_err(|error| FetchError::Unavailable(error.message))
            })
        });
        let (facts, kept) = join(facts, in_turn(kept)).await;
        let (level, message) = match &facts {
            Ok(facts) => judge_table(facts),
            Err(error) => (Level::Problem, format!("cannot be looked at: {error}{}", hint(error))),
        };
        let mut answers = vec![Answer::new("state", table.as_str(), level, message)];
        let mut errors = Vec::new();
        for (target, kept) in relay.targets.keys().zip(kept) {
            let answer = |about, level, message| Answer::new(about, target.as_str(), level, message);
            let (breaker, late) = match kept {
                Ok(kept) => kept,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            answers.extend(breaker.map(|breaker::Breaker { since, reason, next, .. }| {
                let message = format!(
                    "open since {since:.0}, so that deliveries are held: {reason}; mend the target, the next one is \
                     tried {next:.0}"
                );
                answer("breaker", Level::Problem, message)
            }));
            answers.extend(late.map(|Late { deliveries, oldest, .. }| {
                let message = format!(
                    "at least {deliveries} failed and have not arrived since, the oldest of {oldest:.0}; the log of \
                     `deliver` says why"
                );
                answer("deliveries", Level::Warning, message)
            }));
        }
        // Without a table there are none, and once is enough.
        if let (Ok(_), Some(error)) = (&facts, errors.first()) {
            let message = format!("breakers and overdue deliveries cannot be seen: {error}");
            answers.push(Answer::new("state", table.as_str(), Level::Problem, message));
        }
        answers
    }
}

/// Answers in the order of the questions, of which only so many are asked at once.
async fn in_turn<T>(questions: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(questions.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

/// What is asked for, or that it did not come in time.
async fn in_time<T>(asked: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    let late = |_| Err(FetchError::Unavailable(format!("no answer within {PATIENCE:?}")));
    timeout(PATIENCE, asked).await.unwrap_or_else(late)
}

/// Whether it is kept somewhere: a web identity is only made for the role that shows it.
fn is_kept(reference: &SecretRef) -> bool {
    !matches!(reference, SecretRef::WebIdentity { .. })
}

/// Every secret of a relay file with the places that name it, as JSON pointers.
pub fn users(relay: &Relay) -> BTreeMap<&SecretRef, Vec<String>> {
    let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let sources = relay.sources.iter().map(|(name, entry)| (format!("/sources/{name}"), entry.secrets()));
    let targets = relay.targets.iter().map(|(name, entry)| (format!("/targets/{name}"), entry.secrets()));
    for (pointer, references) in sources.chain(targets) {
        for reference in references {
            let places = users.entry(reference).or_default();
            if !places.contains(&pointer) {
                places.push(pointer.clone());
            }
        }
    }
    users
}

/// What is wrong with a secret that was asked for, as far as it can be seen without knowing what it is for; completes
/// «the secret …».
pub fn flaw(found: &LookedUp, reference: &SecretRef) -> Option<(format::Level, String)> {
    if let Some((_, error)) = found.missing.iter().find(|(missing, _)| missing == reference) {
        return Some((format::Level::Error, format!("cannot be had: {error}")));
    }
    let value = found.resolved.current(reference)?;
    if value.is_empty() {
        return Some((format::Level::Error, "is empty, which refuses everybody".into()));
    }
    (reference.is_secret() && value.ends_in_white_space()).then(|| {
        let message = "ends in white space (a newline of echo?). It is used byte for byte: the other side must have it, \
                       too, or it has to go";
        (format::Level::Warning, message.into())
    })
}

/// What to do about it.
fn hint(error: &FetchError) -> &'static str {
    match error {
        FetchError::NotFound => "; make it, or correct its name (in AWS: is it the right account and region?)",
        FetchError::Denied(_) => "; allow it to whoever asks, and the use of the key that it is encrypted with",
        FetchError::Unusable(_) => "",
        FetchError::Unavailable(_) => {
            "; try again, and if it stays: is AWS reachable from here, are there too many calls?"
        }
    }
}

/// Why a secret of a source is none that its senders could use: with a stand-in a request can be signed, with the
/// secret it cannot.
fn unfit(name: &Name, entry: &SourceEntry, found: &Resolved, now: Timestamp) -> Option<String> {
    let signed_by = |own: Option<&SecretRef>| {
        let mut secrets = Resolved::default();
        for reference in entry.secrets() {
            let value = own.filter(|own| *own == reference).and_then(|own| found.current(own)).cloned();
            secrets.insert(reference.clone(), vec![value.unwrap_or_else(|| Secret::new(STAND_IN))]);
        }
        let mut request = Request {
            via: Via::Http,
            source: name.clone(),
            token: None,
            method: Method::POST,
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
            address: None,
        };
        entry.source.sign(&mut request, &secrets, now)
    };
    signed_by(None).ok()?;
    let present = |reference: &&SecretRef| found.current(reference).is_some_and(|value| !value.is_empty());
    entry.secrets().iter().filter(present).find_map(|reference| signed_by(Some(reference)).err())
}

/// The first request of a delivery to the target: of whichever kind of event it has a use for.
fn request(name: &Name, entry: &TargetEntry, secrets: &Resolved, now: Timestamp) -> Result<Outbound, RenderError> {
    let mut why = RenderError::Unfit("it has no use for any kind of event".into());
    for (event, original) in samples(now) {
        if entry.target.wants(&event, original.as_ref()).is_err() {
            continue;
        }
        let original = entry.target.needs_original(&event).then_some(original).flatten();
        let delivery = Delivery::new(event, "doctor", name, original, now);
        match entry.target.render(&delivery, secrets, now).map(|requests| requests.into_iter().next()) {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(RenderError::Unfit(unfit)) => why = RenderError::Unfit(unfit),
            Err(error) => return Err(error),
        }
    }
    Err(why)
}

/// An event of each kind, with as much in it as targets may look for; nobody is told of them.
fn samples(now: Timestamp) -> [(Event, Option<Original>); 3] {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let push = ImagePush {
        repository: "ghcr.io/acme/app".into(),
        tag: Some("1.2.3".into()),
        tags: vec!["1.2.3".into()],
        digest: Some(format!("sha256:{}", "0".repeat(64))),
        ..ImagePush::default()
    };
    let mut git = GitEvent {
        event: "push".into(),
        repository: Some("github.com/acme/app".into()),
        clone_urls: vec!["https://github.com/acme/app.git".into()],
        commit: Some(COMMIT.into()),
        ..GitEvent::default()
    };
    git.set_reference("refs/heads/main");
    let mut alert = Alert::new("doctor", Status::Firing, Severity::Error, "A sample that is not sent");
    alert.object = Some(Object { kind: Some("Kustomization".into()), namespace: None, name: "apps".into() });
    alert.labels.insert("revision".into(), format!("main@sha1:{COMMIT}"));
    alert.labels.insert("change_request".into(), "1".into());
    alert.started = Some(now);
    let event = |detail| {
        let source = Name::of_the_relay();
        let id = Event::id_of(&source, "doctor");
        Event { detail, id, source, cluster: None, labels: BTreeMap::new(), time: Some(now) }
    };
    let original = Original {
        content_type: "application/json".into(),
        headers: vec![("x-github-event".into(), "push".into())],
        body: Bytes::from_static(b"{}"),
    };
    [
        (event(Detail::ImagePush(push)), None),
        (event(Detail::Git(Box::new(git))), Some(original)),
        (event(Detail::Alert(Box::new(Alerts::one(alert)))), None),
    ]
}

fn judge_caller(caller: Option<&Caller>, now: Timestamp) -> Answer {
    let answer = |level, message: String| Answer::new("aws", "", level, message);
    let Some(caller) = caller else {
        return answer(Level::Problem, format!("STS does not answer within {PATIENCE:?}; is it reachable from here?"));
    };
    // A clock that is off explains every other error.
    let off = caller.time.map(|time| now.duration_since(time).unsigned_abs()).filter(|off| *off > SKEW);
    match (&caller.arn, off) {
        (_, Some(off)) => {
            let off = off.as_secs();
            answer(
                Level::Problem,
                format!("the clock here and AWS's are {off} s apart, so that AWS refuses what is signed: set it"),
            )
        }
        (Ok(arn), None) => answer(Level::Fine, format!("asked as {arn}; the clock here agrees with AWS's")),
        (Err(error), None) => answer(
            Level::Problem,
            format!("who asks cannot be established: {error}; are there credentials and a region?"),
        ),
    }
}

fn judge_queue(facts: &QueueFacts, url: &str, of: Use, needed: usize) -> (Level, String) {
    let mut wrong = Vec::new();
    if !facts.is_fifo && of != Use::OtherDeadLetters {
        wrong
            .push("is not a FIFO queue, which keeps no order and refuses what is sent: make it anew as one".to_owned());
    }
    if facts.limit < needed && of != Use::OtherDeadLetters {
        let limit = facts.limit;
        wrong.push(format!("takes {limit} bytes in a message, but SLUICE_QUEUE_LIMIT says {needed}: make them equal"));
    }
    let counted = format!("waiting: {}, worked on or held: {}", facts.waiting, facts.hidden);
    if let Use::Deliveries { max_age } = of {
        if facts.retention <= max_age {
            wrong.push(format!(
                "forgets deliveries after {} s, before a target's `max_age` of {} s is over: keep them for longer",
                facts.retention.as_secs(),
                max_age.as_secs()
            ));
        }
    } else if facts.waiting > 0 && wrong.is_empty() {
        let message = format!("{counted}; `sluice dead-letters list --queue {url}` says why");
        return (Level::Warning, message);
    }
    match wrong.is_empty() {
        true => (Level::Fine, counted),
        false => (Level::Problem, format!("{}; {counted}", wrong.join("; "))),
    }
}

fn judge_table(facts: &TableFacts) -> (Level, String) {
    let mut wrong = Vec::new();
    if facts.keys != KEYS {
        wrong.push(format!("has the keys {}, not {}: make it anew", facts.keys.join(", "), KEYS.join(", ")));
    }
    match facts.expires.as_deref() {
        Some(EXPIRES) => {}
        Some(other) => {
            wrong.push(format!("lets records expire by `{other}`, not by `{EXPIRES}`: set its TTL attribute"));
        }
        None => wrong.push(format!("keeps records for ever: switch on TTL by the attribute `{EXPIRES}`")),
    }
    match wrong.is_empty() {
        true => (Level::Fine, "keys and expiry are as they should be".into()),
        false => (Level::Problem, wrong.join("; ")),
    }
}
