//! Amazon SNS: a message to a topic, whose subscribers may be mailboxes, telephones, queues or functions.
//!
//! The message is plain text. What filter policies of subscriptions go by stands in message attributes: `kind`,
//! `severity`, `status` and `source`. A FIFO topic also gets a group, so that what fires is told before what ends it,
//! and a deduplication id that is another one for each state: with the group's alone, a topic would take what ends an
//! alert within five minutes for a repetition and tell nobody.
//!
//! A message has up to 262,144 bytes with its attributes; a topic may be set to less, and the short form may fit where
//! the long one is refused (InvalidParameter). A subject has less than 100 characters on one line. The model says
//! "UTF-8 text" since 2026, and before: ASCII that begins with a letter, a digit or punctuation, which is what we keep
//! to.
//! Sources: Publish in the service model of botocore 1.44 and in the API reference of SNS (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::aws::{self, Topic};
use super::chat::{Attempt, Draw, Notifier, Size};
use super::message::Message;
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;

crate::keys! {
    /// The keys of an `sns` target.
    pub struct Sns {
        /// The topic; one whose name ends in .fifo is a FIFO topic. Requests go to its region.
        topic_arn: Topic,
    }
}

/// The longest subject, in characters.
const SUBJECT: usize = 99;
/// The largest message with its attributes, in bytes.
const MESSAGE: usize = 262_144;

/// `text` as a subject: what is not ASCII is a question mark.
fn subject(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    match plain.len() > SUBJECT {
        true => format!("{}...", plain[..SUBJECT - 3].trim_end()),
        false => plain,
    }
}

impl Draw for Sns {
    fn draw(&self, message: &Message) -> Value {
        json!({
            "Subject": subject(&message.words()),
            "Message": message.plain(),
            "MessageAttributes": message.attributes(),
        })
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.draw(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = body["MessageAttributes"].as_object().into_iter().flatten();
        // Name, type and value count.
        let attributes = attributes.map(|(name, value)| name.len() + "String".len() + text(value).len());
        let message = text(&body["Message"]).len() + attributes.sum::<usize>();
        vec![
            Size::new("subject", Unit::Characters, Unit::Characters.of(&text(&body["Subject"])), SUBJECT),
            Size::new("message and attributes", Unit::Bytes, message, MESSAGE),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        format!("{}\n\n{}", text("Subject"), text("Message"))
    }
}

impl Notifier for Sns {
    // A FIFO topic goes by the deduplication id, for five minutes; what was not answered is repeated within seconds.
    fn is_idempotent(&self) -> bool {
        self.topic_arn.is_fifo()
    }

    fn request(&self, mut body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        if self.topic_arn.is_fifo() {
            let key = Message::of(&attempt.delivery.event).key;
            body["MessageGroupId"] = key.unwrap_or_else(|| attempt.delivery.event.source.to_string()).into();
            body["MessageDeduplicationId"] = attempt.delivery.deduplication_id().into();
        }
        Ok(self.topic_arn.publish(&body))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        aws::classify(response, now)
    }
}
