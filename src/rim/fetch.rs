//! Fetches what is small and public.
//!
//! Over the connector that the AWS SDK brings anyway: a second HTTP client would cost the functions that take events
//! megabytes. It follows no redirects.

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use tokio::sync::OnceCell;

/// How long a fetch may take; the sender of what it is for waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The largest answer that is taken, in bytes.
const MOST: usize = 256 * 1024;

/// Fetches. Nothing is set up before the first is asked for.
#[derive(Debug, Default)]
pub struct Fetcher(OnceCell<SharedHttpConnector>);

/// Why nothing was fetched. Holds no URL.
#[derive(Debug)]
pub enum Refused {
    /// The other side answered with this status, which is not 200.
    Status(u16),
    /// No answer, or one that cannot be used.
    Failed(String),
}

impl Fetcher {
    /// What there is at `url` now, as one of the media types that `accept` names.
    ///
    /// # Errors
    /// Whatever is not a whole answer with status 200.
    pub async fn get(&self, url: &str, accept: &'static str) -> Result<Vec<u8>, Refused> {
        let late = |_| Err(Refused::Failed(format!("no answer within {TIMEOUT:?}")));
        tokio::time::timeout(TIMEOUT, self.ask(url, accept)).await.unwrap_or_else(late)
    }

    async fn ask(&self, url: &str, accept: &'static str) -> Result<Vec<u8>, Refused> {
        let connector = self.0.get_or_init(|| async { connector() }).await;
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|_| Refused::Failed("its URL is none".into()))?;
        request.headers_mut().insert("accept", accept);
        let response = connector.call(request).await.map_err(|error| Refused::Failed(causes(&error)))?;
        match response.status().as_u16() {
            200 => {}
            status => return Err(Refused::Status(status)),
        }
        let mut stream = ByteStream::new(response.into_body());
        let mut body = Vec::new();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk.map_err(|error| Refused::Failed(causes(&error)))?);
            if body.len() > MOST {
                return Err(Refused::Failed(format!("the answer is over {MOST} bytes")));
            }
        }
        Ok(body)
    }
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
