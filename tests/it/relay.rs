//! The relay file: every problem at once, and what of it is published.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sluice::domain::alert::{Alert, Alerts, Severity, Status};
use sluice::domain::event::{Detail, Event};
use sluice::domain::name::Name;
use sluice::relay::format::{Level, Problems};
use sluice::relay::{Relay, schema};
use sluice::rim::{config, yaml};

use crate::fakes::FakeSecrets;
use crate::golden;

fn problems(text: &str) -> Vec<String> {
    let document = yaml::parse(text).expect("YAML");
    let mut problems = Problems::default();
    Relay::read(&document.value, &mut problems);
    problems.0.iter().map(|problem| format!("{:?} {problem}", problem.level)).collect()
}

#[test]
fn every_problem_is_reported_at_once_with_its_place_and_a_suggestion() {
    let found = problems(
        r#"
sources:
  github: { type: githib, secret: "ssm:/a" }
  Hub: { type: github, secret: "ssm:/a" }
  a: { type: github, sceret: "ssm:/a", grace: 5 }
  b: { type: github, secret: hunter2, allow_cidrs: [] }
  c: { secret: "ssm:/a" }
targets:
  d: { type: flux, url: "ftp://x", receiver: { type: generic, name: x }, token: "ssm:/t", timeout: 1y }
  e: { type: http, url: "https://user:hunter2@example.com" }
routes:
  - { from: [githup, a], when: { brunch: main }, to: [d, f] }
  - { to: [] }
egres: {}
"#,
    );
    for expected in [
        "sources.github.type: unknown type; did you mean `github`?",
        "sources.Hub: a name has",
        "sources.a: `secret` is missing",
        "sources.a.sceret: unknown key `sceret`; did you mean `secret`?",
        "sources.a.grace: a length of time needs its unit",
        "sources.b.secret: a secret is named by reference",
        "sources.b.allow_cidrs: an empty list would accept nothing",
        "sources.c: `type` is missing",
        "targets.d.url: expected an http or https URL",
        "targets.d.receiver: `namespace` is missing",
        "targets.d.timeout: expected a length of time",
        "targets.e.url: a URL in the relay file must not hold credentials",
        "routes.0.when.brunch: unknown key `brunch`; did you mean `branch`?",
        "routes.1.to: an empty list",
        "egres: unknown key `egres`; did you mean `egress`?",
    ] {
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected} in:\n{}", found.join("\n"));
    }
    assert!(!found.join("").contains("hunter2"));
}

#[test]
fn routes_that_name_what_is_not_there_are_errors_and_idle_targets_warnings() {
    let found = problems(
        r#"
sources: { github: { type: github, secret: "ssm:/a" } }
targets: { log: { type: http, url: "https://x" }, idle: { type: http, url: "https://x" } }
routes: [{ from: githup, to: [log, lag] }]
"#,
    );
    assert_eq!(
        found,
        [
            "Error routes.0.from: there is no source named `githup`; did you mean `github`?",
            "Error routes.0.to: there is no target named `lag`; did you mean `log`?",
            "Warning targets.idle: no route leads to this target",
        ]
    );
    assert!(Level::Error > Level::Warning);
}

#[test]
fn a_delivery_that_is_tried_for_longer_than_sqs_keeps_it_is_warned_of() {
    let with = |max_age: &str| {
        problems(&format!(
            "targets: {{ log: {{ type: http, url: 'https://x', retry: {{ max_age: {max_age} }} }} }}\nroutes: [{{ to: log }}]"
        ))
    };
    assert_eq!(with("13d"), Vec::<String>::new());
    assert_eq!(
        with("14d"),
        [
            "Warning targets.log.retry.max_age: SQS forgets what is older than 14 days, before it would become a dead letter"
        ]
    );
}

