//! A real server of NATS (Debian's nats-server) gets what targets publish, and a subscriber reads it back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/parts.rs"]
mod parts;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use jiff::Timestamp;
use parts::{PATIENCE, Process, closed_port, free_port, http, ready, serve};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sluice::domain::delivery::Delivery;
use sluice::domain::egress::Rules;
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::domain::secret::{Resolved, Secret};
use sluice::port::{Connection, SendError, Sender as _};
use sluice::relay::Relay;
use sluice::rim::nats::NatsSender;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A running server, with a configuration of its own.
struct Server {
    port: u16,
    _config: tempfile::NamedTempFile,
    _process: Process,
}

fn run(config: &tempfile::NamedTempFile) -> Process {
    let mut command = Command::new("nats-server");
    command.arg("--config").arg(config.path());
    Process::start(&mut command, "scripts/test installs it (Debian package nats-server)")
}

impl Server {
    /// `config` is in the server's own language, of which JSON is a part.
    async fn start(config: Value) -> Self {
        let port = free_port();
        let file = tempfile::NamedTempFile::new().expect("file");
        let mut all = json!({ "listen": format!("127.0.0.1:{port}") });
        all.as_object_mut().expect("object").extend(config.as_object().expect("object").clone());
        std::fs::write(file.path(), all.to_string()).expect("configuration");
        let process = run(&file);
        ready(&format!("http://127.0.0.1:{port}")).await;
        Self { port, _config: file, _process: process }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

/// A subscriber that is no code of ours but this: it says `login`, and reads what comes byte for byte.
struct Subscriber(BufReader<TcpStream>);

impl Subscriber {
    async fn of(server: &Server, login: &Value, subject: &str) -> Self {
        let mut subscriber = Self::connected(server, login).await;
        subscriber.say(&format!("SUB {subject} 7\r\nPING\r\n")).await;
        assert_eq!(subscriber.line().await, "PONG\r\n");
        subscriber
    }

    async fn connected(server: &Server, login: &Value) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
        let mut subscriber = Self(BufReader::new(stream));
        assert!(subscriber.line().await.starts_with("INFO {"));
        let mut connect = json!({ "verbose": false, "headers": true });
        connect.as_object_mut().expect("object").extend(login.as_object().expect("object").clone());
        subscriber.say(&format!("CONNECT {connect}\r\nPING\r\n")).await;
        assert_eq!(subscriber.line().await, "PONG\r\n");
        subscriber
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("written");
    }

    async fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
            read.unwrap_or_else(|_| panic!("nothing comes")).expect("read");
            // A server asks now and then whether we are there.
            if line != "PING\r\n" {
                return line;
            }
            self.say("PONG\r\n").await;
        }
    }

    /// The next message: its control line, and its bytes with the header.
    async fn next(&mut self) -> (String, String) {
        let control = self.line().await;
        let size: usize = control.trim().rsplit(' ').next().and_then(|size| size.parse().ok()).expect("a size");
        let mut message = vec![0; size + 2];
        tokio::time::timeout(PATIENCE, self.0.read_exact(&mut message)).await.expect("in time").expect("read");
        (control, String::from_utf8(message).expect("text"))
    }

    /// What the server answers to a request, such as JetStream's API takes.
    async fn ask(&mut self, subject: &str, body: &Value) -> Value {
        let body = body.to_string();
        self.say(&format!("SUB answers 9\r\nPUB {subject} answers {}\r\n{body}\r\nUNSUB 9 1\r\n", body.len())).await;
        let (_, answer) = self.next().await;
        serde_json::from_str(&answer).expect("JSON")
    }
}

/// A target with its secrets, and how it is connected to.
struct Target {
    relay: Relay,
    secrets: Resolved,
    connection: Connection,
}

impl Target {
    fn new(keys: Value, secrets: &[(&str, &str)]) -> Self {
        let mut target = json!({ "type": "nats", "subject": "relay.events" });
        target.as_object_mut().expect("object").extend(keys.as_object().expect("object").clone());
        let file = json!({ "targets": { "bus": target } });
        let relay = Relay::from_value(&file).unwrap_or_else(|why| panic!("{why}"));
        let mut resolved = Resolved::default();
        for reference in relay.targets["bus"].secrets() {
            let named = secrets.iter().find(|(name, _)| reference.to_string() == *name).expect("a value");
            resolved.insert(reference.clone(), vec![Secret::new(named.1)]);
        }
        let allow = vec!["127.0.0.0/8".parse().expect("network"), "::1/128".parse().expect("network")];
        let connection = Connection { egress: Rules { allow }, ..Connection::default() };
        Self { relay, secrets: resolved, connection }
    }

