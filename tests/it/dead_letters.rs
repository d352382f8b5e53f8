//! Dead letters: how they are read, chosen, and sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::dead_letters::{Again, Choice, Class, Content, DeadLetterQueue, Fate, Letter, Stored, go_through, redrive};
use sluice::domain::delivery::{DeadLetter, Delivery};
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::outcome::GivenUp;
use sluice::port::Unavailable;
use tokio::time::Instant;

const ARN: &str = "arn:aws:lambda:eu-central-1:111122223333:function:sluice-registry-push";

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("time")
}

fn stored(body: String, attributes: &[(&str, &str)]) -> Stored {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Stored { message_id: "m-1".into(), receipt: "r-1".into(), sent: now(), body, attributes }
}

fn delivery() -> Delivery {
    let source = Name::parse("hub").expect("name");
    let event = Event {
        detail: Detail::ImagePush(ImagePush { repository: "ghcr.io/acme/app".into(), ..ImagePush::default() }),
        id: Event::id_of(&source, "1"),
        source,
        cluster: None,
        labels: BTreeMap::new(),
        time: None,
    };
    let first = Delivery::new(event, "1", &Name::parse("prod").expect("name"), None, Timestamp::UNIX_EPOCH);
    Delivery { generation: 1, attempts: 3, ..first }
}

fn letter(reason: &str) -> DeadLetter {
    let delivery = Some(delivery());
    let given_up = "2026-11-21T11:00:00Z".parse().expect("time");
    DeadLetter { class: GivenUp::Rejected, reason: reason.into(), given_up, attempts: 4, delivery, body: None }
}

fn read(letter: &DeadLetter) -> Letter {
    Letter::read(&stored(letter.encode(262_144).expect("fits"), &[]))
}

fn invocation(letter: &Letter) -> (Option<String>, Value) {
    match letter.again(now(), 262_144, None) {
        Ok(Again::Invoke { function, payload }) => (Some(function), serde_json::from_str(&payload).expect("JSON")),
        Ok(other) => panic!("{other:?}"),
        Err(_) => (None, Value::Null),
    }
}

#[test]
fn a_delivery_that_is_sent_again_starts_anew_under_its_id_in_its_targets_order() {
    let letter = read(&letter("413: too large"));
    assert_eq!((letter.of.as_str(), letter.class, letter.attempts), ("prod", Class::Rejected, 4));
    let Ok(Again::Deliver(message)) = letter.again(now(), 262_144, None) else { panic!("it is a delivery") };
    let (before, after) = (delivery(), Delivery::decode(&message.body).expect("a delivery"));
    assert_eq!(message.group, "prod");
    assert_eq!((&after.id, after.generation, after.attempts, after.queued), (&before.id, 2, 0, now()));
    assert_eq!(after.event, before.event);
    assert_ne!(message.deduplication_id, before.deduplication_id());
}

#[test]
fn what_could_not_be_read_when_it_was_given_up_is_sent_again_once_it_can() {
    let unreadable = |body: &str| DeadLetter {
        class: GivenUp::Undeliverable,
        delivery: None,
        body: Some(body.into()),
        ..letter("the message has version 2")
    };
    let readable = read(&unreadable(&delivery().encode(262_144).expect("fits")));
    assert!(matches!(readable.again(now(), 262_144, None), Ok(Again::Deliver(_))));
    let not_yet = read(&unreadable("{\"v\":2}"));
    assert!(matches!(not_yet.content, Content::Unreadable));
    assert!(not_yet.again(now(), 262_144, None).is_err());
}

#[test]
fn a_delivery_that_the_queue_itself_gave_up_is_a_letter_like_any_other() {
    let letter = Letter::read(&stored(delivery().encode(262_144).expect("fits"), &[]));
    assert_eq!((letter.class, letter.given_up), (Class::Undeliverable, now()));
    assert!(matches!(letter.again(now(), 262_144, None), Ok(Again::Deliver(_))));
}

#[test]
fn lambdas_record_of_a_failed_invocation_invokes_the_same_function_with_the_same_event() {
    // The example of «Capturing records of Lambda asynchronous invocations», with another event.
    let record = json!({
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:05.568Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
            "functionArn": format!("{ARN}:$LATEST"),
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": { "source": "aws.ecr", "detail": { "a": 1 } },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": { "errorMessage": "source `ecr`: 503:\nthe queue cannot be reached" },
    });
    let letter = Letter::read(&stored(record.to_string(), &[]));
    assert_eq!((letter.of.as_str(), letter.class, letter.attempts), ("sluice-registry-push", Class::Invocation, 3));
    assert_eq!(letter.reason, "RetriesExhausted: source `ecr`: 503: the queue cannot be reached");
    assert_eq!(letter.given_up.to_string(), "2019-11-14T18:16:05.568Z");
    assert_eq!(invocation(&letter), (Some(format!("{ARN}:$LATEST")), record["requestPayload"].clone()));
}

