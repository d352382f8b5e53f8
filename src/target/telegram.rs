//! Telegram: a bot's token and a chat, by sendMessage of the Bot API.
//!
//! `POST /bot<token>/sendMessage` with a text in HTML, in which `&`, `<`, `>` and `"` are escaped; a message takes 4,096
//! UTF-16 units as they are after its tags were read. Telegram finds `@names` by itself in every text and tells those
//! who bear them, in bold type as well: in texts of others an invisible word joiner stands behind each `@`.
//!
//! The answer is `{"ok": true, "result": …}`, or `{"ok": false, "error_code", "description", "parameters"}` with the same
//! status: 400 with `parameters.migrate_to_chat_id` where a group has become a supergroup with another id, 401 and 404
//! for a token it does not know, 403 where the bot was blocked or removed, and 429 with `parameters.retry_after` in
//! seconds. It knows no idempotent send.
//! Sources: Telegram's own server and library (github.com/tdlib: telegram-bot-api, Query.cpp; td, MessageEntity.cpp, whose
//! `match_mentions` says what a name is), and the Bot API's texts on sendMessage and formatting options as grammY
//! (grammy.dev/ref/types/ParseMode) and python-telegram-bot repeat them; read 2026-11. The texts of the 400s are
//! documented nowhere: those below are what clients are known to meet, and any other is taken as the message's fault.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, pings, secret_text};
use super::markup::{self, Dialect, escape_html};
use super::message::Message;
use super::pause;
use super::poke::{held, post_json};
use super::text::{Unit, quiet};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, OneOrMany, Problems, Read, parsed};

/// A chat, as the API takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat(Value);

impl Read for Chat {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        if let Some(number) = value.as_i64() {
            return Some(Self(number.into()));
        }
        parsed(value, at, problems, |text| match text.parse::<i64>() {
            Ok(number) => Ok(Self(number.into())),
            Err(_) if is_name(text) => Ok(Self(text.into())),
            Err(_) => Err("expected a chat's id, such as -1001234567890, or a public channel's @name".into()),
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^(-?[0-9]+|@[A-Za-z0-9_]+)$" }] })
    }
}

fn is_name(text: &str) -> bool {
    let name = text.strip_prefix('@').unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Who is pinged, as HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        // Somebody without a name is reached by a link; it needs a text, and theirs we do not know.
        let by_id = |id: u64| Self(format!("<a href=\"tg://user?id={id}\">🔔</a>"));
        if let Some(id) = value.as_u64() {
            return Some(by_id(id));
        }
        parsed(value, at, problems, |text| match text.parse::<u64>() {
            Ok(id) => Ok(by_id(id)),
            Err(_) if is_name(text) => Ok(Self(text.into())),
            Err(_) => Err("expected a user's @name or numeric id".into()),
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^([0-9]+|@[A-Za-z0-9_]+)$" }] })
    }
}

crate::keys! {
    /// A `telegram` target.
    pub struct Telegram {
        /// The bot's token (123456:ABC…).
        token: SecretRef,
        /// The chat's id, or a public channel's @name.
        chat: Chat,
        /// Who is pinged by what is not over and worse than info: a member's @name or numeric id.
        mention: Option<OneOrMany<Mention>>,
        /// Another API server than https://api.telegram.org.
        api_url: BaseUrl = BaseUrl::known("https://api.telegram.org"),
    }
}

/// What a message takes after its tags were read.
const TEXT: usize = 4096;

const HTML: Dialect = Dialect { escape: |text| escape_html(&quiet(text)), line_break: "\n" };

impl Telegram {
    fn addressed(&self, mut body: Value) -> Value {
        body["chat_id"] = self.chat.0.clone();
        body["link_preview_options"] = json!({ "is_disabled": true });
        body
    }
}

impl Draw for Telegram {
    fn draw(&self, message: &Message) -> Value {
        let mention = pings(&self.mention, message, |one| &one.0);
        let text = markup::html(message, mention.as_deref(), HTML);
        self.addressed(json!({ "text": text, "parse_mode": "HTML" }))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.addressed(json!({ "text": quiet(&message.plain()) }))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let text = body["text"].as_str().unwrap_or_default();
        let size = match body.get("parse_mode") {
            Some(_) => Unit::Utf16.of(&markup::text_of(text)),
            None => Unit::Utf16.of(text),
        };
        vec![Size::new("text", Unit::Utf16, size, TEXT)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = body["text"].as_str().unwrap_or_default();
        match body.get("parse_mode") {
            Some(_) => markup::preview(text),
            None => text.to_owned(),
        }
    }
}

/// What a 400 says where the next message would meet it as well, until somebody mends something.
const BROKEN: &[&str] =
    &["chat not found", "not enough rights", "CHAT_WRITE_FORBIDDEN", "CHAT_SEND_PLAIN_FORBIDDEN", "TOPIC_CLOSED"];

fn is_broken(description: &str) -> bool {
    BROKEN.iter().any(|broken| description.contains(broken))
}

impl Notifier for Telegram {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let token = secret_text(attempt.secrets, &self.token)?;
        // The token is a part of the path: what could lead to another one is none.
        if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte)) {
            return Err(RenderError::UnusableSecret(format!("the secret {} is not a bot's token", self.token)));
        }
        post_json(self.api_url.join(&format!("/bot{token}/sendMessage")), &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        let description = body["description"].as_str().unwrap_or_default();
        let status = response.status;
        match status {
            200 if body["ok"] == true => Outcome::Delivered,
            200 => chat::foreign(response, "Telegram", "`api_url`"),
            400 => match body["parameters"]["migrate_to_chat_id"].as_i64() {
                Some(id) => held(format!("400: the group has become a supergroup; set `chat` to {id}")),
                None if is_broken(description) => held(format!("400: Telegram refuses the chat: {description}")),
                None => Outcome::Rejected { reason: format!("400: Telegram refuses this message: {description}") },
            },
            401 | 404 => held(format!("{status}: Telegram does not know the bot's token")),
            403 => held(format!("403: the bot may not write to the chat: {description}")),
            _ => chat::classify(response, pause::seconds(&body["parameters"]["retry_after"]), now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 404)
    }
}
