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
use tokio::time::Instant;

use breaker::{Breaker, Gate};

use crate::domain::delivery::{DeadLetter, Delivery};
use crate::domain::name::Name;
use crate::domain::outcome::{Blame, GivenUp, Outcome};
use crate::domain::signature;
use crate::port::{
    Clock, Key, Message, Meter, Of, Outbox, Queue, Received, Record, SendError, Sender, State, Unavailable, Unit,
};
use crate::relay::{Relay, TargetEntry, Unanswered};
use crate::secrets::SecretStore;
use crate::target::{Class, RenderError, Response};

/// The first wait after a failed attempt; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
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
/// How long messages are held when our own state cannot be reached.
const STATE_WAIT: Duration = Duration::from_secs(5);
/// What is kept back of a function's time for what follows an attempt.
const RESERVE: Duration = Duration::from_secs(6);
/// What a second request of an attempt gets at least, however long the first one took.
const LEAST: Duration = Duration::from_secs(2);
/// For how long after a token was changed the one before it may still be the other side's.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// One time-out per target is set aside in this time; if the next one times out, too, it is the target's.
const TIME_OUT_PROBE: Duration = Duration::from_secs(10 * 60);

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
    /// Held by all who work; alone by who tries a message that may end the process.
    pub alone: tokio::sync::RwLock<()>,
    /// Set when the process is about to end: nothing new is begun, and what was not begun goes back at once.
    pub stopping: AtomicBool,
    /// Targets at which an attempt timed out and none has passed since.
    pub timed_out: Mutex<BTreeSet<Name>>,
    /// When each target's breaker was last looked at by the way.
    pub looked: Mutex<BTreeMap<Name, Timestamp>>,
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
    /// It waits, and its followers with it.
    Held(Duration),
    /// It may be what ends the process, and is tried when nothing else is under way.
    Suspicious,
}

/// How work on a group ended.
enum End {
    /// These stay on the queue.
    Kept(Vec<Received>),
    /// The first of these is suspicious.
    Suspicious(VecDeque<Received>),
}

/// A message, read.
struct Work {
    delivery: Delivery,
    attempts: Attempts,
    /// The open breaker that it was tried in spite of.
    probed: Option<Breaker>,
}

impl Deliverer {
    /// Works on messages that were handed out, until `deadline`. Returns those that stay on the queue; all others
    /// are deleted already.
    pub async fn work(&self, messages: Vec<Received>, deadline: Instant) -> Vec<Received> {
        let deadline = Deadline { began: Instant::now(), ends: deadline };
        let mut groups: BTreeMap<String, VecDeque<Received>> = BTreeMap::new();
        for message in messages {
            groups.entry(message.group.clone()).or_default().push_back(message);
        }
        let mut kept = Vec::new();
        let mut postponed = Vec::new();
        {
            let _with_others = self.alone.read().await;
            for end in join_all(groups.into_values().map(|group| self.group(group, deadline))).await {
                match end {
                    End::Kept(messages) => kept.extend(messages),
                    End::Suspicious(group) => postponed.push(group),
                }
            }
        }
        for mut group in postponed {
            loop {
                let fate = {
                    let _without_others = self.alone.write().await;
                    self.first_of(&group, deadline, true).await
                };
                group = match self.settle(group, fate).await {
                    Ok(group) => group,
                    Err(messages) => {
                        kept.extend(messages);
                        break;
                    }
                };
                let _with_others = self.alone.read().await;
                match self.group(group, deadline).await {
                    End::Kept(messages) => {
                        kept.extend(messages);
                        break;
                    }
                    End::Suspicious(rest) => group = rest,
                }
            }
        }
        kept
    }

    /// Works on the messages of one group in their order.
    async fn group(&self, mut group: VecDeque<Received>, deadline: Deadline) -> End {
        while !group.is_empty() {
            let fate = self.first_of(&group, deadline, false).await;
            if matches!(fate, Fate::Suspicious) {
                return End::Suspicious(group);
            }
            group = match self.settle(group, fate).await {
                Ok(group) => group,
                Err(messages) => return End::Kept(messages),
            };
        }
        End::Kept(Vec::new())
    }

