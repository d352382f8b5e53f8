use super::*;

/// The notification and the message attributes of a request.
fn published(request: &Outbound) -> (Value, BTreeMap<String, String>) {
    let form: BTreeMap<String, String> = form_urlencoded::parse(&request.body).into_owned().collect();
    (serde_json::from_str(&form["Message"]).expect("JSON"), form)
}

#[test]
fn every_notification_keeps_to_the_documented_schema_and_to_a_block_of_slack() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("amazonq"), occasion) {
            let (notification, form) = published(&request);
            assert_eq!((&notification["version"], &notification["source"]), (&"1.0".into(), &"custom".into()));
            for object in ["content", "metadata"] {
                let known: &[&str] = match object {
                    "content" => &["textType", "title", "description"],
                    _ => &["threadId", "eventType", "additionalContext"],
                };
                let keys: Vec<_> = notification[object].as_object().expect("an object").keys().collect();
                assert!(keys.iter().all(|key| known.contains(&key.as_str())), "{occasion}: {keys:?}");
            }
            let length = |name: &str| notification["content"][name].as_str().expect("text").chars().count();
            assert!((1..=150).contains(&length("title")), "{occasion}");
            assert!((1..=3000).contains(&length("description")), "{occasion}");
            let context = notification["metadata"]["additionalContext"].as_object().expect("an object");
            assert!(context.values().all(Value::is_string), "{occasion}");
            assert!(form["Message"].len() <= 262_144 && !form.contains_key("MessageGroupId"), "{occasion}");
        }
    }
}

#[test]
fn what_ends_an_alert_is_in_the_thread_of_what_began_it_and_a_push_in_none() {
    let thread = |occasion| published(&requests(&chat("amazonq"), occasion)[0]).0["metadata"]["threadId"].clone();
    assert!(thread("firing").is_string());
    assert_eq!(thread("firing"), thread("resolved"));
    assert_eq!(thread("image"), Value::Null);
}

#[test]
fn no_text_mentions_anybody_or_hides_where_a_link_leads() {
    for request in requests(&chat("amazonq"), "nasty") {
        let (notification, _) = published(&request);
        for name in ["title", "description"] {
            let text = notification["content"][name].as_str().expect("text");
            assert!(!text.contains(['<', '>']) && !text.contains("]("), "{text}");
            let mut after_at = text.split('@').skip(1);
            assert!(after_at.all(|rest| rest.starts_with('\u{200b}')), "{text}");
        }
    }
    let (notification, _) = published(&requests(&chat("amazonq"), "firing")[0]);
    let text = notification["content"]["description"].as_str().expect("text");
    assert!(text.contains("Runbook: https://runbooks.example.com/high-error-rate\n"), "{text}");
}

#[test]
fn a_fifo_topic_is_a_mistake() {
    let file = serde_json::json!({
        "sources": {}, "routes": [],
        "targets": { "a": { "type": "amazonq", "topic_arn": "arn:aws:sns:eu-west-1:123456789012:chat.fifo" } },
    });
    let problems = sluice::relay::Relay::from_value(&file).expect_err("a mistake");
    assert!(problems.contains("targets.a.topic_arn") && problems.contains("FIFO"), "{problems}");
}

#[test]
fn answers_are_those_of_sns() {
    let target = chat("amazonq");
    assert_eq!(outcome(&target, 200, &[], "<PublishResponse/>"), Outcome::Accepted);
    let gone = "<ErrorResponse><Error><Code>NotFound</Code><Message>no topic</Message></Error></ErrorResponse>";
    let gone = outcome(&target, 404, &[], gone);
    assert!(matches!(&gone, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains("no topic")), "{gone:?}");
}
