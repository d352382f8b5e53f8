//! Receivers of Flux's notification-controller.
//!
//! The path is `/hook/` and the SHA-256 of token, name and namespace, so that it follows the token. A Receiver's
//! success is exactly 200, its bodies are always empty, and every refusal looks alike: what the statuses mean is
//! written into the reasons here. Source: fluxcd/notification-controller v1.9.3, `internal/server` (read 2026-08).
//!
//! When the token changes, signatures are checked by the new one at once, but the path stays the old one until the
//! Receiver is reconciled (10 min by default); and GitOps may bring the new token to the cluster long after us. So
//! while there is a token before the current one, what could be meant is tried in turn.

mod body;
mod names;

use ::http::HeaderName;
use jiff::Timestamp;
use serde_json::Value;

use super::pause::asked;
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{At, BaseUrl, Fields, KeyDescription, Keys, Problems, Read};

/// The audience of a `generic-oidc` Receiver that names none.
const AUDIENCE: &str = "notification-controller";

crate::words! {
    /// A Receiver's `.spec.type`, as far as whoever knows its token can satisfy it.
    pub enum ReceiverType {
        /// Checks nothing but the path.
        Generic = "generic",
        /// Checks `X-Signature`.
        GenericHmac = "generic-hmac",
        /// Checks a token of an OpenID Connect issuer; here, of AWS for the function's own role.
        GenericOidc = "generic-oidc",
        /// Checks GitHub's signature (Gitea's, too).
        Github = "github",
        /// Checks `X-Gitlab-Token`.
        Gitlab = "gitlab",
        /// Checks the signature of Bitbucket, Cloud and Data Center.
        Bitbucket = "bitbucket",
        /// Checks that `Authorization` is the token.
        Harbor = "harbor",
        /// Checks nothing but the path, and reads Docker Hub's body.
        Dockerhub = "dockerhub",
        /// Checks nothing but the path, and reads Quay's body.
        Quay = "quay",
        /// Checks nothing but the path, and reads Azure Container Registry's body.
        Acr = "acr",
        /// Checks Nexus Repository's signature, and reads its body.
        Nexus = "nexus",
        /// Checks nothing but the path, and reads a CDEvent.
        Cdevents = "cdevents",
    }
}

impl ReceiverType {
    /// Whether it is there for pushes to registries only.
    fn is_registry(self) -> bool {
        use ReceiverType::{Acr, Cdevents, Dockerhub, Harbor, Nexus, Quay};
        matches!(self, Harbor | Dockerhub | Quay | Acr | Nexus | Cdevents)
    }

    /// Whether it refuses a body that is not shaped as its registry's.
    fn reads_body(self) -> bool {
        use ReceiverType::{Acr, Cdevents, Dockerhub, Nexus, Quay};
        matches!(self, Dockerhub | Quay | Acr | Nexus | Cdevents)
    }

    /// Whether requests carry something that is made of the token, besides the path.
    fn proves_token(self) -> bool {
        use ReceiverType::{Bitbucket, GenericHmac, Github, Gitlab, Harbor, Nexus};
        matches!(self, GenericHmac | Github | Gitlab | Bitbucket | Harbor | Nexus)
    }
}

/// A [`ReceiverType`] as the relay file has it: what cannot be satisfied is explained.
#[derive(Debug, Clone, Copy)]
pub struct Kind(ReceiverType);

impl Read for Kind {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        if value == "gcr" {
            problems.error(
                at,
                "a gcr Receiver accepts nothing but an ID token that Google has signed for one service account, which \
                 no relay can make; use a Receiver of type generic-hmac or generic-oidc in the cluster instead",
            );
            return None;
        }
        ReceiverType::read(value, at, problems).map(Self)
    }

    fn schema() -> Value {
        ReceiverType::schema()
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
        kind as "type": Kind,
        /// Its `.metadata.name`.
        name: String,
        /// Its `.metadata.namespace`.
        namespace: String,
        /// Its `.spec.events`, so that what it would refuse is not sent.
        events: Option<Vec<String>>,
    }
}

crate::keys! {
    /// What the relay file says of a `flux` target.
    struct FluxKeys {
        /// What is in front of the notification-controller's Service `webhook-receiver`.
        url: BaseUrl,
        /// The Receiver.
        receiver: Receiver,
        /// The `token` of the Secret that the Receiver names. Every type needs it but generic-oidc, which has none.
        token: Option<SecretRef>,
        /// For generic-oidc: the audience that one of the Receiver's oidcProviders names. Left out:
        /// notification-controller.
        audience: Option<String>,
        /// What it gets as body. Left out: the sender's own body for Git events, the registry's for types that read
        /// one (dockerhub, quay, acr, nexus, cdevents), else the normalised event.
        body: Option<Body>,
    }
}

