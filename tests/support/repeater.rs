//! A relay file with a secret in every place that takes one, and targets that repeat whatever they are sent: for tests
//! that look for secrets where none may be.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::any;
use data_encoding::BASE64;

use super::needles::Needles;

/// Sources, each with a sample that its type has.
const SOURCES: &str = "
  github: { type: github, secret: 'STORE/github' }
  ghcr: { type: ghcr, secret: 'STORE/ghcr' }
  gitlab: { type: gitlab, token: 'STORE/gitlab' }
  hub: { type: dockerhub, secret: 'STORE/hub' }
  harbor: { type: harbor, secret: 'STORE/harbor' }
  alertmanager: { type: alertmanager, secret: 'STORE/alertmanager' }
  flux: { type: flux, secret: 'STORE/flux' }
";
/// A sample for each source.
pub const SAMPLES: [(&str, &str); 7] = [
    ("github", "github/push"),
    ("ghcr", "ghcr/package-published"),
    ("gitlab", "gitlab/push"),
    ("hub", "dockerhub/push"),
    ("harbor", "harbor/push"),
    ("alertmanager", "alertmanager/firing"),
    ("flux", "flux/helmrelease-upgrade-failed"),
];
/// Requests that prove nothing, though they seem to: path, and a header with its value.
pub const FORGED: [(&str, &str, &str); 7] = [
    ("/github", "x-hub-signature-256", "sha256=hunter2-forged"),
    ("/github", "x-hub-signature-256", "sha256=68756e746572322d68756e746572322d68756e746572322d68756e746572322d"),
    ("/github/hunter2-forged", "x", "y"),
    ("/gitlab?token=hunter2-forged", "x-gitlab-token", "hunter2-forged"),
    ("/harbor", "authorization", "Bearer hunter2-forged"),
    ("/hub/hunter2-forged", "x", "y"),
    ("/hunter2-forged", "cookie", "hunter2-forged"),
];
/// Targets of every way in which a request carries a secret: in a header, in the path, in the body, as a key.
const TARGETS: &str = "
  receiver: { type: flux, url: URL, receiver: { type: generic-hmac, name: apps, namespace: a }, token: 'STORE/receiver' }
  pushes: { type: flux, url: URL, receiver: { type: github, name: apps, namespace: a }, token: 'STORE/pushes' }
  bearer: { type: http, url: URL/bearer, auth: { bearer: 'STORE/bearer' } }
  basic: { type: http, url: URL/basic, auth: { basic: { username: sluice, password: 'STORE/basic' } } }
  header: { type: http, url: URL/header, auth: { header: { name: X-Token, value: 'STORE/header' } } }
  signed: { type: http, url: URL/signed, auth: { standard_webhooks: 'STORE/signed' } }
  jenkins: { type: jenkins, url: URL/jenkins, secret: 'STORE/jenkins' }
  argocd: { type: argocd, url: URL/argocd, secret: 'STORE/argocd' }
  kargo: { type: kargo, url: URL/kargo/abc, secret: 'STORE/kargo' }
  dispatch: { type: github-dispatch, repository: acme/deploy, token: 'STORE/dispatch', api_url: URL/dispatch }
  trigger: { type: gitlab-trigger, repository: acme/deploy, token: 'STORE/trigger', api_url: URL/trigger }
  slack: { type: slack, webhook: 'STORE/slack' }
  bot: { type: slack, token: 'STORE/bot', channel: C012AB3CD, api_url: URL/bot }
  telegram: { type: telegram, token: 'STORE/telegram', chat: -1001, api_url: URL/telegram }
  pagerduty: { type: pagerduty, routing_key: 'STORE/pagerduty', api_url: URL/pagerduty }
  opsgenie: { type: opsgenie, api_key: 'STORE/opsgenie', api_url: URL/opsgenie }
  locked: { type: http, url: URL/locked, auth: { bearer: 'STORE/locked' }, fallback: bearer }
