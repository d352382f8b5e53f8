use serde_json::json;

use super::*;

#[test]
fn a_message_is_a_head_and_a_text_that_pings_nobody_even_as_markdown() {
    let target = chat("zoom");
    for (occasion, _) in occasions() {
        let requests = requests(&target, occasion);
        for (i, request) in requests.iter().enumerate() {
            assert_eq!(request.url, format!("{URL}?format=full"));
            assert_eq!(request.headers["authorization"].to_str().expect("text"), TOKEN);
            assert!(request.headers["authorization"].is_sensitive());
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let content = &body["content"];
            let (head, text) = (&content["head"]["text"], &content["body"][0]["text"]);
            let (head, text) = (head.as_str().expect("a head"), text.as_str().expect("a text"));
            let mut expected = json!({ "head": { "text": head }, "body": [{ "type": "message", "text": text }] });
            if i == 0 {
                expected["settings"] = content["settings"].clone();
                assert!(content["settings"]["default_sidebar_color"].as_str().expect("a colour").starts_with('#'));
            }
            // Markdown is not asked for.
            assert_eq!(body, json!({ "content": expected }), "{occasion}");
            assert!(text.chars().count() <= if i == 0 { 4000 } else { 1024 } && !text.is_empty(), "{occasion}");
            for part in [head, text] {
                assert!(part.split(['<', '@']).skip(1).all(|rest| rest.starts_with('\u{2060}')), "{part}");
            }
        }
    }
}

#[test]
fn the_format_that_an_endpoint_was_copied_with_gives_way_to_ours() {
    let target = chat("zoom");
    let (_, delivery) = occasions().swap_remove(0);
    let mut secrets = secrets(&target);
    let webhook = target.secrets().iter().find(|one| one.to_string() == "env:U").expect("the webhook");
    secrets.insert(webhook.clone(), vec![Secret::new(format!("{URL}?format=message"))]);
    for request in target.target.render(&delivery, &secrets, now()).expect("rendered") {
        assert_eq!(request.url, format!("{URL}?format=full"));
    }
}

#[test]
fn answers_say_what_to_mend_and_a_400_may_be_the_message_or_the_token() {
    let target = chat("zoom");
    for status in [200, 201, 204] {
        assert_eq!(outcome(&target, status, &[], ""), Outcome::Delivered);
    }
    for (status, what) in [(401, "token"), (403, "token"), (404, "connection")] {
        let judged = outcome(&target, status, &[], "");
        let held = matches!(&judged, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains(what));
        assert!(held && target.target.doubts_secret(&response(status, &[], "")), "{judged:?}");
        assert!(!target.target.tries_next(&response(status, &[], "")), "{status}");
    }
    assert!(matches!(outcome(&target, 400, &[], ""), Outcome::Rejected { .. }));
    assert!(target.target.doubts_secret(&response(400, &[], "")) && target.target.tries_next(&response(400, &[], "")));
    for status in [500, 502, 503] {
        assert!(matches!(outcome(&target, status, &[], ""), Outcome::Retry { .. }), "{status}");
    }
    let soon = (now() + jiff::SignedDuration::from_secs(90)).to_string();
    let paused = outcome(&target, 429, &[("retry-after", &soon)], "");
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 90), "{paused:?}");
}