    async fn first_of(&self, group: &VecDeque<Received>, deadline: Deadline, alone: bool) -> Fate {
        let Some(message) = group.front() else { return Fate::Held(Duration::ZERO) };
        if self.stopping.load(Ordering::Relaxed) {
            return Fate::Held(Duration::ZERO);
        }
        match AssertUnwindSafe(self.message(message, deadline, alone)).catch_unwind().await {
            Ok(fate) => fate,
            Err(_) => self.panicked(message).await,
        }
    }

    /// What is left of the group after its first message met its fate; an error are messages that have to wait.
    async fn settle(&self, mut group: VecDeque<Received>, fate: Fate) -> Result<VecDeque<Received>, Vec<Received>> {
        let wait = match fate {
            Fate::Gone => {
                group.pop_front();
                return Ok(group);
            }
            Fate::Held(wait) => wait,
            Fate::Suspicious => Duration::ZERO,
        };
        let kept: Vec<_> = group.into();
        if !wait.is_zero() {
            join_all(kept.iter().map(|message| self.outlived(message))).await;
        }
        if !kept.is_empty()
            && let Err(error) = self.queue.hold(&kept, wait).await
        {
            // They come back by themselves when their visibility times out.
            tracing::warn!(%error, "messages could not be held");
        }
        Err(kept)
    }

    /// Notes of a message that it was handed out and the process lives. What waits behind a failing one is handed out as
    /// often as that: without this it would be suspicious for it, and the next kill of the process would be laid to it.
    async fn outlived(&self, message: &Received) {
        if message.receives < SUSPICIOUS_AFTER {
            return;
        }
        let Ok(delivery) = Delivery::decode(&message.body) else { return };
        let Some(entry) = self.relay.targets.get(&delivery.target) else { return };
        if let Ok(attempts) = self.attempts(message, &delivery).await
            && attempts.receives < message.receives
        {
            // What cannot be noted now is noted the next time.
            let _ =
                self.note(entry, &delivery, Attempts { receives: message.receives, alone: false, ..attempts }).await;
        }
    }

