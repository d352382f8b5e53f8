//! Zulip: a message in a channel, by a bot's address and API key.
//!
//! `POST /api/v1/messages` with a form and Basic authentication. Zulip's Markdown knows no escape, so that what others
//! wrote stands in a block of code, whose fence is longer than any in it; below it are links whose titles are letters,
//! digits and blanks. The topic, which is how Zulip keeps things together, is the source's name: what is told of an alert
//! when it fires and when it is over must not depend on its title. A topic takes 60 characters, a message 10,000.
//!
//! The answer is `{"result": "success"}`, or `{"result": "error", "code", "msg"}`: 400 with `BAD_REQUEST` or
//! `STREAM_DOES_NOT_EXIST`, 401, 429 with `retry-after` in seconds in the body as well. A channel that the bot may not write
//! to is a `BAD_REQUEST` that its text alone tells apart. Who may mention all of a large channel is the organisation's to
//! say: a mention that it refuses (`STREAM_WILDCARD_MENTION_NOT_ALLOWED`, `TOPIC_…`) refuses the whole message, so that the
//! plain form mentions nobody. It knows no idempotent send for those who keep no queue of events.
//! Sources: zulip.com/api, "Send a message", "Error handling"; github.com/zulip/zulip, zerver/lib/markdown/__init__.py
//! (the list of what is switched off has `escape`), fenced_code.py, streams.py (the texts) and exceptions.py (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, below, pings, secret_text};
use super::markup;
use super::message::Message;
use super::poke::held;
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::alert::Link;
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, OneOrMany, Problems, Read, parsed};

/// Who is pinged, as Zulip writes it in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let inner = text.strip_prefix("@**").and_then(|rest| rest.strip_suffix("**"));
            let inner = inner.or_else(|| text.strip_prefix("@*").and_then(|rest| rest.strip_suffix('*')));
            match inner {
                _ if matches!(text, "all" | "everyone" | "channel" | "topic") => Ok(Self(format!("@**{text}**"))),
                Some(name) if !name.trim().is_empty() && !name.contains(['*', '\n']) => Ok(Self(text.into())),
                _ => Err("expected all, channel, topic, a user as @**Name** or a group as @*name*".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::keys! {
    /// A `zulip` target.
    pub struct Zulip {
        /// The organisation's server, such as https://example.zulipchat.com.
        url: BaseUrl,
        /// The bot's e-mail address.
        email: String,
        /// The bot's API key.
        token: SecretRef,
        /// The channel's name.
        channel: String,
        /// Who is pinged by what is not over and worse than info: all, channel, topic, a user as @**Name** or a group as
        /// @*name*.
        mention: Option<OneOrMany<Mention>>,
    }
}

const TOPIC: usize = 60;
const CONTENT: usize = 10_000;

/// `text` in a block of code.
fn fenced(text: &str) -> String {
    let mut longest = 2;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// A link whose title is nothing but words.
fn link(title: &str, url: &str) -> String {
    let words: String = title.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("[{}]({})", if words.is_empty() { "Link" } else { &words }, markup::destination(url))
}

impl Zulip {
    fn addressed(&self, message: &Message, content: &str) -> Value {
        json!({
            "type": "stream",
            "to": self.channel,
            "topic": text::cut(&message.source, TOPIC, Unit::Characters),
            "content": content,
        })
    }
}

impl Draw for Zulip {
    fn draw(&self, message: &Message) -> Value {
        let mut told = message.clone();
        let mut pages: Vec<Link> = told.items.iter_mut().flat_map(|item| std::mem::take(&mut item.links)).collect();
        pages.extend(told.url.take().map(|url| Link { title: "All of it".into(), url }));
        let mut links: Vec<_> = pages.iter().map(|page| link(&page.title, &page.url)).collect();
        // Many an item of a group has the same runbook.
        let mut seen = std::collections::BTreeSet::new();
        links.retain(|link| seen.insert(link.clone()));
        let block = fenced(&format!("{}\n{}", told.plain(), told.origin()));
        let content = format!("{block}\n{}", links.join(" · "));
        self.addressed(message, &below(pings(&self.mention, message, |one| &one.0), content.trim_end()))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.addressed(message, &fenced(&message.plain()))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let of = |value: &Value| Unit::Characters.of(value.as_str().unwrap_or_default());
        vec![
            Size::new("topic", Unit::Characters, of(&body["topic"]), TOPIC),
            Size::new("content", Unit::Characters, of(&body["content"]), CONTENT),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} > {}\n\n{}", text(&body["to"]), text(&body["topic"]), text(&body["content"]))
    }
}

/// What is said of a channel that the bot may not write to. «Channels» were called «streams» before Zulip 9.
const CLOSED: &[&str] = &[
    "Not authorized to send to channel",
    "Not authorized to send to stream",
    "You do not have permission to post in this channel",
];

/// Whether the channel is not there, or not open to the bot.
fn lacks_channel(response: &Response) -> bool {
    let body = chat::json(response);
    let said = body["msg"].as_str().unwrap_or_default();
    body["code"] == "STREAM_DOES_NOT_EXIST" || CLOSED.iter().any(|closed| said.starts_with(closed))
}

impl Notifier for Zulip {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut request = Outbound::form(self.url.join("/api/v1/messages"), chat::fields(&body));
        request.basic(&self.email, secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match response.status {
            200 if body["result"] == "success" => Outcome::Delivered,
            200 => chat::foreign(response, "Zulip", "`url`"),
            400 if lacks_channel(response) => held(format!("400: Zulip refuses the channel: {}", excerpt(response))),
            _ => chat::classify(response, None, now),
        }
    }
}
