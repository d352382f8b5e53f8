use serde_json::json;

use super::*;

/// The form's fields.
fn form(request: &Outbound) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

/// Reads a content of a line of names, a block of code and a line of links: the names, what stands in the block, where
/// the links lead. Anything else would be read as Markdown.
fn read(content: &str) -> (Option<&str>, String, Vec<String>) {
    let mut lines = content.lines();
    let mut first = lines.next().expect("a line");
    let names = (!first.starts_with('`')).then(|| std::mem::replace(&mut first, lines.next().expect("a block")));
    let fence = first.strip_suffix("text").expect("a block of text");
    assert!(fence.len() >= 3 && fence.bytes().all(|byte| byte == b'`'), "{first}");
    let block: Vec<_> = lines.by_ref().take_while(|line| line.trim() != fence).collect();
    let mut pages = Vec::new();
    for link in lines.flat_map(|line| line.split(" · ")) {
        let (title, url) = link.strip_prefix('[').and_then(|link| link.split_once("](")).expect("a link");
        assert!(title.chars().all(|c| c.is_alphanumeric() || c == ' ') && !title.is_empty(), "{link}");
        let url = url.strip_suffix(')').expect("an end");
        assert!(url.starts_with("https://") && !url.contains(['(', ')', ' ', '*', '`']), "{url}");
        pages.push(url.to_owned());
    }
    (names, block.join("\n"), pages)
}

#[test]
fn what_others_wrote_stands_in_a_block_of_code_within_the_limits() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("zulip"), occasion) {
            let form = form(&request);
            assert_eq!((form["type"].as_str(), form["to"].as_str()), ("stream", "alerts"));
            assert!(form["topic"].chars().count() <= 60 && !form["topic"].is_empty(), "{occasion}");
            assert!(form["content"].chars().count() <= 10_000, "{occasion}");
            let (_, block, _) = read(&form["content"]);
            assert!(block.lines().count() > 1 || !block.is_empty(), "{occasion}");
        }
    }
    let [request, _] = <[Outbound; 2]>::try_from(requests(&chat("zulip"), "nasty")).expect("two");
    let form = form(&request);
    let (_, block, pages) = read(&form["content"]);
    assert!(block.contains("*bold* _it_ ~s~ `code` ```fence``` **x**") && block.contains("@everyone"), "{block}");
    assert_eq!(pages, ["https://example.com/a?b=%22c%22&d=%3Ce%3E%7Cf%29g"]);
}

#[test]
fn what_fires_and_what_ends_it_have_one_topic() {
    let topic = |occasion| form(&requests(&chat("zulip"), occasion)[0])["topic"].clone();
    assert_eq!(topic("firing"), topic("resolved"));
    assert_eq!(topic("failed"), topic("recovered"));
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let quiet =
        "z: { type: zulip, url: \"https://z.example.com\", email: b@z.example.com, token: \"env:T\", channel: a }";
    let quiet = relay(quiet).targets.into_values().next().expect("a target");
    for (occasion, pressing) in
        [("nasty", true), ("firing", true), ("resolved", false), ("recovered", false), ("image", false)]
    {
        for (entry, pressing) in [(&chat("zulip"), pressing), (&quiet, false)] {
            let [first, plain] = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
            assert_eq!(read(&form(&first)["content"]).0, pressing.then_some("@**all** @*oncall*"), "{occasion}");
            // What was refused for the mention arrives without it.
            assert_eq!(read(&form(&plain)["content"]).0, None, "{occasion}");
        }
    }
    for (mention, taken) in [
        ("all", true),
        ("@**Ann Example**", true),
        ("@*oncall*", true),
        ("@ann", false),
        ("@****", false),
        ("ann", false),
    ] {
        let target = json!({
            "type": "zulip", "url": "https://z.example.com", "email": "b@z.example.com", "token": "env:T", "channel": "a",
            "mention": mention,
        });
        let relay = sluice::relay::Relay::from_value(&json!({ "targets": { "z": target } }));
        assert_eq!(relay.is_ok(), taken, "{mention}");
    }
}

#[test]
fn the_bots_key_goes_by_basic_authentication() {
    let request = requests(&chat("zulip"), "firing").remove(0);
    assert_eq!(request.url, "https://zulip.example.com/api/v1/messages");
    let value = &request.headers["authorization"];
    assert!(value.is_sensitive());
    let pair = value.to_str().expect("text").strip_prefix("Basic ").expect("Basic").as_bytes();
    let pair = data_encoding::BASE64.decode(pair).expect("base64");
    assert_eq!(pair, format!("relay-bot@zulip.example.com:{TOKEN}").as_bytes());
}

#[test]
fn answers_say_what_to_mend() {
    let target = chat("zulip");
    let error = |code: &str| json!({ "result": "error", "code": code, "msg": "…" }).to_string();
    assert_eq!(outcome(&target, 200, &[], r#"{"result":"success","id":1,"msg":""}"#), Outcome::Delivered);
    for (status, code) in [(400, "STREAM_DOES_NOT_EXIST"), (401, "UNAUTHORIZED"), (403, "USER_DEACTIVATED")] {
        let judged = outcome(&target, status, &[], &error(code));
        assert!(matches!(&judged, Outcome::Retry { reason, .. } if reason.contains(code)), "{judged:?}");
        assert!(!target.target.tries_next(&response(status, &[], &error(code))), "{code}");
    }
    for said in [
        "Not authorized to send to channel 'alerts'",
        "Not authorized to send to stream 'alerts'",
        "You do not have permission to post in this channel.",
    ] {
        let body = json!({ "result": "error", "code": "BAD_REQUEST", "msg": said }).to_string();
        let judged = outcome(&target, 400, &[], &body);
        assert!(matches!(judged, Outcome::Retry { blame: Blame::Setup, .. }), "{said}: {judged:?}");
        assert!(!target.target.tries_next(&response(400, &[], &body)), "{said}");
    }
    for code in ["STREAM_WILDCARD_MENTION_NOT_ALLOWED", "TOPIC_WILDCARD_MENTION_NOT_ALLOWED"] {
        assert!(target.target.tries_next(&response(400, &[], &error(code))), "{code}");
    }
    assert!(target.target.doubts_secret(&response(401, &[], "")));
    assert!(matches!(outcome(&target, 400, &[], &error("BAD_REQUEST")), Outcome::Rejected { .. }));
    assert!(target.target.tries_next(&response(400, &[], &error("BAD_REQUEST"))));
    assert!(matches!(outcome(&target, 502, &[], ""), Outcome::Retry { .. }));
    let limited =
        r#"{"result":"error","code":"RATE_LIMIT_HIT","retry-after":28.5,"msg":"API usage exceeded rate limit"}"#;
    for (headers, expected) in [(vec![], 28_500), (vec![("retry-after", "60")], 60_000)] {
        let paused = outcome(&target, 429, &headers, limited);
        assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_millis() == expected), "{paused:?}");
    }
}
