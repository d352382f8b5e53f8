use std::time::Duration;

use super::*;

fn bodies(occasion: &str) -> Vec<Value> {
    let requests = requests(&chat("pagerduty"), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn what_fires_and_what_ends_it_have_the_same_key() {
    let (firing, resolved) = (&bodies("firing")[0], &bodies("resolved")[0]);
    assert_eq!((&firing["event_action"], &resolved["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert!(firing["dedup_key"].as_str().is_some_and(|key| !key.is_empty() && key.chars().count() <= 255));
    // A group is one alert, as long as one of it fires.
    for (begins, ends) in [("firing", "resolved"), ("failed", "recovered"), ("group", "storm")] {
        assert_eq!(bodies(begins)[0]["dedup_key"], bodies(ends)[0]["dedup_key"], "{begins}");
    }
    assert_eq!(bodies("recovered")[0]["event_action"], "resolve");
    assert_eq!(bodies("resolved").len(), 1, "there is no plainer resolve");
    assert_eq!(bodies("group")[0]["event_action"], "trigger");
    assert_ne!(bodies("firing")[0]["dedup_key"], bodies("failed")[0]["dedup_key"]);
}

#[test]
fn every_event_is_one_that_pagerduty_documents() {
    let mut triggered = 0;
    for (occasion, delivery) in occasions() {
        if chat("pagerduty").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for request in requests(&chat("pagerduty"), occasion) {
            assert!(request.body.len() <= 512 * 1000, "{occasion}");
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            assert_eq!(body["routing_key"], TOKEN);
            if body["event_action"] == "resolve" {
                continue;
            }
            triggered += 1;
            let payload = &body["payload"];
            assert!(payload["summary"].as_str().is_some_and(|text| (1..=1024).contains(&text.chars().count())));
            assert!(payload["source"].as_str().is_some_and(|text| !text.is_empty()), "{occasion}");
            assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().expect("text")));
            let time = payload["timestamp"].as_str().expect("text");
            assert!(time.parse::<Timestamp>().is_ok(), "{time}");
            for link in body["links"].as_array().into_iter().flatten() {
                assert!(link["href"].as_str().is_some_and(|url| url.starts_with("https://")), "{occasion}: {link}");
            }
        }
    }
    assert!(triggered >= 10, "each with its plain form: {triggered}");
}

#[test]
fn what_neither_begins_nor_ends_anything_is_not_told() {
    let (_, image) = occasions().into_iter().find(|(name, _)| *name == "image").expect("an occasion");
    let entry = chat("pagerduty");
    let why = entry.target.wants(&image.event, None).expect_err("no incident");
    assert!(why.contains("begins and ends"), "{why}");
    assert!(entry.target.render(&image, &secrets(&entry), now()).is_err());
}

#[test]
fn labels_stand_under_their_own_names_and_none_of_the_same_name_is_lost() {
    let details = &bodies("firing")[0]["payload"]["custom_details"];
    assert_eq!((&details["team"], &details["Cluster"]), (&"payments".into(), &"prod-1".into()));
    let alert = Alert {
        text: Some("ours".into()),
        labels: texts(&[("text", "theirs"), ("Reason", "label")]),
        reason: Some("reason".into()),
        ..Alert::new("k", Status::Firing, Severity::Error, "\0")
    };
    let entry = chat("pagerduty");
    let delivery = alerts("s", Alerts::one(alert));
    let requests = entry.target.render(&delivery, &secrets(&entry), now()).expect("rendered");
    let body: Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    let details = &body["payload"]["custom_details"];
    // An alert of no title at all is told nevertheless.
    assert_eq!(body["payload"]["summary"], "s");
    assert_eq!((&details["text"], &details["Reason"]), (&"ours\ntheirs".into(), &"reason\nlabel".into()));
}

#[test]
fn answers_mean_what_pagerduty_documents() {
    let entry = chat("pagerduty");
    let accepted = r#"{"status":"success","message":"Event processed","dedup_key":"k"}"#;
    assert_eq!(outcome(&entry, 202, &[], accepted), Outcome::Delivered);
    let bad = r#"{"status":"invalid event","message":"Event object is invalid","errors":["'summary' is missing"]}"#;
    assert!(matches!(outcome(&entry, 400, &[], bad), Outcome::Rejected { reason } if reason.contains("summary")));
    assert!(entry.target.tries_next(&response(400, &[], bad)));
    for (wait, headers) in [(60, vec![]), (300, vec![("retry-after", "300")])] {
        let asked = outcome(&entry, 429, &headers, "");
        assert!(matches!(asked, Outcome::RetryAfter { wait: asked, .. } if asked == Duration::from_secs(wait)));
    }
    for status in [500, 502, 503, 504] {
        let outcome = outcome(&entry, status, &[], "");
        assert!(matches!(outcome, Outcome::Retry { blame: Blame::Target, .. }), "{status}: {outcome:?}");
    }
}

#[test]
fn a_key_that_is_none_holds_the_target_and_is_read_anew() {
    let entry = chat("pagerduty");
    for error in ["Length of 'routing_key' is incorrect (should be 32 characters)", "Invalid routing key"] {
        let body = format!(r#"{{"status":"invalid event","message":"Event object is invalid","errors":["{error}"]}}"#);
        assert!(matches!(outcome(&entry, 400, &[], &body), Outcome::Retry { blame: Blame::Setup, .. }), "{error}");
        let answer = response(400, &[], &body);
        assert!(entry.target.doubts_secret(&answer) && !entry.target.tries_next(&answer));
    }
}
