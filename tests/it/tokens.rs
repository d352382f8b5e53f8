//! Tokens that are asked for: at a server that gives them as GitHub and Google do, with keys and checks of OpenSSL.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::domain::egress::Rules;
use sluice::domain::secret::Secret;
use sluice::port::{Connection, SendError, Sender as _};
use sluice::rim::tokens::TokenSender;
use sluice::target::{Outbound, Response, Statement, TokenRequest};

const WAIT: Duration = Duration::from_secs(10);

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A new private key, in the form in which GitHub hands them out or, as Google does, in PKCS #8.
fn key(folder: &Path, traditional: bool) -> String {
    let mut arguments = vec!["genrsa"];
    arguments.extend(traditional.then_some("-traditional"));
    arguments.push("2048");
    openssl(folder, &arguments)
}

/// A server that gives tokens, and what it was asked: path, credential and body.
struct Host {
    url: String,
    seen: Arc<Mutex<Vec<(String, String, String)>>>,
    /// Its next answers to requests for a token.
    given: Arc<Mutex<Vec<(u16, Value)>>>,
    /// Its answer to everything else.
    status: Arc<Mutex<u16>>,
}

impl Host {
    async fn start() -> Self {
        let seen: Arc<Mutex<Vec<(String, String, String)>>> = Arc::default();
        let given: Arc<Mutex<Vec<(u16, Value)>>> = Arc::default();
        let status = Arc::new(Mutex::new(201));
        let (kept, giving, answer) = (seen.clone(), given.clone(), status.clone());
        let app = Router::new().fallback(move |_: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let credential = headers.get("authorization").map_or("", |value| value.to_str().expect("text")).to_owned();
            let body = String::from_utf8(body.to_vec()).expect("text");
            kept.lock().expect("no panic").push((uri.path().to_owned(), credential, body));
            let (status, body) = match uri.path() == "/token" {
                true => giving.lock().expect("no panic").remove(0),
                false => (*answer.lock().expect("no panic"), json!({})),
            };
            (StatusCode::from_u16(status).expect("a status"), body.to_string())
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen, given, status }
    }

    fn gives(&self, status: u16, body: Value) {
        self.given.lock().expect("no panic").push((status, body));
    }

    fn request(&self, key: &str, statement: Statement) -> Outbound {
        let mut request = Outbound::new(Method::POST, format!("{}/work", self.url));
        request.token = Some(Box::new(TokenRequest {
            request: Outbound::new(Method::POST, format!("{}/token", self.url)),
            claims: json!({ "iss": "app" }),
            key: Secret::new(key),
            statement,
        }));
        request
    }

    /// What came since the last time, as path and credential.
    fn seen(&self) -> Vec<(String, String)> {
        let seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        seen.into_iter().map(|(path, credential, _)| (path, credential)).collect()
    }
}

async fn send(sender: &TokenSender, request: Outbound) -> Result<Response, SendError> {
    let allow = vec!["127.0.0.0/8".parse().expect("network")];
    let connection = Connection { egress: Rules { allow }, ..Connection::default() };
    sender.send(request, &connection, WAIT).await
}

