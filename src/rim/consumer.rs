//! Taking messages off a queue and working on them, in a process of our own (`serve`, `agent`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::deliver::Deliverer;
use crate::port::Queue;
use crate::rim::local::server::stopped;

/// Messages that are taken off the queue at once.
const BATCH: usize = 10;
/// Batches that are worked on at once.
const MOST_BATCHES: usize = 64;
/// How long a batch may take: less than a message stays hidden.
const BATCH_TIME: Duration = Duration::from_secs(240);
/// How long a call waits for the first message.
const POLL: Duration = Duration::from_secs(5);
/// How long what is under way may take to end when the process stops; Kubernetes waits for 30 s.
const DRAIN: Duration = Duration::from_secs(25);
/// The pause after a call that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Without an answer of the queue for this long the consumer is not well.
const SILENCE: Duration = Duration::from_secs(60);
/// A consumer that has not asked for messages for this long asks no more: it may have waited for a batch to end.
const STANDSTILL: Duration = Duration::from_secs(BATCH_TIME.as_secs() + 60);

/// What a consumer did last, for whoever looks after its health.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    asked: Instant,
    heard: Instant,
}

impl Pulse {
    /// Of a consumer that begins now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { asked: now, heard: now }
    }

    /// Whether it goes on asking for messages, with or without an answer. If not, only a new process helps.
    pub fn is_alive(&self) -> bool {
        self.asked.elapsed() < STANDSTILL
    }

    /// Whether the queue has answered lately.
    pub fn is_well(&self) -> bool {
        self.heard.elapsed() < SILENCE
    }
}

/// Takes messages off a queue and hands them to the deliverer.
pub struct Consumer {
    /// Where messages come from.
    pub queue: Arc<dyn Queue>,
    /// Who works on them.
    pub deliverer: Arc<Deliverer>,
    /// Whether a call for messages may be given up without hiding any. Not so over a network: what such a call was
    /// about to bring would stay hidden until its time is over.
    pub may_give_up: bool,
    /// Told each time the queue is asked, and each time it has answered.
    pub pulse: watch::Sender<Pulse>,
}

impl Consumer {
    /// Takes messages off the queue until `stop` becomes true. Then deliveries under way end, and what was not begun
    /// goes back at once.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { queue, deliverer, may_give_up, pulse } = self;
        let places = Arc::new(Semaphore::new(MOST_BATCHES));
        let mut batches = JoinSet::new();
        while !*stop.borrow() {
            while batches.try_join_next().is_some() {}
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = stopped(&mut stop) => break,
            };
            let Ok(place) = place else { break };
            pulse.send_modify(|pulse| pulse.asked = Instant::now());
            let received = tokio::select! {
                received = queue.receive(BATCH, POLL) => received,
                () = stopped(&mut stop), if may_give_up => break,
            };
            match received {
                Ok(messages) => {
                    pulse.send_modify(|pulse| pulse.heard = Instant::now());
                    if !messages.is_empty() {
                        let deliverer = deliverer.clone();
                        if *stop.borrow() {
                            deliverer.set_stopping();
                        }
                        batches.spawn(async move {
                            deliverer.work(messages, Instant::now() + BATCH_TIME).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "no messages can be had");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = stopped(&mut stop) => break,
                    }
                }
            }
        }
        deliverer.set_stopping();
        // What does not end in time is cut, and handed out again later.
        let ended = async { while batches.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("some deliveries did not end in time; they are repeated");
        }
    }
}
