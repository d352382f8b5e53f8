//! Slack: an incoming webhook (`webhook`), or a bot's token and a channel (`token`, `channel`) by chat.postMessage.
//!
//! The message's text is the headline, so that it is what notifications show; an attachment has the rest, for its
//! coloured bar. Texts of others stand in `plain_text` and `rich_text`, which parse nothing, or are escaped as Slack
//! says: `&`, `<` and `>` and nothing else, after which no mention and no link can be left.
//!
//! The webhook answers 200 `ok`, or a word with a status of its own; the API answers 200 whatever happens, with
//! `{"ok": false, "error": …}`. Neither knows an idempotent send.
//! Sources: docs.slack.dev, "Sending messages using incoming webhooks", "chat.postMessage", "Formatting message text",
//! "Block Kit" and "Rate limits" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pings, secret_text, secret_url};
use super::message::{Fact, Item, Message};
use super::poke::{held, post_json};
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, Fields, Keys, OneOrMany, Problems, Read, parsed};

crate::keys! {
    /// The keys of a `slack` target.
    pub struct SlackKeys {
        /// The URL of an incoming webhook, as a secret.
        webhook: Option<SecretRef>,
        /// A bot's token (xoxb-…) with the scope chat:write, instead of a webhook; goes with `channel`.
        token: Option<SecretRef>,
        /// The channel's id (C0123456789) or name.
        channel: Option<String>,
        /// Who is pinged by what is not over and worse than info: here, channel, everyone, a user's id (U…) or a user
        /// group's (S…).
        mention: Option<OneOrMany<Mention>>,
        /// Another API than https://slack.com.
        api_url: BaseUrl = BaseUrl::known("https://slack.com"),
    }
}

/// Who is pinged, as Slack writes it in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let word = text.trim_matches(['<', '>']).trim_start_matches(['@', '!']);
            let id = word.strip_prefix("subteam^").unwrap_or(word);
            let is_id = id.len() > 5 && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            match word {
                "here" | "channel" | "everyone" => Ok(Self(format!("<!{word}>"))),
                _ if is_id && id.starts_with(['U', 'W']) => Ok(Self(format!("<@{id}>"))),
                _ if is_id && id.starts_with('S') => Ok(Self(format!("<!subteam^{id}>"))),
                _ => Err("expected here, channel, everyone, or the id of a user (U…) or a user group (S…)".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// Where messages go.
#[derive(Debug, Clone)]
enum Way {
    Webhook(SecretRef),
    Api { token: SecretRef, channel: String },
}

/// A `slack` target.
#[derive(Debug, Clone)]
pub struct Slack {
    keys: SlackKeys,
    way: Way,
}

impl Keys for Slack {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = SlackKeys::take(fields)?;
        let way = match (&keys.webhook, &keys.token, &keys.channel) {
            (Some(webhook), None, None) => Way::Webhook(webhook.clone()),
            (None, Some(token), Some(channel)) => Way::Api { token: token.clone(), channel: channel.clone() },
            _ => {
                let at = fields.at();
                fields.problems().error(&at, "a slack target has either `webhook`, or `token` and `channel`");
                return None;
            }
        };
        Some(Self { keys, way })
    }

    fn describe(keys: &mut Vec<crate::relay::format::KeyDescription>) {
        SlackKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

/// What Slack advises for `text`.
const TEXT: usize = 4000;
/// The most blocks in a message.
const BLOCKS: usize = 50;
/// What all blocks together may say. Slack names no limit and refuses what is far beyond this (`msg_blocks_too_long`).
const ALL_BLOCKS: usize = 12_000;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn escaped(text: &str, limit: usize) -> String {
    escape(&text::cut_by(text, limit, |part| Unit::Characters.of(&escape(part))))
}

/// An element of rich text; `text` is never parsed.
fn plain(text: &str, bold: bool) -> Value {
    match bold {
        true => json!({ "type": "text", "text": text, "style": { "bold": true } }),
        false => json!({ "type": "text", "text": text }),
    }
}

fn rich_text(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] })
}

fn facts(facts: &[Fact], elements: &mut Vec<Value>) {
    for fact in facts {
        elements.push(plain(&format!("\n{}: ", fact.name), true));
        elements.push(plain(&fact.value, false));
    }
}

fn block(item: &Item) -> Value {
    let mut elements = Vec::new();
    if !item.title.is_empty() {
        elements.push(plain(&item.headline(), true));
    }
    if !item.text.is_empty() {
        elements.push(plain(&format!("\n{}", item.text), false));
    }
    facts(&item.facts, &mut elements);
    for (i, link) in item.links.iter().enumerate() {
        elements.push(plain(if i == 0 { "\n" } else { " · " }, false));
        elements.push(json!({ "type": "link", "url": link.url, "text": link.title }));
    }
    // A section begins on a line of its own anyway.
    if let Some(Value::String(first)) = elements.first_mut().and_then(|first| first.get_mut("text")) {
        *first = first.trim_start_matches('\n').to_owned();
    }
    rich_text(elements)
}

impl Slack {
    fn headline(&self, message: &Message, limit: usize) -> String {
        let headline = escaped(&message.headline(), limit);
        match pings(&self.keys.mention, message, |one| &one.0) {
            Some(mention) => format!("{mention} {headline}"),
            None => headline,
        }
    }

