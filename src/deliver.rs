//! Delivery: render, send, classify, and decide what becomes of the message.
//!
//! Within a message group one thing happens after the other; groups run at once. A message leaves the queue in one
//! of three ways: it was delivered, it was put on the queue anew (set aside), or it is in the dead-letter queue.
//! Attempts are counted here, in the state, and written only when one fails: the queue's own count also rises for
//! messages that merely waited behind another.
//!
//! A target that refuses everything until somebody mends it has a [`breaker`].

pub mod breaker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::time::{Instant, timeout, timeout_at};

use breaker::{Breaker, Gate};

use crate::domain::delivery::{DeadLetter, Delivery, Unreadable};
use crate::domain::name::Name;
use crate::domain::outcome::{Blame, GivenUp, Outcome};
use crate::domain::secret::Resolved;
use crate::domain::signature;
use crate::port::{
    Clock, Connection, Key, Message, Meter, Of, Outbox, Queue, Received, Record, SendError, Sender, State, Unavailable,
    Unit,
};
use crate::relay::{Relay, TargetEntry, Unanswered};
use crate::secrets::SecretStore;
use crate::target::{Class, Outbound, RenderError, Response};

/// The first wait after a failed attempt; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The first wait, when chance makes it as short as it can be.
const SHORTEST_WAIT: Duration = Duration::from_millis(800);
/// The longest wait, unless the target asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// The longest that a queue can hide a message.
const LONGEST_HOLD: Duration = Duration::from_secs(12 * 60 * 60);
/// Waits are made longer or shorter by up to this much, so that targets are not hit in step.
const JITTER: f64 = 0.2;
/// After this many failed attempts a delivery to an in-cluster receiver no longer holds up those behind it.
const SET_ASIDE_AFTER: u32 = 3;
/// A message handed out this often without the recorded end of an attempt may be what ends the process.
const SUSPICIOUS_AFTER: u32 = 5;
/// How long a message is held when our state or the dead-letter queue cannot be reached, for each time that it was handed
/// out: what was handed out a thousand times the queue gives up by itself, and without a reason.
const OUTAGE_WAIT: Duration = Duration::from_secs(5);
/// The longest that it is held then, so that deliveries go on soon after the outage.
const LONGEST_OUTAGE_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long deleting a message is tried. The function's platform deletes, too, when the batch has ended, so that it ends
/// soon.
const INSIST: Duration = Duration::from_secs(20);
/// The pause before it is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How old a delivery is at least before it is given up because the relay file does not have its target, or its body is of
/// a later version: a deploy reaches intake first, and functions, agents and whoever has to restart them minutes later.
const DEPLOY: Duration = Duration::from_secs(15 * 60);
/// The first wait of such a delivery, which doubles. So long that it is handed out less often in that time than makes a
/// message suspicious: without its target, nothing can be noted of it.
const DEPLOY_WAIT: Duration = Duration::from_secs(30);
/// What is kept back of a function's time for what follows an attempt.
const RESERVE: Duration = Duration::from_secs(6);
/// What is kept back of that for answering, whatever is still under way.
const ANSWER: Duration = Duration::from_millis(500);
/// For how long messages stay hidden after the time of those who work on them: a function that ends just in time still has
/// what it delivered deleted.
const HIDDEN_AFTER: Duration = Duration::from_secs(10);
/// How long hiding them may take: the queue's own time is good enough.
const HIDING: Duration = Duration::from_secs(1);
/// What a second request of an attempt gets at least, however long the first one took.
const LEAST: Duration = Duration::from_secs(2);
/// For how long after a token was changed the one before it may still be the other side's.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// One time-out per target is set aside in this time; if the next one times out, too, it is the target's.
const TIME_OUTS_APART: Duration = Duration::from_secs(10 * 60);

/// Takes deliveries off the queue and to their targets.
pub struct Deliverer {
    /// The relay file.
    pub relay: Arc<Relay>,
    /// The secrets.
    pub secrets: Arc<SecretStore>,
    /// The delivery queue.
    pub queue: Arc<dyn Queue>,
    /// The dead-letter queue.
    pub dead_letters: Arc<dyn Outbox>,
    /// Where attempts are counted.
    pub state: Arc<dyn State>,
    /// Sends requests.
    pub sender: Arc<dyn Sender>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where counts go.
    pub meter: Arc<dyn Meter>,
    /// A random number from 0 to 1, for jitter.
    pub chance: fn() -> f64,
    /// What it has seen so far; empty at first.
    pub memory: Memory,
}

