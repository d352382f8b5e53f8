//! Webex: a bot's token and a room, by the Messages API.
//!
//! `POST /v1/messages` with `text`, which parses nothing and takes 7,439 bytes. Its `markdown` could name people, but
//! takes HTML as well, and how a text of others is kept out of both is documented nowhere: nobody is pinged.
//!
//! The answer is 200 with the message, else `{"message", "errors", "trackingId"}`: 401 for a token that is none, 403 and
//! 404 for a room that the bot is not in, 423 for what is unavailable for a while and 429 for a limit, with `Retry-After`.
//! It knows no idempotent send.
//! Sources: developer.webex.com, "Create a Message" and "REST API Basics" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::message::Message;
use super::poke::post_json;
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `webex` target.
    pub struct Webex {
        /// The bot's token.
        token: SecretRef,
        /// The room's id (Y2lz…).
        room: String,
        /// Another API than https://webexapis.com.
        api_url: BaseUrl = BaseUrl::known("https://webexapis.com"),
    }
}

/// What a text takes, in bytes.
const TEXT: usize = 7439;

impl Webex {
    fn text(&self, text: &str) -> Value {
        json!({ "roomId": self.room, "text": text })
    }
}

impl Draw for Webex {
    fn draw(&self, message: &Message) -> Value {
        self.text(&format!("{}\n{}", message.plain(), message.origin()))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.text(&message.plain())
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let text = body["text"].as_str().unwrap_or_default();
        vec![Size::new("text", Unit::Bytes, Unit::Bytes.of(text), TEXT)]
    }

    fn preview(&self, body: &Value) -> String {
        body["text"].as_str().unwrap_or_default().to_owned()
    }
}

impl Notifier for Webex {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut request = post_json(self.api_url.join("/v1/messages"), &body)?;
        request.bearer(secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            423 => chat::later(response, None, now),
            _ => chat::classify(response, None, now),
        }
    }
}
