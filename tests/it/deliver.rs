//! Delivery: the rules of the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sluice::deliver::Deliverer;
use sluice::domain::alert::{Alert, Alerts, Severity, Status};
use sluice::domain::delivery::{DeadLetter, Delivery};
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::outcome::GivenUp;
use sluice::overdue;
use sluice::port::{Clock as _, FetchError, Message, Outbox, Queue, Received, SendError, Unavailable};
use sluice::rim::consumer::{Consumer, Pulse};
use sluice::rim::tokens::TokenSender;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fakes::{FakeClock, FakeMeter, FakeQueue, FakeSecrets, FakeSender, FakeState, relay, response, store};

const RELAY: &str = r#"
sources:
  hub: { type: github, secret: "ssm:/github" }
targets:
  cluster:
    type: flux
    url: https://flux.example.com
    receiver: { type: generic-hmac, name: images, namespace: flux-system }
    token: "ssm:/token"
  other: { type: http, url: "https://other.example.com/" }
  feed: { type: http, url: "https://feed.example.com/", retry: { max_age: 1h } }
  review: { type: gitea-comment, repository: acme/app, token: "ssm:/token" }
  guarded: { type: http, url: "https://guarded.example.com/", fallback: feed, retry: { max_age: 2h } }
routes:
  - { to: [cluster, other, feed, guarded, review] }
"#;

struct World {
    deliverer: Deliverer,
    secrets: Arc<FakeSecrets>,
    queue: Arc<FakeQueue>,
    dead: Arc<FakeQueue>,
    state: Arc<FakeState>,
    sender: Arc<FakeSender>,
    clock: Arc<FakeClock>,
    meter: Arc<FakeMeter>,
}

fn world() -> World {
    let (secrets, clock) = (Arc::new(FakeSecrets::default()), Arc::new(FakeClock::default()));
    secrets.set("ssm:/token", &["token"]);
    let queue = || Arc::new(FakeQueue { clock: clock.clone(), ..FakeQueue::default() });
    let (queue, dead) = (queue(), queue());
    let state = Arc::new(FakeState { clock: clock.clone(), ..FakeState::default() });
    let (sender, meter) = (Arc::new(FakeSender::default()), Arc::new(FakeMeter::default()));
    let deliverer = Deliverer {
        relay: relay(RELAY),
        secrets: store(&secrets, &clock),
        queue: queue.clone(),
        dead_letters: dead.clone(),
        state: state.clone(),
        sender: sender.clone(),
        clock: clock.clone(),
        meter: meter.clone(),
        chance: || 0.5,
        memory: Default::default(),
    };
    World { deliverer, secrets, queue, dead, state, sender, clock, meter }
}

fn delivery(target: &str, number: u32, queued: Timestamp) -> Delivery {
    let source = Name::parse("hub").expect("name");
    let identity = number.to_string();
    let event = Event {
        detail: Detail::ImagePush(ImagePush {
            repository: format!("ghcr.io/acme/app{number}"),
            ..ImagePush::default()
        }),
        id: Event::id_of(&source, &identity),
        source,
        cluster: None,
        labels: std::collections::BTreeMap::new(),
        time: None,
    };
    Delivery::new(event, &identity, &Name::parse(target).expect("name"), None, queued)
}

impl World {
    fn message(&self, target: &str, number: u32, receives: u32) -> Received {
        let delivery = delivery(target, number, FakeClock::default().now());
        received(&delivery, target, number, receives)
    }

    async fn work(&self, messages: Vec<Received>) -> Vec<String> {
        let kept = self.deliverer.work(messages, Instant::now() + Duration::from_secs(120)).await;
        kept.into_iter().map(|message| message.message_id).collect()
    }

    /// The notices that were queued, as status, title and text.
    fn notices(&self) -> Vec<(Status, String, String)> {
        let sent = self.queue.sent();
        let notices = sent.iter().filter(|message| message.group == "feed").map(|message| {
            let delivery = Delivery::decode(&message.body).expect("delivery");
            assert_eq!(delivery.target.as_str(), "feed");
            let Detail::Alert(alerts) = delivery.event.detail else { panic!("a notice is an alert") };
            let alert = &alerts.alerts[0];
            (alert.status, alert.title.clone(), alert.text.clone().expect("it says why"))
        });
        notices.collect()
    }

    fn letters(&self) -> Vec<DeadLetter> {
        self.dead.sent().iter().map(|message| DeadLetter::decode(&message.body).expect("dead letter")).collect()
    }
}

fn received(delivery: &Delivery, group: &str, number: u32, receives: u32) -> Received {
    Received {
        message_id: format!("{group}-{number}"),
        receipt: format!("receipt-{number}"),
        group: group.into(),
        receives,
        body: delivery.encode(262_144).expect("fits"),
    }
}

#[tokio::test]
async fn what_is_delivered_is_deleted_and_costs_no_write_of_state() {
    let world = world();
    world.sender.answer(200, "");
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1)]).await.is_empty());
    assert_eq!(world.queue.deleted(), ["cluster-1", "cluster-2"]);
    assert_eq!(world.state.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_failed_message_and_its_followers_wait_together_and_other_groups_pass() {
    let world = world();
    world.sender.answer_with(Err(SendError::Connect("refused".into())));
    world.sender.answer(200, "");
    let kept = world
        .work(vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1), world.message("other", 3, 1)])
        .await;
    assert_eq!(kept, ["cluster-1", "cluster-2"]);
    assert_eq!(world.queue.held(), [(kept, Duration::from_secs(1))]);
    assert_eq!(world.queue.deleted(), ["other-3"]);
}

