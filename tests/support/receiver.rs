//! Flux's Receivers, for tests: the HTTP endpoint of notification-controller 1.9.3 as strictly as it checks.
//!
//! This is what checks the product, so it shares no code with it: its own path, its own HMACs, its own reading of JSON,
//! all written from the controller's behaviour. tests/receiver_double.rs holds it against recorded vectors.
//!
//! ```ignore
//! let flux = FluxReceivers::start();
//! flux.add(Receiver::new("generic-hmac", "images", "flux-system", "token"));
//! // … let the product deliver to flux.url() …
//! let accepted = flux.wait_for_accepted(1).await;
//! assert_eq!(accepted[0].json()["tag"], "1.2.3");
//! flux.assert_nothing_rejected();
//! ```
//!
//! Not here: fetching the keys of an identity provider (a test gives them); CEL over claims but for the equality of
//! `sub`; CDEvents other than artifact.published; the annotating of objects. The server lives on a thread of its own, so a test that blocks does not stall it.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::VecDeque;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use tokio::sync::{oneshot, watch};

/// What the endpoint takes; one byte more is 413.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// The types this double knows: all that there are.
pub const TYPES: [&str; 13] = [
    "generic",
    "generic-hmac",
    "generic-oidc",
    "github",
    "gitlab",
    "bitbucket",
    "harbor",
    "dockerhub",
    "quay",
    "acr",
    "nexus",
    "gcr",
    "cdevents",
];

/// How long a test waits for requests that it says will come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Decides over the request's JSON as `.spec.resourceFilter` does: whether the objects are annotated, or the error that
/// CEL ends with, as for a key that is missing.
pub type Filter = fn(&serde_json::Value) -> Result<bool, String>;

/// Who signs identity tokens, and what has to be in them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The values of `iss` that are taken.
    pub issuers: Vec<String>,
    pub audience: String,
    /// The provider's keys, as it publishes them.
    pub jwks: serde_json::Value,
    /// Claims that have to have these values.
    pub claims: Vec<(String, serde_json::Value)>,
}

impl Identity {
    /// An entry of `.spec.oidcProviders` with the validation `claims.sub == subject`.
    pub fn oidc(issuer: &str, audience: &str, jwks: serde_json::Value, subject: &str) -> Self {
        Identity {
            issuers: vec![issuer.to_owned()],
            audience: audience.to_owned(),
            jwks,
            claims: vec![("sub".to_owned(), subject.into())],
        }
    }

    /// The keys `audience` and `email` of a `gcr` Receiver's Secret.
    pub fn google(audience: &str, email: &str, jwks: serde_json::Value) -> Self {
        Identity {
            issuers: vec!["accounts.google.com".to_owned(), "https://accounts.google.com".to_owned()],
            audience: audience.to_owned(),
            jwks,
            claims: vec![("email".to_owned(), email.into()), ("email_verified".to_owned(), true.into())],
        }
    }
}

/// A Receiver object with its Secret.
#[derive(Clone, Debug)]
pub struct Receiver {
    kind: String,
    name: String,
    namespace: String,
    /// The Secret's value. Signatures are checked against it at once.
    token: Vec<u8>,
    /// `.status.webhookPath`: follows the Secret when the Receiver is reconciled.
    path: String,
    events: Vec<String>,
    identity: Option<Identity>,
    filter: Option<Filter>,
    suspended: bool,
}

impl Receiver {
    pub fn new(kind: &str, name: &str, namespace: &str, token: impl AsRef<[u8]>) -> Self {
        assert!(TYPES.contains(&kind), "this double does not know Receivers of type {kind}");
        let token = token.as_ref().to_vec();
        assert!(kind != "generic-oidc" || token.is_empty(), "a Receiver of type generic-oidc has no Secret");
        let path = webhook_path(&token, name, namespace);
        Receiver {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            token,
            path,
            events: Vec::new(),
            identity: None,
            filter: None,
            suspended: false,
        }
    }

    /// `.spec.events`, read by github, gitlab, bitbucket and cdevents only.
    pub fn events(mut self, events: impl IntoIterator<Item: Into<String>>) -> Self {
        self.events = events.into_iter().map(Into::into).collect();
        self
    }

