//! Receivers of Flux's notification-controller.
//!
//! The path is `/hook/` and the SHA-256 of token, name and namespace, so that it follows the token. A Receiver's
//! success is exactly 200, its bodies are always empty, and every refusal looks alike: what the statuses mean is
//! written into the reasons here. Source: fluxcd/notification-controller v1.9.3, `internal/server` (read 2026-08).

use ::http::HeaderName;
use jiff::Timestamp;

use super::{Class, Outbound, RenderError, Response, Target, classify_by_status, excerpt, retry_after};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::BaseUrl;

crate::words! {
    /// A Receiver's `.spec.type`.
    pub enum ReceiverType {
        /// Checks nothing but the path.
        Generic = "generic",
        /// Checks `X-Signature`.
        GenericHmac = "generic-hmac",
        /// Checks GitHub's signature (Gitea's, too).
        Github = "github",
    }
}

crate::words! {
    /// What a Receiver gets as body.
    pub enum Body {
        /// The normalised event.
        Event = "event",
        /// The sender's own body, unchanged.
        Passthrough = "passthrough",
    }
}

crate::keys! {
    /// The Receiver in the cluster.
    pub struct Receiver {
        /// Its `.spec.type`.
        kind as "type": ReceiverType,
        /// Its `.metadata.name`.
        name: String,
        /// Its `.metadata.namespace`.
        namespace: String,
        /// Its `.spec.events`, so that what it would refuse is not sent.
        events: Option<Vec<String>>,
    }
}

crate::keys! {
    /// A `flux` target.
    pub struct Flux {
        /// What is in front of the notification-controller's Service `webhook-receiver`.
        url: BaseUrl,
        /// The Receiver.
        receiver: Receiver,
        /// The `token` of the Secret that the Receiver names.
        token: SecretRef,
        /// What it gets as body. Left out: the sender's own body for Git events, else the normalised event.
        body: Option<Body>,
    }
}

/// The path at which a Receiver listens.
pub fn hook_path(token: &Secret, name: &str, namespace: &str) -> String {
    format!("/hook/{}", signature::sha256_hex(&[token.expose(), name.as_bytes(), namespace.as_bytes()]))
}

impl Flux {
    /// The Receiver's path under the current token.
    ///
    /// # Errors
    /// [`RenderError::NoSecret`] where there is no token, or an empty one.
    pub fn path(&self, secrets: &Resolved) -> Result<String, RenderError> {
        Ok(hook_path(self.current_token(secrets)?, &self.receiver.name, &self.receiver.namespace))
    }

    fn current_token<'s>(&self, secrets: &'s Resolved) -> Result<&'s Secret, RenderError> {
        let token = secrets.current(&self.token).filter(|token| !token.is_empty());
        token.ok_or_else(|| RenderError::NoSecret(self.token.clone()))
    }
}

/// The name under which a `github` Receiver knows the event.
fn github_event(event: &Event) -> &str {
    match &event.detail {
        Detail::ImagePush(_) => "package",
        Detail::Git(git) => &git.event,
    }
}

impl Target for Flux {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn wants(&self, event: &Event) -> Result<(), String> {
        let name = match self.receiver.kind {
            ReceiverType::Github => github_event(event),
            ReceiverType::Generic | ReceiverType::GenericHmac => return Ok(()),
        };
        match &self.receiver.events {
            Some(events) if !events.is_empty() && !events.iter().any(|one| one.eq_ignore_ascii_case(name)) => {
                Err(format!("the Receiver's events leave out `{name}`"))
            }
            _ => Ok(()),
        }
    }

