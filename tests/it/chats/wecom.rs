use serde_json::json;

use super::*;

#[test]
fn a_message_is_plain_text_that_pings_only_whom_the_target_names() {
    let quiet = relay(r#"w: { type: wecom, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for (occasion, _) in occasions() {
        let pressing = ["firing", "group", "storm", "nasty", "failed", "workflow"].contains(&occasion);
        for (entry, pressing) in [(&chat("wecom"), pressing), (&quiet, false)] {
            for request in requests(entry, occasion) {
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let text = body["text"]["content"].as_str().expect("text");
                assert!(text.len() <= 2048 && !text.is_empty(), "{occasion}: {}", text.len());
                assert!(text.split('@').skip(1).all(|rest| rest.starts_with('\u{2060}')), "{text}");
                let mut expected = json!({ "msgtype": "text", "text": { "content": text } });
                if pressing {
                    expected["text"]["mentioned_list"] = json!(["@all", "oncall"]);
                }
                assert_eq!(body, expected, "{occasion}");
            }
        }
    }
}

#[test]
fn an_address_that_is_longer_than_all_that_is_taken_is_left_out() {
    let target = chat("wecom");
    let (_, mut delivery) = occasions().swap_remove(0);
    for (length, told) in [(300, true), (3000, false)] {
        let url = format!("https://example.com/{}", "a".repeat(length));
        if let Detail::Alert(group) = &mut delivery.event.detail {
            group.url = Some(url.clone());
        }
        for request in target.target.render(&delivery, &secrets(&target), now()).expect("rendered") {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            let text = body["text"]["content"].as_str().expect("text");
            assert!(text.len() <= 2048 && text.contains("Error rate above 5 %"), "{text}");
            assert_eq!(text.contains(&url), told, "{text}");
        }
    }
}

#[test]
fn a_failure_inside_a_200_is_a_failure() {
    let target = chat("wecom");
    let answer = |code: i64, msg: &str| json!({ "errcode": code, "errmsg": msg }).to_string();
    assert_eq!(outcome(&target, 200, &[], &answer(0, "ok")), Outcome::Delivered);
    let gone = answer(93_000, "invalid webhook url");
    assert!(matches!(outcome(&target, 200, &[], &gone), Outcome::Retry { reason, .. } if reason.contains("invalid")));
    assert!(target.target.doubts_secret(&response(200, &[], &gone)));
    assert!(!target.target.tries_next(&response(200, &[], &gone)));
    let limited = outcome(&target, 200, &[], &answer(45_009, "api freq out of limit"));
    assert!(matches!(limited, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 60));
    assert!(matches!(outcome(&target, 200, &[], &answer(-1, "system busy")), Outcome::Retry { .. }));
    let refused = answer(40_058, "invalid Request Parameter");
    assert!(matches!(outcome(&target, 200, &[], &refused), Outcome::Rejected { .. }));
    assert!(target.target.tries_next(&response(200, &[], &refused)));
    assert!(matches!(outcome(&target, 502, &[], ""), Outcome::Retry { .. }));
}
