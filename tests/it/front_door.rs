//! The front door of `sluice serve` against those who are rude on purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice::rim::local::server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// A front door that notes what it is asked, and answers 200 to everything.
struct Door {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _stop: watch::Sender<bool>,
}

impl Door {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stop, stopping) = watch::channel(false);
        let noted = seen.clone();
        let handle = move |request: server::WholeRequest, _| {
            let said = format!("{} {} {}", request.method(), request.uri(), request.body().len());
            noted.lock().expect("lock").push(said);
            async { server::plain(200, "fine\n") }
        };
        tokio::spawn(server::serve(listener, handle, stopping));
        Self { address, seen, _stop: stop }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("lock").clone()
    }

    /// Sends this and then nothing more, and reads until the door is shut.
    async fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let shut = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        let _ = shut.expect("the door is shut");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Time passes by itself where nothing else happens.
#[tokio::test(start_paused = true)]
async fn whoever_is_slow_with_headers_or_body_is_shown_the_door() {
    for (begun, answer, patience) in [
        ("", "", 10),
        ("POST /github HTTP/1.1\r\nhost: x\r\n", "", 10),
        ("POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{", "HTTP/1.1 408 ", 40),
        ("POST /github HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", "HTTP/1.1 408 ", 40),
    ] {
        let door = Door::open().await;
        let start = Instant::now();
        let answered = door.answer(begun).await;
        assert!(answered.starts_with(answer), "{begun:?}: {answered}");
        assert!(start.elapsed() <= Duration::from_secs(patience + 1), "{begun:?}: {:?}", start.elapsed());
        assert!(door.seen().is_empty(), "{begun:?}");
    }
}

#[tokio::test]
async fn a_request_whose_end_can_be_read_in_two_ways_is_not_taken_for_two() {
    let hidden = "POST /hidden HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    for ambiguous in [
        "content-length: 0\r\ncontent-length: 55",
        "content-length: 0, 55",
        "content-length: +0",
        "content-length: 0x0",
        "content-length: -1",
        "content-length: 99999999999999999999",
        "content-length : 0",
        "content-length\t: 0",
        "transfer-encoding: identity, chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, x",
        "transfer-encoding : chunked",
        "transfer-encoding:\r\n chunked",
        "x: y\r\n content-length: 55",
        "x\0: y",
        ": y",
    ] {
        let door = Door::open().await;
        let request = format!("POST /github HTTP/1.1\r\nhost: x\r\n{ambiguous}\r\n\r\n{hidden}");
        let answer = door.answer(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{ambiguous:?}: {answer}");
        assert!(door.seen().is_empty(), "{ambiguous:?}: {:?}", door.seen());
    }
    // With both, the chunks count (RFC 9112, 6.3), and what is counted off is not read as a request.
    let door = Door::open().await;
    let both = "POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let chunk = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    door.answer(&format!("{both}{chunk}")).await;
    assert!(door.seen().iter().all(|request| !request.contains("hidden")), "{:?}", door.seen());
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    for head in [
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
    ] {
        let door = Door::open().await;
        let mut stream = TcpStream::connect(door.address).await.expect("connected");
        // It may be refused before all of it is sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(door.seen().is_empty(), "{:?}", &door.seen()[0][..40]);
    }
}
