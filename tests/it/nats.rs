//! Servers of NATS that a real one is not: silent, elsewhere, not NATS at all.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sluice::domain::egress::Rules;
use sluice::port::{Connection, SendError, Sender as _};
use sluice::rim::nats::NatsSender;
use sluice::target::{Outbound, Response};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::targets::{delivery, relay, secrets};

const INFO: &str =
    r#"INFO {"server_id":"a","headers":true,"max_payload":1048576,"connect_urls":["169.254.169.254:4222"]}"#;

/// A server that says each of these, and before each but the first waits for a line that begins with the word before it;
/// then it is silent. Returns its port, and the lines that it was told.
async fn server(says: &'static [(&'static str, &'static str)]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let port = listener.local_addr().expect("address").port();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        for (after, text) in says {
            while !after.is_empty() {
                line.clear();
                if stream.read_until(b'\n', &mut line).await.unwrap_or_default() == 0 {
                    return;
                }
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                seen.lock().await.push(line.clone());
                if line.starts_with(after) {
                    break;
                }
            }
            let _ = stream.write_all(text.as_bytes()).await;
        }
        while stream.read_until(b'\n', &mut line).await.unwrap_or_default() > 0 {}
    });
    (port, told)
}

fn request(keys: &str) -> Outbound {
    request_as(keys, "hunter2")
}

fn request_as(keys: &str, secret: &str) -> Outbound {
    let relay = relay(&format!("bus: {{ type: nats, subject: relay.events, {keys} }}"));
    let entry = &relay.targets["bus"];
    let requests = entry.target.render(&delivery("push.json"), &secrets(entry, secret), Timestamp::UNIX_EPOCH);
    requests.expect("rendered").remove(0)
}

fn loopback() -> Connection {
    let allow = vec!["127.0.0.0/8".parse().expect("network")];
    Connection { egress: Rules { allow }, ..Connection::default() }
}

async fn send(port: u16, keys: &str, patience: Duration) -> Result<Response, SendError> {
    let request = request(&format!("url: 'nats://127.0.0.1:{port}', {keys}"));
    NatsSender::default().send(request, &loopback(), patience).await
}

const LONG: Duration = Duration::from_secs(10);
/// Long enough for a busy machine to connect in.
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_server_that_falls_silent_has_no_message_before_it_lets_us_in_and_may_have_it_after() {
    for says in [&[("", "")][..], &[("", "INFO {}\r\n")]] {
        let (port, told) = server(says).await;
        let sent = send(port, "", SHORT).await;
        assert!(matches!(&sent, Err(SendError::Connect(_))), "{sent:?}");
        assert!(!told.lock().await.iter().any(|line| line.starts_with("HPUB")));
    }
    let (port, _) = server(&[("", "INFO {}\r\n"), ("PING", "PONG\r\n")]).await;
    // Until then the message has to have left, on a busy machine, too.
    let longer = 5 * SHORT;
    assert_eq!(send(port, "", longer).await.map(|answer| answer.status), Err(SendError::TimedOut(longer)));
}

#[tokio::test]
async fn what_a_server_tells_besides_is_passed_over_its_pings_are_answered_and_its_cluster_is_not_visited() {
    let news = "+OK\r\nINFO {\"connect_urls\":[\"169.254.169.254:4222\"]}\r\nPING\r\n";
    let says = [("", INFO), ("", "\r\n"), ("PING", news), ("PONG", "PONG\r\n"), ("PING", "PONG\r\n")];
    let says: &'static [(&'static str, &'static str)] = Box::leak(Box::new(says));
    let (port, told) = server(says).await;
    let answer = send(port, "", LONG).await.expect("an answer");
    assert_eq!(answer.body, "PONG");
    let told = told.lock().await.join("\n");
    assert!(told.contains("HPUB relay.events "), "{told}");
}

