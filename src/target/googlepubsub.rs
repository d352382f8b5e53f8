//! Google Cloud Pub/Sub: the normalised event as a message of a topic.
//!
//! `POST /v1/projects/{project}/topics/{topic}:publish` with `messages[].data` (base64) and `attributes`, which filters of
//! subscriptions go by: `attributes.kind = "alert"`. We are a service account, and are given a token that is good for an
//! hour for a statement signed with its key: `iss` its address, `aud` the place that gives tokens, `scope` what for. A
//! message has up to 10 MB, which no event comes near, and up to 100 attributes of 1024 bytes; ours are words.
//!
//! Messages with one `orderingKey` come in their order to subscriptions that ask for order, if they were published in one
//! region (`api_url` can name its endpoint); others do not look at it. An alert has the same key from its beginning to its
//! end, all else that of its source.
//!
//! Answers are `{"error": {"code", "message", "status"}}`; whoever refuses a token says `{"error": "invalid_grant"}` with
//! 400, and that is nothing a message could change; `internal_failure` and `temporarily_unavailable` pass by themselves. Nor could it change a failed precondition: no billing, no access to
//! the key that the topic is encrypted with, a region that its policy leaves out. 409 is `ABORTED` for what is published,
//! which Google's own clients try again.
//! Sources: cloud.google.com, "Method: projects.topics.publish", "PubsubMessage", "Order messages", "Quotas and limits" and
//! "Error codes" of Pub/Sub; developers.google.com, "Using OAuth 2.0 for Server to Server Applications";
//! fluxcd/notification-controller, `internal/notifier/google_pubsub.go`; retries by @google-cloud/pubsub 4.9.0,
//! `publisher_client_config.json` (read 2026-11).

use ::http::Method;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::message::Message;
use super::poke::{busy, current, held};
use super::{Class, Outbound, RenderError, Response, Statement, Target, TokenRequest, chat, not_now};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, BaseUrl, Problems, Read, parsed};

crate::keys! {
    /// The keys of a `googlepubsub` target.
    pub struct Googlepubsub {
        /// The id of the project that the topic is in.
        project: Resource,
        /// The topic's name.
        topic: Resource,
        /// The service account's address; it has to have the role Pub/Sub Publisher.
        service_account: String,
        /// A private key of the service account (PEM): the private_key of the file that Google hands out.
        private_key: SecretRef,
        /// Another endpoint than https://pubsub.googleapis.com, such as that of a region.
        api_url: BaseUrl = BaseUrl::known("https://pubsub.googleapis.com"),
    }
}

/// The name of something at Google Cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource(String);

impl Read for Resource {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let valid = text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || ".:_~+-".contains(c));
            valid.then(|| Self(text.into())).ok_or_else(|| "expected a name without slashes".into())
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9.:_~+-]*$" })
    }
}

/// What whoever gives tokens says of itself where it fails, with whatever status.
const PASSING: &[&str] = &["internal_failure", "temporarily_unavailable"];

/// Who gives tokens.
const TOKENS: &str = "https://oauth2.googleapis.com/token";

impl Target for Googlepubsub {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let event = &delivery.event;
        let data = serde_json::to_vec(event).map_err(|error| RenderError::Unfit(error.to_string()))?;
        let message = Message::of(event);
        let message = json!({
            "data": BASE64.encode(&data),
            "attributes": message.attributes(),
            "orderingKey": message.key.as_deref().unwrap_or(event.source.as_str()),
        });
        let path = format!("/v1/projects/{}/topics/{}:publish", self.project.0, self.topic.0);
        let url = self.api_url.join(&path);
        let mut request = Outbound::new(Method::POST, url).with_json(&json!({ "messages": [message] }));
        let now = now.as_second();
        request.token = Some(Box::new(TokenRequest {
            request: Outbound::new(Method::POST, TOKENS.into()),
            claims: json!({
                "iss": self.service_account,
                "scope": "https://www.googleapis.com/auth/pubsub",
                "aud": TOKENS,
                "iat": now - 60,
                "exp": now + 3000,
            }),
            key: current(secrets, &self.private_key)?.clone(),
            statement: Statement::Form,
        }));
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        let body = chat::json(response);
        let error = &body["error"];
        if let Some(refused) = error.as_str() {
            let said = body["error_description"].as_str().unwrap_or_default();
            let reason = format!("{status}: Google gives the service account no token: {refused}: {said}");
            return match status {
                400 | 401 | 403 if !PASSING.contains(&refused) => held(reason),
                _ => not_now(response, Blame::Target, reason, now),
            };
        }
        let said = error["message"].as_str().unwrap_or_default();
        match status {
            200 if body["messageIds"].is_array() => Outcome::Accepted,
            200 => chat::foreign(response, "Pub/Sub", "`api_url`"),
            400 if error["status"] == "FAILED_PRECONDITION" => held(format!("400: the topic takes nothing: {said}")),
            401 => held(format!("401: Google does not take the service account's token: {said}")),
            403 => held(format!("403: the service account may not publish to this topic: {said}")),
            404 => held(format!("404: there is no such topic: {said}")),
            409 | 499 => busy(format!("{status}: {said}")),
            _ => chat::classify(response, None, now),
        }
    }
}
