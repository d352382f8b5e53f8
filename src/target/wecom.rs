//! WeCom (WeChat Work): a group robot's webhook.
//!
//! A message is a `text` of 2,048 bytes, which parses nothing but `<@userid>`: what others wrote has an invisible word
//! joiner behind each `@`. Its Markdown takes twice as much, but has no escape that is documented. Whom `mentioned_list`
//! names is pinged.
//!
//! The answer is 200 whatever happens: `{"errcode": 0}`, or a code with `errmsg`: 93000 for a webhook that is none, 45009
//! for more than 20 a minute, -1 for a service that is busy. It knows no idempotent send.
//! Sources: developer.work.weixin.qq.com/document/path/91770, "Group robots", and its table of codes as people report it
//! (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pinged, secret_url};
use super::message::Message;
use super::pause::MINUTE;
use super::poke::{busy, held, post_json};
use super::text::{Unit, quiet};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// A member as WeCom names them in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let name = text.trim_start_matches('@');
            let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.@-".contains(&c));
            match name {
                "all" => Ok(Self("@all".into())),
                _ if is_name => Ok(Self(name.into())),
                _ => Err("expected all, or a member's user id".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::keys! {
    /// A `wecom` target.
    pub struct WeCom {
        /// The group robot's webhook, as a secret.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: all, or a member's user id.
        mention: Option<OneOrMany<Mention>>,
    }
}

/// What a text takes, in bytes.
const TEXT: usize = 2048;

impl WeCom {
    fn text(&self, message: &Message, said: &str) -> Value {
        let mut text = json!({ "content": quiet(said) });
        let mentioned = pinged(&self.mention, message);
        if !mentioned.is_empty() {
            text["mentioned_list"] = mentioned.iter().map(|one| one.0.as_str()).collect();
        }
        json!({ "msgtype": "text", "text": text })
    }
}

impl Draw for WeCom {
    fn draw(&self, message: &Message) -> Value {
        self.text(message, &format!("{}\n{}", message.plain(), message.origin()))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.text(message, &message.plain())
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let content = body["text"]["content"].as_str().unwrap_or_default();
        vec![Size::new("content", Unit::Bytes, Unit::Bytes.of(content), TEXT)]
    }

    fn preview(&self, body: &Value) -> String {
        let mentions = body["text"]["mentioned_list"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mentions: Vec<_> = mentions.map(|name| format!("@{}", name.trim_start_matches('@'))).collect();
        format!("{}\n{}", body["text"]["content"].as_str().unwrap_or_default(), mentions.join(" "))
            .trim_end()
            .to_owned()
    }
}

fn code(response: &Response) -> Option<i64> {
    chat::json(response)["errcode"].as_i64()
}

impl Notifier for WeCom {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match (response.status, code(response)) {
            (200, Some(0)) => Outcome::Delivered,
            (200, Some(45_009)) => chat::later(response, Some(MINUTE), now),
            (200, Some(-1)) => busy(format!("200: WeCom is busy: {said}")),
            (200, Some(93_000)) => held(format!("200: WeCom does not know the webhook: {said}")),
            (200, Some(_)) => Outcome::Rejected { reason: format!("200: WeCom refuses this message: {said}") },
            (200, None) => chat::foreign(response, "WeCom", "`webhook`"),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || code(response) == Some(93_000)
    }
}