/// The waits after fourteen attempts that failed.
async fn waits(chance: fn() -> f64) -> Vec<Duration> {
    let mut world = world();
    world.deliverer.chance = chance;
    for receives in 1..=14 {
        world.sender.answer(503, "");
        world.work(vec![world.message("cluster", 1, receives)]).await;
    }
    world.queue.held().into_iter().map(|(_, wait)| wait).collect()
}

#[tokio::test]
async fn waits_double_up_to_an_hour() {
    let seconds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600];
    assert_eq!(waits(|| 0.5).await, seconds.map(Duration::from_secs));
}

#[tokio::test]
async fn waits_vary_by_a_fifth_and_are_an_hour_at_most() {
    let (shortest, longest) = (waits(|| 0.0).await, waits(|| 1.0).await);
    assert_eq!((shortest[0], longest[0]), (Duration::from_millis(800), Duration::from_millis(1200)));
    assert_eq!((shortest[13], longest[13]), (Duration::from_secs(2880), Duration::from_secs(3600)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_does_not_keep_what_others_got_on_the_queue() {
    let world = world();
    world.sender.take_seconds_at("flux.example.com", 25);
    world.sender.answer(200, "");
    world.sender.answer(200, "");
    let deleted_meanwhile = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.queue.deleted()
    };
    let work = world.work(vec![world.message("cluster", 1, 1), world.message("other", 2, 1)]);
    let (kept, deleted) = tokio::join!(work, deleted_meanwhile);
    assert_eq!(deleted, ["other-2"]);
    assert!(kept.is_empty() && world.queue.deleted().len() == 2);
}

#[tokio::test]
async fn followers_that_merely_waited_have_no_attempts_of_their_own() {
    let world = world();
    world.sender.answer(404, "");
    // Handed out for the fourth time, but never tried.
    world.work(vec![world.message("cluster", 2, 4)]).await;
    assert_eq!(world.queue.held()[0].1, Duration::from_secs(1));
}

#[tokio::test]
async fn the_target_may_ask_for_a_longer_wait() {
    let world = world();
    world.sender.answer_with(Ok(response(429, &[("retry-after", "7200")], "")));
    world.work(vec![world.message("other", 1, 1)]).await;
    assert_eq!(world.queue.held()[0].1, Duration::from_secs(7200));
}

#[tokio::test]
async fn a_wait_never_passes_the_end_of_a_deliverys_life() {
    let world = world();
    world.sender.answer_with(Ok(response(503, &[("retry-after", "86400")], "")));
    world.work(vec![world.message("feed", 1, 1)]).await;
    assert_eq!(world.queue.held()[0].1, Duration::from_secs(3600));
}

#[tokio::test]
async fn a_delivery_past_its_age_is_tried_once_more_and_then_becomes_a_dead_letter() {
    let world = world();
    world.clock.pass(Duration::from_secs(3600));
    world.sender.answer(500, "boom");
    assert!(world.work(vec![world.message("feed", 1, 1)]).await.is_empty());
    let letter = &world.letters()[0];
    assert_eq!(letter.class, GivenUp::Expired);
    assert!(letter.reason.contains("boom"), "{}", letter.reason);
    assert_eq!(world.queue.deleted(), ["feed-1"]);
}

#[tokio::test]
async fn a_rejected_delivery_becomes_a_dead_letter_at_once_and_the_next_one_passes() {
    let world = world();
    world.sender.answer(413, "");
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1)]).await.is_empty());
    let letter = &world.letters()[0];
    assert_eq!((letter.class, letter.attempts), (GivenUp::Rejected, 1));
    assert_eq!(letter.delivery.as_ref().expect("delivery").id, delivery("cluster", 1, world.clock.now()).id);
    assert_eq!(world.queue.deleted(), ["cluster-1", "cluster-2"]);
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_repeated_unless_the_target_says_otherwise() {
    let unanswered = [SendError::TimedOut(Duration::from_secs(30)), SendError::Broken("reset".into())];
    for error in unanswered {
        for (target, repeated) in [("feed", true), ("once", false), ("known", true), ("cluster-once", true)] {
            let mut world = world();
            world.deliverer.relay = relay(
                r#"
targets:
  feed: { type: http, url: "https://feed.example.com/" }
  once: { type: http, url: "https://feed.example.com/", retry: { unanswered: give_up } }
  known: { type: http, url: "https://feed.example.com/", body: cloudevents, retry: { unanswered: give_up } }
  cluster-once:
    type: flux
    url: https://flux.example.com
    receiver: { type: generic-hmac, name: images, namespace: flux-system }
    token: "ssm:/token"
    retry: { unanswered: give_up }
"#,
            );
            world.sender.answer_with(Err(error.clone()));
            let kept = world.work(vec![world.message(target, 1, 1)]).await;
            assert_eq!(kept.len(), usize::from(repeated), "{target}: {error}");
            if !repeated {
                let letter = &world.letters()[0];
                assert_eq!((letter.class, letter.attempts), (GivenUp::Unanswered, 1));
                assert!(letter.reason.contains("may have arrived"), "{}", letter.reason);
            }
        }
    }
}