    fn needs_original(&self, event: &Event) -> bool {
        match self.body {
            Some(body) => body == Body::Passthrough,
            None => matches!(event.detail, Detail::Git(_)),
        }
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let token = self.current_token(secrets)?;
        let url = self.url.join(&self.path(secrets)?);
        let event = &delivery.event;
        let (body, headers) = match &delivery.original {
            Some(original) if self.needs_original(event) => (original.body.clone(), original.headers.as_slice()),
            _ => {
                let body = serde_json::to_vec(event).map_err(|e| RenderError::Unfit(e.to_string()))?;
                (body.into(), [].as_slice())
            }
        };
        // JSON always: of anything else a Receiver's `resourceFilter` sees nothing.
        let mut request = Outbound::post(url, "application/json", body);
        let sign = |request: &mut Outbound, header: &'static str| {
            let mac = signature::hmac(Algorithm::Sha256, token, &[&request.body]);
            let value = format!("sha256={}", Encoding::Hex.encode(&mac));
            request.credential(HeaderName::from_static(header), value.as_bytes())
        };
        match self.receiver.kind {
            ReceiverType::Generic => {}
            ReceiverType::GenericHmac => sign(&mut request, "x-signature")?,
            ReceiverType::Github => {
                sign(&mut request, "x-hub-signature-256")?;
                request.header("x-github-event", github_event(event))?;
                let id = headers.iter().find(|(name, _)| name == "x-github-delivery").map(|(_, id)| id.as_str());
                request.header("x-github-delivery", id.unwrap_or(&event.id))?;
            }
        }
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let held = |reason: &str| Outcome::Retry { blame: Blame::Target, reason: reason.into() };
        let empty = response.body.is_empty();
        match response.status {
            200 => Outcome::Delivered,
            202 => held(
                "202: this is not a Receiver. The notification-controller's event intake answers 202 and drops what it \
                 gets; route to the Service webhook-receiver instead of notification-controller",
            ),
            201 | 203..=299 => held(&format!(
                "{}: a Receiver's only success is 200; something else answers at this URL",
                response.status
            )),
            400 => Outcome::Retry {
                blame: Blame::Event,
                reason: if empty {
                    "400 with an empty body: the Receiver refuses the signature, the body or the event. Is its \
                     Secret's token the same as ours, is its type the same, does its .spec.events list this event?"
                        .into()
                } else {
                    format!("400, but not by a Receiver, whose answers are empty: {}", excerpt(response))
                },
            },
            404 if empty => held(
                "404 with an empty body: no Receiver has this path; is the token current, are name and namespace right?",
            ),
            404 if excerpt(response) == "404 page not found" => held(
                "404 page not found: the controller is there, but the path does not arrive as /hook/…; is the URL's \
                 path right, does an ingress rewrite it?",
            ),
            404 => held(&format!(
                "404, but not by a Receiver, whose answers are empty: an ingress or proxy has no route for this host \
                 or path: {}",
                excerpt(response)
            )),
            413 => Outcome::Rejected { reason: "413: the body is larger than a Receiver takes (3 MiB)".into() },
            429 => match retry_after(&response.headers, now) {
                Some(wait) => Outcome::RetryAfter { wait, reason: "429: asked to wait".into() },
                None => held(
                    "429: a Receiver never answers that; it is a proxy's rate limit, or the notification-controller's \
                     event intake, which is the wrong Service",
                ),
            },
            503 if empty && retry_after(&response.headers, now).is_none() => {
                held("503 with an empty body: the Receiver is suspended or not ready")
            }
            500 if empty => Outcome::Retry {
                blame: Blame::Event,
                reason:
                    "500 with an empty body: the Receiver could not annotate all of its resources; one is missing, \
                         forbidden, or its filter fails on this event (the controller's log says which)"
                        .into(),
            },
            _ => classify_by_status(response, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 400 | 404)
    }

    fn as_flux(&self) -> Option<&Flux> {
        Some(self)
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        crate::relay::format::Keys::secrets(self, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_hash_of_token_name_and_namespace_and_nothing_is_trimmed() {
        let path = |token: &str, name, namespace| hook_path(&Secret::new(token), name, namespace);
        assert_eq!(
            path("relay-demo-token-0001", "github-receiver", "flux-system"),
            "/hook/575b85660e3022c8ca5085d3297cbb9f0ff1dabc1509688e248fe84376d848cf"
        );
        assert_eq!(
            path("s3cr3t-with-newline\n", "dockerhub", "apps"),
            "/hook/3c15421751e828e136a33c7b820d81083dbdd113c67be67a8d193a048b416314"
        );
    }
}
