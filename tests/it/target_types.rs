//! What is special to single target types: their keys, their answers, and checks of what they are sent by other code
//! than ours.

use sluice::domain::alert::{Alert, Alerts, Severity, Status};
use sluice::domain::delivery::Delivery;
use sluice::domain::event::Detail;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::Relay;
use sluice::relay::format::{Problem, Problems};
use sluice::rim::yaml;
use sluice::target::RenderError;

use crate::fakes::response;
use crate::targets::{NOW, TARGETS, TOKEN, delivery, image_push, relay, render, secrets};

/// What reading a relay file with this target notes.
pub fn problems(target: &str) -> Vec<String> {
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
            if entry.target.wants(&delivery.event, delivery.original.as_ref()).is_err() {
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

/// One row: status, header and body of an answer; the outcome's name, whose fault it is, and words of the reason.
type Row<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, &'a str, Option<Blame>, &'a str);

fn check_answers(target: &str, rows: &[Row<'_>]) {
    let relay = relay(TARGETS);
    for (status, headers, body, word, blame, words) in rows {
        let outcome =
            relay.targets[target].target.classify(&response(*status, headers, body), NOW.parse().expect("time"));
        assert_eq!(outcome.word(), *word, "{target} {status} {body}: {outcome:?}");
        let (found, reason) = match &outcome {
            Outcome::Retry { blame, reason } => (Some(*blame), reason.as_str()),
            Outcome::RetryAfter { reason, .. } | Outcome::Rejected { reason } => (None, reason.as_str()),
            Outcome::Delivered | Outcome::Accepted => (None, ""),
        };
        assert_eq!(found, *blame, "{target} {status} {body}");
        assert!(reason.contains(words), "{target} {status}: {reason}");
    }
}

const HELD: Option<Blame> = Some(Blame::Setup);
const BUSY: Option<Blame> = Some(Blame::Target);
const ASIDE: Option<Blame> = Some(Blame::Event);

#[test]
fn what_argo_cd_answers() {
    check_answers(
        "argocd",
        &[
            (200, &[], "", "delivered", None, ""),
            (400, &[], "Webhook processing failed: HMAC verification failed", "retry", HELD, "webhook.github.secret"),
            (400, &[], "Webhook processing failed: event not defined to be parsed", "rejected", None, "newer"),
            (
                400,
                &[],
                "Webhook processing failed: The payload is either too large or corrupted.",
                "rejected",
                None,
                "maxPayloadSizeMB",
            ),
            (400, &[], "Unknown webhook event", "retry", ASIDE, "Unknown webhook event"),
            (404, &[], "", "retry", HELD, "/api/webhook"),
            (503, &[], "Queue is full, discarding webhook payload", "retry", BUSY, "queue"),
        ],
    );
}

#[test]
fn what_image_updater_answers() {
    check_answers(
        "image-updater",
        &[
            (200, &[], "Webhook received and processing", "delivered", None, ""),
            (400, &[], "invalid webhook secret", "retry", HELD, "webhook.cloudevents-secret"),
            (
                400,
                &[],
                "invalid registry type: cloudevents. Supported types: harbor",
                "retry",
                HELD,
                "takes no CloudEvents",
            ),
            (400, &[], "tag not found in CloudEvents payload", "retry", ASIDE, "tag not found"),
            (404, &[], "", "retry", HELD, "/webhook"),
        ],
    );
}

#[test]
fn what_kargo_and_keel_and_argo_events_and_tekton_answer() {
    check_answers(
        "kargo",
        &[
            (200, &[], r#"{"msg":"refreshed 1 warehouse(s)"}"#, "delivered", None, ""),
            (401, &[], r#"{"error":"unauthorized"}"#, "retry", HELD, "receiver's Secret"),
            (404, &[], "", "retry", HELD, "path changes with its secret"),
            (500, &[], r#"{"error":"failed to refresh 1 of 2 warehouses"}"#, "retry", ASIDE, "1 of 2"),
        ],
    );
    check_answers(
        "keel",
        &[
            (200, &[], "", "delivered", None, ""),
            (400, &[], "repository tag cannot be empty", "retry", ASIDE, "tag cannot be empty"),
            (401, &[], "Unauthorized", "retry", HELD, "`username` and `secret`"),
            (404, &[], "404 page not found", "retry", HELD, "/v1/webhooks/native"),
        ],
    );
    check_answers(
        "argo-events",
        &[
            (200, &[], "success", "delivered", None, ""),
            (400, &[], "endpoint is inactive", "retry", BUSY, "not running"),
            (400, &[], "http method does not match", "retry", HELD, "POST"),
            (400, &[], "failed to parse request body", "retry", ASIDE, "failed to parse"),
            (401, &[], "Invalid Auth token", "retry", HELD, "authSecret"),
            (500, &[], "failed to record event", "retry", ASIDE, "failed to record"),
        ],
    );
    check_answers(
        "tekton",
        &[
            (202, &[], r#"{"eventID":"1"}"#, "accepted", None, ""),
            (404, &[], "", "retry", HELD, "no EventListener"),
            (500, &[], "", "retry", ASIDE, "failed"),
        ],
    );
}

#[test]
fn jenkins_repeats_our_token_and_we_do_not_repeat_jenkins() {
    let leak = "Sender, with headers {authorization=[Bearer relay-demo-token-0001]} did not pass whitelist.";
    check_answers(
        "jenkins",
        &[
            (200, &[], "Triggered jobs.", "delivered", None, ""),
            (403, &[], leak, "retry", HELD, "allow-list"),
            (404, &[], "Did not find any jobs", "retry", HELD, "no job has"),
            (500, &[], leak, "retry", ASIDE, "its log says why"),
        ],
    );
    let relay = relay(TARGETS);
    for status in 100..=599 {
        let outcome =
            relay.targets["jenkins"].target.classify(&response(status, &[], leak), NOW.parse().expect("time"));
        assert!(!format!("{outcome:?}").contains(TOKEN), "{status}");
    }
}

#[test]
fn events_that_a_type_can_make_nothing_of_are_not_queued_for_it() {
    let relay = relay(TARGETS);
    let wants = |target: &str, event: &sluice::domain::event::Event| relay.targets[target].target.wants(event, None);
    let workflow = delivery("workflow-run-completed.json").event;
    for target in ["argocd", "kargo", "keel", "image-updater"] {
        assert!(wants(target, &workflow).is_err(), "{target}");
    }
    for target in ["tekton", "argo-events", "jenkins"] {
        assert_eq!(wants(target, &workflow), Ok(()), "{target}");
    }
    let mut elsewhere = image_push(&["1"]).event;
    if let Detail::ImagePush(push) = &mut elsewhere.detail {
        push.repository = "quay.io/acme/app".into();
    }
    assert!(wants("argocd", &elsewhere).expect_err("another registry").contains("ghcr.io"));
    assert_eq!(wants("kargo", &elsewhere), Ok(()));
}

/// A push of a host that is not GitHub reaches Argo CD and Kargo in GitHub's form.
#[test]
fn a_push_of_any_git_host_is_told_in_githubs_form() {
    let relay = relay(TARGETS);
    let mut pushed = delivery("push.json");
    pushed.original = None;
    for target in ["argocd", "kargo"] {
        let entry = &relay.targets[target];
        let request = render(entry, &pushed);
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        assert_eq!(request.headers["x-github-event"], "push");
        assert_eq!(body["repository"]["html_url"], "https://github.com/octo-acme/checkout-api");
        assert_eq!(body["repository"]["clone_url"], "https://github.com/octo-acme/checkout-api.git");
        assert_eq!(body["repository"]["ssh_url"], "git@github.com:octo-acme/checkout-api.git");
        assert_eq!(body["repository"]["default_branch"], "main");
        assert_eq!(body["ref"], "refs/heads/main");
        assert_eq!(body["after"], "97bbba74a7415360fc6ba5d2382598a375080bac");
        assert_eq!(body["commits"][0]["modified"][0], "deploy/values.yaml");
    }
    if let Detail::Git(git) = &mut pushed.event.detail {
        git.paths_truncated = true;
    }
    let body: serde_json::Value =
        serde_json::from_slice(&render(&relay.targets["argocd"], &pushed).body).expect("JSON");
    assert_eq!(body["commits"], serde_json::json!([]), "paths that may lack some are no paths");
}

#[test]
fn what_github_answers_a_dispatch() {
    let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    check_answers(
        "github-dispatch",
        &[
            (204, &[], "", "delivered", None, ""),
            (401, &[], "Bad credentials", "retry", HELD, "has expired"),
            (403, &[], "Resource not accessible by personal access token", "retry", HELD, "Contents"),
            (403, &[], secondary, "retry_after", None, "rate limit"),
            (
                403,
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1787227260")],
                "",
                "retry_after",
                None,
                "rate limit",
            ),
            (429, &[], "", "retry_after", None, "rate limit"),
            (404, &[], "Not Found", "retry", HELD, "no such repository"),
            (422, &[], "Invalid request", "rejected", None, "refuses the dispatch"),
            (500, &[], "", "retry", ASIDE, "failed"),
        ],
    );
    let relay = relay(TARGETS);
    for (headers, seconds) in [
        ([("retry-after", "7"), ("x-ratelimit-remaining", "0")].as_slice(), 7),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1787227260")], 60),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1787220000")], 0),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], 60),
    ] {
        let outcome =
            relay.targets["github-dispatch"].target.classify(&response(403, headers, ""), NOW.parse().expect("time"));
        let Outcome::RetryAfter { wait, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(wait.as_secs(), seconds, "{headers:?}");
    }
}

#[test]
fn what_gitlab_answers_a_trigger() {
    check_answers(
        "gitlab-trigger",
        &[
            (201, &[], r#"{"id":8}"#, "delivered", None, ""),
            (400, &[], "Reference not found", "rejected", None, "is there such a `ref`"),
            (
                400,
                &[],
                r#"{"message":{"base":["Insufficient permissions to set pipeline variables"]}}"#,
                "retry",
                HELD,
                "minimum role",
            ),
            (401, &[], "401 Unauthorized", "retry", HELD, "trigger token"),
            (404, &[], "404 Not Found", "retry", HELD, "trigger tokens"),
            (429, &[("retry-after", "30")], "", "retry_after", None, "pause"),
        ],
    );
}

/// GitLab and its runner expand variables in the values of others, secrets and all.
#[test]
fn no_variable_of_a_pipeline_can_name_another_one() {
    let relay = relay(TARGETS);
    let variables = |delivery: &Delivery| {
        let body = render(&relay.targets["gitlab-trigger"], delivery).body;
        url::form_urlencoded::parse(&body).into_owned().collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut push = delivery("push.json");
    if let Detail::Git(git) = &mut push.event.detail {
        git.reference = Some("refs/heads/a-${CI_JOB_TOKEN}-%CI_JOB_TOKEN%".into());
    }
    assert_eq!(variables(&push)["variables[SLUICE_REF]"], "refs/heads/a-{CI_JOB_TOKEN}-CI_JOB_TOKEN");
    let alert = Alert::new("k", Status::Firing, Severity::Error, "a $CI_JOB_TOKEN");
    push.event.detail = Detail::Alert(Box::new(Alerts::one(alert)));
    let told = variables(&push);
    assert_eq!(
        (told["variables[SLUICE_STATUS]"].as_str(), told["variables[SLUICE_SEVERITY]"].as_str()),
        ("firing", "error")
    );
    assert!(told.values().all(|value| !value.contains("CI_JOB_TOKEN")), "{told:?}");
}

#[test]
fn a_dispatch_does_not_dispatch_itself() {
    let relay = relay(
        "a: { type: github-dispatch, repository: Octo-Acme/checkout-api, token: 'env:T' }\nb: { type: github-dispatch, repository: octo-acme/other, token: 'env:T' }",
    );
    let mut dispatch = delivery("push.json").event;
    if let Detail::Git(git) = &mut dispatch.detail {
        git.event = "repository_dispatch".into();
    }
    assert!(relay.targets["a"].target.wants(&dispatch, None).expect_err("itself").contains("without end"));
    assert_eq!(relay.targets["b"].target.wants(&dispatch, None), Ok(()));
}

#[test]
fn a_push_of_very_many_files_is_dispatched_without_their_names() {
    let relay = relay(TARGETS);
    let mut push = delivery("push.json");
    if let Detail::Git(git) = &mut push.event.detail {
        git.paths = (0..10_000).map(|i| format!("folder/file-{i}")).collect();
    }
    let request = render(&relay.targets["github-dispatch"], &push);
    assert!(request.body.len() < 64_000);
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["client_payload"]["event"]["paths_truncated"], true);
    if let Detail::Git(git) = &mut push.event.detail {
        git.message = Some("x".repeat(70_000));
    }
    let entry = &relay.targets["github-dispatch"];
    let refused = entry.target.render(&push, &secrets(entry, TOKEN), NOW.parse().expect("time"));
    assert!(matches!(refused, Err(RenderError::Unfit(_))), "{refused:?}");
}

#[test]
fn a_repository_that_could_lead_elsewhere_is_a_problem() {
    for (target, words) in [
        ("{ type: github-dispatch, repository: acme, token: 'env:T' }", "owner/name"),
        ("{ type: github-dispatch, repository: '../x', token: 'env:T' }", "owner/name"),
        ("{ type: github-dispatch, repository: 'a/b/c', token: 'env:T' }", "owner/name"),
        ("{ type: gitlab-trigger, repository: 'a?b/c', token: 'env:T' }", "group/name"),
        ("{ type: gitlab-trigger, repository: 'deploy', token: 'env:T' }", "group/name"),
    ] {
        let found = problems(target);
        assert!(
            found.len() == 1 && found[0].starts_with("targets.a.repository: ") && found[0].contains(words),
            "{found:?}"
        );
    }
}

#[test]
fn what_eventbridge_answers() {
    let entry =
        |code: &str| format!(r#"{{"FailedEntryCount":1,"Entries":[{{"ErrorCode":"{code}","ErrorMessage":"why"}}]}}"#);
    let coded = |code: &str| format!(r#"{{"__type":"com.amazonaws.events#{code}","message":"why"}}"#);
    let (throttled, failure, denied) =
        (entry("ThrottlingException"), entry("InternalFailure"), entry("AccessDeniedException"));
    let (source, malformed) = (entry("NotAuthorizedForSourceException"), entry("MalformedDetail"));
    let (slow, key, internal) =
        (coded("ThrottlingException"), coded("UnrecognizedClientException"), coded("InternalException"));
    check_answers(
        "eventbridge",
        &[
            (200, &[], r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#, "accepted", None, ""),
            (200, &[], &throttled, "retry", BUSY, "pause"),
            (200, &[], &failure, "retry", BUSY, "InternalFailure"),
            (200, &[], &denied, "retry", HELD, "AccessDeniedException: why"),
            (200, &[], &source, "retry", HELD, "NotAuthorizedForSource"),
            (200, &[], &malformed, "rejected", None, "MalformedDetail: why"),
            (200, &[], "<html>", "retry", HELD, "not EventBridge's"),
            (400, &[], &slow, "retry", BUSY, "pause"),
            (400, &[], &key, "retry", HELD, "UnrecognizedClientException"),
            (500, &[], &internal, "retry", BUSY, "InternalException"),
            (503, &[("retry-after", "4")], "", "retry_after", None, "pause"),
        ],
    );
}

#[test]
fn a_bus_is_a_name_or_an_arn() {
    for bus in [
        "a b",
        "",
        "aws.partner/x",
        "arn:aws:sns:eu-west-1:123456789012:t",
        "arn:aws:events:eu-west-1:123456789012:rule/x",
    ] {
        let found = problems(&format!("{{ type: eventbridge, bus: '{bus}' }}"));
        assert!(found.len() == 1 && found[0].starts_with("targets.a.bus: "), "{bus}: {found:?}");
    }
}

#[test]
fn what_nats_answers_for_itself_and_for_a_stream() {
    let err = |words: &str| format!("-ERR '{words}'");
    for (name, acknowledged) in [("nats", "PONG"), ("nats-stream", r#"{"stream":"RELAY","seq":7,"duplicate":true}"#)] {
        check_answers(
            name,
            &[
                (0, &[], acknowledged, "accepted", None, ""),
                (0, &[], "", "retry", BUSY, "said nothing"),
                (0, &[], "all right", "retry", HELD, "not that of NATS"),
                (0, &[], &err("Authorization Violation"), "retry", HELD, "Authorization Violation"),
                (0, &[], &err("User Authentication Expired"), "retry", HELD, "Expired"),
                (0, &[], &err("authentication timeout"), "retry", BUSY, "timeout"),
                (0, &[], &err("Permissions Violation for Publish to \"a\""), "retry", HELD, "Publish to"),
                (0, &[], &err("Maximum Payload Violation"), "rejected", None, "max_payload"),
                (0, &[], &err("maximum connections exceeded"), "retry", BUSY, "connections"),
                (0, &[], &err("Invalid Publish Subject"), "retry", HELD, "Subject"),
                (0, &[], &err("Secure Connection - TLS Required"), "retry", HELD, "TLS"),
                (0, &[], &err("message headers not supported"), "retry", HELD, "headers"),
                (0, &[], &err("Server Shutdown"), "retry", BUSY, "Shutdown"),
            ],
        );
    }
    let error = |code: u64, words: &str| {
        format!(r#"{{"error":{{"code":503,"err_code":{code},"description":"{words}"}},"stream":"RELAY","seq":0}}"#)
    };
    check_answers(
        "nats-stream",
        &[
            (503, &[], "", "retry", HELD, "no stream"),
            (0, &[], &error(10_054, "message size exceeds maximum allowed"), "rejected", None, "exceeds"),
            (0, &[], &error(10_077, "maximum messages exceeded"), "retry", BUSY, "maximum messages"),
            (0, &[], "PONG", "retry", HELD, "not that of NATS"),
        ],
    );
}

#[test]
fn a_nats_target_has_a_server_a_subject_and_one_way_to_log_in() {
    let with = |keys: &str| problems(&format!("{{ type: nats, url: 'nats://nats:4222', subject: a.b, {keys} }}"));
    for fine in ["", "username: a, password: 'env:A'", "token: 'env:A'", "creds: 'env:A'", "jetstream: true"] {
        assert!(with(fine).is_empty(), "{fine}: {:?}", with(fine));
    }
    for wrong in [
        "username: a",
        "password: 'env:A'",
        "username: a, password: 'env:A', token: 'env:B'",
        "token: 'env:A', creds: 'env:B'",
    ] {
        assert!(with(wrong).iter().any(|one| one.contains("either `username`")), "{wrong}: {:?}", with(wrong));
    }
    let proxied = with("proxy: 'env:P'");
    assert!(proxied.len() == 1 && proxied[0].starts_with("targets.a.proxy: "), "{proxied:?}");
    for url in [
        "http://nats",
        "nats://user:pw@nats",
        "nats://token@nats",
        "nats://",
        "nats",
        "nats://a/b",
        "tls://a?b",
        "tls://a#b",
    ] {
        let found = problems(&format!("{{ type: nats, url: '{url}', subject: a }}"));
        assert!(found.len() == 1 && found[0].starts_with("targets.a.url: "), "{url}: {found:?}");
    }
    for subject in ["", "a b", "a.*", "a.>", "a..b", ".a", "a.", "a\tb", "ü", "a\r\nPUB b"] {
        let found = problems(&format!("{{ type: nats, url: 'tls://nats', subject: {subject:?} }}"));
        assert!(found.len() == 1 && found[0].starts_with("targets.a.subject: "), "{subject}: {found:?}");
    }
}

#[test]
fn what_google_answers_a_publication_and_a_request_for_a_token() {
    let coded = |status: &str| format!(r#"{{"error":{{"code":1,"message":"why","status":"{status}"}}}}"#);
    let (argument, denied, missing) = (coded("INVALID_ARGUMENT"), coded("PERMISSION_DENIED"), coded("NOT_FOUND"));
    let (precondition, aborted) = (coded("FAILED_PRECONDITION"), coded("ABORTED"));
    let grant = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let (failure, passing) = (r#"{"error":"internal_failure"}"#, r#"{"error":"temporarily_unavailable"}"#);
    check_answers(
        "googlepubsub",
        &[
            (200, &[], r#"{"messageIds":["1"]}"#, "accepted", None, ""),
            (200, &[], "<html>", "retry", HELD, "`api_url`"),
            (500, &[], failure, "retry", BUSY, "no token: internal_failure"),
            (400, &[], passing, "retry", BUSY, "no token: temporarily_unavailable"),
            (503, &[("retry-after", "9")], passing, "retry_after", None, "no token"),
            (400, &[], grant, "retry", HELD, "no token: invalid_grant: Invalid JWT Signature."),
            (400, &[], &argument, "rejected", None, "why"),
            (400, &[], &precondition, "retry", HELD, "takes nothing: why"),
            (409, &[], &aborted, "retry", BUSY, "409: why"),
            (401, &[], "{}", "retry", HELD, "token"),
            (403, &[], &denied, "retry", HELD, "may not publish to this topic: why"),
            (404, &[], &missing, "retry", HELD, "no such topic: why"),
            (429, &[("retry-after", "3")], "{}", "retry_after", None, "pause"),
            (499, &[], "{}", "retry", BUSY, "499"),
            (500, &[], "{}", "retry", BUSY, "failed"),
            (503, &[], "{}", "retry", BUSY, "pause"),
        ],
    );
}

#[test]
fn a_message_of_pubsub_is_the_event_and_its_token_is_asked_of_google() {
    let relay = relay(TARGETS);
    let push = delivery("push.json");
    let request = render(&relay.targets["googlepubsub"], &push);
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    let data = body["messages"][0]["data"].as_str().expect("text");
    let data = data_encoding::BASE64.decode(data.as_bytes()).expect("base64");
    let event: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    assert_eq!(event, serde_json::to_value(&push.event).expect("JSON"));
    assert_eq!(body["messages"][0]["attributes"]["kind"], "git");
    assert_eq!(body["messages"][0]["orderingKey"], "github");
    let asked = request.token.expect("a token is asked for");
    let claim = |name: &str| asked.claims[name].as_str().expect("text").to_owned();
    assert_eq!(
        (claim("aud"), claim("iss")),
        (asked.request.url.clone(), "sluice@acme-prod.iam.gserviceaccount.com".into())
    );
    let lasts = asked.claims["exp"].as_i64().expect("a time") - asked.claims["iat"].as_i64().expect("a time");
    assert!(lasts <= 3600, "Google takes an hour at most");
}
