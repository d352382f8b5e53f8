//! Datadog: events of an organisation, by the Events API v1.
//!
//! `POST /api/v1/events` at the site's API host, with the key as `DD-API-KEY`. Events of one `aggregation_key` are
//! shown together. A text between `%%% ` and ` %%%` is Markdown, any other is plain; in texts of others an invisible
//! word joiner parts `%%%`, and stands behind each `@`, since `@names` notify people, teams and integrations.
//! `date_happened` is left out: what is older than 18 hours is refused, and the time stands in the text.
//!
//! Limits in characters: text 4,000, aggregation_key 100; title 500 and a tag 200, as API v2 and "Getting started with
//! tags" have them. A tag begins with a letter, and what is not a letter, a digit or one of `_-:./` becomes `_`.
//! Success is 202; 403 is a key that is none, or one of another site; 429 names in `X-RateLimit-Reset` the seconds
//! until more is taken. Errors are `{"errors": […]}`. Sources: docs.datadoghq.com, "Events", "Rate limits", "Getting
//! started with tags"; DataDog/datadog-api-client-python, v1/model/event_create_request.py (read 2026-11).

use ::http::HeaderName;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, pings, secret_text};
use super::message::{Message, Tone};
use super::pause;
use super::poke::post_json;
use super::text::{self, Unit, quiet};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, OneOrMany, Problems, Read, parsed};

/// One of Datadog's sites, by its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site(String);

impl Read for Site {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            match text.contains('.') && text.split('.').all(part) {
                true => Ok(Self(text.into())),
                false => Err("expected a site's domain, such as datadoghq.eu".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+$" })
    }
}

/// Who is notified, as Datadog writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let name = text.strip_prefix('@').unwrap_or_default();
            let usual = |c: char| c.is_ascii_alphanumeric() || "_-.@+".contains(c);
            match !name.is_empty() && name.chars().all(usual) {
                true => Ok(Self(text.into())),
                false => Err("expected a name with an @, such as @slack-alerts or @somebody@example.com".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^@[A-Za-z0-9_.@+-]+$" })
    }
}

crate::keys! {
    /// A `datadog` target.
    pub struct Datadog {
        /// An API key of the organisation.
        api_key: SecretRef,
        /// The site, such as datadoghq.eu.
        site: Site = Site("datadoghq.com".into()),
        /// Who is notified by what is not over and worse than info: @slack-alerts, @team-oncall, @somebody@example.com.
        mention: Option<OneOrMany<Mention>>,
        /// Another API than the site's.
        api_url: Option<BaseUrl>,
    }
}

/// What a text takes.
const TEXT: usize = 4000;
/// What a title takes.
const TITLE: usize = 500;
/// The most tags, and what one of them takes.
const TAGS: usize = 100;
const TAG: usize = 200;

/// `text` without what Datadog would act on.
fn harmless(text: &str) -> String {
    quiet(text).replace("%%%", "%\u{2060}%\u{2060}%")
}

fn tag(name: &str, value: &str) -> Option<String> {
    let usual = |c: char| if c.is_alphanumeric() || "_-:./".contains(c) { c } else { '_' };
    let tag: String = format!("{name}:{value}").to_lowercase().chars().map(usual).take(TAG).collect();
    tag.starts_with(char::is_alphabetic).then(|| tag.trim_end_matches('_').to_owned())
}

fn alert_type(tone: Tone) -> &'static str {
    match tone {
        Tone::Critical | Tone::Error => "error",
        Tone::Warning => "warning",
        Tone::Neutral => "info",
        Tone::Good => "success",
    }
}

impl Datadog {
    fn event(&self, message: &Message) -> Value {
        let mut lines = vec![harmless(&message.plain_rest()), harmless(&message.origin())];
        lines.extend(pings(&self.mention, message, |one| &one.0));
        lines.retain(|line| !line.is_empty());
        let mut event = json!({
            "title": text::cut_by(&harmless(message.subject()), TITLE, |part| Unit::Characters.of(part)),
            "text": lines.join("\n"),
            "alert_type": alert_type(message.tone()),
        });
        if let Some(key) = &message.key {
            event["aggregation_key"] = key.as_str().into();
        }
        event
    }
}

impl Draw for Datadog {
    fn draw(&self, message: &Message) -> Value {
        let mut event = self.event(message);
        let tags = message.tags().into_iter().filter_map(|(name, value)| tag(name, value));
        event["tags"] = tags.take(TAGS).collect::<Vec<_>>().into();
        event
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.event(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let of = |name: &str| Unit::Characters.of(body[name].as_str().unwrap_or_default());
        vec![
            Size::new("title", Unit::Characters, of("title"), TITLE),
            Size::new("text", Unit::Characters, of("text"), TEXT),
            Size::new("tags", Unit::Parts, body["tags"].as_array().map_or(0, Vec::len), TAGS),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let tags: Vec<_> = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut lines = vec![format!("{} ({})", text("title"), text("alert_type")), text("text").to_owned()];
        lines.extend((!tags.is_empty()).then(|| format!("[{}]", tags.join("] ["))));
        lines.join("\n")
    }
}

impl Notifier for Datadog {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let path = "/api/v1/events";
        let own = self.api_url.as_ref();
        let url = own.map_or_else(|| format!("https://api.{}{path}", self.site.0), |base| base.join(path));
        let mut request = post_json(url, &body)?;
        let key = secret_text(attempt.secrets, &self.api_key)?;
        request.credential(HeaderName::from_static("dd-api-key"), key.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            202 => Outcome::Delivered,
            429 => chat::later(response, pause::header(response, "x-ratelimit-reset"), now),
            _ => chat::classify(response, None, now),
        }
    }
}
