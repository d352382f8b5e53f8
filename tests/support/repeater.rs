//! A relay file with a secret in every place that takes one, and targets that repeat whatever they are sent: for tests
//! that look for secrets where none may be.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::routing::any;
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::needles::Needles;

/// Sources of every way in which a request proves its sender, each with a sample that its type has.
const SOURCES: &str = "
  github: { type: github, secret: 'STORE/github' }
  ghcr: { type: ghcr, secret: 'STORE/ghcr' }
  gitlab: { type: gitlab, token: 'STORE/gitlab' }
  gitlab-signed: { type: gitlab, secret: 'STORE/gitlab-signed' }
  devops: { type: azure-devops, username: sluice, secret: 'STORE/devops' }
  hub: { type: dockerhub, secret: 'STORE/hub' }
  quay: { type: quay, secret: 'STORE/quay' }
  harbor: { type: harbor, secret: 'STORE/harbor' }
  zot: { type: zot, username: sluice, secret: 'STORE/zot', registry_host: zot.example.com }
  artifactory: { type: artifactory, mode: token, secret: 'STORE/artifactory' }
  generic: { type: generic, header: X-Token, secret: 'STORE/generic', emits: image_push, fields: { repository: /image/name, tag: /image/tag } }
  standard: { type: standard-webhooks, secret: 'STORE/standard', emits: image_push }
  alertmanager: { type: alertmanager, secret: 'STORE/alertmanager' }
  flux: { type: flux, secret: 'STORE/flux' }
";
/// A sample for each source.
pub const SAMPLES: [(&str, &str); 14] = [
    ("github", "github/push"),
    ("ghcr", "ghcr/package-published"),
    ("gitlab", "gitlab/push"),
    ("gitlab-signed", "gitlab/push-signed"),
    ("devops", "azure-devops/push"),
    ("hub", "dockerhub/push"),
    ("quay", "quay/push"),
    ("harbor", "harbor/push"),
    ("zot", "zot/image-updated"),
    ("artifactory", "artifactory/pushed"),
    ("generic", "generic/push"),
    ("standard", "standard-webhooks/image-pushed"),
    ("alertmanager", "alertmanager/firing"),
    ("flux", "flux/helmrelease-upgrade-failed"),
];
/// The sources whose events go to every target; those of the others go to one.
pub const TOLD_EVERYWHERE: [&str; 2] = ["ghcr", "alertmanager"];
/// Requests that prove nothing, though they seem to: path, and a header with its value.
pub const FORGED: [(&str, &str, &str); 11] = [
    ("/github", "x-hub-signature-256", "sha256=hunter2-forged"),
    ("/github", "x-hub-signature-256", "sha256=68756e746572322d68756e746572322d68756e746572322d68756e746572322d"),
    ("/github/hunter2-forged", "x", "y"),
    ("/gitlab?token=hunter2-forged", "x-gitlab-token", "hunter2-forged"),
    ("/devops", "authorization", "Basic aHVudGVyMi1mb3JnZWQ6aHVudGVyMi1mb3JnZWQ="),
    ("/harbor", "authorization", "Bearer hunter2-forged"),
    ("/artifactory", "x-jfrog-event-auth", "hunter2-forged"),
    ("/generic", "x-token", "hunter2-forged"),
    ("/hub/hunter2-forged", "x", "y"),
    ("/quay/hunter2-forged", "x", "y"),
    ("/hunter2-forged", "cookie", "hunter2-forged"),
];
/// Targets of every way in which a request carries a secret: in a header, in the path, in the body, as a key, in the
/// connection, in exchange for a token.
const TARGETS: &str = "
  receiver: { type: flux, url: URL, receiver: { type: generic-hmac, name: apps, namespace: a }, token: 'STORE/receiver' }
  pushes: { type: flux, url: URL, receiver: { type: github, name: apps, namespace: a }, token: 'STORE/pushes' }
  identity: { type: flux, url: URL, receiver: { type: generic-oidc, name: apps, namespace: a } }
  bearer: { type: http, url: URL/bearer, auth: { bearer: 'STORE/bearer' } }
  basic: { type: http, url: URL/basic, auth: { basic: { username: sluice, password: 'STORE/basic' } } }
  header: { type: http, url: URL/header, auth: { header: { name: X-Token, value: 'STORE/header' } } }
  signed: { type: http, url: URL/signed, auth: { standard_webhooks: 'STORE/signed' } }
  proxied: { type: http, url: URL/proxied, proxy: 'STORE/proxied' }
  certified: { type: http, url: URL/certified, client_certificate: 'STORE/certified' }
  jenkins: { type: jenkins, url: URL/jenkins, secret: 'STORE/jenkins' }
  argocd: { type: argocd, url: URL/argocd, secret: 'STORE/argocd' }
  kargo: { type: kargo, url: URL/kargo/abc, secret: 'STORE/kargo' }
  dispatch: { type: github-dispatch, repository: acme/deploy, token: 'STORE/dispatch', api_url: URL/dispatch }
  app: { type: github-dispatch, repository: acme/deploy, app_id: 1, installation_id: 7, private_key: 'STORE/app', api_url: URL/app }
  trigger: { type: gitlab-trigger, repository: acme/deploy, token: 'STORE/trigger', api_url: URL/trigger }
  slack: { type: slack, webhook: 'STORE/slack' }
  bot: { type: slack, token: 'STORE/bot', channel: C012AB3CD, api_url: URL/bot }
  telegram: { type: telegram, token: 'STORE/telegram', chat: -1001, api_url: URL/telegram }
  matrix: { type: matrix, url: URL/matrix, token: 'STORE/matrix', room: '!abc:example.org' }
  ntfy: { type: ntfy, url: URL/ntfy, topic: 'STORE/topic', token: 'STORE/ntfy' }
  pagerduty: { type: pagerduty, routing_key: 'STORE/pagerduty', api_url: URL/pagerduty }
  opsgenie: { type: opsgenie, api_key: 'STORE/opsgenie', api_url: URL/opsgenie }
  datadog: { type: datadog, api_key: 'STORE/datadog', api_url: URL/datadog }
  sentry: { type: sentry, dsn: 'STORE/sentry' }
  sns: { type: sns, topic_arn: 'arn:aws:sns:eu-west-1:111122223333:alerts' }
  email: { type: email, from: relay@example.com, to: team@example.com }
  nats: { type: nats, url: 'nats://NATS', subject: relay.events, creds: 'STORE/nats' }
  locked: { type: http, url: URL/locked, auth: { bearer: 'STORE/locked' }, fallback: bearer }
  well: { type: http, url: URL/well, auth: { bearer: 'STORE/well' } }
