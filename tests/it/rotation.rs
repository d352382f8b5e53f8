//! The token of a Receiver is changed in the middle of traffic: the deliverer against the double, over HTTP.
//!
//! The relay's store and the cluster never learn of it at the same time, and in the cluster signatures are checked by
//! the new token before the path follows it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sluice::deliver::Deliverer;
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::port::{Clock as _, Received};
use sluice::rim::sender::HttpSender;
use sluice::secrets::CACHE;
use tokio::time::Instant;

use crate::fakes::{FakeClock, FakeMeter, FakeQueue, FakeSecrets, FakeState, relay, store};
use crate::receiver::{FluxReceivers, Receiver, TYPES};

/// A relay, a cluster, and what is on its way between them.
struct Traffic {
    deliverer: Deliverer,
    secrets: Arc<FakeSecrets>,
    clock: Arc<FakeClock>,
    queue: Arc<FakeQueue>,
    dead: Arc<FakeQueue>,
    flux: FluxReceivers,
    waiting: VecDeque<Received>,
    pushed: usize,
    set_aside: usize,
}

impl Traffic {
    fn of(kind: &str) -> Self {
        let flux = FluxReceivers::with(Receiver::new(kind, "apps", "flux-system", "old"));
        let (secrets, clock) = (Arc::new(FakeSecrets::default()), Arc::new(FakeClock::default()));
        secrets.set("ssm:/token", &["old"]);
        let queue = || Arc::new(FakeQueue { clock: clock.clone(), ..FakeQueue::default() });
        let (queue, dead) = (queue(), queue());
        let deliverer = Deliverer {
            relay: relay(&format!(
                "
sources: {{ ecr: {{ type: github, secret: 'ssm:/s' }} }}
targets:
  cluster:
    type: flux
    url: {}
    receiver: {{ type: {kind}, name: apps, namespace: flux-system }}
    token: 'ssm:/token'
routes: [{{ to: cluster }}]
egress: {{ allow: [127.0.0.0/8] }}
",
                flux.url()
            )),
            secrets: store(&secrets, &clock),
            queue: queue.clone(),
            dead_letters: dead.clone(),
            state: Arc::new(FakeState::default()),
            sender: Arc::new(HttpSender::new()),
            clock: clock.clone(),
            meter: Arc::new(FakeMeter::default()),
            chance: || 0.5,
            memory: Default::default(),
        };
        let waiting = VecDeque::new();
        Self { deliverer, secrets, clock, queue, dead, flux, waiting, pushed: 0, set_aside: 0 }
    }

    /// Pushes of three images.
    fn push(&mut self) {
        for _ in 0..3 {
            self.pushed += 1;
            let identity = format!("push {}", self.pushed);
            let source = Name::parse("ecr").expect("name");
            let event = Event {
                detail: Detail::ImagePush(ImagePush {
                    repository: format!("ghcr.io/acme/app{}", self.pushed),
                    tag: Some("1".into()),
                    tags: vec!["1".into()],
                    ..ImagePush::default()
                }),
                id: Event::id_of(&source, &identity),
                source,
                cluster: None,
                labels: Default::default(),
                time: None,
            };
            let target = Name::parse("cluster").expect("name");
            let delivery = Delivery::new(event, &identity, &target, None, self.clock.now());
            let body = delivery.encode(262_144).expect("fits");
            self.hand_out(identity, "cluster".into(), body);
        }
    }

    fn hand_out(&mut self, message_id: String, group: String, body: String) {
        self.waiting.push_back(Received { receipt: message_id.clone(), message_id, group, receives: 1, body });
    }

    /// Hands out everything once, as the queue does when what was held comes back.
    async fn round(&mut self) {
        let messages: Vec<_> = self.waiting.drain(..).collect();
        let kept = self.deliverer.work(messages, Instant::now() + Duration::from_secs(120)).await;
        self.waiting.extend(kept.into_iter().map(|message| Received { receives: message.receives + 1, ..message }));
        let aside: Vec<_> = self.queue.sent().into_iter().skip(self.set_aside).collect();
        self.set_aside += aside.len();
        for message in aside {
            self.hand_out(message.deduplication_id, message.group, message.body);
        }
        let wait = self.queue.held().last().map_or(Duration::ZERO, |(_, wait)| *wait);
        self.clock.pass(wait.max(Duration::from_secs(1)));
    }