    /// For `generic-oidc` and `gcr`; without it they refuse everything.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

/// `/hook/` and the hex SHA-256 of token, name and namespace, one behind the other with nothing between.
pub fn webhook_path(token: &[u8], name: &str, namespace: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(token);
    hash.update(name);
    hash.update(namespace);
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/hook/{digest}")
}

/// A request that came in, and what became of it.
#[derive(Clone)]
pub struct Received {
    pub method: String,
    /// As it stood in the request line.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// `namespace/name` of the Receiver that has the path.
    pub receiver: Option<String>,
    pub status: u16,
    /// Why it was refused: what the controller would have logged. Nothing of it reaches the sender.
    pub reason: Option<String>,
    /// Accepted, and the filter, if any, had objects annotated.
    pub triggered: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header the product sends is ASCII"))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.as_deref().unwrap_or("accepted");
        let receiver = self.receiver.as_deref().unwrap_or("no Receiver");
        writeln!(f, "{} {} -> {} ({receiver}: {reason})", self.method, self.target, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let body = String::from_utf8_lossy(&self.body);
        writeln!(f, "  {}", body.chars().take(2000).collect::<String>())
    }
}

/// The endpoint: what a `webhook-receiver` Service leads to.
pub struct FluxReceivers {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<Cluster>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Cluster {
    receivers: Vec<Receiver>,
    requests: Vec<Received>,
    next_answers: VecDeque<(StatusCode, HeaderMap)>,
    delay: Duration,
}

impl FluxReceivers {
    pub fn start() -> Self {
        Self::on(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a free port is there"))
    }

    /// On a listener of the test's own, to have it come back on the port where it was.
    pub fn on(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { state: Mutex::default(), count: watch::Sender::new(0) });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be built").block_on(async move {
                    let listener = tokio::net::TcpListener::from_std(listener).expect("the listener can be registered");
                    let app = axum::Router::new().fallback(handle).with_state(shared);
                    tokio::select! {
                        served = async { axum::serve(listener, app).await } => served.expect("the server runs"),
                        _ = stopped => {}
                    }
                });
            })
        };
        FluxReceivers { shared, address, stop: Some(stop), thread: Some(thread) }
    }

    /// With one Receiver from the start.
    pub fn with(receiver: Receiver) -> Self {
        let receivers = Self::start();
        receivers.add(receiver);
        receivers
    }

    /// What a target's `url` is: no path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn add(&self, receiver: Receiver) {
        self.state().receivers.push(receiver);
    }

    /// Answers the next `count` requests under `/hook/` with `status`, whatever they are.
    pub fn answer_next(&self, count: usize, status: u16) {
        self.answer_next_with(count, status, &[]);
    }

    /// The same with headers, such as `Retry-After`.
    pub fn answer_next_with(&self, count: usize, status: u16, headers: &[(&str, &str)]) {
        let status = StatusCode::from_u16(status).expect("a status code");
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
            })
            .collect();
        self.state().next_answers.extend(std::iter::repeat_n((status, headers), count));
    }

    /// Makes every answer take this long. The request is recorded before the wait.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Changes the Secret. Until [`reconcile`](Self::reconcile) the Receiver has its old path, but checks signatures
    /// with the new token.
    pub fn change_secret(&self, name: &str, token: impl AsRef<[u8]>) {
        let token = token.as_ref().to_vec();
        self.edit(name, |receiver| receiver.token = token);
    }

    /// Lets the path follow the Secret.
    pub fn reconcile(&self, name: &str) {
        self.edit(name, |receiver| {
            receiver.path = webhook_path(&receiver.token, &receiver.name, &receiver.namespace);
        });
    }

    /// Changes the Secret and reconciles.
    pub fn change_token(&self, name: &str, token: impl AsRef<[u8]>) {
        self.change_secret(name, token);
        self.reconcile(name);
    }

    pub fn suspend(&self, name: &str) {
        self.edit(name, |receiver| receiver.suspended = true);
    }

    pub fn resume(&self, name: &str) {
        self.edit(name, |receiver| receiver.suspended = false);
    }

    /// Everything that came, in the order it came.
    pub fn requests(&self) -> Vec<Received> {
        self.state().requests.clone()
    }

    pub fn accepted(&self) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.status == 200).collect()
    }

    pub fn rejected(&self) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.status != 200).collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state().requests.clear();
    }

    pub fn assert_nothing_rejected(&self) {
        let rejected = self.rejected();
        assert!(rejected.is_empty(), "the Receivers rejected {rejected:#?}");
    }

    /// Waits until `count` requests were accepted and returns all that were.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn wait_for_accepted(&self, count: usize) -> Vec<Received> {
        self.wait_for(count, "accepted", Self::accepted).await
    }

    /// Waits until `count` requests came, accepted or not, and returns all that came.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Received> {
        self.wait_for(count, "received", Self::requests).await
    }

    async fn wait_for(&self, count: usize, what: &str, list: impl Fn(&Self) -> Vec<Received>) -> Vec<Received> {
        let mut changes = self.shared.count.subscribe();
        let enough = changes.wait_for(|_| list(self).len() >= count);
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(changed) => drop(changed.expect("the sender lives as long as the double")),
            Err(_) => panic!("{count} requests were to be {what}; there are only {:#?}", self.requests()),
        }
        list(self)
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Receiver)) {
        let mut state = self.state();
        let receiver = state.receivers.iter_mut().find(|receiver| receiver.name == name);
        edit(receiver.unwrap_or_else(|| panic!("there is no Receiver {name}")));
    }

    fn state(&self) -> MutexGuard<'_, Cluster> {
        self.shared.state()
    }
}