";
/// Targets whose deliveries do not become dead letters: one waits for somebody to mend it, the other takes everything.
const WITHOUT_LETTERS: [&str; 2] = ["locked", "well"];
/// What goes out as it is, by its needle's name: a search that does not find it there would not find it elsewhere.
const AS_IT_IS: [&str; 21] = [
    "bearer",
    "header",
    "dispatch",
    "trigger",
    "slack",
    "bot",
    "telegram",
    "matrix",
    "ntfy",
    "topic",
    "pagerduty",
    "opsgenie",
    "datadog",
    "sentry",
    "nats",
    "locked",
    "well",
    INSTALLATION,
    SESSION,
    IDENTITY,
    JWT,
];
const INSTALLATION: &str = "the token of an installation";
const SESSION: &str = "the session of AWS";
const IDENTITY: &str = "an identity's token";
const JWT: &str = "the JWT of NATS";
/// Headers that carry what stands for a secret.
const CREDENTIALS: [&str; 14] = [
    "authorization",
    "proxy-authorization",
    "x-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "webhook-signature",
    "x-token",
    "token",
    "x-gitlab-token",
    "private-token",
    "x-jfrog-event-auth",
    "dd-api-key",
    "x-sentry-auth",
    "x-amz-security-token",
];

/// What came: path with query, headers, and body.
type Received = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// The targets: those by HTTP on one port, NATS on another.
pub struct Repeater {
    url: String,
    nats: String,
    received: Received,
}

