//! An EventListener of Tekton Triggers with its GitHub interceptor.
//!
//! The interceptor checks `X-Hub-Signature-256` under its `secretRef`, and `X-GitHub-Event` against its `eventTypes`;
//! bindings read the body. So Git events pass the sender's own body through, and an image push comes as event `package`
//! with our normalised event as body, as Flux Receivers of type github get it. Source: tektoncd/triggers,
//! `pkg/interceptors/github/github.go` and `pkg/sink/sink.go` (read 2026-11).
//!
//! Oddities: the EventListener answers 202 before any interceptor runs, so that a wrong signature looks like success
//! here and is in the EventListener's log only. Versions that know `X-Hub-Signature` alone refuse ours that way, too. A
//! form body is refused; ours never is one.

use jiff::Timestamp;

use super::poke::{classify_in_cluster, current, held, post_json, sign_as_github};
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::HttpUrl;

crate::keys! {
    /// A `tekton` target.
    pub struct Tekton {
        /// The EventListener's whole URL.
        url: HttpUrl,
        /// What its GitHub interceptor's secretRef names.
        secret: SecretRef,
    }
}

impl Target for Tekton {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn needs_original(&self, event: &Event) -> bool {
        matches!(event.detail, Detail::Git(_))
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let secret = current(secrets, &self.secret)?;
        let url = self.url.0.to_string();
        let event = match &delivery.event.detail {
            Detail::Git(git) => git.event.as_str(),
            Detail::ImagePush(_) => "package",
            Detail::Alert(_) => "alert",
        };
        let mut request = match &delivery.original {
            Some(original) if self.needs_original(&delivery.event) => {
                Outbound::post(url, "application/json", original.body.clone())
            }
            _ => post_json(url, &delivery.event)?,
        };
        sign_as_github(&mut request, secret, event, &delivery.id)?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            404 => held("404: no EventListener answers at this URL"),
            _ => classify_in_cluster(response, now),
        }
    }
}