#[test]
fn what_eventbridge_could_not_hand_over_invokes_the_rules_target() {
    let event = json!({ "version": "0", "source": "aws.ecr", "detail-type": "ECR Image Action", "detail": {} });
    let attributes = [
        ("RULE_ARN", "arn:aws:events:eu-central-1:111122223333:rule/ecr"),
        ("TARGET_ARN", ARN),
        ("ERROR_CODE", "NO_PERMISSIONS"),
        ("ERROR_MESSAGE", "not allowed"),
        ("RETRY_ATTEMPTS", "0"),
    ];
    let letter = Letter::read(&stored(event.to_string(), &attributes));
    assert_eq!((letter.of.as_str(), letter.attempts), ("sluice-registry-push", 1));
    assert_eq!(letter.reason, "NO_PERMISSIONS: not allowed");
    assert_eq!(invocation(&letter), (Some(ARN.to_owned()), event));
}

#[test]
fn what_sns_could_not_hand_over_becomes_the_event_it_would_have_been_for_the_function_that_is_named() {
    let topic = "arn:aws:sns:eu-central-1:111122223333:alarms";
    let notification = json!({ "Type": "Notification", "MessageId": "n-1", "TopicArn": topic, "Message": "{}" });
    let letter = Letter::read(&stored(notification.to_string(), &[("ErrorCode", "404"), ("ErrorMessage", "gone")]));
    assert_eq!(letter.reason, "SNS could not hand it over: 404: gone");
    assert!(letter.again(now(), 262_144, None).expect_err("which function?").contains("--function"));
    let Ok(Again::Invoke { function, payload }) = letter.again(now(), 262_144, Some("intake")) else {
        panic!("it is an invocation")
    };
    let payload: Value = serde_json::from_str(&payload).expect("JSON");
    assert_eq!(function, "intake");
    assert_eq!(payload["Records"][0]["EventSource"], "aws:sns");
    assert_eq!(payload["Records"][0]["Sns"], notification);
}

#[test]
fn what_is_not_ours_is_shown_and_never_sent() {
    for body in ["", "[]", "{}", "{\"v\":1}", "{\"Type\":\"Notification\"}", "{\"requestContext\":{}}"] {
        let letter = Letter::read(&stored(body.into(), &[]));
        assert!(letter.again(now(), 262_144, Some("f")).is_err(), "{body}");
        assert_eq!(letter.details(&stored(body.into(), &[]))["body"], body);
    }
}

#[test]
fn a_choice_takes_what_fits_everything_that_is_given() {
    let letter = read(&letter("413: Too large for the \u{1b}[31mtarget"));
    assert!(!letter.reason.contains('\u{1b}'), "nothing for a terminal to obey");
    let takes = |choice: Choice| choice.takes(&letter, now());
    let (hour, day) = (Some(Duration::from_secs(3600)), Some(Duration::from_secs(86_400)));
    assert!(takes(Choice::default()) && Choice::default().is_everything());
    assert!(takes(Choice { ids: vec!["other".into(), delivery().id], ..Choice::default() }));
    assert!(takes(Choice { of: vec!["prod".into()], classes: vec![Class::Rejected], ..Choice::default() }));
    assert!(!takes(Choice { of: vec!["prod".into()], classes: vec![Class::Expired], ..Choice::default() }));
    assert!(!takes(Choice { of: vec!["pro".into()], ..Choice::default() }));
    assert!(takes(Choice { reason: Some("TOO LARGE".into()), older_than: hour, newer_than: day, ..Choice::default() }));
    assert!(!takes(Choice { older_than: day, ..Choice::default() }));
    assert!(!takes(Choice { newer_than: hour, ..Choice::default() }));
}

/// A queue that hides what it hands out for a time and then no longer takes the receipt, as SQS does; sending takes long.
#[derive(Default)]
struct Slow {
    letters: Mutex<Vec<(Stored, Instant)>>,
    /// How many there have been.
    made: AtomicUsize,
    sent: Mutex<Vec<String>>,
    /// Whether what is sent again fails again.
    fails: bool,
}

const SENDING: Duration = Duration::from_secs(5);

impl Slow {
    /// With this many letters, of which every third is of another class.
    fn with(count: usize) -> Self {
        let slow = Self::default();
        for number in 0..count {
            let class = if number % 3 == 0 { GivenUp::Expired } else { GivenUp::Rejected };
            slow.put(DeadLetter {
                class,
                delivery: Some(Delivery { id: number.to_string(), ..delivery() }),
                ..letter("x")
            });
        }
        slow
    }

