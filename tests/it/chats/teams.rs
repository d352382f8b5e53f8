use serde_json::json;

use super::*;

/// The rules of Adaptive Cards 1.4 and Teams for the elements that are used: which properties they have, and which values
/// these may have. The answer is all that is said in places where no markup is read.
fn check(element: &Value) -> String {
    let object = element.as_object().expect("an element");
    let words = |name: &str, words: &[&str]| {
        let word = element[name].as_str();
        assert!(object.get(name).is_none() || word.is_some_and(|word| words.contains(&word)), "{name}: {element}");
    };
    words("spacing", &["None", "Small", "Default", "Medium", "Large", "ExtraLarge", "Padding"]);
    words("weight", &["Lighter", "Default", "Bolder"]);
    words("size", &["Small", "Default", "Medium", "Large", "ExtraLarge"]);
    words("style", &["default", "emphasis", "good", "attention", "warning", "accent"]);
    let inner = |name: &str| {
        let inner = element[name].as_array().expect("elements");
        assert!(!inner.is_empty(), "{element}");
        inner.iter().map(check).collect::<String>()
    };
    let (said, known): (String, &[&str]) = match element["type"].as_str().expect("a type") {
        "Container" => (inner("items"), &["type", "style", "bleed", "items"]),
        "RichTextBlock" => (inner("inlines") + "\n", &["type", "spacing", "inlines"]),
        "TextRun" => {
            let text = element["text"].as_str().expect("a text");
            assert!(!text.is_empty() && !text.contains('\n'), "{element}");
            if let Some(action) = object.get("selectAction") {
                let url = action["url"].as_str().expect("a page");
                assert!(url.starts_with("https://"), "{url}");
                assert_eq!(*action, json!({ "type": "Action.OpenUrl", "url": url }));
            }
            (text.into(), &["type", "text", "weight", "size", "isSubtle", "selectAction"])
        }
        other => panic!("{other} is not expected"),
    };
    assert!(object.keys().all(|key| known.contains(&key.as_str())), "{element}");
    said
}

/// The card and the names in it that ping, after both were checked.
fn card(request: &Outbound) -> (String, Vec<String>) {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let card = &body["attachments"][0]["content"];
    assert_eq!(
        body,
        json!({
            "type": "message",
            "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "content": card }],
        })
    );
    // The flow writes the card as a text into the JSON of a message, of which Teams takes 28 KB.
    let counted = serde_json::to_string(&card.to_string()).expect("JSON").len();
    assert!(counted <= 28 * 1024, "{counted}");
    let known = ["$schema", "type", "version", "body", "msteams"];
    assert!(card.as_object().expect("a card").keys().all(|key| known.contains(&key.as_str())), "{card}");
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));

    let mut pings = Vec::new();
    for entity in card["msteams"]["entities"].as_array().into_iter().flatten() {
        let id = entity["mentioned"]["id"].as_str().expect("an id");
        assert_eq!(entity["type"], "mention");
        assert_eq!(entity["text"], format!("<at>{}</at>", entity["mentioned"]["name"].as_str().expect("a name")));
        pings.push(id.to_owned());
    }
    let mut blocks = card["body"].as_array().expect("blocks").as_slice();
    if !pings.is_empty() {
        let names: Vec<_> = pings.iter().map(|id| format!("<at>{id}</at>")).collect();
        assert_eq!(blocks[0], json!({ "type": "TextBlock", "text": names.join(" "), "wrap": true }));
        blocks = &blocks[1..];
    }
    (blocks.iter().map(check).collect(), pings)
}

#[test]
fn what_is_sent_is_a_card_as_teams_takes_it() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("teams"), occasion) {
            let (said, _) = card(&request);
            assert!(said.lines().count() > 1, "{occasion}: {said}");
        }
    }
    let [request, _] = <[Outbound; 2]>::try_from(requests(&chat("teams"), "nasty")).expect("two");
    let (said, _) = card(&request);
    assert!(
        said.contains("\n*bold* _it_ ~s~ `code` ```fence``` **x** __y__ > quote # head [text](https://evil.example)")
    );
    assert!(said.contains("<at>x</at>"));
}

#[test]
fn nobody_is_pinged_unless_the_target_says_so_and_then_only_for_what_is_pressing() {
    let named = vec!["oncall@example.com".to_owned(), "87d349ed-44d7-43e1-9a83-5f2406dee5bd".to_owned()];
    for (occasion, expected) in
        [("nasty", named.clone()), ("firing", named), ("resolved", vec![]), ("recovered", vec![]), ("image", vec![])]
    {
        let [rich, plain] = <[Outbound; 2]>::try_from(requests(&chat("teams"), occasion)).expect("two");
        assert_eq!(card(&rich).1, expected, "{occasion}");
        assert_eq!(card(&plain).1, Vec::<String>::new(), "{occasion}");
    }
    let quiet = relay(r#"t: { type: teams, webhook: "env:U" }"#).targets.into_values().next().expect("a target");
    assert!(requests(&quiet, "nasty").iter().all(|request| card(request).1.is_empty()));
}

#[test]
fn only_what_teams_knows_a_user_by_is_taken_as_a_mention() {
    for (mention, taken) in [
        ("oncall@example.com", true),
        ("87d349ed-44d7-43e1-9a83-5f2406dee5bd", true),
        ("oncall", false),
        ("<at>x</at>", false),
        ("a b@example.com", false),
        ("@example.com", false),
    ] {
        let target = json!({ "type": "teams", "webhook": "env:U", "mention": mention });
        let relay = sluice::relay::Relay::from_value(&json!({ "targets": { "t": target } }));
        assert_eq!(relay.is_ok(), taken, "{mention}");
    }
}

#[test]
fn answers_say_what_to_mend_and_a_refused_message_is_told_plainly_once() {
    let target = chat("teams");
    let error = |code: &str| json!({ "error": { "code": code, "message": "…" } }).to_string();
    assert_eq!(outcome(&target, 202, &[], ""), Outcome::Accepted);
    assert_eq!(outcome(&target, 200, &[], ""), Outcome::Delivered);
    for (status, code) in [
        (400, "WorkflowTriggerIsNotEnabled"),
        (401, "DirectApiAuthorizationRequired"),
        (403, "Forbidden"),
        (404, "WorkflowNotFound"),
    ] {
        let said = outcome(&target, status, &[], &error(code));
        assert!(matches!(&said, Outcome::Retry { reason, .. } if reason.contains(code)), "{said:?}");
        assert!(!target.target.tries_next(&response(status, &[], &error(code))), "{code}");
        // A flow that was made anew has another URL.
        assert!(target.target.doubts_secret(&response(status, &[], &error(code))), "{code}");
    }
    let mismatch = error("TriggerInputSchemaMismatch");
    assert!(matches!(outcome(&target, 400, &[], &mismatch), Outcome::Rejected { .. }));
    assert!(target.target.tries_next(&response(400, &[], &mismatch)));
    assert!(!target.target.doubts_secret(&response(400, &[], &mismatch)));
    for status in [408, 500, 502, 504] {
        assert!(matches!(outcome(&target, status, &[], ""), Outcome::Retry { .. }), "{status}");
    }
    let paused = outcome(&target, 429, &[("retry-after", "20")], &error("WorkflowRunActionRepetitionsQuotaExceeded"));
    assert!(matches!(paused, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 20));
}
