use std::time::Duration;

use super::*;
use crate::target_types::problems;
use sluice::domain::outcome::Blame;

fn bodies(name: &str, occasion: &str) -> Vec<Value> {
    let requests = requests(&chat(name), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn no_field_is_longer_than_datadog_takes_and_every_tag_is_one() {
    for (occasion, _) in occasions() {
        for body in bodies("datadog", occasion) {
            for (field, limit) in [("title", 500), ("text", 4000), ("aggregation_key", 100)] {
                let length = body[field].as_str().unwrap_or_default().chars().count();
                assert!(length <= limit, "{occasion}: {field} has {length}");
            }
            for tag in body["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().expect("text")) {
                assert!(tag.chars().count() <= 200 && tag.starts_with(char::is_alphabetic), "{occasion}: {tag}");
                assert!(tag.chars().all(|c| c.is_alphanumeric() || "_-:./".contains(c)), "{occasion}: {tag}");
            }
            assert!(["error", "warning", "info", "success"].contains(&body["alert_type"].as_str().expect("text")));
        }
    }
    let tags = bodies("datadog", "firing")[0]["tags"].clone();
    for tag in ["severity:critical", "status:firing", "source:alertmanager", "team:payments", "cluster:prod-1"] {
        assert!(tags.as_array().expect("tags").iter().any(|one| one == tag), "{tag} in {tags}");
    }
}

#[test]
fn nobody_is_notified_but_those_whom_the_target_names_and_no_text_is_markdown() {
    let names = |text: &str| -> Vec<String> {
        let names = text.split_whitespace().filter(|word| word.starts_with('@') && !word.starts_with("@\u{2060}"));
        names.map(str::to_owned).collect()
    };
    for (occasion, expected) in [
        ("nasty", vec!["@slack-alerts", "@on.call@example.com"]),
        ("firing", vec!["@slack-alerts", "@on.call@example.com"]),
        ("resolved", vec![]),
    ] {
        for body in bodies("datadog", occasion) {
            let text = body["text"].as_str().expect("text");
            assert_eq!(names(text), expected, "{occasion}");
            assert_eq!(names(body["title"].as_str().expect("text")), [""; 0]);
            assert!(!text.contains("%%%"), "{occasion}");
        }
        for body in bodies("datadog-quiet", occasion) {
            let text = body["text"].as_str().expect("text");
            assert!(text.split('@').skip(1).all(|rest| rest.starts_with('\u{2060}')), "{occasion}: {text}");
        }
    }
}

#[test]
fn what_fires_and_ends_is_shown_together_at_the_site_of_the_key() {
    assert_eq!(bodies("datadog", "firing")[0]["aggregation_key"], bodies("datadog", "resolved")[0]["aggregation_key"]);
    let request = requests(&chat("datadog"), "firing").remove(0);
    assert_eq!(request.url, "https://api.datadoghq.eu/api/v1/events");
    assert!(request.headers["dd-api-key"].is_sensitive());
    assert_eq!(requests(&chat("datadog-quiet"), "firing")[0].url, "https://proxy.example.com/datadog/api/v1/events");
    for wrong in ["site: 'a/b.c'", "site: datadog", "mention: 'everybody'", "mention: '@a b'"] {
        assert_eq!(problems(&format!("{{ type: datadog, api_key: 'env:T', {wrong} }}")).len(), 1, "{wrong}");
    }
}

#[test]
fn answers_mean_what_datadog_documents() {
    let entry = chat("datadog");
    assert_eq!(outcome(&entry, 202, &[], r#"{"status":"ok","event":{"id":1}}"#), Outcome::Delivered);
    for status in [401, 403] {
        let held = outcome(&entry, status, &[], r#"{"errors":["Forbidden"]}"#);
        assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{status}");
        assert!(entry.target.doubts_secret(&response(status, &[], "")));
    }
    for status in [400, 413] {
        let refused = outcome(&entry, status, &[], r#"{"errors":["Payload is not valid"]}"#);
        assert!(matches!(refused, Outcome::Rejected { reason } if reason.contains("not valid")), "{status}");
        assert!(entry.target.tries_next(&response(status, &[], "")));
    }
    let later = outcome(&entry, 429, &[("x-ratelimit-reset", "37"), ("x-ratelimit-period", "60")], "");
    assert!(matches!(later, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(37)));
    for status in [408, 500, 503] {
        assert!(matches!(outcome(&entry, status, &[], ""), Outcome::Retry { blame: Blame::Target, .. }), "{status}");
    }
}
