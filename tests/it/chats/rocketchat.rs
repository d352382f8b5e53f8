use std::time::Duration;

use serde_json::json;

use super::*;

fn bodies(entry: &TargetEntry, occasion: &str) -> [Value; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(entry, occasion)).expect("two");
    requests.map(|request| serde_json::from_slice(&request.body).expect("JSON"))
}

/// What Rocket.Chat's parser reads: a backslash makes the next character plain, and nothing else may be a mark.
fn read(text: &str) -> String {
    let mut plain = String::new();
    for line in text.split('\n') {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(!line.starts_with(['-', '+', '#', '>', ' ', '\t']), "{line}");
        assert!(rest.len() == line.len() || !rest.starts_with('.'), "{line}");
        let mut chars = line.chars().peekable();
        let mut before = ' ';
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let escaped = chars.next().expect("an escaped character");
                    // `\[` and `\(` begin a formula.
                    assert!(!matches!(escaped, '[' | '('), "{line}");
                    plain.push(escaped);
                }
                '(' => {
                    assert_ne!(before, ']', "{line}");
                    plain.push(c);
                }
                // The parts of an address.
                '_' | '#' if line.contains("http") => plain.push(c),
                '*' | '_' | '`' | '~' | '<' | '>' | '#' | '$' => panic!("{c} is not escaped: {line}"),
                c => plain.push(c),
            }
            before = c;
        }
        plain.push('\n');
    }
    plain
}

fn names(text: &str) -> Vec<String> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
    let names = text.split('@').skip(1).filter_map(|rest| rest.split(ends).next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn what_is_sent_parses_as_nothing_but_text_within_the_limit() {
    for (occasion, _) in occasions() {
        let [body, plain] = bodies(&chat("rocketchat"), occasion);
        for text in [&body["attachments"][0]["text"], &plain["text"]] {
            let text = text.as_str().expect("text");
            assert!(text.encode_utf16().count() <= 5000, "{occasion}");
            read(text);
        }
        assert!(body["attachments"][0]["title"].as_str().is_some_and(|title| title.chars().count() > 5), "{occasion}");
    }
    let [body, _] = bodies(&chat("rocketchat"), "nasty");
    let read = read(body["attachments"][0]["text"].as_str().expect("text"));
    assert!(
        read.contains("*bold* _it_ ~s~ `code` ```fence``` **x** __y__ > quote # head [text]\u{2060}(https://"),
        "{read}"
    );
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let quiet = relay(r#"r: { type: rocketchat, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    for (occasion, pressing) in
        [("nasty", true), ("firing", true), ("resolved", false), ("recovered", false), ("image", false)]
    {
        for (entry, pressing) in [(&chat("rocketchat"), pressing), (&quiet, false)] {
            for body in bodies(entry, occasion) {
                let texts = [&body["text"], &body["attachments"][0]["text"]];
                let named: Vec<_> = texts.iter().filter_map(|text| text.as_str()).flat_map(names).collect();
                let expected: &[&str] = if pressing { &["here", "oncall.team"] } else { &[] };
                assert_eq!(named, expected, "{occasion}");
            }
        }
    }
}

#[test]
fn answers_say_what_to_mend_and_a_refused_message_is_told_plainly_once() {
    let target = chat("rocketchat");
    let error = |error: &str| json!({ "success": false, "error": error }).to_string();
    assert_eq!(outcome(&target, 200, &[], r#"{"success":true}"#), Outcome::Delivered);
    for (status, said) in [
        (400, "Invalid integration id or token provided."),
        (404, "Invalid integration id or token provided."),
        (400, "error-not-allowed"),
        (400, "invalid-channel"),
        (401, "unauthorized"),
    ] {
        let judged = outcome(&target, status, &[], &error(said));
        assert!(matches!(&judged, Outcome::Retry { reason, .. } if reason.contains(said)), "{judged:?}");
        assert!(!target.target.tries_next(&response(status, &[], &error(said))), "{said}");
        assert!(target.target.doubts_secret(&response(status, &[], &error(said))), "{said}");
    }
    for status in [200, 400] {
        let too_long = error("error-message-size-exceeded");
        assert!(matches!(outcome(&target, status, &[], &too_long), Outcome::Rejected { .. }), "{status}");
        assert!(target.target.tries_next(&response(status, &[], &too_long)), "{status}");
    }
    for status in [500, 502, 503] {
        assert!(matches!(outcome(&target, status, &[], &error("…")), Outcome::Retry { .. }), "{status}");
    }
    let reset = (now().as_millisecond() + 42_000).to_string();
    let paused = outcome(&target, 429, &[("x-ratelimit-reset", &reset)], &error("error-too-many-requests"));
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(42)));
}