    fn put(&self, letter: DeadLetter) {
        let mut letters = self.letters.lock().expect("no panic");
        let message_id = format!("m-{}", self.made.fetch_add(1, Ordering::SeqCst));
        let stored = stored(letter.encode(262_144).expect("fits"), &[]);
        letters.push((Stored { message_id, ..stored }, Instant::now()));
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().expect("no panic").clone()
    }

    /// How many letters can be seen by others.
    fn seen(&self) -> usize {
        self.letters.lock().expect("no panic").iter().filter(|(_, from)| *from <= Instant::now()).count()
    }
}

#[async_trait]
impl DeadLetterQueue for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    async fn take(&self, most: usize, _: Option<&str>, hidden: Duration) -> Result<Vec<Stored>, Unavailable> {
        let now = Instant::now();
        let mut letters = self.letters.lock().expect("no panic");
        let taken = letters.iter_mut().filter(|(_, from)| *from <= now).take(most).map(|(stored, from)| {
            *from = now + hidden;
            stored.receipt = format!("{from:?}");
            stored.clone()
        });
        Ok(taken.collect())
    }

    async fn release(&self, letters: &[&Stored]) {
        for (stored, from) in self.letters.lock().expect("no panic").iter_mut() {
            if letters.iter().any(|one| (&one.message_id, &one.receipt) == (&stored.message_id, &stored.receipt)) {
                *from = Instant::now();
            }
        }
    }

    fn limit(&self) -> usize {
        262_144
    }

    async fn send_again(&self, again: Again) -> Result<(), Unavailable> {
        tokio::time::sleep(SENDING).await;
        let Again::Deliver(message) = again else { panic!("only deliveries are here") };
        let delivery = Delivery::decode(&message.body).expect("a delivery");
        self.sent.lock().expect("no panic").push(delivery.id.clone());
        if self.fails {
            self.put(DeadLetter { delivery: Some(delivery), ..letter("again") });
        }
        Ok(())
    }

    async fn discard(&self, letter: &Stored) -> Result<(), Unavailable> {
        let mut letters = self.letters.lock().expect("no panic");
        let place = letters
            .iter()
            .position(|(stored, from)| {
                (&stored.message_id, &stored.receipt) == (&letter.message_id, &letter.receipt) && *from > Instant::now()
            })
            .ok_or(Unavailable { what: "queue", message: "the receipt has expired".into() })?;
        letters.remove(place);
        Ok(())
    }
}

/// Goes through a queue and sends again what `choice` takes; whether it was whole, and what went wrong.
async fn redrive_all(queue: &Slow, choice: Choice, most: usize) -> (bool, Vec<String>) {
    let mut errors = Vec::new();
    let gone_through = go_through(queue, &choice, now(), most, Duration::from_secs(900), async |stored, letter| {
        match redrive(queue, stored, &letter, now(), None).await {
            Ok(()) => Fate::Gone,
            Err(error) => {
                errors.push(error);
                Fate::Stays
            }
        }
    });
    (gone_through.await.expect("the queue answers"), errors)
}

#[tokio::test(start_paused = true)]
async fn three_hundred_letters_that_take_longer_than_they_are_hidden_are_each_sent_once() {
    let queue = Slow::with(300);
    assert_eq!(redrive_all(&queue, Choice::default(), 1000).await, (true, Vec::new()));
    let sent = queue.sent();
    assert_eq!(
        (sent.len(), BTreeSet::from_iter(sent).len(), queue.letters.lock().expect("no panic").len()),
        (300, 300, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_not_meant_come_again_meanwhile_and_are_all_put_back() {
    let queue = Slow::with(600);
    let expired = Choice { classes: vec![Class::Rejected], ..Choice::default() };
    assert_eq!(redrive_all(&queue, expired, 1000).await, (true, Vec::new()));
    assert_eq!((BTreeSet::from_iter(queue.sent()).len(), queue.sent().len(), queue.seen()), (400, 400, 200));
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_is_not_sent_a_second_time_in_one_run() {
    let queue = Slow { fails: true, ..Slow::with(30) };
    assert_eq!(redrive_all(&queue, Choice::default(), 1000).await, (true, Vec::new()));
    assert_eq!((queue.sent().len(), queue.seen()), (30, 30));
}

#[tokio::test(start_paused = true)]
async fn where_more_letters_are_there_than_are_looked_at_it_is_said() {
    let queue = Slow::with(30);
    assert_eq!(redrive_all(&queue, Choice::default(), 25).await, (false, Vec::new()));
    assert_eq!((queue.sent().len(), queue.seen()), (25, 5));
}
