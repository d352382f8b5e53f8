//! The breaker of a target, and what an operator is told.
//!
//! An answer that no delivery can change opens a target's breaker: the credential is refused, the endpoint is gone. From
//! then on one delivery at a time is tried, after waits that grow, and all others wait with it, whatever group they are
//! in. The first one to pass closes it. It is in the state, so that it holds for whoever delivers.
//!
//! What everything goes well with costs no look at the state: a delivery that is handed out for the first time, soon
//! after it was queued, is simply tried.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Deliverer, RESERVE, later, state_of};
use crate::domain::delivery::{DeadLetter, Delivery};
use crate::domain::name::Name;
use crate::domain::notice::Notice;
use crate::domain::outcome::Blame;
use crate::port::{Key, Message, Of, Record, State, Unavailable, Unit};
use crate::relay::TargetEntry;

/// A delivery that has waited this long may have waited for a reason.
const PROMPT: Duration = Duration::from_secs(5);
/// How long a delivery waits while another one is the breaker's trial.
const TRIAL_WAIT: Duration = Duration::from_secs(5);
/// How long a breaker is remembered after the last failure.
const MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often a delivery that passed is taken for an occasion to see whether its target's breaker is still open.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// An operator is told of deliveries that were given up this often at most, for each target.
const GIVEN_UP_NOTICE: Duration = Duration::from_secs(60 * 60);

/// An open breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Since when it is open.
    pub since: Timestamp,
    /// The answer that opened it, or the latest of its kind.
    pub reason: String,
    /// Failed attempts in a row.
    failures: u32,
    /// When the next delivery is tried.
    pub next: Timestamp,
    /// Whether an operator was told.
    told: bool,
}

/// Whether a delivery may be tried.
pub(super) enum Gate {
    /// It may.
    Closed,
    /// It may not until the breaker's next time.
    Open(Breaker),
    /// It may, and it alone: it is the breaker's trial.
    HalfOpen(Breaker),
}

/// The breaker of `target` as `state` has it, if it is open.
pub async fn open(state: &dyn State, target: &Name) -> Result<Option<Breaker>, Unavailable> {
    let record = state.get(&breaker_key(target)).await?;
    Ok(record.and_then(|record| serde_json::from_value(record.value).ok()))
}

impl Deliverer {
    /// Whether a delivery may be tried that was handed out `receives` times.
    pub(super) async fn gate(
        &self,
        entry: &TargetEntry,
        delivery: &Delivery,
        receives: u32,
    ) -> Result<Gate, Unavailable> {
        let now = self.clock.now();
        if receives <= 1 && self.age(delivery.queued) < PROMPT {
            return Ok(Gate::Closed);
        }
        let Some(breaker) = open(self.state.as_ref(), &delivery.target).await? else { return Ok(Gate::Closed) };
        if now < breaker.next {
            return Ok(Gate::Open(breaker));
        }
        let lease = Record { value: json!({}), expires: later(now, entry.keys.timeout.0 + RESERVE) };
        match self.state.create(&lease_key(&delivery.target), lease).await? {
            true => Ok(Gate::HalfOpen(breaker)),
            // Another one is being tried.
            false => Ok(Gate::Open(Breaker { next: later(now, TRIAL_WAIT), ..breaker })),
        }
    }

    /// After an attempt that failed: how long to wait before the next, where the breaker is open now. `asked` is how long
    /// the target asks for at least.
    pub(super) async fn on_failure(
        &self,
        entry: &TargetEntry,
        target: &Name,
        trial: Option<Breaker>,
        (blame, reason): (Blame, &str),
        asked: Duration,
    ) -> Result<Option<Duration>, Unavailable> {
        let is_setup = blame == Blame::Setup;
        let is_trial = trial.is_some();
        let before = match trial {
            None if !is_setup => return Ok(None),
            None => open(self.state.as_ref(), target).await?,
            trial => trial,
        };
        let now = self.clock.now();
        let is_new = before.is_none();
        let mut breaker = before.unwrap_or_else(|| Breaker {
            since: now,
            reason: String::new(),
            failures: 0,
            next: now,
            told: entry.keys.fallback.is_none(),
        });
        breaker.failures += 1;
        let wait = self.wait(breaker.failures).max(asked);
        breaker.next = later(now, wait);
        if is_setup {
            reason.clone_into(&mut breaker.reason);
        }
        if is_new {
            if !self.state.create(&breaker_key(target), breaker.record(now)).await? {
                // Another one was faster, and says so.
                return Ok(Some(wait));
            }
            self.meter.record("BreakersOpened", Of::Target(target.as_str()), 1.0, Unit::Count);
            tracing::error!(%target, reason, "the breaker opens: deliveries are held until somebody mends the target");
        }
        let untold = !breaker.told;
        if untold {
            breaker.told = self.tell(entry, Notice::broken(target, &breaker.reason, breaker.since)).await;
        }
        if !is_new || (untold && breaker.told) {
            self.state.put(&breaker_key(target), breaker.record(now)).await?;
        }
        if is_trial {
            self.state.delete(&lease_key(target)).await?;
        }
        Ok(Some(wait))
    }