#[test]
fn a_flux_target_names_what_its_receiver_checks_and_nothing_else() {
    let found = problems(
        r#"
sources: { github: { type: github, secret: "ssm:/a" } }
targets:
  a: { type: flux, url: "https://x", receiver: { type: gcr, name: x, namespace: x } }
  b: { type: flux, url: "https://x", receiver: { type: github, name: x, namespace: x } }
  c: { type: flux, url: "https://x", receiver: { type: generic-oidc, name: x, namespace: x }, token: "ssm:/t" }
  d: { type: flux, url: "https://x", receiver: { type: generic, name: x, namespace: x }, token: "ssm:/t", audience: x }
  e: { type: flux, receiver: { type: generic, name: x } }
  f: { type: flux, url: "https://x", receiver: { type: dockerhub, name: x, namespace: x }, token: "ssm:/t", body: event }
  g: { type: flux, url: "https://x", receiver: { type: quay, name: x, namespace: x, events: [push] }, token: "ssm:/t" }
  h: { type: flux, url: "https://x", receiver: { type: generic-oidc, name: x, namespace: x }, audience: "" }
  ok: { type: flux, url: "https://x", receiver: { type: generic-oidc, name: x, namespace: x } }
routes: [{ to: [a, b, c, d, e, f, g, h, ok] }]
"#,
    );
    let expected = [
        ("Error targets.a.receiver.type: a gcr Receiver accepts nothing but an ID token that Google", "generic-oidc"),
        ("Error targets.b: `token` is missing", ""),
        ("Error targets.c.token: a generic-oidc Receiver has no token", "leave this out"),
        ("Error targets.d.audience: only a generic-oidc Receiver has an audience", ""),
        ("Error targets.e: `token` is missing", ""),
        ("Error targets.e: `url` is missing", ""),
        ("Error targets.e.receiver: `namespace` is missing", ""),
        ("Error targets.f.body: a Receiver of this type reads the body of its own kind of registry", "leave this out"),
        ("Error targets.h.audience: an empty audience", ""),
        ("Warning targets.g.receiver.events: Flux does not look at the events of this type", ""),
    ];
    for (start, words) in expected {
        let fits = |problem: &String| problem.starts_with(start) && problem.contains(words);
        assert!(found.iter().any(fits), "{start} in:\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn a_route_that_lets_nothing_pass_that_its_target_could_use_is_a_warning() {
    let found = problems(
        r#"
sources: { github: { type: github, secret: "ssm:/a" } }
targets:
  hub: { type: flux, url: "https://x", receiver: { type: dockerhub, name: x, namespace: x }, token: "ssm:/t" }
  any: { type: flux, url: "https://x", receiver: { type: generic, name: x, namespace: x }, token: "ssm:/t" }
routes:
  - { to: [hub, any] }
  - { when: { event: push }, to: [hub, any] }
  - { when: { kind: git }, to: hub }
  - { when: { kind: [git, image_push] }, to: hub }
  - { when: { tag: "v*" }, to: hub }
  - { when: { severity: error }, to: hub }
  - { when: { kind: [alert, image_push] }, to: hub }
"#,
    );
    let warning = |route: u32| {
        format!(
            "Warning routes.{route}.to: nothing of what this route lets pass is of use to `hub`: Receivers of type \
             dockerhub are for pushes to registries only"
        )
    };
    assert_eq!(found, [warning(1), warning(2), warning(5)]);
}

#[test]
fn sources_that_could_take_the_same_event_without_http_are_warned_of() {
    let of = |one: &str, other: &str| {
        problems(&format!(
            "sources: {{ a: {{ type: ecr{one} }}, b: {{ type: ecr{other} }} }}\ntargets: {{}}\nroutes: []"
        ))
    };
    let warned = of("", ", regions: [eu-west-1]");
    assert_eq!(warned.len(), 1);
    assert!(warned[0].starts_with("Warning sources.b: ") && warned[0].contains("`a`"), "{warned:?}");
    assert_eq!(of(", regions: eu-west-1", ", regions: [us-east-1]"), [""; 0]);
    assert_eq!(of(", accounts: '000000000001'", ", accounts: '000000000002'"), [""; 0]);
    assert_eq!(of(", accounts: '000000000001', regions: x", ", regions: [x, y]").len(), 1);
    assert_eq!(of("", ", secret: 'ssm:/a', url_token: true"), [""; 0]);
}

#[test]
fn the_published_schema_is_the_one_made_from_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("relay.schema.json");
    golden::check(&path, &format!("{:#}", schema::json_schema()));
}

#[tokio::test]
async fn every_form_of_the_environment_variable_leads_to_the_same_file() {
    use std::io::Write as _;
    let json = r#"{"sources":{"github":{"type":"github","secret":"ssm:/a"}},"targets":{},"routes":[]}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(json.as_bytes()).expect("gzip");
    let packed = data_encoding::BASE64.encode(&gzip.finish().expect("gzip"));
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("relay.yaml");
    std::fs::write(&file, "sources: { github: { type: github, secret: 'ssm:/a' } }\ntargets: {}\nroutes: []\n")
        .expect("file");
    let secrets = FakeSecrets::default();
    secrets.set("ssm:/relay", &[json]);
    secrets.set("ssm:/relay/1:3", &[&json[..30]]);
    secrets.set("ssm:/relay/2:4", &[&json[30..]]);
    secrets.set("ssm:/packed:1", &[&packed]);
    for place in [
        json,
        &packed,
        &format!("file:{}", file.display()),
        "ssm:/relay",
        "ssm:/relay/1:3,ssm:/relay/2:4",
        "ssm:/packed:1",
    ] {
        let text = config::text(place, &secrets).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        let value: Value = config::document(&text).expect("document").value;
        let relay = Relay::from_value(&value).unwrap_or_else(|why| panic!("{place}: {why}"));
        assert_eq!(relay.sources.len(), 1, "{place}");
    }
    for (place, expected) in [
        ("file:/nowhere", "/nowhere"),
        ("ssm:/none", "ssm:/none: not found"),
        ("ssm:none", "full path"),
        ("H4sIxx", "base64"),
    ] {
        let error = config::text(place, &secrets).await.expect_err(place).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Two alerts that were told together: one that is bad, and one that is not so bad and over.
fn alerts() -> Event {
    let alert = |key: &str, status, severity| Alert {
        labels: [("team".to_owned(), key.to_owned())].into(),
        ..Alert::new(key, status, severity, "title")
    };
    let alerts = vec![alert("a", Status::Firing, Severity::Critical), alert("b", Status::Resolved, Severity::Warning)];
    Event {
        detail: Detail::Alert(Box::new(Alerts { group: "g".into(), alerts, ..Alerts::default() })),
        id: "0".repeat(32),
        source: Name::parse("alerts").expect("name"),
        cluster: None,
        labels: BTreeMap::new(),
        time: None,
    }
}

/// Who gets which of [`alerts`], and whether somebody is mute.
fn routed(windows: &str, routes: &str, now: &str) -> (Vec<(String, String)>, bool) {
    let file = format!(
        "sources: {{ alerts: {{ type: github, secret: 'env:S' }} }}\n\
         targets: {{ x: {{ type: http, url: 'https://x' }}, y: {{ type: http, url: 'https://y' }} }}\n\
         windows: {windows}\nroutes: {routes}"
    );
    let relay = Relay::from_value(&yaml::parse(&file).expect("YAML").value).unwrap_or_else(|why| panic!("{why}"));
    let event = alerts();
    let routed = relay.route(&event, now.parse().expect("time"));
    let keys = |event: &Event| match &event.detail {
        Detail::Alert(group) => group.alerts.iter().map(|alert| alert.key.as_str()).collect(),
        _ => String::new(),
    };
    (routed.told.iter().map(|(name, _, event)| (name.to_string(), keys(event))).collect(), routed.muted)
}

#[test]
fn a_target_gets_those_alerts_of_a_group_that_any_of_its_routes_takes() {
    let told = |routes| {
        let (told, muted) = routed("{}", routes, "2026-11-21T12:00:00Z");
        assert!(!muted);
        told.into_iter().map(|(name, keys)| format!("{name}:{keys}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told("[{ to: [x, y] }]"), "x:ab y:ab");
    assert_eq!(told("[{ when: { severity: '>=error' }, to: x }, { when: { status: resolved }, to: y }]"), "x:a y:b");
    assert_eq!(told("[{ when: { labels.team: a }, to: x }, { when: { labels.team: b }, to: [x, y] }]"), "x:ab y:b");
    assert_eq!(told("[{ when: { severity: info }, to: x }]"), "");
}

#[test]
fn a_mute_route_tells_nothing_but_what_is_over_and_leaves_the_others_alone() {
    let windows = "{ nights: { time_zone: Europe/Berlin, times: { from: '22:00', to: '06:00' } } }";
    let routes = "[{ mute: { during: nights }, to: x }, { to: y }]";
    let (told, muted) = routed(windows, routes, "2026-11-21T21:00:00Z");
    assert_eq!(told, [("x".to_owned(), "b".to_owned()), ("y".to_owned(), "ab".to_owned())]);
    assert!(muted);
    let (told, muted) = routed(windows, routes, "2026-11-21T20:59:59Z");
    assert_eq!(told[0].1, "ab");
    assert!(!muted);
}

#[test]
fn a_mute_in_a_window_that_is_not_there_is_an_error_with_a_suggestion() {
    let found = problems(
        r#"
sources: { github: { type: github, secret: "ssm:/a" } }
targets: { x: { type: http, url: "https://x" } }
windows: { nights: { times: { from: "22:00", to: "06:00" } } }
routes: [{ to: x, mute: { during: night } }]
"#,
    );
    let said = "Error routes.0.mute.during: there is no window named `night`; did you mean `nights`?";
    assert_eq!(found, [said]);
}

#[test]
fn a_fallback_is_another_target_that_the_same_process_can_tell_of_alerts() {
    let target =
        |name: &str, more: &str| format!("  {name}: {{ type: http, url: 'https://{name}.example.com/'{more} }}\n");
    let found = |targets: &[(&str, &str)]| {
        let targets: String = targets.iter().map(|(name, more)| target(name, more)).collect();
        let poked = "  poked: { type: kargo, url: 'https://kargo.example.com', secret: 'ssm:/kargo' }\n";
        problems(&format!("targets:\n{targets}{poked}"))
            .into_iter()
            .filter(|problem| !problem.contains("no route leads"))
            .collect::<Vec<_>>()
    };
    assert!(found(&[("a", ", fallback: b"), ("b", "")]).is_empty());
    assert!(found(&[("a", ", fallback: b, agent: x"), ("b", ", agent: x")]).is_empty());
    for (targets, expected) in [
        (&[("a", ", fallback: c"), ("b", "")][..], "targets.a.fallback: there is no target named `c`"),
        (&[("a", ", fallback: a")], "targets.a.fallback: a target cannot be told of itself: a → a"),
        (
            &[("a", ", fallback: b"), ("b", ", fallback: c"), ("c", ", fallback: a")],
            "targets.b.fallback: a target cannot be told of itself: b → c → a → b",
        ),
        (&[("a", ", fallback: b, agent: x"), ("b", "")], "both need the same `agent`"),
        (&[("a", ", fallback: poked")], "targets.a.fallback: `poked` cannot be told of anything: "),
        (&[("a", ", fallback: b"), ("b", ", body: passthrough")], "passes on what senders sent"),
    ] {
        let found = found(targets);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected} in:\n{}", found.join("\n"));
    }
    let warned = problems(&format!("targets:\n{}{}", target("a", ", fallback: b"), target("b", "")));
    assert!(!warned.iter().any(|problem| problem.contains("targets.b: no route")), "{warned:?}");
}

/// The warnings of a file with one source of each kind, these routes, and a target for all.
fn doubts(routes: &str) -> Vec<String> {
    problems(&format!(
        r#"
sources:
  github: {{ type: github, secret: "ssm:/a" }}
  gitlab: {{ type: gitlab, token: "ssm:/a" }}
  ghcr: {{ type: ghcr, secret: "ssm:/a" }}
  flux: {{ type: flux, secret: "ssm:/a" }}
targets:
  log: {{ type: http, url: "https://log.example.com/events" }}
routes:
  - {{ to: log }}
{routes}"#
    ))
}

#[test]
fn routes_that_nothing_can_match_are_warned_of_at_their_place_with_what_is_meant() {
    for (route, warning) in [
        (
            "from: gitlab, when: { tag: '*', digest: '*' }",
            "when: no event can match: the route's sources send git, and",
        ),
        ("from: flux, when: { branch: main }", "when: no event can match: the route's sources send alert, and"),
        ("from: [ghcr, gitlab], when: { kind: alert }", "send image_push and git, and this asks for alert"),
        ("when: { branch: main, severity: error }", "when: no event can match: no kind of event has all"),
        ("from: ghcr, when: { tag: '>=1.0.0' }", "when.tag: no tag begins like this; did you mean `semver:>=1.0.0`?"),
        ("when: { tag: ['1.*', ^1] }", "when.tag.1: no tag begins like this; did you mean `semver:^1`?"),
        ("when: { ref: main }", "when.ref: a ref is written out, as refs/heads/main is; did you mean `branch: main`?"),
        (
            "when: { branch: refs/heads/main }",
            "when.branch: a branch is named without refs/heads/; did you mean `main`?",
        ),
        ("from: ghcr, when: { repository: '*/Acme/app' }", "lower case; did you mean `*/acme/app`?"),
        ("from: ghcr, when: { repository: acme/app }", "registry's host; did you mean `*/acme/app`?"),
        (
            "from: flux, when: { status: fired }",
            "when.status: no alert has this status; there are firing, resolved and",
        ),
    ] {
        let found = doubts(&format!("  - {{ {route}, to: log }}\n"));
        let [one] = found.as_slice() else { panic!("{route}: {found:?}") };
        assert!(one.starts_with("Warning routes.1.when") && one.contains(warning), "{route}: {one}");
    }
}

#[test]
fn routes_that_something_can_match_are_not_warned_of() {
    for route in [
        "from: github, when: { kind: image_push, tag: 'semver:>=1' }",
        "from: github, when: { severity: error }",
        "when: { ref: 'refs/heads/main' }",
        "when: { ref: '*main' }",
        "when: { branch: 'feature/*', status: success }",
        "from: gitlab, when: { repository: Acme/App }",
        "from: ghcr, when: { repository: ['ghcr.io/acme/app', '*/acme/*', 'localhost:5000/app', 're:^acme'] }",
        "from: flux, when: { status: [firing, 'res*'] }",
        "when: { status: fired }",
        "when: { kind: '*' }",
    ] {
        assert_eq!(doubts(&format!("  - {{ {route}, to: log }}\n")), [""; 0], "{route}");
    }
}

#[test]
fn a_kind_that_there_is_not_is_an_error_like_a_severity() {
    let found = doubts("  - { when: { kind: image }, to: log }\n");
    assert_eq!(found, ["Error routes.1.when.kind: a kind is one of image_push, git, alert"]);
}

#[test]
fn sources_that_no_route_takes_and_tolerances_past_what_the_queue_knows_again_are_warned_of() {
    let found = problems(
        r#"
sources:
  hooks: { type: standard-webhooks, emits: git, secret: "ssm:/a", fields: { event: /event }, tolerance: 10m }
  idle: { type: github, secret: "ssm:/a" }
targets:
  log: { type: http, url: "https://log.example.com/events" }
routes:
  - { from: hooks, to: log }
"#,
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("Warning sources.idle: no route takes"), "{found:?}");
    assert!(found[1].starts_with("Warning sources.hooks.tolerance: what is sent again"), "{found:?}");
}
