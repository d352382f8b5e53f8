//! A proxy before the emulated AWS, for tests: it does to chosen calls what AWS does on bad days.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is refused as one of too many.
    Throttled,
    /// The service is down.
    Down,
    /// It is answered a while later.
    Slow(Duration),
    /// Of a batch, only the first entry is taken.
    Partial,
    /// It is done, and the answer is lost.
    Unanswered,
}

/// Says of a call, by its `X-Amz-Target`, what becomes of it.
type Rule = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

/// A running proxy.
#[derive(Clone)]
pub struct Faults {
    /// For `AWS_ENDPOINT_URL`.
    pub url: String,
    rule: Arc<Mutex<Rule>>,
}

impl Faults {
    /// One before `endpoint`, without faults.
    pub async fn before(endpoint: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let faults = Self { url, rule: Arc::new(Mutex::new(Box::new(|_| None))) };
        let shared = faults.clone();
        let app = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: String| {
            let (shared, endpoint) = (shared.clone(), endpoint.clone());
            async move { shared.answer(&endpoint, &uri, &headers, body).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        faults
    }

    /// From now on this says what becomes of each call.
    pub fn by(&self, rule: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// From now on, calls whose `X-Amz-Target` begins so meet this.
    pub fn at(&self, target: &'static str, fault: Fault) {
        self.by(move |called| called.starts_with(target).then_some(fault));
    }

    /// From now on nothing goes wrong.
    pub fn over(&self) {
        self.by(|_| None);
    }

    async fn answer(&self, endpoint: &str, uri: &Uri, headers: &HeaderMap, mut body: String) -> Response {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let fault = self.rule.lock().unwrap_or_else(PoisonError::into_inner)(target);
        let mut refused = Vec::new();
        match fault {
            Some(Fault::Throttled) => {
                let answer = json!({ "__type": "ThrottlingException", "message": "Rate exceeded" });
                return (StatusCode::BAD_REQUEST, answer.to_string()).into_response();
            }
            Some(Fault::Down) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
            Some(Fault::Partial) => {
                let mut request: Value = serde_json::from_str(&body).expect("JSON");
                refused = request["Entries"].as_array_mut().expect("entries").split_off(1);
                body = request.to_string();
            }
            Some(Fault::Unanswered) | None => {}
        }
        let (status, mut answer) = forward(endpoint, uri, headers, &body).await;
        if let Some(Fault::Unanswered) = fault {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        if !refused.is_empty() {
            let mut parsed: Value = serde_json::from_str(&answer).expect("JSON");
            let entry = |entry: &Value| json!({ "Id": entry["Id"], "Code": "InternalError", "SenderFault": false });
            parsed["Failed"] = refused.iter().map(entry).collect();
            answer = parsed.to_string();
        }
        (status, [("content-type", "application/x-amz-json-1.0")], answer).into_response()
    }
}

async fn forward(endpoint: &str, uri: &Uri, headers: &HeaderMap, body: &str) -> (StatusCode, String) {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("the emulated AWS listens");
    let mut request = format!("POST {uri} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        if !["host", "connection", "content-length"].contains(&name.as_str()) {
            request.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
        }
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}