fn ends_in(minutes: i64) -> String {
    (Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string()
}

/// Whether OpenSSL finds the signature of a statement right.
fn check(folder: &Path, key: &str, jwt: &str) -> (Value, Value) {
    let parts: Vec<_> = jwt.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts: {jwt}") };
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url");
    std::fs::write(folder.join("key.pem"), key).expect("written");
    std::fs::write(folder.join("signed"), format!("{header}.{claims}")).expect("written");
    std::fs::write(folder.join("signature"), decode(signature)).expect("written");
    openssl(folder, &["rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    openssl(folder, &["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"]);
    let json = |part: &str| serde_json::from_slice(&decode(part)).expect("JSON");
    (json(header), json(claims))
}

#[tokio::test]
async fn a_token_is_asked_for_once_by_a_statement_that_others_can_check_and_serves_what_follows() {
    let folder = tempfile::tempdir().expect("folder");
    let (host, sender) = (Host::start().await, TokenSender::new());
    let key = key(folder.path(), true);
    host.gives(201, json!({ "token": "ghs_first", "expires_at": ends_in(60) }));
    for _ in 0..2 {
        assert_eq!(send(&sender, host.request(&key, Statement::Bearer)).await.expect("an answer").status, 201);
    }
    let [(path, statement), first, second] = <[_; 3]>::try_from(host.seen()).expect("three");
    assert_eq!(path, "/token");
    let jwt = statement.strip_prefix("Bearer ").expect("a bearer");
    let expected = (json!({ "alg": "RS256", "typ": "JWT" }), json!({ "iss": "app" }));
    assert_eq!(check(folder.path(), &key, jwt), expected);
    let work = ("/work".to_owned(), "Bearer ghs_first".to_owned());
    assert_eq!([first, second], [work.clone(), work]);
}

#[tokio::test]
async fn a_statement_goes_as_an_assertion_where_that_is_wanted() {
    let folder = tempfile::tempdir().expect("folder");
    let (host, sender) = (Host::start().await, TokenSender::new());
    let key = key(folder.path(), false);
    host.gives(200, json!({ "access_token": "ya29", "expires_in": 3599 }));
    send(&sender, host.request(&key, Statement::Form)).await.expect("an answer");
    let asked = host.seen.lock().expect("no panic")[0].clone();
    assert_eq!(asked.1, "");
    let form: std::collections::BTreeMap<_, _> = form_urlencoded::parse(asked.2.as_bytes()).into_owned().collect();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    check(folder.path(), &key, &form["assertion"]);
    assert_eq!(host.seen()[1].1, "Bearer ya29");
}

#[tokio::test]
async fn a_token_that_is_about_to_end_or_is_refused_is_asked_for_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let (host, sender) = (Host::start().await, TokenSender::new());
    let key = key(folder.path(), true);
    for (token, minutes) in [("a", 4), ("b", 60), ("c", 60)] {
        host.gives(201, json!({ "token": token, "expires_at": ends_in(minutes) }));
    }
    let used = async || {
        send(&sender, host.request(&key, Statement::Bearer)).await.expect("an answer");
        host.seen().pop().expect("a request").1
    };
    assert_eq!(used().await, "Bearer a");
    assert_eq!(used().await, "Bearer b");
    *host.status.lock().expect("no panic") = 401;
    assert_eq!(used().await, "Bearer b");
    assert_eq!(used().await, "Bearer c");
}

#[tokio::test]
async fn another_key_has_a_token_of_its_own() {
    let folder = tempfile::tempdir().expect("folder");
    let (host, sender) = (Host::start().await, TokenSender::new());
    for token in ["a", "b"] {
        host.gives(201, json!({ "token": token, "expires_at": ends_in(60) }));
        send(&sender, host.request(&key(folder.path(), true), Statement::Bearer)).await.expect("an answer");
        assert_eq!(host.seen().pop().expect("a request").1, format!("Bearer {token}"));
    }
}

#[tokio::test]
async fn who_refuses_a_token_has_answered_and_what_is_no_token_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let (host, sender) = (Host::start().await, TokenSender::new());
    let key = key(folder.path(), true);
    host.gives(403, json!({ "message": "This installation has been suspended" }));
    let answer = send(&sender, host.request(&key, Statement::Bearer)).await.expect("an answer");
    assert_eq!(answer.status, 403);
    host.gives(201, json!({ "token": "" }));
    let error = send(&sender, host.request(&key, Statement::Bearer)).await.expect_err("no token");
    assert_eq!(error.to_string(), "no connection: no token: there is none in the answer");
    assert!(host.seen().iter().all(|(path, _)| path == "/token"));
}

#[tokio::test]
async fn a_key_that_is_none_is_said_without_being_shown() {
    let (host, sender) = (Host::start().await, TokenSender::new());
    let broken = "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0MTIz\n-----END RSA PRIVATE KEY-----\n";
    for (key, expected) in [("secret123", "is not PEM"), (broken, "2048 bits")] {
        let error = send(&sender, host.request(key, Statement::Bearer)).await.expect_err("no key").to_string();
        assert!(error.contains(expected) && !error.contains("secret123") && !error.contains("c2VjcmV0"), "{error}");
    }
    assert!(host.seen().is_empty());
}
