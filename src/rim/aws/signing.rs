//! Signs requests to services of AWS with the process's own credentials, and sends them.
//!
//! Targets that are services of AWS need one call each, which no client of the SDK is worth carrying for. Endpoints and
//! credentials are found as by the SDK.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_types::SdkConfig;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use tokio::time::Instant;

use super::Sdk;
use crate::port::{Clock as _, Connection, Dialer, Dialled, SendError, Sender};
use crate::rim::clock::SystemClock;
use crate::rim::tokens::TokenSender;
use crate::target::aws::Service;
use crate::target::{Outbound, Response};

/// How long before their end credentials are fetched anew.
const BEFORE_THE_END: Duration = Duration::from_secs(5 * 60);
/// How long credentials without an end are used before they are asked for again.
const WITHOUT_END: Duration = Duration::from_secs(15 * 60);

/// Sends every request; those to services of AWS signed.
pub struct SigningSender {
    sender: TokenSender,
    sdk: Shared<BoxFuture<'static, Sdk>>,
    /// The credentials, and until when they are used.
    credentials: Mutex<Option<(Credentials, SystemTime)>>,
}

impl SigningSender {
    /// `sdk` is waited for when the first request to a service of AWS is sent.
    pub fn new(sdk: impl Future<Output = Sdk> + Send + 'static) -> Self {
        Self { sender: TokenSender::new(), sdk: sdk.boxed().shared(), credentials: Mutex::default() }
    }

    async fn credentials(&self, config: &SdkConfig) -> Result<Credentials, SendError> {
        let kept = || self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::from(SystemClock.now());
        if let Some((credentials, _)) = kept().as_ref().filter(|(_, until)| now < *until) {
            return Ok(credentials.clone());
        }
        let unusable = |why: String| SendError::Unusable(format!("no credentials for AWS: {why}"));
        let provider = config.credentials_provider().ok_or_else(|| unusable("none are configured".into()))?;
        let found = provider.provide_credentials().await;
        let credentials = found.map_err(|error| unusable(DisplayErrorContext(error).to_string()))?;
        let until = match credentials.expiry() {
            Some(end) => end.checked_sub(BEFORE_THE_END).unwrap_or(now),
            None => now + WITHOUT_END,
        };
        *kept() = Some((credentials.clone(), until));
        Ok(credentials)
    }

    /// Makes the whole, signed request of one that has only a path.
    async fn sign(&self, request: &mut Outbound, service: &Service, sdk: &Sdk) -> Result<(), SendError> {
        let config = sdk.config();
        let region = service.region.as_deref().or_else(|| config.region().map(AsRef::as_ref));
        let region = region.ok_or_else(|| SendError::Unusable("AWS_REGION is not set".into()))?;
        let endpoint = sdk.endpoint(service.id).unwrap_or_else(|| endpoint(config, service, region));
        request.url = format!("{}{}", endpoint.trim_end_matches('/'), request.url);
        let identity = self.credentials(config).await?.into();
        let unusable =
            |error: &dyn std::fmt::Display| SendError::Unusable(format!("the request cannot be signed: {error}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service.name)
            .time(SystemTime::from(SystemClock.now()))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unusable(&error))?
            .into();
        let headers = request.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(&request.body);
        let signed = SignableRequest::new(request.method.as_str(), request.url.as_str(), headers, body)
            .and_then(|signable| sign(signable, &params))
            .map_err(|error| unusable(&error))?;
        let (headers, _) = signed.into_parts().0.into_parts();
        for header in headers {
            let mut value = HeaderValue::from_str(header.value()).map_err(|error| unusable(&error))?;
            value.set_sensitive(true);
            request.headers.insert(HeaderName::from_static(header.name()), value);
        }
        Ok(())
    }
}

impl SigningSender {
    /// Makes `request` whole and signs it; how the service is connected to.
    async fn prepare(
        &self,
        request: &mut Outbound,
        service: &Service,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Connection, SendError> {
        let prepare = async {
            let sdk = self.sdk.clone().await;
            self.sign(request, service, &sdk).await?;
            Ok(sdk.endpoint(service.id).is_some())
        };
        let without = |_| Err(SendError::Connect(format!("no AWS credentials within {timeout:?}")));
        let own = tokio::time::timeout(timeout, prepare).await.unwrap_or_else(without)?;
        let mut connection = connection.clone();
        if own {
            // Whoever sets the environment of the process may well mean this machine; a relay file may not.
            connection
                .egress
                .allow
                .extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<IpNet>().ok()));
        }
        Ok(connection)
    }
}