impl Repeater {
    /// Answers 503 to the first request to a place and 413 to all later ones; at `/locked` always 401, at `/well` 200.
    /// Whoever asks for a token gets one.
    pub async fn start() -> Self {
        let received = Received::default();
        let shared = received.clone();
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let mut received = shared.lock().expect("lock");
            let is_first = received.iter().all(|(place, ..)| *place != uri.to_string());
            // Short, as only the beginning of an answer is told.
            let shown: Vec<_> = CREDENTIALS.iter().filter_map(|name| headers.get(*name)).collect();
            let repeated = format!("cannot {method} {uri} {shown:?} {body}");
            let (status, answer) = match uri.path() {
                "/locked" => (StatusCode::UNAUTHORIZED, repeated),
                "/well" => (StatusCode::OK, repeated),
                "/app/app/installations/7/access_tokens" => (StatusCode::CREATED, installation_token().to_string()),
                "/sts/" => (StatusCode::OK, identity_token()),
                _ if is_first => (StatusCode::SERVICE_UNAVAILABLE, repeated),
                _ => (StatusCode::PAYLOAD_TOO_LARGE, repeated),
            };
            // What a probe asks for, by GET, is nobody's path, and no secret.
            if method != Method::GET {
                received.push((uri.to_string(), headers, body));
            }
            async move { (status, answer) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handler))).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let nats = listener.local_addr().expect("address").to_string();
        let shared = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever hangs up has heard enough.
                let _ = repeat_to_nats(stream, &shared).await;
            }
        });
        Self { url, nats, received }
    }

    /// What the environment has to say, for what is asked of AWS and signed for it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let at = |service: &str| format!("{}/{service}", self.url);
        vec![
            ("AWS_ENDPOINT_URL_SNS", at("sns")),
            ("AWS_ENDPOINT_URL_SESV2", at("ses")),
            ("AWS_ENDPOINT_URL_STS", at("sts")),
            ("AWS_SECRET_ACCESS_KEY", "hunter2-the-secret-key-of-aws".to_owned()),
            ("AWS_SESSION_TOKEN", "hunter2-the-session-of-aws".to_owned()),
        ]
    }

    /// The relay file, as YAML. References to its secrets are their names below `store`.
    pub fn relay_file(&self, store: &str) -> String {
        let targets = TARGETS.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let (targets, everywhere) = (targets.collect::<Vec<_>>().join(", "), TOLD_EVERYWHERE.join(", "));
        let file = format!(
            "sources: {SOURCES}\ntargets: {TARGETS}\nroutes: [{{ from: [{everywhere}], to: [{targets}] }}, {{ to: [pushes, bearer] }}]\n\
             egress: {{ allow: [127.0.0.0/8] }}\n"
        );
        file.replace("STORE", store).replace("URL", &self.url).replace("NATS", &self.nats)
    }

    /// Whether a delivery to this target becomes a dead letter.
    pub fn gives_up(target: &str) -> bool {
        !WITHOUT_LETTERS.contains(&target)
    }

    /// The secrets, by their names. All of them but keys begin, somewhere, with `hunter2`.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let parts = [SOURCES, TARGETS].into_iter().flat_map(|part| part.split("STORE/").skip(1));
        let names = parts.map(|rest| rest.split('\'').next().expect("a name"));
        let value = |name| match name {
            "slack" => format!("{}/services/T012AB3CD/B012AB3CD/hunter2slackwebhook", self.url),
            "signed" | "standard" | "gitlab-signed" => {
                format!("whsec_{}", BASE64.encode(format!("hunter2-the-key-of-{name}").as_bytes()))
            }
            "telegram" => "123456789:hunter2-telegram-token".to_owned(),
            "proxied" => self.url.replace("//", "//sluice:hunter2-the-secret-of-proxied@"),
            "sentry" => format!("{}/42", self.url.replace("//", "//hunter2thekeyofsentry@")),
            "app" => include_str!("../data/throw-away-rsa-key.pem").to_owned(),
            "certified" => certificate(),
            "nats" => format!(
                "-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1.hunter2-the-jwt.x\n------END NATS USER JWT------\n\
                 -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
            ),
            _ => format!("hunter2-the-secret-of-{name}"),
        };
        names.map(|name| (name, value(name))).collect()
    }

    /// What may be found nowhere but in a request to its target or from its source.
    pub fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for (name, value) in self.secrets() {
            let value = value.strip_prefix(&self.url).unwrap_or(&value);
            // Of what has several lines, each is secret, but for those that say what it is.
            for line in value.lines().filter(|line| !line.starts_with('-')) {
                needles.secret(name, line);
            }
        }
        needles.secret("sentry", "hunter2thekeyofsentry");
        needles.secret(INSTALLATION, "hunter2-the-installation-of-app");
        needles.secret(IDENTITY, "hunter2-the-identity-of-ours");
        needles.secret(SESSION, "hunter2-the-session-of-aws");
        needles.secret(JWT, "hunter2-the-jwt");
        // Whatever else begins so; what is forged does, too.
        needles.secret("some secret", "hunter2-");
        needles
    }

    /// Adds what stood for secrets in the requests that came.
    ///
    /// # Panics
    /// If that is not much, or the search does not find what is there: then a search for it would prove nothing.
    pub fn add_what_came_to(&self, needles: &mut Needles) {
        let received = self.received.lock().expect("lock");
        let text: String =
            received.iter().map(|(place, headers, body)| format!("{place} {headers:?} {body}\n")).collect();
        let found = needles.found_in(text.as_bytes());
        let missing: Vec<_> = AS_IT_IS.iter().filter(|name| !found.contains(name)).collect();
        assert!(missing.is_empty(), "every target was sent its secret: {missing:?}");
        for (place, headers, body) in received.iter() {
            credentials(needles, place, headers);
            if let Some(digest) = place.strip_prefix("/hook/") {
                needles.exactly("a Receiver's path", digest);
            }
            if let Some(connect) = body.strip_prefix("CONNECT ") {
                let connect: Value = serde_json::from_str(connect).expect("JSON");
                needles.exactly("a signature for NATS", connect["sig"].as_str().expect("a signature"));
            }
        }
        let kinds = ["/hook/", "/proxied", "/certified", "/kargo/", "/sns/", "/ses/"];
        let missing: Vec<_> = kinds.iter().filter(|kind| !text.contains(*kind)).collect();
        assert!(missing.is_empty(), "every target was sent something: {missing:?}");
    }
}

