//! Lark and Feishu: a custom bot's webhook in a group.
//!
//! A message is a card whose title and texts are `plain_text`, which parses nothing; pages are buttons. Only whom the
//! target mentions stands in `lark_md`, as `<at id=…></at>`. A body takes 20 KB.
//!
//! With a secret, the body has `timestamp` in seconds and `sign`, the base64 of the HMAC-SHA256 of nothing under the key
//! `timestamp`, line break, secret. The answer is 200, or 400 with 9499, and holds `{"code": 0}`, or a code with `msg`:
//! 19021 for a wrong signature or a clock that is an hour off, 19022 for an address that may not send, 19024 where none of
//! the bot's keywords is in the message, 19001 for a webhook that is none. More than 100 a minute or 5 a second is 11232 or
//! 9499, with a text of «frequency limited» or «too many request»; 9499 with another text is a malformed message. It knows no
//! idempotent send.
//!
//! A bot that takes only what holds a keyword can have the word [`NAME`], which stands at the end of every message.
//! Sources: open.larksuite.com, "Custom bot usage guide"; fluxcd/notification-controller's lark.go; answers as people
//! report them (ccfos/nightingale issue 1437 for 9499), the full list of codes being nowhere (read 2026-11).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pinged, secret_text, secret_url};
use super::message::{Message, NAME, Tone};
use super::poke::{held, post_json};
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::alert::Link;
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// A user's id, or `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let is_id = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_id { Ok(Self(text.into())) } else { Err("expected all, or a user's id (ou_…)".into()) }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_]+$" })
    }
}

crate::keys! {
    /// A `lark` target.
    pub struct Lark {
        /// The custom bot's webhook, as a secret.
        webhook: SecretRef,
        /// The secret of its signature verification, where that is switched on.
        secret: Option<SecretRef>,
        /// Who is pinged by what is not over and worse than info: all, or a user's id (ou_…).
        mention: Option<OneOrMany<Mention>>,
    }
}

/// The largest body, in bytes; what remains of 20 KB is for the signature.
const BODY: usize = 20_000;
/// How long to wait at a limit, of which no answer says when it ends: it is by the second and by the minute.
const PAUSE: Duration = Duration::from_secs(5);

fn plain(text: &str) -> Value {
    json!({ "tag": "plain_text", "content": text })
}

fn div(text: &str) -> Value {
    json!({ "tag": "div", "text": plain(text) })
}

fn buttons(links: &[Link]) -> Option<Value> {
    let button =
        |link: &Link| json!({ "tag": "button", "text": plain(&link.title), "type": "default", "url": link.url });
    (!links.is_empty()).then(|| json!({ "tag": "action", "actions": links.iter().map(button).collect::<Vec<_>>() }))
}

fn template(tone: Tone) -> &'static str {
    match tone {
        Tone::Critical | Tone::Error => "red",
        Tone::Warning => "orange",
        Tone::Neutral => "blue",
        Tone::Good => "green",
    }
}

fn card(message: &Message, elements: Vec<Value>) -> Value {
    let title = message.headline();
    json!({
        "msg_type": "interactive",
        "card": {
            "config": { "wide_screen_mode": true },
            "header": { "title": plain(&title), "template": template(message.tone()) },
            "elements": elements,
        },
    })
}

impl Draw for Lark {
    fn draw(&self, message: &Message) -> Value {
        let mut elements = Vec::new();
        let mentioned = pinged(&self.mention, message);
        if !mentioned.is_empty() {
            let names: Vec<_> = mentioned.iter().map(|one| format!("<at id={}></at>", one.0)).collect();
            elements.push(json!({ "tag": "div", "text": { "tag": "lark_md", "content": names.join(" ") } }));
        }
        for item in &message.items {
            let mut said = item.clone();
            said.links.clear();
            let said = said.plain();
            elements.extend((!said.is_empty()).then(|| div(&said)));
            elements.extend(buttons(&item.links));
        }
        let mut lines: Vec<_> = message.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)).collect();
        lines.extend(message.rest());
        elements.extend((!lines.is_empty()).then(|| div(&lines.join("\n"))));
        let all: Vec<_> = message.url.iter().map(|url| Link { title: "All of it".into(), url: url.clone() }).collect();
        elements.extend(buttons(&all));
        elements.push(json!({ "tag": "note", "elements": [plain(&message.signed())] }));
        card(message, elements)
    }

    fn draw_plain(&self, message: &Message) -> Value {
        let text = format!("{}\n{NAME}", message.plain());
        json!({ "msg_type": "text", "content": { "text": text::quiet(&text).replace("<at", "<\u{2060}at") } })
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("body", Unit::Bytes, body.to_string().len(), BODY)]
    }

    fn preview(&self, body: &Value) -> String {
        if let Some(text) = body["content"]["text"].as_str() {
            return text.to_owned();
        }
        let mut parts = vec![body["card"]["header"]["title"]["content"].as_str().unwrap_or_default().to_owned()];
        for element in body["card"]["elements"].as_array().into_iter().flatten() {
            let said = [&element["text"]["content"], &element["elements"][0]["content"]];
            parts.extend(said.into_iter().filter_map(|text| text.as_str().map(str::to_owned)));
            let button =
                |button: &Value| Some(format!("{} <{}>", button["text"]["content"].as_str()?, button["url"].as_str()?));
            let pages: Vec<_> = element["actions"].as_array().into_iter().flatten().filter_map(button).collect();
            parts.extend((!pages.is_empty()).then(|| pages.join(" · ")));
        }
        parts.join("\n\n")
    }
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Later,
    Broken,
    NoKeyword,
    Refused,
    Foreign,
}

fn verdict(response: &Response) -> Verdict {
    let body = chat::json(response);
    let code = body["code"].as_i64().or_else(|| body["StatusCode"].as_i64());
    let said = body["msg"].as_str().unwrap_or_default().to_ascii_lowercase();
    match code {
        Some(0) => Verdict::Good,
        Some(11_232) => Verdict::Later,
        _ if ["frequency limited", "too many request"].iter().any(|limit| said.contains(limit)) => Verdict::Later,
        Some(19_001 | 19_021 | 19_022) => Verdict::Broken,
        Some(19_024) => Verdict::NoKeyword,
        Some(_) => Verdict::Refused,
        None => Verdict::Foreign,
    }
}

impl Notifier for Lark {
    fn request(&self, mut body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        if let Some(secret) = &self.secret {
            let time = attempt.now.as_second().to_string();
            let key = Secret::new(format!("{time}\n{}", secret_text(attempt.secrets, secret)?));
            body["timestamp"] = time.into();
            body["sign"] = Encoding::Base64.encode(&signature::hmac(Algorithm::Sha256, &key, &[])).into();
        }
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        let said = excerpt(response);
        match (status, verdict(response)) {
            (200, Verdict::Good) => Outcome::Delivered,
            (200 | 400, Verdict::Later) => chat::later(response, Some(PAUSE), now),
            (200 | 400, Verdict::Broken) => held(format!("{status}: Lark refuses the webhook: {said}")),
            (200 | 400, Verdict::NoKeyword) => Outcome::Rejected {
                reason: format!("{status}: none of the bot's keywords is in this message; one could be {NAME}: {said}"),
            },
            (200, Verdict::Foreign) => chat::foreign(response, "Lark", "`webhook`"),
            (200, _) => Outcome::Rejected { reason: format!("200: Lark refuses this message: {said}") },
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || verdict(response) == Verdict::Broken
    }
}
