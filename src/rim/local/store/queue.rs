//! A durable FIFO queue in the store.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::round::{HandedOut, Round, after};
use super::writer::{Jobs, Task, Unclaimed};
use super::{Store, answered};
use crate::port::{Message, Outbox, Queue, Received, Unavailable};

/// How long a message that was handed out stays hidden when nobody deletes or holds it.
const VISIBILITY: Duration = Duration::from_secs(300);
/// How long whoever sends is kept waiting for the disk.
const SENDERS_PATIENCE: Duration = Duration::from_secs(10);
/// The pause before what a disk has refused to note of messages that are handed out is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest hold, as on SQS.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(12 * 3600);

/// Messages on their way to a receiver, whose future may be dropped at any time: what it does not take goes back.
struct Parcel {
    handed_out: HandedOut,
    queue: &'static str,
    jobs: Option<Jobs>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let (messages, queue) = (std::mem::take(&mut self.handed_out.0), self.queue);
        if let Some(jobs) = self.jobs.take().filter(|_| !messages.is_empty()) {
            let unclaimed: Vec<Unclaimed> = messages
                .into_iter()
                .filter_map(|message| {
                    let (_, number) = parsed(&message.message_id)?;
                    Some(Unclaimed { queue, group: message.group, number, receives: message.receives })
                })
                .collect();
            let work = move |round: &mut Round<'_>| {
                // Kept for the next round, should this one fail.
                round.unclaimed.extend_from_slice(&unclaimed);
                round.take_back(&unclaimed)
            };
            let _ = jobs.send(Box::new(Task::new(work, drop)));
        }
    }
}

/// A durable FIFO queue in a [`Store`]. What [`receive`](Queue::receive) returns at one time is of one group: the
/// one that waits longest of those that can be handed out.
#[derive(Clone)]
pub struct EmbeddedQueue {
    store: Store,
    name: &'static str,
    limit: usize,
    visibility: Duration,
}

/// A message as it is on the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// As in [`Received`]: the group, a slash and a number.
    pub message_id: String,
    /// Its group.
    pub group: String,
    /// Its body.
    pub body: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// How many times it was handed out.
    pub receives: u32,
    /// Whether it is handed out now.
    pub in_flight: bool,
    /// Until when it is held, if it is.
    pub held_until: Option<Timestamp>,
}

/// How many messages a group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCount {
    /// The group.
    pub group: String,
    /// How many are not handed out.
    pub waiting: usize,
    /// How many are handed out.
    pub in_flight: usize,
    /// Until when the group is held, if it is.
    pub held_until: Option<Timestamp>,
}

impl EmbeddedQueue {
    pub(super) fn new(store: Store, name: &'static str, limit: usize) -> Self {
        Self { store, name, limit, visibility: VISIBILITY }
    }

