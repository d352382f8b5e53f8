//! The queue on an SQS FIFO queue, and the event in which Lambda hands out its messages.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message as SqsMessage, MessageSystemAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;
use serde::{Deserialize, Serialize};

use super::{timeouts, unavailable};
use crate::domain::name::Name;
use crate::port::{Message, Outbox, Queue, Received, Unavailable};

/// What a queue takes in one message, in bytes, unless it was set up otherwise.
pub const DEFAULT_LIMIT: usize = 256 * 1024;
/// How many entries one call takes.
const ENTRIES_PER_CALL: usize = 10;
/// Waits between the attempts at entries that AWS refused within a call that it took: the SDK does not see those.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// The longest poll that AWS knows.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// AWS counts its 12 hours from when the message was handed out, and refuses what would end later. A little less
/// leaves room for the time that we have had it.
const LONGEST_HOLD: Duration = Duration::from_mins(12 * 60 - 20);

/// Reads what `SLUICE_AGENT_QUEUES` holds: the URLs of agents' queues by the agents' names. Empty is none.
///
/// # Errors
/// Says what is expected.
pub fn agent_queues(text: &str) -> Result<BTreeMap<Name, String>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |error| format!("SLUICE_AGENT_QUEUES is not a JSON object of agents and their queues: {error}");
    serde_json::from_str(text).map_err(wrong)
}

/// An SQS FIFO queue.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
    limit: usize,
}

impl SqsQueue {
    /// The queue at `url`, which takes messages of up to `limit` bytes. Nothing is sent yet.
    pub fn new(client: Client, url: impl Into<String>, limit: usize) -> Self {
        Self { client, url: url.into(), limit }
    }

