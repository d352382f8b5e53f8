//! Rocket.Chat: an incoming webhook.
//!
//! A message is one attachment with a coloured bar: its title is plain, its text goes through Rocket.Chat's own parser.
//! There a backslash makes any character plain but inside bold and links, and `\[` and `\(` begin a formula, so that
//! texts of others are never in bold, keep their brackets, and have an invisible word joiner between `]` and `(`. Another
//! one behind each `@` leaves no name. A text takes as many UTF-16 units as the server's setting says, 5,000 as it comes.
//!
//! The answer is `{"success": true}`, or `{"success": false, "error"}` with 400, 404 for a webhook it does not know (400
//! in newer versions), 503 for one that is switched off, 429 with `x-ratelimit-reset` as a time in milliseconds; a script
//! at the webhook may answer 200 whatever it did. It knows no idempotent send.
//! Sources: github.com/RocketChat/Rocket.Chat, apps/meteor/app/integrations/server/api/api.ts and
//! packages/message-parser/src/grammar.pegjs; RocketChat/developer-docs (read 2026-11).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, AtName, Attempt, Draw, Notifier, Size, below, doubts_url, pings, secret_url};
use super::markup::escape_with;
use super::message::Message;
use super::poke::{held, post_json};
use super::text::{self, Unit, quiet};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::OneOrMany;

crate::keys! {
    /// A `rocketchat` target.
    pub struct RocketChat {
        /// The webhook's URL, as a secret.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: here, all, or somebody's @name.
        mention: Option<OneOrMany<AtName>>,
    }
}

/// What a text takes where nobody changed the setting.
const TEXT: usize = 5000;

fn escape(text: &str) -> String {
    let is_mark = |c: char| "\\`*_~<>#$".contains(c);
    let escaped = escape_with(&quiet(text), is_mark, |address| address.replace('*', "%2A").replace('~', "%7E"));
    escaped.replace("](", "]\u{2060}(")
}

impl Draw for RocketChat {
    fn draw(&self, message: &Message) -> Value {
        let text = format!("{}\n{}", message.plain_rest(), message.origin());
        let mut body = json!({
            "attachments": [{
                "color": format!("#{:06x}", message.tone().rgb()),
                "title": text::cut(&message.headline(), 250, Unit::Characters),
                "text": escape(text.trim_start()),
            }],
        });
        if let Some(url) = &message.url {
            body["attachments"][0]["title_link"] = url.as_str().into();
        }
        if let Some(mention) = pings(&self.mention, message, AtName::markup) {
            body["text"] = mention.into();
        }
        body
    }

    fn draw_plain(&self, message: &Message) -> Value {
        json!({ "text": below(pings(&self.mention, message, AtName::markup), &escape(&message.plain())) })
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let parts = [("text", &body["text"]), ("attachment", &body["attachments"][0]["text"])];
        let parts = parts.into_iter().filter_map(|(what, text)| Some((what, text.as_str()?)));
        parts.map(|(what, text)| Size::new(what, Unit::Utf16, Unit::Utf16.of(text), TEXT)).collect()
    }

    fn preview(&self, body: &Value) -> String {
        let attachment = &body["attachments"][0];
        let plain = |value: &Value| {
            let mut plain = String::new();
            let mut escaped = false;
            for c in value.as_str()?.chars() {
                escaped = c == '\\' && !escaped;
                plain.extend((!escaped).then_some(c));
            }
            Some(plain)
        };
        let parts = [plain(&body["text"]), attachment["title"].as_str().map(str::to_owned), plain(&attachment["text"])];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
    }
}

/// Errors that the next message would meet as well, until somebody mends something.
const BROKEN: &[&str] = &[
    "Invalid integration",
    "invalid-channel",
    "error-not-allowed",
    "error-room-archived",
    "error-invalid-room",
    "error-action-not-allowed",
    "overriding destination",
];

fn is_broken(response: &Response) -> bool {
    let body = chat::json(response);
    let error = body["error"].as_str().unwrap_or_default();
    BROKEN.iter().any(|broken| error.contains(broken))
}

/// How long it is until the time in the header, which is in milliseconds.
fn until_reset(response: &Response, now: Timestamp) -> Option<Duration> {
    let reset = response.headers.get("x-ratelimit-reset")?.to_str().ok()?.parse().ok()?;
    Timestamp::from_millisecond(reset).ok()?.duration_since(now).try_into().ok()
}

impl Notifier for RocketChat {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        let said = excerpt(response);
        match status {
            200 | 400 if is_broken(response) => held(format!("{status}: Rocket.Chat refuses the webhook: {said}")),
            401 | 403 | 404 => held(format!("{status}: Rocket.Chat does not know the webhook: {said}")),
            200 if chat::json(response)["success"] == false => {
                Outcome::Rejected { reason: format!("200: Rocket.Chat refuses this message: {said}") }
            }
            _ => chat::classify(response, until_reset(response, now), now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || is_broken(response)
    }
}