    /// Has `work` done on messages that are handed out. Until it is, they and their group wait, also when a disk that
    /// was full has room again: so it is tried for as long as they stay hidden.
    async fn insist(
        &self,
        work: impl FnMut(&mut Round<'_>) -> Result<(), redb::Error> + Clone + Send + 'static,
    ) -> Result<(), Unavailable> {
        let end = Instant::now() + self.visibility;
        loop {
            let done = self.store.run("queue", work.clone()).await;
            if done.is_ok() || Instant::now() + PAUSE > end {
                return done;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The same queue, with this time after which messages come back when nobody deletes or holds them; it is 300 s
    /// else.
    pub fn with_visibility(self, visibility: Duration) -> Self {
        Self { visibility, ..self }
    }

    /// Up to `max` messages by group and order in it, without handing them out; `after` is the message id of the
    /// last one seen, whether it is still there or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn peek(&self, max: usize, after: Option<&str>) -> Result<Vec<Peeked>, Unavailable> {
        let name = self.name;
        let after = after.and_then(parsed);
        self.store.run("queue", move |round| round.peek(name, max, after.as_ref())).await
    }

    /// Removes a message, also one that is handed out; `false` if there is none with this message id.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove(&self, message_id: &str) -> Result<bool, Unavailable> {
        let name = self.name;
        let Some((group, number)) = parsed(message_id) else { return Ok(false) };
        self.store.run("queue", move |round| round.remove(name, &group, number)).await
    }

    /// What is waiting, by group.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn groups(&self) -> Result<Vec<GroupCount>, Unavailable> {
        let name = self.name;
        self.store.run("queue", move |round| round.groups(name)).await
    }

    async fn hand_out(&self, max: usize) -> Result<HandedOut, Unavailable> {
        let (queue, visibility, jobs) = (self.name, self.visibility, self.store.0.jobs.clone());
        let (reply, answer) = oneshot::channel();
        let work = move |round: &mut Round<'_>| round.receive(queue, max, visibility);
        let deliver = move |result: Result<HandedOut, String>| {
            drop(reply.send(result.map(|handed_out| Parcel { handed_out, queue, jobs })));
        };
        self.store.submit(Box::new(Task::new(work, deliver)));
        let mut parcel = answered("queue", answer.await)?;
        Ok(std::mem::take(&mut parcel.handed_out))
    }
}

/// The group and number of a message id.
fn parsed(message_id: &str) -> Option<(String, u64)> {
    let (group, number) = message_id.rsplit_once('/')?;
    Some((group.to_owned(), number.parse().ok()?))
}

#[async_trait]
impl Outbox for EmbeddedQueue {
    fn limit(&self) -> usize {
        self.limit
    }

    async fn send(&self, messages: &[Message]) -> Result<(), Unavailable> {
        if let Some(message) = messages.iter().find(|message| message.body.len() > self.limit) {
            let message = format!("a body of {} bytes is over the limit of {}", message.body.len(), self.limit);
            return Err(Unavailable { what: "queue", message });
        }
        let (name, messages) = (self.name, messages.to_vec());
        let sent = self.store.run("queue", move |round| round.send(name, &messages));
        tokio::time::timeout(SENDERS_PATIENCE, sent).await.unwrap_or_else(|_| {
            // It may be stored yet, and is not stored twice when it is sent again.
            let message = format!("the disk has not taken it within {SENDERS_PATIENCE:?}");
            Err(Unavailable { what: "queue", message })
        })
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Unavailable> {
        let deadline = Instant::now() + wait.min(LONGEST_HOLD);
        loop {
            // Made before asking, so that a commit between the answer and the waiting is not missed.
            let committed = self.store.0.committed.notified();
            let (messages, next) = self.hand_out(max.clamp(1, 10)).await?;
            if !messages.is_empty() || Instant::now() >= deadline {
                return Ok(messages);
            }
            let next = next.map(|next| next.saturating_sub(self.store.0.clock.now().as_nanosecond()));
            let next = next.map(|next| Duration::from_nanos(u64::try_from(next).unwrap_or_default()));
            let wake = next.and_then(|next| Instant::now().checked_add(next)).map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = committed => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn delete(&self, message: &Received) -> Result<(), Unavailable> {
        let (name, message) = (self.name, message.clone());
        let work = move |round: &mut Round<'_>| match round.current(name, &message)? {
            Some(number) => round.remove(name, &message.group, number).map(drop),
            None => {
                // If it timed out and was handed out again, whoever has it now keeps the group's order.
                tracing::warn!(queue = name, message = message.message_id, "gone or handed out again: not deleted");
                Ok(())
            }
        };
        self.insist(work).await
    }

    async fn hold(&self, messages: &[Received], wait: Duration) -> Result<(), Unavailable> {
        let (name, messages) = (self.name, messages.to_vec());
        let work = move |round: &mut Round<'_>| {
            let until = (!wait.is_zero()).then(|| after(round.now, wait.min(LONGEST_HOLD)));
            for message in &messages {
                if let Some(number) = round.current(name, message)? {
                    round.hide(name, &message.group, number, until)?;
                }
            }
            Ok(())
        };
        self.insist(work).await
    }
}