    /// Sends what one call takes, and what is refused of it again.
    async fn send_call(&self, messages: &[Message]) -> Result<(), Unavailable> {
        let mut waiting = Vec::from_iter(0..messages.len());
        let mut pauses = PAUSES.into_iter();
        loop {
            let entries = waiting.iter().map(|&index| send_entry(index, &messages[index])).collect::<Result<_, _>>();
            let call =
                self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries.map_err(lacking)?));
            let answer = call.send().await.map_err(|error| unavailable("queue", &error))?;
            let stored: HashSet<&str> = answer.successful().iter().map(|entry| entry.id()).collect();
            waiting.retain(|index| !stored.contains(index.to_string().as_str()));
            if waiting.is_empty() {
                return Ok(());
            }
            let codes = codes(answer.failed().iter().map(|entry| entry.code()));
            let Some(pause) = pauses.next() else {
                return Err(refused(
                    &format!("{} of {} messages were not stored", waiting.len(), messages.len()),
                    &codes,
                ));
            };
            tracing::warn!(refused = waiting.len(), codes, "the queue refused messages; trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn hold_call(&self, messages: &[Received], seconds: i32) -> Result<(), Unavailable> {
        let mut waiting = Vec::from_iter(0..messages.len());
        let mut pauses = PAUSES.into_iter();
        loop {
            let entries =
                waiting.iter().map(|&index| hold_entry(index, &messages[index], seconds)).collect::<Result<_, _>>();
            let call = self.client.change_message_visibility_batch().queue_url(&self.url);
            let call = call.set_entries(Some(entries.map_err(lacking)?));
            let answer = call.send().await.map_err(|error| unavailable("queue", &error))?;
            waiting.retain(|index| {
                let failed = answer.failed().iter().find(|entry| entry.id() == index.to_string());
                match failed {
                    Some(entry) if is_gone(entry.code()) => {
                        warn_gone(&messages[*index], entry.code());
                        false
                    }
                    failed => failed.is_some(),
                }
            });
            if waiting.is_empty() {
                return Ok(());
            }
            let Some(pause) = pauses.next() else {
                let codes = codes(answer.failed().iter().map(|entry| entry.code()));
                return Err(refused(
                    &format!("{} of {} messages were not held", waiting.len(), messages.len()),
                    &codes,
                ));
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// For how long a message that was handed out stays hidden, in seconds, whatever the queue's own setting is: a batch
/// has four minutes.
const HIDDEN: i32 = 300;

#[async_trait]
impl Outbox for SqsQueue {
    fn limit(&self) -> usize {
        self.limit
    }

    async fn send(&self, messages: &[Message]) -> Result<(), Unavailable> {
        // One call after the other: none may overtake what is tried again in the one before it.
        for call in calls(messages, self.limit) {
            self.send_call(call).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for SqsQueue {
    /// AWS counts whole seconds: `wait` is rounded up, and cut to 20 s.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Unavailable> {
        let wait = Duration::from_secs(whole_seconds(wait.min(LONGEST_POLL)));
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, ENTRIES_PER_CALL)).unwrap_or(1))
            .visibility_timeout(HIDDEN)
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(i32::MAX))
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(Builder::new().timeout_config(timeouts(wait)));
        let answer = call.send().await.map_err(|error| unavailable("queue", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(received).collect())
    }

    /// That the message is gone, or that its receipt has expired, is only worth a warning: it was or will be handed
    /// out again, which at-least-once allows for.
    async fn delete(&self, message: &Received) -> Result<(), Unavailable> {
        let call = self.client.delete_message().queue_url(&self.url).receipt_handle(&message.receipt);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code().is_some_and(is_gone) => {
                warn_gone(message, error.code().unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(unavailable("queue", &error)),
        }
    }

    /// AWS counts whole seconds: `wait` is rounded up, and cut to a little less than 12 hours. A message that is
    /// gone, or whose receipt has expired, is only worth a warning.
    async fn hold(&self, messages: &[Received], wait: Duration) -> Result<(), Unavailable> {
        let seconds = i32::try_from(whole_seconds(wait.min(LONGEST_HOLD))).unwrap_or(i32::MAX);
        for call in messages.chunks(ENTRIES_PER_CALL) {
            self.hold_call(call, seconds).await?;
        }
        Ok(())
    }
}

/// Cuts `messages` into what one call takes: so many entries, and so many bytes of body in all as one message may
/// have. AWS may take more; that one message's worth is taken is sure.
fn calls(messages: &[Message], limit: usize) -> Vec<&[Message]> {
    let mut calls = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        let size = storable(&message.body).len();
        if index > start && (index - start == ENTRIES_PER_CALL || bytes + size > limit) {
            calls.push(&messages[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < messages.len() {
        calls.push(&messages[start..]);
    }
    calls
}

/// The body with the characters that SQS refuses written as JSON escapes. Bodies are JSON, where such characters
/// can only be inside of strings, so it means what it meant.
fn storable(body: &str) -> Cow<'_, str> {
    let is_refused =
        |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if !body.contains(is_refused) {
        return Cow::Borrowed(body);
    }
    let mut escaped = String::with_capacity(body.len() + 16);
    for c in body.chars() {
        if is_refused(c) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

fn send_entry(index: usize, message: &Message) -> Result<SendMessageBatchRequestEntry, BuildError> {
    SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_group_id(&message.group)
        .message_deduplication_id(&message.deduplication_id)
        .message_body(storable(&message.body))
        .build()
}

fn hold_entry(
    index: usize,
    message: &Received,
    seconds: i32,
) -> Result<ChangeMessageVisibilityBatchRequestEntry, BuildError> {
    ChangeMessageVisibilityBatchRequestEntry::builder()
        .id(index.to_string())
        .receipt_handle(&message.receipt)
        .visibility_timeout(seconds)
        .build()
}

fn received(message: SqsMessage) -> Received {
    let mut attributes = message.attributes.unwrap_or_default();
    Received {
        message_id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        group: attributes.remove(&MessageSystemAttributeName::MessageGroupId).unwrap_or_default(),
        receives: count(attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount).map(String::as_str)),
        body: message.body.unwrap_or_default(),
    }
}

/// A receive count as AWS writes it; without one, this was the first time.
fn count(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Whether the code says that the receipt is of no use any more. It comes with and without a prefix such as
/// `AWS.SimpleQueueService.`, and an expired receipt of a FIFO queue is an invalid parameter to AWS.
fn is_gone(code: &str) -> bool {
    let code = code.rsplit('.').next().unwrap_or(code);
    matches!(
        code,
        "MessageNotInflight" | "ReceiptHandleIsInvalid" | "InvalidParameterValue" | "InvalidParameterValueException"
    )
}

fn warn_gone(message: &Received, code: &str) {
    tracing::warn!(message_id = message.message_id, group = message.group, code, "the message is no longer ours");
}

/// The codes of refused entries, each once. Their messages stay out: they may quote the body.
fn codes<'a>(codes: impl Iterator<Item = &'a str>) -> String {
    let mut codes = Vec::from_iter(codes);
    codes.sort_unstable();
    codes.dedup();
    codes.join(", ")
}

fn refused(what: &str, codes: &str) -> Unavailable {
    let codes = if codes.is_empty() { "no reason was given" } else { codes };
    Unavailable { what: "queue", message: format!("{what}: {codes}") }
}

fn lacking(error: BuildError) -> Unavailable {
    Unavailable { what: "queue", message: error.to_string() }
}

/// The event with which Lambda hands out messages of an SQS queue.
#[derive(Debug, Clone, Deserialize)]
pub struct SqsEvent {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
    attributes: Attributes,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    message_group_id: String,
    approximate_receive_count: String,
    #[serde(default)]
    sequence_number: String,
}

impl SqsEvent {
    /// The ARN of the queue that the messages are from; an event is never of two queues, and never empty.
    pub fn queue_arn(&self) -> Option<&str> {
        self.records.first().map(|record| record.event_source_arn.as_str())
    }

    /// Its messages, in the order of each group.
    ///
    /// AWS documents that a batch keeps this order (SQS's developer guide, "FIFO queue delivery logic"), and that in a
    /// group the sequence number only rises (SQS's API reference, `SendMessage`). Between the queue and us is a poller
    /// for which nobody vouches, so the number counts: it is the queue's own word.
    pub fn into_received(mut self) -> Vec<Received> {
        // 128 bits, in decimal. What has none keeps its place among its like.
        self.records.sort_by_key(|record| record.attributes.sequence_number.parse::<u128>().ok());
        let received = |record: Record| Received {
            message_id: record.message_id,
            receipt: record.receipt_handle,
            group: record.attributes.message_group_id,
            receives: count(Some(&record.attributes.approximate_receive_count)),
            body: record.body,
        };
        self.records.into_iter().map(received).collect()
    }
}

/// What a function answers to a [`SqsEvent`]: the messages that Lambda must not delete. The event source mapping
/// has to have `ReportBatchItemFailures`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

impl BatchResponse {
    /// Keeps these messages; all others are deleted. To keep the order of a group, its messages after a kept one
    /// have to be kept, too.
    pub fn new(kept: &[Received]) -> Self {
        let failure = |message: &Received| BatchItemFailure { item_identifier: message.message_id.clone() };
        Self { batch_item_failures: kept.iter().map(failure).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(body: &str) -> Message {
        Message { group: "g".into(), deduplication_id: "d".into(), body: body.into() }
    }

    #[test]
    fn a_call_has_at_most_ten_messages_and_the_limit_in_bytes() {
        let sizes =
            |messages: &[Message], limit| calls(messages, limit).iter().map(|call| call.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&vec![message("x"); 25], 100), [10, 10, 5]);
        assert_eq!(sizes(&vec![message("four"); 5], 9), [2, 2, 1]);
        assert_eq!(sizes(&[message("ää"), message("äää"), message("x")], 9), [1, 2]);
        assert_eq!(sizes(&[message("too long alone"), message("x")], 9), [1, 1]);
        assert_eq!(sizes(&[], 9), [] as [usize; 0]);
    }

    #[test]
    fn characters_that_the_queue_refuses_are_escaped_and_mean_the_same() {
        let value = json!({ "text": "tab\t nul\0 del\u{7f} \u{fffe}\u{ffff}\u{fffd} 😀" });
        let body = value.to_string();
        let stored = storable(&body);
        assert!(stored.contains(r"\ufffe\uffff"), "{stored}");
        assert!(stored.contains('\u{fffd}'), "{stored}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).expect("still JSON"), value);
        assert!(matches!(storable("{\"plain\": 1}\r\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn times_are_rounded_up_to_whole_seconds() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([0, 1, 999, 1000, 1001].map(seconds), [0, 1, 1, 1, 2]);
    }

    fn event(records: &[(&str, &str, &str)]) -> SqsEvent {
        let record = |(id, receives, sequence): &(&str, &str, &str)| {
            json!({
                "messageId": id, "receiptHandle": format!("receipt of {id}"), "body": "{}",
                "attributes": {
                    "ApproximateReceiveCount": receives, "SentTimestamp": "1573251510774", "SequenceNumber": sequence,
                    "MessageGroupId": "oncall", "SenderId": "AIDA", "MessageDeduplicationId": "1",
                    "ApproximateFirstReceiveTimestamp": "1573251510774",
                },
                "messageAttributes": {}, "md5OfBody": "0", "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:sluice.fifo",
            })
        };
        let records: Vec<_> = records.iter().map(record).collect();
        serde_json::from_value(json!({ "Records": records })).expect("an event")
    }

    #[test]
    fn an_event_of_lambda_becomes_messages_and_the_answer_names_what_is_kept() {
        let event = event(&[("a", "1", "18849496460467696128"), ("b", "7", "18849496460467696129")]);
        assert_eq!(event.queue_arn(), Some("arn:aws:sqs:eu-west-1:123456789012:sluice.fifo"));
        let messages = event.into_received();
        let seen: Vec<_> = messages.iter().map(|m| (&*m.message_id, &*m.receipt, &*m.group, m.receives)).collect();
        assert_eq!(seen, [("a", "receipt of a", "oncall", 1), ("b", "receipt of b", "oncall", 7)]);

        let answer = serde_json::to_value(BatchResponse::new(&messages[1..])).expect("JSON");
        assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] }));
        let answer = serde_json::to_value(BatchResponse::default()).expect("JSON");
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
    }

    #[test]
    fn records_come_in_the_order_of_their_sequence_numbers_whatever_order_they_stand_in() {
        let ids = |records: &[_]| Vec::from_iter(event(records).into_received().into_iter().map(|m| m.message_id));
        // As numbers, not as text, and with all their 128 bits.
        let (second, last) = ("10", "340282366920938463463374607431768211455");
        assert_eq!(ids(&[("c", "1", last), ("b", "1", second), ("a", "1", "9")]), ["a", "b", "c"]);
        assert_eq!(ids(&[("b", "1", ""), ("a", "1", ""), ("c", "1", "")]), ["b", "a", "c"]);
    }
}
