//! Alerts that fire, noted for sources whose senders say that all is well by heartbeats only. A heartbeat comes again and
//! again, and ends an alert only where one is open.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::alert::{Alerts, Status};
use crate::domain::event::{Detail, Event};
use crate::domain::name::Name;
use crate::domain::signature;
use crate::port::{Key, Record, State, Unavailable};
use crate::source::Found;

/// For how long an alert is known to be open after it was told last. What lasts is told again within a day.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is kept of an alert that fires.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The targets that were told of it.
    told: Vec<Name>,
}

/// The open alerts of one source, as the state has them.
pub(super) struct OpenAlerts<'a> {
    pub(super) state: &'a dyn State,
    pub(super) source: &'a Name,
    pub(super) now: Timestamp,
}

impl OpenAlerts<'_> {
    /// Those of `heartbeats` whose alert is open.
    pub(super) async fn ended_by(&self, heartbeats: Vec<Found>) -> Result<Vec<Found>, Unavailable> {
        let mut ended = Vec::new();
        for found in heartbeats {
            if let Detail::Alert(group) = &found.detail
                && self.state.get(&self.key(group)).await?.is_some()
            {
                ended.push(found);
            }
        }
        Ok(ended)
    }

    /// Notes the alerts that fire, of events each with the targets that are told of it.
    pub(super) async fn note_what_fires(&self, relayed: &[(Event, Vec<Name>)]) -> Result<(), Unavailable> {
        for (group, told) in alerts(relayed).filter(|(group, _)| group.status() == Status::Firing) {
            let value = serde_json::to_value(Note { told: told.to_vec() }).unwrap_or_default();
            self.state.put(&self.key(group), Record { value, expires: self.now + KEPT }).await?;
        }
        Ok(())
    }

    /// Forgets the alerts that are over, of events each with the targets that were told of it. Good news that only some
    /// of those got who were told of the alert leaves it open for the others: they are told by the next heartbeat.
    pub(super) async fn forget_what_is_over(&self, relayed: &[(Event, Vec<Name>)]) -> Result<(), Unavailable> {
        for (group, told) in alerts(relayed) {
            let key = self.key(group);
            let is_over = match group.status() {
                Status::Resolved => true,
                Status::Event if group.alerts.iter().all(|alert| alert.recovers) => {
                    let noted = self.state.get(&key).await?.map(|record| serde_json::from_value::<Note>(record.value));
                    matches!(noted, Some(Ok(note)) if note.told.iter().all(|target| told.contains(target)))
                }
                Status::Event | Status::Firing => false,
            };
            if is_over {
                self.state.delete(&key).await?;
            }
        }
        Ok(())
    }

    /// Digested, as senders choose the length of what tells their alerts apart, and keys have a limit.
    fn key(&self, group: &Alerts) -> Key {
        Key { pk: format!("source#{}", self.source), sk: format!("open#{}", signature::digest(&[&group.group])) }
    }
}

fn alerts(relayed: &[(Event, Vec<Name>)]) -> impl Iterator<Item = (&Alerts, &[Name])> {
    relayed.iter().filter_map(|(event, told)| match &event.detail {
        Detail::Alert(group) => Some((group.as_ref(), told.as_slice())),
        Detail::ImagePush(_) | Detail::Git(_) => None,
    })
}
