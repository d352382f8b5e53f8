//! Fetches the key sets (JWKS) by which signed tokens are checked.
//!
//! Over the connector that the AWS SDK brings anyway: a second HTTP client would cost the function that takes pushes
//! megabytes. It follows no redirects. The URL is the operator's own choice, out of the relay file.

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use tokio::sync::OnceCell;

use crate::domain::secret::Secret;
use crate::domain::signature;
use crate::port::{FetchError, Fetched};

/// How long a fetch may take; the sender waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The largest key set that is taken, in bytes; Google's has two or three keys and under two thousand.
const MOST: usize = 256 * 1024;

/// Fetches key sets. Nothing is set up before the first is asked for.
#[derive(Debug, Default)]
pub struct KeySets(OnceCell<SharedHttpConnector>);

impl KeySets {
    /// Ready to fetch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key set that is published at `url` now.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] and [`FetchError::Denied`] as the other side says; whatever else is not a key set is
    /// [`FetchError::Unavailable`], so that the one before serves on for a while.
    pub async fn fetch(&self, url: &str) -> Result<Fetched, FetchError> {
        let body = tokio::time::timeout(TIMEOUT, self.get(url))
            .await
            .unwrap_or_else(|_| Err(FetchError::Unavailable(format!("no answer within {TIMEOUT:?}"))))?;
        let version = signature::sha256_hex(&[&body]);
        Ok(Fetched { value: Secret::new(body), version, made: None })
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let unavailable = |why: String| FetchError::Unavailable(why);
        let connector = self.0.get_or_init(|| async { connector() }).await;
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|_| FetchError::Unusable("its URL is none".into()))?;
        request.headers_mut().insert("accept", "application/json");
        let response = connector.call(request).await.map_err(|error| unavailable(causes(&error)))?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Err(FetchError::NotFound),
            status @ (401 | 403) => return Err(FetchError::Denied(format!("status {status}"))),
            status => return Err(unavailable(format!("status {status}"))),
        }
        let mut stream = ByteStream::new(response.into_body());
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk.map_err(|error| unavailable(causes(&error)))?);
            if body.len() > MOST {
                return Err(unavailable(format!("the answer is over {MOST} bytes")));
            }
        }
        // An error page that says 200 must not replace the keys that we have.
        match serde_json::from_slice::<Published>(&body) {
            Ok(_) => Ok(body),
            Err(_) => Err(unavailable("the answer is not a key set".into())),
        }
    }
}

#[derive(serde::Deserialize)]
struct Published {
    #[serde(rename = "keys")]
    _keys: Vec<serde::de::IgnoredAny>,
}

fn connector() -> SharedHttpConnector {
    let builder = Connector::builder().proxy_config(ProxyConfig::from_env());
    SharedHttpConnector::new(builder.tls_provider(Provider::rustls(CryptoMode::Ring)).build())
}

/// An error with its causes.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    let mut words: Vec<_> = causes.map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What is made of an answer with this status line and body.
    async fn fetched(status: &str, body: &str) -> Result<Fetched, FetchError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/certs", listener.local_addr().expect("address"));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: {url}/other\r\nconnection: close\r\n\r\n{body}"
        );
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let fetched = KeySets::new().fetch(&url).await;
        assert!(server.await.expect("served").starts_with("GET /certs HTTP/1.1"));
        fetched
    }

    #[tokio::test]
    async fn a_published_key_set_is_fetched_byte_for_byte() {
        let set = fetched("200 OK", "{\"keys\": []}\n").await.expect("fetched");
        assert_eq!(set.value.expose(), b"{\"keys\": []}\n");
        assert!(set.made.is_none() && !set.version.is_empty());
    }

    #[tokio::test]
    async fn what_is_no_key_set_does_not_replace_the_one_we_have() {
        for (status, body) in [
            ("200 OK", "<html>please sign in</html>"),
            ("200 OK", "{}"),
            ("302 Found", "{\"keys\":[]}"),
            ("429 Too Many Requests", "{\"keys\":[]}"),
            ("500 Internal Server Error", ""),
            ("200 OK", &format!("{{\"keys\":[\"{}\"]}}", "x".repeat(MOST))),
        ] {
            let error = fetched(status, body).await.expect_err(status);
            assert!(matches!(error, FetchError::Unavailable(_)), "{status}: {error:?}");
        }
        assert!(matches!(fetched("404 Not Found", "").await, Err(FetchError::NotFound)));
        assert!(matches!(fetched("403 Forbidden", "").await, Err(FetchError::Denied(_))));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_its_cause() {
        let error = KeySets::new().fetch("http://127.0.0.1:9/certs").await.expect_err("nobody");
        assert!(matches!(&error, FetchError::Unavailable(why) if why.contains("refused")), "{error:?}");
    }
}
