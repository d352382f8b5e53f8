use std::time::Duration;

use super::*;
use crate::target_types::problems;
use sluice::domain::outcome::Blame;

fn bodies(name: &str, occasion: &str) -> Vec<Value> {
    let requests = requests(&chat(name), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn no_message_is_so_long_that_it_becomes_an_attachment_or_is_refused() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("ntfy"), occasion) {
            assert!(request.body.len() <= 8192, "{occasion}: {}", request.body.len());
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let message = body["message"].as_str().expect("text");
            assert!((1..=4096).contains(&message.len()), "{occasion}: an empty one would say «triggered»");
            let actions = body["actions"].as_array().map_or(0, Vec::len);
            assert!(actions <= 3 && body.get("markdown").is_none(), "{occasion}");
            assert!(body["click"].is_null() || body["click"].as_str().is_some_and(|url| url.starts_with("https://")));
        }
    }
}

#[test]
fn what_matters_more_is_louder() {
    let priorities =
        ["firing", "failed", "resolved", "image"].map(|occasion| bodies("ntfy", occasion)[0]["priority"].clone());
    assert_eq!(priorities, [5, 4, 3, 2].map(Value::from));
}

#[test]
fn a_topic_may_be_a_name_or_a_secret_and_a_token_goes_into_a_header() {
    assert_eq!(
        (&bodies("ntfy", "firing")[0]["topic"], &bodies("ntfy-own", "firing")[0]["topic"]),
        (&TOKEN.into(), &"alerts".into())
    );
    let request = requests(&chat("ntfy-own"), "firing").remove(0);
    assert_eq!(request.url, "https://ntfy.example.com/");
    assert!(request.headers["authorization"].is_sensitive());
    assert!(!requests(&chat("ntfy"), "firing")[0].headers.contains_key("authorization"));
    assert_eq!(chat("ntfy").secrets().len(), 1);
    let found = problems("{ type: ntfy, url: 'https://ntfy.sh', topic: 'a topic' }");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn answers_mean_what_ntfy_means_by_them() {
    let entry = chat("ntfy-own");
    let said = |status: u16, code: u32, error: &str| format!(r#"{{"code":{code},"http":{status},"error":"{error}"}}"#);
    assert_eq!(outcome(&entry, 200, &[], r#"{"id":"hwQ2YpKdmg","event":"message"}"#), Outcome::Delivered);
    for (status, code, error) in
        [(400, 40009, "topic invalid"), (401, 40101, "unauthorized"), (403, 40301, "forbidden")]
    {
        let body = said(status, code, error);
        let held = outcome(&entry, status, &[], &body);
        assert!(matches!(&held, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains(error)), "{held:?}");
        assert!(!entry.target.tries_next(&response(status, &[], &body)));
        assert_eq!(entry.target.doubts_secret(&response(status, &[], &body)), status != 400);
    }
    for (status, code) in [(400, 40018), (413, 41303)] {
        let body = said(status, code, "no");
        assert!(matches!(outcome(&entry, status, &[], &body), Outcome::Rejected { .. }));
        assert!(entry.target.tries_next(&response(status, &[], &body)));
    }
    assert!(matches!(outcome(&entry, 507, &[], ""), Outcome::Retry { blame: Blame::Target, .. }));
}

#[test]
fn the_messages_of_a_day_are_waited_for_until_midnight_and_everything_else_for_seconds() {
    let entry = chat("ntfy");
    let wait = |code: u32, at: &str| {
        let body = format!(r#"{{"code":{code},"http":429,"error":"limit reached"}}"#);
        match entry.target.classify(&response(429, &[], &body), at.parse().expect("time")) {
            Outcome::RetryAfter { wait, .. } => wait,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(42901, "2026-03-05T22:30:00Z"), Duration::from_secs(5));
    assert_eq!(wait(42908, "2026-03-05T22:30:00Z"), Duration::from_secs(90 * 60));
    assert_eq!(
        wait(42908, "2026-03-05T00:00:00Z"),
        Duration::from_secs(12 * 60 * 60),
        "no longer than a queue can hold it"
    );
}
