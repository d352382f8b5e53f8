//! What is special to single target types: their keys, their answers, and checks of what they are sent by other code
//! than ours.

use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::Relay;
use sluice::relay::format::{Problem, Problems};
use sluice::rim::yaml;
use sluice::target::RenderError;

use crate::targets::{NOW, TARGETS, TOKEN, delivery, image_push, relay, secrets};

/// What reading a relay file with this target notes.
fn problems(target: &str) -> Vec<String> {
    let file = format!(
        "sources: {{ s: {{ type: github, secret: 'env:S' }} }}\ntargets: {{ a: {target} }}\nroutes: [{{ to: a }}]"
    );
    let mut problems = Problems::default();
    let read = Relay::read(&yaml::parse(&file).expect("YAML").value, &mut problems);
    assert_eq!(read.is_none(), problems.has_errors());
    problems.0.iter().map(Problem::to_string).collect()
}

#[test]
fn an_http_target_authenticates_in_exactly_one_way() {
    let with = |auth: &str| problems(&format!("{{ type: http, url: 'https://example.com', auth: {auth} }}"));
    assert_eq!(with("{ bearer: 'env:T' }"), Vec::<String>::new());
    for (auth, place, words) in [
        ("{}", "targets.a.auth: ", "names no way"),
        ("{ bearer: 'env:T', standard_webhooks: 'env:T' }", "targets.a.auth: ", "names several ways"),
        ("{ basic: { username: 'a:b', password: 'env:T' } }", "targets.a.auth.basic.username: ", "colon"),
        ("{ basic: { username: a } }", "targets.a.auth.basic: ", "`password` is missing"),
        ("{ header: { name: Content-Length, value: 'env:T' } }", "targets.a.auth.header.name: ", "belongs to HTTP"),
        ("{ hmac: { header: Host, secret: 'env:T' } }", "targets.a.auth.hmac.header: ", "belongs to HTTP"),
        ("{ hmac: { header: X-S, secret: 'env:T', algorithm: md5 } }", "targets.a.auth.hmac.algorithm: ", "sha256"),
        (r#"{ hmac: { header: X-S, secret: 'env:T', prefix: "a\nb" } }"#, "targets.a.auth.hmac.prefix: ", "characters"),
        ("{ bearer: hunter2 }", "targets.a.auth.bearer: ", "by reference"),
    ] {
        let found = with(auth);
        assert_eq!(found.len(), 1, "{auth}: {found:?}");
        assert!(found[0].starts_with(place) && found[0].contains(words), "{auth}: {found:?}");
        assert!(!found[0].contains("hunter2"));
    }
}

#[test]
fn keys_of_an_http_target_that_do_not_fit_its_body_are_problems() {
    let with = |keys: &str| problems(&format!("{{ type: http, url: 'https://example.com', {keys} }}"));
    for (keys, expected) in [
        ("body: template", "targets.a: `template` is missing, and `body: template` asks for it"),
        ("template: '1'", "targets.a.template: `template` is used with `body: template` only"),
        (
            "cloudevents_mode: binary",
            "targets.a.cloudevents_mode: `cloudevents_mode` is used with `body: cloudevents` only",
        ),
        ("content_type: text/plain", "targets.a.content_type: `content_type` is used with `body: template` only"),
        (
            "body: template, template: '{{ repo }}', content_type: text/plain",
            "targets.a.template: unknown variable `repo`; known are ",
        ),
        ("body: template, template: '{% if %}', content_type: text/plain", "targets.a.template: line 1: syntax error"),
        (
            "body: template, template: '{{ tag }}'",
            "targets.a.template: it renders for no kind of event: the template writes what is no JSON",
        ),
    ] {
        let found = with(keys);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{keys}: {found:?}");
    }
}

#[test]
fn a_template_that_an_event_does_not_fit_gives_the_delivery_up_with_the_reason() {
    let relay =
        relay("a: { type: http, url: 'https://example.com', body: template, template: '{\"tag\": \"{{ tag }}\"}' }");
    let entry = &relay.targets["a"];
    let now = NOW.parse().expect("time");
    let refused = entry.target.render(&image_push(&[]), &secrets(entry, TOKEN), now);
    let Err(RenderError::Unfit(why)) = refused else { panic!("{refused:?}") };
    assert!(why.starts_with("template, line 1: a field that this event does not have"), "{why}");
}

#[test]
fn a_standard_webhooks_signature_is_made_for_each_attempt_and_its_id_stays() {
    let relay = relay(TARGETS);
    let entry = &relay.targets["http-standard-webhooks"];
    let delivery = image_push(&["1.2.3"]);
    let at = |time: &str| {
        let mut requests =
            entry.target.render(&delivery, &secrets(entry, TOKEN), time.parse().expect("time")).expect("rendered");
        requests.remove(0).headers
    };
    let (first, second) = (at("2026-08-20T12:00:00Z"), at("2026-08-20T12:10:00Z"));
    assert_eq!(first["webhook-id"], delivery.id.as_str());
    assert_eq!(first["webhook-id"], second["webhook-id"]);
    assert_eq!(
        (&first["webhook-timestamp"], &second["webhook-timestamp"]),
        (&"1787227200".parse().expect("value"), &"1787227800".parse().expect("value"))
    );
    assert_ne!(first["webhook-signature"], second["webhook-signature"]);
    assert!(first["webhook-signature"].is_sensitive());
}

/// Without a secret nothing is sent unsigned, and no error repeats one.
#[test]
fn a_missing_or_empty_secret_sends_nothing_and_an_unfit_one_is_never_repeated() {
    let relay = relay(TARGETS);
    let now = NOW.parse().expect("time");
    for (name, entry) in relay.targets.iter().filter(|(_, entry)| !entry.secrets().is_empty()) {
        for delivery in [delivery("push.json"), image_push(&["1.2.3"])] {
            if entry.target.wants(&delivery.event).is_err() {
                continue;
            }
            let empty = Resolved::default();
            let refused = entry.target.render(&delivery, &empty, now);
            assert!(matches!(refused, Err(RenderError::NoSecret(_))), "{name}: {refused:?}");
            let mut unfit = Resolved::default();
            for reference in entry.secrets() {
                unfit.insert(reference.clone(), vec![Secret::new("hunter2\n")]);
            }
            let rendered = entry.target.render(&delivery, &unfit, now);
            assert!(!format!("{rendered:?}").contains("hunter2"), "{name}: {rendered:?}");
            unfit.insert(entry.secrets()[0].clone(), vec![Secret::new("")]);
            let refused = entry.target.render(&delivery, &unfit, now);
            assert!(matches!(refused, Err(RenderError::NoSecret(_))), "{name}: {refused:?}");
        }
    }
}