/// What a [`Deliverer`] remembers while its process lives.
#[derive(Debug, Default)]
pub struct Memory {
    /// Held by all who work; alone by who tries a message that may end the process.
    alone: RwLock<()>,
    /// Whether the process is about to end.
    stopping: AtomicBool,
    /// Targets at which an attempt timed out and none has passed since.
    timed_out: Mutex<BTreeSet<Name>>,
    /// When each target's breaker was last looked at by the way.
    looked: Mutex<BTreeMap<Name, Timestamp>>,
    /// When the state could last not be reached.
    without_state: Mutex<Option<Timestamp>>,
}

/// What is known of earlier attempts at a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Attempts {
    /// Attempts that ended.
    count: u32,
    /// How often the message had been handed out when the last one ended.
    receives: u32,
    /// Whether an attempt was begun alone and its end is not recorded.
    alone: bool,
}

/// The time that work on a batch has.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    began: Instant,
    ends: Instant,
}

/// What became of a message.
enum Fate {
    /// It is off the queue.
    Gone,
    /// Nothing more is to be done with it, but it is on the queue and will be handed out again unless the platform deletes
    /// it; so its followers must not go before it.
    Undeleted,
    /// It waits, and its followers with it.
    Held(Duration),
    /// It may be what ends the process, and is tried when nothing else is under way.
    Suspicious,
}

/// How work on a group ended.
enum End {
    /// All that is left of it stays on the queue.
    Settled,
    /// The first of what is left is suspicious.
    Suspicious,
}

/// A message, read.
struct Work {
    delivery: Delivery,
    attempts: Attempts,
    /// The open breaker whose trial it is.
    trial: Option<Breaker>,
}

/// What an attempt sends with.
struct Exchange<'a> {
    entry: &'a TargetEntry,
    delivery: &'a Delivery,
    secrets: &'a Resolved,
    connection: Connection,
    /// When the attempt's time is over.
    ends: Instant,
}

/// Why an attempt has no answer that could be judged.
enum NoAnswer {
    /// There was nothing that could be sent.
    NotSent(RenderError),
    /// It was sent, or was to be, and no answer came.
    Sent(SendError),
}

impl From<RenderError> for NoAnswer {
    fn from(error: RenderError) -> Self {
        Self::NotSent(error)
    }
}

impl From<SendError> for NoAnswer {
    fn from(error: SendError) -> Self {
        Self::Sent(error)
    }
}

impl Deliverer {
    /// Says that the process is about to end: nothing new is begun, and what was not begun goes back at once.
    pub fn set_stopping(&self) {
        self.memory.stopping.store(true, Ordering::Relaxed);
    }

