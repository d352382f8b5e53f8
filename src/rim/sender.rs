//! Sends requests to targets: the only HTTP client for them.
//!
//! Addresses are checked after name resolution, on what is dialled: the client resolves names through our own
//! resolver, which drops what the egress rules refuse, and literal addresses are checked before. Redirects are not
//! followed, the environment's proxies are not used, and of an answer's body only the beginning is read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use futures_util::future::{BoxFuture, select_ok};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::domain::egress;
use crate::domain::percent;
use crate::domain::secret::Secret;
use crate::domain::signature::sha256_hex;
use crate::port::{Connection, Dialer, Dialled, SendError, Sender};
use crate::target::{Outbound, Response};

/// At most this much of an answer's body is read, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;
/// The same where the body is what a request is sent for.
const MAX_LONG_RESPONSE: usize = 1024 * 1024;
/// How long connecting may take, name resolution and TLS included.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// How a client connects: targets that connect alike share one, and its open connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    rules: egress::Rules,
    encrypted: bool,
    /// A digest of the secrets that it was made with: a rotated one makes another client.
    made_with: String,
}

impl Way {
    /// The way to `url`, whose address is checked where it is one.
    fn to(url: &Url, connection: &Connection) -> Result<Self, SendError> {
        let way = Self {
            rules: connection.egress.clone(),
            // What goes to a proxy is the proxy's to carry on; its own address is checked as if it were encrypted.
            encrypted: url.scheme() == "https" || connection.plaintext || connection.proxy.is_some(),
            made_with: made_with(connection),
        };
        way.check(url, way.encrypted).map(|()| way)
    }

    /// Whether the address in `url` may be connected to; names are checked when they are resolved.
    fn check(&self, url: &Url, encrypted: bool) -> Result<(), SendError> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(without_host()),
        };
        self.rules.check(address, encrypted).map_err(SendError::Egress)
    }
}

/// At most this many clients are kept; beyond it, all are made anew, or those of rotated secrets would pile up.
const MOST_CLIENTS: usize = 256;

/// The HTTP client of targets.
pub struct HttpSender {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    pub(super) resolver: Resolver,
    clients: Mutex<HashMap<Way, Client>>,
}

