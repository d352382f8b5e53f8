//! The receiver that comes with the example: it checks what it gets as Flux does, and says what it thinks of it.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::domain::secret::Secret;
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::target::flux::hook_path;

/// One Receiver as notification-controller knows it: of type `github`.
pub struct ExampleReceiver {
    /// Its token.
    pub token: Secret,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl ExampleReceiver {
    /// Answers as notification-controller does, with an empty body, and returns what it would write to its log.
    pub fn answer(&self, request: &Request<Bytes>) -> (Response<Full<Bytes>>, String) {
        let (status, verdict) = self.judge(request);
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = status;
        (response, verdict)
    }

    fn judge(&self, request: &Request<Bytes>) -> (StatusCode, String) {
        let path = request.uri().path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
        if path != hook_path(&self.token, &self.name, &self.namespace) {
            return (StatusCode::NOT_FOUND, "404: no Receiver has this path".into());
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let json = header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if request.method() != Method::POST || !json {
            return (StatusCode::BAD_REQUEST, "400: not a POST of JSON".into());
        }
        let signature = header("x-hub-signature-256").and_then(|value| value.strip_prefix("sha256="));
        let signature = signature.and_then(|hex| Encoding::Hex.decode(hex)).unwrap_or_default();
        if !signature::verify(Algorithm::Sha256, &self.token, &[request.body()], &signature) {
            return (StatusCode::BAD_REQUEST, "400: the signature does not fit".into());
        }
        let event = header("x-github-event").unwrap_or("?");
        (StatusCode::OK, format!("200: path and signature fit; event `{event}`, {} bytes", request.body().len()))
    }
}
