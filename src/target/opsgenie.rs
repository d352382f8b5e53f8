//! Opsgenie, and Jira Service Management, whose integration events are Opsgenie's Alert API under another host.
//!
//! `POST /v2/alerts` creates an alert, or counts one more under an `alias` that is open;
//! `POST /v2/alerts/{alias}/close?identifierType=alias` closes it. JSM has `/jsm/ops/integration` before both. The key
//! of an API integration goes in as `Authorization: GenieKey …`.
//!
//! Success is 202, and only means that the request is valid: alerts are made later, and closing what is not open is a
//! 202 as well. 401 is a key that is none, or an integration that is off; 402 the subscription; 403 a right that the key
//! lacks; 422 a wrong value. 429 has `X-RateLimit-Period-In-Sec`, the length of the interval whose budget is used up.
//! Limits: message 130 characters, alias 512, description 15,000, details 8,000 in all, source 100, note 25,000.
//!
//! Oddities: Opsgenie shows HTML in messages and descriptions. In a description we escape `&`, `<` and `>`; a message
//! travels by SMS and voice as well, so that its angle brackets become others that look like them. Every value of
//! `details` is a text. Opsgenie's API ends on 2027-04-05.
//! Sources: docs.opsgenie.com, "Alert API", "Alerts and Alert Fields", "Response", "API Rate Limiting";
//! developer.atlassian.com, "Jira Service Management ops, Integration Events API" (read 2026-11).

use ::http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::message::{Message, Step};
use super::pause::{self, MINUTE};
use super::poke::{held, post_json};
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::alert::Severity;
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{BaseUrl, Fields, KeyDescription, Keys};

crate::keys! {
    /// The keys of an `opsgenie` or a `jsm` target.
    pub struct OpsgenieKeys {
        /// The key of an API integration.
        api_key: SecretRef,
        /// Another API than https://api.opsgenie.com or https://api.atlassian.com, such as https://api.eu.opsgenie.com.
        api_url: Option<BaseUrl>,
    }
}

/// An `opsgenie` or a `jsm` target.
#[derive(Debug, Clone)]
pub struct Opsgenie {
    keys: OpsgenieKeys,
    is_jsm: bool,
}

impl Keys for Opsgenie {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let is_jsm = fields.peek("type").is_some_and(|of| of == "jsm");
        Some(Self { keys: OpsgenieKeys::take(fields)?, is_jsm })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        OpsgenieKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

/// What a message may take.
const MESSAGE: usize = 130;
/// What a description may take.
const DESCRIPTION: usize = 15_000;
/// What all details may take together, names and values.
const DETAILS: usize = 8_000;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// On one line that holds no markup, without what other media would read out as an escape.
fn line(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›")
}

fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "P1",
        Severity::Error => "P2",
        Severity::Warning => "P3",
        Severity::Info => "P5",
    }
}

fn create(message: &Message) -> Value {
    json!({
        "message": text::cut(&line(message.subject()), MESSAGE, Unit::Characters),
        "alias": message.key,
        "priority": priority(message.severity),
        "source": message.source,
    })
}

fn close(message: &Message) -> Value {
    json!({ "source": message.source, "note": line(&message.headline()) })
}

impl Draw for Opsgenie {
    fn draw(&self, message: &Message) -> Value {
        if message.step() == Ok(Step::Resolve) {
            return close(message);
        }
        let details = message.facts_by_name();
        let mut alert = create(message);
        let description = escape(&message.plain_rest());
        if !description.is_empty() {
            alert["description"] = description.into();
        }
        if !details.is_empty() {
            alert["details"] = json!(details);
        }
        alert
    }

    fn draw_plain(&self, message: &Message) -> Value {
        match message.step() {
            Ok(Step::Resolve) => json!({ "source": message.source }),
            _ => create(message),
        }
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let of = |value: &Value| Unit::Characters.of(value.as_str().unwrap_or_default());
        let details = body["details"].as_object().into_iter().flatten();
        let details = details.map(|(name, value)| Unit::Characters.of(name) + of(value)).sum();
        vec![
            Size::new("message", Unit::Characters, of(&body["message"]), MESSAGE),
            Size::new("description", Unit::Characters, of(&body["description"]), DESCRIPTION),
            Size::new("details", Unit::Characters, details, DETAILS),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let read = |text: String| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let first = match body["message"].as_str() {
            Some(message) => format!("{} {message}", text(&body["priority"])),
            None => format!("closed: {}", text(&body["note"])),
        };
        let details = body["details"].as_object().into_iter().flatten();
        let details = details.map(|(name, value)| format!("[{name}: {}]", text(value)));
        let lines = [first, read(text(&body["description"]))].into_iter().chain(details);
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

impl Notifier for Opsgenie {
    const STEPS_ONLY: bool = true;

    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let message = Message::of(&attempt.delivery.event);
        let (host, base) = match self.is_jsm {
            true => ("https://api.atlassian.com", "/jsm/ops/integration/v2/alerts"),
            false => ("https://api.opsgenie.com", "/v2/alerts"),
        };
        let path = match (message.step(), &message.key) {
            (Ok(Step::Resolve), Some(alias)) => format!("{base}/{alias}/close?identifierType=alias"),
            _ => base.to_owned(),
        };
        let url = self.keys.api_url.as_ref().map_or_else(|| format!("{host}{path}"), |other| other.join(&path));
        let mut request = post_json(url, &body)?;
        let key = format!("GenieKey {}", secret_text(attempt.secrets, &self.keys.api_key)?);
        request.credential(AUTHORIZATION, key.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        match status {
            401 | 403 => held(format!(
                "{status}: the api_key is none of an API integration that is on and may create and close alerts: {}",
                excerpt(response)
            )),
            402 => held(format!("402: the subscription does not allow it: {}", excerpt(response))),
            429 => {
                let period = pause::header(response, "x-ratelimit-period-in-sec");
                chat::later(response, Some(period.unwrap_or(MINUTE)), now)
            }
            _ => chat::classify(response, None, now),
        }
    }
}
