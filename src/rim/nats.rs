//! Publishes to NATS: one connection for each message, and for the server that the target names. What servers tell of
//! others in their cluster (`connect_urls`) is never followed.
//!
//! The server begins with `INFO {…}`, and if TLS is to be, it is from there on. We log in by `CONNECT {…}` and `PING`, and
//! only when a `PONG` says that we are in, the message is sent; a second `PONG`, or the acknowledgement of a stream, says
//! that it arrived. Source: docs.nats.io, "Client Protocol" (read 2026-11). What TLS is to precede (`handshake_first`) is
//! not spoken.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use http::HeaderMap;
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::chance;
use super::sender::{CONNECT, HttpSender, in_time};
use crate::domain::secret::Secret;
use crate::port::{Connection, Dialer, Dialled, SendError, Sender};
use crate::target::nats::{Login, Publication};
use crate::target::{Outbound, Response, excerpt};

/// The longest line or message that is read of a server, in bytes.
const MOST: usize = 64 * 1024;

/// Sends every request, those for NATS by its own protocol.
#[derive(Default)]
pub struct NatsSender(HttpSender);

#[async_trait]
impl Sender for NatsSender {
    async fn send(
        &self,
        mut request: Outbound,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Response, SendError> {
        let Some(publication) = request.nats.take() else { return self.0.send(request, connection, timeout).await };
        let left = AtomicBool::new(false);
        in_time(timeout, &left, self.publish(&request, &publication, connection, &left)).await
    }
}

#[async_trait]
impl Dialer for NatsSender {
    /// A server of NATS is also told who we are: that is no message to anybody, and it says whether we may come in.
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        timeout: Duration,
        soon: Duration,
    ) -> Result<Dialled, SendError> {
        let Some(publication) = &request.nats else { return self.0.dial(request, connection, timeout, soon).await };
        let login = tokio::time::timeout(timeout, self.log_in(&request.url, publication, connection, None)).await;
        match login.unwrap_or_else(|_| Err(SendError::Connect(format!("none within {timeout:?}"))))? {
            (answer, Some((server, _))) if answer.body == "PONG" => {
                Ok(Dialled { encrypted: server.encrypted, ends: None })
            }
            (answer, _) => Err(SendError::Unusable(format!("NATS says: {}", excerpt(&answer)))),
        }
    }
}

impl NatsSender {
    async fn publish(
        &self,
        request: &Outbound,
        publication: &Publication,
        connection: &Connection,
        left: &AtomicBool,
    ) -> Result<Response, SendError> {
        let random = chance::hex(16).map_err(|error| SendError::Unusable(error.to_string()))?;
        let inbox = publication.to_stream.then(|| format!("_INBOX.{random}"));
        let login = self.log_in(&request.url, publication, connection, inbox.as_deref());
        let login = tokio::time::timeout(CONNECT, login).await;
        let (mut server, info) =
            match login.unwrap_or_else(|_| Err(SendError::Connect(format!("none within {CONNECT:?}"))))? {
                (answer, Some(entered)) if answer.body == "PONG" => entered,
                (answer, _) => return Ok(answer),
            };
        let header = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", publication.id);
        let size = header.len() + request.body.len();
        if info.max_payload.is_some_and(|most| size > most) {
            // As the server itself would say before it hangs up.
            return Ok(answer(0, "-ERR 'Maximum Payload Violation'"));
        }
        let to = [Some(publication.subject.as_str()), inbox.as_deref()];
        let to = to.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut message = format!("HPUB {to} {} {size}\r\n{header}", header.len()).into_bytes();
        message.extend_from_slice(&request.body);
        // A stream's acknowledgement says more than that the server has read so far.
        message.extend_from_slice(if inbox.is_some() { b"\r\n" } else { b"\r\nPING\r\n" });
        left.store(true, Ordering::Relaxed);
        let broken = |error: io::Error| SendError::Broken(error.to_string());
        server.send(&message).await.map_err(broken)?;
        server.answer().await.map_err(broken)
    }

