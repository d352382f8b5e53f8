//! The format CloudEvents 1.0, for all whose events come in it.
//!
//! Source: cloudevents/spec v1.0.2, http-protocol-binding.md and json-format.md (read 2026-08).

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{ParseError, Request, fields, json};
use crate::domain::percent;

/// One event, in whichever mode it came.
#[derive(Debug)]
pub struct CloudEvent<'b> {
    /// Its id; with the source it tells the event from all others.
    pub id: String,
    /// Where it happened.
    pub source: String,
    /// What happened.
    pub kind: String,
    /// All attributes, those above among them.
    attributes: BTreeMap<String, String>,
    /// JSON, unless the event has none.
    data: Option<Cow<'b, [u8]>>,
}

impl<'b> CloudEvent<'b> {
    /// Reads the one event of a request, in either mode.
    ///
    /// # Errors
    /// Where it is none, or lacks an attribute; the sentence names it.
    pub fn read(request: &'b Request) -> Result<Self, ParseError> {
        let is_binary = request.headers.contains_key("ce-specversion") || request.headers.contains_key("ce-id");
        match request.media_type().as_deref() {
            Some("application/cloudevents+json") => Self::structured(&request.body, ""),
            Some(kind) if kind.starts_with("application/cloudevents") => Err(ParseError::UnsupportedMediaType(
                "of the formats for CloudEvents only JSON is taken: application/cloudevents+json".into(),
            )),
            _ if is_binary => Self::binary(request),
            Some("application/json") => Self::structured(&request.body, ""),
            _ => Err(ParseError::UnsupportedMediaType(
                "this is no CloudEvent: neither application/cloudevents+json nor ce-* headers".into(),
            )),
        }
    }

    /// When it happened, as the event says.
    pub fn time(&self) -> Option<Timestamp> {
        self.attributes.get("time").and_then(|time| time.parse().ok())
    }

    /// Reads its data.
    ///
    /// # Errors
    /// Where it has none, or other data; the sentence names the place.
    pub fn data<'s, T: Deserialize<'s>>(&'s self) -> Result<T, ParseError> {
        json::read(self.data.as_ref().ok_or(ParseError::Malformed("the event has no data".into()))?)
    }

    /// `place` stands before the names of attributes where one is complained of.
    fn of(attributes: BTreeMap<String, String>, data: Option<Cow<'b, [u8]>>, place: &str) -> Result<Self, ParseError> {
        let required = |name: &str| {
            let value = attributes.get(name).filter(|value| !value.is_empty()).cloned();
            value.ok_or_else(|| ParseError::Malformed(format!("the attribute `{place}{name}` is missing").into()))
        };
        if !required("specversion")?.starts_with("1.") {
            let why = format!("the attribute `{place}specversion` is not 1.0");
            return Err(ParseError::Malformed(why.into()));
        }
        let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
        Ok(Self { id, source, kind, attributes, data })
    }

    /// Reads an event in structured mode. `place` stands before the names of attributes where one is complained of.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn structured(body: &'b [u8], place: &str) -> Result<Self, ParseError> {
        let members: BTreeMap<Cow<'b, str>, &'b RawValue> = json::read(body)?;
        let text = |value: &RawValue| fields::texts(value).into_iter().next();
        let data = match (members.get("data"), members.get("data_base64")) {
            (Some(data), _) => Some(Cow::Borrowed(data.get().as_bytes())),
            (None, Some(data)) => {
                let data = text(data).and_then(|data| BASE64.decode(data.as_bytes()).ok()).ok_or_else(|| {
                    ParseError::Malformed(format!("the member `{place}data_base64` is not base64").into())
                })?;
                // What is no JSON is the event's own business: nothing in it can be pointed to.
                json::read::<IgnoredAny>(&data).is_ok().then_some(Cow::Owned(data))
            }
            (None, None) => None,
        };
        let attributes = members.iter().filter(|(name, _)| !matches!(name.as_ref(), "data" | "data_base64"));
        let attributes = attributes.filter_map(|(name, value)| Some((name.to_string(), text(value)?)));
        Self::of(attributes.collect(), data, place)
    }

    fn binary(request: &'b Request) -> Result<Self, ParseError> {
        let mut attributes = BTreeMap::new();
        for name in request.headers.keys() {
            let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
            let value = request.header(name.as_str()).and_then(percent::decoded).ok_or_else(|| {
                ParseError::Malformed(format!("the header {name} is not percent-encoded UTF-8, or there twice").into())
            })?;
            attributes.insert(attribute.to_owned(), value);
        }
        let is_json = match request.media_type() {
            Some(kind) => kind.ends_with("/json") || kind.ends_with("+json"),
            None => true,
        };
        let data = (is_json && !request.body.is_empty()).then(|| Cow::Borrowed(request.body.as_ref()));
        Self::of(attributes, data, "ce-")
    }

    /// The texts at these places of the event's structured form.
    ///
    /// # Errors
    /// Where its data cannot be read.
    pub fn pick(&self, pointers: &[&[String]]) -> Result<Vec<Vec<String>>, ParseError> {
        let below: Vec<_> = pointers.iter().map(|pointer| pointer.strip_prefix(&["data".to_owned()])).collect();
        let in_data: Vec<_> = below.iter().copied().flatten().collect();
        let mut in_data = match &self.data {
            Some(data) => fields::pick(data, &in_data)?,
            None => vec![Vec::new(); in_data.len()],
        }
        .into_iter();
        let attribute = |pointer: &[String]| match pointer {
            [name] => self.attributes.get(name).filter(|value| !value.is_empty()).cloned(),
            _ => None,
        };
        let found = pointers.iter().zip(&below).map(|(pointer, below)| match below {
            Some(_) => in_data.next().unwrap_or_default(),
            None => attribute(pointer).into_iter().collect(),
        });
        Ok(found.collect())
    }
}
