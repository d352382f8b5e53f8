use serde_json::json;

use super::*;

fn bodies(entry: &TargetEntry, occasion: &str) -> Vec<Value> {
    let requests = requests(entry, occasion);
    assert!(requests.iter().all(|request| request.body.len() <= 20_000), "{occasion}");
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn a_message_is_plain_text_that_pings_only_whom_the_target_names() {
    let quiet = relay(r#"d: { type: dingtalk, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for (occasion, _) in occasions() {
        let pressing = ["firing", "group", "storm", "nasty", "failed", "workflow"].contains(&occasion);
        for (entry, pressing) in [(&chat("dingtalk"), pressing), (&quiet, false)] {
            for body in bodies(entry, occasion) {
                assert_eq!(body["msgtype"], "text");
                let mobiles: &[&str] = if pressing { &["13800001111"] } else { &[] };
                assert_eq!(body["at"], json!({ "isAtAll": pressing, "atMobiles": mobiles, "atUserIds": [] }));
                let text = body["text"]["content"].as_str().expect("text");
                let named = text.split('@').skip(1).filter(|rest| !rest.starts_with('\u{2060}')).count();
                assert_eq!(named, usize::from(pressing), "{text}");
            }
        }
    }
    let text = bodies(&quiet, "nasty").remove(0)["text"]["content"].take();
    assert!(text.as_str().is_some_and(|text| text.contains("*bold* _it_ ~s~ `code` ```fence``` **x** __y__")));
}

#[test]
fn the_query_is_signed_with_the_time_and_the_secret() {
    // printf '1787227200000\nsample-token-0001' | openssl dgst -sha256 -hmac 'sample-token-0001' -binary | base64
    for request in requests(&chat("dingtalk"), "firing") {
        let url = url::Url::parse(&request.url).expect("URL");
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["timestamp"], now().as_millisecond().to_string());
        assert_eq!(query["sign"], DINGTALK_SIGN);
        assert!(request.url.starts_with(URL) && !request.url.contains('+'));
    }
}

const DINGTALK_SIGN: &str = "2UvAlqGaRr2JkMI8VB7Udz1ljKYY/oIZ3FTFszsVmw4=";

#[test]
fn a_failure_inside_a_200_is_a_failure() {
    let target = chat("dingtalk");
    let answer = |code: i64, msg: &str| json!({ "errcode": code, "errmsg": msg }).to_string();
    assert_eq!(outcome(&target, 200, &[], &answer(0, "ok")), Outcome::Delivered);
    assert_eq!(outcome(&target, 200, &[], r#"{"errcode":"0","errmsg":"ok"}"#), Outcome::Delivered);
    for (code, msg) in [
        (310_000, "sign not match"),
        (310_000, "invalid timestamp"),
        (310_000, "ip 203.0.113.7 not in whitelist"),
        (310_000, "description:机器人发送签名不匹配;solution:请确认签名和生成签名的时间戳必须都放在调用的网址中"),
        (300_001, "token is not exist"),
        (300_005, "token is not exist"),
        (400_102, "bot is stopped"),
        (90_030, "webhook over limit"),
    ] {
        let judged = outcome(&target, 200, &[], &answer(code, msg));
        assert!(matches!(&judged, Outcome::Retry { reason, .. } if reason.contains(msg)), "{judged:?}");
        assert!(!target.target.tries_next(&response(200, &[], &answer(code, msg))), "{code}");
        assert_eq!(target.target.doubts_secret(&response(200, &[], &answer(code, msg))), code != 90_030, "{code}");
    }
    // Who sends faster is muted for ten minutes.
    for code in [130_101, 410_100] {
        let limited = outcome(&target, 200, &[], &answer(code, "send too fast, exceed 20 times per minute"));
        assert!(matches!(limited, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 600), "{code}");
    }
    assert!(matches!(outcome(&target, 200, &[], &answer(-1, "busy")), Outcome::Retry { .. }));
    for code in [400_105, 460_101] {
        assert!(matches!(outcome(&target, 200, &[], &answer(code, "…")), Outcome::Rejected { .. }), "{code}");
        assert!(target.target.tries_next(&response(200, &[], &answer(code, "…"))), "{code}");
    }
    assert!(matches!(outcome(&target, 502, &[], ""), Outcome::Retry { .. }));
}

#[test]
fn a_robot_that_wants_a_keyword_can_have_one_that_every_message_holds_and_a_lack_of_it_costs_one_message() {
    for (occasion, _) in occasions() {
        for body in bodies(&chat("dingtalk"), occasion) {
            assert!(body["text"]["content"].as_str().is_some_and(|text| text.contains("Sluice")), "{occasion}: {body}");
        }
    }
    let target = chat("dingtalk");
    for said in ["keywords not in content", "description:关键词不匹配;solution:请在发送的信息中包含此关键词"]
    {
        let lacks = json!({ "errcode": 310_000, "errmsg": said }).to_string();
        let judged = outcome(&target, 200, &[], &lacks);
        assert!(matches!(&judged, Outcome::Rejected { reason } if reason.contains("keywords is in")), "{judged:?}");
        assert!(!target.target.doubts_secret(&response(200, &[], &lacks)), "{said}");
    }
}