impl Drop for FluxReceivers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(std::thread::JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A status and the reason for it.
type Refusal = (StatusCode, String);

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (target, path) = (parts.uri.to_string(), parts.uri.path());
    // Also where Go answers without having read it, or the sender might see a broken connection and no answer.
    let body = read(body).await;
    let record = |body, receiver: Option<&Receiver>, result: Result<bool, Refusal>| {
        shared.record(parts.method.as_str(), &target, &parts.headers, body, receiver, result);
    };

    // Go's router: an unclean path is redirected, and what lies outside gets its own 404, which has a text.
    let unclean = path.starts_with('/') && path.contains("//");
    if path == "/hook" || unclean {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let clean = if unclean { format!("/{}", segments.join("/")) } else { "/hook/".to_owned() };
        let status = StatusCode::TEMPORARY_REDIRECT;
        record(Bytes::new(), None, Err((status, format!("redirected to {clean}"))));
        return (status, [(header::LOCATION, clean)]).into_response();
    }
    if !path.starts_with("/hook/") {
        let status = StatusCode::NOT_FOUND;
        record(Bytes::new(), None, Err((status, "the path is not under /hook/".to_owned())));
        return (status, "404 page not found\n").into_response();
    }
    let body = match body {
        Ok(body) => body,
        Err((status, reason)) => {
            record(Bytes::new(), None, Err((status, reason)));
            return status.into_response();
        }
    };

    let (receiver, result, headers, delay) = {
        let mut state = shared.state();
        let receiver = state.receivers.iter().find(|receiver| receiver.path == target).cloned();
        let (result, headers) = match state.next_answers.pop_front() {
            None => (decide(receiver.as_ref(), &parts.headers, &body), HeaderMap::new()),
            Some((StatusCode::OK, headers)) => (Ok(true), headers),
            Some((status, headers)) => (Err((status, "the test said so".to_owned())), headers),
        };
        (receiver, result, headers, state.delay)
    };
    let status = result.as_ref().err().map_or(StatusCode::OK, |(status, _)| *status);
    record(body, receiver.as_ref(), result);
    tokio::time::sleep(delay).await;
    // No body, neither on success nor on refusal.
    (status, headers).into_response()
}

