//! E-mail, by SendEmail of Amazon SES (API version 2).
//!
//! A message has a plain and an HTML part; in the HTML all texts of others are escaped, and nothing is loaded from
//! elsewhere. SES itself puts the parts together and encodes the subject, so that no text of ours reaches a header as it
//! is. `References` names a message that was never sent, and the same one for what fires and what ends it: mail
//! programs show both as one conversation. SES gives every message an id of its own, so that the first one's cannot be
//! named. `Auto-Submitted` (RFC 3834) keeps vacation notices from answering.
//!
//! Success means that SES took it; bounces and complaints come to it later. An address that is not verified is a
//! `MessageRejected` like content that SES does not pass on, and told from that by its words. SES takes 50 recipients and
//! 40 MB; ours stay below 100,000 bytes, which mail programs show whole.
//! Sources: SendEmail in the service model of SESv2 in botocore 1.44, "Amazon SES header fields" in its developer guide
//! (read 2026-11); RFC 5322, 3.6.4; RFC 3834, 5.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::aws::{self, Failure, Service};
use super::chat::{Attempt, Draw, Notifier, Size};
use super::markup::{self, Dialect};
use super::message::Message;
use super::poke::{held, post_json};
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, Fields, KeyDescription, Keys, OneOrMany, Problems, Read, parsed};

crate::keys! {
    /// The keys of an `email` target.
    pub struct EmailKeys {
        /// The sender, which SES has to have verified: an address, or `Name <address>`.
        from: Mailbox,
        /// The recipients' addresses, 50 at most; all of them see each other's.
        to: OneOrMany<Mailbox>,
    }
}

/// An `email` target.
#[derive(Debug, Clone)]
pub struct Email(EmailKeys);

impl Keys for Email {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = EmailKeys::take(fields)?;
        if keys.to.0.len() > RECIPIENTS {
            let at = fields.at().child("to");
            fields.problems().error(&at, format!("a message has {RECIPIENTS} recipients at most"));
            return None;
        }
        Some(Self(keys))
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        EmailKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.0, seen);
    }
}

/// An address, with or without a name before it: of RFC 5322 what needs no quoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(String);

impl Mailbox {
    fn domain(&self) -> &str {
        self.0.rsplit('@').next().unwrap_or_default().trim_end_matches('>')
    }
}

impl Read for Mailbox {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let is_address = |text: &str| {
            let local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
            let host = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
            text.split_once('@').is_some_and(|(name, domain)| {
                !name.is_empty() && name.chars().all(local) && domain.contains('.') && domain.chars().all(host)
            })
        };
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || " _-".contains(c));
        parsed(value, at, problems, |text| match text.split_once(" <") {
            Some((name, rest)) if is_name(name) && rest.strip_suffix('>').is_some_and(is_address) => {
                Ok(Self(text.to_owned()))
            }
            None if is_address(text) => Ok(Self(text.to_owned())),
            _ => {
                Err("expected an e-mail address, or a name of plain letters and one: Sluice <sluice@example.com>"
                    .into())
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^([A-Za-z0-9 _-]+ <)?[^@<> ]+@[A-Za-z0-9.-]+>?$" })
    }
}

/// The most recipients of a message.
const RECIPIENTS: usize = 50;
/// The longest subject, in characters: a line of a mail program's list.
const SUBJECT: usize = 150;
/// The most bytes of both parts together.
const BODY: usize = 100_000;

/// HTML of mails.
const HTML: Dialect = Dialect { escape: markup::escape_html, line_break: "<br>" };

impl Email {
    fn letter(&self, message: &Message, body: Value) -> Value {
        let mut headers = vec![json!({ "Name": "Auto-Submitted", "Value": "auto-generated" })];
        if let Some(key) = &message.key {
            let conversation = format!("<{key}@{}>", self.0.from.domain());
            headers.push(json!({ "Name": "References", "Value": conversation }));
        }
        json!({
            "FromEmailAddress": self.0.from.0,
            "Destination": { "ToAddresses": self.0.to.0.iter().map(|to| to.0.as_str()).collect::<Vec<_>>() },
            "Content": {
                "Simple": {
                    "Subject": content(&text::cut(&message.words(), SUBJECT, Unit::Characters)),
                    "Body": body,
                    "Headers": headers,
                },
            },
        })
    }
}

fn content(text: &str) -> Value {
    json!({ "Data": text, "Charset": "UTF-8" })
}

/// The message as plain text, with its small print.
fn plain(message: &Message) -> String {
    format!("{}\n\n-- \n{}\n", message.plain(), message.origin())
}

impl Draw for Email {
    fn draw(&self, message: &Message) -> Value {
        let html = format!(
            "<!DOCTYPE html><html><body><div style=\"border-left:4px solid #{:06x};padding-left:12px;\
             font-family:sans-serif\">{}</div></body></html>",
            message.tone().rgb(),
            markup::html(message, None, HTML)
        );
        self.letter(message, json!({ "Text": content(&plain(message)), "Html": content(&html) }))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.letter(message, json!({ "Text": content(&plain(message)) }))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let letter = &body["Content"]["Simple"];
        let data = |part: &Value| part["Data"].as_str().unwrap_or_default().to_owned();
        let parts = data(&letter["Body"]["Text"]).len() + data(&letter["Body"]["Html"]).len();
        vec![
            Size::new("subject", Unit::Characters, Unit::Characters.of(&data(&letter["Subject"])), SUBJECT),
            Size::new("text and HTML", Unit::Bytes, parts, BODY),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let letter = &body["Content"]["Simple"];
        let data = |part: &Value| part["Data"].as_str().unwrap_or_default().to_owned();
        let seen = match letter["Body"]["Html"]["Data"].as_str() {
            Some(html) => markup::preview(html),
            None => data(&letter["Body"]["Text"]),
        };
        format!("Subject: {}\n\n{seen}", data(&letter["Subject"]))
    }
}

impl Notifier for Email {
    fn request(&self, body: Value, _attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut request = post_json("/v2/email/outbound-emails".into(), &body)?;
        request.aws = Some(Service { name: "ses", host: "email", id: "SESv2", region: None });
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let failure = Failure::of(response);
        match response.status {
            400 if is_unverified(&failure) => held(format!("400: {}", failure.words())),
            _ => aws::classify(response, now),
        }
    }
}

/// Whether SES does not know an address yet, which no other message would change.
fn is_unverified(failure: &Failure) -> bool {
    failure.code == "MessageRejected" && failure.text.contains("not verified")
}
