//! Grafana IRM (Grafana OnCall): alerts of an integration of the type Formatted Webhook.
//!
//! A POST of `{alert_uid, title, state, message, link_to_upstream_details}` to the integration's URL, which is a
//! secret. Alerts of one `alert_uid` are one group; `state` is `alerting` or `ok`, which ends it.
//!
//! Its default templates put title and message into Slack, Telegram, Markdown on the web and spoken words alike, and
//! escape nothing: so in texts of others angle brackets become others that look like them, an invisible word joiner
//! stands behind each `@`, and no link of Markdown is left. Users may have templates of their own, to which this does
//! no harm. How long a message may be is not documented: we keep to what a person would read.
//!
//! Success is 200 `Ok.`; 403 is an integration that there is none of. 429 comes without a time: 300 alerts of an
//! integration in five minutes, 900 of an organisation.
//! Sources: grafana/oncall (archived 2026-03-24), engine/config_integrations/formatted_webhook.py and
//! engine/apps/integrations/mixins; grafana.com/docs, "Configure OnCall incoming webhooks" (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, secret_url};
use super::message::{Message, Step};
use super::pause::MINUTE;
use super::poke::{held, post_json};
use super::text::{Unit, quiet};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;

crate::keys! {
    /// A `grafana-irm` target.
    pub struct GrafanaIrm {
        /// The URL of a Formatted Webhook integration, as a secret.
        webhook: SecretRef,
    }
}

/// What a person would read of a message.
const MESSAGE: usize = 16_000;

/// `text` without what any of the media would take for markup that does more than look different.
fn harmless(text: &str) -> String {
    quiet(text).replace('<', "‹").replace('>', "›").replace("](", "] (")
}

fn alert(message: &Message) -> Value {
    let resolves = message.step() == Ok(Step::Resolve);
    json!({
        "alert_uid": message.key,
        "title": harmless(message.subject()),
        "state": if resolves { "ok" } else { "alerting" },
    })
}

impl Draw for GrafanaIrm {
    fn draw(&self, message: &Message) -> Value {
        let mut alert = alert(message);
        alert["message"] = harmless(&message.plain_text()).into();
        if let Some(page) = message.pages().first() {
            alert["link_to_upstream_details"] = page.url.as_str().into();
        }
        alert
    }

    fn draw_plain(&self, message: &Message) -> Value {
        alert(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let message = Unit::Characters.of(body["message"].as_str().unwrap_or_default());
        vec![Size::new("message", Unit::Characters, message, MESSAGE)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let mut lines = vec![format!("{}: {}", text("state"), text("title"))];
        lines.extend(body["message"].as_str().map(str::to_owned));
        lines.extend(body["link_to_upstream_details"].as_str().map(|url| format!("<{url}>")));
        lines.join("\n")
    }
}

impl Notifier for GrafanaIrm {
    const STEPS_ONLY: bool = true;

    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            403 | 404 => held(format!("{}: there is no such integration at Grafana", response.status)),
            429 => chat::later(response, Some(MINUTE), now),
            // The page of an error may show the URL that was asked for.
            _ => chat::classify(&chat::saying(response, ""), None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response)
    }
}