    async fn send(&self, event: &str) -> Result<Outcome, SendError> {
        self.send_within(event, PATIENCE).await
    }

    async fn send_within(&self, event: &str, timeout: Duration) -> Result<Outcome, SendError> {
        let target = &self.relay.targets["bus"].target;
        let request =
            target.render(&delivery(event), &self.secrets, Timestamp::UNIX_EPOCH).expect("rendered").remove(0);
        let answer = NatsSender::default().send(request, &self.connection, timeout).await?;
        Ok(target.classify(&answer, Timestamp::UNIX_EPOCH))
    }
}

fn delivery(tag: &str) -> Delivery {
    let source = Name::parse("ghcr").expect("name");
    let push = ImagePush {
        repository: "ghcr.io/acme/app".into(),
        tag: Some(tag.into()),
        tags: vec![tag.into()],
        digest: None,
        media_type: None,
        actor: None,
    };
    let event = Event {
        detail: Detail::ImagePush(push),
        id: Event::id_of(&source, tag),
        source,
        cluster: None,
        labels: BTreeMap::new(),
        time: None,
    };
    Delivery::new(event, tag, &Name::parse("bus").expect("name"), None, Timestamp::UNIX_EPOCH)
}

fn blamed(outcome: Result<Outcome, SendError>) -> (Blame, String) {
    match outcome {
        Ok(Outcome::Retry { blame, reason }) => (blame, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_subscriber_reads_the_event_byte_for_byte_with_the_id_of_the_delivery() {
    let login = json!({ "user": "relay", "pass": "s3cret \"word\"" });
    let users = json!([{ "user": "relay", "password": "s3cret \"word\"" }]);
    let server = Server::start(json!({ "authorization": { "users": users } })).await;
    let mut subscriber = Subscriber::of(&server, &login, "relay.>").await;
    let keys = json!({ "url": server.url(), "username": "relay", "password": "env:P" });
    let target = Target::new(keys, &[("env:P", "s3cret \"word\"")]);
    assert_eq!(target.send("1.2.3 — é").await, Ok(Outcome::Accepted));
    let sent = delivery("1.2.3 — é");
    let header = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", sent.deduplication_id());
    let body = serde_json::to_string(&sent.event).expect("JSON");
    let (control, message) = subscriber.next().await;
    assert_eq!(control, format!("HMSG relay.events 7 {} {}\r\n", header.len(), header.len() + body.len()));
    assert_eq!(message, format!("{header}{body}\r\n"));
}

#[tokio::test]
async fn who_is_refused_is_told_so_and_what_is_refused_of_a_user_is_not_taken_for_sent() {
    let may = json!({ "publish": "relay.other" });
    let users =
        json!([{ "user": "relay", "password": "right" }, { "user": "bound", "password": "right", "permissions": may }]);
    let server = Server::start(json!({ "authorization": { "users": users } })).await;
    let keys = |name: &str| json!({ "url": server.url(), "username": name, "password": "env:P" });
    let (blame, reason) = blamed(Target::new(keys("relay"), &[("env:P", "wrong-word")]).send("1").await);
    assert_eq!((blame, reason.as_str()), (Blame::Setup, "NATS says: Authorization Violation"));
    assert_eq!(blamed(Target::new(json!({ "url": server.url() }), &[]).send("1").await).0, Blame::Setup);
    let (blame, reason) = blamed(Target::new(keys("bound"), &[("env:P", "right")]).send("1").await);
    assert_eq!(blame, Blame::Setup);
    assert!(reason.contains("Permissions Violation for Publish to"), "{reason}");
}

#[tokio::test]
async fn a_token_is_enough_where_the_server_has_one() {
    let server = Server::start(json!({ "authorization": { "token": "t0ken" } })).await;
    let keys = json!({ "url": server.url(), "token": "env:T" });
    assert_eq!(Target::new(keys.clone(), &[("env:T", "t0ken")]).send("1").await, Ok(Outcome::Accepted));
    assert_eq!(blamed(Target::new(keys, &[("env:T", "other")]).send("1").await).0, Blame::Setup);
}

#[tokio::test]
async fn what_is_larger_than_the_server_takes_is_given_up_and_the_next_event_passes() {
    let server = Server::start(json!({ "max_payload": 4096 })).await;
    let target = Target::new(json!({ "url": server.url() }), &[]);
    let outcome = target.send(&"x".repeat(5000)).await;
    assert!(matches!(&outcome, Ok(Outcome::Rejected { reason }) if reason.contains("max_payload")), "{outcome:?}");
    assert_eq!(target.send("small").await, Ok(Outcome::Accepted));
}

#[tokio::test]
async fn tls_is_with_the_server_that_the_url_names_and_with_the_authority_that_the_target_trusts() {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
    let issue = |name: &str| {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &authority).expect("certificate").pem(), key.serialize_pem())
    };
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (certificate, key) = issue("localhost");
    let server = Server::start(json!({ "tls": {
        "cert_file": file("certificate.pem", &certificate),
        "key_file": file("key.pem", &key),
        "ca_file": file("ca.pem", &authority.pem()),
        "verify": true,
    } }))
    .await;
    let target = |url: String| {
        let mut target = Target::new(json!({ "url": url }), &[]);
        let (certificate, key) = issue("relay");
        target.connection.ca = Some(Secret::new(authority.pem()));
        target.connection.client_certificate = Some(Secret::new(format!("{certificate}{key}")));
        target
    };
    for scheme in ["tls", "nats"] {
        // A server that asks for TLS gets it, whatever the URL says.
        let url = format!("{scheme}://localhost:{}", server.port);
        assert_eq!(target(url).send("1").await, Ok(Outcome::Accepted), "{scheme}");
    }
    let unnamed = target(format!("tls://127.0.0.1:{}", server.port)).send("1").await;
    assert!(matches!(&unnamed, Err(SendError::Tls(_))), "{unnamed:?}");
    let mut distrustful = target(format!("tls://localhost:{}", server.port));
    distrustful.connection.ca = None;
    assert!(matches!(distrustful.send("1").await, Err(SendError::Tls(_))));
    let plain = Server::start(json!({})).await;
    let refused = target(format!("tls://localhost:{}", plain.port)).send("1").await;
    assert!(matches!(&refused, Err(SendError::Tls(why)) if why.contains("offers none")), "{refused:?}");
}

#[tokio::test]
async fn a_stream_acknowledges_what_it_keeps_and_keeps_the_same_delivery_once() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(json!({ "jetstream": { "store_dir": folder.path() } })).await;
    let target = Target::new(json!({ "url": server.url(), "jetstream": true }), &[]);
    let (blame, reason) = blamed(target.send("1").await);
    assert_eq!(blame, Blame::Setup);
    assert!(reason.contains("no stream"), "{reason}");

    let mut operator = Subscriber::connected(&server, &json!({})).await;
    let stream = json!({ "name": "RELAY", "subjects": ["relay.>"], "storage": "memory", "max_msg_size": 4096 });
    let made = operator.ask("$JS.API.STREAM.CREATE.RELAY", &stream).await;
    assert!(made["error"].is_null(), "{made}");
    for event in ["1", "2", "1", "2"] {
        assert_eq!(target.send(event).await, Ok(Outcome::Accepted), "{event}");
    }
    let info = operator.ask("$JS.API.STREAM.INFO.RELAY", &json!({})).await;
    assert_eq!(info["state"]["messages"], 2, "{info}");
    let large = target.send(&"x".repeat(5000)).await;
    assert!(matches!(&large, Ok(Outcome::Rejected { reason }) if reason.contains("size")), "{large:?}");
}

