//! Services that people read: what each of them is sent for the same events, plain to nasty, as golden files that show
//! the exact request, the plain form to fall back to, what a person would see, and sizes against limits.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use sluice::domain::alert::{Alert, Alerts, Link, Object, Severity, Status};
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event, GitEvent, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::TargetEntry;
use sluice::target::Outbound;
use sluice::target::chat::Size;

pub use crate::any_target::{DSN, TOKEN, URL, secrets};
use crate::fakes::response;
use crate::golden;
use crate::targets::{NOW, relay};

/// The targets that golden files are kept of, by name.
pub const CHATS: &str = include_str!("../support/chats.yaml");

/// A target of type `of` out of [`CHATS`], by its name.
pub fn chat(name: &str) -> TargetEntry {
    let mut relay = relay(CHATS);
    let name = Name::parse(name).expect("name");
    relay.targets.remove(&name).unwrap_or_else(|| panic!("there is no target {name}"))
}

/// What `entry` makes of the occasion of this name: all its requests, or none if it is not told of it.
pub fn requests(entry: &TargetEntry, occasion: &str) -> Vec<Outbound> {
    let delivery = of(entry, occasion);
    if entry.target.wants(&delivery.event, None).is_err() {
        return Vec::new();
    }
    let first = entry.target.render(&delivery, &secrets(entry), now()).expect("rendered");
    let then: Vec<_> = first.iter().filter_map(|request| follow_up(entry, &delivery, request)).collect();
    [first, then].concat()
}

/// The occasion of this name, as `entry` is told of it: at hosts of code, alerts are about a commit and a pull request.
pub fn of(entry: &TargetEntry, occasion: &str) -> Delivery {
    let (_, mut delivery) = occasions().into_iter().find(|(name, _)| *name == occasion).expect("an occasion");
    let label = match entry.of.name.rsplit_once('-') {
        Some((_, "status")) => ("revision", "main@sha1:3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812"),
        Some((_, "comment")) => ("change_request", "12"),
        _ => return delivery,
    };
    if let Detail::Alert(group) = &mut delivery.event.detail {
        group.alerts.iter_mut().for_each(|alert| {
            alert.labels.insert(label.0.into(), label.1.into());
        });
    }
    delivery
}

/// What follows `request` where that finds nothing.
fn follow_up(entry: &TargetEntry, delivery: &Delivery, request: &Outbound) -> Option<Outbound> {
    let nothing = response(200, &[], "[]");
    entry.target.follow_up(delivery, request, &nothing, &secrets(entry), now()).expect("rendered")
}

/// What `entry` makes of an answer.
pub fn outcome(entry: &TargetEntry, status: u16, headers: &[(&str, &str)], body: &str) -> Outcome {
    entry.target.classify(&response(status, headers, body), now())
}

/// The time of all tests.
pub fn now() -> Timestamp {
    NOW.parse().expect("time")
}