/// By what the Receiver knows us.
#[derive(Debug, Clone)]
enum Credential {
    /// The token that it shares with us.
    Token(SecretRef),
    /// A token that AWS signs for the role that we run as.
    WebIdentity(SecretRef),
}

/// A `flux` target.
#[derive(Debug, Clone)]
pub struct Flux {
    /// What is in front of the notification-controller's Service `webhook-receiver`.
    pub url: BaseUrl,
    /// The Receiver.
    pub receiver: Receiver,
    credential: Credential,
    body: Option<Body>,
}

impl Keys for Flux {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = FluxKeys::take(fields);
        // Looked up in the file, so that this problem is found together with all others.
        let kind = fields.peek("receiver").and_then(|receiver| receiver.get("type")).and_then(Value::as_str);
        let is_oidc = kind == Some(ReceiverType::GenericOidc.word());
        let (has_token, has_audience) = (fields.peek("token").is_some(), fields.peek("audience").is_some());
        let at = fields.at();
        let mut sound = true;
        let mut wrong = |at: &At, why: &str| {
            fields.problems().error(at, why);
            sound = false;
        };
        match (is_oidc, has_token) {
            (true, true) => wrong(
                &at.child("token"),
                "a generic-oidc Receiver has no token: the function's own AWS identity is what it checks; leave this out",
            ),
            // Of a gcr Receiver there is one thing to say only, and that is said.
            (false, false) if kind != Some("gcr") => wrong(&at, "`token` is missing"),
            _ => {}
        }
        if has_audience && !is_oidc {
            wrong(&at.child("audience"), "only a generic-oidc Receiver has an audience; leave this out");
        }
        let FluxKeys { url, receiver, token, audience, body } = keys?;
        if audience.as_deref() == Some("") {
            wrong(
                &at.child("audience"),
                "an empty audience is no audience; leave this out for notification-controller",
            );
        }
        let Kind(kind) = receiver.kind;
        if body.is_some() && kind.reads_body() {
            wrong(
                &at.child("body"),
                "a Receiver of this type reads the body of its own kind of registry and gets that; leave this out",
            );
        }
        if receiver.events.is_some() && names::header(kind).is_none() {
            fields
                .problems()
                .warning(&at.child("receiver").child("events"), "Flux does not look at the events of this type");
        }
        let credential = match token {
            Some(token) => Credential::Token(token),
            None => Credential::WebIdentity(SecretRef::WebIdentity {
                audience: audience.unwrap_or_else(|| AUDIENCE.into()),
            }),
        };
        sound.then_some(Self { url, receiver, credential, body })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        FluxKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        let (Credential::Token(reference) | Credential::WebIdentity(reference)) = &self.credential;
        seen(reference);
    }
}

/// The path at which a Receiver listens.
pub fn hook_path(token: &Secret, name: &str, namespace: &str) -> String {
    format!("/hook/{}", signature::sha256_hex(&[token.expose(), name.as_bytes(), namespace.as_bytes()]))
}

/// The value of a header of the sender's own request, as far as it is kept.
fn sent<'a>(original: Option<&'a Original>, name: &str) -> Option<&'a str> {
    original?.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// The current value of a secret that is there and not empty.
fn present<'s>(secrets: &'s Resolved, reference: &SecretRef) -> Result<&'s Secret, RenderError> {
    let value = secrets.current(reference).filter(|value| !value.is_empty());
    value.ok_or_else(|| RenderError::NoSecret(reference.clone()))
}

impl Flux {
    /// The secret that the path depends on; none where everybody can compute it.
    pub fn token(&self) -> Option<&SecretRef> {
        match &self.credential {
            Credential::Token(token) => Some(token),
            Credential::WebIdentity(_) => None,
        }
    }

    /// The Receiver's path under the current token.
    ///
    /// # Errors
    /// [`RenderError::NoSecret`] where there is no token, or an empty one.
    pub fn path(&self, secrets: &Resolved) -> Result<String, RenderError> {
        match &self.credential {
            Credential::Token(token) => Ok(self.path_by(present(secrets, token)?)),
            Credential::WebIdentity(_) => Ok(self.path_by(&Secret::new(""))),
        }
    }

    fn path_by(&self, token: &Secret) -> String {
        hook_path(token, &self.receiver.name, &self.receiver.namespace)
    }

    fn kind(&self) -> ReceiverType {
        self.receiver.kind.0
    }

