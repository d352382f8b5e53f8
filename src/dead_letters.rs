//! Dead letters as an operator handles them: what lies in a dead-letter queue is read, chosen from, and made into what
//! is sent again.
//!
//! There are two kinds of queue. In those of `deliver` and of agents lie deliveries that were given up. In the queue of
//! failed intake lies what an intake function was invoked with in vain, in three forms: Lambda's record of an
//! asynchronous invocation («Capturing records of Lambda asynchronous invocations», AWS Lambda Developer Guide), the
//! event that EventBridge could not hand over, with attributes («Using dead-letter queues to process undelivered
//! events», EventBridge User Guide), and the notification that SNS could not («Amazon SNS dead-letter queues»; all read
//! 2026-11).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::domain::delivery::{DeadLetter, Delivery};
use crate::domain::outcome::GivenUp;
use crate::port::{Message, Unavailable};
use crate::words;

/// The longest reason that is made of another's words, in characters.
const LONGEST_REASON: usize = 300;

/// A message as it lies in a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Names the message in its queue.
    pub message_id: String,
    /// Names this handing out; needed to put it back or to delete it.
    pub receipt: String,
    /// When it was put there.
    pub sent: Timestamp,
    /// Its body.
    pub body: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A queue of dead letters.
#[async_trait]
pub trait DeadLetterQueue: Send + Sync {
    /// What people call it; never a secret.
    fn name(&self) -> &str;

    /// The next messages, up to `most` (1 to 10), hidden from others for `hidden` or until they are released; none where
    /// there are no more. `after` is the last one of those before. What is hidden no longer may come again.
    async fn take(&self, most: usize, after: Option<&str>, hidden: Duration) -> Result<Vec<Stored>, Unavailable>;

    /// Puts messages back. Those for which it fails come back when they are no longer hidden.
    async fn release(&self, letters: &[&Stored]);

    /// The largest body of a message that is sent again, in bytes.
    fn limit(&self) -> usize;

    /// Does what has to be done again. With `Ok`, it is in other hands, and the letter is of no more use.
    async fn send_again(&self, again: Again) -> Result<(), Unavailable>;

    /// Deletes a message.
    async fn discard(&self, letter: &Stored) -> Result<(), Unavailable>;
}

/// How many letters are in hand at once, and may be taken together.
const PAGE: usize = 10;

/// What became of a letter that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in its queue no more.
    Gone,
    /// It stays where it is.
    Stays,
}

/// Hands each of the first `most` letters in `queue` that `choice` takes to `act`, a page at a time, so that none is in
/// hand for longer than the work on ten letters takes: `hidden` has to be longer than that. What stays is put back at the
/// end. A letter that comes into the queue under the id of one that is gone is left alone: it was sent again, and failed.
///
/// Returns whether these were all.
///
/// # Errors
/// When the queue has no more to tell; what was acted on until then is done.
pub async fn go_through(
    queue: &dyn DeadLetterQueue,
    choice: &Choice,
    now: Timestamp,
    most: usize,
    hidden: Duration,
    mut act: impl AsyncFnMut(&Stored, Letter) -> Fate,
) -> Result<bool, Unavailable> {
    let (mut stay, mut gone) = (HashMap::new(), HashSet::new());
    let (mut looked_at, mut again, mut last) = (0, 0, None::<String>);
    let all = loop {
        if looked_at == most {
            break Ok(false);
        }
        let page = match queue.take(PAGE.min(most - looked_at), last.as_deref(), hidden).await {
            Ok(page) => page,
            Err(error) => break Err(error),
        };
        let Some(end) = page.last() else { break Ok(true) };
        last = Some(end.message_id.clone());
        let mut letters = Vec::new();
        for stored in page {
            if stay.contains_key(&stored.message_id) {
                // It was hidden for as long as that goes; the newer receipt counts.
                again += 1;
                stay.insert(stored.message_id.clone(), light(stored));
                continue;
            }
            (looked_at, again) = (looked_at + 1, 0);
            let letter = Letter::read(&stored);
            if choice.takes(&letter, now) && !gone.contains(&letter.id) {
                letters.push((stored, letter));
            } else {
                stay.insert(stored.message_id.clone(), light(stored));
            }
        }
        // All that stays came again, and nothing else between it.
        if again > stay.len() {
            break Ok(false);
        }
        letters.sort_by_key(|(_, letter)| letter.given_up);
        for (stored, letter) in letters {
            let id = letter.id.clone();
            match act(&stored, letter).await {
                Fate::Gone => drop(gone.insert(id)),
                Fate::Stays => drop(stay.insert(stored.message_id.clone(), light(stored))),
            }
        }
    };
    queue.release(&stay.values().collect::<Vec<_>>()).await;
    all
}