fn time(text: &str) -> Option<Timestamp> {
    Some(text.parse().expect("time"))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn delivery(source: &str, cluster: Option<&str>, detail: Detail) -> Delivery {
    let source = Name::parse(source).expect("name");
    let identity = format!("{detail:?}");
    let event = Event {
        detail,
        id: Event::id_of(&source, &identity),
        source,
        cluster: cluster.map(str::to_owned),
        labels: BTreeMap::new(),
        time: time("2026-03-05T09:13:03Z"),
    };
    Delivery::new(event, &identity, &Name::parse("target").expect("name"), None, now())
}

fn alerts(source: &str, group: Alerts) -> Delivery {
    delivery(source, None, Detail::Alert(Box::new(group)))
}

/// An alert of Prometheus about one instance.
fn error_rate(instance: &str, status: Status) -> Alert {
    Alert {
        text: Some(format!("{instance} answers 5xx for 7.3 % of requests over the last 5 minutes.")),
        cluster: some("prod-1"),
        labels: texts(&[("alertname", "HighErrorRate"), ("team", "payments"), ("instance", instance)]),
        links: vec![
            Link { title: "Runbook".into(), url: "https://runbooks.example.com/high-error-rate".into() },
            Link {
                title: "Source".into(),
                url: "https://prometheus.example.com/graph?g0.expr=rate%28http_errors_total%5B5m%5D%29&g0.tab=1".into(),
            },
        ],
        started: time("2026-03-05T09:12:33.412Z"),
        ended: (status == Status::Resolved).then(|| "2026-03-05T09:31:03.412Z".parse().expect("time")),
        ..Alert::new(instance, status, Severity::Critical, "Error rate above 5 % on checkout")
    }
}

fn group(alerts: Vec<Alert>) -> Alerts {
    Alerts {
        group: "relay HighErrorRate".into(),
        title: some("HighErrorRate"),
        url: some("https://alertmanager.example.com/#/alerts?receiver=relay"),
        left_out: 0,
        alerts,
    }
}

/// What Flux says of a Kustomization.
fn kustomization(severity: Severity, reason: &str, text: &str) -> Alerts {
    Alerts::one(Alert {
        text: some(text),
        reason: some(reason),
        object: Some(Object { kind: some("Kustomization"), namespace: some("flux-system"), name: "apps".into() }),
        recovers: severity == Severity::Info,
        labels: texts(&[("revision", "main@sha1:3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812")]),
        ..Alert::new(
            "2d0c0f3e-8b1b-4c9e-9d57-6b3a2f1e0a11",
            if severity == Severity::Info { Status::Event } else { Status::Firing },
            severity,
            format!("Kustomization flux-system/apps: {reason}"),
        )
    })
}

/// Everything that could break out of any service's markup, ping somebody, or show what must not be shown.
fn nasty() -> Alert {
    let text = "<!channel> <@U0123456> <!subteam^S1> @everyone @here @all <users/all> <at>x</at> <@all>\n\
        *bold* _it_ ~s~ `code` ```fence``` **x** __y__ > quote # head [text](https://evil.example) <b>b</b> <script>x</script> &amp; \
        |table| - list 1. list \\ back %%% \\n {{ x }} ${y} <https://evil.example|click> #12 org/x#12 fixes #3\n\
        \u{1b}[31mred\u{1b}[0m \u{202e}drow\u{202c} tab\there \0 nul 👨‍👩‍👧‍👦 e\u{301} 日本語 \u{1f1e9}\u{1f1ea}\n\
        password=hunter2-hunter2 https://user:secret99@db.example.com Authorization: Bearer abcdefghijklmnop0123";
    Alert {
        text: Some(format!("{text}\n{}", "A very long line of a log. ".repeat(1500))),
        reason: some("<!here>*_`"),
        object: Some(Object { kind: some("Pod<b>"), namespace: some("shop"), name: "a|b_c*d`e".into() }),
        cluster: some("prod & <test>"),
        labels: texts(&[("a\"b<c>", "@everyone `x` *y* _z_"), ("empty", ""), ("long", &"value ".repeat(400))]),
        links: vec![
            Link { title: "]( x".into(), url: "javascript:alert(1)".into() },
            Link { title: "Look | <here>".into(), url: "https://example.com/a?b=\"c\"&d=<e>|f)g".into() },
        ],
        ..Alert::new(
            "n",
            Status::Firing,
            Severity::Error,
            "<!channel> *Title* _of_ `it` @everyone\n[x](y) & <b>more</b>",
        )
    }
}

/// What every service is told of.
pub fn occasions() -> Vec<(&'static str, Delivery)> {
    let storm = (0..120).map(|i| {
        let status = if i % 3 == 2 { Status::Resolved } else { Status::Firing };
        error_rate(&format!("checkout-{i}"), status)
    });
    let workflow = GitEvent {
        event: "workflow_run".into(),
        action: some("completed"),
        repository: some("github.com/acme/app"),
        branch: some("main"),
        commit: some("9049f1265b7d61be4a8904a9a27120d2064dab3b"),
        actor: some("octocat"),
        status: some("failure"),
        name: some("build"),
        message: some("Make <it> work"),
        url: some("https://github.com/acme/app/actions/runs/1"),
        ..GitEvent::default()
    };
    let push = ImagePush {
        repository: "ghcr.io/acme/app".into(),
        tag: some("1.2.3"),
        tags: vec!["1.2.3".into(), "latest".into()],
        digest: some("sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"),
        media_type: None,
        actor: some("octocat"),
    };
    let one = |status| Alerts { title: None, ..group(vec![error_rate("checkout-0", status)]) };
    let failed = "Deployment/shop/checkout dry-run failed: admission webhook denied the request: image tag 'latest' is \
        not allowed";
    vec![
        ("firing", alerts("alertmanager", one(Status::Firing))),
        ("resolved", alerts("alertmanager", one(Status::Resolved))),
        (
            "group",
            alerts(
                "alertmanager",
                Alerts {
                    left_out: 4,
                    ..group(vec![error_rate("checkout-0", Status::Firing), error_rate("checkout-1", Status::Resolved)])
                },
            ),
        ),
        ("storm", alerts("alertmanager", group(storm.collect()))),
        ("nasty", alerts("kubernetes", Alerts::one(nasty()))),
        (
            "failed",
            delivery(
                "flux-prod",
                Some("prod"),
                Detail::Alert(Box::new(kustomization(Severity::Error, "BuildFailed", failed))),
            ),
        ),
        (
            "recovered",
            delivery(
                "flux-prod",
                Some("prod"),
                Detail::Alert(Box::new(kustomization(
                    Severity::Info,
                    "ReconciliationSucceeded",
                    "Reconciliation finished in 1.2s, next run in 10m0s",
                ))),
            ),
        ),
        ("workflow", delivery("github", None, Detail::Git(Box::new(workflow)))),
        ("image", delivery("ghcr", None, Detail::ImagePush(push))),
    ]
}

/// A request for reviewing: a body of JSON or of a form is laid out.
fn as_text(request: &Outbound) -> String {
    let mut text = format!("{} {}\n", request.method, request.url);
    if let Some(service) = &request.aws {
        let region = service.region.as_deref().unwrap_or("the process's region");
        text.push_str(&format!("(signed for {} in {region})\n", service.name));
    }
    if let Some(asked) = &request.token {
        text.push_str(&format!("(with a token that is had by {} {})\n", asked.request.method, asked.request.url));
    }
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().expect("text")));
    }
    if request.body.is_empty() {
        return text;
    }
    let body = match serde_json::from_slice::<Value>(&request.body) {
        Ok(body) => serde_json::to_string_pretty(&body).expect("JSON"),
        Err(_) if text.contains("x-www-form-urlencoded") => {
            let pairs = form_urlencoded::parse(&request.body);
            pairs.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n")
        }
        Err(_) => String::from_utf8_lossy(&request.body).into_owned(),
    };
    format!("{text}\n{body}\n")
}