    /// The names under which the Receiver may know the event in `header`. The sender's own comes first, where the
    /// sender is of the Receiver's type.
    fn names<'a>(&self, header: &str, event: &'a Event, original: Option<&'a Original>) -> Vec<&'a str> {
        let own = sent(original.filter(|_| self.needs_original(event)), header);
        own.into_iter().chain(names::names(self.kind(), event)).collect()
    }

    /// Whether the Receiver's `.spec.events` let an event of this name pass.
    fn lets_in(&self, name: &str) -> bool {
        let events = self.receiver.events.as_deref().unwrap_or_default();
        events.is_empty() || events.iter().any(|one| one.eq_ignore_ascii_case(name))
    }

    /// What a refusal of the Receiver may mean; it does not say.
    fn why_refused(&self) -> &'static str {
        match self.kind() {
            ReceiverType::GenericOidc => {
                "the Receiver refuses the token that AWS signed for us. Does one of its .spec.oidcProviders have this \
                 account's issuer and our audience, do its validations let our role in, can the cluster reach the \
                 issuer?"
            }
            kind if kind.proves_token() => {
                "the Receiver refuses the signature, the body or the event. Is its Secret's token the same as ours, is \
                 its type the same, does its .spec.events list this event?"
            }
            _ => {
                "the Receiver refuses the body or the event. Is its type the same as here, is its Secret there, does \
                 its .spec.events list this event?"
            }
        }
    }

    /// The request without anything that depends on a secret: its path is missing, and what proves who we are.
    fn unsigned(&self, delivery: &Delivery) -> Result<Outbound, RenderError> {
        let event = &delivery.event;
        let time = event.time.unwrap_or(delivery.queued);
        let original = delivery.original.as_ref().filter(|_| self.needs_original(event));
        let body = match (original, self.kind(), &event.detail) {
            (Some(original), ..) => Ok(original.body.clone()),
            (_, ReceiverType::Dockerhub, Detail::ImagePush(push)) => body::docker_hub(push, time).map(Into::into),
            (_, ReceiverType::Quay, Detail::ImagePush(push)) => body::quay(push).map(Into::into),
            (_, ReceiverType::Acr, Detail::ImagePush(push)) => body::acr(event, push, time).map(Into::into),
            (_, ReceiverType::Nexus, Detail::ImagePush(push)) => body::nexus(push, time).map(Into::into),
            (_, ReceiverType::Cdevents, Detail::ImagePush(push)) => body::cdevent(event, push, time).map(Into::into),
            _ => serde_json::to_vec(event).map(Into::into),
        };
        let body: bytes::Bytes = body.map_err(|error| RenderError::Unfit(error.to_string()))?;
        // JSON always: of anything else a Receiver's `resourceFilter` sees nothing.
        let mut request = Outbound::post(String::new(), "application/json", body);
        if let Some(header) = names::header(self.kind()) {
            let names = self.names(header, event, original);
            let name = names.iter().find(|name| self.lets_in(name)).or(names.first());
            request.header(header, name.copied().unwrap_or_default())?;
        }
        match self.kind() {
            ReceiverType::Github => {
                request.header("x-github-delivery", sent(original, "x-github-delivery").unwrap_or(&event.id))?;
            }
            ReceiverType::Cdevents => {
                request.header("ce-specversion", "1.0")?;
                request.header("ce-id", &event.id)?;
                request.header("ce-source", &body::cdevent_source(event))?;
            }
            _ => {}
        }
        Ok(request)
    }

    /// The request to the path that follows from `path_token`, proven by `token`.
    fn signed(&self, unsigned: &Outbound, path_token: &Secret, token: &Secret) -> Result<Outbound, RenderError> {
        let mut request = unsigned.clone();
        request.url = self.url.join(&self.path_by(path_token));
        let mac = |algorithm| Encoding::Hex.encode(&signature::hmac(algorithm, token, &[&request.body]));
        let sha256 = || format!("sha256={}", mac(Algorithm::Sha256)).into_bytes();
        let (header, value) = match self.kind() {
            ReceiverType::GenericHmac => ("x-signature", sha256()),
            ReceiverType::Github => ("x-hub-signature-256", sha256()),
            // SHA-256 under the older header's name: that is how Bitbucket has it.
            ReceiverType::Bitbucket => ("x-hub-signature", sha256()),
            ReceiverType::Nexus => ("x-nexus-webhook-signature", mac(Algorithm::Sha1).into_bytes()),
            ReceiverType::Gitlab => ("x-gitlab-token", token.expose().to_vec()),
            ReceiverType::Harbor => ("authorization", token.expose().to_vec()),
            ReceiverType::GenericOidc => ("authorization", [b"Bearer ", token.expose()].concat()),
            ReceiverType::Generic
            | ReceiverType::Dockerhub
            | ReceiverType::Quay
            | ReceiverType::Acr
            | ReceiverType::Cdevents => return Ok(request),
        };
        request.credential(HeaderName::from_static(header), &value)?;
        Ok(request)
    }
}

