//! Mattermost: an incoming webhook.
//!
//! A message is one attachment with a coloured bar, whose text is Markdown in which texts of others are escaped. The server
//! finds `@names` in a post's text and in the text of its attachments and tells those who bear them, escaped or not; it
//! parts words at every character that is no letter, no digit and none of `:.-_@`, so that an invisible one behind each `@`
//! leaves no name. It also reads Slack's `<!channel>`, `<@ID>` and `<url|text>`, which escaped ones are not. A post's text
//! takes 16,383 characters, or 4,000 where the database was never widened, and goes on in another post beyond that; an
//! attachment's takes far more, and is folded for readers.
//!
//! The answer is 200 `ok`, or `{"id", "message", …}`: 400 `web.incoming_webhook.invalid.app_error` for a webhook that is
//! gone, 403 where it may not post, 404 for a channel that is gone, 501 where webhooks are switched off. A message may
//! repeat the webhook's id, which is all of its secret: only the error's own id is told on. Where a rate is limited, a 429
//! has the wait in a header. It knows no idempotent send.
//! Sources: github.com/mattermost/mattermost, server/channels/app: webhook.go (`HandleIncomingWebhook`,
//! `SplitWebhookPost`), slack.go, mention_parser_standard.go, notification.go (`getMentionsEnabledFields`); server/public/
//! model/post.go; developers.mattermost.com, "Message attachments" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, AtName, Attempt, Draw, Notifier, Size, below, doubts_url, pings, secret_url};
use super::markup::{self, Dialect, escape_markdown};
use super::message::Message;
use super::poke::{held, post_json};
use super::text::{self, Unit, quiet};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::OneOrMany;

crate::keys! {
    /// A `mattermost` target.
    pub struct Mattermost {
        /// The webhook's URL, as a secret.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: here, channel, all, or the @name of a user or a group.
        mention: Option<OneOrMany<AtName>>,
    }
}

/// What every server takes as a post's text.
const TEXT: usize = 4000;
/// What people may be asked to unfold. The server takes 760,000 characters of JSON.
const ATTACHMENT: usize = 16_383;

const MARKDOWN: Dialect = Dialect { escape: |text| escape_markdown(&quiet(text)), line_break: "\n" };

impl Draw for Mattermost {
    fn draw(&self, message: &Message) -> Value {
        let headline = message.headline();
        let text = format!("**{}**\n\n{}", (MARKDOWN.escape)(&headline), markup::markdown_body(message, MARKDOWN));
        let mut body = json!({
            "attachments": [{
                "fallback": headline,
                "color": format!("#{:06x}", message.tone().rgb()),
                "text": text.trim_end(),
                "footer": text::cut(&message.origin(), 300, Unit::Characters),
            }],
        });
        if let Some(mention) = pings(&self.mention, message, AtName::markup) {
            body["text"] = mention.into();
        }
        body
    }

    fn draw_plain(&self, message: &Message) -> Value {
        json!({ "text": below(pings(&self.mention, message, AtName::markup), &(MARKDOWN.escape)(&message.plain())) })
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let parts = [("text", &body["text"], TEXT), ("attachment", &body["attachments"][0]["text"], ATTACHMENT)];
        let parts = parts.into_iter().filter_map(|(what, text, limit)| Some((what, text.as_str()?, limit)));
        parts.map(|(what, text, limit)| Size::new(what, Unit::Characters, Unit::Characters.of(text), limit)).collect()
    }

    fn preview(&self, body: &Value) -> String {
        let attachment = &body["attachments"][0];
        let markdown = [&body["text"], &attachment["text"]].into_iter().filter_map(Value::as_str);
        let footer = attachment["footer"].as_str().map(str::to_owned);
        markdown.map(markup::preview_markdown).chain(footer).collect::<Vec<_>>().join("\n\n")
    }
}

/// The error's id, which names no webhook.
fn said(response: &Response) -> String {
    chat::json(response)["id"].as_str().unwrap_or_default().to_owned()
}

/// Whether the webhook is gone.
fn is_gone(response: &Response) -> bool {
    response.status == 400 && said(response) == "web.incoming_webhook.invalid.app_error"
}

impl Notifier for Mattermost {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = said(response);
        let status = response.status;
        match status {
            400 if is_gone(response) => held(format!("400: Mattermost does not know the webhook: {said}")),
            401 | 403 | 404 => held(format!("{status}: Mattermost refuses the webhook: {said}")),
            501 => held(format!("501: incoming webhooks are switched off: {said}")),
            _ => chat::classify(&chat::saying(response, &said), None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || is_gone(response)
    }
}
