//! Overdue deliveries: they are counted, logged and answered by target, and nothing that is slow keeps the function.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::json;
use sluice::overdue::{Late, Overdue};
use sluice::port::{Clock as _, Key, Record, State, Unavailable};
use tokio::time::Instant;

use crate::fakes::{FakeClock, FakeMeter, FakeState, relay};

const RELAY: &str = r#"
targets:
  one: { type: http, url: "https://one.example.com/" }
  two: { type: http, url: "https://two.example.com/", agent: inside }
"#;

fn overdue(state: Arc<dyn State>) -> (Overdue, Arc<FakeMeter>) {
    let meter = Arc::new(FakeMeter::default());
    let after = Duration::from_secs(600);
    let clock = Arc::new(FakeClock::default());
    (Overdue { relay: relay(RELAY), state, clock, meter: meter.clone(), after }, meter)
}

/// Notes a delivery as `deliver` does; one without an age as versions did that did not note it.
async fn note(state: &FakeState, target: &str, id: u32, minutes: Option<i64>) {
    let now = FakeClock::default().now();
    let mut value = json!({ "count": 3, "receives": 3, "alone": false });
    if let Some(minutes) = minutes {
        value["queued"] = json!(now - SignedDuration::from_mins(minutes));
    }
    let key = Key { pk: format!("target#{target}"), sk: format!("delivery#{id}#0") };
    state.put(&key, Record { value, expires: now + SignedDuration::from_hours(48) }).await.expect("state");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn what_failed_and_was_queued_too_long_ago_is_told_by_target_those_of_agents_too() {
    let state = Arc::new(FakeState::default());
    let (overdue, meter) = overdue(state.clone());
    assert_eq!(overdue.run(soon()).await, []);
    for (target, id, minutes) in
        [("one", 1, Some(9)), ("two", 2, Some(11)), ("two", 3, Some(20)), ("two", 4, Some(10)), ("two", 5, None)]
    {
        note(&state, target, id, minutes).await;
    }
    let breaker = Key { pk: "target#one".into(), sk: "breaker".into() };
    let expires = FakeClock::default().now() + SignedDuration::from_hours(1);
    state.put(&breaker, Record { value: json!({ "queued": "2020-01-01T00:00:00Z" }), expires }).await.expect("state");
    let oldest = "2026-08-20T11:40:00Z".parse().expect("time");
    assert_eq!(overdue.run(soon()).await, [Late { target: "two".into(), deliveries: 2, oldest }]);
    assert_eq!(*meter.0.lock().expect("lock"), [("OverdueDeliveries", "two".to_owned(), 2.0)]);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_not_taken_for_deliveries() {
    let state = Arc::new(FakeState::default());
    note(&state, "one", 1, Some(60)).await;
    state.set_down(true);
    let (overdue, meter) = overdue(state);
    assert_eq!(overdue.run(soon()).await, []);
    assert!(meter.0.lock().expect("lock").is_empty());
}

/// A state that never answers.
struct Silence;

#[async_trait]
impl State for Silence {
    async fn get(&self, _: &Key) -> Result<Option<Record>, Unavailable> {
        std::future::pending().await
    }

    async fn put(&self, _: &Key, _: Record) -> Result<(), Unavailable> {
        std::future::pending().await
    }

    async fn create(&self, _: &Key, _: Record) -> Result<bool, Unavailable> {
        std::future::pending().await
    }

    async fn delete(&self, _: &Key) -> Result<(), Unavailable> {
        std::future::pending().await
    }

    async fn list(&self, _: &str) -> Result<Vec<(Key, Record)>, Unavailable> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_never_answers_does_not_keep_the_function() {
    let began = Instant::now();
    assert_eq!(overdue(Arc::new(Silence)).0.run(began + Duration::from_secs(60)).await, []);
    assert_eq!(began.elapsed(), Duration::from_secs(59));
}