/// Reads all of it, however long, so that the sender always gets to the answer instead of a broken connection.
async fn read(mut body: Body) -> Result<Bytes, Refusal> {
    let (mut bytes, mut size) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            size += data.len();
            if size <= BODY_LIMIT {
                bytes.extend_from_slice(data);
            }
        }
    }
    if size > BODY_LIMIT {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("a body of {size} bytes")));
    }
    Ok(bytes.freeze())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Cluster> {
        self.state.lock().expect("nobody panics holding the lock")
    }

    fn record(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: Bytes,
        receiver: Option<&Receiver>,
        result: Result<bool, Refusal>,
    ) {
        let (status, reason, triggered) = match result {
            Ok(triggered) => (StatusCode::OK, None, triggered),
            Err((status, reason)) => (status, Some(reason), false),
        };
        self.state().requests.push(Received {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.clone(),
            body,
            receiver: receiver.map(|receiver| format!("{}/{}", receiver.namespace, receiver.name)),
            status: status.as_u16(),
            reason,
            triggered,
        });
        self.count.send_modify(|count| *count += 1);
    }
}

/// What the controller does once the body is read, in its order. Whether something was triggered, or why not.
fn decide(receiver: Option<&Receiver>, headers: &HeaderMap, body: &[u8]) -> Result<bool, Refusal> {
    let Some(receiver) = receiver else { return Err((StatusCode::NOT_FOUND, "no Receiver has this path".to_owned())) };
    if receiver.suspended {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "the Receiver is suspended".to_owned()));
    }
    validate(receiver, headers, body).map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    let Some(filter) = receiver.filter else { return Ok(true) };
    let failed = |reason: String| (StatusCode::INTERNAL_SERVER_ERROR, reason);
    // Only with this content type does the filter get to see the body.
    let request = if text(headers, "content-type").contains("application/json") {
        let value: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| failed(format!("the filter needs JSON: {error}")))?;
        if !value.is_object() {
            return Err(failed("the filter needs a JSON object".to_owned()));
        }
        value
    } else {
        serde_json::json!({})
    };
    filter(&request).map_err(failed)
}

fn validate(receiver: &Receiver, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let token = &receiver.token[..];
    match &*receiver.kind {
        "generic" => Ok(()),
        "generic-oidc" => id_token(receiver, headers),
        "gcr" => {
            id_token(receiver, headers)?;
            let payload = go_json::first_value(body)?;
            payload.object("the body")?;
            payload.field("message").object("message")?;
            payload.field("message").field("data").string("message.data")
        }
        "generic-hmac" => verify_prefixed(text(headers, "x-signature"), token, body),
        "github" => {
            hub(headers, token, body)?;
            allowed(receiver, text(headers, "x-github-event"))
        }
        "bitbucket" => {
            hub(headers, token, body)?;
            allowed(receiver, text(headers, "x-event-key"))
        }
        "gitlab" => {
            equal(headers, "x-gitlab-token", token)?;
            allowed(receiver, text(headers, "x-gitlab-event"))
        }
        "harbor" => equal(headers, "authorization", token),
        "dockerhub" => {
            let payload = go_json::first_value(body)?;
            payload.object("the body")?;
            payload.field("push_data").object("push_data")?;
            payload.field("push_data").field("tag").string("push_data.tag")?;
            payload.field("repository").object("repository")?;
            payload.field("repository").field("repo_url").string("repository.repo_url")
        }
        "quay" => {
            let payload = go_json::first_value(body)?;
            payload.object("the body")?;
            payload.field("docker_url").string("docker_url")?;
            payload.field("updated_tags").strings("updated_tags")
        }
        "acr" => {
            let payload = go_json::first_value(body)?;
            payload.object("the body")?;
            payload.field("action").string("action")?;
            payload.field("target").object("target")?;
            payload.field("target").field("repository").string("target.repository")?;
            payload.field("target").field("tag").string("target.tag")
        }
        "nexus" => {
            let signature = text(headers, "x-nexus-webhook-signature");
            if signature.is_empty() {
                return Err("X-Nexus-Webhook-Signature is missing".to_owned());
            }
            // The texts are compared and not the bytes they stand for.
            if signature.as_bytes() != hex(&mac::<Hmac<Sha1>>(token, body)) {
                return Err("X-Nexus-Webhook-Signature does not match".to_owned());
            }
            let payload = go_json::whole(body)?;
            payload.object("the body")?;
            payload.field("action").string("action")?;
            payload.field("repositoryName").string("repositoryName")
        }
        "cdevents" => {
            cdevent(body)?;
            allowed(receiver, text(headers, "ce-type"))
        }
        other => unreachable!("Receiver::new does not make {other}"),
    }
}