    /// Hides messages that were handed out until shortly after `deadline`, so that they do not stay hidden for as long as
    /// the queue's own setting says when the process is killed over them. To be called before [`work`](Self::work) where
    /// nobody has asked for that time when they were taken off the queue. Best effort; takes a second at most.
    pub async fn hide(&self, messages: &[Received], deadline: Instant) {
        let wait = deadline.saturating_duration_since(Instant::now()) + HIDDEN_AFTER;
        match timeout(HIDING, self.queue.hold(messages, wait)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "messages are hidden for as long as the queue says"),
            Err(_) => tracing::warn!("messages are hidden for as long as the queue says: no answer in time"),
        }
    }

    /// Works on messages that were handed out, and returns before `deadline`. Returns those that stay on the queue; all
    /// others are deleted already, or the platform's to delete.
    pub async fn work(&self, messages: Vec<Received>, deadline: Instant) -> Vec<Received> {
        let deadline = Deadline { began: Instant::now(), ends: deadline };
        let mut groups: BTreeMap<String, VecDeque<Received>> = BTreeMap::new();
        for message in messages {
            groups.entry(message.group.clone()).or_default().push_back(message);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        let ends = {
            let _with_others = self.memory.alone.read().await;
            join_all(groups.iter_mut().map(|group| in_time(deadline, self.group(group, deadline)))).await
        };
        for (group, end) in groups.iter_mut().zip(ends) {
            if matches!(end, Some(End::Suspicious)) {
                in_time(deadline, self.suspects(group, deadline)).await;
            }
        }
        groups.into_iter().flatten().collect()
    }

    /// Works on a group from a suspicious message on, which is tried when nothing else is under way.
    async fn suspects(&self, group: &mut VecDeque<Received>, deadline: Deadline) {
        loop {
            let fate = {
                let _without_others = self.memory.alone.write().await;
                self.first_of(group, deadline, true).await
            };
            if !self.settle(group, fate).await {
                return;
            }
            let _with_others = self.memory.alone.read().await;
            if let End::Settled = self.group(group, deadline).await {
                return;
            }
        }
    }

    /// Works on the messages of one group in their order. What stays on the queue stays in `group`.
    async fn group(&self, group: &mut VecDeque<Received>, deadline: Deadline) -> End {
        while !group.is_empty() {
            let fate = self.first_of(group, deadline, false).await;
            if matches!(fate, Fate::Suspicious) {
                return End::Suspicious;
            }
            if !self.settle(group, fate).await {
                break;
            }
        }
        End::Settled
    }

    async fn first_of(&self, group: &VecDeque<Received>, deadline: Deadline, alone: bool) -> Fate {
        let Some(message) = group.front() else { return Fate::Held(Duration::ZERO) };
        if self.memory.stopping.load(Ordering::Relaxed) {
            return Fate::Held(Duration::ZERO);
        }
        match AssertUnwindSafe(self.message(message, deadline, alone)).catch_unwind().await {
            Ok(fate) => fate,
            Err(_) => self.panicked(message).await,
        }
    }

    /// Settles what becomes of the group after its first message met its fate. Whether work on it goes on; else all that is
    /// left of it has to wait.
    async fn settle(&self, group: &mut VecDeque<Received>, fate: Fate) -> bool {
        let wait = match fate {
            Fate::Gone => {
                group.pop_front();
                return true;
            }
            Fate::Undeleted => {
                group.pop_front();
                Duration::ZERO
            }
            Fate::Held(wait) => wait,
            Fate::Suspicious => Duration::ZERO,
        };
        if !wait.is_zero() {
            join_all(group.iter().map(|message| self.outlived(message))).await;
        }
        if !group.is_empty()
            && let Err(error) = self.queue.hold(group.make_contiguous(), wait).await
        {
            // They come back by themselves when their visibility times out.
            tracing::warn!(%error, "messages could not be held");
        }
        false
    }

    /// Notes of a message that it was handed out and the process lives. What waits behind a failing one is handed out as
    /// often as that: without this it would be suspicious for it, and the next kill of the process would be laid to it.
    async fn outlived(&self, message: &Received) {
        if message.receives < SUSPICIOUS_AFTER {
            return;
        }
        let Ok(delivery) = Delivery::decode(&message.body) else { return };
        let Some(entry) = self.relay.targets.get(&delivery.target) else { return };
        let noted = async {
            let attempts = self.attempts(message, &delivery).await?;
            if attempts.receives >= message.receives {
                return Ok(());
            }
            self.note(entry, &delivery, Attempts { receives: message.receives, alone: false, ..attempts }).await
        };
        if let Err(error) = noted.await {
            // What cannot be noted now is noted the next time.
            self.without_state(message, &error);
        }
    }

    async fn message(&self, message: &Received, deadline: Deadline, alone: bool) -> Fate {
        let delivery = match Delivery::decode(&message.body) {
            Ok(delivery) => delivery,
            Err(error) => {
                let queued = if let Unreadable::Version { queued, .. } = error { queued } else { None };
                let reason = error.to_string();
                return match queued.and_then(|queued| self.deploy_wait(message, queued, &reason)) {
                    Some(wait) => Fate::Held(wait),
                    None => self.bury_unreadable(message, reason).await,
                };
            }
        };
        let Some(entry) = self.relay.targets.get(&delivery.target) else {
            let reason = format!("the relay file has no target `{}`", delivery.target);
            return match self.deploy_wait(message, delivery.queued, &reason) {
                Some(wait) => Fate::Held(wait),
                None => self.bury(message, delivery, 0, GivenUp::Undeliverable, reason).await,
            };
        };
        let attempts = match self.attempts(message, &delivery).await {
            Ok(attempts) => attempts,
            Err(error) => return Fate::Held(self.without_state(message, &error)),
        };
        let Some(time) = self.time_for(entry, deadline) else { return Fate::Held(Duration::ZERO) };
        let trial = match self.gate(entry, &delivery, message.receives).await {
            Ok(Gate::Closed) => None,
            Ok(Gate::HalfOpen(breaker)) => Some(breaker),
            Ok(Gate::Open(breaker)) => return self.not_tried(message, entry, delivery, attempts, breaker).await,
            Err(error) => return Fate::Held(self.without_state(message, &error)),
        };
        let mut work = Work { delivery, attempts, trial };
        let unended = message.receives.saturating_sub(attempts.receives) > SUSPICIOUS_AFTER;
        if unended && self.state_was_away() {
            // It came back again and again while that could not be noted.
            work.attempts = Attempts { receives: message.receives, alone: false, ..attempts };
        } else if unended {
            if attempts.alone {
                let reason = "every attempt at it, the last one alone, ended the process that made it".to_owned();
                let count = work.delivery.attempts + attempts.count;
                self.release_trial(&work.delivery.target, work.trial).await;
                return self.bury(message, work.delivery, count, GivenUp::Crashed, reason).await;
            }
            if !alone {
                self.release_trial(&work.delivery.target, work.trial).await;
                return Fate::Suspicious;
            }
            work.attempts.alone = true;
        }
        if unended && let Err(error) = self.note(entry, &work.delivery, work.attempts).await {
            return Fate::Held(self.without_state(message, &error));
        }
        let started = Instant::now();
        let outcome = self.attempt(entry, &work.delivery, time).await;
        self.judge(message, entry, work, outcome, started.elapsed()).await
    }

    /// How long a message waits that only another relay file or another version can deliver. `None` when it has waited as
    /// long as a deploy may take.
    fn deploy_wait(&self, message: &Received, queued: Timestamp, reason: &str) -> Option<Duration> {
        let left = DEPLOY.checked_sub(self.age(queued)).filter(|left| !left.is_zero())?;
        tracing::warn!(message = message.message_id, reason, "held: a deploy may be under way");
        Some(doubled(DEPLOY_WAIT, message.receives).min(left))
    }

    /// How long an attempt may take. `None` if that is not enough for a whole one and the next invocation has more;
    /// what an invocation begins with gets all there is.
    fn time_for(&self, entry: &TargetEntry, deadline: Deadline) -> Option<Duration> {
        let wanted = entry.keys.timeout.0;
        let left = deadline.ends.saturating_duration_since(Instant::now()).saturating_sub(RESERVE);
        let begins = deadline.began.elapsed() < RESERVE;
        (left >= wanted || (begins && !left.is_zero())).then(|| wanted.min(left))
    }

    /// One attempt: render, send, classify; twice where the secret turns out to have changed.
    async fn attempt(&self, entry: &TargetEntry, delivery: &Delivery, time: Duration) -> Result<Outcome, SendError> {
        let ends = Instant::now() + time;
        let mut reread = false;
        loop {
            let found = self.secrets.find(entry.secrets(), Some(GRACE)).await;
            let connection = match found.connection(&self.relay, entry) {
                Ok(connection) => connection,
                Err(reason) => return Ok(Outcome::Retry { blame: Blame::Target, reason }),
            };
            let exchange = Exchange { entry, delivery, secrets: &found.resolved, connection, ends };
            let (response, outcome) = match self.try_renderings(&exchange).await {
                Ok(judged) => judged,
                Err(NoAnswer::NotSent(RenderError::NoSecret(reference))) => {
                    return Ok(Outcome::Retry { blame: Blame::Target, reason: found.without(&reference) });
                }
                Err(NoAnswer::NotSent(RenderError::UnusableSecret(reason))) => {
                    return Ok(Outcome::Retry { blame: Blame::Setup, reason });
                }
                Err(NoAnswer::NotSent(RenderError::Unfit(reason))) => return Ok(Outcome::Rejected { reason }),
                Err(NoAnswer::Sent(error)) => return Err(error),
            };
            let doubtful = entry.target.doubts_secret(&response);
            if reread || !doubtful || !self.secrets.refresh(entry.secrets()).await {
                return Ok(outcome);
            }
            reread = true;
        }
    }

    /// Sends what the target renders, one rendering after the other while it wants the next one. The first answer counts,
    /// unless a later one says more: it passes, it ends the row, or it comes from something that looked at the event, which
    /// the first did not.
    async fn try_renderings(&self, exchange: &Exchange<'_>) -> Result<(Response, Outcome), NoAnswer> {
        let Exchange { entry, delivery, secrets, .. } = exchange;
        let mut judged: Option<(Response, Outcome)> = None;
        for request in entry.target.render(delivery, secrets, self.clock.now())? {
            let response = self.exchange(exchange, request).await?;
            let outcome = entry.target.classify(&response, self.clock.now());
            let ends_row = outcome.reason().is_none() || !entry.target.tries_next(&response);
            let looked = |outcome: &Outcome| matches!(outcome, Outcome::Retry { blame: Blame::Event, .. });
            if ends_row {
                return Ok((response, outcome));
            }
            if judged.as_ref().is_none_or(|(_, first)| looked(&outcome) && !looked(first)) {
                judged = Some((response, outcome));
            }
        }
        judged.ok_or_else(|| RenderError::Unfit("there is nothing to send".into()).into())
    }

    /// Sends a request and what follows it up. The last answer, without the credentials that it may repeat.
    async fn exchange(&self, exchange: &Exchange<'_>, mut request: Outbound) -> Result<Response, NoAnswer> {
        let Exchange { entry, delivery, secrets, connection, ends } = exchange;
        let mut response = loop {
            // All requests of an attempt share its time.
            let left = ends.saturating_duration_since(Instant::now()).max(LEAST);
            let response = self.sender.send(request.clone(), connection, left).await?;
            match entry.target.follow_up(delivery, &request, &response, secrets, self.clock.now())? {
                Some(next) => request = next,
                None => break response,
            }
        };
        // Some repeat what they are sent, and what they say goes into logs and dead letters.
        let credentials = request.credentials();
        let accepted = secrets.accepted(entry.secrets()).map(|secret| secret.expose());
        response.mask(accepted.chain(credentials.iter().map(Vec::as_slice)));
        Ok(response)
    }

    async fn judge(
        &self,
        message: &Received,
        entry: &TargetEntry,
        work: Work,
        outcome: Result<Outcome, SendError>,
        took: Duration,
    ) -> Fate {
        let Work { delivery, attempts, trial } = work;
        let timed_out = matches!(outcome, Err(SendError::TimedOut(_)));
        let unanswered = timed_out || matches!(outcome, Err(SendError::Broken(_)));
        let outcome = outcome.unwrap_or_else(|error| match error {
            SendError::Egress(reason) => Outcome::Rejected { reason },
            SendError::Unusable(reason) => Outcome::Retry { blame: Blame::Setup, reason },
            error => Outcome::Retry { blame: Blame::Target, reason: error.to_string() },
        });
        let target = delivery.target.clone();
        let of = Of::Target(target.as_str());
        self.meter.record("Attempts", of, 1.0, Unit::Count);
        let total = delivery.attempts + attempts.count + 1;
        tracing::info!(
            delivery = %delivery.id,
            event = %delivery.event.id,
            source = %delivery.event.source,
            target = %target,
            outcome = outcome.word(),
            attempt = total,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            reason = outcome.reason(),
            "attempt"
        );
        if outcome.reason().is_some() {
            self.meter.record("AttemptsFailed", of, 1.0, Unit::Count);
        }
        let (blame, reason, asked) = match outcome {
            Outcome::Delivered | Outcome::Accepted => {
                let fate = self.delivered(message, &delivery, attempts).await;
                self.on_success(entry, &target, trial).await;
                return fate;
            }
            Outcome::Rejected { reason } => {
                self.release_trial(&target, trial).await;
                return self.bury(message, delivery, total, GivenUp::Rejected, reason).await;
            }
            Outcome::RetryAfter { wait, reason } => (Blame::Target, reason, wait),
            Outcome::Retry { blame, reason } => (blame, reason, Duration::ZERO),
        };
        if unanswered && !entry.target.is_idempotent() && entry.keys.unanswered() == Unanswered::GiveUp {
            self.release_trial(&target, trial).await;
            let reason = format!("{reason}; it may have arrived, and `retry.unanswered` says not to repeat it then");
            return self.bury(message, delivery, total, GivenUp::Unanswered, reason).await;
        }
        let held = match self.on_failure(entry, &target, trial, (blame, &reason), asked).await {
            Ok(held) => held,
            Err(error) => return Fate::Held(self.without_state(message, &error).max(asked)),
        };
        let Some(left) = self.left(entry, &delivery) else {
            return self.expire(message, entry, delivery, total, &reason).await;
        };
        let ended = Attempts { count: attempts.count + 1, receives: message.receives, alone: false };
        if let Err(error) = self.note(entry, &delivery, ended).await {
            return Fate::Held(self.without_state(message, &error).max(asked));
        }
        let is_aside = message.group != target.as_str();
        if entry.target.class() == Class::InCluster && !is_aside && total >= SET_ASIDE_AFTER {
            let aside = if timed_out { self.may_set_aside_timeout(&target).await } else { blame == Blame::Event };
            if aside {
                return self.set_aside(message, delivery, total).await;
            }
        }
        let wait = held.unwrap_or_else(|| self.wait(total).max(asked));
        Fate::Held(wait.min(left).clamp(SHORTEST_WAIT, LONGEST_HOLD))
    }

    /// What becomes of a delivery whose target's breaker is open: it waits for as long as it may.
    async fn not_tried(
        &self,
        message: &Received,
        entry: &TargetEntry,
        delivery: Delivery,
        attempts: Attempts,
        breaker: Breaker,
    ) -> Fate {
        let Some(left) = self.left(entry, &delivery) else {
            let count = delivery.attempts + attempts.count;
            return self.expire(message, entry, delivery, count, &breaker.reason).await;
        };
        let wait = Duration::try_from(breaker.next.duration_since(self.clock.now())).unwrap_or_default();
        Fate::Held(wait.min(left).clamp(SHORTEST_WAIT, LONGEST_HOLD))
    }

    /// How long the delivery may still be tried. `None` if its time is over.
    fn left(&self, entry: &TargetEntry, delivery: &Delivery) -> Option<Duration> {
        entry.keys.max_age().checked_sub(self.age(delivery.queued)).filter(|left| !left.is_zero())
    }

    /// For how long something has been on the queue that was queued then.
    fn age(&self, queued: Timestamp) -> Duration {
        Duration::try_from(self.clock.now().duration_since(queued)).unwrap_or_default()
    }

    async fn expire(
        &self,
        message: &Received,
        entry: &TargetEntry,
        delivery: Delivery,
        attempts: u32,
        reason: &str,
    ) -> Fate {
        let reason = format!("tried for {}: {reason}", spoken(entry.keys.max_age()));
        self.bury(message, delivery, attempts, GivenUp::Expired, reason).await
    }

    /// Our own wait after `attempts` failed ones.
    fn wait(&self, attempts: u32) -> Duration {
        let wait = doubled(FIRST_WAIT, attempts).min(LONGEST_WAIT);
        wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * (self.chance)()).min(LONGEST_WAIT)
    }

    async fn delivered(&self, message: &Received, delivery: &Delivery, attempts: Attempts) -> Fate {
        let of = Of::Target(delivery.target.as_str());
        let age = self.clock.now().duration_since(delivery.queued);
        self.meter.record("Deliveries", of, 1.0, Unit::Count);
        self.meter.record("DeliveryTime", of, age.as_secs_f64() * 1000.0, Unit::Milliseconds);
        let had_timed_out =
            self.memory.timed_out.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery.target);
        if attempts != Attempts::default() {
            self.forget(&attempts_key(delivery)).await;
        }
        if had_timed_out {
            self.forget(&time_out_key(&delivery.target)).await;
        }
        self.off_the_queue(message).await
    }

    /// Whether a delivery that timed out is set aside, to see if the next one passes.
    async fn may_set_aside_timeout(&self, target: &Name) -> bool {
        self.memory.timed_out.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone());
        let record = Record { value: json!({}), expires: later(self.clock.now(), TIME_OUTS_APART) };
        self.state.create(&time_out_key(target), record).await.unwrap_or_else(|error| {
            tracing::warn!(%target, %error, "a delivery that timed out is not set aside");
            false
        })
    }

    /// Puts a delivery on the queue anew, in a group of its own, so that those behind it can pass.
    async fn set_aside(&self, message: &Received, delivery: Delivery, attempts: u32) -> Fate {
        let (wait, key) = (self.wait(attempts), attempts_key(&delivery));
        let aside = Delivery { generation: delivery.generation + 1, attempts, ..delivery };
        let body = match aside.encode(self.queue.limit()) {
            Ok(body) => body,
            Err(error) => return self.bury(message, aside, attempts, GivenUp::Undeliverable, error.to_string()).await,
        };
        let anew = Message {
            group: format!("{}!{}", aside.target, aside.id),
            deduplication_id: aside.deduplication_id(),
            body,
        };
        if let Err(error) = self.queue.send(&[anew]).await {
            tracing::error!(delivery = %aside.id, %error, "nothing can be set aside");
            return Fate::Held(wait);
        }
        tracing::warn!(delivery = %aside.id, target = %aside.target, attempts, "set aside: those behind it can pass");
        let fate = self.off_the_queue(message).await;
        // It carries its attempts along.
        self.forget(&key).await;
        fate
    }

    async fn panicked(&self, message: &Received) -> Fate {
        tracing::error!(message = %message.message_id, "working on a message panicked");
        let Ok(delivery) = Delivery::decode(&message.body) else {
            return self.bury_unreadable(message, "reading it panicked".into()).await;
        };
        let Some(entry) = self.relay.targets.get(&delivery.target) else { return Fate::Held(LONGEST_WAIT) };
        let attempts = match self.attempts(message, &delivery).await {
            Ok(attempts) => attempts,
            Err(error) => return Fate::Held(self.without_state(message, &error)),
        };
        let outcome = Outcome::Retry { blame: Blame::Event, reason: "working on it panicked".into() };
        self.judge(message, entry, Work { delivery, attempts, trial: None }, Ok(outcome), Duration::ZERO).await
    }

    async fn bury_unreadable(&self, message: &Received, reason: String) -> Fate {
        let letter = DeadLetter {
            class: GivenUp::Undeliverable,
            reason,
            given_up: self.clock.now(),
            attempts: 0,
            delivery: None,
            body: Some(message.body.clone()),
        };
        let target = message.group.split('!').next().unwrap_or_default().to_owned();
        self.dead_letter(message, letter, target, signature::digest(&["unreadable", &message.message_id])).await
    }

    /// Gives a delivery up: into the dead-letter queue, then off the queue.
    async fn bury(
        &self,
        message: &Received,
        delivery: Delivery,
        attempts: u32,
        class: GivenUp,
        reason: String,
    ) -> Fate {
        let target = delivery.target.to_string();
        let deduplication_id = signature::digest(&["dead", &delivery.deduplication_id()]);
        let key = attempts_key(&delivery);
        let letter =
            DeadLetter { class, reason, given_up: self.clock.now(), attempts, delivery: Some(delivery), body: None };
        let fate = self.dead_letter(message, letter, target, deduplication_id).await;
        if matches!(fate, Fate::Gone | Fate::Undeleted) {
            self.forget(&key).await;
        }
        fate
    }

    async fn dead_letter(
        &self,
        message: &Received,
        letter: DeadLetter,
        target: String,
        deduplication_id: String,
    ) -> Fate {
        let id = letter.delivery.as_ref().map(|delivery| delivery.id.clone());
        tracing::error!(
            delivery = id,
            target,
            class = ?letter.class,
            attempts = letter.attempts,
            reason = %letter.reason,
            "given up"
        );
        let body = match letter.encode(self.dead_letters.limit()) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(delivery = id, %error, "the dead letter does not fit; the delivery stays on the queue");
                return Fate::Held(LONGEST_WAIT);
            }
        };
        // A group of its own for each: of a FIFO queue nobody sees more than ten messages of a group at once.
        let group = format!("{target}!{}", &deduplication_id[..32]);
        let stored = self.dead_letters.send(&[Message { group, deduplication_id, body }]).await;
        if let Err(error) = stored {
            tracing::error!(delivery = id, %error, "nothing can be put among the dead letters");
            return Fate::Held(outage_wait(message));
        }
        self.meter.record("DeadLetters", Of::Target(&target), 1.0, Unit::Count);
        self.tell_of(&target, &letter).await;
        self.off_the_queue(message).await
    }

    /// Deletes a message, and tries so for a while: what is not deleted is repeated, and holds up its group.
    async fn off_the_queue(&self, message: &Received) -> Fate {
        let began = Instant::now();
        while let Err(error) = self.queue.delete(message).await {
            if began.elapsed() + PAUSE > INSIST {
                tracing::error!(message = message.message_id, %error, "not deleted; those behind it have to wait");
                return Fate::Undeleted;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Fate::Gone
    }

    async fn attempts(&self, message: &Received, delivery: &Delivery) -> Result<Attempts, Unavailable> {
        if message.receives <= 1 {
            return Ok(Attempts::default());
        }
        let record = self.state.get(&attempts_key(delivery)).await?;
        Ok(record.and_then(|record| serde_json::from_value(record.value).ok()).unwrap_or_default())
    }

    async fn forget(&self, key: &Key) {
        if let Err(error) = self.state.delete(key).await {
            tracing::warn!(record = key.sk, %error, "a record of the past stays until it expires");
        }
    }

    async fn note(&self, entry: &TargetEntry, delivery: &Delivery, attempts: Attempts) -> Result<(), Unavailable> {
        // Kept a day longer than the delivery can live.
        let expires = later(delivery.queued, entry.keys.max_age() + Duration::from_secs(86_400));
        let expires = expires.max(later(self.clock.now(), Duration::from_secs(86_400)));
        let mut value = json!(attempts);
        value["queued"] = json!(delivery.queued);
        self.state.put(&attempts_key(delivery), Record { value, expires }).await
    }

    /// Tells of an error of the state, and remembers it. How long the message has to wait.
    fn without_state(&self, message: &Received, error: &Unavailable) -> Duration {
        tracing::error!(message = message.message_id, %error, "no attempt can be made, or it cannot be counted");
        *self.memory.without_state.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
        outage_wait(message)
    }

    /// Whether the state could not be reached so lately that messages are still coming back from their waits for it.
    fn state_was_away(&self) -> bool {
        let last = *self.memory.without_state.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| self.clock.now() <= later(last, 2 * LONGEST_OUTAGE_WAIT))
    }
}