/// What is needed to put a message back; its body may be large.
fn light(stored: Stored) -> Stored {
    Stored { body: String::new(), attributes: BTreeMap::new(), ..stored }
}

/// Sends a letter again, and deletes it once it is in other hands. `function` is invoked for what does not tell which.
///
/// # Errors
/// Says why not; the letter is where it was.
pub async fn redrive(
    queue: &dyn DeadLetterQueue,
    stored: &Stored,
    letter: &Letter,
    now: Timestamp,
    function: Option<&str>,
) -> Result<(), String> {
    let again = letter.again(now, queue.limit(), function)?;
    queue.send_again(again).await.map_err(|error| error.to_string())?;
    queue.discard(stored).await.map_err(|error| {
        format!("it was sent, but could not be deleted and is still there; discard it, or it is sent twice: {error}")
    })
}

words! {
    /// Why there is a dead letter.
    pub enum Class {
        /// The target refused the delivery for good.
        Rejected = "rejected",
        /// It failed until its `max_age` was over.
        Expired = "expired",
        /// It was sent and not answered, and was not to be repeated.
        Unanswered = "unanswered",
        /// Every attempt ended the process that made it.
        Crashed = "crashed",
        /// The message could not be read, or names a target that the relay file does not have.
        Undeliverable = "undeliverable",
        /// A function was invoked with it in vain.
        Invocation = "invocation",
    }
}

impl From<GivenUp> for Class {
    fn from(class: GivenUp) -> Self {
        match class {
            GivenUp::Rejected => Self::Rejected,
            GivenUp::Expired => Self::Expired,
            GivenUp::Unanswered => Self::Unanswered,
            GivenUp::Crashed => Self::Crashed,
            GivenUp::Undeliverable => Self::Undeliverable,
        }
    }
}

/// A dead letter, read.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The delivery's id; where there is none, the message's.
    pub id: String,
    /// The target's name, or the function's; empty where it is not known.
    pub of: String,
    /// Why, as a class.
    pub class: Class,
    /// Why, in words, on one line.
    pub reason: String,
    /// When it was given up.
    pub given_up: Timestamp,
    /// Attempts that were made.
    pub attempts: u32,
    /// What it is about.
    pub content: Content,
}

/// What a dead letter is about.
#[derive(Debug, Clone)]
pub enum Content {
    /// An event for a target.
    Delivery(Box<Delivery>),
    /// An event for a function.
    Invocation {
        /// The function's ARN, where the message tells it.
        function: Option<String>,
        /// What it is invoked with, JSON.
        payload: String,
    },
    /// Nothing that we know.
    Unreadable,
}

/// What is to be done again.
#[derive(Debug)]
pub enum Again {
    /// A message to put on the delivery queue.
    Deliver(Message),
    /// A function to invoke.
    Invoke {
        /// Its name or ARN.
        function: String,
        /// What with, JSON.
        payload: String,
    },
}

/// Lambda's record of an asynchronous invocation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvocationRecord<'a> {
    timestamp: Option<Timestamp>,
    request_context: InvocationContext,
    #[serde(borrow)]
    request_payload: &'a RawValue,
    response_payload: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvocationContext {
    function_arn: String,
    condition: String,
    #[serde(default)]
    approximate_invoke_count: u32,
}

