//! Webex: a bot's token and a room, by the Messages API.
//!
//! `POST /v1/messages` with `text`, which parses nothing and takes 7,439 bytes. Its `markdown` could name people, but
//! takes HTML as well, and how a text of others is kept out of both is documented nowhere: nobody is pinged.
//!
//! The answer is 200 with the message, else `{"message", "errors", "trackingId"}`: 401 for a token that is none, 403 and
//! 404 for a room that the bot is not in, 429 with `Retry-After`. It knows no idempotent send.
//! Sources: developer.webex.com, "Create a Message" and "REST API Basics" (read 2026-11).

use ::http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Draw, Size, secret_text};
use super::message::Message;
use super::poke::post_json;
use super::text::Unit;
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `webex` target.
    pub struct Webex {
        /// The bot's token.
        token: SecretRef,
        /// The room's id (Y2lz…).
        room: String,
        /// Another API than https://webexapis.com.
        api_url: Option<BaseUrl>,
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

impl Target for Webex {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn needs_original(&self, _event: &Event) -> bool {
        false
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let path = "/v1/messages";
        let url = self.api_url.as_ref().map_or_else(|| format!("https://webexapis.com{path}"), |base| base.join(path));
        let authorization = format!("Bearer {}", secret_text(secrets, &self.token)?);
        let request = |body: &Value| {
            let mut request = post_json(url.clone(), body)?;
            request.credential(AUTHORIZATION, authorization.as_bytes())?;
            Ok(request)
        };
        chat::bodies(self, &delivery.event).iter().map(request).collect()
    }

    fn tries_next(&self, response: &Response) -> bool {
        chat::refuses_body(response)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        chat::classify(response, None, now)
    }

    fn as_draw(&self) -> Option<&dyn Draw> {
        Some(self)
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        crate::relay::format::Keys::secrets(self, seen);
    }
}