    /// Works until nothing waits any more, and wants every push to have come exactly once.
    async fn all_arrive(&mut self, when: &str) {
        for _ in 0..40 {
            if self.waiting.is_empty() {
                break;
            }
            self.round().await;
        }
        let accepted = self.flux.accepted();
        let bodies: BTreeSet<_> = accepted.iter().map(|request| request.body.clone()).collect();
        assert_eq!((accepted.len(), bodies.len()), (self.pushed, self.pushed), "{when}: {:#?}", self.flux.requests());
        assert!(self.waiting.is_empty() && self.dead.sent().is_empty(), "{when}");
    }
}

/// The types that have a token.
fn kinds() -> impl Iterator<Item = &'static str> {
    TYPES.into_iter().filter(|kind| !matches!(*kind, "gcr" | "generic-oidc"))
}

#[tokio::test]
async fn a_token_that_the_relay_knows_before_the_cluster_loses_and_doubles_nothing() {
    for kind in kinds() {
        let mut traffic = Traffic::of(kind);
        traffic.push();
        traffic.all_arrive(&format!("{kind}, before")).await;
        traffic.flux.assert_nothing_rejected();

        traffic.secrets.set("ssm:/token", &["new", "old"]);
        traffic.push();
        traffic.all_arrive(&format!("{kind}, the relay has not noticed")).await;
        traffic.flux.assert_nothing_rejected();

        traffic.clock.pass(CACHE);
        traffic.push();
        traffic.all_arrive(&format!("{kind}, the relay has it, the cluster does not")).await;

        traffic.flux.change_secret("apps", "new");
        traffic.push();
        traffic.all_arrive(&format!("{kind}, the cluster's Secret has it, the path does not")).await;

        traffic.flux.reconcile("apps");
        let before = traffic.flux.requests().len();
        traffic.push();
        traffic.all_arrive(&format!("{kind}, after")).await;
        assert_eq!(traffic.flux.requests().len() - before, 3, "{kind}: the first try is right again");
        assert!(traffic.queue.held().is_empty() && traffic.set_aside == 0, "{kind}: nothing ever had to wait");
    }
}

#[tokio::test]
async fn a_token_that_the_cluster_has_before_the_relay_looks_again_loses_and_doubles_nothing() {
    for kind in kinds() {
        for reconciled in [false, true] {
            let mut traffic = Traffic::of(kind);
            traffic.push();
            traffic.all_arrive(&format!("{kind}, before")).await;
            traffic.secrets.set("ssm:/token", &["new", "old"]);
            traffic.flux.change_secret("apps", "new");
            if reconciled {
                traffic.flux.reconcile("apps");
            }
            traffic.push();
            traffic.all_arrive(&format!("{kind}, the relay's is cached, reconciled: {reconciled}")).await;
            traffic.flux.reconcile("apps");
            traffic.push();
            traffic.all_arrive(&format!("{kind}, after")).await;
            assert!(traffic.queue.held().is_empty(), "{kind}: the token was read anew at once");
        }
    }
}

#[tokio::test]
async fn a_token_that_the_cluster_has_long_before_our_store_keeps_deliveries_waiting_and_loses_and_doubles_nothing() {
    for kind in kinds() {
        for reconciled in [false, true] {
            let mut traffic = Traffic::of(kind);
            traffic.push();
            traffic.all_arrive(&format!("{kind}, before")).await;
            traffic.flux.change_secret("apps", "new");
            if reconciled {
                traffic.flux.reconcile("apps");
            }
            traffic.push();
            for _ in 0..8 {
                traffic.round().await;
            }
            traffic.secrets.set("ssm:/token", &["new", "old"]);
            traffic.push();
            traffic.all_arrive(&format!("{kind}, our store has it at last, reconciled: {reconciled}")).await;
        }
    }
}

#[tokio::test]
async fn a_refusal_while_a_token_is_being_changed_is_judged_by_the_receiver_that_looked_at_the_event() {
    // The relay has the new token; the Receiver at the old path refuses every signature, as one of another type would.
    let mut traffic = Traffic::of("github");
    traffic.secrets.set("ssm:/token", &["new", "old"]);
    traffic.flux.change_secret("apps", "another");
    traffic.push();
    for _ in 0..3 {
        traffic.round().await;
    }
    assert!(traffic.set_aside > 0, "400 may be the event's own fault, so that it does not hold up those behind it");

    let mut traffic = Traffic::of("github");
    traffic.secrets.set("ssm:/token", &["new", "old"]);
    traffic.flux.suspend("apps");
    traffic.push();
    for _ in 0..4 {
        traffic.round().await;
    }
    assert_eq!(traffic.set_aside, 0, "suspended: the next event would fare no better");
    assert_eq!(traffic.flux.requests().last().map(|request| request.status), Some(503));
    traffic.flux.resume("apps");
    traffic.all_arrive("resumed").await;
}
