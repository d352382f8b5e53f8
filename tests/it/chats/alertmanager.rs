use super::*;
use crate::target_types::problems;
use sluice::domain::outcome::Blame;

fn posted(occasion: &str) -> Vec<Value> {
    let requests = <[Outbound; 1]>::try_from(requests(&chat("alertmanager"), occasion)).expect("one");
    serde_json::from_slice(&requests[0].body).expect("a list")
}

fn time_of(alert: &Value, field: &str) -> Timestamp {
    alert[field].as_str().expect("text").parse().expect("a time")
}

#[test]
fn what_ends_has_all_the_labels_of_what_fired_and_its_end() {
    let (firing, resolved) = (posted("firing"), posted("resolved"));
    assert_eq!((firing.len(), resolved.len()), (1, 1));
    assert_eq!(firing[0]["labels"], resolved[0]["labels"]);
    assert_eq!(firing[0]["labels"]["alertname"], "HighErrorRate");
    assert_eq!(firing[0]["startsAt"], "2026-03-05T09:12:33.412Z");
    assert!(time_of(&firing[0], "endsAt") > now(), "else Alertmanager takes it for over after five minutes");
    assert_eq!(resolved[0]["endsAt"], "2026-03-05T09:31:03.412Z");
}

#[test]
fn good_news_ends_the_trouble_of_the_same_object() {
    let (failed, recovered) = (posted("failed").remove(0), posted("recovered").remove(0));
    // The reason has changed meanwhile; what the alert is known by has not.
    assert_eq!(recovered["labels"], failed["labels"]);
    assert_eq!((time_of(&recovered, "endsAt"), posted("recovered").len()), (now(), 1));
    assert_eq!(failed["annotations"]["reason"], "BuildFailed");
    assert_eq!(failed["annotations"]["revision"], "main@sha1:3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812");
}

#[test]
fn every_alert_is_one_that_every_release_takes() {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let mut seen = 0;
    for (occasion, delivery) in occasions() {
        if chat("alertmanager").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for alert in posted(occasion) {
            seen += 1;
            for texts in ["labels", "annotations"] {
                for (name, value) in alert[texts].as_object().expect("an object") {
                    let rest = name.strip_prefix(first).unwrap_or_else(|| panic!("{occasion}: {name}"));
                    assert!(rest.chars().all(|c| first(c) || c.is_ascii_digit()), "{occasion}: {name}");
                    assert!(value.as_str().is_some_and(|value| !value.is_empty()), "{occasion}: {name}");
                }
            }
            assert!(alert["labels"]["alertname"].is_string() && alert["labels"]["severity"].is_string());
            assert!(time_of(&alert, "startsAt") <= time_of(&alert, "endsAt"), "{occasion}");
            assert!(
                alert["generatorURL"].is_null() || alert["generatorURL"].as_str().expect("text").starts_with("http")
            );
        }
    }
    assert!(seen >= 120, "a storm is told whole: {seen}");
}

#[test]
fn an_alert_that_only_happened_is_over_soon_and_one_without_any_words_is_told() {
    let alert = Alert {
        labels: texts(&[("1st", "a"), ("", "b"), ("x-y", "c"), ("x.y", "d")]),
        ..Alert::new("k\u{1}", Status::Event, Severity::Info, "")
    };
    let entry = chat("alertmanager");
    let requests = entry.target.render(&alerts("s", Alerts::one(alert)), &secrets(&entry), now()).expect("rendered");
    let body: Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    assert_eq!(time_of(&body[0], "endsAt").duration_since(now()), jiff::SignedDuration::from_mins(5));
    let expected = serde_json::json!({ "alertname": "s", "key": "k", "severity": "info", "source": "s" });
    assert_eq!(body[0]["labels"], expected);
    assert_eq!(body[0]["annotations"], serde_json::json!({ "_1st": "a", "x_y": "c" }));
}

#[test]
fn it_is_told_of_alerts_only_and_at_its_own_prefix() {
    let (_, image) = occasions().into_iter().find(|(name, _)| *name == "image").expect("an occasion");
    let entry = chat("alertmanager");
    assert!(entry.target.wants(&image.event, None).is_err_and(|why| why.contains("alerts only")));
    assert!(entry.target.refuses("git").is_some() && entry.target.refuses("alert").is_none());
    let url = requests(&entry, "firing").remove(0).url;
    assert_eq!(url, "https://alertmanager.example.com/prefix/api/v2/alerts");
}

#[test]
fn it_knows_us_by_a_password_or_what_stands_before_it_by_a_token() {
    let authorization = |name: &str| requests(&chat(name), "firing").remove(0).headers.remove("authorization");
    assert_eq!(authorization("alertmanager"), None);
    // printf 'sluice:sample-token-0001' | base64
    let basic = authorization("alertmanager-basic").expect("a credential");
    assert!(basic.is_sensitive() && basic == "Basic c2x1aWNlOnNhbXBsZS10b2tlbi0wMDAx", "{basic:?}");
    let bearer = authorization("alertmanager-bearer").expect("a credential");
    assert!(bearer.is_sensitive() && bearer == format!("Bearer {TOKEN}").as_str());
    for wrong in ["username: a", "password: 'env:P'", "username: a, password: 'env:P', token: 'env:T'"] {
        let found = problems(&format!("{{ type: alertmanager, url: 'https://a.example', {wrong} }}"));
        assert!(found[0].contains("either `username`"), "{wrong}: {found:?}");
    }
}

#[test]
fn answers_mean_what_alertmanager_means_by_them() {
    let entry = chat("alertmanager-basic");
    assert_eq!(outcome(&entry, 200, &[], ""), Outcome::Delivered);
    for (status, body) in [
        (400, r#""at least one label pair required""#),
        (422, r#"{"code":602,"message":"0.labels in body is required"}"#),
        (415, r#"{"code":415,"message":"unsupported media type"}"#),
    ] {
        let refused = outcome(&entry, status, &[], body);
        let words = &body[body.len() - 12..body.len() - 3];
        assert!(matches!(&refused, Outcome::Rejected { reason } if reason.contains(words)), "{refused:?}");
    }
    for status in [401, 403, 404] {
        let held = outcome(&entry, status, &[], "");
        assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{status}");
        assert_eq!(entry.target.doubts_secret(&response(status, &[], "")), status != 404);
    }
    for status in [500, 502, 503] {
        let later = outcome(&entry, status, &[], "");
        assert!(matches!(later, Outcome::Retry { blame: Blame::Target, .. }), "{status}");
    }
}