#[test]
fn receivers_and_services_that_go_by_an_id_know_a_delivery_again_and_chats_do_not() {
    let relay = relay(
        r#"
targets:
  argocd: { type: argocd, url: "https://argocd.example.com", secret: "env:S" }
  pagerduty: { type: pagerduty, routing_key: "env:S" }
  opsgenie: { type: opsgenie, api_key: "env:S" }
  matrix: { type: matrix, url: "https://matrix.example.com", token: "env:S", room: "!a:example.com" }
  alertmanager: { type: alertmanager, url: "https://alertmanager.example.com" }
  fifo: { type: sns, topic_arn: "arn:aws:sns:eu-west-1:123456789012:a.fifo" }
  not-fifo: { type: sns, topic_arn: "arn:aws:sns:eu-west-1:123456789012:a" }
  signed: { type: http, url: "https://a.example.com/", auth: { standard_webhooks: "env:S" } }
  not-http: { type: http, url: "https://a.example.com/" }
  not-slack: { type: slack, webhook: "env:S" }
  not-discord: { type: discord, webhook: "env:S" }
  not-telegram: { type: telegram, token: "env:S", chat: 1 }
  not-dispatch: { type: github-dispatch, repository: a/b, token: "env:S" }
"#,
    );
    for (name, entry) in &relay.targets {
        assert_eq!(entry.target.is_idempotent(), !name.as_str().starts_with("not-"), "{name}");
    }
}

#[tokio::test]
async fn what_never_left_is_tried_again_whatever_the_target_says_of_what_was_not_answered() {
    let mut world = world();
    world.deliverer.relay = relay(&RELAY.replace("retry: { max_age: 1h }", "retry: { unanswered: give_up }"));
    world.sender.answer_with(Err(SendError::Connect("refused".into())));
    world.sender.answer(503, "");
    assert_eq!(world.work(vec![world.message("feed", 1, 1)]).await, ["feed-1"]);
    assert_eq!(world.work(vec![world.message("feed", 1, 2)]).await, ["feed-1"]);
    assert!(world.letters().is_empty());
}

#[tokio::test]
async fn an_event_that_a_receiver_cannot_take_is_set_aside_after_three_attempts() {
    let world = world();
    for receives in 1..=3 {
        world.sender.answer(500, "");
        if receives == 3 {
            world.sender.answer(200, "");
        }
        world.work(vec![world.message("cluster", 1, receives), world.message("cluster", 2, receives)]).await;
    }
    // The third time it went aside, and the one behind it passed in the same batch.
    assert_eq!(world.queue.deleted(), ["cluster-1", "cluster-2"]);
    let aside = &world.queue.sent()[0];
    let before = delivery("cluster", 1, FakeClock::default().now());
    assert_eq!(aside.group, format!("cluster!{}", before.id));
    let aside = Delivery::decode(&aside.body).expect("delivery");
    assert_eq!((aside.id, aside.generation, aside.attempts, aside.queued), (before.id, 1, 3, before.queued));
}

#[tokio::test]
async fn what_cannot_be_set_aside_now_keeps_its_place_and_is_not_lost() {
    let world = world();
    let both = |receives| vec![world.message("cluster", 1, receives), world.message("cluster", 2, receives)];
    world.queue.refuse_sends(true);
    for receives in 1..=3 {
        world.sender.answer(500, "");
        assert_eq!(world.work(both(receives)).await, ["cluster-1", "cluster-2"]);
    }
    assert!(world.queue.deleted().is_empty());
    world.queue.refuse_sends(false);
    world.sender.answer(500, "");
    world.sender.answer(200, "");
    assert!(world.work(both(4)).await.is_empty());
    assert_eq!((world.queue.sent().len(), world.queue.deleted()), (1, vec!["cluster-1".into(), "cluster-2".into()]));
}

#[tokio::test]
async fn what_was_set_aside_goes_on_alone_with_its_attempts() {
    let world = world();
    let aside = Delivery { generation: 1, attempts: 3, ..delivery("cluster", 1, world.clock.now()) };
    let group = format!("cluster!{}", aside.id);
    world.sender.answer(500, "");
    assert_eq!(world.work(vec![received(&aside, &group, 1, 1)]).await.len(), 1);
    assert_eq!(world.queue.held()[0].1, Duration::from_secs(8));
    assert!(world.queue.sent().is_empty(), "it is not set aside twice");
}

/// How many deliveries of a target are overdue, where that is after a quarter of an hour.
async fn overdue(world: &World, target: &str) -> usize {
    let target = Name::parse(target).expect("name");
    let late = overdue::late(world.state.as_ref(), &target, world.clock.now(), Duration::from_secs(900)).await;
    late.expect("state").map_or(0, |late| late.deliveries)
}

#[tokio::test]
async fn a_delivery_that_keeps_failing_is_overdue_until_it_arrives() {
    let world = world();
    world.sender.answer(503, "");
    world.work(vec![world.message("other", 1, 1)]).await;
    assert_eq!(overdue(&world, "other").await, 0, "it has time yet");
    world.clock.pass(Duration::from_secs(901));
    assert_eq!((overdue(&world, "other").await, overdue(&world, "feed").await), (1, 0));
    world.sender.answer(200, "");
    world.work(vec![world.message("other", 1, 2)]).await;
    assert_eq!(overdue(&world, "other").await, 0);
}

#[tokio::test]
async fn a_delivery_that_was_given_up_is_not_overdue_and_one_that_was_set_aside_is_so_once() {
    let world = world();
    for status in [503, 413] {
        world.sender.answer(status, "");
        world.work(vec![world.message("other", 1, if status == 503 { 1 } else { 2 })]).await;
        world.clock.pass(Duration::from_secs(901));
    }
    assert_eq!((world.letters().len(), overdue(&world, "other").await), (1, 0));

    for receives in 1..=3 {
        world.sender.answer(500, "");
        world.work(vec![world.message("cluster", 1, receives)]).await;
    }
    let aside = Delivery::decode(&world.queue.sent()[0].body).expect("delivery");
    world.sender.answer(500, "");
    world.work(vec![received(&aside, &world.queue.sent()[0].group, 2, 1)]).await;
    assert_eq!(overdue(&world, "cluster").await, 1);
}