    fn addressed(&self, mut body: Value) -> Value {
        if let Way::Api { channel, .. } = &self.way {
            body["channel"] = channel.as_str().into();
        }
        body["unfurl_links"] = false.into();
        body["unfurl_media"] = false.into();
        body
    }
}

impl Draw for Slack {
    fn draw(&self, message: &Message) -> Value {
        let mut blocks: Vec<Value> = message.items.iter().map(block).collect();
        blocks.retain(|block| block["elements"][0]["elements"].as_array().is_some_and(|all| !all.is_empty()));
        let mut rest = Vec::new();
        facts(&message.facts, &mut rest);
        if let Some(more) = message.rest() {
            rest.push(plain(&format!("\n{more}"), false));
        }
        if let Some(url) = &message.url {
            rest.push(plain("\n", false));
            rest.push(json!({ "type": "link", "url": url, "text": "All of it" }));
        }
        if !rest.is_empty() {
            if let Some(Value::String(first)) = rest[0].get_mut("text") {
                *first = first.trim_start_matches('\n').to_owned();
            }
            blocks.push(rich_text(rest));
        }
        let origin = text::cut(&message.origin(), 300, Unit::Characters).into_owned();
        let origin = json!({ "type": "plain_text", "text": origin, "emoji": false });
        blocks.push(json!({ "type": "context", "elements": [origin] }));
        let color = format!("#{:06x}", message.tone().rgb());
        self.addressed(json!({
            "text": self.headline(message, TEXT / 4),
            "attachments": [{ "color": color, "blocks": blocks }],
        }))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        let text = message.plain();
        let text = text.split_once('\n').map_or("", |(_, rest)| rest);
        let headline = self.headline(message, TEXT / 4);
        self.addressed(json!({ "text": format!("{headline}\n{}", escape(text)).trim_end(), "mrkdwn": false }))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let text = body["text"].as_str().unwrap_or_default();
        let blocks = body["attachments"][0]["blocks"].as_array();
        let said: usize = blocks.into_iter().flatten().map(|block| Unit::Characters.of(&said(block))).sum();
        vec![
            Size::new("text", Unit::Characters, Unit::Characters.of(text), TEXT),
            Size::new("blocks", Unit::Parts, blocks.map_or(0, Vec::len), BLOCKS),
            Size::new("text of all blocks", Unit::Characters, said, ALL_BLOCKS),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = body["text"].as_str().unwrap_or_default();
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let blocks = body["attachments"][0]["blocks"].as_array().into_iter().flatten().map(said);
        [text].into_iter().chain(blocks).collect::<Vec<_>>().join("\n\n")
    }
}

/// Every text in a block, links with their pages.
fn said(block: &Value) -> String {
    let own = match (block["text"].as_str(), block["url"].as_str()) {
        (Some(text), Some(url)) => format!("{text} <{url}>"),
        (Some(text), None) => text.to_owned(),
        _ => String::new(),
    };
    let inner = block["elements"].as_array().into_iter().flatten().map(said);
    [own].into_iter().chain(inner).collect()
}

/// Errors of the API that say «later».
const LATER: &[&str] = &["ratelimited", "rate_limited", "service_unavailable", "internal_error", "fatal_error"];

/// Errors of the API that the next message would meet as well, until somebody mends something.
const BROKEN: &[&str] = &[
    "account_inactive",
    "channel_not_found",
    "ekm_access_denied",
    "invalid_auth",
    "is_archived",
    "missing_scope",
    "no_permission",
    "not_allowed_token_type",
    "not_authed",
    "not_in_channel",
    "org_login_required",
    "team_access_not_granted",
    "token_expired",
    "token_revoked",
];

impl Notifier for Slack {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        match &self.way {
            Way::Webhook(webhook) => post_json(secret_url(attempt.secrets, webhook)?, &body),
            Way::Api { token, .. } => {
                let url = self.keys.api_url.join("/api/chat.postMessage");
                // Without a charset Slack warns in every answer.
                let mut request = Outbound::post(url, "application/json; charset=utf-8", body.to_string());
                request.bearer(secret_text(attempt.secrets, token)?.as_bytes())?;
                Ok(request)
            }
        }
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match (&self.way, response.status) {
            (Way::Webhook(_), 403 | 404 | 410) => held(format!(
                "{}: Slack no longer takes messages by this webhook: {}",
                response.status,
                super::excerpt(response)
            )),
            (Way::Api { .. }, 200) if body["ok"] == true => Outcome::Delivered,
            (Way::Api { .. }, 200) => match body["error"].as_str() {
                Some(error) if LATER.contains(&error) => chat::later(response, None, now),
                Some(error) if BROKEN.contains(&error) => held(format!("Slack refuses: {error}")),
                Some(error) => Outcome::Rejected { reason: format!("Slack refuses this message: {error}") },
                None => chat::foreign(response, "Slack", "`api_url`"),
            },
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        let error = chat::json(response)["error"].as_str().map(str::to_owned);
        doubts_url(response)
            || matches!(error.as_deref(), Some("invalid_auth" | "token_revoked" | "token_expired" | "account_inactive"))
    }
}
