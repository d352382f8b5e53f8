//! Amazon ECR: by invocation, and over HTTPS by an API destination.

use sluice::domain::event::Detail;
use sluice::source::{Invocation, SNS};

use super::*;

fn folder() -> Folder {
    super::folder("ecr")
}

fn by_iam_alone() -> Folder {
    folder().with(&json!({ "type": "ecr" }))
}

fn invoked(folder: &Folder, sample: &str) -> Parsed {
    let request = Request { via: Via::Invocation, ..folder.request(&folder.path.join(sample)) };
    folder.parse(&request, &Resolved::default()).expect("parsed")
}

fn invocation(account: &str, region: &str) -> Invocation {
    Invocation {
        source: "aws.ecr".into(),
        detail_type: Some("ECR Image Action".into()),
        account: Some(account.into()),
        region: Some(region.into()),
        topic: None,
    }
}

#[test]
fn an_invocation_needs_no_secret_whether_the_source_has_one_or_not() {
    for folder in [by_iam_alone(), folder()] {
        assert_eq!(invoked(&folder, "image-push.json").events.len(), 1);
    }
}

#[test]
fn http_is_refused_by_a_source_without_a_secret_whatever_the_request_carries() {
    let folder = by_iam_alone();
    let mut request = folder.request(&folder.path.join("image-push.json"));
    for header in ["authorization", "x-webhook-secret"] {
        request.headers.insert(header, "Bearer anything".parse().expect("header"));
    }
    let refused = folder.authenticate(&request, &Resolved::default());
    assert!(matches!(refused, Err(AuthError::Missing(why)) if why.contains("invocation")));
}

#[test]
fn an_event_says_the_same_over_both_ways() {
    let over_http = folder().outcome("image-push.json").expect("parsed");
    assert_eq!(over_http, invoked(&folder(), "image-push.json"));
}

#[test]
fn an_event_is_the_same_one_in_a_message_of_sns_posted_or_by_invocation() {
    let bare = folder().outcome("image-push.json").expect("parsed");
    assert_eq!(folder().outcome("sns-image-push.json").expect("parsed"), bare);
    assert_eq!(invoked(&folder(), "sns-image-push.json"), bare);
    let transformed = folder().outcome("api-destination-cloudevent.json").expect("parsed");
    assert_eq!(folder().outcome("sns-cloudevent.json").expect("parsed"), transformed);
    let other = folder().outcome("sns-plain-text.json").expect("a 2xx");
    assert!(other.events.is_empty() && other.ignored.is_some() && other.delivery_id.is_some());
}

#[test]
fn topics_decide_which_messages_of_sns_are_claimed() {
    let folder = folder().with(&json!({ "type": "ecr", "topics": "arn:aws:sns:eu-central-1:123456789012:pushes" }));
    let claim = folder.entry().claim().expect("claims");
    let notice = |name: &str| Invocation {
        source: SNS.into(),
        topic: Some(format!("arn:aws:sns:eu-central-1:123456789012:{name}")),
        ..invocation("123456789012", "eu-central-1")
    };
    assert!(claim.covers(&notice("pushes")) && !claim.covers(&notice("alerts")));
    assert!(claim.covers(&invocation("123456789012", "eu-central-1")));
}

#[test]
fn accounts_and_regions_decide_which_events_are_claimed() {
    let folder = folder();
    let claim = folder.entry().claim().expect("claims");
    assert!(claim.covers(&invocation("123456789012", "eu-central-1")));
    assert!(!claim.covers(&invocation("210987654321", "eu-central-1")));
    assert!(!claim.covers(&invocation("123456789012", "us-east-1")));
    assert!(!claim.covers(&Invocation { source: "aws.s3".into(), ..invocation("123456789012", "eu-central-1") }));
    assert!(!claim.covers(&Invocation { account: None, ..invocation("123456789012", "eu-central-1") }));
    let any = by_iam_alone();
    assert!(any.entry().claim().expect("claims").covers(&invocation("210987654321", "us-east-1")));
}

#[test]
fn a_source_with_a_url_token_claims_nothing_that_comes_without_one() {
    let folder = folder().with(&json!({ "type": "ecr", "secret": "env:FIRST", "url_token": true }));
    assert!(folder.entry().claim().is_none());
}