#[tokio::test]
async fn a_feed_keeps_its_order_whatever_fails() {
    let world = world();
    for receives in 1..=6 {
        world.sender.answer(500, "");
        assert_eq!(
            world.work(vec![world.message("other", 1, receives), world.message("other", 2, receives)]).await.len(),
            2
        );
    }
    assert!(world.queue.sent().is_empty() && world.queue.deleted().is_empty());
}

#[tokio::test]
async fn one_time_out_is_set_aside_to_see_whether_the_next_one_passes() {
    let world = world();
    let time_out = || world.sender.answer_with(Err(SendError::TimedOut(Duration::from_secs(30))));
    for receives in 1..=3 {
        time_out();
        if receives == 3 {
            time_out(); // The next one times out, too: then it is the target's.
        }
        world.work(vec![world.message("cluster", 1, receives), world.message("cluster", 2, receives)]).await;
    }
    assert_eq!(world.queue.deleted(), ["cluster-1"]);
    for receives in 4..=8 {
        time_out();
        assert_eq!(world.work(vec![world.message("cluster", 2, receives)]).await, ["cluster-2"]);
    }
    // Once one passes, it was not the target's.
    world.sender.answer(200, "");
    world.work(vec![world.message("cluster", 3, 1)]).await;
    time_out();
    assert!(world.work(vec![world.message("cluster", 2, 9)]).await.is_empty());
}

#[tokio::test]
async fn a_receivers_400_or_404_rereads_its_token_once_before_it_is_judged() {
    for status in [400, 404] {
        let world = world();
        world.sender.answer(200, "");
        world.work(vec![world.message("cluster", 1, 1)]).await;
        world.secrets.set("ssm:/token", &["rotated"]);
        world.sender.answer(status, "");
        world.sender.answer(200, "");
        assert!(world.work(vec![world.message("cluster", 2, 1)]).await.is_empty());
        let sent = world.sender.sent();
        assert_eq!(sent.len(), 3);
        assert_ne!(sent[1].url, sent[2].url, "the path follows the token");
    }
}

