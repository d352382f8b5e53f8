//! Authorities of one's own, client certificates and proxies: by target, by secret reference.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sluice::domain::egress::Rules;
use sluice::domain::secret::Secret;
use sluice::port::{Connection, Dialer as _, Dialled, SendError, Sender as _};
use sluice::rim::sender::HttpSender;
use sluice::target::{Outbound, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::ports::closed_port;

/// An authority that exists for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` and its key, both as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        self.issue_as(CertificateParams::new(vec![name.to_owned()]).expect("parameters"))
    }

    /// A certificate for `name` that ends at this time.
    fn issue_until(&self, name: &str, end: Timestamp) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let since_1970 = Duration::from_secs(end.as_second().try_into().expect("after 1970"));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
        self.issue_as(params)
    }

    fn issue_as(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("key");
        (params.signed_by(&key, &self.0).expect("certificate").pem(), key.serialize_pem())
    }
}

/// A TLS server for `localhost` that answers 200 to whoever it trusts.
async fn server(authority: &Authority, clients: Option<&Authority>) -> u16 {
    server_with(authority.issue("localhost"), clients).await
}

/// The same with this certificate and key.
async fn server_with((certificate, key): (String, String), clients: Option<&Authority>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("PEM")).expect("root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}

fn loopback() -> Connection {
    let allow = vec!["127.0.0.0/8".parse().expect("network"), "::1/128".parse().expect("network")];
    Connection { egress: Rules { allow }, ..Connection::default() }
}

async fn send(url: String, connection: &Connection) -> Result<Response, SendError> {
    let request = Outbound::post(url, "application/json", Bytes::from_static(b"{}"));
    HttpSender::new().send(request, connection, Duration::from_secs(10)).await
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_the_target_names_it_and_no_other_then() {
    let (own, other) = (Authority::new(), Authority::new());
    let port = server(&own, None).await;
    let url = format!("https://localhost:{port}/");
    let with = |ca: &Authority| Connection { ca: Some(Secret::new(ca.pem())), ..loopback() };
    assert_eq!(send(url.clone(), &with(&own)).await.expect("trusted").status, 200);
    for connection in [loopback(), with(&other)] {
        let refused = send(url.clone(), &connection).await;
        assert!(matches!(&refused, Err(SendError::Tls(why)) if why.contains("certificate")), "{refused:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let (own, clients) = (Authority::new(), Authority::new());
    let port = server(&own, Some(&clients)).await;
    let url = format!("https://localhost:{port}/");
    let without = Connection { ca: Some(Secret::new(own.pem())), ..loopback() };
    assert!(send(url.clone(), &without).await.is_err());
    let (certificate, key) = clients.issue("sluice");
    for pem in [format!("{certificate}{key}"), format!("{key}{certificate}")] {
        let with = Connection { client_certificate: Some(Secret::new(pem)), ..without.clone() };
        assert_eq!(send(url.clone(), &with).await.expect("known").status, 200);
    }
}

#[tokio::test]
async fn what_is_no_certificate_or_no_proxy_is_said_without_repeating_it() {
    let secret = || Some(Secret::new("hunter2"));
    for connection in [
        Connection { ca: secret(), ..loopback() },
        Connection { client_certificate: secret(), ..loopback() },
        Connection { proxy: secret(), ..loopback() },
    ] {
        let refused = send("https://localhost:1/".into(), &connection).await;
        assert!(matches!(&refused, Err(SendError::Unusable(why)) if !why.contains("hunter2")), "{refused:?}");
    }
}

/// A proxy that tunnels, and remembers what it was asked.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let port = listener.local_addr().expect("address").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.expect("a request"));
                }
                let head = String::from_utf8(head).expect("text");
                let to = head.split(' ').nth(1).expect("authority").to_owned();
                seen.lock().expect("lock").push(head);
                let mut server = TcpStream::connect(to).await.expect("connected");
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("answered");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_proxy_is_gone_through_with_its_credentials_and_only_where_it_may_be() {
    let own = Authority::new();
    let port = server(&own, None).await;
    let (proxy_port, asked) = proxy().await;
    let through = Connection {
        ca: Some(Secret::new(own.pem())),
        proxy: Some(Secret::new(format!("http://user:hunter2@127.0.0.1:{proxy_port}"))),
        ..loopback()
    };
    assert_eq!(send(format!("https://localhost:{port}/"), &through).await.expect("through").status, 200);
    let asked = asked.lock().expect("lock").join("");
    assert!(asked.starts_with(&format!("CONNECT localhost:{port}")), "{asked}");
    // printf user:hunter2 | base64
    assert!(asked.contains("Basic dXNlcjpodW50ZXIy"), "{asked}");
    let not_allowed = Connection { egress: Rules::default(), ..through };
    let refused = send(format!("https://localhost:{port}/"), &not_allowed).await;
    assert!(matches!(&refused, Err(SendError::Egress(_))), "{refused:?}");
}

/// How long before their end certificates are told of here.
const SOON: Duration = Duration::from_secs(14 * 86_400);

async fn dial(url: &str, connection: &Connection) -> Result<Dialled, SendError> {
    let request = Outbound::post(url.into(), "application/json", Bytes::from_static(b"{}"));
    HttpSender::new().dial(&request, connection, Duration::from_secs(2), SOON).await
}

#[tokio::test]
async fn dialling_tells_when_a_certificate_ends_if_that_is_soon() {
    let own = Authority::new();
    let trusting = Connection { ca: Some(Secret::new(own.pem())), ..loopback() };
    let in_days = |days: i64| Timestamp::from_second(Timestamp::now().as_second() + days * 86_400).expect("time");
    for (end, told) in [(in_days(13), true), (in_days(15), false)] {
        let port = server_with(own.issue_until("localhost", end), None).await;
        let dialled = dial(&format!("https://localhost:{port}/"), &trusting).await.expect("connected");
        assert_eq!(dialled, Dialled { encrypted: true, ends: told.then_some(end) });
    }
    let port = server_with(own.issue_until("localhost", in_days(-1)), None).await;
    let over = dial(&format!("https://localhost:{port}/"), &trusting).await;
    assert!(matches!(&over, Err(SendError::Tls(why)) if why.contains("expired")), "{over:?}");
}

#[tokio::test]
async fn dialling_fails_as_sending_would_and_names_no_path() {
    let own = Authority::new();
    let port = server(&own, None).await;
    let untrusted = dial(&format!("https://localhost:{port}/hunter2"), &loopback()).await;
    assert!(matches!(&untrusted, Err(SendError::Tls(why)) if why.contains("certificate")), "{untrusted:?}");
    let other_name = Connection { ca: Some(Secret::new(own.pem())), ..loopback() };
    let other_name = dial(&format!("https://127.0.0.1:{port}/hunter2"), &other_name).await;
    assert!(matches!(&other_name, Err(SendError::Tls(why)) if why.contains("not valid for")), "{other_name:?}");

    let free = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = free.local_addr().expect("address");
    // Accepted by the kernel, and never answered.
    let silent = dial(&format!("https://{address}/hunter2"), &loopback()).await;
    assert!(matches!(&silent, Err(SendError::Connect(why)) if why.contains("none within 2s")), "{silent:?}");
    let closed = closed_port();
    let address = closed.local_addr().expect("address");
    let refused = dial(&format!("http://{address}/hunter2"), &loopback()).await;
    assert!(matches!(&refused, Err(SendError::Connect(_))), "{refused:?}");
    let unknown = dial("https://nowhere.invalid/hunter2", &loopback()).await;
    assert!(matches!(&unknown, Err(SendError::Connect(_))), "{unknown:?}");
    for forbidden in [format!("http://localhost:{port}/"), format!("http://127.0.0.1:{port}/")] {
        let refused = dial(&forbidden, &Connection::default()).await;
        assert!(matches!(&refused, Err(SendError::Egress(_))), "{refused:?}");
    }
    for error in [untrusted, other_name, silent, refused, unknown] {
        assert!(!error.expect_err("it failed").to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn of_a_target_behind_a_proxy_only_the_proxy_is_dialled() {
    let (proxy_port, asked) = proxy().await;
    let through =
        Connection { proxy: Some(Secret::new(format!("http://user:hunter2@127.0.0.1:{proxy_port}"))), ..loopback() };
    let dialled = dial("https://nowhere.invalid/", &through).await.expect("the proxy is there");
    assert_eq!(dialled, Dialled { encrypted: false, ends: None });
    assert!(asked.lock().expect("lock").is_empty());
    let not_allowed = dial("https://nowhere.invalid/", &Connection { egress: Rules::default(), ..through }).await;
    assert!(matches!(&not_allowed, Err(SendError::Egress(_))), "{not_allowed:?}");
}
