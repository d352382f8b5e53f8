use serde_json::json;

use super::*;

#[test]
fn a_message_is_plain_text_in_the_room_within_the_limit() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("webex"), occasion) {
            assert_eq!(request.url, "https://webexapis.com/v1/messages");
            assert!(request.headers["authorization"].is_sensitive());
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let text = body["text"].as_str().expect("text");
            // Anything else could be read as markup.
            assert_eq!(body, json!({ "roomId": "Y2lzY29zcGFyazovL3VzL1JPT00vMQ", "text": text }));
            assert!(text.len() <= 7439 && text.len() > 10, "{occasion}: {}", text.len());
        }
    }
}

#[test]
fn answers_say_what_to_mend_and_a_refused_message_is_told_shortly_once() {
    let target = chat("webex");
    let error = |message: &str| json!({ "message": message, "errors": [], "trackingId": "ROUTER_1" }).to_string();
    assert_eq!(outcome(&target, 200, &[], r#"{"id":"Y2lz","roomId":"Y2lz"}"#), Outcome::Delivered);
    for (status, message) in [(401, "not authorized"), (403, "not a member"), (404, "Could not find a room")] {
        let judged = outcome(&target, status, &[], &error(message));
        assert!(matches!(&judged, Outcome::Retry { reason, .. } if reason.contains(message)), "{judged:?}");
        assert!(!target.target.tries_next(&response(status, &[], "")), "{status}");
    }
    assert!(target.target.doubts_secret(&response(401, &[], "")));
    assert!(matches!(outcome(&target, 400, &[], &error("too long")), Outcome::Rejected { .. }));
    assert!(target.target.tries_next(&response(400, &[], "")));
    for status in [500, 502, 503] {
        assert!(matches!(outcome(&target, status, &[], ""), Outcome::Retry { .. }), "{status}");
    }
    for status in [423, 429, 502] {
        let paused = outcome(&target, status, &[("retry-after", "17")], "");
        assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 17), "{status}: {paused:?}");
    }
    assert!(matches!(outcome(&target, 423, &[], ""), Outcome::Retry { blame: Blame::Target, .. }));
    assert!(!target.target.tries_next(&response(423, &[], "")));
}