/// Go's `Header.Get`: the first value, and nothing is as good as empty.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> std::borrow::Cow<'a, str> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default()
}

fn equal(headers: &HeaderMap, name: &str, token: &[u8]) -> Result<(), String> {
    let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    if value == token { Ok(()) } else { Err(format!("{name} is not the token")) }
}

fn allowed(receiver: &Receiver, event: std::borrow::Cow<'_, str>) -> Result<(), String> {
    if receiver.events.is_empty() || receiver.events.iter().any(|known| known.eq_ignore_ascii_case(&event)) {
        return Ok(());
    }
    Err(format!("the event {event:?} is not in .spec.events {:?}", receiver.events))
}

/// An ID token of the provider, by RFC 7519 and OpenID Connect Core, 3.1.3.7: signature, issuer, audience, times, and
/// the claims that are asked for.
fn id_token(receiver: &Receiver, headers: &HeaderMap) -> Result<(), String> {
    let identity = receiver.identity.as_ref().ok_or("the Receiver has no identity provider")?;
    let authorization = text(headers, "authorization");
    let token = authorization.strip_prefix("Bearer ").ok_or("there is no bearer token")?;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        return Err("the token has not three parts".to_owned());
    };
    let decoded = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|error| error.to_string());
    let json = |part: &str| serde_json::from_slice::<serde_json::Value>(&decoded(part)?).map_err(|e| e.to_string());
    let head = json(header)?;
    if head["alg"] != "RS256" {
        return Err(format!("the algorithm is {}", head["alg"]));
    }
    let keys = identity.jwks["keys"].as_array().ok_or("the provider has no keys")?;
    let key = keys.iter().find(|key| key["kid"] == head["kid"] && key["kty"] == "RSA").ok_or("the key is unknown")?;
    let number = |name: &str| decoded(key[name].as_str().unwrap_or_default());
    let key = ring::signature::RsaPublicKeyComponents { n: number("n")?, e: number("e")? };
    let signed = &token[..header.len() + 1 + claims.len()];
    key.verify(&ring::signature::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decoded(signature)?)
        .map_err(|_| "the signature does not match")?;
    let claims = json(claims)?;
    if !identity.issuers.iter().any(|issuer| claims["iss"] == **issuer) {
        return Err(format!("the issuer is {}", claims["iss"]));
    }
    let audience = |value: &serde_json::Value| *value == *identity.audience;
    if !audience(&claims["aud"]) && !claims["aud"].as_array().is_some_and(|all| all.iter().any(audience)) {
        return Err(format!("the audience is {}", claims["aud"]));
    }
    let now = jiff::Timestamp::now().as_second();
    if claims["exp"].as_i64().is_none_or(|expires| expires <= now) {
        return Err(format!("it expired at {}", claims["exp"]));
    }
    match identity.claims.iter().find(|(name, value)| claims[name] != *value) {
        Some((name, _)) => Err(format!("a validation says no: {name} is {}", claims[name])),
        None => Ok(()),
    }
}

/// The check that GitHub, Gitea and both Bitbuckets share: go-github's.
fn hub(headers: &HeaderMap, token: &[u8], body: &[u8]) -> Result<(), String> {
    match &*media_type(&text(headers, "content-type"))? {
        "application/json" => {}
        "application/x-www-form-urlencoded" => go_form(body)?,
        other => return Err(format!("the content type {other:?} is not supported")),
    }
    let mut signature = text(headers, "x-hub-signature-256");
    if signature.is_empty() {
        signature = text(headers, "x-hub-signature");
    }
    if token.is_empty() && signature.is_empty() {
        return Ok(());
    }
    verify_prefixed(signature, token, body)
}