/// A seed as NATS has them, of which nobody checks the sum.
const SEED: &str = "SUHUNTER2THESEEDOFAUSEROFNATSAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Certificate and key, in PEM.
fn certificate() -> String {
    static MADE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let made = || {
        let made = rcgen::generate_simple_self_signed(["relay.example.com".to_owned()]).expect("a certificate");
        format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())
    };
    MADE.get_or_init(made).clone()
}

/// What GitHub gives an App.
fn installation_token() -> Value {
    json!({ "token": "hunter2-the-installation-of-app", "expires_at": "2099-01-01T00:00:00Z" })
}

/// What STS gives a role that wants to prove itself to others.
fn identity_token() -> String {
    let result = "<WebIdentityToken>hunter2-the-identity-of-ours</WebIdentityToken><Expiration>2099-01-01T00:00:00Z</Expiration>";
    format!(
        "<GetWebIdentityTokenResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetWebIdentityTokenResult>{result}\
         </GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"
    )
}

/// A server of NATS that takes nothing, and says what it was told: at first as if it might later.
async fn repeat_to_nats(stream: TcpStream, received: &Received) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576,\"nonce\":\"a-nonce\"}\r\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let (connect, place) = (line.trim_end().to_owned(), "nats".to_owned());
    let why = {
        let mut received = received.lock().expect("lock");
        let is_first = received.iter().all(|(known, ..)| *known != place);
        received.push((place, HeaderMap::new(), connect.clone()));
        if is_first { "not now" } else { "Maximum Payload Violation" }
    };
    stream.write_all(format!("-ERR '{why}: {connect}'\r\n").as_bytes()).await
}

/// Adds what of these headers stands for a secret: the whole value, and what is left of it without scheme or prefix.
pub fn credentials(needles: &mut Needles, place: &str, headers: &HeaderMap) {
    for name in CREDENTIALS {
        for value in headers.get_all(name) {
            let (value, of) = (value.to_str().expect("text"), format!("{name} at {place}"));
            needles.exactly(&of, value);
            let bare = value.trim_end_matches('=');
            needles.exactly(&of, bare.rsplit([' ', ',', '=']).next().unwrap_or(bare));
        }
    }
}