impl HttpSender {
    /// A client that trusts the machine's root certificates (`SSL_CERT_FILE` names one bundle).
    pub fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some root certificates could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Self { provider, roots: Arc::new(roots), resolver: Resolver::default(), clients: Mutex::default() }
    }

    /// The same, for which `lookup` gives names their addresses.
    #[cfg(test)]
    pub(super) fn with_lookup(lookup: impl Fn() -> Vec<SocketAddr> + Send + Sync + 'static) -> Self {
        let found = move |_, _| futures_util::FutureExt::boxed(std::future::ready(Ok(lookup())));
        Self { resolver: Resolver(Arc::new(found)), ..Self::new() }
    }

    fn client(&self, way: &Way, connection: &Connection) -> Result<Client, SendError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(way) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls(connection)?)
            .dns_resolver(Arc::new(CheckedResolver { resolver: self.resolver.clone(), way: way.clone() }))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &connection.proxy {
            builder = builder.proxy(self::proxy(proxy, way)?);
        }
        let client = builder.build().map_err(|error| SendError::Unusable(words(&error)))?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(way.clone(), client.clone());
        Ok(client)
    }

    fn tls(&self, connection: &Connection) -> Result<ClientConfig, SendError> {
        let mut config = self.credentials(connection)?;
        // Every receiver knows HTTP/1.1, and without HTTP/2 every function is a good deal smaller.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The authorities that are trusted.
    fn roots(&self, connection: &Connection) -> Result<Arc<RootCertStore>, SendError> {
        let Some(pem) = &connection.ca else { return Ok(self.roots.clone()) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.expose()) {
            let certificate = certificate.map_err(|error| unusable("`ca` is not PEM", &error))?;
            roots.add(certificate).map_err(|error| unusable("`ca` holds no usable certificate", &error))?;
        }
        if roots.is_empty() {
            return Err(SendError::Unusable("`ca` holds no certificate".into()));
        }
        Ok(Arc::new(roots))
    }

    /// Whom we trust, and what we show who we are by.
    pub(super) fn credentials(&self, connection: &Connection) -> Result<ClientConfig, SendError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?
            .with_root_certificates(self.roots(connection)?);
        let Some(pem) = &connection.client_certificate else { return Ok(builder.with_no_client_auth()) };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose()).collect();
        let chain = chain.map_err(|error| unusable("`client_certificate` is not PEM", &error))?;
        let key = PrivateKeyDer::from_pem_slice(pem.expose())
            .map_err(|error| unusable("`client_certificate` holds no private key", &error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| unusable("`client_certificate`", &error))
    }

    /// Connects to what a request for `url` is sent to first: the proxy, if there is one.
    async fn connect(&self, url: &str, connection: &Connection, soon: Duration) -> Result<Dialled, SendError> {
        let mut url = parsed(url)?;
        let way = Way::to(&url, connection)?;
        if let Some(proxy) = &connection.proxy {
            url = proxy_url(proxy, &way)?;
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let (addresses, name) = match url.host() {
            Some(Host::Ipv4(address)) => (vec![(address, port).into()], IpAddr::from(address).into()),
            Some(Host::Ipv6(address)) => (vec![(address, port).into()], IpAddr::from(address).into()),
            Some(Host::Domain(name)) => {
                let addresses = self.resolver.addresses(name, port, &way.rules, way.encrypted).await?;
                let name = ServerName::try_from(name.to_owned());
                (addresses, name.map_err(|_| SendError::Connect("the name is none that TLS knows".into()))?)
            }
            None => return Err(without_host()),
        };
        let attempts = addresses.into_iter().map(|address: SocketAddr| Box::pin(TcpStream::connect(address)));
        let (stream, _) = select_ok(attempts).await.map_err(unconnected)?;
        if url.scheme() != "https" {
            return Ok(Dialled { encrypted: false, ends: None });
        }
        let connector = TlsConnector::from(Arc::new(self.tls(connection)?));
        let stream = connector.connect(name.clone(), stream).await.map_err(unconnected)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(Dialled { encrypted: true, ends: self.end(chain, &name, connection, soon)? })
    }

    /// When a chain of certificates that is valid now ends, if that is so soon: it is looked at as it will be then.
    fn end(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        connection: &Connection,
        soon: Duration,
    ) -> Result<Option<Timestamp>, SendError> {
        let Some((own, others)) = chain.split_first() else { return Ok(None) };
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots(connection)?, self.provider.clone());
        let verifier = verifier.build().map_err(|error| unusable("TLS", &error))?;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + soon);
        match verifier.verify_server_cert(own, others, name, &[], then) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                let end = i64::try_from(not_after.as_secs()).ok().and_then(|end| Timestamp::from_second(end).ok());
                Ok(end)
            }
            _ => Ok(None),
        }
    }
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> SendError {
    SendError::Unusable(format!("{what}: {error}"))
}

fn without_host() -> SendError {
    SendError::Egress("egress: the URL has no host".into())
}

fn parsed(url: &str) -> Result<Url, SendError> {
    Url::parse(url).map_err(|_| SendError::Egress("egress: not a URL".into()))
}

/// What it means that a connection failed.
fn unconnected(error: io::Error) -> SendError {
    if is_tls(&error) { SendError::Tls(error.to_string()) } else { SendError::Connect(error.to_string()) }
}

impl Default for HttpSender {
    fn default() -> Self {
        Self::new()
    }
}

/// A proxy; its credentials never leave this function as text.
fn proxy(secret: &Secret, way: &Way) -> Result<reqwest::Proxy, SendError> {
    reqwest::Proxy::all(proxy_url(secret, way)?).map_err(|_| no_proxy())
}

/// The URL of a proxy, whose address is checked as any other.
fn proxy_url(secret: &Secret, way: &Way) -> Result<Url, SendError> {
    let url = secret.expose_text().and_then(|text| Url::parse(text.trim()).ok()).ok_or_else(no_proxy)?;
    match url.host() {
        Some(_) => way.check(&url, true).map(|()| url),
        None => Err(no_proxy()),
    }
}

/// What a proxy is told of who we are, as it stands in the header (RFC 7617); none where its URL names nobody.
fn proxy_credentials(secret: &Secret) -> Option<Vec<u8>> {
    let url = Url::parse(secret.expose_text()?.trim()).ok()?;
    let plain = |text: &str| percent::decoded(text).unwrap_or_else(|| text.to_owned());
    let login = format!("{}:{}", plain(url.username()), plain(url.password()?));
    Some(BASE64.encode(login.as_bytes()).into_bytes())
}

