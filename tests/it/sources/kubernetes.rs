//! Kubernetes' events, in either API's words and in what exporters wrap them in.

use sluice::domain::alert::{Alert, Severity, Status};

use super::*;

fn kubernetes() -> Folder {
    folder("kubernetes")
}

fn told(sample: &str) -> Parsed {
    kubernetes().outcome(sample).expect("parsed")
}

fn sent(sample: &str, change: impl Fn(&mut Value)) -> Parsed {
    let mut body = kubernetes().json(sample);
    change(&mut body);
    kubernetes().outcome_of_body(sample, body.to_string()).expect("parsed")
}

/// The alerts in a request, each told alone.
fn alerts(parsed: &Parsed) -> Vec<&Alert> {
    groups(parsed)
        .into_iter()
        .map(|group| {
            assert_eq!(group.alerts.len(), 1, "each event is one of its own");
            &group.alerts[0]
        })
        .collect()
}

fn first(parsed: &Parsed) -> &Alert {
    alerts(parsed)[0]
}

fn identity(parsed: &Parsed) -> &str {
    identities(parsed)[0].expect("an identity")
}

#[test]
fn both_apis_say_the_same_in_their_own_words() {
    let core = told("core-v1-backoff.json");
    let other = sent("core-v1-backoff.json", |body| {
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": null, "series": null, "related": null,
        });
        for (core, new) in [
            ("metadata", "metadata"),
            ("involvedObject", "regarding"),
            ("message", "note"),
            ("reason", "reason"),
            ("type", "type"),
            ("source", "deprecatedSource"),
            ("count", "deprecatedCount"),
            ("firstTimestamp", "deprecatedFirstTimestamp"),
            ("lastTimestamp", "deprecatedLastTimestamp"),
            ("reportingComponent", "reportingController"),
        ] {
            event[new] = body[core].clone();
        }
        *body = event;
    });
    assert_eq!(core.events, other.events);
}

#[test]
fn an_event_says_the_same_in_whatever_it_is_wrapped() {
    let bare = told("core-v1-backoff.json");
    for sample in ["eventrouter-updated.json", "cloudevent.json"] {
        assert_eq!(told(sample).events, bare.events, "{sample}");
    }
    assert_eq!(told("watch-added.json").events, told("events-v1-failed-scheduling.json").events);
    let list = told("list.json");
    assert_eq!(list.events[1], bare.events[0]);
    assert_eq!(list.events[0], told("events-v1-failed-scheduling.json").events[0], "items do not say their kind");
}

#[test]
fn what_is_no_event_or_is_deleted_is_left_out_with_the_reason() {
    for sample in ["another-kind.json", "watch-deleted.json", "empty-list.json"] {
        let parsed = told(sample);
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
    let array = told("array.json");
    assert_eq!(array.events.len(), 2);
    assert!(array.ignored.expect("a reason").contains("not an event"));
    assert!(kubernetes().outcome_of_body("array.json", "[]").expect("parsed").ignored.is_some());
}

#[test]
fn an_event_that_happens_again_is_no_news_for_an_hour() {
    let again = |count: u32, time: &str| {
        let parsed = sent("core-v1-backoff.json", |body| {
            body["count"] = json!(count);
            body["lastTimestamp"] = json!(time);
        });
        (identity(&parsed).to_owned(), first(&parsed).text.clone().expect("text"))
    };
    let (one, other) = (again(41, "2026-03-05T09:15:01Z"), again(42, "2026-03-05T09:20:11Z"));
    assert_eq!(one.0, other.0);
    assert!(one.1.ends_with("(41 times)") && other.1.ends_with("(42 times)"));
    assert_ne!(again(53, "2026-03-05T10:15:01Z").0, one.0);
}

#[test]
fn events_of_one_object_are_told_apart_by_reason_and_container() {
    let of = |place: &str, value: &str| {
        let parsed = sent("core-v1-backoff.json", |body| *body.pointer_mut(place).expect("place") = json!(value));
        first(&parsed).key.clone()
    };
    let own = first(&told("core-v1-backoff.json")).key.clone();
    assert_eq!(of("/message", "other words"), own);
    for (place, value) in [
        ("/reason", "Failed"),
        ("/involvedObject/fieldPath", "spec.containers{sidecar}"),
        ("/involvedObject/uid", "another"),
    ] {
        assert_ne!(of(place, value), own, "{place}");
    }
}

#[test]
fn warnings_are_warnings_or_errors_by_their_reason_and_all_else_is_informational() {
    for (kind, reason, expected) in [
        (json!("Warning"), "BackOff", Severity::Error),
        (json!("Warning"), "OOMKilling", Severity::Error),
        (json!("Warning"), "InsufficientCapacityError", Severity::Error),
        (json!("Warning"), "Unhealthy", Severity::Warning),
        (json!("Warning"), "FailedScheduling", Severity::Warning),
        (json!("Warning"), "DisruptionBlocked", Severity::Warning),
        // Of a pod by a drain, which Karpenter says in the kubelet's word.
        (json!("Normal"), "Evicted", Severity::Info),
        (json!("Normal"), "Nominated", Severity::Info),
        (Value::Null, "BackOff", Severity::Info),
    ] {
        let parsed = sent("core-v1-backoff.json", |body| {
            body["type"] = kind.clone();
            body["reason"] = json!(reason);
        });
        assert_eq!((first(&parsed).severity, first(&parsed).status), (expected, Status::Event), "{kind} {reason}");
    }
}

#[test]
fn a_cluster_wide_object_has_no_namespace_though_its_event_lives_in_one() {
    let parsed = told("karpenter-insufficient-capacity.json");
    let object = first(&parsed).object.as_ref().expect("an object");
    assert_eq!((object.kind.as_deref(), object.namespace.as_deref()), (Some("NodeClaim"), None));
}

#[test]
fn what_an_exporter_knows_of_the_object_is_kept_before_what_we_add() {
    let parsed = told("event-exporter.json");
    let alert = first(&parsed);
    assert_eq!(alert.cluster.as_deref(), Some("prod-eu"));
    assert_eq!((alert.labels["app"].as_str(), alert.labels["component"].as_str()), ("checkout", "ours"));
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    for (sample, place) in
        [("core-v1-backoff.json", "/involvedObject"), ("eventrouter-updated.json", "/event/involvedObject")]
    {
        let mut body = kubernetes().json(sample);
        *body.pointer_mut(place).expect("place") = json!({ "kind": "Pod", "name": ["hunter2"] });
        let error = kubernetes().outcome_of_body(sample, body.to_string()).expect_err("malformed").to_string();
        assert!(error.contains("involvedObject.name") && !error.contains("hunter2"), "{sample}: {error}");
    }
}
