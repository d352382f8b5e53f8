use std::time::Duration;

use super::*;
use sluice::domain::outcome::Blame;

fn bodies(occasion: &str) -> Vec<Value> {
    let requests = requests(&chat("splunk-oncall"), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn what_is_over_ends_the_incident_that_it_began() {
    for (begins, ends) in [("firing", "resolved"), ("failed", "recovered")] {
        let (opened, ended) = (&bodies(begins)[0], &bodies(ends)[0]);
        assert_eq!((&opened["message_type"], &ended["message_type"]), (&"CRITICAL".into(), &"RECOVERY".into()));
        assert_eq!(opened["entity_id"], ended["entity_id"], "{begins}");
    }
    let warning = Alert::new("k", Status::Firing, Severity::Warning, "Disk");
    let entry = chat("splunk-oncall");
    let requests = entry.target.render(&alerts("s", Alerts::one(warning)), &secrets(&entry), now()).expect("rendered");
    assert!(String::from_utf8_lossy(&requests[0].body).contains(r#""message_type":"WARNING""#));
}

#[test]
fn every_incident_has_its_fields_within_the_limit_and_its_pages_as_links() {
    for (occasion, delivery) in occasions() {
        if chat("splunk-oncall").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for body in bodies(occasion) {
            let types = ["CRITICAL", "WARNING", "INFO", "RECOVERY"];
            assert!(types.contains(&body["message_type"].as_str().expect("text")), "{occasion}");
            assert!(body["entity_id"].as_str().is_some_and(|key| key.len() == 32), "{occasion}");
            assert!(body["state_message"].as_str().unwrap_or_default().chars().count() <= 20_480, "{occasion}");
        }
    }
    let body = &bodies("firing")[0];
    assert_eq!(body["vo_annotate.u.Runbook"], "https://runbooks.example.com/high-error-rate");
    assert_eq!(body["state_start_time"], 1_772_701_983, "date -d 2026-03-05T09:13:03Z +%s");
    assert_eq!(requests(&chat("splunk-oncall"), "firing")[0].url, URL);
}

#[test]
fn pages_of_one_title_do_not_displace_each_other() {
    let link = |page: &str| Link { title: "Runbook".into(), url: format!("https://runbooks.example.com/{page}") };
    let alert =
        Alert { links: vec![link("a"), link("b"), link("c")], ..Alert::new("k", Status::Firing, Severity::Error, "x") };
    let entry = chat("splunk-oncall");
    let requests = entry.target.render(&alerts("s", Alerts::one(alert)), &secrets(&entry), now()).expect("rendered");
    let body: Value = serde_json::from_slice(&requests[0].body).expect("JSON");
    for (name, page) in [("Runbook", "a"), ("Runbook 2", "b"), ("Runbook 3", "c")] {
        assert_eq!(body[format!("vo_annotate.u.{name}")], format!("https://runbooks.example.com/{page}"), "{body}");
    }
}

#[test]
fn a_failure_inside_a_200_is_one_and_none_is_quoted() {
    let entry = chat("splunk-oncall");
    assert_eq!(outcome(&entry, 200, &[], r#"{"result":"success","entity_id":"k"}"#), Outcome::Delivered);
    let failure = format!(r#"{{"result":"failure","entity_id":"k","message":"Invalid API key in {URL}"}}"#);
    let held = outcome(&entry, 200, &[], &failure);
    assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{held:?}");
    assert!(entry.target.doubts_secret(&response(200, &[], &failure)));
    let other = outcome(&entry, 200, &[], r#"{"result":"failure","message":"cannot parse"}"#);
    assert!(matches!(other, Outcome::Rejected { .. }));
    for status in [400, 404, 500] {
        let answer = format!("{:?}", outcome(&entry, status, &[], &failure));
        assert!(!answer.contains("sample-webhook"), "{answer}");
    }
    assert!(matches!(outcome(&entry, 404, &[], ""), Outcome::Retry { blame: Blame::Setup, .. }));
    assert!(entry.target.tries_next(&response(400, &[], "")));
    let later = outcome(&entry, 429, &[], "");
    assert!(matches!(later, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(60)));
}
