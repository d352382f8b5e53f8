//! Alertmanager's webhook receiver, version 4 of its message. What becomes of that is in [`notification`](super::notification).
//!
//! It cannot sign. It repeats what its `http_config` says: `authorization: { credentials_file: … }` sends `Authorization:
//! Bearer <secret>`, `http_headers` any other header; the URL may carry the token (`url_token: true`, `url_file`).
//! Any 2xx ends a notification. 5xx and network errors are tried again until the group's next turn; 4xx, 429 among them,
//! not before that, but then again and again. So whatever is authentic and of no use gets a 2xx.
//!
//! Oddities: `receiver` comes with the characters escaped that a regular expression would mind (`a\.b`); `endsAt` is the
//! year 1 while an alert fires; several peers may tell the same. `Watchdog`, which always fires, is an alert like any
//! other. With a `payload` of one's own the message is another one: use `generic`.
//! Source: prometheus/alertmanager v0.34.0, notify/webhook/webhook.go; its user interface, Utils/Filter.elm and
//! Views/SilenceForm, for the links (read 2026-08).

use super::auth::{Authentic, HeaderKeys, Proof};
use super::notification::{self, Message};
use super::{ParseError, Parsed, Proven, json};

crate::keys! {
    /// An `alertmanager` source.
    pub struct Alertmanager {
        ..proof: HeaderKeys,
    }
}

impl Proven for Alertmanager {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        let message: Message = json::read(&request.body)?;
        let page = message.page(&format!("#/alerts?receiver={}", encoded(message.receiver())));
        message.into_event(page, |message, labels| {
            message.page(&format!("#/silences/new?filter={}", encoded(&notification::selector(labels))))
        })
    }
}

/// Percent-encoded; after `#` a plus sign is no blank.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
