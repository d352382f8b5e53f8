use std::collections::BTreeMap;

use super::*;
use sluice::domain::outcome::Blame;

fn forms(occasion: &str) -> Vec<BTreeMap<String, String>> {
    let requests = requests(&chat("pushover"), occasion);
    requests.iter().map(|request| form_urlencoded::parse(&request.body).into_owned().collect()).collect()
}

#[test]
fn no_field_is_longer_than_pushover_takes_and_no_message_is_empty() {
    for (occasion, _) in occasions() {
        for form in forms(occasion) {
            for (field, limit) in [("title", 250), ("message", 1024), ("url", 512), ("url_title", 100)] {
                let length = form.get(field).map_or(0, |value| value.chars().count());
                assert!(length <= limit, "{occasion}: {field} has {length}");
            }
            assert!(!form["message"].is_empty() && !form["title"].is_empty(), "{occasion}");
            assert!(!form.contains_key("html") && !form.contains_key("monospace"), "texts of others are not parsed");
        }
    }
}

#[test]
fn keys_stand_in_the_body_and_nowhere_else() {
    for request in requests(&chat("pushover"), "firing") {
        assert_eq!(request.url, "https://api.pushover.net/1/messages.json");
        assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    }
    assert_eq!((forms("firing")[0]["token"].as_str(), forms("firing")[0]["user"].as_str()), (TOKEN, TOKEN));
}

#[test]
fn only_what_is_critical_is_heard_at_night_and_nothing_asks_for_an_answer() {
    let priorities = ["firing", "failed", "resolved", "image"].map(|occasion| forms(occasion)[0]["priority"].clone());
    assert_eq!(priorities, ["1", "0", "-1", "-1"]);
    assert_eq!(forms("firing")[0]["timestamp"], "1772701983", "date -d 2026-03-05T09:13:03Z +%s");
}

#[test]
fn a_page_whose_address_is_too_long_is_left_out_whole() {
    let long = format!("https://example.com/?q={}", "x".repeat(500));
    let short = "https://example.com/short";
    let link = |url: &str| Link { title: "t".repeat(150), url: url.into() };
    let alert =
        Alert { links: vec![link(&long), link(short)], ..Alert::new("k", Status::Firing, Severity::Error, "x") };
    let entry = chat("pushover");
    let requests = entry.target.render(&alerts("s", Alerts::one(alert)), &secrets(&entry), now()).expect("rendered");
    let form: BTreeMap<_, _> = form_urlencoded::parse(&requests[0].body).into_owned().collect();
    assert_eq!((form["url"].as_str(), form["url_title"].chars().count() <= 100), (short, true));
}

#[test]
fn answers_mean_what_pushover_documents() {
    let entry = chat("pushover");
    assert_eq!(outcome(&entry, 200, &[], r#"{"status":1,"request":"a84b20eb"}"#), Outcome::Delivered);
    for key in ["token", "user"] {
        let body = format!(r#"{{"{key}":"invalid","errors":["{key} is invalid"],"status":0,"request":"5c4487c0"}}"#);
        let held = outcome(&entry, 400, &[], &body);
        assert!(matches!(&held, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains(key)), "{held:?}");
        let answer = response(400, &[], &body);
        assert!(entry.target.doubts_secret(&answer) && !entry.target.tries_next(&answer));
    }
    let bad = r#"{"message":"cannot be blank","errors":["message cannot be blank"],"status":0,"request":"5c4487c0"}"#;
    assert!(
        matches!(outcome(&entry, 400, &[], bad), Outcome::Rejected { reason } if reason.contains("cannot be blank"))
    );
    assert!(entry.target.tries_next(&response(400, &[], bad)));
    assert!(
        matches!(outcome(&entry, 429, &[], ""), Outcome::Retry { blame: Blame::Setup, reason } if reason.contains("month"))
    );
    assert!(matches!(outcome(&entry, 500, &[], ""), Outcome::Retry { blame: Blame::Target, .. }));
}
