//! Probes: every kind of trouble between us and a controller is told apart, and nothing is triggered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sluice::port::{FetchError, SendError};
use sluice::probe::{Finding, Probe, Summary};
use sluice::rim::sender::HttpSender;
use tokio::time::Instant;

use crate::fakes::{FakeClock, FakeMeter, FakeSecrets, FakeSender, relay, response, store};
use crate::ports::closed_port;
use crate::receiver::{self, FluxReceivers, Receiver};

/// A relay file with one `flux` target for each name and URL; `more` are further keys of all of them.
fn targets(named: &[(&str, &str)], more: &str) -> String {
    let mut text = String::from("egress: { allow: [127.0.0.0/8] }\ntargets:\n");
    for (name, url) in named {
        text.push_str(&format!(
            "  {name}:\n    type: flux\n    url: {url}\n    token: \"ssm:/token\"\n    \
             receiver: {{ type: generic, name: {name}, namespace: flux-system }}\n{more}"
        ));
    }
    text
}

struct World {
    probe: Probe,
    secrets: Arc<FakeSecrets>,
    meter: Arc<FakeMeter>,
}

fn world(text: &str, sender: Arc<dyn sluice::port::Sender>) -> World {
    let secrets = Arc::new(FakeSecrets::default());
    let meter = Arc::new(FakeMeter::default());
    let store = store(&secrets, &Arc::new(FakeClock::default()));
    World {
        probe: Probe { relay: relay(text), agent: None, secrets: store, sender, meter: meter.clone() },
        secrets,
        meter,
    }
}

impl World {
    async fn run(&self) -> Summary {
        self.probe.run(Instant::now() + Duration::from_secs(60)).await
    }
}

/// What a run over HTTP finds at one URL.
async fn found(url: &str) -> Option<(Finding, String)> {
    let summary = world(&targets(&[("one", url)], ""), Arc::new(HttpSender::new())).run().await;
    assert_eq!(summary.probed, 1);
    summary.failed.into_iter().next().map(|failed| (failed.finding, failed.reason))
}

/// A server that answers everything in one way.
async fn server(answer: fn(Request) -> Response) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address: SocketAddr = listener.local_addr().expect("address");
    let router = Router::new().fallback(async move |request: Request| answer(request));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn receivers_of_every_type_are_found_and_none_is_triggered() {
    let flux = FluxReceivers::start();
    for kind in receiver::TYPES {
        let token = if kind == "generic-oidc" { "" } else { "token" };
        flux.add(Receiver::new(kind, kind, "flux-system", token));
    }
    assert_eq!(found(&flux.url()).await, None);
    // Suspended or not is not the probe's to say; it must not take it for an absent controller either.
    flux.suspend("generic");
    assert_eq!(found(&flux.url()).await, None);
    let requests = flux.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert!(!request.triggered && request.receiver.is_none() && request.status == 404, "{request:?}");
        assert!(request.method == "GET" && request.body.is_empty(), "{request:?}");
        assert!(!receiver::TYPES.iter().any(|kind| request.target.contains(kind)));
    }
}

#[tokio::test]
async fn the_404_of_an_ingress_is_not_the_controllers() {
    let ingress = server(|_| (StatusCode::NOT_FOUND, "default backend - 404").into_response()).await;
    let (finding, reason) = found(&ingress).await.expect("a finding");
    assert_eq!(finding, Finding::NoRoute);
    assert!(reason.contains("webhook-receiver") && reason.contains("default backend - 404"), "{reason}");

    let empty_everywhere = server(|_| StatusCode::NOT_FOUND.into_response()).await;
    assert_eq!(found(&empty_everywhere).await.expect("a finding").0, Finding::NoRoute);

    let only_hook = server(|request| match request.uri().path().starts_with("/hook/") {
        true => StatusCode::NOT_FOUND.into_response(),
        false => (StatusCode::NOT_FOUND, "default backend - 404").into_response(),
    });
    assert_eq!(found(&only_hook.await).await, None, "an ingress that lets only /hook/ through is in order");
}

#[tokio::test]
async fn a_path_that_does_not_arrive_under_hook_is_said_to_be_lost() {
    let flux = FluxReceivers::start();
    let (finding, _) = found(&format!("{}/flux", flux.url())).await.expect("a finding");
    assert_eq!(finding, Finding::PathLost);
    assert!(flux.requests().iter().all(|request| !request.triggered));
}

