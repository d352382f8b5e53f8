//! Amazon Q Developer in chat applications (once AWS Chatbot): a custom notification, published to the topic of Amazon
//! SNS that its channels of Slack or Microsoft Teams are subscribed to.
//!
//! The notification is `{"version": "1.0", "source": "custom", "content": …, "metadata": …}`; what follows another
//! schema is dropped without a word, and shows in the metric `UnsupportedEvents` alone. `threadId` is the same for what
//! fires and what ends it: they are one thread where the channel's preferences say so. What custom actions may look for
//! is in `additionalContext`, what filter policies of subscriptions go by in message attributes as at `sns`.
//!
//! Texts are markdown of whichever service the channel is at, for which there is no escape that holds at all of them. So
//! what could mention somebody or hide where a link leads is replaced or broken: `<` and `>`, `@`, `](`. Marks such as
//! `*` and `_` change how a text looks, and are left as they are. Which mentions are passed on is not documented, so
//! there is no key for them.
//!
//! Limits are not documented: title and description keep to what one block of a message at Slack takes. A FIFO topic
//! reaches queues only (SNS developer guide), so that one is a mistake here.
//! Sources: "Custom notifications using Amazon Q Developer in chat applications", docs.aws.amazon.com/chatbot; the
//! developer guide of SNS (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::aws::{self, Topic};
use super::chat::{Attempt, Draw, Notifier, Size};
use super::message::Message;
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{Fields, KeyDescription, Keys};

crate::keys! {
    /// The keys of an `amazonq` target.
    pub struct AmazonqKeys {
        /// The topic that the channels are subscribed to; no FIFO topic. Requests go to its region.
        topic_arn: Topic,
    }
}

/// An `amazonq` target.
#[derive(Debug, Clone)]
pub struct Amazonq(AmazonqKeys);

impl Keys for Amazonq {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = AmazonqKeys::take(fields)?;
        if keys.topic_arn.is_fifo() {
            let at = fields.at().child("topic_arn");
            fields.problems().error(&at, "a FIFO topic reaches queues only, and no chat");
            return None;
        }
        Some(Self(keys))
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        AmazonqKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.0, seen);
    }
}

/// The longest title, in characters.
const TITLE: usize = 150;
/// The longest description, in characters.
const DESCRIPTION: usize = 2_900;

/// `text` without what could mention somebody or hide where a link leads.
fn harmless(text: &str) -> String {
    let text = text.replace('<', "‹").replace('>', "›");
    text.replace('@', "@\u{200b}").replace("](", "]\u{200b}(")
}

impl Draw for Amazonq {
    fn draw(&self, message: &Message) -> Value {
        let shown = message.with_texts(harmless);
        let description: Vec<_> =
            [shown.plain_rest(), shown.origin()].into_iter().filter(|part| !part.is_empty()).collect();
        let mut notification = json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": text::cut(&shown.headline(), TITLE, Unit::Characters),
                "description": description.join("\n"),
            },
            "metadata": { "eventType": message.kind, "additionalContext": message.attributes() },
        });
        if let Some(key) = &message.key {
            notification["metadata"]["threadId"] = key.as_str().into();
        }
        notification
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.draw(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let length = |name: &str| Unit::Characters.of(body["content"][name].as_str().unwrap_or_default());
        vec![
            Size::new("title", Unit::Characters, length("title"), TITLE),
            Size::new("description", Unit::Characters, length("description"), DESCRIPTION),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body["content"][name].as_str().unwrap_or_default();
        format!("{}\n\n{}", text("title"), text("description"))
    }
}

impl Notifier for Amazonq {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let attributes = Message::of(&attempt.delivery.event).attributes();
        Ok(self.0.topic_arn.publish(&json!({ "Message": body.to_string(), "MessageAttributes": attributes })))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        aws::classify(response, now)
    }
}
