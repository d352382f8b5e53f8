//! Overdue deliveries: did what was pushed and told arrive in time?
//!
//! `deliver` notes in the state each delivery that failed, and forgets it when it arrives or is given up. What is noted and
//! was queued long ago is overdue. Of what waits behind it, in its group or for its target's breaker, little is noted: there
//! may be more than are counted, and never fewer than one where a target takes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::deliver;
use crate::domain::name::Name;
use crate::port::{Clock, Meter, Of, State, Unavailable, Unit};
use crate::relay::Relay;

/// When a delivery is overdue, unless it is said otherwise: waits between attempts have grown to minutes by then.
pub const AFTER: Duration = Duration::from_secs(15 * 60);
/// At most this many targets are asked for at once.
const AT_ONCE: usize = 16;
/// What is kept back of a function's time for telling what was found.
const RESERVE: Duration = Duration::from_secs(1);

/// A target with overdue deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Late {
    /// The target.
    pub target: String,
    /// How many are overdue at least.
    pub deliveries: usize,
    /// When the oldest of them was queued.
    pub oldest: Timestamp,
}

/// Looks for overdue deliveries.
pub struct Overdue {
    /// The relay file, whose targets are looked at, those of agents too.
    pub relay: Arc<Relay>,
    /// Where failed deliveries are noted.
    pub state: Arc<dyn State>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where counts go.
    pub meter: Arc<dyn Meter>,
    /// After how long a delivery is overdue.
    pub after: Duration,
}

impl Overdue {
    /// Looks at all targets, and is done before `deadline`. Those with overdue deliveries, by name; a target whose state
    /// cannot be read is only logged.
    pub async fn run(&self, deadline: Instant) -> Vec<Late> {
        let ends = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        let questions = self.relay.targets.keys().map(async |target| {
            let found = timeout_at(ends, late(self.state.as_ref(), target, self.clock.now(), self.after)).await;
            let slow = || Unavailable { what: "state", message: "no answer in time".into() };
            (target, found.unwrap_or_else(|_| Err(slow())))
        });
        let mut answers = stream::iter(questions.collect::<Vec<_>>()).buffered(AT_ONCE);
        let mut all = Vec::new();
        while let Some((target, found)) = answers.next().await {
            match found {
                Ok(Some(late)) => {
                    let Late { deliveries, oldest, .. } = &late;
                    tracing::warn!(%target, deliveries, %oldest, "deliveries are overdue");
                    let count = u32::try_from(*deliveries).unwrap_or(u32::MAX);
                    self.meter.record("OverdueDeliveries", Of::Target(target.as_str()), count.into(), Unit::Count);
                    all.push(late);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%target, %error, "whether deliveries are overdue cannot be seen"),
            }
        }
        all
    }
}

/// What of a target's deliveries failed and was queued longer than `after` before `now`, if anything.
pub async fn late(
    state: &dyn State,
    target: &Name,
    now: Timestamp,
    after: Duration,
) -> Result<Option<Late>, Unavailable> {
    /// As much as is of use here of what `deliver` notes.
    #[derive(Deserialize)]
    struct Noted {
        queued: Timestamp,
    }
    let records = state.list(&deliver::state_of(target)).await?;
    let noted = records.into_iter().filter(|(key, _)| key.sk.starts_with(deliver::NOTED));
    // What a version before this one noted does not say when it was queued.
    let queued = noted.filter_map(|(_, record)| serde_json::from_value::<Noted>(record.value).ok());
    let is_overdue = |queued: &Timestamp| Duration::try_from(now.duration_since(*queued)).is_ok_and(|age| age > after);
    let overdue: Vec<_> = queued.map(|noted| noted.queued).filter(is_overdue).collect();
    let oldest = overdue.iter().min().copied();
    Ok(oldest.map(|oldest| Late { target: target.to_string(), deliveries: overdue.len(), oldest }))
}