fn as_line(size: &Size) -> String {
    format!("{}: {} of {} {}\n", size.what, size.size, size.limit, size.unit.word())
}

#[test]
fn what_every_service_shows_is_reviewed_and_within_its_limits() {
    let relay = relay(CHATS);
    for (name, entry) in &relay.targets {
        // What a machine reads has no preview and no sizes.
        let service = entry.target.as_draw();
        for (occasion, _) in occasions() {
            let delivery = of(entry, occasion);
            let mut shown = String::new();
            match entry.target.wants(&delivery.event, None) {
                Err(why) => shown = format!("not told: {why}"),
                Ok(()) => {
                    let requests = entry.target.render(&delivery, &secrets(entry), now()).expect("rendered");
                    for (i, request) in requests.iter().enumerate() {
                        if i > 0 {
                            shown.push_str("\n===== if that is refused\n");
                        }
                        shown.push_str(&as_text(request));
                        if let Some(then) = follow_up(entry, &delivery, request) {
                            shown.push_str(&format!("\n===== then, where that finds nothing\n{}", as_text(&then)));
                        }
                        let Some(service) = service else { continue };
                        let body = &sluice::target::chat::bodies(service, &delivery.event)[i];
                        shown.push_str(&format!(
                            "\n----- what a person sees\n{}\n\n----- sizes\n",
                            service.preview(body)
                        ));
                        for size in service.sizes(body) {
                            assert!(size.fits(), "{name} {occasion}: {}", as_line(&size));
                            shown.push_str(&as_line(&size));
                        }
                    }
                }
            }
            let file = format!("tests/golden/chat/{name}-{occasion}.txt");
            golden::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &shown);
        }
    }
}

