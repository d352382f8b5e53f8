use serde_json::json;

use super::*;
use crate::markup::parse_markdown;

fn bodies(entry: &TargetEntry, occasion: &str) -> [Value; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
    requests.map(|request| serde_json::from_slice(&request.body).expect("JSON"))
}

/// The names that the server would look for in a post: in its text and in those of its attachments.
fn names(body: &Value) -> Vec<String> {
    let texts = [&body["text"], &body["attachments"][0]["text"]];
    let texts: Vec<_> = texts.into_iter().filter_map(Value::as_str).collect();
    let parts = |c: char| !(c.is_alphanumeric() || ":.-_@".contains(c));
    let words = texts.iter().flat_map(|text| text.split(parts));
    let named = words.filter_map(|word| word.split_once('@')).filter(|(_, name)| !name.is_empty());
    named.map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn what_is_sent_is_markdown_of_texts_and_links_within_the_limits() {
    for (occasion, _) in occasions() {
        let [body, plain] = bodies(&chat("mattermost"), occasion);
        let attachment = &body["attachments"][0];
        let text = attachment["text"].as_str().expect("text");
        assert!(text.chars().count() <= 16_383, "{occasion}");
        let (read, links) = parse_markdown(text).expect("Markdown");
        let headline = attachment["fallback"].as_str().expect("fallback").replace('@', "@\u{2060}");
        assert_eq!(read.lines().next(), Some(headline.as_str()), "{occasion}");
        assert!(links.iter().all(|url| url.starts_with("https://")), "{links:?}");
        assert!(attachment["footer"].as_str().is_some_and(|footer| footer.chars().count() <= 300), "{occasion}");
        let plain = plain["text"].as_str().expect("text");
        assert!(plain.chars().count() <= 4000, "{occasion}");
        parse_markdown(plain).expect("Markdown");
    }
    let [body, _] = bodies(&chat("mattermost"), "nasty");
    let (read, _) = parse_markdown(body["attachments"][0]["text"].as_str().expect("text")).expect("Markdown");
    assert!(
        read.contains("*bold* _it_ ~s~ `code` ```fence``` **x** __y__ > quote # head [text](https://evil.example)")
    );
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let quiet = relay(r#"m: { type: mattermost, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for (occasion, expected) in [
        ("nasty", vec!["here", "oncall.team"]),
        ("firing", vec!["here", "oncall.team"]),
        ("resolved", vec![]),
        ("recovered", vec![]),
        ("image", vec![]),
    ] {
        for body in bodies(&chat("mattermost"), occasion) {
            assert_eq!(names(&body), expected, "{occasion}");
        }
        for body in bodies(&quiet, occasion) {
            assert_eq!(names(&body), Vec::<String>::new(), "{occasion}");
            // What Slack would act on, the server would as well.
            for text in [&body["text"], &body["attachments"][0]["text"]].into_iter().filter_map(Value::as_str) {
                assert!(!["<!channel>", "<!here>", "<@U"].iter().any(|ping| text.contains(ping)), "{text}");
            }
        }
    }
}

#[test]
fn only_names_are_taken_as_mentions() {
    for (mention, taken) in
        [("here", true), ("all", true), ("@oncall.team", true), ("oncall", false), ("@", false), ("@a b", false)]
    {
        let target = json!({ "type": "mattermost", "webhook": "env:U", "mention": mention });
        let relay = sluice::relay::Relay::from_value(&json!({ "targets": { "m": target } }));
        assert_eq!(relay.is_ok(), taken, "{mention}");
    }
}

#[test]
fn answers_say_what_to_mend_without_repeating_the_webhooks_id() {
    let target = chat("mattermost");
    let error = |id: &str| json!({ "id": id, "message": "Webhook sample-webhook-0001 …" }).to_string();
    assert_eq!(outcome(&target, 200, &[], "ok"), Outcome::Delivered);
    for (status, id) in [
        (400, "web.incoming_webhook.invalid.app_error"),
        (403, "web.incoming_webhook.channel_locked.app_error"),
        (404, "web.incoming_webhook.channel.app_error"),
        (501, "web.incoming_webhook.disabled.app_error"),
    ] {
        let said = outcome(&target, status, &[], &error(id));
        assert!(
            matches!(&said, Outcome::Retry { reason, .. } if reason.contains(id) && !reason.contains("sample")),
            "{said:?}"
        );
        assert!(!target.target.tries_next(&response(status, &[], &error(id))), "{id}");
        assert_eq!(target.target.doubts_secret(&response(status, &[], &error(id))), status != 501, "{id}");
    }
    for id in ["web.incoming_webhook.parse.app_error", "web.incoming_webhook.split_props_length.app_error"] {
        let said = outcome(&target, 400, &[], &error(id));
        assert!(
            matches!(&said, Outcome::Rejected { reason } if reason.contains(id) && !reason.contains("sample")),
            "{said:?}"
        );
        assert!(target.target.tries_next(&response(400, &[], &error(id))), "{id}");
    }
    for status in [500, 502, 503] {
        let said = outcome(&target, status, &[], &error("api.post.create_webhook_post.creating.app_error"));
        assert!(matches!(&said, Outcome::Retry { reason, .. } if !reason.contains("sample")), "{said:?}");
    }
    let paused = outcome(&target, 429, &[("retry-after", "3")], "limit exceeded");
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 3));
}
