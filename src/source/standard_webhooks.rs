//! Standard Webhooks 1.0: what many services sign their webhooks by.
//!
//! `webhook-id` names the message and stays the same when it is sent again; `webhook-timestamp` is when it was sent;
//! `webhook-signature` lists signatures over both and the body. The body is JSON, and should be `type`, `timestamp` and
//! `data`; what stands where is said in the relay file.
//! Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md (read 2026-08).

use jiff::Timestamp;

use super::auth::{self, AuthError, Authentic};
use super::fields::{self, FieldKeys};
use super::json::text;
use super::{Function, ParseError, Parsed, Request, Source};
use crate::domain::event::Original;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, OneOrMany, Problems, Span};

crate::keys! {
    /// A `standard-webhooks` source.
    pub struct StandardWebhooks {
        ..fields: FieldKeys,
        /// The webhook's signing secret, `whsec_` and base64; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// How long before or after now a message may have been sent.
        tolerance: Span = Span::seconds(300),
    }
}

impl Source for StandardWebhooks {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        auth::standard_webhooks(request, self.tolerance.0, &self.secret.0, secrets, now)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let id = text(request.header("webhook-id").map(str::to_owned));
        let mut envelope = Vec::new();
        let found = self.fields.find(&["data"], |pointers| {
            let own = ["type", "timestamp"].map(|name| [name.to_owned()]);
            let all: Vec<_> = pointers.iter().copied().chain(own.iter().map(|part| part.as_slice())).collect();
            let mut texts = fields::pick(&request.body, &all)?;
            envelope = texts.split_off(pointers.len());
            Ok(texts)
        })?;
        let mut envelope = envelope.into_iter().map(|texts| texts.into_iter().next());
        let (kind, time) = (envelope.next().flatten(), envelope.next().flatten());
        let kind = kind.unwrap_or_else(|| "message".into());
        let parsed = match found.into_event(&kind, id.clone(), time.and_then(|time| time.parse().ok())) {
            Ok((summary, found)) => {
                let content_type = request.header("content-type").unwrap_or("application/json").to_owned();
                let headers = id.iter().map(|id| ("webhook-id".to_owned(), id.clone())).collect();
                let original = Original { content_type, headers, body: request.body.clone() };
                Parsed { original: Some(original), ..Parsed::events(summary, vec![found]) }
            }
            Err(why) => Parsed::ignored(kind, why),
        };
        Ok(Parsed { delivery_id: id, ..parsed })
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String> {
        let id = request.header("webhook-id").unwrap_or("msg_sample").to_owned();
        auth::sign_standard_webhooks(request, &id, &self.secret.0[0], secrets, now)
    }

    fn function(&self) -> Option<Function> {
        Some(self.fields.function())
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.fields.check(at, problems);
    }
}
