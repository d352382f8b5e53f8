//! Pushover: messages to the devices of a user or a group.
//!
//! `POST /1/messages.json` as a form with the application's `token` and the user's or group's key `user`; never in the
//! query, where proxies would log them. Texts are plain as long as neither `html` nor `monospace` is set; an empty
//! message is refused. Priority 1 is heard during quiet hours, too, -1 makes no sound; 2, which asks until somebody
//! answers, we leave to services that know who is on call.
//!
//! Limits in characters: message 1,024, title 250, url 512, url_title 100. Success is 200 with `"status": 1`. 4xx is
//! `{"status": 0, "errors": […]}`, with `"token": "invalid"` or `"user": "invalid"` where a key is wrong. 429 means
//! that the messages of this month are used up, which all applications of an account share since 2026-05: nothing but the
//! next month or an upgrade mends it. 5xx wants to be tried again, not before five seconds.
//! Sources: pushover.net/api; blog.pushover.net, 2026-04-08, for the quota; prometheus/alertmanager, notify/pushover, for
//! the limits (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::message::{Message, Tone};
use super::poke::held;
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `pushover` target.
    pub struct Pushover {
        /// The application's API token.
        token: SecretRef,
        /// The key of a user or a group.
        user: SecretRef,
        /// Another API than https://api.pushover.net.
        api_url: BaseUrl = BaseUrl::known("https://api.pushover.net"),
    }
}

/// What a message takes.
const MESSAGE: usize = 1024;
/// What a title takes.
const TITLE: usize = 250;
/// What a page's address takes.
const URL: usize = 512;
/// What a page's title takes.
const URL_TITLE: usize = 100;

fn priority(tone: Tone) -> i8 {
    match tone {
        Tone::Critical => 1,
        Tone::Error | Tone::Warning => 0,
        Tone::Neutral | Tone::Good => -1,
    }
}

fn note(message: &Message) -> Value {
    json!({
        "title": text::cut(&message.headline(), TITLE, Unit::Characters),
        "message": message.plain_text(),
        "priority": priority(message.tone()).to_string(),
    })
}

impl Draw for Pushover {
    fn draw(&self, message: &Message) -> Value {
        let mut note = note(message);
        // A page of which a part is missing is none.
        if let Some(page) = message.pages().into_iter().find(|page| Unit::Characters.of(&page.url) <= URL) {
            note["url_title"] = text::cut(&page.title, URL_TITLE, Unit::Characters).into();
            note["url"] = page.url.into();
        }
        if let Some(time) = message.time {
            note["timestamp"] = time.as_second().to_string().into();
        }
        note
    }

    fn draw_plain(&self, message: &Message) -> Value {
        note(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let size = |what: &'static str, limit| {
            Size::new(what, Unit::Characters, Unit::Characters.of(body[what].as_str().unwrap_or_default()), limit)
        };
        vec![size("title", TITLE), size("message", MESSAGE), size("url", URL), size("url_title", URL_TITLE)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let mut lines = vec![format!("{} (priority {})", text("title"), text("priority")), text("message").to_owned()];
        if body["url"].is_string() {
            lines.push(format!("[{}] <{}>", text("url_title"), text("url")));
        }
        lines.join("\n")
    }
}

/// Which of the two keys Pushover does not know.
fn wrong_key(response: &Response) -> Option<&'static str> {
    let body = chat::json(response);
    ["token", "user"].into_iter().find(|key| body[*key] == "invalid")
}

impl Notifier for Pushover {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let keys = [
            ("token", secret_text(attempt.secrets, &self.token)?),
            ("user", secret_text(attempt.secrets, &self.user)?),
        ];
        Ok(Outbound::form(self.api_url.join("/1/messages.json"), keys.into_iter().chain(chat::fields(&body))))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match (response.status, wrong_key(response)) {
            (200, _) if body["status"] == 1 => Outcome::Delivered,
            (200, _) => chat::foreign(response, "Pushover", "`api_url`"),
            (400..=428, Some(key)) => held(format!("{}: Pushover does not know this `{key}`", response.status)),
            (429, _) => held("429: the account's messages of this month are used up"),
            (400, None) => {
                Outcome::Rejected { reason: format!("400: Pushover refuses this message: {}", body["errors"]) }
            }
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403) || wrong_key(response).is_some()
    }
}