/// What the keys of noted deliveries begin with, among all that is kept of their target.
pub(crate) const NOTED: &str = "delivery#";

/// Where the state of a target is kept.
pub(crate) fn state_of(target: &Name) -> String {
    format!("target#{target}")
}

fn attempts_key(delivery: &Delivery) -> Key {
    Key { pk: state_of(&delivery.target), sk: format!("{NOTED}{}#{}", delivery.id, delivery.generation) }
}

fn time_out_key(target: &Name) -> Key {
    Key { pk: state_of(target), sk: "time-out".into() }
}

/// Works on a group for as long as there is time. `None` if it ended before the work: what is left of the group comes back
/// when it is no longer hidden.
async fn in_time<T>(deadline: Deadline, work: impl Future<Output = T>) -> Option<T> {
    let ends = deadline.ends.checked_sub(ANSWER).unwrap_or(deadline.ends);
    let ended = timeout_at(ends, work).await;
    if ended.is_err() {
        tracing::warn!("the time is over; messages come back when they are no longer hidden");
    }
    ended.ok()
}

/// `first`, doubled for each further time.
fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(16))
}

/// How long a message waits for something of ours that cannot be reached.
fn outage_wait(message: &Received) -> Duration {
    OUTAGE_WAIT.saturating_mul(message.receives.max(1)).min(LONGEST_OUTAGE_WAIT)
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// A length of time in a reason.
fn spoken(length: Duration) -> String {
    match length.as_secs() {
        seconds if seconds >= 7200 => format!("{} h", seconds / 3600),
        seconds if seconds >= 120 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