fn no_proxy() -> SendError {
    SendError::Unusable("`proxy` is not the URL of an HTTP proxy".into())
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, request: Outbound, connection: &Connection, timeout: Duration) -> Result<Response, SendError> {
        let url = parsed(&request.url)?;
        let way = Way::to(&url, connection)?;
        let client = self.client(&way, connection)?;
        let most = if request.long_answer { MAX_LONG_RESPONSE } else { MAX_RESPONSE };
        // Of what was added on the way to here, tokens and signatures, nobody else knows, and some repeat what they are sent.
        let mut credentials = request.marked_credentials();
        credentials.extend(connection.proxy.as_ref().and_then(proxy_credentials));
        let left = Arc::new(AtomicBool::new(request.body.is_empty()));
        let body = reqwest::Body::wrap(Noted { body: Full::new(request.body), left: left.clone() });
        let exchange = async {
            let sent = client.request(request.method, url).headers(request.headers).body(body).send().await;
            let mut response = sent.map_err(|error| judge(error, left.load(Ordering::Relaxed)))?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let mut body = BytesMut::new();
            while body.len() < most {
                match response.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => break,
                    // The status is what counts; a body that breaks off is only less of an explanation.
                    Err(_) => break,
                }
            }
            body.truncate(most);
            let mut response = Response { status, headers, body: Bytes::from(body) };
            response.mask(credentials.iter().map(Vec::as_slice));
            Ok(response)
        };
        in_time(timeout, &left, exchange).await
    }
}

/// The answer that comes within `timeout`; where none does, `left` says whether the request was on its way.
pub(super) async fn in_time(
    timeout: Duration,
    left: &AtomicBool,
    exchange: impl Future<Output = Result<Response, SendError>>,
) -> Result<Response, SendError> {
    tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| match left.load(Ordering::Relaxed) {
        true => Err(SendError::TimedOut(timeout)),
        false => Err(SendError::Connect(format!("none within {timeout:?}"))),
    })
}

#[async_trait]
impl Dialer for HttpSender {
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        timeout: Duration,
        soon: Duration,
    ) -> Result<Dialled, SendError> {
        let dialled = tokio::time::timeout(timeout, self.connect(&request.url, connection, soon)).await;
        dialled.unwrap_or_else(|_| Err(SendError::Connect(format!("none within {timeout:?}"))))
    }
}

/// The body of a request, which notes when it begins to leave: that is only done over a connection that stands. An empty
/// one is never asked for.
struct Noted {
    body: Full<Bytes>,
    left: Arc<AtomicBool>,
}

impl Body for Noted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.left.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A digest of the secrets that a client is made with.
fn made_with(connection: &Connection) -> String {
    let secrets = [&connection.ca, &connection.client_certificate, &connection.proxy];
    if secrets.iter().all(|secret| secret.is_none()) {
        return String::new();
    }
    let digests = secrets.map(|secret| secret.as_ref().map_or_else(String::new, |one| sha256_hex(&[one.expose()])));
    digests.join(" ")
}

/// All addresses of a name, with this port.
type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// The one way from a name to addresses that are connected to.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Lookup>);

impl Default for Resolver {
    /// As the machine does it.
    fn default() -> Self {
        Self(Arc::new(|name, port| Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })))
    }
}

impl Resolver {
    /// Those of a name's addresses that may be connected to: at least one.
    pub(super) async fn addresses(
        &self,
        name: &str,
        port: u16,
        rules: &egress::Rules,
        encrypted: bool,
    ) -> Result<Vec<SocketAddr>, SendError> {
        let found = (self.0)(name.to_owned(), port).await.map_err(unconnected)?;
        permitted(rules, encrypted, found)
    }
}

/// What the HTTP client resolves names by.
struct CheckedResolver {
    resolver: Resolver,
    way: Way,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, Way { rules, encrypted, .. }) = (self.resolver.clone(), self.way.clone());
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str(), 0, &rules, encrypted).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Those of a name's addresses that may be connected to. The connection is to one of these: whoever gives the name another
/// address meanwhile is not asked again.
fn permitted(rules: &egress::Rules, encrypted: bool, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, SendError> {
    let mut refusal = None;
    let mut allowed = Vec::new();
    for address in found {
        match rules.check(address.ip(), encrypted) {
            Ok(()) => allowed.push(address),
            Err(why) => refusal = Some(why),
        }
    }
    match refusal {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(why) => Err(SendError::Egress(why)),
        None => Err(SendError::Connect("the name has no address".into())),
    }
}

/// Whether TLS failed. An I/O error hides what it holds from `source`, and holds another one here.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(held) => is_tls(held),
        None => error.is::<rustls::Error>(),
    }
}

