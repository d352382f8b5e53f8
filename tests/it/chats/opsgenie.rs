use std::time::Duration;

use super::*;

fn first(name: &str, occasion: &str) -> (String, Value) {
    let request = requests(&chat(name), occasion).into_iter().next().expect("a request");
    (request.url, serde_json::from_slice(&request.body).expect("JSON"))
}

#[test]
fn what_is_over_closes_the_alias_that_it_was_created_under() {
    for (begins, ends) in [("firing", "resolved"), ("failed", "recovered")] {
        let ((_, created), (url, _)) = (first("opsgenie", begins), first("opsgenie", ends));
        let alias = created["alias"].as_str().expect("text");
        assert!(alias.bytes().all(|byte| byte.is_ascii_hexdigit()) && alias.len() <= 512);
        assert_eq!(url, format!("https://api.opsgenie.com/v2/alerts/{alias}/close?identifierType=alias"));
    }
    assert_eq!(first("opsgenie", "group").1["alias"], first("opsgenie", "firing").1["alias"]);
}

#[test]
fn jira_service_management_is_sent_the_same_at_its_own_place() {
    for occasion in ["firing", "resolved"] {
        let ((opsgenie, body), (jsm, same)) = (first("opsgenie", occasion), first("jsm", occasion));
        assert_eq!(body, same);
        let path = opsgenie.strip_prefix("https://api.opsgenie.com").expect("its host");
        assert_eq!(jsm, format!("https://api.atlassian.com/jsm/ops/integration{path}"));
    }
    for request in requests(&chat("jsm"), "firing") {
        assert_eq!(request.headers["authorization"], format!("GenieKey {TOKEN}"));
        assert!(request.headers["authorization"].is_sensitive());
    }
}

#[test]
fn no_field_is_longer_than_opsgenie_takes_and_none_holds_markup() {
    for (occasion, delivery) in occasions() {
        let entry = chat("opsgenie");
        if entry.target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for request in requests(&entry, occasion) {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let limits = [("message", 130), ("alias", 512), ("description", 15_000), ("source", 100), ("note", 25_000)];
            for (field, limit) in limits {
                let text = body[field].as_str().unwrap_or_default();
                assert!(text.chars().count() <= limit, "{occasion}: {field}");
                assert!(!text.contains(['<', '>']), "{occasion}: {field}: {text}");
            }
            let details = body["details"].as_object().into_iter().flatten();
            let length: usize = details
                .map(|(name, value)| name.chars().count() + value.as_str().expect("a text").chars().count())
                .sum();
            assert!(length <= 8_000, "{occasion}: {length}");
            if !request.url.contains("/close") {
                assert!(["P1", "P2", "P3", "P4", "P5"].contains(&body["priority"].as_str().expect("text")));
            }
        }
    }
}

#[test]
fn answers_mean_what_opsgenie_documents() {
    let entry = chat("opsgenie");
    let taken = r#"{"result":"Request will be processed","took":0.3,"requestId":"43a29c5c"}"#;
    assert_eq!(outcome(&entry, 202, &[], taken), Outcome::Accepted);
    for (status, words) in [(401, "api_key"), (403, "api_key"), (402, "subscription"), (404, "404"), (500, "failed")] {
        let outcome = outcome(&entry, status, &[], r#"{"message":"no"}"#);
        assert!(
            matches!(&outcome, Outcome::Retry { blame, reason }
                if *blame != Blame::Event && reason.contains(words)),
            "{outcome:?}"
        );
    }
    let refused = outcome(&entry, 422, &[], r#"{"message":"Request body is not processable."}"#);
    assert!(matches!(refused, Outcome::Rejected { reason } if reason.contains("not processable")));
    assert!(entry.target.tries_next(&response(422, &[], "")) && !entry.target.tries_next(&response(401, &[], "")));
    assert!(entry.target.doubts_secret(&response(401, &[], "")));
}

#[test]
fn a_pause_is_as_long_as_the_interval_whose_budget_is_used_up() {
    let entry = chat("opsgenie");
    let throttled =
        |period: &'static str| vec![("x-ratelimit-state", "THROTTLED"), ("x-ratelimit-period-in-sec", period)];
    for (headers, expected) in [(throttled("1"), 1), (throttled("60"), 60), (vec![], 60)] {
        let outcome = outcome(&entry, 429, &headers, "");
        assert!(matches!(outcome, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(expected)));
    }
}
