use super::*;
use crate::markup::parse;
use sluice::domain::outcome::Blame;

fn bodies(occasion: &str) -> Vec<Value> {
    let requests = requests(&chat("grafana"), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn an_annotation_is_html_of_a_few_tags_within_what_every_database_takes() {
    for (occasion, _) in occasions() {
        for body in bodies(occasion) {
            let text = body["text"].as_str().expect("text");
            parse(text, &["b", "i", "a"], "<br>").unwrap_or_else(|why| panic!("{occasion}: {why}"));
            assert!((1..=65_535).contains(&text.len()), "{occasion}");
        }
    }
}

#[test]
fn it_stands_where_it_happened_under_tags_that_a_dashboard_can_choose_by() {
    let body = &bodies("firing")[0];
    assert_eq!(body["time"], 1_772_701_983_000_i64, "date -d 2026-03-05T09:13:03Z +%s000");
    assert_eq!(body["tags"], serde_json::json!(["sluice", "alertmanager", "critical", "firing"]));
    for (occasion, _) in occasions() {
        // As Grafana estimates them: with brackets, quotes and commas.
        assert!(bodies(occasion)[0]["tags"].to_string().len() <= 500, "{occasion}");
    }
    let request = requests(&chat("grafana"), "firing").remove(0);
    assert_eq!(request.url, "https://grafana.example.com/prefix/api/annotations");
    assert!(request.headers["authorization"].is_sensitive());
}

#[test]
fn answers_mean_what_grafana_documents() {
    let entry = chat("grafana");
    assert_eq!(outcome(&entry, 200, &[], r#"{"message":"Annotation added","id":1}"#), Outcome::Delivered);
    for status in [401, 403] {
        let held = outcome(&entry, status, &[], r#"{"message":"Unauthorized"}"#);
        assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{status}");
        assert!(entry.target.doubts_secret(&response(status, &[], "")));
    }
    let bad = r#"{"message":"Failed to save annotation"}"#;
    assert!(
        matches!(outcome(&entry, 400, &[], bad), Outcome::Rejected { reason } if reason.contains("Failed to save"))
    );
    assert!(entry.target.tries_next(&response(400, &[], bad)));
    assert!(matches!(outcome(&entry, 429, &[("retry-after", "7")], ""), Outcome::RetryAfter { .. }));
    assert!(matches!(outcome(&entry, 500, &[], bad), Outcome::Retry { blame: Blame::Target, .. }));
}
