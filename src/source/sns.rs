//! Messages of Amazon SNS: posted over HTTPS, or in the record that a function is invoked with. Both have the same
//! envelope, but for the case of two names.
//!
//! Source: docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::aws::Arn;
use super::{ParseError, json};

crate::words! {
    /// What a message is for.
    pub enum Kind {
        /// Something was published to the topic.
        Notification = "Notification",
        /// Somebody wants the topic's messages sent here.
        SubscriptionConfirmation = "SubscriptionConfirmation",
        /// The topic's messages are not sent here any more.
        UnsubscribeConfirmation = "UnsubscribeConfirmation",
    }
}

/// A message in its envelope.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope {
    /// What it is for.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// The same when it is delivered again.
    pub message_id: String,
    /// The topic.
    pub topic_arn: String,
    /// What the publisher gave as subject.
    pub subject: Option<String>,
    /// What was published: text, or JSON as text.
    pub message: String,
    /// When it was published.
    pub timestamp: String,
}

impl Envelope {
    /// Reads a message.
    pub fn read(body: &[u8]) -> Result<Self, ParseError> {
        json::read(body)
    }

    /// When it was published.
    pub fn time(&self) -> Option<Timestamp> {
        self.timestamp.parse().ok()
    }

    /// Account and region of the topic.
    pub fn place(&self) -> (Option<&str>, Option<&str>) {
        let arn = Arn::parse(&self.topic_arn);
        (arn.map(|arn| arn.account), arn.map(|arn| arn.region))
    }
}
