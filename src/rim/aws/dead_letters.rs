//! Dead letters in an SQS queue, FIFO or standard, and the functions that failed invocations are for.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, Message as SqsMessage, MessageSystemAttributeName};
use aws_smithy_types::Blob;
use aws_types::SdkConfig;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::sqs::SqsQueue;
use super::{timeouts, unavailable};
use crate::dead_letters::{Again, DeadLetterQueue, Stored};
use crate::port::{Outbox as _, Unavailable};

/// What one call brings at most.
const PER_CALL: usize = 10;
/// How long a call waits for messages. With any wait AWS asks all of its servers, so that an empty answer means that
/// there are none.
const POLL: Duration = Duration::from_secs(1);
/// How long an invocation may take; an intake function has far less.
const INVOCATION: Duration = Duration::from_secs(60);

/// The dead letters in one SQS queue.
#[derive(Debug, Clone)]
pub struct SqsDeadLetters {
    sqs: aws_sdk_sqs::Client,
    lambda: aws_sdk_lambda::Client,
    url: String,
    /// The queue that deliveries came from, once it is known.
    origin: OnceCell<String>,
    limit: usize,
}

impl SqsDeadLetters {
    /// See [`Sdk::dead_letters`](super::Sdk::dead_letters). Nothing is sent yet.
    pub(super) fn new(config: &SdkConfig, url: impl Into<String>, to: Option<String>, limit: usize) -> Self {
        let (sqs, lambda) = (aws_sdk_sqs::Client::new(config), aws_sdk_lambda::Client::new(config));
        Self { sqs, lambda, url: url.into(), origin: OnceCell::new_with(to), limit }
    }

    /// The one queue whose dead-letter queue it is.
    async fn only_source(&self) -> Result<String, Unavailable> {
        let call = self.sqs.list_dead_letter_source_queues().queue_url(&self.url);
        let answer = call.send().await.map_err(|error| unavailable("queue", &error))?;
        match answer.queue_urls() {
            [one] => Ok(one.clone()),
            urls => Err(Unavailable {
                what: "queue",
                message: format!("it is the dead-letter queue of {} queues: give --to URL", urls.len()),
            }),
        }
    }

    async fn invoke(&self, function: String, payload: String) -> Result<(), Unavailable> {
        let failed = |message: String| Unavailable { what: "function", message };
        let call = self
            .lambda
            .invoke()
            .function_name(function)
            // Waited for, so that the letter stays where it is unless the function took the event.
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload))
            .customize()
            .config_override(aws_sdk_lambda::config::Builder::new().timeout_config(timeouts(INVOCATION)));
        let answer = call.send().await.map_err(|error| unavailable("function", &error))?;
        let said = answer.payload().and_then(|payload| serde_json::from_slice::<Value>(payload.as_ref()).ok());
        if let Some(error) = answer.function_error() {
            let said = said.as_ref().and_then(|said| said.get("errorMessage")?.as_str());
            return Err(failed(said.unwrap_or(error).to_owned()));
        }
        // An event in the form of a request is answered by a response.
        match said.as_ref().and_then(|said| said.get("statusCode")?.as_u64()) {
            Some(status) if status >= 400 => Err(failed(format!("it answered {status}"))),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl DeadLetterQueue for SqsDeadLetters {
    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }

    /// AWS counts whole seconds, and hides nothing for more than 12 hours.
    async fn take(&self, most: usize, _: Option<&str>, hidden: Duration) -> Result<Vec<Stored>, Unavailable> {
        let hidden = i32::try_from(hidden.as_secs().min(12 * 60 * 60)).unwrap_or(i32::MAX);
        let call = self
            .sqs
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(PER_CALL.min(most)).unwrap_or(1))
            .visibility_timeout(hidden)
            .wait_time_seconds(i32::try_from(POLL.as_secs()).unwrap_or(1))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names("All")
            .customize()
            .config_override(Builder::new().timeout_config(timeouts(POLL)));
        let answer = call.send().await.map_err(|error| unavailable("queue", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(stored).collect())
    }

    async fn release(&self, letters: &[&Stored]) {
        for call in letters.chunks(PER_CALL) {
            let entry = |(index, letter): (usize, &&Stored)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(&letter.receipt)
                    .visibility_timeout(0)
                    .build()
            };
            let Ok(entries) = call.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>() else { return };
            let call = self.sqs.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
            if let Err(error) = call.send().await {
                let error = unavailable("queue", &error);
                tracing::warn!(%error, "messages could not be put back; they come back by themselves");
            }
        }
    }

    fn limit(&self) -> usize {
        self.limit
    }

    async fn send_again(&self, again: Again) -> Result<(), Unavailable> {
        match again {
            Again::Deliver(message) => {
                let origin = self.origin.get_or_try_init(|| self.only_source()).await?;
                SqsQueue::new(self.sqs.clone(), origin, self.limit).send(&[message]).await
            }
            Again::Invoke { function, payload } => self.invoke(function, payload).await,
        }
    }

    async fn discard(&self, letter: &Stored) -> Result<(), Unavailable> {
        let call = self.sqs.delete_message().queue_url(&self.url).receipt_handle(&letter.receipt);
        call.send().await.map_err(|error| unavailable("queue", &error))?;
        Ok(())
    }
}

fn stored(message: SqsMessage) -> Stored {
    let sent = message.attributes.as_ref().and_then(|attributes| {
        let sent = attributes.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok()?;
        Timestamp::from_millisecond(sent).ok()
    });
    let attributes = message.message_attributes.unwrap_or_default();
    let attributes: BTreeMap<_, _> =
        attributes.into_iter().filter_map(|(name, value)| Some((name, value.string_value?))).collect();
    Stored {
        message_id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        // AWS tells it of every message; what it does not tell is taken for old.
        sent: sent.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        attributes,
    }
}
