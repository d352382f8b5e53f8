//! Alertmanager's messages.

use sluice::domain::alert::{Alert, Alerts, Severity, Status};
use sluice::domain::signature;

use super::*;

fn alertmanager() -> Folder {
    folder("alertmanager")
}

fn sent(sample: &str, change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = alertmanager().json(sample);
    change(&mut body);
    alertmanager().outcome_of_body(sample, body.to_string())
}

fn told(sample: &str) -> Parsed {
    alertmanager().outcome(sample).expect("parsed")
}

fn group(parsed: &Parsed) -> &Alerts {
    let groups = groups(parsed);
    assert_eq!(groups.len(), 1, "one message is one event");
    groups[0]
}

fn identity(parsed: &Parsed) -> &str {
    identities(parsed)[0].expect("an identity")
}

fn first(parsed: &Parsed) -> &Alert {
    &group(parsed).alerts[0]
}

fn link<'a>(alert: &'a Alert, title: &str) -> Option<&'a str> {
    alert.links.iter().find(|link| link.title == title).map(|link| link.url.as_str())
}

#[test]
fn a_group_and_its_alerts_keep_their_names_for_life() {
    let life = ["firing.json", "partly-resolved.json", "resolved.json"].map(told);
    let [firing, partly, resolved] = &life;
    assert_eq!(
        [firing, partly, resolved].map(|one| group(one).status()),
        [Status::Firing, Status::Firing, Status::Resolved]
    );
    assert!(life.iter().all(|one| group(one).group == group(firing).group));
    let keys = |parsed: &Parsed| group(parsed).alerts.iter().map(|alert| alert.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(firing), keys(partly));
    assert!(keys(resolved).iter().all(|key| keys(firing).contains(key)));
    let statuses: Vec<_> = group(partly).alerts.iter().map(|alert| (alert.status, alert.ended.is_some())).collect();
    assert_eq!(statuses, [(Status::Firing, false), (Status::Resolved, true)]);
    assert!(identity(firing) != identity(partly) && identity(partly) != identity(resolved));
}

#[test]
fn what_a_peer_or_a_repetition_tells_of_the_same_states_is_the_same_news() {
    let (first, again) = (told("firing.json"), told("repeat.json"));
    assert_eq!(identity(&first), identity(&again));
    let peer = sent("partly-resolved.json", |body| {
        body["alerts"].as_array_mut().expect("alerts").reverse();
        body["alerts"][0]["endsAt"] = json!("2026-03-05T09:31:03.417Z");
        body["groupKey"] = json!("{}/{team=~\"payments\"}:{alertname=\"HighErrorRate\"}");
    });
    assert_eq!(identity(&peer.expect("parsed")), identity(&told("partly-resolved.json")));
}

#[test]
fn an_alert_that_fires_anew_is_news_under_its_old_name() {
    let anew = sent("firing.json", |body| body["alerts"][0]["startsAt"] = json!("2026-03-05T09:14:00Z"));
    let (anew, before) = (anew.expect("parsed"), told("firing.json"));
    assert_ne!(identity(&anew), identity(&before));
    assert_eq!((&group(&anew).group, &first(&anew).key), (&group(&before).group, &first(&before).key));
}

#[test]
fn the_same_labels_at_another_alertmanager_or_receiver_are_another_group() {
    let own = told("firing.json");
    for place in ["externalURL", "receiver"] {
        let other = sent("firing.json", |body| body[place] = json!("https://another.example.com")).expect("parsed");
        assert_ne!(group(&other).group, group(&own).group, "{place}");
        assert_eq!(first(&other).key == first(&own).key, place == "receiver", "{place}");
    }
}

#[test]
fn severity_is_what_the_labels_say_each_alert_for_itself() {
    for (labels, expected) in [
        (json!({ "severity": "critical" }), Severity::Critical),
        (json!({ "severity": "page" }), Severity::Critical),
        (json!({ "severity": "none" }), Severity::Info),
        (json!({ "severity": "purple", "priority": "P2" }), Severity::Error),
        (json!({ "level": "info" }), Severity::Info),
        (json!({ "severity": "purple" }), Severity::Warning),
        (json!({}), Severity::Warning),
    ] {
        let parsed = sent("firing.json", |body| body["alerts"][0]["labels"] = labels.clone()).expect("parsed");
        let severities: Vec<_> = group(&parsed).alerts.iter().map(|alert| alert.severity).collect();
        assert_eq!(severities, [expected, Severity::Critical], "{labels}");
    }
}

