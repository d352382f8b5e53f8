use serde_json::json;

use super::*;
use crate::markup::{Html, parse};

/// The paragraphs of the one card, without the headline's colour, after what stands around them was checked.
fn paragraphs(request: &Outbound) -> Vec<Html> {
    assert!(request.body.len() <= 32_000, "{}", request.body.len());
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let widgets = body["cardsV2"][0]["card"]["sections"][0]["widgets"].as_array().expect("widgets");
    assert_eq!(body["cardsV2"], json!([{ "cardId": "message", "card": { "sections": [{ "widgets": widgets }] } }]));
    let read = |widget: &Value| {
        let text = widget["textParagraph"]["text"].as_str().expect("text");
        assert_eq!(*widget, json!({ "textParagraph": { "text": text } }));
        let uncoloured = text.split_once("<font color=\"#").map(|(before, rest)| {
            let (color, rest) = rest.split_once("\">").expect("a colour");
            assert!(color.len() == 6 && color.bytes().all(|byte| byte.is_ascii_hexdigit()), "{color}");
            format!("{before}{}", rest.replacen("</font>", "", 1))
        });
        let read = parse(uncoloured.as_deref().unwrap_or(text), &["b", "i", "a"], "<br>").expect("HTML");
        assert!(!read.text.trim().is_empty());
        read
    };
    widgets.iter().map(read).collect()
}

#[test]
fn what_is_sent_is_one_card_of_paragraphs_that_parse_within_the_limit() {
    for (occasion, _) in occasions() {
        let [card, plain] = <[Outbound; 2]>::try_from(requests(&chat("googlechat"), occasion)).expect("two");
        assert!((2..=3).contains(&paragraphs(&card).len()), "{occasion}");
        let [plain] = <[Html; 1]>::try_from(paragraphs(&plain)).expect("one");
        assert!(plain.links.is_empty(), "{occasion}");
    }
    let [card, _] = <[Outbound; 2]>::try_from(requests(&chat("googlechat"), "nasty")).expect("two");
    let read = paragraphs(&card);
    assert!(read[1].text.contains("<users/all> <at>x</at> <@all>\n*bold* _it_ ~s~ `code`"), "{}", read[1].text);
    assert_eq!(read[1].links, ["https://example.com/a?b=%22c%22&d=%3Ce%3E|f)g"]);
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let quiet = relay(r#"g: { type: googlechat, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for (occasion, pressing) in
        [("nasty", true), ("firing", true), ("resolved", false), ("recovered", false), ("image", false)]
    {
        for (entry, expected) in [(&chat("googlechat"), pressing), (&quiet, false)] {
            let [card, plain] = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
            let [mut card, plain] =
                [card, plain].map(|request| serde_json::from_slice::<Value>(&request.body).expect("JSON"));
            let text = card["text"].take();
            assert_eq!(text.as_str(), expected.then_some("<users/all> <users/112233445566778899001>"), "{occasion}");
            assert!(!card.to_string().contains("<users/") && !plain.to_string().contains("<users/"), "{occasion}");
        }
    }
}

#[test]
fn only_all_or_a_users_id_is_taken_as_a_mention() {
    for (mention, taken) in [
        ("all", true),
        ("112233445566778899001", true),
        ("<users/all>", true),
        ("oncall@example.com", false),
        ("users/", false),
        ("", false),
    ] {
        let target = json!({ "type": "googlechat", "webhook": "env:U", "mention": mention });
        let relay = sluice::relay::Relay::from_value(&json!({ "targets": { "g": target } }));
        assert_eq!(relay.is_ok(), taken, "{mention}");
    }
}

#[test]
fn answers_say_what_to_mend_without_repeating_the_webhooks_key() {
    let target = chat("googlechat");
    let error = |status: &str, reason: &str| {
        let message = "Consumer 'api_key:AIzaSample' is not what it should be.";
        json!({ "error": { "status": status, "message": message, "details": [{ "reason": reason }] } }).to_string()
    };
    assert_eq!(outcome(&target, 200, &[], r#"{"name":"spaces/A/messages/B"}"#), Outcome::Delivered);
    for (status, word, reason) in [
        (400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
        (401, "UNAUTHENTICATED", ""),
        (403, "PERMISSION_DENIED", "CONSUMER_SUSPENDED"),
        (404, "NOT_FOUND", ""),
    ] {
        let body = error(word, reason);
        let said = outcome(&target, status, &[], &body);
        assert!(
            matches!(&said, Outcome::Retry { reason: said, .. }
                if said.contains(word) && said.contains(reason) && !said.contains("AIza")),
            "{said:?}"
        );
        assert!(!target.target.tries_next(&response(status, &[], &body)), "{status}");
        assert!(target.target.doubts_secret(&response(status, &[], &body)), "{status}");
    }
    let invalid = error("INVALID_ARGUMENT", "");
    let said = outcome(&target, 400, &[], &invalid);
    assert!(matches!(&said, Outcome::Rejected { reason } if !reason.contains("AIza")), "{said:?}");
    assert!(target.target.tries_next(&response(400, &[], &invalid)));
    assert!(!target.target.doubts_secret(&response(400, &[], &invalid)));
    let busy = error("RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED");
    assert!(matches!(outcome(&target, 429, &[], &busy), Outcome::Retry { .. }));
    let paused = outcome(&target, 429, &[("retry-after", "7")], &busy);
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 7));
    for status in [500, 503] {
        assert!(matches!(outcome(&target, status, &[], &error("INTERNAL", "")), Outcome::Retry { .. }), "{status}");
    }
}
