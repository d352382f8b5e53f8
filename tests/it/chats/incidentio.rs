use std::time::Duration;

use super::*;
use crate::markup::parse_markdown;
use crate::target_types::problems;
use sluice::domain::outcome::Blame;

fn bodies(occasion: &str) -> Vec<Value> {
    let requests = requests(&chat("incidentio"), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn what_is_over_resolves_the_alert_that_fired() {
    for (begins, ends) in [("firing", "resolved"), ("failed", "recovered")] {
        let (fired, resolved) = (&bodies(begins)[0], &bodies(ends)[0]);
        assert_eq!((&fired["status"], &resolved["status"]), (&"firing".into(), &"resolved".into()), "{begins}");
        assert_eq!(fired["deduplication_key"], resolved["deduplication_key"], "{begins}");
        assert!(fired["deduplication_key"].as_str().is_some_and(|key| !key.is_empty()));
    }
    assert_ne!(bodies("firing")[0]["deduplication_key"], bodies("failed")[0]["deduplication_key"]);
}

#[test]
fn a_description_is_markdown_in_which_others_wrote_none() {
    for (occasion, delivery) in occasions() {
        if chat("incidentio").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        let description = bodies(occasion)[0]["description"].as_str().expect("text").to_owned();
        let read = parse_markdown(&description.replace("  \n", "\n"));
        let (_, links) = read.unwrap_or_else(|why| panic!("{occasion}: {why}"));
        assert!(links.iter().all(|url| !url.contains("evil")), "{occasion}: {links:?}");
    }
    let firing = bodies("firing")[0]["description"].as_str().expect("text").to_owned();
    assert!(firing.contains("[Runbook](https://runbooks.example.com/high-error-rate)"), "{firing}");
}

#[test]
fn the_source_and_its_token_are_in_their_places_and_metadata_are_texts() {
    let request = requests(&chat("incidentio"), "firing").remove(0);
    assert_eq!(request.url, "https://api.incident.io/v2/alert_events/http/01GW2G3V0S59R238FAHPDS1R66");
    assert!(request.headers["authorization"].is_sensitive());
    assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    let body = &bodies("firing")[0];
    assert_eq!((&body["metadata"]["severity"], &body["metadata"]["team"]), (&"critical".into(), &"payments".into()));
    assert!(body["metadata"].as_object().expect("an object").values().all(Value::is_string));
    assert!(problems("{ type: incidentio, source: 'a/../b', token: 'env:T' }")[0].contains("alert source's id"));
    for (occasion, delivery) in occasions() {
        if chat("incidentio").target.wants(&delivery.event, None).is_ok() {
            assert!(bodies(occasion).iter().all(|body| body["title"].as_str().is_some_and(|title| !title.is_empty())));
            assert!(requests(&chat("incidentio"), occasion).iter().all(|request| request.body.len() <= 512 * 1000));
        }
    }
}

#[test]
fn answers_mean_what_incidentio_documents() {
    let entry = chat("incidentio");
    let accepted = r#"{"deduplication_key":"k","message":"Event accepted for processing","status":"success"}"#;
    assert_eq!(outcome(&entry, 202, &[], accepted), Outcome::Accepted);
    for status in [401, 403, 404] {
        assert!(matches!(outcome(&entry, status, &[], "{}"), Outcome::Retry { blame: Blame::Setup, .. }), "{status}");
        assert_eq!(entry.target.doubts_secret(&response(status, &[], "")), status != 404);
    }
    let refused = r#"{"type":"validation_error","errors":[{"message":"title is required"}]}"#;
    assert!(
        matches!(outcome(&entry, 422, &[], refused), Outcome::Rejected { reason } if reason.contains("title is required"))
    );
    assert!(entry.target.tries_next(&response(422, &[], refused)) && !entry.target.tries_next(&response(404, &[], "")));
    for (headers, expected) in [(vec![], 60), (vec![("retry-after", "90")], 90)] {
        let asked = outcome(&entry, 429, &headers, "");
        assert!(matches!(asked, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(expected)));
    }
    assert!(matches!(outcome(&entry, 500, &[], ""), Outcome::Retry { blame: Blame::Target, .. }));
}