#[tokio::test]
async fn an_unchanged_token_is_not_tried_twice() {
    let world = world();
    world.sender.answer(404, "");
    assert_eq!(world.work(vec![world.message("cluster", 1, 1)]).await.len(), 1);
    assert_eq!(world.sender.sent().len(), 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_had_holds_the_target_and_loses_nothing() {
    let world = world();
    world.secrets.fail(Some(FetchError::Unavailable("throttled".into())));
    assert_eq!(world.work(vec![world.message("cluster", 1, 1)]).await, ["cluster-1"]);
    assert!(world.letters().is_empty() && world.sender.sent().is_empty());
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_holds_the_target_until_it_is_mended() {
    let mut world = world();
    world.deliverer.relay = relay(&RELAY.replace(
        r#"other: { type: http, url: "https://other.example.com/" }"#,
        r#"other: { type: http, url: "https://other.example.com/", auth: { bearer: "ssm:/token" } }"#,
    ));
    world.secrets.set("ssm:/token", &["hunter2\n"]);
    assert_eq!(world.work(vec![world.message("other", 1, 1)]).await, ["other-1"]);
    assert!(world.letters().is_empty() && world.sender.sent().is_empty());
    world.secrets.set("ssm:/token", &["mended"]);
    world.clock.pass(Duration::from_secs(300));
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("other", 1, 2)]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspicious_message_for_which_no_time_is_left_is_not_taken_for_one_that_crashed() {
    let world = world();
    world.sender.take_seconds(25);
    world.sender.answer(200, "");
    let messages = vec![world.message("cluster", 1, 1), world.message("other", 2, 9)];
    let kept = world.deliverer.work(messages, Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(world.state.writes.load(Ordering::SeqCst), 0, "it was not begun");
}

#[tokio::test]
async fn what_egress_refuses_is_a_dead_letter_that_says_so() {
    let world = world();
    world.sender.answer_with(Err(SendError::Egress("egress: 169.254.169.254 is a metadata address".into())));
    world.work(vec![world.message("other", 1, 1)]).await;
    assert!(world.letters()[0].reason.starts_with("egress"));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_dead_letter_and_the_next_one_passes() {
    let world = world();
    world.sender.answer(200, "");
    let garbage = Received { body: "{\"v\":99}".into(), ..world.message("cluster", 1, 1) };
    assert!(world.work(vec![garbage, world.message("cluster", 2, 1)]).await.is_empty());
    let letter = &world.letters()[0];
    assert_eq!((letter.class, letter.body.as_deref()), (GivenUp::Undeliverable, Some("{\"v\":99}")));
}

/// A message whose body is of a later version.
fn of_a_later_version(message: Received) -> Received {
    Received { body: message.body.replacen("\"v\":1", "\"v\":2", 1), ..message }
}

#[tokio::test]
async fn what_a_deploy_makes_deliverable_waits_for_it_and_keeps_its_order() {
    let mut world = world();
    world.clock.pass(Duration::from_secs(1));
    let batch = |world: &World, receives| {
        let later = of_a_later_version(world.message("cluster", 3, receives));
        vec![world.message("fresh", 1, receives), world.message("fresh", 2, receives), later]
    };
    let kept = world.work(batch(&world, 1)).await;
    assert_eq!(kept, ["cluster-3", "fresh-1", "fresh-2"]);
    assert!(world.queue.held().iter().all(|(_, wait)| *wait == Duration::from_secs(30)));
    assert!(world.letters().is_empty() && world.sender.sent().is_empty());

    world.deliverer.relay =
        relay(&RELAY.replace("  other:", "  fresh: { type: http, url: \"https://fresh.example.com/\" }\n  other:"));
    world.sender.answer(200, "");
    world.sender.answer(200, "");
    assert_eq!(world.work(batch(&world, 2)).await, ["cluster-3"]);
    assert_eq!(world.queue.deleted(), ["fresh-1", "fresh-2"]);
}

#[tokio::test]
async fn what_no_deploy_made_deliverable_in_a_quarter_of_an_hour_is_a_dead_letter() {
    for (target, reason) in [("gone", "`gone`"), ("cluster", "version 2")] {
        let world = world();
        let mut waits = Vec::new();
        for receives in 1.. {
            let message = world.message(target, 1, receives);
            let message = if target == "cluster" { of_a_later_version(message) } else { message };
            if world.work(vec![message]).await.is_empty() {
                break;
            }
            let wait = world.queue.held().last().expect("held").1;
            world.clock.pass(wait);
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 240, 450]);
        let letter = &world.letters()[0];
        assert!(letter.class == GivenUp::Undeliverable && letter.reason.contains(reason), "{}", letter.reason);
    }
}

#[tokio::test]
async fn without_the_dead_letter_queue_the_message_stays() {
    let world = world();
    world.dead.set_down(true);
    world.sender.answer(413, "");
    assert_eq!(world.work(vec![world.message("cluster", 1, 1)]).await, ["cluster-1"]);
    assert!(world.queue.deleted().is_empty());
}

#[tokio::test]
async fn without_state_nothing_is_lost_and_nothing_is_hammered() {
    let world = world();
    world.state.set_down(true);
    // The first time there is nothing to be asked of it.
    world.sender.answer(503, "");
    // The queue gives up what was handed out a thousand times.
    for (receives, seconds) in [(1, 5), (2, 10), (12, 60), (500, 300)] {
        assert_eq!(world.work(vec![world.message("cluster", 1, receives)]).await, ["cluster-1"]);
        assert_eq!(world.queue.held().last().expect("held").1, Duration::from_secs(seconds), "{receives}");
    }
    assert_eq!(world.sender.sent().len(), 1);
}

#[tokio::test]
async fn what_came_back_again_and_again_while_the_state_was_away_is_not_blamed_for_the_end_of_a_process() {
    let world = world();
    world.state.set_down(true);
    for receives in 2..=20 {
        assert_eq!(world.work(vec![world.message("cluster", 1, receives)]).await, ["cluster-1"]);
    }
    world.state.set_down(false);
    for receives in 21..=24 {
        world.sender.die();
        let killed = world.work(vec![world.message("cluster", 1, receives)]);
        tokio::select! { biased; _ = killed => panic!("the process has died"), () = world.sender.died() => {} }
    }
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 1, 25)]).await.is_empty());
    assert!(world.letters().is_empty() && world.state.records.lock().expect("lock").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_hidden_for_as_long_as_it_may_take_and_that_is_waited_for_for_a_second() {
    let world = world();
    let batch = [world.message("cluster", 1, 1), world.message("other", 2, 1)];
    let deadline = Instant::now() + Duration::from_secs(120);
    world.deliverer.hide(&batch, deadline).await;
    assert_eq!(world.queue.held(), [(vec!["cluster-1".into(), "other-2".into()], Duration::from_secs(130))]);
    world.queue.fall_silent();
    let began = Instant::now();
    world.deliverer.hide(&batch, deadline).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_does_not_answer_takes_no_batch_past_its_time() {
    let world = world();
    world.state.fall_silent();
    world.sender.answer(503, "");
    let (began, time) = (Instant::now(), Duration::from_secs(60));
    let messages = vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1)];
    let kept = tokio::time::timeout(time, world.deliverer.work(messages, began + time)).await.expect("in time");
    assert_eq!(kept.len(), 2);
    assert!(world.queue.deleted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_is_not_overtaken() {
    // Delivered, or given up: the next one waits with the group until this one is off the queue.
    for status in [200, 413] {
        let world = world();
        world.sender.answer(status, "");
        world.queue.refuse_deletions(usize::MAX);
        let kept = world.work(vec![world.message("other", 1, 1), world.message("other", 2, 1)]).await;
        assert_eq!(kept, ["other-2"], "the platform may delete the first");
        assert_eq!(world.queue.held(), [(kept, Duration::ZERO)]);
        assert_eq!((world.sender.sent().len(), world.letters().len()), (1, usize::from(status == 413)));
    }
    // What is refused for a moment is tried again.
    let world = world();
    world.sender.answer(200, "");
    world.sender.answer(200, "");
    world.queue.refuse_deletions(3);
    assert!(world.work(vec![world.message("other", 1, 1), world.message("other", 2, 1)]).await.is_empty());
    assert_eq!(world.queue.deleted(), ["other-1", "other-2"]);
}

#[tokio::test]
async fn a_panic_takes_no_other_message_with_it_and_counts_as_an_attempt() {
    let world = world();
    *world.sender.poison.lock().expect("lock") = Some("app1\"");
    world.sender.answer(200, "");
    let messages = vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1), world.message("other", 3, 1)];
    let kept = world.work(messages).await;
    assert_eq!(kept, ["cluster-1", "cluster-2"]);
    assert_eq!(world.queue.held(), [(kept, Duration::from_secs(1))], "in their order");
    assert_eq!(world.queue.deleted(), ["other-3"]);
    assert_eq!(world.sender.sent().len(), 1, "what is behind it was not tried");
    assert_eq!(world.state.records.lock().expect("lock").len(), 1);
}

#[tokio::test]
async fn a_message_whose_attempts_end_the_process_is_tried_alone_and_then_given_up_as_crashed() {
    let world = world();
    let alone = || world.state.records.lock().expect("lock").values().filter(|one| one.value["alone"] == true).count();
    // Handed out five times, and no end recorded. The sixth time it is tried alone, and that is written down before.
    world.sender.die();
    let doomed = world.work(vec![world.message("cluster", 1, 6)]);
    tokio::select! { biased; _ = doomed => panic!("the process has died"), () = world.sender.died() => {} }
    assert_eq!(alone(), 1);
    // The process is gone, the message comes back: it is given up without being tried.
    assert!(world.work(vec![world.message("cluster", 1, 7)]).await.is_empty());
    assert_eq!(world.letters()[0].class, GivenUp::Crashed);
    assert!(world.sender.sent().is_empty());
}

#[tokio::test]
async fn what_waited_behind_a_failing_message_is_not_blamed_for_the_end_of_a_process() {
    let world = world();
    let batch = |receives| vec![world.message("cluster", 1, receives), world.message("cluster", 2, receives)];
    for receives in 1..=9 {
        world.sender.answer(503, "");
        assert_eq!(world.work(batch(receives)).await.len(), 2);
    }
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 1, 10)]).await.is_empty());
    // Nine times it was handed out, and never tried. Now the process is killed, whatever the reason, again and again.
    for receives in 10..=13 {
        world.sender.die();
        let killed = world.work(vec![world.message("cluster", 2, receives)]);
        tokio::select! { biased; _ = killed => panic!("the process has died"), () = world.sender.died() => {} }
    }
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 2, 14)]).await.is_empty());
    assert!(world.letters().is_empty());
    assert_eq!(world.queue.deleted(), ["cluster-1", "cluster-2"]);
    assert!(world.state.records.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn a_message_that_merely_waited_long_is_tried_alone_and_goes_on_as_any_other() {
    let world = world();
    world.sender.answer(503, "");
    assert_eq!(world.work(vec![world.message("cluster", 1, 40)]).await.len(), 1);
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 1, 41)]).await.is_empty());
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("cluster", 2, 40)]).await.is_empty());
    assert!(world.letters().is_empty() && world.state.records.lock().expect("lock").is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_time_for_a_whole_attempt_the_next_invocation_gets_the_message() {
    let world = world();
    world.sender.take_seconds(25);
    world.sender.answer(200, "");
    let messages = vec![world.message("cluster", 1, 1), world.message("cluster", 2, 1)];
    let kept = world.deliverer.work(messages, Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(kept.len(), 1, "the first took so long that 30 s for the second are not left");
    assert_eq!(world.queue.held()[0].1, Duration::ZERO);
    assert_eq!(world.sender.sent().len(), 1);
}

#[tokio::test]
async fn a_function_with_less_time_than_its_targets_time_out_still_tries() {
    let world = world();
    world.sender.answer(200, "");
    let messages = vec![world.message("cluster", 1, 1)];
    assert!(world.deliverer.work(messages, Instant::now() + Duration::from_secs(20)).await.is_empty());
}

#[tokio::test]
async fn no_reason_holds_a_secret_or_a_path_that_stands_for_one() {
    let world = world();
    world.secrets.set("ssm:/token", &["hunter2-token"]);
    let path =
        sluice::target::flux::hook_path(&sluice::domain::secret::Secret::new("hunter2-token"), "images", "flux-system");
    for answer in [response(404, &[], ""), response(400, &[], ""), response(500, &[], ""), response(413, &[], "")] {
        world.sender.answer_with(Ok(answer));
        world.work(vec![world.message("cluster", 1, 2)]).await;
    }
    let everything = format!(
        "{:?} {:?} {:?} {:?}",
        world.dead.sent(),
        world.queue.sent(),
        world.state.records.lock().expect("lock"),
        world.sender.sent()
    );
    assert!(!everything.contains("hunter2") && !everything.contains(&path), "{everything}");
}

#[tokio::test]
async fn an_answer_that_repeats_what_it_was_sent_is_not_repeated() {
    let path =
        sluice::target::flux::hook_path(&sluice::domain::secret::Secret::new("hunter2-token"), "images", "flux-system");
    let digest = path.rsplit('/').next().expect("a digest");
    for echo in [
        format!("Cannot POST {path}"),
        format!("{{\"path\":\"\\/hook\\/{digest}\",\"x-signature\":\"hunter2-token\"}}"),
        // The excerpt would end in the middle of it.
        format!("{} hunter2-token", "x".repeat(192)),
    ] {
        for status in [400, 404, 413, 500] {
            let world = world();
            world.secrets.set("ssm:/token", &["hunter2-token"]);
            for _ in 0..2 {
                world.sender.answer_with(Ok(response(status, &[], &echo)));
            }
            world.work(vec![world.message("cluster", 1, 1)]).await;
            let records = world.state.records.lock().expect("lock").clone();
            let everything = format!("{:?} {:?} {:?}", world.dead.sent(), world.queue.sent(), records);
            // The breaker keeps what it was told, and so does a dead letter.
            assert_eq!(everything.contains("***"), matches!(status, 404 | 413), "{status}: {everything}");
            assert!(!everything.contains("hunter2") && !everything.contains(digest), "{status}: {everything}");
        }
    }
}

// The breaker

#[tokio::test]
async fn an_answer_that_somebody_has_to_mend_opens_the_breaker_and_an_operator_is_told_once() {
    for status in [401, 403, 404, 410] {
        let world = world();
        let mut waits = Vec::new();
        for receives in 1..=4 {
            world.sender.answer(status, "so it says");
            assert_eq!(world.work(vec![world.message("guarded", 1, receives)]).await, ["guarded-1"]);
            waits.push(world.queue.held().last().expect("held").1.as_secs());
            world.clock.pass(Duration::from_secs(waits[waits.len() - 1]));
        }
        assert_eq!(waits, [1, 2, 4, 8], "{status}");
        let notices = world.notices();
        let [(Status::Firing, title, text)] = &notices[..] else { panic!("one notice: {notices:?}") };
        assert_eq!(title, "guarded takes no deliveries");
        assert!(text.starts_with(&format!("{status}: ")) && text.contains("so it says"), "{text}");
        assert_eq!(world.meter.total("BreakersOpened"), 1.0);
    }
}

#[tokio::test]
async fn while_the_breaker_is_open_nothing_else_is_tried_whatever_group_it_is_in() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    let aside = received(&delivery("guarded", 2, world.clock.now()), "guarded!2", 2, 2);
    let kept = world.work(vec![world.message("guarded", 3, 2), aside, world.message("other", 4, 2)]);
    world.sender.answer(200, "");
    assert_eq!(kept.await, ["guarded-3", "guarded!2-2"], "and other targets are none of its business");
    assert_eq!(world.sender.sent().len(), 2);
    assert!(world.queue.held().iter().all(|(_, wait)| *wait == Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn one_delivery_at_a_time_is_tried_while_the_breaker_is_open_and_a_process_that_dies_over_it_keeps_nobody_back() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    world.clock.pass(Duration::from_secs(1));
    let aside = || received(&delivery("guarded", 2, FakeClock::default().now()), "guarded!2", 2, 2);
    world.sender.take_seconds(5);
    world.sender.answer(401, "");
    assert_eq!(world.work(vec![world.message("guarded", 1, 2), aside()]).await.len(), 2);
    assert_eq!(world.sender.sent().len(), 2, "the one that opened it, and one of the two");

    world.clock.pass(Duration::from_secs(2));
    world.sender.die();
    let doomed = world.work(vec![world.message("guarded", 1, 3)]);
    tokio::select! { biased; _ = doomed => panic!("the process has died"), () = world.sender.died() => {} }
    assert_eq!(world.work(vec![aside()]).await.len(), 1, "not yet");
    world.clock.pass(Duration::from_secs(36));
    world.sender.answer(200, "");
    assert!(world.work(vec![aside()]).await.is_empty());
}

#[tokio::test]
async fn a_suspicious_message_may_be_the_one_that_is_tried_while_the_breaker_is_open() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    world.clock.pass(Duration::from_secs(1));
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("guarded", 2, 9)]).await.is_empty());
}

