use std::time::Duration;

use super::*;

/// Every `<…>` that Slack would act on.
fn acted_on(text: &str) -> Vec<&str> {
    text.split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default()).collect()
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let (webhook, token) = (chat("slack-webhook"), chat("slack-token"));
    for request in requests(&token, "nasty") {
        let body: Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(acted_on(body["text"].as_str().expect("text")), Vec::<&str>::new());
    }
    for (occasion, expected) in [
        ("nasty", vec!["!here"]),
        ("firing", vec!["!here"]),
        ("resolved", vec![]),
        ("recovered", vec![]),
        ("image", vec![]),
    ] {
        for request in requests(&webhook, occasion) {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            assert_eq!(acted_on(body["text"].as_str().expect("text")), expected, "{occasion}");
        }
    }
}

#[test]
fn a_failure_inside_a_200_of_the_api_is_a_failure() {
    let token = chat("slack-token");
    let said = |error: &str| outcome(&token, 200, &[], &format!(r#"{{"ok":false,"error":"{error}"}}"#));
    assert_eq!(outcome(&token, 200, &[], r#"{"ok":true,"ts":"1.2","channel":"C1"}"#), Outcome::Delivered);
    for error in ["not_in_channel", "token_revoked", "is_archived"] {
        assert!(matches!(said(error), Outcome::Retry { reason, .. } if reason.contains(error)), "{error}");
    }
    assert!(matches!(said("msg_too_long"), Outcome::Rejected { .. }));
    assert!(matches!(said("internal_error"), Outcome::Retry { .. }));
    assert!(token.target.doubts_secret(&response(200, &[], r#"{"ok":false,"error":"token_revoked"}"#)));
}

#[test]
fn a_pause_is_as_long_as_the_longer_of_header_and_body() {
    let webhook = chat("slack-webhook");
    let body = r#"{"retry_after":30,"ok":false,"error":"rate_limited"}"#;
    for (header, expected) in [("1", 30), ("60", 60)] {
        let outcome = outcome(&webhook, 429, &[("retry-after", header)], body);
        assert!(matches!(outcome, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(expected)));
    }
}

#[test]
fn a_message_that_is_refused_is_told_plainly_once() {
    let (webhook, token) = (chat("slack-webhook"), chat("slack-token"));
    assert!(webhook.target.tries_next(&response(400, &[], "invalid_blocks")));
    assert!(!webhook.target.tries_next(&response(404, &[], "no_service")));
    assert!(token.target.tries_next(&response(200, &[], r#"{"ok":false,"error":"invalid_blocks"}"#)));
    assert!(!token.target.tries_next(&response(200, &[], r#"{"ok":false,"error":"is_archived"}"#)));
    let [_, plain] = <[Outbound; 2]>::try_from(requests(&webhook, "nasty")).expect("two");
    let body: Value = serde_json::from_slice(&plain.body).expect("JSON");
    assert!(body.get("attachments").is_none() && body["text"].as_str().is_some_and(|text| !text.is_empty()));
}

#[test]
fn a_webhook_that_is_gone_holds_its_target_instead_of_losing_what_comes() {
    let webhook = chat("slack-webhook");
    for (status, body) in [(403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived")] {
        let outcome = outcome(&webhook, status, &[], body);
        assert!(matches!(outcome, Outcome::Retry { reason, .. } if reason.contains(body)), "{status}");
    }
}