    async fn message(&self, message: &Received, deadline: Deadline, alone: bool) -> Fate {
        let delivery = match Delivery::decode(&message.body) {
            Ok(delivery) => delivery,
            Err(error) => return self.bury_unreadable(message, error.to_string()).await,
        };
        let Some(entry) = self.relay.targets.get(&delivery.target) else {
            let reason = format!("the relay file has no target `{}` any more", delivery.target);
            return self.bury(message, delivery, 0, GivenUp::Undeliverable, reason).await;
        };
        let attempts = match self.attempts(message, &delivery).await {
            Ok(attempts) => attempts,
            Err(error) => {
                tracing::error!(delivery = %delivery.id, %error, "the state cannot be read");
                return Fate::Held(STATE_WAIT);
            }
        };
        let Some(time) = self.time_for(entry, deadline) else { return Fate::Held(Duration::ZERO) };
        let probed = match self.gate(entry, &delivery, message.receives).await {
            Ok(Gate::Closed) => None,
            Ok(Gate::Probe(breaker)) => Some(breaker),
            Ok(Gate::Open(breaker)) => return self.not_tried(message, entry, delivery, attempts, breaker).await,
            Err(error) => {
                tracing::error!(delivery = %delivery.id, %error, "the state cannot be read");
                return Fate::Held(STATE_WAIT);
            }
        };
        let work = Work { delivery, attempts, probed };
        if message.receives.saturating_sub(attempts.receives) > SUSPICIOUS_AFTER {
            if attempts.alone {
                let reason = "every attempt at it, the last one alone, ended the process that made it".to_owned();
                let count = work.delivery.attempts + attempts.count;
                self.leave(&work.delivery.target, work.probed).await;
                return self.bury(message, work.delivery, count, GivenUp::Crashed, reason).await;
            }
            if !alone {
                return Fate::Suspicious;
            }
            if self.note(entry, &work.delivery, Attempts { alone: true, ..attempts }).await.is_err() {
                return Fate::Held(STATE_WAIT);
            }
        }
        let started = Instant::now();
        let outcome = self.attempt(entry, &work.delivery, time).await;
        self.judge(message, entry, work, outcome, started.elapsed()).await
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
        let started = Instant::now();
        for reread in [false, true] {
            let found = self.secrets.find(entry.secrets(), Some(GRACE)).await;
            let connection = match found.connection(&self.relay, entry) {
                Ok(connection) => connection,
                Err(reason) => return Ok(Outcome::Retry { blame: Blame::Target, reason }),
            };
            let unrendered = |error| match error {
                RenderError::NoSecret(reference) => {
                    Outcome::Retry { blame: Blame::Target, reason: found.without(&reference) }
                }
                RenderError::UnusableSecret(reason) => Outcome::Retry { blame: Blame::Setup, reason },
                RenderError::Unfit(reason) => Outcome::Rejected { reason },
            };
            let requests = match entry.target.render(delivery, &found.resolved, self.clock.now()) {
                Ok(requests) => requests,
                Err(error) => return Ok(unrendered(error)),
            };
            // The first answer counts, unless a later one says more: it passes, it ends the row, or it comes from
            // something that looked at the event, which the first did not.
            let mut judged: Option<(Response, Outcome)> = None;
            for mut request in requests {
                let mut response = loop {
                    // All requests of an attempt share its time.
                    let left = time.saturating_sub(started.elapsed()).max(LEAST);
                    let response = self.sender.send(request.clone(), &connection, left).await?;
                    let (secrets, now) = (&found.resolved, self.clock.now());
                    match entry.target.follow_up(delivery, &request, &response, secrets, now) {
                        Ok(Some(next)) => request = next,
                        Ok(None) => break response,
                        Err(error) => return Ok(unrendered(error)),
                    }
                };
                // Some repeat what they are sent, and what they say goes into logs and dead letters.
                let credentials = request.credentials();
                let secrets = found.resolved.accepted(entry.secrets()).map(|secret| secret.expose());
                response.mask(secrets.chain(credentials.iter().map(Vec::as_slice)));
                let outcome = entry.target.classify(&response, self.clock.now());
                let passed = matches!(outcome, Outcome::Delivered | Outcome::Accepted);
                let next = !passed && entry.target.tries_next(&response);
                let looked = |outcome: &Outcome| matches!(outcome, Outcome::Retry { blame: Blame::Event, .. });
                let says_more = judged.as_ref().is_none_or(|(_, first)| looked(&outcome) && !looked(first));
                if says_more || !next {
                    judged = Some((response, outcome));
                }
                if !next {
                    break;
                }
            }
            let Some((response, outcome)) = judged else {
                return Ok(Outcome::Rejected { reason: "there is nothing to send".into() });
            };
            let doubtful = !reread && entry.target.doubts_secret(&response);
            if !(doubtful && self.secrets.refresh(entry.secrets()).await) {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Retry { blame: Blame::Target, reason: "the secret changed while it was used".into() })
    }

    async fn judge(
        &self,
        message: &Received,
        entry: &TargetEntry,
        work: Work,
        outcome: Result<Outcome, SendError>,
        took: Duration,
    ) -> Fate {
        let Work { delivery, attempts, probed } = work;
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
        let (reason, asked, blame) = match &outcome {
            Outcome::Delivered | Outcome::Accepted => (None, None, Blame::Target),
            Outcome::RetryAfter { wait, reason } => (Some(reason.clone()), Some(*wait), Blame::Target),
            Outcome::Retry { blame, reason } => (Some(reason.clone()), None, *blame),
            Outcome::Rejected { reason } => (Some(reason.clone()), None, Blame::Event),
        };
        tracing::info!(
            delivery = %delivery.id,
            event = %delivery.event.id,
            source = %delivery.event.source,
            target = %target,
            outcome = outcome.word(),
            attempt = total,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            reason,
            "attempt"
        );
        let Some(reason) = reason else {
            let fate = self.delivered(message, &delivery, attempts).await;
            self.mended(entry, &target, probed).await;
            return fate;
        };
        self.meter.record("AttemptsFailed", of, 1.0, Unit::Count);
        if matches!(outcome, Outcome::Rejected { .. }) {
            self.leave(&target, probed).await;
            return self.bury(message, delivery, total, GivenUp::Rejected, reason).await;
        }
        if unanswered && !entry.target.is_idempotent() && entry.keys.unanswered() == Unanswered::GiveUp {
            self.leave(&target, probed).await;
            let reason = format!("{reason}; it may have arrived, and `retry.unanswered` says not to repeat it then");
            return self.bury(message, delivery, total, GivenUp::Unanswered, reason).await;
        }
        let Ok(held) = self.broken(entry, &target, probed, (blame, &reason), asked).await else {
            return Fate::Held(STATE_WAIT.max(asked.unwrap_or_default()));
        };
        let Some(left) = self.left(entry, &delivery) else {
            return self.expire(message, entry, delivery, total, &reason).await;
        };
        let ended = Attempts { count: attempts.count + 1, receives: message.receives, alone: false };
        if self.note(entry, &delivery, ended).await.is_err() {
            return Fate::Held(STATE_WAIT.max(asked.unwrap_or_default()));
        }
        let is_aside = message.group != target.as_str();
        if entry.target.class() == Class::InCluster && !is_aside && total >= SET_ASIDE_AFTER {
            let aside = if timed_out { self.may_probe(&target).await } else { blame == Blame::Event };
            if aside {
                return self.set_aside(message, delivery, total).await;
            }
        }
        let wait = held.unwrap_or_else(|| self.wait(total).max(asked.unwrap_or_default()));
        Fate::Held(wait.min(left).clamp(FIRST_WAIT, LONGEST_HOLD))
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
        Fate::Held(wait.min(left).clamp(FIRST_WAIT, LONGEST_HOLD))
    }

    /// How long the delivery may still be tried. `None` if its time is over.
    fn left(&self, entry: &TargetEntry, delivery: &Delivery) -> Option<Duration> {
        let age = Duration::try_from(self.clock.now().duration_since(delivery.queued)).unwrap_or_default();
        entry.keys.max_age().checked_sub(age).filter(|left| !left.is_zero())
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
        let doubled = FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_WAIT);
        doubled.mul_f64(1.0 - JITTER + 2.0 * JITTER * (self.chance)())
    }