    /// After an attempt that says nothing about the breaker: the next one may be made at once.
    pub(super) async fn release_trial(&self, target: &Name, trial: Option<Breaker>) {
        if trial.is_some()
            && let Err(error) = self.state.delete(&lease_key(target)).await
        {
            tracing::warn!(%target, %error, "nothing more is tried until a record expires");
        }
    }

    /// After a delivery that passed: the breaker is closed, if it was open.
    pub(super) async fn on_success(&self, entry: &TargetEntry, target: &Name, trial: Option<Breaker>) {
        let found = match trial {
            None if self.may_look(target) => open(self.state.as_ref(), target).await.map(|found| (found, false)),
            trial => Ok((trial, true)),
        };
        let closed = async {
            let (Some(open), is_trial) = found? else { return Ok(()) };
            let now = self.clock.now();
            let told = !open.told || self.tell(entry, Notice::mended(target, open.since, now)).await;
            if told {
                self.state.delete(&breaker_key(target)).await?;
            } else {
                // The next one to pass tells, and need not wait for it.
                self.state.put(&breaker_key(target), Breaker { next: now, ..open }.record(now)).await?;
            }
            if is_trial {
                self.state.delete(&lease_key(target)).await?;
            }
            tracing::info!(%target, "the breaker closes: deliveries pass again");
            Ok::<_, Unavailable>(())
        };
        if let Err(error) = closed.await {
            tracing::warn!(%target, %error, "whether the breaker is open cannot be seen, or not be changed");
        }
    }

    /// Tells an operator of a delivery that was given up, unless that was done lately.
    pub(super) async fn tell_of(&self, target: &str, letter: &DeadLetter) {
        let Some((target, entry)) = self.relay.targets.get_key_value(target) else { return };
        if entry.keys.fallback.is_none() {
            return;
        }
        let told = async {
            let (key, expires) = (notice_key(target), later(self.clock.now(), GIVEN_UP_NOTICE));
            let is_first = self.state.create(&key, Record { value: json!({}), expires }).await?;
            if is_first && !self.tell(entry, Notice::given_up(target, letter)).await {
                self.state.delete(&key).await?;
            }
            Ok::<_, Unavailable>(())
        };
        if let Err(error) = told.await {
            tracing::warn!(%target, %error, "nobody was told of what was given up");
        }
    }

    /// Puts a notice on the queue for the target's fallback. Whether it is there; without a fallback, it is as good as.
    async fn tell(&self, entry: &TargetEntry, notice: Notice) -> bool {
        let Some(fallback) = &entry.keys.fallback else { return true };
        let Notice { mut event, identity } = notice;
        event.cluster.clone_from(&entry.keys.cluster);
        let delivery = Delivery::new(event, &identity, fallback, None, self.clock.now());
        let body = match delivery.encode(self.queue.limit()) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(target = %fallback, %error, "a notice is too large");
                return true;
            }
        };
        let message = Message { group: fallback.to_string(), deduplication_id: delivery.deduplication_id(), body };
        let sent = self.queue.send(&[message]).await;
        if let Err(error) = &sent {
            tracing::error!(target = %fallback, %error, "a notice could not be queued");
        }
        sent.is_ok()
    }

    fn may_look(&self, target: &Name) -> bool {
        let now = self.clock.now();
        let mut looked = self.memory.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.get(target).is_none_or(|last| later(*last, LOOK) <= now);
        if is_time {
            looked.insert(target.clone(), now);
        }
        is_time
    }
}

impl Breaker {
    fn record(&self, now: Timestamp) -> Record {
        Record { value: json!(self), expires: later(now, MEMORY) }
    }
}

fn breaker_key(target: &Name) -> Key {
    Key { pk: state_of(target), sk: "breaker".into() }
}

/// Held by whoever tries a delivery while the breaker is open.
fn lease_key(target: &Name) -> Key {
    Key { pk: state_of(target), sk: "breaker-probe".into() }
}

fn notice_key(target: &Name) -> Key {
    Key { pk: state_of(target), sk: "given-up-notice".into() }
}