impl Target for Flux {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        let receiver = self.kind();
        match kind {
            "image_push" => None,
            _ if receiver.is_registry() => {
                Some(format!("Receivers of type {receiver} are for pushes to registries only"))
            }
            "alert" if names::header(receiver).is_some() => {
                Some(format!("Receivers of type {receiver} know no alerts"))
            }
            _ => None,
        }
    }

    fn wants(&self, event: &Event, original: Option<&Original>) -> Result<(), String> {
        use ReceiverType::{Dockerhub, Nexus, Quay};
        if let Some(why) = self.refuses(event.kind()) {
            return Err(why);
        }
        let receiver = self.kind();
        if let Detail::ImagePush(push) = &event.detail
            && push.tags.is_empty()
        {
            match receiver {
                Dockerhub | Quay => {
                    return Err(format!(
                        "Receivers of type {receiver} are told of tags, and this was pushed without one"
                    ));
                }
                Nexus if push.digest.is_none() => {
                    return Err("Receivers of type nexus are told of tags or digests, and this has neither".into());
                }
                _ => {}
            }
        }
        let Some(header) = names::header(receiver) else { return Ok(()) };
        let names = self.names(header, event, original);
        match names.iter().any(|name| self.lets_in(name)) {
            true => Ok(()),
            false => Err(format!("the Receiver's events leave out `{}`", names.join("` and `"))),
        }
    }

    fn needs_original(&self, event: &Event) -> bool {
        match self.body {
            Some(body) => body == Body::Passthrough,
            None => matches!(event.detail, Detail::Git(_)),
        }
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let reference = match &self.credential {
            Credential::Token(reference) => reference,
            Credential::WebIdentity(reference) => {
                let token = present(secrets, reference)?;
                let request = self.unsigned(delivery)?;
                return Ok(vec![self.signed(&request, &Secret::new(""), token)?]);
            }
        };
        let current = present(secrets, reference)?;
        let unsigned = self.unsigned(delivery)?;
        let mut renderings = vec![self.signed(&unsigned, current, current)?];
        let accepted = secrets.accepted(std::slice::from_ref(reference));
        if let Some(previous) = accepted.into_iter().find(|one| one.expose() != current.expose()) {
            // The Receiver was not reconciled since the cluster's Secret changed.
            renderings.push(self.signed(&unsigned, previous, current)?);
            if self.kind().proves_token() {
                // The cluster's Secret is still to change. A value before that fits no header fitted none then.
                renderings.extend(self.signed(&unsigned, previous, previous));
            }
        }
        Ok(renderings)
    }

    fn tries_next(&self, response: &Response) -> bool {
        matches!(response.status, 400 | 404) && response.body.is_empty()
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let held = |reason: &str| Outcome::Retry { blame: Blame::Setup, reason: reason.into() };
        let busy = |reason: &str| Outcome::Retry { blame: Blame::Target, reason: reason.into() };
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
                    format!("400 with an empty body: {}", self.why_refused())
                } else {
                    format!("400, but not by a Receiver, whose answers are empty: {}", excerpt(response))
                },
            },
            404 if empty && self.token().is_none() => held(
                "404 with an empty body: no Receiver has this path; are name and namespace right, is its type \
                 generic-oidc?",
            ),
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
            413 if empty => {
                Outcome::Rejected { reason: "413: the body is larger than a Receiver takes (3 MiB)".into() }
            }
            413 => Outcome::Rejected {
                reason: format!(
                    "413: the body is larger than a Receiver takes (3 MiB), or than an ingress or proxy before it does: {}",
                    excerpt(response)
                ),
            },
            429 => match asked(response, now) {
                Some(wait) => Outcome::RetryAfter { wait, reason: "429: asked to wait".into() },
                None => busy(
                    "429: a Receiver never answers that; it is a proxy's rate limit, or the notification-controller's \
                     event intake, which is the wrong Service",
                ),
            },
            503 if empty && asked(response, now).is_none() => {
                busy("503 with an empty body: the Receiver is suspended or not ready")
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
        // A web identity is new each time, and one that was refused is no better for being fetched again.
        self.token().is_some() && matches!(response.status, 400 | 404)
    }

    fn as_flux(&self) -> Option<&Flux> {
        Some(self)
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