/// A key of NATS: a public one by its kind, and the seed of a user.
struct Nkey(Ed25519KeyPair, [u8; 32]);

impl Nkey {
    fn new(number: u8) -> Self {
        let seed = [number; 32];
        Self(Ed25519KeyPair::from_seed_unchecked(&seed).expect("key"), seed)
    }

    fn written(kind: &[u8], key: &[u8]) -> String {
        let mut raw = [kind, key].concat();
        let sum = raw.iter().fold(0_u16, |sum, byte| {
            (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| sum << 1 ^ if sum & 0x8000 == 0 { 0 } else { 0x1021 })
        });
        raw.extend(sum.to_le_bytes());
        BASE32_NOPAD.encode(&raw)
    }

    /// `O` an operator's, `A` an account's, `U` a user's: five bits that base32 shows so.
    fn public(&self, kind: u8) -> String {
        Self::written(&[(kind - b'A') << 3], self.0.public_key().as_ref())
    }

    fn seed_of_user(&self) -> String {
        let (seed, user) = ((b'S' - b'A') << 3, (b'U' - b'A') << 3);
        Self::written(&[seed | user >> 5, user << 3], &self.1)
    }

    fn sign(&self, issuer: &str, subject: &str, claims: Value) -> String {
        let claims = json!({ "jti": subject, "iat": 1_767_225_600, "iss": issuer, "sub": subject, "nats": claims });
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = format!("{}.{}", encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#), encode(&claims.to_string()));
        format!("{signed}.{}", BASE64URL_NOPAD.encode(self.0.sign(signed.as_bytes()).as_ref()))
    }
}

#[tokio::test]
async fn credentials_of_nsc_are_a_jwt_and_the_key_that_signs_what_the_server_asks() {
    let (operator, account, user) = (Nkey::new(1), Nkey::new(2), Nkey::new(3));
    let (of_operator, of_account, of_user) = (operator.public(b'O'), account.public(b'A'), user.public(b'U'));
    let nobody = json!({ "subs": -1, "data": -1, "payload": -1 });
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let itself = operator.sign(&of_operator, &of_operator, json!({ "type": "operator", "version": 2 }));
    let its_account =
        operator.sign(&of_operator, &of_account, json!({ "type": "account", "version": 2, "limits": limits }));
    let mut claims = json!({ "type": "user", "version": 2, "pub": {}, "sub": {} });
    claims.as_object_mut().expect("object").extend(nobody.as_object().expect("object").clone());
    let jwt = account.sign(&of_account, &of_user, claims);
    let preload = json!({ of_account.as_str(): its_account });
    let server = Server::start(json!({ "operator": itself, "resolver": "MEMORY", "resolver_preload": preload })).await;
    let creds = |seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n****** IMPORTANT ******\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };
    let target = |creds: &str| Target::new(json!({ "url": server.url(), "creds": "env:C" }), &[("env:C", creds)]);
    assert_eq!(target(&creds(&user.seed_of_user())).send("1").await, Ok(Outcome::Accepted));
    let (blame, _) = blamed(target(&creds(&Nkey::new(4).seed_of_user())).send("1").await);
    assert_eq!(blame, Blame::Setup, "the key is another one's");
    for unusable in [&jwt, &creds("SUAHUNTER2"), &creds(&of_user)] {
        let refused = target(unusable).send("1").await;
        let Err(SendError::Unusable(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.starts_with("`creds`") && !why.contains("HUNTER2"), "{why}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_one_that_is_back_gets_what_was_kept() {
    let gate = closed_port();
    let place = format!("nats://{}", gate.local_addr().expect("address"));
    let away = Target::new(json!({ "url": place }), &[]).send("1").await;
    assert!(matches!(&away, Err(SendError::Connect(_))), "{away:?}");

    let folder = tempfile::tempdir().expect("folder");
    let relay = json!({
        "sources": { "hook": { "type": "generic", "secret": "env:SECRET", "emits": "image_push" } },
        "targets": { "bus": { "type": "nats", "url": place, "subject": "relay.events" } },
        "routes": [{ "to": "bus" }],
        "egress": { "allow": ["127.0.0.0/8"] },
    });
    let (_serve, url) = serve(&relay, &[("SECRET", "s3cret")], folder.path()).await;
    let push = json!({ "repository": "ghcr.io/acme/app", "tag": "1.2.3" });
    let (status, answer) = http("POST", &format!("{url}/hook"), "Bearer s3cret", &push).await;
    assert_eq!(status, 202, "{answer}");

    // A server keeps nothing for subscribers who come later, so it is there for the relay when the subscriber is.
    let server = Server::start(json!({})).await;
    let mut subscriber = Subscriber::of(&server, &json!({}), "relay.events").await;
    let gate = gate.listen(16).expect("listens");
    tokio::spawn(async move {
        while let Ok((mut relay, _)) = gate.accept().await {
            let mut through = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
            let _ = tokio::io::copy_bidirectional(&mut relay, &mut through).await;
        }
    });
    let (_, message) = subscriber.next().await;
    let (_, event) = message.split_once("\r\n\r\n").expect("a header");
    let event: Value = serde_json::from_str(event).expect("JSON");
    assert_eq!((event["kind"].as_str(), event["tag"].as_str()), (Some("image_push"), Some("1.2.3")));
}