/// `sha256=` and the hex of an HMAC; the prefix chooses the digest.
fn verify_prefixed(signature: std::borrow::Cow<'_, str>, key: &[u8], body: &[u8]) -> Result<(), String> {
    if signature.is_empty() {
        return Err("the signature is missing".to_owned());
    }
    let (algorithm, digest) = signature.split_once('=').ok_or_else(|| "the signature has no prefix".to_owned())?;
    let expected = match algorithm {
        "sha1" => mac::<Hmac<Sha1>>(key, body),
        "sha256" => mac::<Hmac<Sha256>>(key, body),
        "sha512" => mac::<Hmac<Sha512>>(key, body),
        other => return Err(format!("the signature's algorithm {other:?} is unknown")),
    };
    if digest.to_ascii_lowercase().as_bytes() == hex(&expected) {
        Ok(())
    } else {
        Err(format!("the {algorithm} signature does not match"))
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("an HMAC takes a key of any length");
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// The media type of a header as Go's `mime.ParseMediaType` finds it, in lower case.
fn media_type(value: &str) -> Result<String, String> {
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    };
    let (media_type, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    let media_type = media_type.trim().to_ascii_lowercase();
    let malformed = || format!("the content type {value:?} is malformed");
    let (kind, subtype) = media_type.split_once('/').ok_or_else(malformed)?;
    if !is_token(kind) || !is_token(subtype) {
        return Err(malformed());
    }
    // What follows has to be parameters, or all of the header is refused. One semicolon may be left over.
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.trim() == ";" {
            return Ok(media_type);
        }
        let parameter = rest.strip_prefix(';').ok_or_else(malformed)?.trim_start();
        let (name, value) = parameter.split_once('=').ok_or_else(malformed)?;
        if !is_token(name) {
            return Err(malformed());
        }
        rest = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(malformed)?.1,
            None => {
                let end = value.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(value.len());
                if !is_token(&value[..end]) {
                    return Err(malformed());
                }
                &value[end..]
            }
        };
    }
}

/// What Go's `url.ParseQuery` refuses: a semicolon, and a percent sign that begins no escape.
fn go_form(body: &[u8]) -> Result<(), String> {
    if body.contains(&b';') {
        return Err("the form has a semicolon".to_owned());
    }
    let mut rest = body;
    while let Some(position) = rest.iter().position(|byte| *byte == b'%') {
        rest = &rest[position + 1..];
        if rest.len() < 2 || !rest[..2].iter().all(u8::is_ascii_hexdigit) {
            return Err("the form has a percent sign that begins no escape".to_owned());
        }
    }
    Ok(())
}

/// The schema of `dev.cdevents.artifact.published.0.2.0`, the version that CDEvents 0.4 has. The controller's library
/// decodes into a struct of known fields first and so forgives unknown ones.
fn cdevent(body: &[u8]) -> Result<(), String> {
    let event = go_json::whole(body)?;
    event.object("the body")?;
    let (context, subject) = (event.field("context"), event.field("subject"));
    context.object("context")?;
    subject.object("subject")?;
    let kind = context.filled("context.type")?;
    if kind != "dev.cdevents.artifact.published.0.2.0" {
        return Err(format!("CDEvents 0.4 as far as this double knows it has no {kind}"));
    }
    for name in ["version", "id", "source"] {
        context.filled(&format!("context.{name}"))?;
    }
    let version = context.filled("context.version")?;
    if !matches!(&*version, "0.4.0" | "0.4.1") {
        return Err(format!("context.version is {version}"));
    }
    let timestamp = context.filled("context.timestamp")?;
    if !is_rfc3339(&timestamp) {
        return Err(format!("context.timestamp {timestamp} is not as RFC 3339 has it"));
    }
    for name in ["chainId", "schemaUri"] {
        context.field(name).string(name)?;
    }
    subject.filled("subject.id")?;
    subject.field("source").string("subject.source")?;
    let kind = subject.filled("subject.type")?;
    if kind != "artifact" {
        return Err(format!("subject.type is {kind}"));
    }
    let content = subject.field("content");
    content.object("subject.content")?;
    content.field("user").string("subject.content.user")?;
    content.field("sbom").object("subject.content.sbom")?;
    content.field("sbom").field("uri").string("subject.content.sbom.uri")?;
    event.field("customDataContentType").string("customDataContentType")
}

