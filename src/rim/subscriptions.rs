//! Confirms subscriptions to SNS topics.
//!
//! By `ConfirmSubscription`, a GET that needs no signature of ours (it would only keep others from unsubscribing us), to
//! the endpoint of the topic's region: never to the URL that the request for it holds.
//! Source: docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html (read 2026-08).

use async_trait::async_trait;
use form_urlencoded::Serializer;

use crate::port::{Subscriptions, Unavailable};
use crate::rim::fetch::{Fetcher, Refused};
use crate::source::Confirmation;

/// Confirms subscriptions at SNS, or at whatever `endpoint` stands for it.
#[derive(Debug, Default)]
pub struct SnsSubscriptions {
    fetcher: Fetcher,
    endpoint: Option<String>,
}

impl SnsSubscriptions {
    /// With this URL instead of SNS in the topic's region.
    pub fn new(endpoint: Option<String>) -> Self {
        Self { fetcher: Fetcher::default(), endpoint }
    }
}

#[async_trait]
impl Subscriptions for SnsSubscriptions {
    async fn confirm(&self, confirmation: &Confirmation) -> Result<(), Unavailable> {
        let failed = |message: String| Unavailable { what: "SNS", message };
        let Confirmation { topic, token } = confirmation;
        let token = token.expose_text().unwrap_or_default();
        let query = Serializer::new(String::new())
            .extend_pairs([("Action", "ConfirmSubscription"), ("Version", "2010-03-31")])
            .extend_pairs([("TopicArn", topic.as_str()), ("Token", token)])
            .finish();
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://{}", topic.host()),
        };
        match self.fetcher.get(&format!("{endpoint}/?{query}"), "application/json").await {
            Ok(_) => Ok(()),
            Err(Refused::Status(status)) => Err(failed(format!("it answers with status {status}"))),
            Err(Refused::Failed(why)) => Err(failed(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::domain::secret::Secret;
    use crate::source::aws::TopicArn;

    /// What is asked of SNS, and what comes of it if it answers with this status line.
    async fn confirmed(status: &'static str) -> (String, Result<(), Unavailable>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}/", listener.local_addr().expect("address"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("a request");
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let topic = TopicArn::parse("arn:aws:sns:eu-west-1:111122223333:alerts").expect("an ARN");
        let confirmation = Confirmation { topic, token: Secret::new("hunter2&Action=x") };
        let result = SnsSubscriptions::new(Some(endpoint)).confirm(&confirmation).await;
        (server.await.expect("served"), result)
    }

    #[tokio::test]
    async fn topic_and_token_are_sent_back_and_nothing_in_them_becomes_a_parameter() {
        let (request, result) = confirmed("200 OK").await;
        let expected = "GET /?Action=ConfirmSubscription&Version=2010-03-31\
                        &TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A111122223333%3Aalerts&Token=hunter2%26Action%3Dx HTTP/1.1";
        assert!(request.starts_with(expected), "{request}");
        assert!(result.is_ok(), "{result:?}");
    }

    #[tokio::test]
    async fn what_is_not_confirmed_is_an_error_that_does_not_hold_the_token() {
        for status in ["403 Forbidden", "500 Internal Server Error", "302 Found"] {
            let error = confirmed(status).await.1.expect_err(status).to_string();
            assert!(error.contains(&status[..3]) && !error.contains("hunter2"), "{error}");
        }
    }
}
