//! An EventSource of Argo Events, of its type `webhook`.
//!
//! Where its `authSecret` is set, it compares `Authorization: Bearer …` with it. It takes any JSON; Sensors find it under
//! `body`. Source: argoproj/argo-events, `pkg/eventsources/common/webhook/webhook.go` and
//! `pkg/eventsources/sources/webhook/start.go` (read 2026-11).
//!
//! Oddities: port and path are the EventSource's to choose, so that the URL is the whole one. Success is 200, and said
//! only when the event is on its bus. A body of more than `maxPayloadSize` (1 MiB) is refused. While it starts or stops
//! it says that the endpoint is inactive.

use jiff::Timestamp;

use super::poke::{busy, classify_in_cluster, current, held, post_json};
use super::{Class, Outbound, RenderError, Response, Target, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::HttpUrl;

crate::keys! {
    /// An `argo-events` target. It gets the normalised event.
    pub struct ArgoEvents {
        /// The whole URL of the EventSource's endpoint.
        url: HttpUrl,
        /// What its authSecret names. Left out: it checks nothing.
        secret: Option<SecretRef>,
    }
}

impl Target for ArgoEvents {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let mut request = post_json(self.url.0.to_string(), &delivery.event)?;
        if let Some(secret) = &self.secret {
            request.bearer(current(secrets, secret)?.expose())?;
        }
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            401 => held("401: the EventSource refuses our token; is `secret` what its authSecret names?"),
            404 => held("404: no EventSource has this path at this port"),
            _ if said.contains("endpoint is inactive") => {
                busy(format!("{}: the EventSource is not running now", response.status))
            }
            _ if said.contains("http method does not match") => {
                held(format!("{}: the EventSource's method has to be POST", response.status))
            }
            _ => classify_in_cluster(response, now),
        }
    }
}
