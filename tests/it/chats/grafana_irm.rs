use std::time::Duration;

use super::*;
use sluice::domain::outcome::Blame;

fn bodies(occasion: &str) -> Vec<Value> {
    let requests = requests(&chat("grafana-irm"), occasion);
    requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[test]
fn what_is_over_ends_the_group_that_it_began() {
    for (begins, ends) in [("firing", "resolved"), ("failed", "recovered")] {
        let (fired, over) = (&bodies(begins)[0], &bodies(ends)[0]);
        assert_eq!((&fired["state"], &over["state"]), (&"alerting".into(), &"ok".into()), "{begins}");
        assert_eq!(fired["alert_uid"], over["alert_uid"], "{begins}");
    }
    let (_, image) = occasions().into_iter().find(|(name, _)| *name == "image").expect("an occasion");
    assert!(chat("grafana-irm").target.wants(&image.event, None).is_err());
}

#[test]
fn nothing_that_others_wrote_pings_anybody_or_is_a_tag_or_a_link_in_any_of_the_media() {
    for body in bodies("nasty") {
        for field in ["title", "message"] {
            let text = body[field].as_str().unwrap_or_default();
            assert!(!text.contains(['<', '>']) && !text.contains("]("), "{text}");
            assert!(text.split('@').skip(1).all(|rest| rest.starts_with('\u{2060}')), "{text}");
        }
    }
}

#[test]
fn only_fields_that_the_integration_knows_are_sent() {
    for (occasion, delivery) in occasions() {
        if chat("grafana-irm").target.wants(&delivery.event, None).is_err() {
            continue;
        }
        for body in bodies(occasion) {
            let known = ["alert_uid", "title", "state", "link_to_upstream_details", "message", "image_url"];
            assert!(body.as_object().expect("an object").keys().all(|key| known.contains(&key.as_str())), "{occasion}");
            let message = body["message"].as_str().unwrap_or_default();
            assert!(message.chars().count() <= 16_000, "{occasion}");
        }
    }
}

#[test]
fn answers_mean_what_the_integration_means_by_them_and_none_is_quoted() {
    let entry = chat("grafana-irm");
    assert_eq!(outcome(&entry, 200, &[], "Ok."), Outcome::Delivered);
    let gone = outcome(&entry, 403, &[], "Integration key was not found. Permission denied.");
    assert!(matches!(gone, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains("no such integration")));
    assert!(entry.target.doubts_secret(&response(403, &[], "")));
    let busy = outcome(&entry, 429, &[], "Rate-limiting has been applied to your account");
    assert!(matches!(busy, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(60)));
    for status in [400, 500, 502] {
        let answer = format!("{:?}", outcome(&entry, status, &[], &format!("no route for {URL}")));
        assert!(!answer.contains("sample-webhook"), "{answer}");
    }
    assert!(matches!(outcome(&entry, 400, &[], ""), Outcome::Rejected { .. }));
    assert!(entry.target.tries_next(&response(400, &[], "")));
}
