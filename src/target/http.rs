//! Any HTTP endpoint.
//!
//! What the receiving side checks is the user's to say: five ways to prove who we are, and four bodies. Sources:
//! RFC 6750 (bearer), RFC 7617 (basic), Standard Webhooks (github.com/standard-webhooks, `spec/standard-webhooks.md`),
//! CloudEvents 1.0.2 with its JSON format and HTTP binding (all read 2026-11).
//!
//! Oddities: a Standard Webhooks id is the delivery's, so that it is the same over attempts, while its timestamp and
//! signature are made for each attempt. In CloudEvents `source` and `id` together are unique, and `id` is the event's,
//! not the delivery's: two targets are told of one event.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::poke::current;
use super::template::Template;
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{self, At, Fields, HttpUrl, KeyDescription, Keys, Problems, Read};

crate::words! {
    /// The method of the request.
    pub enum Verb {
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
    }
}

crate::words! {
    /// What the endpoint gets as body.
    pub enum Body {
        /// The normalised event.
        Event = "event",
        /// The sender's own body, unchanged.
        Passthrough = "passthrough",
        /// The normalised event as a CloudEvent.
        Cloudevents = "cloudevents",
        /// What `template` makes of the event.
        Template = "template",
    }
}

crate::words! {
    /// How a CloudEvent travels.
    pub enum Mode {
        /// All of it in a JSON body.
        Structured = "structured",
        /// Its attributes in `ce-` headers, the event as body.
        Binary = "binary",
    }
}

crate::keys! {
    /// User name and password.
    pub struct Basic {
        /// The user name.
        username: String,
        /// The password.
        password: SecretRef,
    }
}

crate::keys! {
    /// A header whose whole value is a secret.
    pub struct Header {
        /// The header's name.
        name: format::HeaderName,
        /// Its whole value.
        value: SecretRef,
    }
}

crate::keys! {
    /// An HMAC over the body in a header.
    pub struct Hmac {
        /// The header's name.
        header: format::HeaderName,
        /// The key.
        secret: SecretRef,
        /// The hash.
        algorithm: Algorithm = Algorithm::Sha256,
        /// How the signature is written.
        encoding: Encoding = Encoding::Hex,
        /// What stands before it, such as `sha256=`.
        prefix: String = String::new(),
    }
}

crate::keys! {
    /// The ways to prove who we are, of which one is chosen by naming it.
    pub struct Ways {
        /// `Authorization: Bearer …`.
        bearer: Option<SecretRef>,
        /// `Authorization: Basic …`.
        basic: Option<Basic>,
        /// A header whose whole value is a secret.
        header: Option<Header>,
        /// An HMAC over the body in a header.
        hmac: Option<Hmac>,
        /// Standard Webhooks: a key in base64, mostly with `whsec_` before it.
        standard_webhooks: Option<SecretRef>,
    }
}

/// How the endpoint knows us.
#[derive(Debug, Clone)]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer(SecretRef),
    /// `Authorization: Basic …`.
    Basic(Basic),
    /// A header whose whole value is a secret.
    Header(Header),
    /// An HMAC over the body.
    Hmac(Hmac),
    /// Standard Webhooks.
    StandardWebhooks(SecretRef),
}

/// Headers that make the request what it is: a credential in one of them would break it.
const TAKEN: &[&str] =
    &["connection", "content-length", "content-type", "host", "te", "trailer", "transfer-encoding", "upgrade"];

impl Auth {
    fn of(ways: Ways) -> Vec<Self> {
        let Ways { bearer, basic, header, hmac, standard_webhooks } = ways;
        let found = [
            bearer.map(Self::Bearer),
            basic.map(Self::Basic),
            header.map(Self::Header),
            hmac.map(Self::Hmac),
            standard_webhooks.map(Self::StandardWebhooks),
        ];
        found.into_iter().flatten().collect()
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        let header = match self {
            Self::Basic(basic) if basic.username.contains(':') => {
                let at = at.child("basic").child("username");
                problems.error(&at, "a user name for Basic authentication must not have a colon");
                return;
            }
            Self::Header(header) => (at.child("header").child("name"), &header.name),
            Self::Hmac(hmac) => {
                if HeaderValue::from_str(&hmac.prefix).is_err() {
                    problems.error(&at.child("hmac").child("prefix"), "no header can carry these characters");
                }
                (at.child("hmac").child("header"), &hmac.header)
            }
            _ => return,
        };
        if TAKEN.contains(&header.1.0.to_ascii_lowercase().as_str()) {
            problems.error(&header.0, "this header belongs to HTTP itself; choose another");
        }
    }
}

