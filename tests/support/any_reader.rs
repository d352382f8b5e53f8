//! Any bytes at whatever reads what others have written, but for sources: what the fuzz target and the property test do
//! with them. Samples of each are in `tests/data/readers/`, in a folder of its name.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sluice::dead_letters::{Letter, Stored};
use sluice::domain::delivery::{DeadLetter, Delivery};
use sluice::domain::egress::Rules;
use sluice::domain::secret::Secret;
use sluice::port::{Connection, Sender as _};
use sluice::relay::Relay;
use sluice::rim::nats::NatsSender;
use sluice::rim::{lambda, yaml};
use sluice::source::{jwt, sns};
use sluice::target::nats::{Login, Publication};
use sluice::target::{Outbound, Response, pause};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// A reader with its name.
type Reader = (&'static str, fn(&[u8]));

/// All of them. None may panic.
pub const READERS: [Reader; 9] = [
    ("delivery", delivery),
    ("dead-letter", dead_letter),
    ("letter", letter),
    ("lambda", invocation),
    ("relay", relay),
    ("pause", wait),
    ("jwt", token),
    ("nats", server_of_nats),
    ("sns", message_of_sns),
];

fn now() -> Timestamp {
    "2026-08-20T12:00:00Z".parse().expect("time")
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The first line, and the rest.
fn parts(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}

/// What can be read reads back as the same.
fn delivery(input: &[u8]) {
    if let Ok(read) = Delivery::decode(&text(input)) {
        let written = read.encode(usize::MAX).expect("there is no limit");
        assert_eq!(Delivery::decode(&written).expect("readable"), read);
    }
}

fn dead_letter(input: &[u8]) {
    if let Ok(read) = DeadLetter::decode(&text(input)) {
        let written = read.encode(usize::MAX).expect("there is no limit");
        assert_eq!(DeadLetter::decode(&written).expect("readable"), read);
    }
}

/// The body of a message in a dead-letter queue, after a line with an attribute that Lambda adds.
fn letter(input: &[u8]) {
    let (error, body) = parts(input);
    let stored = Stored {
        message_id: "1".into(),
        receipt: "1".into(),
        sent: now(),
        body: text(body),
        attributes: BTreeMap::from([("ErrorMessage".to_owned(), text(error))]),
    };
    let letter = Letter::read(&stored);
    letter.summary();
    letter.details(&stored);
    // Not everything can be sent again.
    let _ = letter.again(now(), 262_144, None).map(drop);
}

fn invocation(input: &[u8]) {
    if let Ok(payload) = RawValue::from_string(text(input)) {
        let _ = lambda::read_event(payload, "1").map(drop);
    }
}

fn relay(input: &[u8]) {
    if let Ok(document) = yaml::parse(&text(input)) {
        let _ = Relay::from_value(&document.value).map(drop);
    }
}

/// An answer that asks for a pause: a header's value in a line, then the body.
fn wait(input: &[u8]) {
    let (header, body) = parts(input);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        for name in ["retry-after", "x-ratelimit-reset"] {
            headers.insert(name, value.clone());
        }
    }
    let response = Response { status: 429, headers, body: body.to_vec().into() };
    let asked = pause::asked(&response, now());
    assert!(asked.is_none_or(|asked| asked <= pause::LONGEST), "{asked:?}");
}

/// A token in a line, then the set of keys that it is checked by.
fn token(input: &[u8]) {
    let (token, keys) = parts(input);
    let (audiences, emails) = (["https://relay.example.com/gcr".to_owned()], ["a@b.example".to_owned()]);
    let expected = jwt::Expected { issuers: &["https://accounts.google.com"], audiences: &audiences, emails: &emails };
    let _ = jwt::check(&text(token), &expected, std::iter::once(&Secret::new(keys)), now());
}

/// All that a server of NATS says, from the first byte on.
fn server_of_nats(input: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    static SENDER: LazyLock<NatsSender> = LazyLock::new(NatsSender::default);
    RUNTIME.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("address");
        let mut request = Outbound::new(Method::POST, format!("nats://{address}"));
        request.body = "{}".into();
        request.nats = Some(Publication {
            subject: "relay.events".into(),
            id: "1".into(),
            login: Login::Token(Secret::new("sample-token-0001")),
            to_stream: input.len().is_multiple_of(2),
        });
        let allow = vec!["127.0.0.0/8".parse().expect("network")];
        let connection = Connection { egress: Rules { allow }, ..Connection::default() };
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            // Whoever hangs up has heard enough.
            let _ = stream.write_all(input).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let sent = async { SENDER.send(request, &connection, Duration::from_secs(5)).await.map(drop) };
        let _ = tokio::join!(server, sent);
    });
}

fn message_of_sns(input: &[u8]) {
    if let Ok(message) = sns::Envelope::read(input) {
        message.time();
        message.place();
    }
    sns::certificate(&Secret::new(input));
}