impl Letter {
    /// Reads a message; one that is not ours is a letter, too.
    pub fn read(stored: &Stored) -> Self {
        if let Ok(letter) = DeadLetter::decode(&stored.body) {
            return Self::given_up(stored, letter);
        }
        if let Ok(delivery) = Delivery::decode(&stored.body) {
            // What every queue has for a last net: it was handed out too often.
            let reason = "the queue itself gave it up, having handed it out too often";
            return Self::of_delivery(delivery, Class::Undeliverable, reason, stored.sent, 0);
        }
        if let Ok(record) = serde_json::from_str::<InvocationRecord<'_>>(&stored.body) {
            let InvocationRecord { timestamp, request_context: context, request_payload, response_payload } = record;
            let said = response_payload.as_ref().and_then(|payload| payload.get("errorMessage")?.as_str());
            let reason = [Some(context.condition.as_str()), said].into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Self::invocation(stored, Some(context.function_arn), request_payload.get(), &reason)
                .made(timestamp.unwrap_or(stored.sent), context.approximate_invoke_count);
        }
        let attribute = |name| stored.attributes.get(name).map(String::as_str);
        let attempts = |name| attribute(name).and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
        if let Some(target) = attribute("TARGET_ARN") {
            let said: Vec<_> = ["ERROR_CODE", "ERROR_MESSAGE"].into_iter().filter_map(attribute).collect();
            // The first attempt is not among the retries.
            return Self::invocation(stored, Some(target.to_owned()), &stored.body, &said.join(": "))
                .made(stored.sent, attempts("RETRY_ATTEMPTS").saturating_add(1));
        }
        if let Ok(sns) = serde_json::from_str::<Value>(&stored.body)
            && sns.get("Type").is_some_and(|kind| kind == "Notification")
            && let Some(topic) = sns.get("TopicArn").cloned()
        {
            let payload = json!({ "Records": [{
                "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": topic, "Sns": sns,
            }] });
            let said: Vec<_> = ["ErrorCode", "ErrorMessage"].into_iter().filter_map(attribute).collect();
            let reason = format!("SNS could not hand it over: {}", said.join(": "));
            return Self::invocation(stored, None, &payload.to_string(), &reason);
        }
        Self::unreadable(stored, "this is no dead letter of Sluice's", Class::Undeliverable, stored.sent)
    }

    fn given_up(stored: &Stored, letter: DeadLetter) -> Self {
        let DeadLetter { class, reason, given_up, attempts, delivery, body } = letter;
        // What could not be read then may be readable to a later version.
        match delivery.or_else(|| Delivery::decode(&body?).ok()) {
            Some(delivery) => Self::of_delivery(delivery, class.into(), &reason, given_up, attempts),
            None => Self::unreadable(stored, &reason, class.into(), given_up),
        }
    }

    fn of_delivery(delivery: Delivery, class: Class, reason: &str, given_up: Timestamp, attempts: u32) -> Self {
        Self {
            id: delivery.id.clone(),
            of: delivery.target.to_string(),
            class,
            reason: one_line(reason),
            given_up,
            attempts,
            content: Content::Delivery(Box::new(delivery)),
        }
    }

    fn invocation(stored: &Stored, function: Option<String>, payload: &str, reason: &str) -> Self {
        // arn:aws:lambda:REGION:ACCOUNT:function:NAME, perhaps with :QUALIFIER
        let name = function.as_deref().map(|arn| arn.split(':').nth(6).unwrap_or(arn).to_owned());
        Self {
            id: stored.message_id.clone(),
            of: name.unwrap_or_default(),
            class: Class::Invocation,
            reason: one_line(reason),
            given_up: stored.sent,
            attempts: 0,
            content: Content::Invocation { function, payload: payload.to_owned() },
        }
    }

    fn made(self, given_up: Timestamp, attempts: u32) -> Self {
        Self { given_up, attempts, ..self }
    }

    fn unreadable(stored: &Stored, reason: &str, class: Class, given_up: Timestamp) -> Self {
        Self {
            id: stored.message_id.clone(),
            of: String::new(),
            class,
            reason: one_line(reason),
            given_up,
            attempts: 0,
            content: Content::Unreadable,
        }
    }

    /// What has to be done again, in messages of up to `limit` bytes. A delivery starts anew: at the age of zero, without
    /// attempts, in its target's order; its generation is raised, so that no queue takes it for the one before.
    /// `function` is invoked where the letter does not tell which one.
    ///
    /// # Errors
    /// Says why it cannot be done.
    pub fn again(&self, now: Timestamp, limit: usize, function: Option<&str>) -> Result<Again, String> {
        match &self.content {
            Content::Delivery(delivery) => {
                let generation = delivery.generation.saturating_add(1);
                let anew = Delivery { generation, queued: now, attempts: 0, ..Delivery::clone(delivery) };
                Ok(Again::Deliver(Message {
                    group: anew.target.to_string(),
                    deduplication_id: anew.deduplication_id(),
                    body: anew.encode(limit).map_err(|error| error.to_string())?,
                }))
            }
            Content::Invocation { function: told, payload } => {
                let function = told.as_deref().or(function).ok_or("it does not tell its function: give --function")?;
                Ok(Again::Invoke { function: function.to_owned(), payload: payload.clone() })
            }
            Content::Unreadable => Err("it cannot be read".into()),
        }
    }

    /// In a few words, for lists.
    pub fn summary(&self) -> Value {
        let mut summary = json!({
            "id": self.id,
            "class": self.class,
            "reason": self.reason,
            "given_up": self.given_up,
            "attempts": self.attempts,
        });
        match &self.content {
            Content::Delivery(delivery) => {
                summary["target"] = self.of.as_str().into();
                summary["source"] = delivery.event.source.as_str().into();
                summary["event"] = delivery.event.id.as_str().into();
                summary["kind"] = delivery.event.kind().into();
                summary["generation"] = delivery.generation.into();
            }
            Content::Invocation { function, .. } => summary["function"] = json!(function),
            Content::Unreadable => {}
        }
        summary
    }

    /// With everything that is in it.
    pub fn details(&self, stored: &Stored) -> Value {
        let mut details = self.summary();
        match &self.content {
            Content::Delivery(delivery) => details["delivery"] = json!(delivery),
            Content::Invocation { payload, .. } => {
                details["payload"] = serde_json::from_str(payload).unwrap_or_else(|_| payload.as_str().into());
            }
            Content::Unreadable => details["body"] = stored.body.as_str().into(),
        }
        details
    }
}

