//! Zoom Team Chat: a connection of the Incoming Webhook app.
//!
//! `POST {endpoint}?format=full` with the connection's verification token as `Authorization`, no scheme before it. The
//! endpoint has a word of its own in its path, so that it is a secret as well. (How a connection with a signature, made by
//! `/inc connect -s`, signs is not public; it is not spoken.) A message has a head, a bar in a colour, and texts. Texts are
//! plain as long as `is_markdown_support` is left out, and pages in them are found and linked.
//!
//! Markdown there would ping by `<!…>` and hide by `<…|…>` where a link leads. Should it be parsed after all, texts of others
//! are no less harmless: an invisible word joiner stands behind each `<` and `@`. As nobody can be pinged without Markdown,
//! there is no key for it.
//!
//! Limits and answers of the app are not documented. A text keeps to 4,000 characters, and in the short form to the 1,024
//! that the API for people's own messages takes. Since a 400 may mean the token as well as the message, the token is read
//! anew before a message is given up. Zoom's APIs say in a 429 from when on they take more, as ISO 8601 has it. No
//! idempotent send is known.
//! Sources: support.zoom.com, KB0067640 ("Using Zoom's Incoming Webhook Chatbot"); developers.zoom.us, "Customize chatbot
//! messages", "Markdown", "Send a chat message", "Rate limits" and devforum.zoom.us 18928 for its header;
//! fluxcd/notification-controller, internal/notifier/zoom.go, and keephq/keep, zoom_chat_provider.py (read 2026-11).

use ::http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, secret_text, secret_url, with_query};
use super::message::Message;
use super::poke::{held, post_json};
use super::text::{Unit, quiet};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;

crate::keys! {
    /// A `zoom` target.
    pub struct Zoom {
        /// The endpoint of a connection of the Incoming Webhook app, as a secret.
        webhook: SecretRef,
        /// The connection's verification token.
        token: SecretRef,
    }
}

/// What a person would read of a text.
const TEXT: usize = 4000;
/// What Zoom takes of a person's own message.
const SHORT_TEXT: usize = 1024;

/// `text` without what Markdown would act on.
fn harmless(text: &str) -> String {
    quiet(text).replace('<', "<\u{2060}")
}

fn content(message: &Message, text: &str) -> Value {
    json!({
        "content": {
            "head": { "text": harmless(&message.headline()) },
            "body": [{ "type": "message", "text": harmless(text) }],
        },
    })
}

impl Draw for Zoom {
    fn draw(&self, message: &Message) -> Value {
        let mut body = content(message, format!("{}\n{}", message.plain_rest(), message.origin()).trim_start());
        body["content"]["settings"] = json!({ "default_sidebar_color": format!("#{:06x}", message.tone().rgb()) });
        body
    }

    fn draw_plain(&self, message: &Message) -> Value {
        content(message, &message.plain_text())
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let text = body["content"]["body"][0]["text"].as_str().unwrap_or_default();
        let limit = if body["content"]["settings"].is_null() { SHORT_TEXT } else { TEXT };
        vec![Size::new("text", Unit::Characters, Unit::Characters.of(text), limit)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value["text"].as_str().unwrap_or_default().to_owned();
        format!("{}\n\n{}", text(&body["content"]["head"]), text(&body["content"]["body"][0]))
    }
}

impl Notifier for Zoom {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let webhook = secret_url(attempt.secrets, &self.webhook)?;
        // Zoom shows the endpoint with one of several formats behind it.
        let endpoint = webhook.split('?').next().unwrap_or_default();
        let mut request = post_json(with_query(endpoint, "format", "full"), &body)?;
        request.credential(AUTHORIZATION, secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            status @ (401 | 403) => held(format!("{status}: Zoom does not take the verification token: {said}")),
            404 => held(format!("404: Zoom has no such connection: {said}")),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || response.status == 400
    }
}
