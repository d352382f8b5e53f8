//! Google Chat: an incoming webhook of a space.
//!
//! A message is one card of three paragraphs (headline, what there is to say, small print) in the HTML of cards: `b`, `i`,
//! `a`, `br` and `font`, in which texts of others are escaped. Whom the target mentions stands in the message's text above
//! it, `<users/all>` or `<users/ID>`, and nothing else does, as no escape is known there; in the text for those who cannot
//! see cards an invisible word joiner stands behind each `<`. A message takes 32,000 bytes with
//! texts and cards together; a paragraph without a text is refused.
//!
//! The answer is 200 with the message, or `{"error": {"code", "message", "status", "details"}}`, whose message may repeat
//! the webhook's key: only its status and reason are told on. A key that is not valid is a 400 as well. A space takes one
//! message a second from all its apps together; a 429 seldom says for how long. Whether a webhook heeds `requestId`, which
//! would make a send idempotent, is not established.
//! Sources: developers.google.com/workspace/chat, "Build a Chat app as a webhook", "Format messages", "Usage limits",
//! reference "spaces.messages" and "Cards v2"; cloud.google.com, "API errors" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pings, secret_url};
use super::markup::{self, Dialect, escape_html};
use super::message::Message;
use super::poke::held;
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// Who is pinged, as Google Chat writes it in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let user = text.trim_matches(['<', '>']).trim_start_matches("users/");
            let is_id = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit());
            match user == "all" || is_id {
                true => Ok(Self(format!("<users/{user}>"))),
                false => Err("expected all, or a user's id in digits".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::keys! {
    /// A `googlechat` target.
    pub struct GoogleChat {
        /// The webhook's URL, as a secret.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: all, or a user's id in digits.
        mention: Option<OneOrMany<Mention>>,
    }
}

/// The largest body, in bytes.
const BODY: usize = 32_000;

const HTML: Dialect = Dialect { escape: escape_html, line_break: "<br>" };

fn card(paragraphs: &[String]) -> Value {
    let paragraphs = paragraphs.iter().filter(|text| !text.is_empty());
    let widgets: Vec<_> = paragraphs.map(|text| json!({ "textParagraph": { "text": text } })).collect();
    json!([{ "cardId": "message", "card": { "sections": [{ "widgets": widgets }] } }])
}

impl Draw for GoogleChat {
    fn draw(&self, message: &Message) -> Value {
        let headline = message.headline();
        let mut body = json!({
            "cardsV2": card(&[
                format!("<b><font color=\"#{:06x}\">{}</font></b>", message.tone().rgb(), escape_html(&headline)),
                markup::html_body(message, HTML),
                format!("<i>{}</i>", escape_html(&message.origin())),
            ]),
            "fallbackText": headline.replace('<', "<\u{2060}"),
        });
        if let Some(mention) = pings(&self.mention, message, |one| &one.0) {
            body["text"] = mention.into();
        }
        body
    }

    fn draw_plain(&self, message: &Message) -> Value {
        let text = escape_html(&message.plain()).replace('\n', HTML.line_break);
        json!({ "cardsV2": card(&[text]) })
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("body", Unit::Bytes, body.to_string().len(), BODY)]
    }

    fn preview(&self, body: &Value) -> String {
        let widgets = body["cardsV2"][0]["card"]["sections"][0]["widgets"].as_array();
        let paragraphs = widgets.into_iter().flatten().filter_map(|widget| widget["textParagraph"]["text"].as_str());
        let mention = body["text"].as_str().map(str::to_owned);
        mention.into_iter().chain(paragraphs.map(markup::preview)).collect::<Vec<_>>().join("\n\n")
    }
}

/// What an answer says, in words that cannot hold our key.
fn said(response: &Response) -> String {
    let error = chat::json(response)["error"].take();
    let reasons = error["details"].as_array().into_iter().flatten().map(|detail| &detail["reason"]);
    let words: Vec<_> = [&error["status"]].into_iter().chain(reasons).filter_map(Value::as_str).collect();
    words.join(", ")
}

/// Whether the webhook's key is not valid.
fn refuses_key(response: &Response) -> bool {
    response.status == 400 && said(response).contains("API_KEY")
}

impl Notifier for GoogleChat {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let url = secret_url(attempt.secrets, &self.webhook)?;
        Ok(Outbound::post(url, "application/json; charset=utf-8", body.to_string()))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = said(response);
        match response.status {
            status @ (401 | 403 | 404) => held(format!("{status}: Google Chat refuses the webhook: {said}")),
            400 if refuses_key(response) => held(format!("400: Google Chat refuses the webhook's key: {said}")),
            _ => chat::classify(&chat::saying(response, &said), None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || refuses_key(response)
    }
}