#[test]
fn the_registrys_host_can_be_replaced() {
    let folder = folder().with(&json!({ "type": "ecr", "registry_host": "images.example.com" }));
    let parsed = invoked(&folder, "image-push.json");
    let Detail::ImagePush(push) = &parsed.events[0].detail else { panic!("an image push") };
    assert_eq!(push.repository, "images.example.com/services/pricing");
}

/// Keel and argocd-image-updater take a digest for a tag, or refuse a push without one.
#[test]
fn a_part_of_a_multi_arch_image_has_a_digest_and_no_tag() {
    for sample in
        ["image-push-untagged.json", "image-push-tag-is-digest.json", "api-destination-cloudevent-untagged.json"]
    {
        let parsed = folder().outcome(sample).expect("parsed");
        let Detail::ImagePush(push) = &parsed.events[0].detail else { panic!("an image push") };
        assert!(push.tags.is_empty() && push.tag.is_none() && push.digest.is_some(), "{sample}");
    }
}

#[test]
fn moving_a_tag_there_and_back_is_three_events_and_a_redelivery_none() {
    let body = fs::read_to_string(folder().path.join("image-push.json")).expect("sample");
    let identity = |id: &str| {
        let body = body.replace("370b20b7-f1dc-54de-8034-147169a5f707", id);
        folder().outcome_of_body("image-push.json", body).expect("parsed").events[0].identity.clone().expect("identity")
    };
    assert!(identity("1") != identity("2") && identity("2") != identity("3") && identity("1") != identity("3"));
    assert_eq!(identity("1"), identity("1"));
}

#[test]
fn a_header_without_a_secret_is_a_problem_of_the_relay_file() {
    let file = json!({ "sources": { "ecr": { "type": "ecr", "header": "X-Key" } }, "targets": {}, "routes": [] });
    let why = Relay::from_value(&file).expect_err("unsound");
    assert!(why.contains("sources.ecr.header") && why.contains("`secret`"), "{why}");
}

#[test]
fn accounts_are_twelve_digits_with_or_without_quotes() {
    for (account, fine) in [
        (json!("012345678901"), true),
        (json!(123456789012u64), true),
        (json!(12345678901u64), false),
        (json!("x"), false),
    ] {
        let entry = json!({ "type": "ecr", "accounts": account });
        let file = json!({ "sources": { "ecr": entry }, "targets": {}, "routes": [] });
        assert_eq!(Relay::from_value(&file).is_ok(), fine, "{account}");
    }
}

#[test]
fn arrivals_by_replication_and_pull_through_are_pushes_where_the_source_says_so() {
    for (key, sample, reference) in [
        ("replications", "replication.json", "services/pricing:1.9.4"),
        ("pull_through", "pull-through-cache.json", "docker-hub/alpine:3.22.1"),
    ] {
        let outcome = |on: bool| {
            let entry = json!({ "type": "ecr", "secret": "env:FIRST", "header": "X-Webhook-Secret", key: on });
            folder().with(&entry).outcome(sample).expect("a 2xx")
        };
        let ignored = outcome(false).ignored.expect("a reason");
        assert!(ignored.contains(key), "{ignored}");
        let parsed = outcome(true);
        let push = pushes(&parsed)[0];
        let told = format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/{reference}");
        assert_eq!(format!("{}:{}", push.repository, push.tags.join(",")), told);
        assert!(push.digest.is_some() && parsed.events[0].identity.is_some());
    }
}

#[test]
fn an_arrival_that_did_not_succeed_is_no_push() {
    for (key, sample, place, value) in [
        ("replications", "replication.json", "result", "FAILURE"),
        ("pull_through", "pull-through-cache.json", "sync-status", "FAILED"),
        ("replications", "replication.json", "action-type", "PUSH"),
    ] {
        let entry = json!({ "type": "ecr", "secret": "env:FIRST", "header": "X-Webhook-Secret", key: true });
        let folder = folder().with(&entry);
        let mut body = folder.json(sample);
        body["detail"][place] = json!(value);
        let parsed = folder.outcome_of_body(sample, body.to_string()).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample} {place}");
    }
}
