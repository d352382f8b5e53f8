//! What else AWS tells: events of single services, any other event, and messages of SNS.

use sluice::domain::alert::{Alert, Severity, Status};
use sluice::source::{Invocation, SNS};

use super::*;

fn folder() -> Folder {
    super::folder("aws")
}

fn alerts(sample: &str) -> Vec<Alert> {
    let found = folder().outcome(sample).expect("parsed").events.remove(0);
    let Detail::Alert(alerts) = found.detail else { panic!("an alert") };
    alerts.alerts
}

fn alert(sample: &str) -> Alert {
    alerts(sample).remove(0)
}

#[test]
fn what_failed_and_what_then_went_well_have_one_key() {
    for (bad, good) in [
        ("codepipeline-failed.json", "codepipeline-succeeded.json"),
        ("ecs-deployment-failed.json", "ecs-deployment-completed.json"),
    ] {
        let (bad, good) = (alert(bad), alert(good));
        assert_eq!((bad.status, bad.severity), (Status::Firing, Severity::Error));
        assert_eq!((good.status, good.recovers, &good.key), (Status::Event, true, &bad.key));
    }
    for (fires, over) in
        [("health.json", "health-closed.json"), ("inspector-finding.json", "inspector-finding-closed.json")]
    {
        let (fires, over) = (alert(fires), alert(over));
        assert_eq!((fires.status, over.status, &over.key), (Status::Firing, Status::Resolved, &fires.key));
    }
}

#[test]
fn a_task_that_was_stopped_on_purpose_is_no_failure() {
    assert_eq!(alert("ecs-task-stopped.json").severity, Severity::Error);
    assert_eq!(alert("ecs-task-stopped-by-deployment.json").severity, Severity::Info);
    assert!(folder().outcome("ecs-task-running.json").expect("parsed").events.is_empty());
}

#[test]
fn findings_that_come_together_are_one_group_each_with_its_own_key() {
    let alerts = alerts("security-hub.json");
    let told: Vec<_> = alerts.iter().map(|alert| (alert.status, alert.severity)).collect();
    assert_eq!(told, [(Status::Firing, Severity::Error), (Status::Resolved, Severity::Critical)]);
    assert_ne!(alerts[0].key, alerts[1].key);
}

#[test]
fn any_other_event_is_told_from_its_envelope() {
    let alert = alert("any-other-event.json");
    assert_eq!(alert.title, "EC2 Instance State-change Notification");
    let text = alert.text.expect("facts");
    assert!(text.contains("state: terminated") && text.contains("nested.list: a, b"), "{text}");
    assert!(!text.contains("deeper") && !text.contains("nothing"), "{text}");
}

#[test]
fn an_alarm_is_told_as_by_a_source_of_type_cloudwatch() {
    for sample in ["sns-alarm.json", "cloudwatch-alarm.json", "cloudwatch-lambda-action.json"] {
        let theirs = super::folder("cloudwatch").outcome("eventbridge-alarm.json").expect("parsed");
        assert_eq!(identities(&folder().outcome(sample).expect("parsed")), identities(&theirs), "{sample}");
    }
}

#[test]
fn an_event_that_sns_brings_is_told_as_that_event() {
    let direct = folder().outcome("guardduty.json").expect("parsed");
    assert_eq!(folder().outcome("sns-event-of-eventbridge.json").expect("parsed").events, direct.events);
}

#[test]
fn what_a_source_of_type_cloudwatch_names_is_not_for_this_one() {
    let file = |cloudwatch: Value| json!({ "sources": { "a": { "type": "aws" }, "b": cloudwatch }, "targets": {}, "routes": [] });
    let warnings = |cloudwatch: Value| {
        let mut problems = sluice::relay::format::Problems::default();
        Relay::read(&file(cloudwatch), &mut problems).expect("sound");
        problems.0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let topic = "arn:aws:sns:eu-west-1:111122223333:alerts";
    assert_eq!(warnings(json!({ "type": "cloudwatch", "topics": topic })), Vec::<String>::new());
    let any = warnings(json!({ "type": "cloudwatch" }));
    assert!(matches!(&any[..], [one] if one.contains("sources.a") && one.contains("`topics`")), "{any:?}");
    let relay = Relay::from_value(&file(json!({ "type": "cloudwatch", "topics": topic }))).expect("sound");
    let notice = |topic: &str| Invocation { source: SNS.into(), topic: Some(topic.into()), ..Invocation::default() };
    let covers = |name: &str, invocation: &Invocation| relay.sources[name].claim().expect("claims").covers(invocation);
    assert!(covers("a", &notice(topic)) && covers("b", &notice(topic)));
    let other = notice("arn:aws:sns:eu-west-1:111122223333:ops");
    assert!(covers("a", &other) && !covers("b", &other));
}
