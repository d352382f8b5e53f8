use serde_json::json;

use super::*;

fn bodies(entry: &TargetEntry, occasion: &str) -> [Value; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
    for request in &requests {
        assert!(request.body.len() <= 20 * 1024, "{occasion}: {}", request.body.len());
    }
    requests.map(|request| serde_json::from_slice(&request.body).expect("JSON"))
}

/// Every element's tag and text; pages of buttons must be pages.
fn texts(value: &Value, seen: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            if let (Some(tag), Some(content)) = (value["tag"].as_str(), value["content"].as_str()) {
                assert!(!content.is_empty(), "{value}");
                seen.push((tag.to_owned(), content.to_owned()));
            }
            if let Some(url) = value["url"].as_str() {
                assert!(url.starts_with("https://"), "{url}");
            }
            object.values().for_each(|inner| texts(inner, seen));
        }
        Value::Array(all) => all.iter().for_each(|inner| texts(inner, seen)),
        _ => {}
    }
}

#[test]
fn what_others_wrote_stands_where_nothing_is_parsed() {
    for (occasion, _) in occasions() {
        let [card, plain] = bodies(&chat("lark"), occasion);
        let mut seen = Vec::new();
        texts(&card["card"], &mut seen);
        let marked: Vec<_> =
            seen.iter().filter(|(tag, _)| tag != "plain_text").map(|(_, text)| text.as_str()).collect();
        let pressing = ["firing", "group", "storm", "nasty", "failed", "workflow"].contains(&occasion);
        let named: &[&str] = if pressing { &["<at id=all></at> <at id=ou_0123456789abcdef></at>"] } else { &[] };
        assert_eq!(marked, named, "{occasion}");
        let text = plain["content"]["text"].as_str().expect("text");
        assert!(!text.is_empty() && !text.contains("<at"), "{occasion}: {text}");
    }
    let [card, _] = bodies(&chat("lark"), "nasty");
    let mut seen = Vec::new();
    texts(&card["card"], &mut seen);
    let nasty = "<at>x</at> <@all>\n*bold* _it_ ~s~ `code` ```fence```";
    assert!(seen.iter().any(|(tag, text)| tag == "plain_text" && text.contains(nasty)), "{seen:?}");
    let quiet = relay(r#"l: { type: lark, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for body in bodies(&quiet, "nasty") {
        assert!(!body.to_string().contains("lark_md") && body.get("sign").is_none());
    }
}

#[test]
fn a_body_is_signed_with_the_time_and_the_secret() {
    // HMAC-SHA256 of nothing under «time, line break, secret», from a command that is not ours:
    // printf '' | openssl dgst -sha256 -hmac "$(printf '1787227200\nsample-token-0001')" -binary | base64
    for body in bodies(&chat("lark"), "firing") {
        assert_eq!(body["timestamp"], now().as_second().to_string());
        assert_eq!(body["sign"], LARK_SIGN);
    }
}

const LARK_SIGN: &str = "dVQIAPbIi4hpHsbrPz+SkfYiX0RUm80ypwOERsApTrI=";

#[test]
fn a_failure_inside_a_200_is_a_failure() {
    let target = chat("lark");
    let answer = |code: i64, msg: &str| json!({ "code": code, "data": {}, "msg": msg }).to_string();
    assert_eq!(outcome(&target, 200, &[], &answer(0, "success")), Outcome::Delivered);
    assert_eq!(outcome(&target, 200, &[], r#"{"StatusCode":0,"StatusMessage":"success"}"#), Outcome::Delivered);
    for (code, msg) in [
        (19_001, "param invalid: incoming webhook access token invalid"),
        (19_021, "sign match fail or timestamp is not within one hour from current time"),
        (19_022, "Ip Not Allowed"),
    ] {
        let judged = outcome(&target, 200, &[], &answer(code, msg));
        assert!(matches!(&judged, Outcome::Retry { reason, .. } if reason.contains(msg)), "{judged:?}");
        assert!(!target.target.tries_next(&response(200, &[], &answer(code, msg))), "{code}");
        assert!(target.target.doubts_secret(&response(200, &[], &answer(code, msg))), "{code}");
    }
    for (status, body) in [(200, answer(9_499, "Bad Request")), (400, answer(9_499, "Bad Request"))] {
        assert!(matches!(outcome(&target, status, &[], &body), Outcome::Rejected { .. }), "{status}");
        assert!(target.target.tries_next(&response(status, &[], &body)), "{status}");
    }
    assert!(matches!(outcome(&target, 502, &[], ""), Outcome::Retry { .. }));
    let paused = outcome(&target, 429, &[("retry-after", "9")], "");
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 9));
}

/// As people report it: ccfos/nightingale issue 1437.
#[test]
fn a_limit_is_waited_for_whatever_its_status_and_its_spelling_and_no_second_form_is_sent_into_it() {
    let target = chat("lark");
    for (status, code, msg) in [
        (400, 9_499, "too many request"),
        (200, 9_499, "Too Many Requests"),
        (200, 11_232, "frequency limited psm"),
        (200, 9_499, "frequency limited psm"),
    ] {
        let body = json!({ "code": code, "msg": msg, "data": {} }).to_string();
        let paused = outcome(&target, status, &[], &body);
        assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 5), "{code} {msg}: {paused:?}");
        assert!(!target.target.tries_next(&response(status, &[], &body)), "{code} {msg}");
    }
}

#[test]
fn a_bot_that_wants_a_keyword_can_have_one_that_every_message_holds_and_a_lack_of_it_costs_one_message() {
    for (occasion, _) in occasions() {
        for body in bodies(&chat("lark"), occasion) {
            let shown = if body["msg_type"] == "text" { &body["content"]["text"] } else { &body["card"] };
            assert!(shown.to_string().contains("Sluice"), "{occasion}: {shown}");
        }
    }
    let target = chat("lark");
    let lacks = json!({ "code": 19_024, "msg": "Key Words Not Found" }).to_string();
    let judged = outcome(&target, 200, &[], &lacks);
    assert!(matches!(&judged, Outcome::Rejected { reason } if reason.contains("keywords")), "{judged:?}");
    assert!(!target.target.doubts_secret(&response(200, &[], &lacks)));
}