#[async_trait]
impl Sender for SigningSender {
    async fn send(
        &self,
        mut request: Outbound,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Response, SendError> {
        let Some(service) = request.aws.take() else { return self.sender.send(request, connection, timeout).await };
        let started = Instant::now();
        let connection = self.prepare(&mut request, &service, connection, timeout).await?;
        let answer = self.sender.send(request, &connection, timeout.saturating_sub(started.elapsed())).await;
        if matches!(&answer, Ok(Response { status: 400 | 401 | 403, .. })) {
            // They may have ended before their time.
            *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }
}

#[async_trait]
impl Dialer for SigningSender {
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        timeout: Duration,
        soon: Duration,
    ) -> Result<Dialled, SendError> {
        let Some(service) = &request.aws else { return self.sender.dial(request, connection, timeout, soon).await };
        let started = Instant::now();
        let mut request = request.clone();
        let connection = self.prepare(&mut request, service, connection, timeout).await?;
        self.sender.dial(&request, &connection, timeout.saturating_sub(started.elapsed()), soon).await
    }
}

/// The endpoint of `service` in `region`. Source: `partitions.json` in botocore 1.44 (read 2026-11), without the
/// partitions that are cut off from the internet.
fn endpoint(config: &SdkConfig, service: &Service, region: &str) -> String {
    let dual_stack = config.use_dual_stack() == Some(true);
    let suffix = match region.split('-').next() {
        Some("cn") if dual_stack => "api.amazonwebservices.com.cn",
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") if dual_stack => "api.amazonwebservices.eu",
        Some("eusc") => "amazonaws.eu",
        _ if dual_stack => "api.aws",
        _ => "amazonaws.com",
    };
    let fips = if config.use_fips() == Some(true) { "-fips" } else { "" };
    format!("https://{}{fips}.{region}.{suffix}", service.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rim::aws::from_variables;

    fn config(variables: &'static [(&'static str, &'static str)]) -> Sdk {
        from_variables(move |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
    }

    fn outbound(service: Service) -> Outbound {
        Outbound { aws: Some(service), ..Outbound::post("/".into(), "text/plain", "x") }
    }

    #[test]
    fn endpoints_follow_the_region() {
        for (variables, region, expected) in [
            (&[][..], "eu-west-1", "https://sns.eu-west-1.amazonaws.com"),
            (&[], "us-gov-west-1", "https://sns.us-gov-west-1.amazonaws.com"),
            (&[], "cn-north-1", "https://sns.cn-north-1.amazonaws.com.cn"),
            (&[], "eusc-de-east-1", "https://sns.eusc-de-east-1.amazonaws.eu"),
            (&[("AWS_USE_FIPS_ENDPOINT", "true")], "us-east-1", "https://sns-fips.us-east-1.amazonaws.com"),
            (&[("AWS_USE_DUALSTACK_ENDPOINT", "true")], "eu-west-1", "https://sns.eu-west-1.api.aws"),
        ] {
            let sdk = config(variables);
            assert_eq!(endpoint(sdk.config(), &Service::sns(region), region), expected);
        }
    }

    #[tokio::test]
    async fn a_signed_request_shows_neither_credentials_nor_signature() {
        let sdk = config(&[
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "hunter3"),
        ]);
        let sender = SigningSender::new(std::future::ready(sdk.clone()));
        let service = Service::sns("eu-west-1");
        let mut request = outbound(service.clone());
        sender.sign(&mut request, &service, &sdk).await.expect("signed");
        let printed = format!("{request:?} {:?}", request.headers);
        assert!(request.headers["x-amz-security-token"] == "hunter3" && request.headers.contains_key("authorization"));
        assert!(!printed.contains("hunter") && !printed.contains("Signature="), "{printed}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_credentials_are_waited_for_nothing_has_left() {
        let sender = SigningSender::new(std::future::pending());
        let request = outbound(Service::sns("eu-west-1"));
        let error = sender.send(request, &Connection::default(), Duration::from_secs(5)).await.expect_err("none came");
        assert_eq!(error, SendError::Connect("no AWS credentials within 5s".into()));
    }

    #[tokio::test]
    async fn without_region_or_credentials_the_target_waits_and_the_reason_says_what_is_missing() {
        for (variables, expected) in [(&[][..], "AWS_REGION"), (&[("AWS_REGION", "eu-west-1")], "AWS_ACCESS_KEY_ID")] {
            let sender = SigningSender::new(std::future::ready(config(variables)));
            let request = outbound(Service { region: None, ..Service::sns("") });
            let error =
                sender.send(request, &Connection::default(), Duration::from_secs(5)).await.expect_err("missing");
            assert!(matches!(&error, SendError::Unusable(why) if why.contains(expected)), "{error}");
        }
    }
}
