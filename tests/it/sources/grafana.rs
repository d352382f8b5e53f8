//! Grafana's messages, and its signatures.

use sluice::domain::alert::{Alert, Alerts, Severity, Status};

use super::*;

fn grafana() -> Folder {
    folder("grafana")
}

fn by_header() -> Folder {
    grafana().with(&json!({ "type": "grafana", "secret": "env:FIRST" }))
}

fn with_time() -> Folder {
    let signature = json!({ "header": "X-Signed", "timestamp_header": "X-Signed-At", "tolerance": "1m" });
    grafana().with(&json!({ "type": "grafana", "secret": "env:FIRST", "signature": signature }))
}

fn group(parsed: &Parsed) -> &Alerts {
    let groups = groups(parsed);
    assert_eq!(groups.len(), 1, "one message is one event");
    groups[0]
}

fn only(parsed: &Parsed) -> &Alert {
    let [alert] = group(parsed).alerts.as_slice() else { panic!("one alert") };
    alert
}

/// A request with these headers and this body.
fn request(folder: &Folder, headers: &[(&'static str, &str)], body: &str) -> Request {
    let mut request = folder.request(&folder.path.join("firing.json"));
    for (name, value) in headers {
        request.headers.append(*name, value.parse().expect("header"));
    }
    request.body = body.to_owned().into();
    request
}

fn at(folder: &Folder, request: &Request, secret: &'static str, now: i64) -> Result<(), AuthError> {
    let now = jiff::Timestamp::from_second(now).expect("time");
    folder.entry().authenticate(request, &secrets(folder.entry(), |_| secret), now).map(drop)
}

/// Made with OpenSSL: `printf '{"test":1}' | openssl dgst -sha256 -hmac grafana-secret`.
const OVER_BODY: &str = "7153e15ca2a1cd4765bc9b3d185c4520838d64d00996de5fe83f27df189c70a6";
/// And of `1787220344:{"test":1}`.
const OVER_TIME_AND_BODY: &str = "fd06b873db5990c4b4e32bfb0737337e5432cdee80c167227c84ee1ce5808527";

#[test]
fn signatures_made_by_other_code_are_accepted_in_either_form() {
    let body = r#"{"test":1}"#;
    for name in ["x-grafana-alerting-signature", "x-grafana-alert-signature"] {
        let signed = request(&grafana(), &[(name, OVER_BODY)], body);
        assert_eq!(at(&grafana(), &signed, "grafana-secret", 0), Ok(()), "{name}");
        assert!(matches!(at(&grafana(), &signed, "another", 0), Err(AuthError::Mismatch(_))), "{name}");
    }
    let headers = [("x-signed", OVER_TIME_AND_BODY), ("x-signed-at", "1787220344")];
    let signed = request(&with_time(), &headers, body);
    assert_eq!(at(&with_time(), &signed, "grafana-secret", 1_787_220_344), Ok(()));
}

#[test]
fn a_signed_time_is_part_of_what_is_signed_and_holds_within_the_tolerance() {
    let (folder, body) = (with_time(), r#"{"test":1}"#);
    let headers = [("x-signed", OVER_TIME_AND_BODY), ("x-signed-at", "1787220344")];
    let signed = request(&folder, &headers, body);
    for (second, fine) in [(60, true), (-60, true), (61, false), (-61, false)] {
        let refused = at(&folder, &signed, "grafana-secret", 1_787_220_344 + second);
        assert_eq!(refused.is_ok(), fine, "{second}: {refused:?}");
        assert!(fine || matches!(refused, Err(AuthError::Missing(_))), "{second}");
    }
    let later = request(&folder, &[headers[0], ("x-signed-at", "1787220345")], body);
    assert!(matches!(at(&folder, &later, "grafana-secret", 1_787_220_344), Err(AuthError::Mismatch(_))));
    for times in [&[][..], &["soon"], &["1787220344", "1787220344"]] {
        let times = times.iter().map(|time| ("x-signed-at", *time));
        let headers: Vec<_> = [headers[0]].into_iter().chain(times).collect();
        let refused = at(&folder, &request(&folder, &headers, body), "grafana-secret", 1_787_220_344);
        assert!(matches!(refused, Err(AuthError::Missing(_))), "{refused:?}");
    }
}

#[test]
fn where_a_time_has_to_be_signed_a_signature_over_the_body_alone_is_not_enough() {
    let headers = [("x-signed", OVER_BODY), ("x-signed-at", "1787220344")];
    let refused = at(&with_time(), &request(&with_time(), &headers, r#"{"test":1}"#), "grafana-secret", 1_787_220_344);
    assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{refused:?}");
}

#[test]
fn a_source_that_expects_signatures_takes_no_bare_secret_and_the_other_way_round() {
    let bare = request(&grafana(), &[("authorization", "Bearer grafana-secret")], r#"{"test":1}"#);
    assert_eq!(at(&by_header(), &bare, "grafana-secret", 0), Ok(()));
    assert!(matches!(at(&grafana(), &bare, "grafana-secret", 0), Err(AuthError::Missing(_))));
    let signed = request(&grafana(), &[("x-grafana-alerting-signature", OVER_BODY)], r#"{"test":1}"#);
    assert!(matches!(at(&by_header(), &signed, "grafana-secret", 0), Err(AuthError::Missing(_))));
}

#[test]
fn what_is_signed_by_hand_with_a_time_is_accepted() {
    let folder = with_time();
    let known = own_secrets(folder.entry());
    let request = folder.signed(&folder.path.join("firing.json"), &known);
    assert_eq!(folder.authenticate(&request, &known), Ok(()));
}

#[test]
fn a_header_beside_a_signature_is_a_problem_with_its_place() {
    let entry = json!({ "type": "grafana", "secret": "env:FIRST", "header": "X-Token", "signature": {} });
    let file = json!({ "sources": { "grafana": entry }, "targets": {}, "routes": [] });
    let problems = Relay::from_value(&file).expect_err("refused");
    assert!(problems.contains("sources.grafana.header: "), "{problems}");
}

#[test]
fn an_alert_keeps_its_name_from_firing_to_resolved() {
    let told = ["firing.json", "resolved.json"].map(|sample| grafana().outcome(sample).expect("parsed"));
    let [firing, resolved] = &told;
    assert_eq!((only(firing).status, only(resolved).status), (Status::Firing, Status::Resolved));
    assert_eq!((&group(firing).group, &only(firing).key), (&group(resolved).group, &only(resolved).key));
    assert_ne!(identities(firing), identities(resolved));
}

#[test]
fn organisations_of_one_grafana_are_told_apart() {
    let key = |organisation: u32| {
        let mut body = grafana().json("firing.json");
        body["orgId"] = json!(organisation);
        let parsed = grafana().outcome_of_body("firing.json", body.to_string()).expect("parsed");
        (group(&parsed).group.clone(), only(&parsed).key.clone())
    };
    assert!(key(1).0 != key(2).0 && key(1).1 != key(2).1);
}

#[test]
fn a_rule_without_data_or_with_an_error_goes_by_its_own_name() {
    for (name, title) in [("DatasourceNoData", "DiskFull: no data"), ("DatasourceError", "DiskFull: the query fails")] {
        let mut body = grafana().json("no-data.json");
        body["alerts"][0]["labels"]["alertname"] = json!(name);
        body["alerts"][0]["labels"]["severity"] = json!("critical");
        body["alerts"][0]["annotations"] = json!({ "summary": "Root disk at [no value] %", "Error": "timed out" });
        let parsed = grafana().outcome_of_body("no-data.json", body.to_string()).expect("parsed");
        let alert = only(&parsed);
        assert_eq!((alert.title.as_str(), alert.reason.as_deref()), (title, Some(name)));
        assert_eq!(alert.severity, Severity::Critical);
        assert_eq!(alert.text.as_deref(), Some("Root disk at [no value] %\nError: timed out"));
    }
}

#[test]
fn links_and_values_are_as_grafana_gave_them() {
    let parsed = grafana().outcome("firing.json").expect("parsed");
    let alert = only(&parsed);
    let titles: Vec<_> = alert.links.iter().map(|link| link.title.as_str()).collect();
    assert_eq!(titles, ["Dashboard", "Panel", "Source", "Silence"]);
    assert!(alert.text.as_deref().expect("text").contains("A: 93.2\nC: 1"), "{:?}", alert.text);
    let resolved = grafana().outcome("resolved.json").expect("parsed");
    assert!(only(&resolved).links.iter().all(|link| link.title != "Silence"));
}
