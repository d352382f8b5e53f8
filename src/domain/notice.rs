//! What the relay itself has to tell: alerts about a target, for another one to pass on.

use jiff::Timestamp;

use crate::domain::alert::{Alert, Alerts, Object, Severity, Status};
use crate::domain::delivery::DeadLetter;
use crate::domain::event::{Detail, Event};
use crate::domain::name::Name;

/// An event that came by no source.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The event.
    pub event: Event,
    /// What tells it from all other notices; the same if it is made again.
    pub identity: String,
}

impl Notice {
    /// `target` takes no deliveries until somebody mends it, for the `reason` that its answers give.
    pub fn broken(target: &Name, reason: &str, since: Timestamp) -> Self {
        let mut alert = breaker(target, Status::Firing, since);
        alert.text = Some(format!("{reason}\nDeliveries to it are held, and one is tried now and then."));
        Self::new(alert, format!("broken {target} {since}"), since)
    }

    /// `target`, which had taken none since then, takes deliveries again.
    pub fn mended(target: &Name, since: Timestamp, now: Timestamp) -> Self {
        let mut alert = breaker(target, Status::Resolved, since);
        alert.text = Some("It takes deliveries again.".into());
        alert.ended = Some(now);
        Self::new(alert, format!("mended {target} {since}"), now)
    }

    /// A delivery to `target` was given up; others may have been since the last notice of this kind.
    pub fn given_up(target: &Name, letter: &DeadLetter) -> Self {
        let title = format!("A delivery to {target} was given up");
        let mut alert = about(target, "given up", Status::Event, title);
        alert.text = Some(format!("{}\n`sluice dead-letters` shows all of them.", letter.reason));
        alert.reason = Some("DeliveryGivenUp".into());
        let (id, generation) = letter.delivery.as_ref().map_or(("", 0), |one| (&one.id, one.generation));
        Self::new(alert, format!("given up {target} {id} {generation} {}", letter.given_up), letter.given_up)
    }

    fn new(alert: Alert, identity: String, time: Timestamp) -> Self {
        let source = Name::of_the_relay();
        let event = Event {
            detail: Detail::Alert(Box::new(Alerts::one(alert))),
            id: Event::id_of(&source, &identity),
            source,
            cluster: None,
            labels: Default::default(),
            time: Some(time),
        };
        Self { event, identity }
    }
}

fn breaker(target: &Name, status: Status, since: Timestamp) -> Alert {
    let mut alert = about(target, "breaker", status, format!("{target} takes no deliveries"));
    alert.reason = Some("TargetBroken".into());
    alert.started = Some(since);
    alert
}

fn about(target: &Name, what: &str, status: Status, title: String) -> Alert {
    let mut alert = Alert::new(format!("{what} {target}"), status, Severity::Error, title);
    alert.object = Some(Object { kind: Some("Target".into()), namespace: None, name: target.to_string() });
    alert.labels.insert("target".into(), target.to_string());
    alert
}
