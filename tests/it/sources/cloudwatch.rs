//! Amazon CloudWatch: the same alarm, whichever way it comes.

use sluice::domain::alert::{Alert, Status};
use sluice::source::{Invocation, SNS};

use super::*;

fn folder() -> Folder {
    super::folder("cloudwatch")
}

fn alert(sample: &str) -> (Found, Alert) {
    let found = folder().outcome(sample).expect("parsed").events.remove(0);
    let Detail::Alert(alerts) = &found.detail else { panic!("an alert") };
    assert_eq!(alerts.group, alerts.alerts[0].key);
    let alert = alerts.alerts[0].clone();
    (found, alert)
}

#[test]
fn one_change_of_an_alarm_is_the_same_event_in_every_form() {
    let (first, _) = alert("sns-alarm.json");
    for sample in ["sns-posted-alarm.json", "eventbridge-alarm.json", "lambda-action.json"] {
        let (found, told) = alert(sample);
        assert_eq!(found.identity, first.identity, "{sample}");
        assert_eq!(told.key, "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:checkout-5xx", "{sample}");
        assert_eq!(
            (told.status, told.labels["LoadBalancer"].as_str()),
            (Status::Firing, "app/checkout/50dc6c495c0c9188")
        );
    }
}

#[test]
fn what_is_over_has_the_key_of_what_fired_and_another_identity() {
    let (fired, firing) = alert("sns-alarm.json");
    for sample in ["sns-ok.json", "eventbridge-ok.json"] {
        let (over, resolved) = alert(sample);
        assert_eq!((resolved.status, &resolved.key), (Status::Resolved, &firing.key), "{sample}");
        assert_ne!(over.identity, fired.identity, "{sample}");
    }
}

#[test]
fn too_little_data_is_an_event_that_begins_and_ends_nothing() {
    let (found, alert) = alert("sns-insufficient-data.json");
    assert_eq!((alert.status, alert.reason.as_deref()), (Status::Event, Some("INSUFFICIENT_DATA")));
    let file = json!({ "targets": { "oncall": { "type": "pagerduty", "routing_key": "env:KEY" } } });
    let relay = Relay::from_value(&file).expect("sound");
    let (_, event) = folder().entry().event(&Name::parse("alarms").expect("name"), found, "request", 0);
    assert!(relay.targets["oncall"].target.wants(&event, None).is_err());
}

#[test]
fn a_message_without_the_alarms_arn_has_the_same_key() {
    assert_eq!(alert("sns-alarm-without-arn.json").1.key, alert("sns-alarm.json").1.key);
}

#[test]
fn invocations_need_no_secret_and_say_the_same() {
    let folder = folder();
    for sample in ["sns-alarm.json", "eventbridge-alarm.json", "lambda-action.json"] {
        let request = Request { via: Via::Invocation, ..folder.request(&folder.path.join(sample)) };
        assert_eq!(folder.parse(&request, &Resolved::default()), folder.outcome(sample), "{sample}");
    }
}

#[test]
fn topics_decide_which_messages_are_claimed_and_nothing_else() {
    let folder = folder();
    let claim = folder.entry().claim().expect("claims");
    let notice = |topic: &str| Invocation {
        source: SNS.into(),
        account: Some("111122223333".into()),
        region: Some("eu-west-1".into()),
        topic: Some(topic.into()),
        ..Invocation::default()
    };
    assert!(claim.covers(&notice("arn:aws:sns:eu-west-1:111122223333:alerts")));
    assert!(!claim.covers(&notice("arn:aws:sns:eu-west-1:111122223333:budgets")));
    let event = |source: &str| Invocation { source: source.into(), topic: None, ..notice("") };
    assert!(claim.covers(&event("aws.cloudwatch")));
    assert!(!claim.covers(&event("aws.ecs")));
}

#[test]
fn what_is_no_arn_of_a_topic_is_a_problem_with_its_place() {
    let file =
        json!({ "sources": { "a": { "type": "cloudwatch", "topics": ["alerts"] } }, "targets": {}, "routes": [] });
    let why = Relay::from_value(&file).expect_err("no ARN");
    assert!(why.contains("sources.a.topics") && why.contains("arn:aws:sns:REGION:ACCOUNT:NAME"), "{why}");
}
