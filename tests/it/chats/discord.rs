use std::time::Duration;

use serde_json::json;

use super::*;
use crate::markup::parse_markdown;

fn bodies(entry: &TargetEntry, occasion: &str) -> [Value; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
    requests.map(|request| serde_json::from_slice(&request.body).expect("JSON"))
}

fn without_mention() -> TargetEntry {
    let relay = relay(r#"d: { type: discord, webhook: "env:U" }"#);
    relay.targets.into_values().next().expect("a target")
}

#[test]
fn every_part_is_markdown_of_texts_and_links_within_its_limit() {
    let target = chat("discord");
    for (occasion, _) in occasions() {
        let [body, plain] = bodies(&target, occasion);
        let embed = &body["embeds"][0];
        let part = |name: &str| embed[name].as_str().unwrap_or_default();
        let length = |text: &str| text.encode_utf16().count();
        assert!(length(part("title")) <= 256 && length(part("description")) <= 4096, "{occasion}");
        let footer = embed["footer"]["text"].as_str().expect("footer");
        assert!(length(part("title")) + length(part("description")) + length(footer) <= 6000, "{occasion}");
        assert!(!part("title").is_empty() && !footer.is_empty(), "{occasion}");
        let (title, _) = parse_markdown(part("title")).expect("title");
        assert!(title.chars().count() > 5, "{title}");
        let (_, links) = parse_markdown(part("description")).expect("description");
        assert!(links.iter().all(|url| url.starts_with("https://")), "{links:?}");

        let content = plain["content"].as_str().expect("content");
        assert!(length(content) <= 2000 && plain.get("embeds").is_none(), "{occasion}");
        let said = content.split_once("<@&165511591545143296>\n").map_or(content, |(_, said)| said);
        parse_markdown(said).expect("content");
    }
    let [body, _] = bodies(&target, "nasty");
    let (text, links) = parse_markdown(body["embeds"][0]["description"].as_str().expect("text")).expect("Markdown");
    assert!(
        text.contains("*bold* _it_ ~s~ `code` ```fence``` **x** __y__ > quote # head [text](https://evil.example)")
    );
    assert_eq!(links, ["https://example.com/a?b=%22c%22&d=%3Ce%3E%7Cf%29g"]);
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    for body in bodies(&without_mention(), "nasty") {
        assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
    }
    let allowed = json!({
        "parse": ["everyone"], "users": ["80351110224678912"], "roles": ["165511591545143296"],
    });
    let named = "@here <@80351110224678912> <@&165511591545143296>";
    for (occasion, pressing) in
        [("nasty", true), ("firing", true), ("resolved", false), ("recovered", false), ("image", false)]
    {
        let [body, plain] = bodies(&chat("discord"), occasion);
        for body in [&body, &plain] {
            let expected = if pressing { allowed.clone() } else { json!({ "parse": [] }) };
            assert_eq!(body["allowed_mentions"], expected, "{occasion}");
        }
        assert_eq!(body.get("content").and_then(Value::as_str), pressing.then_some(named), "{occasion}");
        // What others wrote names nobody, whatever is allowed.
        let content = plain["content"].as_str().expect("content");
        let said = content.strip_prefix(named).unwrap_or(content);
        assert!(said.split('@').skip(1).all(|rest| rest.starts_with('\u{2060}')), "{said}");
    }
}

#[test]
fn a_thread_that_the_webhooks_url_names_is_kept() {
    let target = without_mention();
    let (_, delivery) = occasions().remove(0);
    for (url, expected) in [
        ("https://discord.com/api/webhooks/1/abc", "https://discord.com/api/webhooks/1/abc?wait=true"),
        (
            "https://discord.com/api/webhooks/1/abc?thread_id=2\n",
            "https://discord.com/api/webhooks/1/abc?thread_id=2&wait=true",
        ),
    ] {
        let mut secrets = Resolved::default();
        secrets.insert(target.secrets()[0].clone(), vec![Secret::new(url)]);
        for request in target.target.render(&delivery, &secrets, now()).expect("rendered") {
            assert_eq!(request.url, expected);
        }
    }
}

#[test]
fn only_what_discord_can_ping_is_taken_as_a_mention() {
    for (mention, taken) in [
        ("here", true),
        ("@everyone", true),
        ("<@80351110224678912>", true),
        ("<@&165511591545143296>", true),
        ("80351110224678912", false),
        ("<@!12>", false),
        ("<@>", false),
        ("<@&>", false),
        ("oncall", false),
    ] {
        let target = json!({ "type": "discord", "webhook": "env:U", "mention": mention });
        let relay = sluice::relay::Relay::from_value(&json!({ "targets": { "d": target } }));
        assert_eq!(relay.is_ok(), taken, "{mention}: {relay:?}");
    }
}

#[test]
fn answers_say_what_to_mend_and_a_refused_message_is_told_plainly_once() {
    let target = chat("discord");
    let error = |code: u32, message: &str| json!({ "code": code, "message": message }).to_string();
    assert_eq!(outcome(&target, 200, &[], r#"{"id":"1","channel_id":"2"}"#), Outcome::Delivered);
    assert_eq!(outcome(&target, 204, &[], ""), Outcome::Delivered);
    for (status, code, message) in [
        (400, 220_001, "Webhooks posted to forum channels must have a thread_name or thread_id"),
        (400, 160_005, "Thread is locked"),
        (401, 50_027, "Invalid Webhook Token"),
        (403, 50_013, "Missing Permissions"),
        (404, 10_015, "Unknown Webhook"),
        (404, 10_003, "Unknown Channel"),
    ] {
        let body = error(code, message);
        let said = outcome(&target, status, &[], &body);
        assert!(matches!(&said, Outcome::Retry { reason, .. } if reason.contains(message)), "{said:?}");
        assert!(!target.target.tries_next(&response(status, &[], &body)), "{status} {code}");
        assert_eq!(target.target.doubts_secret(&response(status, &[], &body)), status != 400, "{status} {code}");
    }
    for body in [error(50_035, "Invalid Form Body"), error(200_000, "Message was blocked by automatic moderation")] {
        assert!(matches!(outcome(&target, 400, &[], &body), Outcome::Rejected { .. }));
        assert!(target.target.tries_next(&response(400, &[], &body)), "{body}");
    }
    for status in [500, 502, 503] {
        assert!(matches!(outcome(&target, status, &[], ""), Outcome::Retry { .. }), "{status}");
    }
}

#[test]
fn a_pause_is_as_long_as_the_longer_of_header_and_body() {
    let target = chat("discord");
    let body = r#"{"message":"You are being rate limited.","retry_after":1.337,"global":false}"#;
    for (headers, body, expected) in
        [(vec![("retry-after", "1")], body, 1337), (vec![("retry-after", "65")], body, 65_000), (vec![], "", 0)]
    {
        match outcome(&target, 429, &headers, body) {
            Outcome::RetryAfter { wait, .. } => assert_eq!(wait, Duration::from_millis(expected)),
            Outcome::Retry { .. } => assert_eq!(expected, 0),
            other => panic!("{other:?}"),
        }
    }
}