";
/// Headers that carry what stands for a secret.
const CREDENTIALS: [&str; 9] = [
    "authorization",
    "x-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "webhook-signature",
    "x-token",
    "token",
    "x-gitlab-token",
    "private-token",
];

/// What came: path with query, and headers.
type Received = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// The targets, on one port.
pub struct Repeater {
    url: String,
    received: Received,
}

impl Repeater {
    /// Answers 503 to the first request to a place and 413 to all later ones; at `/locked` always 401.
    pub async fn start() -> Self {
        let received = Received::default();
        let shared = received.clone();
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let mut received = shared.lock().expect("lock");
            let is_first = received.iter().all(|(place, _)| *place != uri.to_string());
            let status = match uri.path() {
                "/locked" => StatusCode::UNAUTHORIZED,
                _ if is_first => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::PAYLOAD_TOO_LARGE,
            };
            // Short, as only the beginning of an answer is told.
            let shown: Vec<_> = CREDENTIALS.iter().filter_map(|name| headers.get(*name)).collect();
            let answer = format!("cannot {method} {uri} {shown:?} {body}");
            // What a probe asks for, by GET, is nobody's path, and no secret.
            if method != Method::GET {
                received.push((uri.to_string(), headers));
            }
            async move { (status, answer) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handler))).await });
        Self { url, received }
    }

    /// The relay file, as YAML. References to its secrets are their names below `store`.
    pub fn relay_file(&self, store: &str) -> String {
        let targets = TARGETS.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let targets = targets.collect::<Vec<_>>().join(", ");
        let file = format!(
            "sources: {SOURCES}\ntargets: {TARGETS}\nroutes: [{{ to: [{targets}] }}]\negress: {{ allow: [127.0.0.0/8] }}\n"
        );
        file.replace("STORE", store).replace("URL", &self.url)
    }

    /// The secrets, by their names. All of them begin, somewhere, with `hunter2`.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let parts = [SOURCES, TARGETS].into_iter().flat_map(|part| part.split("STORE/").skip(1));
        let names = parts.map(|rest| rest.split('\'').next().expect("a name"));
        let value = |name| match name {
            "slack" => format!("{}/services/T012AB3CD/B012AB3CD/hunter2slackwebhook", self.url),
            "signed" => format!("whsec_{}", BASE64.encode(b"hunter2-the-key-of-a-standard-webhook")),
            "telegram" => "123456789:hunter2-telegram-token".to_owned(),
            _ => format!("hunter2-the-secret-of-{name}"),
        };
        names.map(|name| (name, value(name))).collect()
    }

    /// What may be found nowhere but in a request to its target or from its source.
    pub fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for (name, value) in self.secrets() {
            needles.secret(name, value.strip_prefix(&self.url).unwrap_or(&value));
        }
        // Whatever else begins so; what is forged does, too.
        needles.secret("some secret", "hunter2-");
        needles
    }

    /// Adds what stood for secrets in the requests that came.
    ///
    /// # Panics
    /// If that is not much: then a search for it would prove nothing.
    pub fn add_what_came_to(&self, needles: &mut Needles) {
        let received = self.received.lock().expect("lock");
        let places: BTreeSet<_> = received.iter().map(|(place, _)| place.as_str()).collect();
        assert!(places.len() >= 16, "every target was sent something: {places:?}");
        for (place, headers) in received.iter() {
            credentials(needles, place, headers);
            if let Some(digest) = place.strip_prefix("/hook/") {
                needles.exactly("a Receiver's path", digest);
            }
        }
        let found = needles.found_in(format!("{received:?}").as_bytes()).len();
        assert!(found >= places.len(), "the search finds what is there: {found}");
    }
}

/// Adds what of these headers stands for a secret.
pub fn credentials(needles: &mut Needles, place: &str, headers: &HeaderMap) {
    for name in CREDENTIALS {
        for value in headers.get_all(name) {
            needles.exactly(&format!("{name} at {place}"), value.to_str().expect("text"));
        }
    }
}