#[tokio::test]
async fn what_passes_closes_the_breaker_and_that_is_told_too() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1), world.message("guarded", 2, 1)]).await;
    world.clock.pass(Duration::from_secs(1));
    world.sender.answer(200, "");
    world.sender.answer(200, "");
    assert!(world.work(vec![world.message("guarded", 1, 2), world.message("guarded", 2, 2)]).await.is_empty());
    let [(Status::Firing, began, _), (Status::Resolved, ended, _)] = &world.notices()[..] else {
        panic!("two notices")
    };
    assert_eq!(began, ended, "one and the same alert");
    let records = world.state.records.lock().expect("lock").len();
    assert_eq!(records, 0, "nothing is left of it");
}

#[tokio::test]
async fn a_breaker_that_nothing_waits_behind_any_more_is_closed_by_the_next_delivery() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    // What had opened it is gone: an operator has discarded it, say.
    world.sender.answer(200, "");
    let fresh = delivery("guarded", 2, world.clock.now());
    assert!(world.work(vec![received(&fresh, "guarded", 2, 1)]).await.is_empty());
    assert_eq!(world.notices().len(), 2);
    assert!(world.state.records.lock().expect("lock").keys().all(|key| key.sk != "breaker"));
}

#[tokio::test]
async fn a_delivery_whose_time_is_over_does_not_wait_for_the_breaker() {
    let world = world();
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    world.clock.pass(Duration::from_secs(7199));
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 2)]).await;
    world.clock.pass(Duration::from_secs(1));
    // Handed out in batches of one; none is tried, and the operator is told once.
    for number in [1, 2, 3] {
        assert!(world.work(vec![world.message("guarded", number, 2)]).await.is_empty());
    }
    assert_eq!(world.sender.sent().len(), 2);
    let letters = world.letters();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.class == GivenUp::Expired && letter.reason.contains("credential")));
    let events = |world: &World| world.notices().iter().filter(|(status, ..)| *status == Status::Event).count();
    assert_eq!(events(&world), 1);
    world.clock.pass(Duration::from_secs(3600));
    world.sender.answer(413, "");
    world.work(vec![received(&delivery("guarded", 4, world.clock.now()), "guarded", 4, 1)]).await;
    assert_eq!(events(&world), 2, "an hour later once more");
}