/// Text of others, shortened and without what a terminal would obey.
fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect();
    text.trim().to_owned()
}

/// Which dead letters are meant: those to which everything that is given applies.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Any of these ids.
    pub ids: Vec<String>,
    /// Any of these targets or functions.
    pub of: Vec<String>,
    /// Any of these classes.
    pub classes: Vec<Class>,
    /// This is in the reason, whatever the case of its letters.
    pub reason: Option<String>,
    /// Given up at least this long ago.
    pub older_than: Option<Duration>,
    /// Given up less than this long ago.
    pub newer_than: Option<Duration>,
}

impl Choice {
    /// Whether it leaves anything out.
    pub fn is_everything(&self) -> bool {
        let Self { ids, of, classes, reason, older_than, newer_than } = self;
        let lists_are_empty = ids.is_empty() && of.is_empty() && classes.is_empty();
        lists_are_empty && reason.is_none() && older_than.is_none() && newer_than.is_none()
    }

    /// Whether `letter` is meant.
    pub fn takes(&self, letter: &Letter, now: Timestamp) -> bool {
        let age = Duration::try_from(now.duration_since(letter.given_up)).unwrap_or_default();
        let any = |choices: &[String], value: &str| choices.is_empty() || choices.iter().any(|one| one == value);
        any(&self.ids, &letter.id)
            && any(&self.of, &letter.of)
            && (self.classes.is_empty() || self.classes.contains(&letter.class))
            && self.reason.as_ref().is_none_or(|part| letter.reason.to_lowercase().contains(&part.to_lowercase()))
            && self.older_than.is_none_or(|least| age >= least)
            && self.newer_than.is_none_or(|most| age < most)
    }
}
