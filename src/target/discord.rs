//! Discord: a webhook of a channel.
//!
//! A message is one embed: the headline is its title, the rest its description, both Markdown in which texts of others
//! are escaped. Discord takes a `content` of 2,000 characters, a title of 256, a description of 4,096 and 6,000 in all
//! embeds; it does not say what a character is, so that UTF-16 units are counted, of which there are never fewer. A webhook
//! pings whom it names unless `allowed_mentions` says otherwise, which it always does here; an embed pings nobody. A
//! backslash does not keep Discord from finding a name, so that texts of others in `content` are made quiet as well.
//!
//! With `wait=true` the answer is 200 with the message, and what was not saved is an error; without it, 204 whatever
//! happened. Errors are `{"code", "message", "errors"}`: 50035 for a body it does not like, 10015 and 50027 for a webhook
//! that is gone or whose token is wrong, 220001 to 220004 where a forum's webhook lacks a thread. A 429 names the wait in
//! decimal seconds as `retry_after` and in the header. Who goes on after 10,000 answers of 401, 403 or 429 in ten minutes
//! is banned by address. It knows no idempotent send for webhooks.
//! Sources: github.com/discord/discord-api-docs, resources "Webhook" and "Message", topics "Opcodes and Status Codes" and
//! "Rate Limits" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pinged, secret_url, with_query};
use super::markup::{self, Dialect, escape_markdown};
use super::message::Message;
use super::poke::{held, post_json};
use super::text::{self, Unit, quiet};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// Who is pinged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mention {
    /// All who may see the channel, or those of them who are online: `@everyone`, `@here`.
    All(&'static str),
    /// A user's id.
    User(String),
    /// A role's id.
    Role(String),
}

impl Mention {
    fn markup(&self) -> String {
        match self {
            Self::All(name) => (*name).to_owned(),
            Self::User(id) => format!("<@{id}>"),
            Self::Role(id) => format!("<@&{id}>"),
        }
    }
}

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let inner = text.strip_prefix("<@").and_then(|rest| rest.strip_suffix('>'));
            let is_id = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
            match (text.trim_start_matches('@'), inner) {
                ("everyone", _) => Ok(Self::All("@everyone")),
                ("here", _) => Ok(Self::All("@here")),
                (_, Some(id)) if is_id(&id) => Ok(Self::User(id.into())),
                (_, Some(id)) => match id.strip_prefix('&').filter(is_id) {
                    Some(id) => Ok(Self::Role(id.into())),
                    None => Err(EXPECTED.into()),
                },
                _ => Err(EXPECTED.into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(@?(everyone|here)|<@&?[0-9]+>)$" })
    }
}

const EXPECTED: &str = "expected here, everyone, a user as <@id> or a role as <@&id>";

crate::keys! {
    /// A `discord` target.
    pub struct Discord {
        /// The webhook's URL, as a secret. For a thread, or a channel that is a forum, `?thread_id=…` stands behind it.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: here, everyone, a user as <@id>, a role as <@&id>.
        mention: Option<OneOrMany<Mention>>,
    }
}

const CONTENT: usize = 2000;
const TITLE: usize = 256;
const DESCRIPTION: usize = 4096;

const MARKDOWN: Dialect = Dialect { escape: escape_markdown, line_break: "\n" };

impl Discord {
    /// `body` with whom it pings, and nobody else.
    fn addressed(&self, mut body: Value, message: &Message) -> Value {
        let mentions = pinged(&self.mention, message);
        let mut allowed = json!({ "parse": [] });
        for mention in mentions {
            let (kind, id) = match mention {
                Mention::All(_) => ("parse", "everyone"),
                Mention::User(id) => ("users", id.as_str()),
                Mention::Role(id) => ("roles", id.as_str()),
            };
            match &mut allowed[kind] {
                Value::Array(ids) if ids.iter().any(|known| known == id) => {}
                Value::Array(ids) => ids.push(id.into()),
                ids => *ids = json!([id]),
            }
        }
        let pings = mentions.iter().map(Mention::markup).collect::<Vec<_>>().join(" ");
        let said = body["content"].as_str().unwrap_or_default();
        let content = format!("{pings}\n{said}").trim().to_owned();
        if !content.is_empty() {
            body["content"] = content.into();
        }
        body["allowed_mentions"] = allowed;
        body
    }
}

impl Draw for Discord {
    fn draw(&self, message: &Message) -> Value {
        let title = message.headline();
        let title = text::cut_by(&title, TITLE - 16, |part| Unit::Utf16.of(&escape_markdown(part)));
        let mut embed = json!({
            "title": escape_markdown(&title),
            "description": markup::markdown_body(message, MARKDOWN),
            "color": message.tone().rgb(),
            "footer": { "text": message.source },
        });
        if let Some(time) = message.time {
            embed["timestamp"] = time.to_string().into();
        }
        self.addressed(json!({ "embeds": [embed] }), message)
    }

    fn draw_plain(&self, message: &Message) -> Value {
        const SUPPRESS_EMBEDS: u32 = 1 << 2;
        let content = escape_markdown(&quiet(&message.plain()));
        self.addressed(json!({ "content": content, "flags": SUPPRESS_EMBEDS }), message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let embed = &body["embeds"][0];
        // With these, 6,000 for the whole embed cannot be passed.
        let parts = [
            ("content", &body["content"], CONTENT),
            ("title", &embed["title"], TITLE),
            ("description", &embed["description"], DESCRIPTION),
        ];
        let parts = parts.into_iter().filter_map(|(what, text, limit)| Some((what, text.as_str()?, limit)));
        parts.map(|(what, text, limit)| Size::new(what, Unit::Utf16, Unit::Utf16.of(text), limit)).collect()
    }

    fn preview(&self, body: &Value) -> String {
        let embed = &body["embeds"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let markdown = |value: &Value| markup::preview_markdown(&text(value));
        // Beside an embed the content is nothing but names, in brackets that are no marks.
        let content = if embed.is_null() { markdown(&body["content"]) } else { text(&body["content"]) };
        let small = [&embed["footer"]["text"], &embed["timestamp"]].map(text).join(" • ");
        let small = if embed.is_null() { String::new() } else { small };
        let parts = [content, markdown(&embed["title"]), markdown(&embed["description"]), small];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}

/// Codes of a 400 that the next message would meet as well, until somebody mends something: a forum's webhook without a
/// thread or with one too much, a thread that is locked.
const BROKEN: &[u64] = &[160_005, 220_001, 220_002, 220_003, 220_004];

fn is_broken(response: &Response) -> bool {
    chat::json(response)["code"].as_u64().is_some_and(|code| BROKEN.contains(&code))
}

impl Notifier for Discord {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(with_query(&secret_url(attempt.secrets, &self.webhook)?, "wait", "true"), &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        match status {
            400 if is_broken(response) => held(format!(
                "400: Discord refuses the thread that the webhook's URL names or lacks: {}",
                excerpt(response)
            )),
            401 | 403 | 404 => held(format!("{status}: Discord refuses the webhook: {}", excerpt(response))),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response)
    }
}
