//! GitHub's container registry: a GitHub webhook of which only the package events are used. How it is signed, what the
//! events hold and their oddities are in [`github_hook`](super::github_hook).
//!
//! Such a hook sits on a repository, an organisation or an App, never on a package: an image that is linked to no
//! repository tells nobody. Multi-arch images come as one event for each platform's manifest, without a tag, and one
//! for the index. Several tags on one manifest come as one event that names one of them.
//! Source: docs.github.com/webhooks/webhook-events-and-payloads (read 2026-08).

use jiff::Timestamp;

use super::auth::{self, AuthError, Authentic};
use super::github_hook::{self, Envelope, SIGNATURE};
use super::{ParseError, Parsed, Request, Source};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::OneOrMany;

crate::keys! {
    /// A `ghcr` source.
    pub struct Ghcr {
        /// The webhook's secret; several are accepted at once.
        secret: OneOrMany<SecretRef>,
    }
}

impl Source for Ghcr {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        auth::hmac(request, SIGNATURE, &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let delivery = Envelope::of(&request)?;
        let mut parsed = match delivery.event.as_str() {
            "package" | "registry_package" => github_hook::package(&delivery)?,
            "ping" => Parsed::ignored("ping", "a ping; the webhook works"),
            other => Parsed::ignored(other, "not a package event; a source of type github relays the others"),
        };
        parsed.delivery_id = delivery.id.clone();
        if !parsed.events.is_empty() {
            parsed.original = Some(delivery.original());
        }
        Ok(parsed)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        SIGNATURE.sign(request, &self.secret.0[0], secrets)
    }
}
