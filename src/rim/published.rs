//! Fetches what senders publish to be checked by: the key sets (JWKS) of signed tokens, whose URLs are the operator's own
//! choice, out of the relay file; and the certificates of signed messages, whose URLs are SNS's.

use crate::domain::secret::Secret;
use crate::domain::signature;
use crate::port::{FetchError, Fetched};
use crate::rim::fetch::{Fetcher, Refused};
use crate::source::sns;

/// Fetches key sets and certificates. Nothing is set up before the first is asked for.
#[derive(Debug, Default)]
pub struct Published(Fetcher);

impl Published {
    /// Ready to fetch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key set that is published at `url` now.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] and [`FetchError::Denied`] as the other side says; whatever else is not a key set is
    /// [`FetchError::Unavailable`], so that the one before serves on for a while.
    pub async fn key_set(&self, url: &str) -> Result<Fetched, FetchError> {
        let body = self.0.get(url, "application/json").await.map_err(refused)?;
        // An error page that says 200 must not replace the keys that we have.
        match serde_json::from_slice::<KeySet>(&body) {
            Ok(_) => Ok(fetched(body)),
            Err(_) => Err(FetchError::Unavailable("the answer is not a key set".into())),
        }
    }

    /// The certificate that is published at `url` now, as PEM.
    ///
    /// # Errors
    /// As for a key set.
    pub async fn certificate(&self, url: &str) -> Result<Fetched, FetchError> {
        let published = fetched(self.0.get(url, "*/*").await.map_err(refused)?);
        match sns::certificate(&published.value) {
            Some(_) => Ok(published),
            None => Err(FetchError::Unavailable("the answer is not a certificate".into())),
        }
    }
}

fn fetched(body: Vec<u8>) -> Fetched {
    let version = signature::sha256_hex(&[&body]);
    Fetched { value: Secret::new(body), version, made: None }
}

fn refused(refused: Refused) -> FetchError {
    match refused {
        Refused::Status(404 | 410) => FetchError::NotFound,
        Refused::Status(status @ (401 | 403)) => FetchError::Denied(format!("status {status}")),
        Refused::Status(status) => FetchError::Unavailable(format!("status {status}")),
        Refused::Failed(why) => FetchError::Unavailable(why),
    }
}

#[derive(serde::Deserialize)]
struct KeySet {
    #[serde(rename = "keys")]
    _keys: Vec<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    /// A server's URL that answers once with this status line and body, and what it was asked.
    async fn serve(status: &str, body: &str) -> (String, JoinHandle<String>) {
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
        (url, server)
    }

    /// What is made of an answer with this status line and body.
    async fn fetched(status: &str, body: &str) -> Result<Fetched, FetchError> {
        let (url, server) = serve(status, body).await;
        let fetched = Published::new().key_set(&url).await;
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
            ("200 OK", &format!("{{\"keys\":[\"{}\"]}}", "x".repeat(256 * 1024))),
        ] {
            let error = fetched(status, body).await.expect_err(status);
            assert!(matches!(error, FetchError::Unavailable(_)), "{status}: {error:?}");
        }
        assert!(matches!(fetched("404 Not Found", "").await, Err(FetchError::NotFound)));
        assert!(matches!(fetched("403 Forbidden", "").await, Err(FetchError::Denied(_))));
    }

    #[tokio::test]
    async fn a_certificate_is_fetched_and_what_is_none_is_not_taken_for_one() {
        let key = rcgen::generate_simple_self_signed(vec!["sns.amazonaws.com".into()]).expect("certificate");
        let pem = key.cert.pem();
        let (url, server) = serve("200 OK", &pem).await;
        let found = Published::new().certificate(&url).await.expect("fetched");
        assert_eq!(found.value.expose(), pem.as_bytes());
        server.await.expect("served");
        let (url, _server) = serve("200 OK", "<html>please sign in</html>").await;
        let error = Published::new().certificate(&url).await.expect_err("no certificate");
        assert!(matches!(error, FetchError::Unavailable(_)), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_its_cause() {
        let error = Published::new().key_set("http://127.0.0.1:9/certs").await.expect_err("nobody");
        assert!(matches!(&error, FetchError::Unavailable(why) if why.contains("refused")), "{error:?}");
    }
}
