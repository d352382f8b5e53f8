use std::time::Duration;

use super::*;
use sluice::domain::outcome::Blame;

/// The three lines of an envelope.
fn envelopes(occasion: &str) -> Vec<[Value; 3]> {
    let read = |request: &Outbound| {
        let text = std::str::from_utf8(&request.body).expect("text");
        let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
        let lines = <[&str; 3]>::try_from(lines).expect("three lines");
        let read = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        assert_eq!(read[1]["length"], lines[2].len(), "the length that the item's header says");
        read
    };
    requests(&chat("sentry"), occasion).iter().map(read).collect()
}

#[test]
fn an_envelope_holds_one_event_within_sentrys_limits() {
    let mut seen = 0;
    for (occasion, delivery) in occasions() {
        if chat("sentry").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for [envelope, item, event] in envelopes(occasion) {
            seen += 1;
            assert_eq!((&envelope["event_id"], &item["type"]), (&event["event_id"], &"event".into()));
            let id = event["event_id"].as_str().expect("text");
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(event.to_string().len() <= 200_000, "{occasion}");
            let text = event["logentry"]["formatted"].as_str().expect("text");
            assert!((1..=8192).contains(&text.chars().count()), "{occasion}");
            assert!(["fatal", "error", "warning", "info"].contains(&event["level"].as_str().expect("text")));
            for (name, value) in event["tags"].as_object().into_iter().flatten() {
                let value = value.as_str().expect("text");
                assert!(
                    (1..=32).contains(&name.len())
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
                );
                assert!(value.chars().count() <= 200 && !value.contains('\n'), "{occasion}: {name}");
            }
        }
    }
    assert!(seen >= 10, "each with its plain form: {seen}");
}

#[test]
fn trouble_of_one_group_is_one_issue_and_its_end_is_not_told() {
    let fingerprint = |occasion: &str| envelopes(occasion)[0][2]["fingerprint"].clone();
    assert_eq!(fingerprint("group"), fingerprint("storm"));
    assert_ne!(fingerprint("firing"), fingerprint("failed"));
    for occasion in ["resolved", "recovered", "image"] {
        let (_, delivery) = occasions().into_iter().find(|(name, _)| *name == occasion).expect("an occasion");
        let entry = chat("sentry");
        assert!(entry.target.wants(&delivery.event, None).is_err(), "{occasion}: it would open the issue again");
        assert!(entry.target.render(&delivery, &secrets(&entry), now()).is_err());
    }
}

#[test]
fn a_dsn_says_where_an_event_goes_and_with_which_key_and_what_is_none_is_not_used() {
    let entry = chat("sentry");
    let sent = |dsn: &str| {
        let mut secrets = Resolved::default();
        secrets.insert(entry.secrets()[0].clone(), vec![Secret::new(dsn)]);
        entry.target.render(&occasions().remove(0).1, &secrets, now())
    };
    for (dsn, url) in [
        (DSN, "https://o1.ingest.example.com/api/42/envelope/"),
        ("http://abc:secret@sentry.internal:9000/some/path/7", "http://sentry.internal:9000/some/path/api/7/envelope/"),
    ] {
        assert_eq!(sent(dsn).expect("rendered")[0].url, url);
    }
    let request = sent(DSN).expect("rendered").remove(0);
    let auth = request.headers["x-sentry-auth"].clone();
    assert!(auth.is_sensitive());
    let auth = auth.to_str().expect("text");
    assert!(auth.starts_with("Sentry sentry_version=7, ") && auth.ends_with("sentry_key=sampletoken0001"), "{auth}");
    for wrong in
        ["https://example.com/42", "https://key@example.com/", "ftp://key@example.com/1", "https://k@h/a%2Fb", "key"]
    {
        let error = sent(wrong).expect_err(wrong).to_string();
        assert!(error.contains("not a project's DSN") && !error.contains("key@"), "{error}");
    }
}

#[test]
fn answers_mean_what_sentry_documents() {
    let entry = chat("sentry");
    assert_eq!(outcome(&entry, 200, &[], r#"{"id":"4ed2d3c0f6926bbc1f5acf93ed889171"}"#), Outcome::Delivered);
    for (status, body) in [
        (400, r#"{"detail":"bad sentry DSN public key","causes":["invalid project key"]}"#),
        (403, r#"{"detail":"event submission rejected with_reason: ProjectId"}"#),
    ] {
        assert!(matches!(outcome(&entry, status, &[], body), Outcome::Retry { blame: Blame::Setup, .. }), "{body}");
        let answer = response(status, &[], body);
        assert!(entry.target.doubts_secret(&answer) && !entry.target.tries_next(&answer), "{body}");
    }
    for (status, body) in
        [(400, r#"{"detail":"invalid event envelope"}"#), (413, r#"{"detail":"envelope exceeded size limits"}"#)]
    {
        assert!(matches!(outcome(&entry, status, &[], body), Outcome::Rejected { .. }), "{body}");
        assert!(entry.target.tries_next(&response(status, &[], body)), "{body}");
    }
    assert!(matches!(outcome(&entry, 503, &[], ""), Outcome::Retry { blame: Blame::Target, .. }));
}

#[test]
fn a_pause_is_the_longest_that_concerns_errors() {
    let entry = chat("sentry");
    for (headers, expected) in [
        (vec![("retry-after", "60")], 60),
        (vec![("x-sentry-rate-limits", "120:error:project:reason, 30::organization")], 120),
        (vec![("x-sentry-rate-limits", "2700:transaction;profile:key, 60::key"), ("retry-after", "45")], 60),
    ] {
        let later = outcome(&entry, 429, &headers, "");
        assert!(
            matches!(later, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(expected)),
            "{later:?}"
        );
    }
    assert!(matches!(outcome(&entry, 429, &[], ""), Outcome::Retry { .. }));
}