    async fn delivered(&self, message: &Received, delivery: &Delivery, attempts: Attempts) -> Fate {
        let of = Of::Target(delivery.target.as_str());
        let age = self.clock.now().duration_since(delivery.queued);
        self.meter.record("Deliveries", of, 1.0, Unit::Count);
        self.meter.record("DeliveryTime", of, age.as_secs_f64() * 1000.0, Unit::Milliseconds);
        let probing = self.timed_out.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery.target);
        if attempts != Attempts::default() {
            self.forget(&attempts_key(delivery)).await;
        }
        if probing {
            self.forget(&probe_key(&delivery.target)).await;
        }
        self.off_the_queue(message).await
    }

    /// Whether a delivery that timed out is set aside, to see if the next one passes.
    async fn may_probe(&self, target: &Name) -> bool {
        self.timed_out.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone());
        let record = Record { value: json!({}), expires: later(self.clock.now(), TIME_OUT_PROBE) };
        self.state.create(&probe_key(target), record).await.unwrap_or(false)
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
        let attempts = self.attempts(message, &delivery).await.unwrap_or_default();
        let outcome = Outcome::Retry { blame: Blame::Event, reason: "working on it panicked".into() };
        self.judge(message, entry, Work { delivery, attempts, probed: None }, Ok(outcome), Duration::ZERO).await
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
        if matches!(fate, Fate::Gone) {
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
            return Fate::Held(STATE_WAIT);
        }
        self.meter.record("DeadLetters", Of::Target(&target), 1.0, Unit::Count);
        self.tell_of(&target, &letter).await;
        self.off_the_queue(message).await
    }

    async fn off_the_queue(&self, message: &Received) -> Fate {
        if let Err(error) = self.queue.delete(message).await {
            // It will be handed out again and be delivered twice: at least once is what we promise.
            tracing::error!(%error, "a message could not be deleted");
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
        let record = Record { value, expires };
        self.state.put(&attempts_key(delivery), record).await.inspect_err(|error| {
            tracing::error!(delivery = %delivery.id, %error, "an attempt could not be counted");
        })
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

fn probe_key(target: &Name) -> Key {
    Key { pk: state_of(target), sk: "time-out".into() }
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