#[tokio::test]
async fn what_is_no_server_of_nats_gets_neither_the_message_nor_who_we_are() {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", "INFO none\r\n", "\r\n", "220 mail\r\n", "INFO []\r\n"] {
        let says: &'static [(&'static str, &'static str)] = Box::leak(Box::new([("", greeting)]));
        let (port, told) = server(says).await;
        let sent = send(port, "username: relay, password: 'env:T'", LONG).await;
        assert!(matches!(&sent, Err(SendError::Connect(why)) if !why.contains("hunter2")), "{greeting}: {sent:?}");
        assert!(told.lock().await.is_empty());
    }
    let endless: &'static str = Box::leak("x".repeat(1024 * 1024).into_boxed_str());
    let (port, _) = server(Box::leak(Box::new([("", endless)]))).await;
    assert!(matches!(send(port, "", LONG).await, Err(SendError::Connect(_))));
}

#[tokio::test]
async fn whatever_is_answered_to_a_message_ends_the_attempt_without_a_panic() {
    for last in [
        "MSG\r\n",
        "MSG a 1 -5\r\n",
        "MSG a 1 99999999999999999999\r\n",
        "MSG a 1 4000000000\r\n",
        "HMSG a 1 5\r\nNATS/\r\n",
        "HMSG a 1 x y\r\n",
        "HMSG a 1 50 5\r\nNATS/\r\n",
        "HMSG a 1 5 5\r\nNATS/\r\n",
        "what\r\n",
        "\r\n",
        "\u{fffd}\r\n",
    ] {
        let says: &'static _ = Box::leak(Box::new([("", "INFO {}\r\n"), ("PING", "PONG\r\n"), ("PING", last)]));
        let (port, _) = server(says).await;
        let sent = send(port, "", LONG).await;
        let relay = relay("bus: { type: nats, subject: a, url: 'nats://127.0.0.1' }");
        match sent {
            Ok(answer) => {
                let outcome = relay.targets["bus"].target.classify(&answer, Timestamp::UNIX_EPOCH);
                assert_eq!(outcome.word(), "retry", "{last}");
            }
            Err(error) => assert!(matches!(error, SendError::Broken(_)), "{last}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_repeats_who_we_are_is_not_quoted_with_it() {
    let seed = [&[0x95, 0x00][..], &[7; 32], &[0; 2]].concat();
    let seed = data_encoding::BASE32_NOPAD.encode(&seed);
    let creds =
        format!("-----BEGIN NATS USER JWT-----\neyJhbGciOiJlZDI1.x.y\n-----BEGIN USER NKEY SEED-----\n{seed}\n");
    for (keys, secret, repeated) in [
        ("username: relay, password: 'env:T'", "hunter2", "hunter2"),
        ("token: 'env:T'", "hunter2", "hunter2"),
        ("creds: 'env:T'", &creds, "eyJhbGciOiJlZDI1.x.y"),
    ] {
        let refusal: &'static str = Box::leak(format!("-ERR 'who is {repeated}?'\r\n").into_boxed_str());
        let (port, told) = server(Box::leak(Box::new([("", "INFO {}\r\n"), ("PING", refusal)]))).await;
        let request = request_as(&format!("url: 'nats://127.0.0.1:{port}', {keys}"), secret);
        let answer = NatsSender::default().send(request, &loopback(), LONG).await.expect("an answer");
        assert!(told.lock().await.iter().any(|line| line.contains(repeated)), "it was told");
        assert_eq!(answer.body, "-ERR 'who is ***?'", "{keys}");
    }
}

#[tokio::test]
async fn tls_is_not_begun_over_what_was_said_before_it() {
    let says = &[("", "INFO {\"tls_required\":true}\r\n-ERR 'injected'\r\n")];
    let (port, told) = server(says).await;
    let sent = send(port, "", LONG).await;
    assert!(matches!(&sent, Err(SendError::Tls(_))), "{sent:?}");
    assert!(told.lock().await.is_empty());
}

#[tokio::test]
async fn a_server_of_nats_is_as_far_away_as_any_other() {
    let nothing = Connection { plaintext: true, ..Connection::default() };
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "127.1", "169.254.169.254"]
    {
        let request = request(&format!("url: 'nats://{host}:4222'"));
        let refused = NatsSender::default().send(request, &nothing, LONG).await;
        assert!(matches!(&refused, Err(SendError::Egress(why)) if why.starts_with("egress")), "{host}: {refused:?}");
    }
    let plain = NatsSender::default().send(request("url: 'nats://192.0.32.7:4222'"), &loopback(), LONG).await;
    assert!(matches!(&plain, Err(SendError::Egress(why)) if why.contains("plaintext: true")), "{plain:?}");
}