    /// Connects and says who we are. What the server answers to that, and the way to it.
    async fn log_in(
        &self,
        url: &str,
        publication: &Publication,
        connection: &Connection,
        inbox: Option<&str>,
    ) -> Result<(Response, Option<(Server, Info)>), SendError> {
        let url = url::Url::parse(url).map_err(|_| SendError::Egress("egress: not a URL".into()))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let encrypted = url.scheme() == "tls";
        let lost = |error: io::Error| SendError::Connect(error.to_string());
        let (port, is_safe) = (url.port().unwrap_or(4222), encrypted || connection.plaintext);
        let allowed = self.0.resolver.addresses(host, port, &connection.egress, is_safe).await?;
        let stream = TcpStream::connect(&allowed[..]).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;

        let mut server = Server { stream: BufReader::new(Box::new(stream)), encrypted: false, told: Vec::new() };
        let info = server.line().await.map_err(lost)?;
        let info = info.strip_prefix("INFO ").and_then(|info| serde_json::from_str::<Info>(info).ok());
        let info = info.ok_or_else(|| SendError::Connect("what answers there is no server of NATS".into()))?;
        if encrypted || info.tls_required {
            if !(info.tls_required || info.tls_available) {
                return Err(SendError::Tls("the server offers none".into()));
            }
            server = self.encrypted(server, host, connection).await?;
        }
        let connect = connect(&publication.login, &info)?;
        server.told = SECRETS.iter().filter_map(|name| connect[name].as_str().map(str::to_owned)).collect();
        let subscription = inbox.map(|inbox| format!("SUB {inbox} 1\r\n")).unwrap_or_default();
        server.send(format!("CONNECT {connect}\r\n{subscription}PING\r\n").as_bytes()).await.map_err(lost)?;
        let answer = server.answer().await.map_err(lost)?;
        Ok((answer, Some((server, info))))
    }

    async fn encrypted(&self, server: Server, host: &str, connection: &Connection) -> Result<Server, SendError> {
        if !server.stream.buffer().is_empty() {
            // Whoever said it need not be the one that TLS is with.
            return Err(SendError::Tls("the server goes on without it".into()));
        }
        let config = self.0.credentials(connection)?;
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|error| SendError::Tls(error.to_string()))?,
        };
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, server.stream.into_inner()).await;
        let stream = stream.map_err(|error| SendError::Tls(error.to_string()))?;
        Ok(Server { stream: BufReader::new(Box::new(stream)), encrypted: true, told: Vec::new() })
    }
}

/// What a server says of itself, as far as we go by it.
#[derive(Debug, Deserialize)]
struct Info {
    max_payload: Option<usize>,
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    tls_available: bool,
    nonce: Option<String>,
}

/// What of [`connect`] is secret or stands for a secret.
const SECRETS: [&str; 4] = ["pass", "auth_token", "jwt", "sig"];

/// Who we are, as an object of JSON.
fn connect(login: &Login, info: &Info) -> Result<Value, SendError> {
    let mut connect = json!({
        "verbose": false,
        "pedantic": false,
        "name": "sluice",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "echo": false,
        "headers": true,
        "no_responders": true,
    });
    let text = |secret: &Secret| {
        let text = secret.expose_text().map(str::to_owned);
        text.ok_or_else(|| SendError::Unusable("the secret for NATS is not text".into()))
    };
    match login {
        Login::Nobody => {}
        Login::Password { username, password } => {
            connect["user"] = username.as_str().into();
            connect["pass"] = text(password)?.into();
        }
        Login::Token(token) => connect["auth_token"] = text(token)?.into(),
        Login::Creds(creds) => {
            let wrong = |why: &str| SendError::Unusable(format!("`creds` {why}"));
            let creds = text(creds)?;
            let (jwt, key) = parts(&creds).ok_or_else(|| wrong("is not what nsc writes"))?;
            let key = signing_key(key).ok_or_else(|| wrong("holds no key of a user (SU…)"))?;
            // A server that gives nothing to sign knows no credentials of this kind, and refuses us.
            let nonce = info.nonce.as_deref().unwrap_or_default();
            connect["jwt"] = jwt.into();
            connect["sig"] = BASE64URL_NOPAD.encode(key.sign(nonce.as_bytes()).as_ref()).into();
        }
    }
    Ok(connect)
}