/// As strict about the form as Go, which jiff alone is not.
fn is_rfc3339(text: &str) -> bool {
    let (date, rest) = text.split_at_checked(19).unwrap_or_default();
    let fraction = rest.strip_prefix('.').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zone = fraction.unwrap_or(rest);
    let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    shape(date) == "0000-00-00T00:00:00"
        && fraction.is_none_or(|zone| rest.len() - zone.len() > 1)
        && matches!(&*shape(zone), "Z" | "+00:00" | "-00:00")
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// JSON as Go's encoding/json reads it into a struct: names match whatever their case, of a repeated name every value
/// has to fit, null is as good as nothing, and what no field asks for may be anything.
mod go_json {
    /// Go allows ten times as much. A sender that comes near either is not the product.
    const DEPTH: usize = 1000;

    #[derive(Debug)]
    pub enum Json {
        Null,
        Bool,
        Number,
        String(String),
        Array(Vec<Json>),
        Object(Vec<(String, Json)>),
    }

    /// All the values a name has, for looking at them as at one.
    #[derive(Debug)]
    pub struct Values<'a>(Vec<&'a Json>);

    /// The first value of the body, whatever follows it: `json.NewDecoder(…).Decode`.
    pub fn first_value(body: &[u8]) -> Result<Json, String> {
        let mut reader = Reader { rest: body };
        reader.value(0)
    }

    /// The whole body as one value: `json.Unmarshal`.
    pub fn whole(body: &[u8]) -> Result<Json, String> {
        let mut reader = Reader { rest: body };
        let value = reader.value(0)?;
        reader.space();
        if reader.rest.is_empty() { Ok(value) } else { Err("the JSON has a tail".to_owned()) }
    }

    impl Json {
        pub fn object(&self, what: &str) -> Result<(), String> {
            Values(vec![self]).object(what)
        }

        pub fn field(&self, name: &str) -> Values<'_> {
            Values(vec![self]).field(name)
        }
    }

    impl<'a> Values<'a> {
        pub fn field(&self, name: &str) -> Values<'a> {
            let fields = self.0.iter().flat_map(|value| match value {
                Json::Object(fields) => fields.as_slice(),
                _ => &[],
            });
            Values(fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect())
        }

        pub fn object(&self, what: &str) -> Result<(), String> {
            self.all(what, "an object", |value| matches!(value, Json::Object(_)))
        }

        pub fn string(&self, what: &str) -> Result<(), String> {
            self.all(what, "a string", |value| matches!(value, Json::String(_)))
        }

        pub fn strings(&self, what: &str) -> Result<(), String> {
            let is_string = |value: &Json| matches!(value, Json::String(_) | Json::Null);
            self.all(
                what,
                "a list of strings",
                |value| matches!(value, Json::Array(list) if list.iter().all(is_string)),
            )
        }

        /// The text of the last component of `path`, which must not be empty.
        pub fn filled(&self, path: &str) -> Result<String, String> {
            let values = self.field(path.rsplit('.').next().unwrap_or(path));
            values.string(path)?;
            let last = values.0.iter().rev().find_map(|value| match value {
                Json::String(text) => Some(text.clone()),
                _ => None,
            });
            last.filter(|text| !text.is_empty()).ok_or_else(|| format!("{path} is missing or empty"))
        }

        fn all(&self, what: &str, kind: &str, fits: impl Fn(&Json) -> bool) -> Result<(), String> {
            match self.0.iter().all(|value| matches!(value, Json::Null) || fits(value)) {
                true => Ok(()),
                false => Err(format!("{what} is not {kind}")),
            }
        }
    }

    struct Reader<'a> {
        rest: &'a [u8],
    }

    impl Reader<'_> {
        fn space(&mut self) {
            let end = self.rest.iter().position(|byte| !b" \t\r\n".contains(byte)).unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }

        fn peek(&mut self) -> Option<u8> {
            self.space();
            self.rest.first().copied()
        }

        /// The next byte, blanks skipped, if it is this one.
        fn take(&mut self, byte: u8) -> bool {
            let found = self.peek() == Some(byte);
            if found {
                self.rest = &self.rest[1..];
            }
            found
        }

        fn expect(&mut self, byte: u8) -> Result<(), String> {
            if self.take(byte) { Ok(()) } else { Err(format!("no {:?} where JSON needs one", byte as char)) }
        }

        fn value(&mut self, depth: usize) -> Result<Json, String> {
            if depth > DEPTH {
                return Err("the JSON is nested too deeply".to_owned());
            }
            match self.peek() {
                None => Err("the JSON ends too early".to_owned()),
                Some(b'n') => self.word("null", Json::Null),
                Some(b't') => self.word("true", Json::Bool),
                Some(b'f') => self.word("false", Json::Bool),
                Some(b'"') => self.string().map(Json::String),
                Some(b'[') => {
                    self.expect(b'[')?;
                    let mut list = Vec::new();
                    while !self.take(b']') {
                        if !list.is_empty() {
                            self.expect(b',')?;
                        }
                        list.push(self.value(depth + 1)?);
                    }
                    Ok(Json::Array(list))
                }
                Some(b'{') => {
                    self.expect(b'{')?;
                    let mut fields = Vec::new();
                    while !self.take(b'}') {
                        if !fields.is_empty() {
                            self.expect(b',')?;
                        }
                        self.space();
                        let name = self.string()?;
                        self.expect(b':')?;
                        fields.push((name, self.value(depth + 1)?));
                    }
                    Ok(Json::Object(fields))
                }
                Some(_) => self.number(),
            }
        }

        fn word(&mut self, word: &str, value: Json) -> Result<Json, String> {
            self.rest = self.rest.strip_prefix(word.as_bytes()).ok_or_else(|| "the body is not JSON".to_owned())?;
            Ok(value)
        }

        fn digits(&mut self) -> usize {
            let count = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
            self.rest = &self.rest[count..];
            count
        }

        /// The grammar only: no field that is looked at is a number.
        fn number(&mut self) -> Result<Json, String> {
            let malformed = || "the body is not JSON".to_owned();
            self.rest = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
            if self.rest.first() == Some(&b'0') {
                self.rest = &self.rest[1..];
            } else if self.digits() == 0 {
                return Err(malformed());
            }
            if let Some(rest) = self.rest.strip_prefix(b".") {
                self.rest = rest;
                if self.digits() == 0 {
                    return Err(malformed());
                }
            }
            if let Some(b'e' | b'E') = self.rest.first() {
                self.rest = &self.rest[1..];
                self.rest = self.rest.strip_prefix(b"+").or(self.rest.strip_prefix(b"-")).unwrap_or(self.rest);
                if self.digits() == 0 {
                    return Err(malformed());
                }
            }
            Ok(Json::Number)
        }

        fn string(&mut self) -> Result<String, String> {
            let malformed = || "the JSON has a malformed string".to_owned();
            self.rest = self.rest.strip_prefix(b"\"").ok_or_else(malformed)?;
            let mut units: Vec<u8> = Vec::new();
            loop {
                let (&byte, rest) = self.rest.split_first().ok_or_else(malformed)?;
                self.rest = rest;
                match byte {
                    b'"' => return Ok(String::from_utf8_lossy(&units).into_owned()),
                    0..0x20 => return Err(malformed()),
                    b'\\' => {
                        let (&escape, rest) = self.rest.split_first().ok_or_else(malformed)?;
                        self.rest = rest;
                        let character = match escape {
                            b'"' | b'\\' | b'/' => escape as char,
                            b'b' => '\u{8}',
                            b'f' => '\u{c}',
                            b'n' => '\n',
                            b'r' => '\r',
                            b't' => '\t',
                            b'u' => self.unicode().ok_or_else(malformed)?,
                            _ => return Err(malformed()),
                        };
                        units.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    _ => units.push(byte),
                }
            }
        }

        /// What follows `\u`; half of a surrogate pair becomes the replacement character.
        fn unicode(&mut self) -> Option<char> {
            let high = self.unit()?;
            if (0xd800..0xdc00).contains(&high) {
                let before = self.rest;
                if let Some(rest) = self.rest.strip_prefix(b"\\u") {
                    self.rest = rest;
                    let low = self.unit()?;
                    if (0xdc00..0xe000).contains(&low) {
                        return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                    self.rest = before;
                }
            }
            Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
        }

        fn unit(&mut self) -> Option<u32> {
            let (digits, rest) = self.rest.split_at_checked(4)?;
            self.rest = rest;
            digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + (*digit as char).to_digit(16)?))
        }
    }
}