fn judge(error: reqwest::Error, left: bool) -> SendError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        // What our resolver said.
        if let Some(said) = inner.downcast_ref::<SendError>() {
            return said.clone();
        }
        if is_tls(inner) {
            return SendError::Tls(words(&error));
        }
        cause = inner.source();
    }
    if left && !error.is_connect() { SendError::Broken(words(&error)) } else { SendError::Connect(words(&error)) }
}

/// The causes of an error, without the URL, which may be a secret.
fn words(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    words.dedup();
    if words.is_empty() { "the HTTP client failed".into() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn of_a_names_addresses_only_those_are_left_that_may_be_connected_to() {
        let left = |addresses: &[&str]| {
            let found = addresses.iter().map(|address| SocketAddr::new(address.parse().expect(address), 443));
            let left = permitted(&egress::Rules::default(), true, found.collect());
            left.map(|left| left.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        let mixed = ["169.254.169.254", "192.0.32.7", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "10.0.0.7"];
        assert_eq!(left(&mixed).expect("some are left"), ["192.0.32.7", "10.0.0.7"]);
        for refused in [&["127.0.0.1", "::1"][..], &["64:ff9b:1::a9fe:a9fe"], &["fd00:ec2::254", "fe80::1"]] {
            let why = left(refused).expect_err("none is left").to_string();
            assert!(why.starts_with("egress"), "{why}");
        }
        assert!(matches!(left(&[]), Err(SendError::Connect(_))), "there is nothing to refuse");
    }

    /// A name's server at the address that is allowed, of whose answers the second is the last of a connection; what
    /// listens at the address that the name has from the second lookup on; the lookups that were made.
    fn rebinding() -> (HttpSender, String, std::net::TcpListener, Arc<AtomicUsize>) {
        let forbidden = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = forbidden.local_addr().expect("address").port();
        let allowed = std::net::TcpListener::bind(("127.0.0.2", port)).expect("the same port");
        std::thread::spawn(move || {
            let (mut stream, _) = allowed.accept().expect("a connection");
            for connection in ["keep-alive", "close"] {
                let mut head = [0; 1024];
                assert!(io::Read::read(&mut stream, &mut head).expect("a request") > 0);
                let answer = format!("HTTP/1.1 204 No Content\r\nConnection: {connection}\r\n\r\n");
                io::Write::write_all(&mut stream, answer.as_bytes()).expect("answered");
            }
        });
        forbidden.set_nonblocking(true).expect("it can be looked at");
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = lookups.clone();
        let sender = HttpSender::with_lookup(move || {
            let host = if counted.fetch_add(1, Ordering::SeqCst) == 0 { [127, 0, 0, 2] } else { [127, 0, 0, 1] };
            vec![(host, port).into()]
        });
        (sender, format!("http://rebinding.test:{port}/"), forbidden, lookups)
    }

    #[tokio::test]
    async fn a_name_that_has_become_a_refused_address_is_connected_to_no_more() {
        const WAIT: Duration = Duration::from_secs(10);
        let (sender, url, forbidden, lookups) = rebinding();
        let rules = egress::Rules { allow: vec!["127.0.0.2/32".parse().expect("network")] };
        let connection = Connection { egress: rules, ..Connection::default() };
        let get = || Outbound::new(http::Method::GET, url.clone());
        for _ in 0..2 {
            let answer = sender.send(get(), &connection, WAIT).await.expect("an answer");
            assert_eq!((answer.status, lookups.load(Ordering::SeqCst)), (204, 1), "one lookup for a connection");
        }
        let refused = |error: &SendError| matches!(error, SendError::Egress(why) if why.starts_with("egress"));
        let error = sender.send(get(), &connection, WAIT).await.expect_err("it leads elsewhere");
        assert!(refused(&error) && lookups.load(Ordering::SeqCst) == 2, "{error}");
        let error = sender.dial(&get(), &connection, WAIT, WAIT).await.expect_err("it leads elsewhere");
        assert!(refused(&error) && lookups.load(Ordering::SeqCst) == 3, "{error}");
        let nobody = forbidden.accept().expect_err("nobody came");
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    }
}