/// What the nasty alert holds that nobody may see, whichever way it is told.
#[test]
fn no_service_is_sent_a_credential_out_of_a_text() {
    for (name, entry) in &relay(CHATS).targets {
        for request in requests(entry, "nasty") {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            for credential in ["hunter2", "secret99", "abcdefghijklmnop0123", "javascript:"] {
                assert!(!body.contains(credential), "{name}: {credential} in {body}");
            }
        }
    }
}

/// A proxy with a log-in, or a page of maintenance, answers 200 in the service's place. No message is at fault, and none
/// has arrived.
#[test]
fn a_page_for_people_in_a_services_place_holds_the_target_and_loses_no_message() {
    let page = "<!DOCTYPE html><html><title>Log in</title></html>";
    let answer = response(200, &[("content-type", "text/html; charset=utf-8")], page);
    for (name, entry) in &relay(CHATS).targets {
        // AWS signs what it answers to by TLS alone as well, but nobody stands between us and it.
        if requests(entry, "failed").iter().any(|request| request.aws.is_some()) {
            continue;
        }
        let held = entry.target.classify(&answer, now());
        assert!(
            matches!(&held, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains("log in")),
            "{name}: {held:?}"
        );
        assert!(!entry.target.tries_next(&answer), "{name}");
    }
    // What should be JSON and is not need not be a page.
    for name in [
        "dingtalk",
        "grafana",
        "lark",
        "matrix",
        "ntfy",
        "pushover",
        "sentry",
        "slack-token",
        "splunk-oncall",
        "telegram",
        "wecom",
        "zulip",
    ] {
        let held = outcome(&chat(name), 200, &[], "all right");
        assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{name}: {held:?}");
    }
}

#[test]
fn what_is_told_of_beginnings_and_ends_alone_knows_a_delivery_again() {
    let relay = relay(CHATS);
    let told_of_all = |entry: &TargetEntry| {
        let news = of(entry, "image").event;
        !entry.target.wants(&news, None).is_err_and(|why| why.contains("what begins and ends"))
    };
    let known: Vec<_> = relay.targets.values().filter(|entry| !told_of_all(entry)).collect();
    assert!(known.iter().all(|entry| entry.target.is_idempotent()), "{known:?}");
    let types: std::collections::BTreeSet<_> = known.iter().map(|entry| entry.of.name).collect();
    let services = ["grafana-irm", "incidentio", "jsm", "opsgenie", "pagerduty", "sentry", "splunk-oncall"];
    assert_eq!(types.into_iter().collect::<Vec<_>>(), services);
}

mod alertmanager;
mod amazonq;
mod comment;
mod commit_status;
mod datadog;
mod dingtalk;
mod discord;
mod email;
mod googlechat;
mod grafana;
mod grafana_irm;
mod incidentio;
mod lark;
mod matrix;
mod mattermost;
mod ntfy;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod sentry;
mod slack;
mod sns;
mod splunk_oncall;
mod teams;
mod telegram;
mod webex;
mod wecom;
mod zoom;
mod zulip;