impl Read for Auth {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let mut ways = Self::of(Ways::read(value, at, problems)?);
        if ways.len() != 1 {
            let what = if ways.is_empty() { "names no way" } else { "names several ways" };
            let all = "one of `bearer`, `basic`, `header`, `hmac` and `standard_webhooks` belongs here";
            problems.error(at, format!("`auth` {what} to authenticate; {all}"));
            return None;
        }
        let way = ways.pop()?;
        way.check(at, problems);
        Some(way)
    }

    fn schema() -> Value {
        let mut schema = Ways::schema();
        if let Value::Object(schema) = &mut schema {
            schema.insert("minProperties".into(), 1.into());
            schema.insert("maxProperties".into(), 1.into());
        }
        schema
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        match self {
            Self::Bearer(secret) | Self::StandardWebhooks(secret) => seen(secret),
            Self::Basic(basic) => seen(&basic.password),
            Self::Header(header) => seen(&header.value),
            Self::Hmac(hmac) => seen(&hmac.secret),
        }
    }
}

crate::keys! {
    /// The keys of an `http` target.
    pub struct HttpKeys {
        /// The endpoint.
        url: HttpUrl,
        /// The method.
        method: Verb = Verb::Post,
        /// How it knows us, by exactly one way. Left out: not at all.
        auth: Option<Auth>,
        /// What it gets.
        body: Body = Body::Event,
        /// With `body: cloudevents`: all of it in a JSON body, or its attributes in headers.
        cloudevents_mode: Option<Mode>,
        /// With `body: template`: the body, with the fields of the event as variables.
        template: Option<String>,
        /// With `body: template`: the body's media type. Left out: application/json.
        content_type: Option<String>,
    }
}

/// An `http` target.
#[derive(Debug, Clone)]
pub struct Http {
    keys: HttpKeys,
    template: Option<Template>,
}

impl HttpKeys {
    fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or("application/json")
    }

    /// Notes keys that do not fit together.
    fn check(&self, at: &At, problems: &mut Problems) {
        let only = [
            ("template", self.template.is_some(), Body::Template),
            ("content_type", self.content_type.is_some(), Body::Template),
            ("cloudevents_mode", self.cloudevents_mode.is_some(), Body::Cloudevents),
        ];
        for (key, there, body) in only {
            if there && self.body != body {
                problems.error(&at.child(key), format!("`{key}` is used with `body: {body}` only"));
            }
        }
        if self.body == Body::Template && self.template.is_none() {
            problems.error(at, "`template` is missing, and `body: template` asks for it");
        }
        if HeaderValue::from_str(self.content_type()).is_err() {
            problems.error(&at.child("content_type"), "expected a media type such as application/json");
        }
    }
}

impl Keys for Http {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = HttpKeys::take(fields)?;
        let at = fields.at();
        keys.check(&at, fields.problems());
        let media_type = keys.content_type().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = media_type == "application/json" || media_type.ends_with("+json");
        let template = match &keys.template {
            None => None,
            Some(source) => {
                let template = Template::new(source, json);
                Some(template.map_err(|why| fields.problems().error(&at.child("template"), why)).ok()?)
            }
        };
        Some(Self { keys, template })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        HttpKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

/// The event's own JSON.
fn event_json(event: &Event) -> Result<Vec<u8>, RenderError> {
    serde_json::to_vec(event).map_err(|e| RenderError::Unfit(e.to_string()))
}

/// The attributes of `event` as a CloudEvent, in the order of the specification.
fn cloudevents_attributes(event: &Event) -> Vec<(&'static str, String)> {
    let (kind, subject) = match &event.detail {
        Detail::ImagePush(push) => ("sluice.image_push".to_owned(), Some(push.repository.clone())),
        Detail::Git(git) => (format!("sluice.git.{}", git.event), git.repository.clone()),
        Detail::Alert(group) => (format!("sluice.alert.{}", group.status()), Some(group.group.clone())),
    };
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", event.id.clone()),
        ("source", format!("/sluice/{}", event.source)),
        ("type", kind),
    ];
    attributes.extend(subject.map(|subject| ("subject", subject)));
    attributes.extend(event.time.map(|time| ("time", time.to_string())));
    attributes
}