#[tokio::test]
async fn failures_that_pass_by_themselves_open_no_breaker() {
    let world = world();
    for (receives, status) in [(1, 429), (2, 500), (3, 502), (4, 503), (5, 504)] {
        world.sender.answer(status, "");
        world.work(vec![world.message("guarded", 1, receives)]).await;
    }
    world.sender.answer_with(Err(SendError::Connect("refused".into())));
    world.work(vec![world.message("guarded", 1, 6)]).await;
    assert!(world.notices().is_empty());
    assert_eq!(world.sender.sent().len(), 6);
}

#[tokio::test]
async fn an_operator_who_could_not_be_told_is_told_after_the_next_attempt() {
    let world = world();
    world.queue.refuse_sends(true);
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 1)]).await;
    world.queue.refuse_sends(false);
    world.clock.pass(Duration::from_secs(1));
    world.sender.answer(401, "");
    world.work(vec![world.message("guarded", 1, 2)]).await;
    assert_eq!(world.notices().len(), 1);
}

/// An alert about a commit, for the target `status`.
fn about_a_commit(number: u32, queued: Timestamp) -> Delivery {
    let mut told = delivery("status", number, queued);
    let mut alert =
        Alert::new(format!("apps-{number}"), Status::Firing, Severity::Error, "Kustomization apps: BuildFailed");
    alert.labels.insert("revision".into(), format!("main@sha1:{number:040}"));
    told.event.detail = Detail::Alert(Box::new(Alerts::one(alert)));
    told
}

