use std::time::Duration;

use super::*;
use crate::markup::{Html, parse};

fn body(request: &Outbound) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

fn texts_of(name: &str, occasion: &str) -> [String; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(&chat(name), occasion)).expect("two");
    requests.map(|request| body(&request)["text"].as_str().expect("text").to_owned())
}

#[test]
fn what_is_sent_is_html_that_telegram_reads_within_its_limit() {
    for (occasion, _) in occasions() {
        for name in ["telegram", "telegram-own"] {
            let [html, plain] = texts_of(name, occasion);
            let Html { text, .. } = parse(&html, &["b", "i", "a"], "\n").expect("HTML");
            assert!(text.encode_utf16().count() <= 4096 && plain.encode_utf16().count() <= 4096, "{occasion}");
        }
    }
}

#[test]
fn nobody_is_told_by_name_but_those_whom_the_target_names_and_then_only_of_what_is_pressing() {
    // Telegram finds an @ before a letter, a digit or an underscore.
    let names = |text: &str| -> Vec<String> {
        let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let names = text.split('@').skip(1).filter_map(|rest| rest.split(ends).next());
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    for (occasion, expected) in [("nasty", vec!["oncall"]), ("firing", vec!["oncall"]), ("resolved", vec![])] {
        let [html, plain] = texts_of("telegram", occasion);
        let Html { text, links } = parse(&html, &["b", "i", "a"], "\n").expect("HTML");
        assert_eq!(names(&text), expected, "{occasion}");
        assert_eq!(names(&plain), Vec::<String>::new(), "{occasion}");
        assert_eq!(links.iter().any(|url| url == "tg://user?id=42"), !expected.is_empty(), "{occasion}");
        assert!(links.iter().all(|url| url.starts_with("http") || url == "tg://user?id=42"), "{links:?}");
    }
    let [html, _] = texts_of("telegram-own", "nasty");
    assert_eq!(names(&parse(&html, &["b", "i", "a"], "\n").expect("HTML").text), Vec::<String>::new());
}

#[test]
fn the_token_stands_in_the_path_and_what_is_none_is_not_sent() {
    let target = chat("telegram-own");
    let [request, _] = <[Outbound; 2]>::try_from(requests(&target, "firing")).expect("two");
    assert_eq!(request.url, format!("https://telegram.example.com/api/bot{TOKEN}/sendMessage"));
    assert!(!format!("{request:?}").contains(TOKEN));
    let (_, delivery) = occasions().remove(0);
    for wrong in ["1:a/../x", "1:a?b", "1:a b", ""] {
        let mut secrets = Resolved::default();
        secrets.insert(target.secrets()[0].clone(), vec![Secret::new(wrong)]);
        let error = target.target.render(&delivery, &secrets, now()).expect_err("refused").to_string();
        assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
    }
}

#[test]
fn answers_say_what_to_mend() {
    let target = chat("telegram");
    let said = |status: u16, body: &str| outcome(&target, status, &[], body);
    let refused = |text: &str| format!(r#"{{"ok":false,"error_code":400,"description":"Bad Request: {text}"}}"#);
    assert_eq!(said(200, r#"{"ok":true,"result":{"message_id":1}}"#), Outcome::Delivered);
    let moved = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat",
        "parameters":{"migrate_to_chat_id":-1001234567890}}"#;
    assert!(matches!(said(400, moved), Outcome::Retry { reason, .. } if reason.contains("-1001234567890")));
    assert!(!target.target.tries_next(&response(400, &[], moved)));
    for broken in ["chat not found", "not enough rights to send text messages to the chat", "TOPIC_CLOSED"] {
        assert!(matches!(said(400, &refused(broken)), Outcome::Retry { reason, .. } if reason.contains(broken)));
        assert!(!target.target.tries_next(&response(400, &[], &refused(broken))), "{broken}");
    }
    for message in ["can't parse entities: unsupported start tag", "message is too long", "message text is empty"] {
        assert!(matches!(said(400, &refused(message)), Outcome::Rejected { .. }), "{message}");
        assert!(target.target.tries_next(&response(400, &[], &refused(message))), "{message}");
    }
    for (status, description) in [
        (401, "Unauthorized"),
        (403, "Forbidden: bot was kicked from the supergroup chat"),
        (403, "Forbidden: bot was blocked by the user"),
        (404, "Not Found"),
    ] {
        let body = format!(r#"{{"ok":false,"error_code":{status},"description":"{description}"}}"#);
        assert!(matches!(said(status, &body), Outcome::Retry { .. }), "{status}");
        assert_eq!(target.target.doubts_secret(&response(status, &[], &body)), status != 403);
    }
    assert!(matches!(said(502, "Bad Gateway"), Outcome::Retry { .. }));
}

#[test]
fn a_pause_is_as_long_as_the_longer_of_header_and_body() {
    let target = chat("telegram");
    let body = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}"#;
    for (headers, expected) in [(vec![], 35), (vec![("retry-after", "5")], 35), (vec![("retry-after", "60")], 60)] {
        let outcome = outcome(&target, 429, &headers, body);
        assert!(matches!(outcome, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(expected)));
    }
}
