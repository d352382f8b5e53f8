use std::time::Duration;

use super::*;
use crate::markup::parse;
use crate::target_types::problems;
use sluice::domain::outcome::Blame;

fn contents(name: &str, occasion: &str) -> [Value; 2] {
    let requests = <[Outbound; 2]>::try_from(requests(&chat(name), occasion)).expect("two");
    requests.map(|request| serde_json::from_slice(&request.body).expect("JSON"))
}

#[test]
fn html_has_only_tags_that_the_specification_lets_clients_show_and_says_what_the_text_says() {
    for (occasion, _) in occasions() {
        let [formatted, plain] = contents("matrix", occasion);
        let read = parse(formatted["formatted_body"].as_str().expect("HTML"), &["b", "i", "a"], "<br>").expect("HTML");
        assert_eq!(formatted["format"], "org.matrix.custom.html");
        assert!(
            read.links.iter().all(|link| link.starts_with("https://") || link.starts_with("http://")),
            "{occasion}"
        );
        let body = formatted["body"].as_str().expect("text");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let said = words(&read.text);
        assert!(body.lines().next().is_some_and(|line| said.starts_with(&words(line))), "{occasion}: {body}");
        assert!(plain.get("formatted_body").is_none() && plain.get("format").is_none());
    }
}

#[test]
fn an_event_has_room_for_what_the_homeserver_adds() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("matrix"), occasion) {
            assert!(request.body.len() <= 60_000, "{occasion}: {}", request.body.len());
        }
    }
}

#[test]
fn only_what_is_pressing_notifies_and_only_those_whom_the_target_names_are_mentioned() {
    for (occasion, kind, pings) in [
        ("firing", "m.text", true),
        ("nasty", "m.text", true),
        ("resolved", "m.notice", false),
        ("image", "m.notice", false),
    ] {
        for content in contents("matrix", occasion) {
            assert_eq!(content["msgtype"], kind, "{occasion}");
            let expected = match pings {
                true => serde_json::json!({ "user_ids": ["@alice:example.org"], "room": true }),
                false => serde_json::json!({}),
            };
            assert_eq!(content["m.mentions"], expected, "{occasion}");
            assert_eq!(
                content["body"].as_str().is_some_and(|body| body.starts_with("@alice:example.org @room ")),
                pings
            );
        }
        // Without `mention`, there is nobody even in what is pressing: an empty list is what keeps old rules quiet.
        for content in contents("matrix-below", occasion) {
            assert_eq!(content["m.mentions"], serde_json::json!({}), "{occasion}");
        }
    }
    let [formatted, _] = contents("matrix", "firing");
    let html = formatted["formatted_body"].as_str().expect("HTML");
    assert!(
        html.starts_with("<a href=\"https://matrix.to/#/@alice:example.org\">@alice:example.org</a> @room <b>"),
        "{html}"
    );
}

#[test]
fn the_path_names_room_and_delivery_so_that_a_repeat_makes_one_event() {
    let (_, delivery) = occasions().remove(0);
    let place = |name: &str| requests(&chat(name), "firing").into_iter().map(|request| request.url).collect::<Vec<_>>();
    let path = format!("_matrix/client/v3/rooms/!abc%2Fd:example.org/send/m.room.message/{}", delivery.id);
    assert_eq!(place("matrix"), vec![format!("https://matrix.example.org/{path}"); 2]);
    let path = path.replace("!abc%2Fd:example.org", "!43-characters-of-a-room-of-version-12");
    assert_eq!(place("matrix-below"), vec![format!("https://example.org/synapse/{path}"); 2]);
    for request in requests(&chat("matrix"), "firing") {
        assert_eq!(
            (request.method.as_str(), &request.headers["authorization"]),
            ("PUT", &format!("Bearer {TOKEN}").parse().expect("value"))
        );
        assert!(request.headers["authorization"].is_sensitive());
    }
}

#[test]
fn a_room_is_named_by_its_id_and_a_user_with_a_server() {
    let wrong = |room: &str, mention: &str| {
        problems(&format!(
            "{{ type: matrix, url: 'https://m.example', token: 'env:T', room: '{room}', mention: '{mention}' }}"
        ))
    };
    assert_eq!(wrong("!r:example.org", "@alice:example.org"), [""; 0]);
    assert!(wrong("#alerts:example.org", "@room")[0].contains("begins with !"));
    for mention in ["alice", "@alice", "@al<ice:example.org", "@:example.org"] {
        assert!(wrong("!r", mention)[0].contains("@alice:example.org"), "{mention}");
    }
}

#[test]
fn answers_say_what_to_mend() {
    let entry = chat("matrix");
    assert_eq!(outcome(&entry, 200, &[], r#"{"event_id":"$a"}"#), Outcome::Delivered);
    for (status, code, secret) in
        [(401, "M_UNKNOWN_TOKEN", true), (401, "M_MISSING_TOKEN", true), (403, "M_FORBIDDEN", false)]
    {
        let body = format!(r#"{{"errcode":"{code}","error":"no"}}"#);
        let outcome = outcome(&entry, status, &[], &body);
        assert!(matches!(outcome, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains(code)));
        assert_eq!(entry.target.doubts_secret(&response(status, &[], &body)), secret, "{code}");
    }
    let nowhere = outcome(&entry, 404, &[], r#"{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}"#);
    assert!(matches!(nowhere, Outcome::Retry { blame: Blame::Setup, .. }));
    for (status, code) in [(413, "M_TOO_LARGE"), (400, "M_BAD_JSON")] {
        let body = format!(r#"{{"errcode":"{code}","error":"event too large"}}"#);
        assert!(entry.target.tries_next(&response(status, &[], &body)), "{code}");
        assert!(matches!(outcome(&entry, status, &[], &body), Outcome::Rejected { reason } if reason.contains(code)));
    }
    assert!(matches!(
        outcome(&entry, 500, &[], r#"{"errcode":"M_UNKNOWN"}"#),
        Outcome::Retry { blame: Blame::Target, .. }
    ));
}

#[test]
fn a_pause_is_the_longer_of_seconds_in_the_header_and_milliseconds_in_the_body() {
    let entry = chat("matrix");
    let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":2500}"#;
    for (headers, expected) in [(vec![], 2500), (vec![("retry-after", "2")], 2500), (vec![("retry-after", "3")], 3000)]
    {
        let asked = outcome(&entry, 429, &headers, body);
        assert!(
            matches!(asked, Outcome::RetryAfter { wait, .. } if wait == Duration::from_millis(expected)),
            "{asked:?}"
        );
    }
    assert!(matches!(outcome(&entry, 429, &[], "{}"), Outcome::Retry { .. }));
}
