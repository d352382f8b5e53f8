//! CloudEvents 1.0 over HTTP: structured (`application/cloudevents+json`), several at once
//! (`application/cloudevents-batch+json`), or binary (attributes in `ce-*` headers, the body is the data).
//!
//! The specification knows no signature: the sender repeats a fixed value in a header. Before it sends anything it may
//! ask with `OPTIONS` whether it may («HTTP 1.1 Web Hooks for Event Delivery»). `source` and `id` together tell an event
//! from all others. Values of `ce-*` headers are percent-encoded UTF-8. Some senders declare structured events as plain
//! `application/json`. What stands where is said in the relay file, in the words of the structured form whichever way an
//! event comes: `/type`, `/data/repository`.
//! Source: cloudevents/spec v1.0.2, http-protocol-binding.md, json-format.md and http-webhook.md (read 2026-08).

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::auth::{AuthError, Authentic, HeaderKeys, Proof};
use super::cloud_event::CloudEvent;
use super::fields::FieldKeys;
use super::{Found, Function, ParseError, Parsed, Request, Source, json};
use crate::domain::event::Original;
use crate::domain::secret::Resolved;
use crate::relay::format::{At, Problems};

crate::keys! {
    /// A `cloudevents` source.
    pub struct CloudEvents {
        ..key: HeaderKeys,
        ..fields: FieldKeys,
    }
}

impl Source for CloudEvents {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.key.authenticate(request, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        match request.media_type().as_deref() {
            Some("application/cloudevents-batch+json") => self.batch(&request),
            _ => self.single(&request, CloudEvent::read(&request)?),
        }
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        self.key.sign(request, secrets)
    }

    fn function(&self) -> Option<Function> {
        Some(self.fields.function())
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.fields.check(at, problems);
    }

    fn shakes_hands(&self) -> bool {
        true
    }
}

impl CloudEvents {
    fn single(&self, request: &Request, event: CloudEvent<'_>) -> Result<Parsed, ParseError> {
        let id = event.id.clone();
        let kind = event.kind.clone();
        let parsed = match self.event(event)? {
            Ok((summary, found)) => {
                // The secret stays here, also where its header is named like an attribute.
                let is_secret = |name: &str| self.key.header.as_ref().is_some_and(|it| it.0.eq_ignore_ascii_case(name));
                let headers = request.headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-"));
                let headers = headers.filter(|(name, _)| !is_secret(name.as_str()));
                let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
                let headers = headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
                let content_type = request.header("content-type").unwrap_or("application/json").to_owned();
                let original = Original { content_type, headers: headers.collect(), body: request.body.clone() };
                Parsed { original: Some(original), ..Parsed::events(summary, vec![found]) }
            }
            Err(why) => Parsed::ignored(kind, why),
        };
        Ok(Parsed { delivery_id: Some(id), ..parsed })
    }

    /// All of a batch or nothing: its sender hears of one answer only.
    fn batch(&self, request: &Request) -> Result<Parsed, ParseError> {
        let items: Vec<&RawValue> = json::read(&request.body)?;
        let total = items.len();
        let (mut summaries, mut events, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (i, item) in items.into_iter().enumerate() {
            match self.event(CloudEvent::structured(item.get().as_bytes(), &format!("[{i}]."))?)? {
                Ok((summary, found)) => {
                    summaries.push(summary);
                    events.push(found);
                }
                Err(why) => left_out.push(format!("[{i}]: {why}")),
            }
        }
        let ignored = match (total, left_out.is_empty()) {
            (0, _) => Some("the batch is empty".into()),
            (_, true) => None,
            (_, false) => Some(left_out.join("; ")),
        };
        Ok(Parsed { ignored, ..Parsed::events(format!("batch of {total}: {}", summaries.join(", ")), events) })
    }

    fn event(&self, event: CloudEvent<'_>) -> Result<Result<(String, Found), String>, ParseError> {
        let found = self.fields.find(&["data"], |pointers| event.pick(pointers))?;
        let identity = format!("{} {}", event.source, event.id);
        Ok(found.into_event(&event.kind, Some(identity), event.time()))
    }
}