/// An attribute's value in a header: what is not printable ASCII, and space, quote and percent, is percent-encoded
/// (HTTP binding, 3.1.3.2).
fn header_text(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            0x21..=0x7e if byte != b'"' && byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A header's name as it was read out of the relay file.
fn name_of(name: &format::HeaderName) -> Result<HeaderName, RenderError> {
    HeaderName::try_from(&name.0).map_err(|_| RenderError::Unfit(format!("no header can be named {}", name.0)))
}

/// The key of a Standard Webhooks secret: base64, mostly with `whsec_` before it.
fn webhook_key(secret: &Secret) -> Result<Secret, RenderError> {
    let wrong = || RenderError::UnusableSecret("the secret for standard_webhooks is not whsec_ and base64".into());
    let text = secret.expose_text().ok_or_else(wrong)?;
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    let key = Secret::new(BASE64.decode(text.as_bytes()).map_err(|_| wrong())?);
    if key.is_empty() { Err(wrong()) } else { Ok(key) }
}

/// What the request carries.
struct Content {
    media_type: String,
    body: Bytes,
    /// CloudEvents attributes for the headers.
    attributes: Vec<(&'static str, String)>,
}

impl Http {
    fn content(&self, delivery: &Delivery) -> Result<Content, RenderError> {
        let event = &delivery.event;
        let of =
            |media_type: &str, body: Bytes| Content { media_type: media_type.into(), body, attributes: Vec::new() };
        match (self.keys.body, &delivery.original, &self.template) {
            (Body::Passthrough, Some(original), _) => Ok(of(&original.content_type, original.body.clone())),
            (Body::Template, _, Some(template)) => {
                let body = template.render(event).map_err(|why| RenderError::Unfit(format!("template, {why}")))?;
                Ok(of(self.keys.content_type(), body.into()))
            }
            (Body::Cloudevents, ..) if self.keys.cloudevents_mode == Some(Mode::Binary) => {
                let content = of("application/json", event_json(event)?.into());
                Ok(Content { attributes: cloudevents_attributes(event), ..content })
            }
            (Body::Cloudevents, ..) => {
                let mut whole = serde_json::Map::new();
                whole
                    .extend(cloudevents_attributes(event).into_iter().map(|(name, value)| (name.into(), value.into())));
                whole.insert("datacontenttype".into(), "application/json".into());
                whole.insert("data".into(), json!(event));
                let body = serde_json::to_vec(&whole).map_err(|e| RenderError::Unfit(e.to_string()))?;
                Ok(of("application/cloudevents+json", body.into()))
            }
            // Passed through without the sender's request (it was invoked, not called): the event stands in for it.
            _ => Ok(of("application/json", event_json(event)?.into())),
        }
    }

    fn authenticate(
        &self,
        request: &mut Outbound,
        delivery: &Delivery,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<(), RenderError> {
        let current = |reference: &SecretRef| current(secrets, reference);
        match &self.keys.auth {
            None => Ok(()),
            Some(Auth::Bearer(token)) => request.bearer(current(token)?.expose()),
            Some(Auth::Basic(basic)) => request.basic(&basic.username, current(&basic.password)?.expose()),
            Some(Auth::Header(header)) => request.credential(name_of(&header.name)?, current(&header.value)?.expose()),
            Some(Auth::Hmac(hmac)) => {
                let mac = signature::hmac(hmac.algorithm, current(&hmac.secret)?, &[&request.body]);
                let value = format!("{}{}", hmac.prefix, hmac.encoding.encode(&mac));
                request.credential(name_of(&hmac.header)?, value.as_bytes())
            }
            Some(Auth::StandardWebhooks(secret)) => {
                let key = webhook_key(current(secret)?)?;
                let time = now.as_second().to_string();
                let parts = [delivery.id.as_bytes(), b".", time.as_bytes(), b".", &request.body];
                let mac = signature::hmac(Algorithm::Sha256, &key, &parts);
                request.header("webhook-id", &delivery.id)?;
                request.header("webhook-timestamp", &time)?;
                let value = format!("v1,{}", BASE64.encode(&mac));
                request.credential(HeaderName::from_static("webhook-signature"), value.as_bytes())
            }
        }
    }
}

impl Target for Http {
    fn class(&self) -> Class {
        Class::Feed
    }

    // Standard Webhooks asks receivers to go by the `webhook-id`, and CloudEvents by source and id.
    fn is_idempotent(&self) -> bool {
        matches!(self.keys.auth, Some(Auth::StandardWebhooks(_))) || self.keys.body == Body::Cloudevents
    }

    fn needs_original(&self, _event: &Event) -> bool {
        self.keys.body == Body::Passthrough
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let Content { media_type, body, attributes } = self.content(delivery)?;
        let mut request = Outbound::post(self.keys.url.0.to_string(), "application/json", body);
        request.method = match self.keys.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
        };
        let content_type = HeaderValue::from_str(&media_type)
            .map_err(|_| RenderError::Unfit("no header can carry the media type of the sender's body".into()))?;
        request.headers.insert(CONTENT_TYPE, content_type);
        for (name, value) in attributes {
            let name = HeaderName::try_from(format!("ce-{name}")).map_err(|e| RenderError::Unfit(e.to_string()))?;
            let value = HeaderValue::from_str(&header_text(&value)).map_err(|e| RenderError::Unfit(e.to_string()))?;
            request.headers.insert(name, value);
        }
        self.authenticate(&mut request, delivery, secrets, now)?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        classify_by_status(response, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_in_a_header_is_encoded_as_the_binding_says() {
        assert_eq!(header_text("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_text("a\"%\r\n"), "a%22%25%0D%0A");
    }
}