#[tokio::test]
async fn an_alert_about_a_commit_that_is_not_there_is_given_up_and_the_one_behind_it_passes() {
    for (of, answers) in [
        ("gitlab-status", vec![(404, r#"{"message":"404 Commit Not Found"}"#), (201, "{}")]),
        ("gitea-status", vec![(500, r#"{"message":""}"#), (404, r#"{"message":"not found"}"#), (201, "{}")]),
    ] {
        let mut world = world();
        world.deliverer.relay =
            relay(&format!("targets: {{ status: {{ type: {of}, repository: acme/app, token: 'ssm:/token' }} }}"));
        for (status, body) in answers {
            world.sender.answer_with(Ok(response(status, &[], body)));
        }
        let message = |number| received(&about_a_commit(number, world.clock.now()), "status", number, 1);
        assert!(world.work(vec![message(1), message(2)]).await.is_empty(), "{of}");
        assert_eq!(world.queue.deleted(), ["status-1", "status-2"], "{of}");
        let letters = world.letters();
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(letter.class, GivenUp::Rejected, "{of}");
        assert!(letter.reason.contains("no such commit"), "{of}: {}", letter.reason);
    }
}

#[tokio::test]
async fn what_follows_up_a_request_decides_what_becomes_of_the_delivery() {
    let world = world();
    let mut alert = Alert::new("apps", Status::Firing, Severity::Error, "Kustomization apps: BuildFailed");
    alert.labels.insert("change_request".into(), "12".into());
    let mut told = delivery("review", 1, world.clock.now());
    told.event.detail = Detail::Alert(Box::new(Alerts::one(alert)));
    let message = |receives| received(&told, "review", 1, receives);
    world.sender.answer(200, "[]");
    world.sender.answer(503, "");
    assert_eq!(world.work(vec![message(1)]).await, ["review-1"], "nothing is written yet");
    world.sender.answer(200, "[]");
    world.sender.answer(201, "{}");
    assert!(world.work(vec![message(2)]).await.is_empty());
    let methods: Vec<_> = world.sender.sent().iter().map(|request| request.method.to_string()).collect();
    assert_eq!(methods, ["GET", "POST", "GET", "POST"]);
}

/// A queue that nothing can be had of.
struct Unreachable;

#[async_trait]
impl Outbox for Unreachable {
    fn limit(&self) -> usize {
        0
    }

    async fn send(&self, _: &[Message]) -> Result<(), Unavailable> {
        Err(unreachable())
    }
}

#[async_trait]
impl Queue for Unreachable {
    async fn receive(&self, _: usize, wait: Duration) -> Result<Vec<Received>, Unavailable> {
        tokio::time::sleep(wait).await;
        Err(unreachable())
    }

    async fn delete(&self, _: &Received) -> Result<(), Unavailable> {
        Err(unreachable())
    }

    async fn hold(&self, _: &[Received], _: Duration) -> Result<(), Unavailable> {
        Err(unreachable())
    }
}

fn unreachable() -> Unavailable {
    Unavailable { what: "queue", message: "no connection".into() }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_cannot_reach_its_queue_is_alive_and_not_well() {
    let (_stop, stopping) = watch::channel(false);
    let (pulse, felt) = watch::channel(Pulse::begin());
    let deliverer = Arc::new(world().deliverer);
    let consumer = Consumer { queue: Arc::new(Unreachable), deliverer, may_give_up: false, pulse };
    let running = tokio::spawn(consumer.run(stopping));
    let health = || (felt.borrow().is_alive(), felt.borrow().is_well());
    assert_eq!(health(), (true, true));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(health(), (true, false));
    running.abort();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(health(), (false, false));
}

#[tokio::test]
async fn a_delivery_for_whose_token_nobody_answers_was_not_sent_and_waits() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut world = world();
    let key =
        String::from_utf8(std::process::Command::new("openssl").args(["genrsa", "2048"]).output().expect("run").stdout);
    world.secrets.set("ssm:/key", &[&key.expect("text")]);
    world.deliverer.sender = Arc::new(TokenSender::new());
    world.deliverer.relay = relay(&format!(
        "targets:
  once:
    type: github-dispatch
    repository: acme/app
    api_url: http://{}
    app_id: 1
    installation_id: 2
    private_key: ssm:/key
    timeout: 1s
    retry: {{ unanswered: give_up }}
egress: {{ allow: [127.0.0.0/8] }}",
        silent.local_addr().expect("address")
    ));
    assert_eq!(world.work(vec![world.message("once", 1, 1)]).await, ["once-1"]);
    silent.accept().await.expect("it was asked for a token");
    assert!(world.letters().is_empty() && world.queue.deleted().is_empty());
}