/// The JWT and the key of a `.creds` file: each the line after one of dashes.
fn parts(creds: &str) -> Option<(&str, &str)> {
    let mut lines = creds.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut after = |title: &str| {
        lines.by_ref().find(|line| line.starts_with("-----BEGIN") && line.contains(title))?;
        lines.next()
    };
    Some((after("JWT")?, after("SEED")?))
}

/// The key in base32 that nkeys are written in: two bytes that say what it is, the seed of Ed25519, a checksum.
/// Source: nats-io/nkeys, `strkey.go` (read 2026-11).
fn signing_key(text: &str) -> Option<Ed25519KeyPair> {
    let raw = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let seed = raw.get(2..34).filter(|_| raw.len() == 36 && text.starts_with("SU"))?;
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way to a server.
struct Server {
    stream: BufReader<Box<dyn Stream>>,
    /// Whether TLS protects it.
    encrypted: bool,
    /// What it was told of who we are, and must not be quoted with.
    told: Vec<String>,
}

impl Server {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// A line, without its end.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(MOST as u64).read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The next thing that is an answer to us. Of a `.creds` file nobody but us knows which parts a server may repeat.
    async fn answer(&mut self) -> io::Result<Response> {
        let mut answer = self.read_answer().await?;
        answer.mask(self.told.iter().map(String::as_bytes));
        Ok(answer)
    }

    async fn read_answer(&mut self) -> io::Result<Response> {
        loop {
            let line = self.line().await?;
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default() {
                "PONG" | "-ERR" => return Ok(answer(0, line)),
                "PING" => self.send(b"PONG\r\n").await?,
                "INFO" | "+OK" => {}
                "MSG" => {
                    let size = words.next_back().and_then(|size| size.parse().ok()).ok_or_else(malformed)?;
                    return Ok(answer(0, self.message(size).await?));
                }
                "HMSG" => {
                    let mut size =
                        || words.next_back().and_then(|size| size.parse::<usize>().ok()).ok_or_else(malformed);
                    let (whole, header) = (size()?, size()?);
                    let mut message = self.message(whole).await?;
                    let text = message.split_off(header.min(whole));
                    // NATS/1.0 503
                    let header = String::from_utf8_lossy(&message);
                    let status = header.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok());
                    return Ok(answer(status.unwrap_or_default(), text));
                }
                _ => return Err(malformed()),
            }
        }
    }

    async fn message(&mut self, size: usize) -> io::Result<Vec<u8>> {
        if size > MOST {
            return Err(malformed());
        }
        let mut message = vec![0; size + 2];
        self.stream.read_exact(&mut message).await?;
        message.truncate(size);
        Ok(message)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server does not speak as NATS does")
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response {
    Response { status, headers: HeaderMap::new(), body: body.into() }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::domain::egress::Rules;

    #[tokio::test]
    async fn a_server_whose_name_has_become_a_refused_address_is_connected_to_no_more() {
        let refused = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = refused.local_addr().expect("address").port();
        let allowed = TcpListener::bind(("127.0.0.2", port)).expect("the same port");
        let lookups = AtomicUsize::new(0);
        let sender = NatsSender(HttpSender::with_lookup(move || {
            let host = if lookups.fetch_add(1, Ordering::SeqCst) == 0 { [127, 0, 0, 2] } else { [127, 0, 0, 1] };
            vec![(host, port).into()]
        }));
        let mut request = Outbound::new(http::Method::POST, format!("nats://rebinding.test:{port}"));
        request.nats =
            Some(Publication { subject: "relay".into(), id: "1".into(), login: Login::Nobody, to_stream: false });
        let rules = Rules { allow: vec!["127.0.0.2/32".parse().expect("network")] };
        let connection = Connection { egress: rules, ..Connection::default() };
        // Connections are made without anybody who accepts them.
        let silent = sender.send(request.clone(), &connection, Duration::from_secs(1)).await;
        assert!(matches!(silent, Err(SendError::Connect(_))), "{silent:?}");
        allowed.accept().expect("the first connection");
        let elsewhere = sender.send(request, &connection, Duration::from_secs(1)).await;
        assert!(matches!(elsewhere, Err(SendError::Egress(_))), "{elsewhere:?}");
        refused.set_nonblocking(true).expect("it can be looked at");
        assert_eq!(refused.accept().expect_err("nobody came").kind(), io::ErrorKind::WouldBlock);
    }
}