#[tokio::test]
async fn the_event_intake_is_told_from_receivers_and_gets_nothing_that_could_be_an_event() {
    static EVENTS: AtomicUsize = AtomicUsize::new(0);
    // As the controller does it: any method, any path; what is JSON is an event, the same one again is too much.
    let intake = server(|request| {
        let empty = request.headers().get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
            && request.headers().get(header::TRANSFER_ENCODING).is_none();
        match (empty, EVENTS.load(Ordering::SeqCst)) {
            (true, _) => StatusCode::BAD_REQUEST.into_response(),
            (false, 0) => {
                EVENTS.fetch_add(1, Ordering::SeqCst);
                StatusCode::ACCEPTED.into_response()
            }
            (false, _) => StatusCode::TOO_MANY_REQUESTS.into_response(),
        }
    });
    let (finding, reason) = found(&intake.await).await.expect("a finding");
    assert_eq!(finding, Finding::WrongService);
    assert!(reason.contains("webhook-receiver instead of notification-controller"), "{reason}");
    assert_eq!(EVENTS.load(Ordering::SeqCst), 0);
    for answer in [
        |_: Request| StatusCode::ACCEPTED.into_response(),
        |_: Request| (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n").into_response(),
    ] {
        assert_eq!(found(&server(answer).await).await.expect("a finding").0, Finding::WrongService);
    }
}

#[tokio::test]
async fn redirects_refusals_and_failing_proxies_are_told_apart() {
    let redirect = server(|_| {
        (StatusCode::FOUND, [(header::LOCATION, "https://login.example.com/?state=hunter2")]).into_response()
    });
    let (finding, reason) = found(&redirect.await).await.expect("a finding");
    assert_eq!(finding, Finding::Redirected);
    assert!(reason.contains("login.example.com") && !reason.contains("hunter2"), "{reason}");

    let unavailable = server(|_| (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream").into_response()).await;
    let (finding, reason) = found(&unavailable).await.expect("a finding");
    assert_eq!(finding, Finding::Unavailable);
    assert!(reason.contains("endpoints") && reason.contains("no healthy upstream"), "{reason}");

    let refusal = server(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    assert_eq!(found(&refusal).await.expect("a finding").0, Finding::Refused);
    let welcome = server(|_| "welcome".into_response()).await;
    assert_eq!(found(&welcome).await.expect("a finding").0, Finding::Unexpected);
}

#[tokio::test]
async fn a_proxy_that_lets_only_posts_through_is_in_order() {
    let only_posts = server(|request| match *request.method() {
        Method::POST => StatusCode::NOT_FOUND.into_response(),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "405 Not Allowed").into_response(),
    });
    assert_eq!(found(&only_posts.await).await, None);
    let nothing = server(|_| StatusCode::METHOD_NOT_ALLOWED.into_response()).await;
    assert_eq!(found(&nothing).await.expect("a finding").0, Finding::Refused);
}

#[tokio::test]
async fn no_name_no_listener_no_tls_and_egress_refusals_are_told_apart() {
    let closed = closed_port();
    let address = closed.local_addr().expect("address");
    assert_eq!(found(&format!("http://{address}")).await.expect("a finding").0, Finding::Unreachable);
    assert_eq!(found("https://flux.invalid").await.expect("a finding").0, Finding::Unreachable);
    let plain = server(|_| Body::empty().into_response()).await;
    let (finding, reason) = found(&plain.replace("http:", "https:")).await.expect("a finding");
    assert_eq!(finding, Finding::Tls, "{reason}");
    let (finding, reason) = found("http://169.254.169.254").await.expect("a finding");
    assert_eq!(finding, Finding::Egress);
    assert!(reason.starts_with("egress"), "{reason}");
}

#[tokio::test]
async fn a_slow_target_ends_at_its_time_out_and_delays_no_other() {
    let slow = FluxReceivers::start();
    slow.delay(Duration::from_secs(20));
    let quick = FluxReceivers::start();
    let text = targets(&[("quick", &quick.url()), ("slow", &slow.url())], "    timeout: 1s\n");
    let world = world(&text, Arc::new(HttpSender::new()));
    let started = Instant::now();
    let summary = world.run().await;
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(summary.probed, 2);
    assert_eq!((summary.failed.len(), summary.failed[0].target.as_str()), (1, "slow"));
    assert_eq!(summary.failed[0].finding, Finding::TimedOut);
}

/// A sender that never answers in time, and notes how long each may take.
#[derive(Default)]
struct Silence {
    allowed: Mutex<Vec<Duration>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait::async_trait]
impl sluice::port::Sender for Silence {
    async fn send(
        &self,
        _: sluice::target::Outbound,
        _: &sluice::port::Connection,
        timeout: Duration,
    ) -> Result<sluice::target::Response, SendError> {
        self.allowed.lock().expect("lock").push(timeout);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::time::sleep(timeout).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Err(SendError::TimedOut(timeout))
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_targets_are_silent_a_run_ends_before_the_functions_deadline() {
    let named: Vec<_> = (0..100).map(|n| (format!("t{n}"), format!("https://t{n}.example.com"))).collect();
    let named: Vec<_> = named.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let silence = Arc::new(Silence::default());
    let world = world(&targets(&named, ""), silence.clone());
    let deadline = Instant::now() + Duration::from_secs(30);
    let summary = world.probe.run(deadline).await;
    assert!(Instant::now() < deadline);
    assert_eq!((summary.probed, summary.failed.len()), (100, 100));
    assert!(summary.failed.iter().all(|failed| failed.finding == Finding::TimedOut));
    let allowed = silence.allowed.lock().expect("lock");
    assert!(allowed.iter().all(|time| *time > Duration::from_secs(3)), "each has a fair share of it");
    assert_eq!(silence.most_at_once.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn targets_behind_one_url_are_asked_once_and_reported_and_counted_each() {
    let sender = Arc::new(FakeSender::default());
    let text = targets(
        &[("a", "https://one.example.com"), ("b", "https://one.example.com/"), ("c", "https://two.example.com")],
        "",
    ) + "  feed: { type: http, url: \"https://feed.example.com/\" }\n";
    let world = world(&text, sender.clone());
    sender.answer(202, "");
    sender.answer(404, "");
    sender.answer(404, "404 page not found\n");
    let summary = world.run().await;
    assert_eq!(sender.sent().len(), 3, "one question each for two URLs, and where it was an empty 404 a second one");
    let failed: Vec<_> = summary.failed.iter().map(|failed| failed.target.as_str()).collect();
    assert_eq!((summary.probed, failed), (3, vec!["a", "b"]));
    let counted = |name: &str| -> Vec<(String, f64)> {
        let recorded = world.meter.0.lock().expect("lock");
        let mut of: Vec<_> = recorded.iter().filter(|one| one.0 == name).map(|one| (one.1.clone(), one.2)).collect();
        of.sort_by(|one, other| one.0.cmp(&other.0));
        of
    };
    assert_eq!(counted("ProbeFailures"), [("a".into(), 1.0), ("b".into(), 1.0), ("c".into(), 0.0)]);
    let times = counted("ProbeTime");
    assert_eq!(times.len(), 3);
    assert!(times.iter().all(|(_, time)| *time >= 0.0));
}

#[tokio::test]
async fn targets_that_are_connected_to_in_another_way_are_asked_for_themselves() {
    let sender = Arc::new(FakeSender::default());
    let text = targets(&[("plain", "https://one.example.com")], "")
        + targets(&[("proxied", "https://one.example.com")], "    proxy: \"ssm:/proxy\"\n")
            .split_once("targets:\n")
            .expect("targets")
            .1;
    let world = world(&text, sender.clone());
    world.secrets.set("ssm:/proxy", &["http://proxy.example.com"]);
    for _ in 0..2 {
        sender.answer_with(Ok(response(404, &[("server", "elsewhere")], "here")));
    }
    assert_eq!(world.run().await.failed.len(), 2);
    assert_eq!(sender.sent().len(), 2);
}

#[tokio::test]
async fn a_probe_reads_the_secrets_of_the_connection_and_no_token() {
    let sender = Arc::new(FakeSender::default());
    let text = targets(&[("one", "https://one.example.com")], "    ca: \"ssm:/ca\"\n");
    let world = world(&text, sender.clone());
    let references: Vec<_> = sluice::probe::secrets(&world.probe.relay).iter().map(ToString::to_string).collect();
    assert_eq!(references, ["ssm:/ca"]);
    let missing = world.run().await;
    assert_eq!(missing.failed[0].finding, Finding::NoSecret);
    assert!(missing.failed[0].reason.contains("ssm:/ca"), "{}", missing.failed[0].reason);
    assert!(sender.sent().is_empty());
    world.secrets.fail(Some(FetchError::Denied("no".into())));
    assert_eq!(world.run().await.failed[0].finding, Finding::NoSecret);
}

#[tokio::test]
async fn what_is_no_certificate_is_said_to_be_unusable() {
    let text = targets(&[("one", "https://localhost:1")], "    ca: \"ssm:/ca\"\n");
    let world = world(&text, Arc::new(HttpSender::new()));
    world.secrets.set("ssm:/ca", &["hunter2"]);
    let summary = world.run().await;
    assert_eq!(summary.failed[0].finding, Finding::Unusable);
    assert!(!summary.failed[0].reason.contains("hunter2"));
}

#[tokio::test]
async fn without_receivers_there_is_nothing_to_do() {
    let text = "targets:\n  feed: { type: http, url: \"https://feed.example.com/\" }\n";
    let summary = world(text, Arc::new(FakeSender::default())).run().await;
    assert_eq!(summary, Summary { probed: 0, failed: Vec::new() });
}
