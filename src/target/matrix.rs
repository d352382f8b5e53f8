//! Matrix: a bot's access token and a room, by the client-server API of its homeserver.
//!
//! `PUT /_matrix/client/v3/rooms/{room}/send/m.room.message/{txnId}` with `Authorization: Bearer …`. The same txnId,
//! sent again with the same token, is answered with the event that the first one made: it is the delivery's id, so
//! that an attempt whose answer was lost makes no second message. (Synapse remembers it for half an hour or more.)
//!
//! A message has its text twice, as `body` and as HTML in `formatted_body`, of which clients show a fixed set of tags;
//! we use `a`, `b`, `br` and `i`. What is pressing is a `m.text`; all else is a `m.notice`, which the predefined push
//! rule `.m.rule.suppress_notices` keeps quiet, mentions in it included. Clients of before the specification's 1.7
//! look for names in `body`, unless there are `m.mentions`; so there always are, of nobody if need be. A room is told
//! with `room: true`, if its power levels let the bot do that.
//!
//! A whole event, with what the homeserver adds to it, takes 65,536 bytes. Answers are `{"errcode", "error"}`: 401
//! `M_UNKNOWN_TOKEN`, 403 `M_FORBIDDEN` (also for a room that the bot is not in, and for an alias in place of an id),
//! 413 `M_TOO_LARGE`, 429 `M_LIMIT_EXCEEDED` with `Retry-After` and, before the specification's 1.10,
//! `retry_after_ms`. Encryption is not spoken: into an encrypted room messages go in the clear, which its clients
//! mark.
//! Sources: matrix-org/matrix-spec, content/client-server-api (1.18: "m.room.message msgtypes", "User and room
//! mentions", "Push Notifications", "Size limits"; read 2026-11) and what Synapse 1.163 answers (tests/matrix.rs).

use ::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, pinged, secret_text};
use super::markup::{self, Dialect, escape_html};
use super::message::Message;
use super::poke::{held, post_json};
use super::text::Unit;
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, OneOrMany, Problems, Read, parsed};

crate::keys! {
    /// A `matrix` target.
    pub struct Matrix {
        /// The homeserver's base URL, such as https://matrix.example.org.
        url: BaseUrl,
        /// The access token of a bot that is in the room.
        token: SecretRef,
        /// The room's id (!abc…), not its alias.
        room: Room,
        /// Who is pinged by what is not over and worse than info: a user's id (@alice:example.org), or @room.
        mention: Option<OneOrMany<Mention>>,
    }
}

/// A room's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room(String);

impl Read for Room {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| match text.strip_prefix('!') {
            Some(id) if !id.is_empty() && text.len() <= 255 => Ok(Self(text.into())),
            _ => Err("expected a room's id, which begins with ! (room settings, advanced)".into()),
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^!.+$" })
    }
}

/// Who is pinged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mention {
    /// Everybody in the room.
    Room,
    /// The user with this id.
    User(String),
}

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let usual = |c: char| c.is_ascii_alphanumeric() || "._=-/+:[]".contains(c);
        parsed(value, at, problems, |text| match text.strip_prefix('@').unwrap_or_default().split_once(':') {
            _ if text == "@room" => Ok(Self::Room),
            Some((name, server)) if !name.is_empty() && !server.is_empty() && text[1..].chars().all(usual) => {
                Ok(Self::User(text.into()))
            }
            _ => Err("expected a user's id, such as @alice:example.org, or @room".into()),
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^@([^:]+:.+|room)$" })
    }
}

impl Mention {
    fn text(&self) -> &str {
        match self {
            Self::Room => "@room",
            Self::User(id) => id,
        }
    }

    fn html(&self) -> String {
        match self {
            Self::Room => self.text().to_owned(),
            Self::User(id) => format!("<a href=\"https://matrix.to/#/{}\">{id}</a>", id.replace('/', "%2F")),
        }
    }
}

/// What a message may take of an event's 65,536 bytes: the rest is for what the homeserver adds, such as the hashes of
/// up to twenty events before it, and signatures.
const CONTENT: usize = 60_000;

const HTML: Dialect = Dialect { escape: escape_html, line_break: "<br>" };

impl Matrix {
    fn content(&self, message: &Message) -> Value {
        let mentions = pinged(&self.mention, message);
        let names: Vec<&str> = mentions.iter().map(Mention::text).collect();
        let body = format!("{} {}", names.join(" "), message.plain());
        let users: Vec<&str> = names.iter().copied().filter(|name| *name != Mention::Room.text()).collect();
        let mut mentioned = json!({});
        if !users.is_empty() {
            mentioned["user_ids"] = json!(users);
        }
        if mentions.contains(&Mention::Room) {
            mentioned["room"] = true.into();
        }
        json!({
            "msgtype": if message.is_pressing() { "m.text" } else { "m.notice" },
            "body": body.trim_start(),
            "m.mentions": mentioned,
        })
    }
}

impl Draw for Matrix {
    fn draw(&self, message: &Message) -> Value {
        let mentions: Vec<String> = pinged(&self.mention, message).iter().map(Mention::html).collect();
        let mention = (!mentions.is_empty()).then(|| mentions.join(" "));
        let mut content = self.content(message);
        content["format"] = "org.matrix.custom.html".into();
        content["formatted_body"] = markup::html(message, mention.as_deref(), HTML).into();
        content
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.content(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("content", Unit::Bytes, body.to_string().len(), CONTENT)]
    }

    fn preview(&self, body: &Value) -> String {
        match body["formatted_body"].as_str() {
            Some(html) => markup::preview(html),
            None => body["body"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

impl Notifier for Matrix {
    // By the txnId.
    fn is_idempotent(&self) -> bool {
        true
    }

    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let wrong = || RenderError::Unfit("`url` has no path".into());
        let mut url = url::Url::parse(&self.url.join("/")).map_err(|_| wrong())?;
        let path = ["_matrix", "client", "v3", "rooms", &self.room.0, "send", "m.room.message", &attempt.delivery.id];
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(path);
        let mut request = post_json(url.into(), &body)?;
        request.method = Method::PUT;
        request.bearer(secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match response.status {
            200 if body["event_id"].is_string() => Outcome::Delivered,
            200 => chat::foreign(response, "a homeserver", "`url`"),
            401 => held(format!("401: the homeserver does not take the access token: {}", excerpt(response))),
            403 => held(format!("403: the bot may not write to the room; is it in there? {}", excerpt(response))),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        response.status == 401
    }
}