#[test]
fn alerts_that_the_sender_left_out_are_counted() {
    assert_eq!((group(&told("truncated.json")).left_out, group(&told("firing.json")).left_out), (41, 0));
}

#[test]
fn the_watchdog_is_an_alert_like_any_other() {
    let watchdog = told("watchdog.json");
    assert_eq!((first(&watchdog).status, first(&watchdog).severity), (Status::Firing, Severity::Info));
}

#[test]
fn links_lead_to_the_runbook_first_and_to_a_silence_only_while_it_lasts() {
    let partly = told("partly-resolved.json");
    let [firing, over] = group(&partly).alerts.as_slice() else { panic!("two alerts") };
    assert_eq!(firing.links[0].title, "Runbook");
    assert!(link(firing, "Silence").is_some() && link(over, "Silence").is_none());
    assert!(link(over, "Source").is_some());
}

/// The form that Alertmanager's own page reads: what comes out of it again are the labels.
#[test]
fn the_silence_selects_by_all_labels_however_they_are_written() {
    let nasty = told("grouped-by-nothing.json");
    let url = link(first(&nasty), "Silence").expect("a link");
    let (page, filter) = url.split_once("?filter=").expect("a filter");
    assert_eq!(page, "https://alertmanager.example.com/am/#/silences/new");
    assert!(!filter.contains(['+', ' ', '"', '&', '#']), "{filter}");
    let query = format!("filter={filter}");
    let (_, filter) = form_urlencoded::parse(query.as_bytes()).next().expect("a filter");
    assert_eq!(filter, r#"{instance="10.0.0.7:9100", job="node \"a\"\\b", path="/über uns", severity="P2"}"#);
}

#[test]
fn without_a_url_of_its_own_there_are_no_links_to_the_sender() {
    for url in [Value::Null, json!(""), json!("alertmanager"), json!("javascript:alert(1)")] {
        let parsed = sent("firing.json", |body| body["externalURL"] = url.clone()).expect("parsed");
        assert!(group(&parsed).url.is_none() && link(first(&parsed), "Silence").is_none(), "{url}");
    }
}

#[test]
fn nothing_that_is_annotated_is_lost() {
    let nasty = told("grouped-by-nothing.json");
    let [first, second] = group(&nasty).alerts.as_slice() else { panic!("two alerts") };
    assert_eq!(
        first.text.as_deref(),
        Some("line one\nline two\nimpact: orders are late\nrunbook: see the wiki\nvalue: 93")
    );
    assert_eq!(link(first, "wiki_url"), Some("https://wiki.example.com/a?b=c&d"));
    assert_eq!(second.title, "first line");
    let text = second.text.as_deref().expect("text");
    assert!(
        text.starts_with("first line\nsecond line") && text.ends_with("runbook_url: javascript:alert(1)"),
        "{text}"
    );
}

#[test]
fn a_status_that_is_none_is_named_with_its_place_and_without_its_content() {
    let error = sent("firing.json", |body| body["alerts"][1]["status"] = json!("hunter2")).expect_err("malformed");
    assert!(error.to_string().contains("alerts[1].status") && !error.to_string().contains("hunter2"), "{error}");
    let error =
        sent("firing.json", |body| body["alerts"][1]["generatorURL"] = json!(["hunter2"])).expect_err("malformed");
    assert!(error.to_string().contains("alerts[1].generatorURL") && !error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn the_url_may_carry_the_token_instead_of_a_header() {
    let folder = alertmanager().with(&json!({ "type": "alertmanager", "secret": "env:FIRST", "url_token": true }));
    let known = own_secrets(folder.entry());
    let token = signature::url_token(&Secret::new(VALUES[0]), "alertmanager");
    let request = Request { token: Some(token), ..folder.request(&folder.path.join("firing.json")) };
    assert_eq!(folder.authenticate(&request, &known), Ok(()));
}
