//! The ports on AWS, and how the SDK is set up for them.
//!
//! There are two ways to an [`Sdk`]. [`from_environment`] is for Lambda functions: everything that it
//! needs is in the environment, so it looks at nothing else, and a cold start does not pay for the default
//! credential chain. [`from_default_chain`] is for the `sluice` command, which runs on people's machines and in
//! clusters, with profiles, single sign-on and pod identities. Both give one HTTP client with one TLS
//! configuration, the same time-outs, retries and behaviour version; all that is made of one [`Sdk`] shares it.

pub mod dead_letters;
pub mod doctor;
pub mod dynamodb;
pub mod identity;
pub mod secrets;
pub mod signing;
pub mod sqs;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::origin::Origin;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::port::{Clock, Unavailable};
use dead_letters::SqsDeadLetters;
use doctor::AwsDeployed;
use dynamodb::DynamoState;
use identity::SecretsAndIdentity;
use secrets::AwsSecrets;
pub use secrets::LazySecrets;
use sqs::SqsQueue;

/// How long a connection may take, TLS not included.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt of a call may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long a call may take with all its attempts: less than the ten seconds for which Git hosts wait for us.
const OPERATION: Duration = Duration::from_secs(9);
/// The wait before the second attempt, at most; the SDK's own second is too much for a sender that waits.
const BACKOFF: Duration = Duration::from_millis(200);

/// The SDK, set up. Making something of it sends nothing yet.
#[derive(Debug, Clone)]
pub struct Sdk(SdkConfig);

impl Sdk {
    /// Parameter Store and Secrets Manager.
    pub fn secrets(&self) -> AwsSecrets {
        AwsSecrets::new(&self.0)
    }

    /// The same, and tokens that prove to others as whom we run. Apart, so that functions that need none do not carry
    /// the client.
    pub fn secrets_and_identity(&self) -> SecretsAndIdentity {
        SecretsAndIdentity::new(&self.0)
    }

    /// The SQS FIFO queue at `url`, which takes messages of up to `limit` bytes.
    pub fn queue(&self, url: impl Into<String>, limit: usize) -> SqsQueue {
        SqsQueue::new(aws_sdk_sqs::Client::new(&self.0), url, limit)
    }

    /// The dead letters in the SQS queue at `url`. Deliveries go back to the queue at `to`, or else to the one queue whose
    /// dead-letter queue it is, in messages of up to `limit` bytes.
    pub fn dead_letters(&self, url: impl Into<String>, to: Option<String>, limit: usize) -> SqsDeadLetters {
        SqsDeadLetters::new(&self.0, url, to, limit)
    }

    /// The DynamoDB table of this name.
    pub fn state(&self, table: impl Into<String>, clock: Arc<dyn Clock>) -> DynamoState {
        DynamoState::new(aws_sdk_dynamodb::Client::new(&self.0), table, clock)
    }

    /// How queues and tables are set up, for the doctor.
    pub fn deployed(&self) -> AwsDeployed {
        AwsDeployed::new(&self.0)
    }

    /// The URL that stands for the service with this id, such as `SNS`, where the environment names one.
    pub fn endpoint(&self, service: &str) -> Option<String> {
        let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        let own = key.build().ok().and_then(|key| self.0.service_config()?.load_config(key));
        own.or_else(|| self.0.endpoint_url().map(str::to_owned))
    }

    /// For clients of what has no port.
    pub fn config(&self) -> &SdkConfig {
        &self.0
    }
}

/// The SDK in a Lambda function: set up from environment variables alone. See [`from_variables`].
pub fn from_environment() -> Sdk {
    from_variables(|name| std::env::var(name).ok())
}

/// The SDK, set up from variables that `lookup` finds by name; an empty one counts as missing.
///
/// Honoured are `AWS_REGION` (else `AWS_DEFAULT_REGION`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
/// `AWS_SESSION_TOKEN` (looked up when they are needed, never kept here), `AWS_ENDPOINT_URL`,
/// `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`, `AWS_USE_FIPS_ENDPOINT` and
/// `AWS_USE_DUALSTACK_ENDPOINT`. What is missing shows up as an error of the first call.
pub fn from_variables(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Sdk {
    let variables = Variables(Arc::new(lookup));
    let mut config = SdkConfig::builder()
        .behavior_version(behavior_version())
        .http_client(SharedConnectors::default())
        .timeout_config(timeouts(Duration::ZERO))
        .retry_config(retries())
        .region(variables.get("AWS_REGION").or_else(|| variables.get("AWS_DEFAULT_REGION")).map(Region::new))
        .use_fips(variables.is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(variables.is_true("AWS_USE_DUALSTACK_ENDPOINT"))
        .credentials_provider(SharedCredentialsProvider::new(variables.clone()));
    if !variables.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        config.set_endpoint_url(variables.get("AWS_ENDPOINT_URL"));
        // The origin lets a service's own variable win over this one; one set in code would win over both.
        config.insert_origin("endpoint_url", Origin::shared_environment_variable());
        config = config.service_config(variables);
    }
    Sdk(config.build())
}

/// The SDK for the `sluice` command: set up by the default chain of the AWS SDKs, that is the environment, profiles,
/// single sign-on, web identity, container and instance credentials, in that order.
pub async fn from_default_chain() -> Sdk {
    let config = aws_config::defaults(behavior_version())
        .http_client(SharedConnectors::default())
        .timeout_config(timeouts(Duration::ZERO))
        .retry_config(retries());
    Sdk(config.load().await)
}

/// Dated, so that an update of the SDK does not change its defaults under us.
fn behavior_version() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3).with_initial_backoff(BACKOFF).with_max_backoff(Duration::from_secs(1))
}

/// The time-outs of a call for whose answer the service itself may wait as long as `poll`.
fn timeouts(poll: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT + poll)
        .operation_timeout(OPERATION + poll)
        .build()
}

/// Finds a variable by its name.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Environment variables, or what stands for them. `Debug` shows none of their values.
#[derive(Clone)]
struct Variables(Arc<Lookup>);

impl Variables {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn credentials(&self) -> provider::Result {
        let needed = |name| self.get(name).ok_or_else(|| CredentialsError::not_loaded(format!("{name} is not set")));
        let mut credentials = Credentials::builder()
            .access_key_id(needed("AWS_ACCESS_KEY_ID")?)
            .secret_access_key(needed("AWS_SECRET_ACCESS_KEY")?)
            .provider_name("environment");
        credentials.set_session_token(self.get("AWS_SESSION_TOKEN"));
        Ok(credentials.build())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[variables]")
    }
}

impl ProvideCredentials for Variables {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.credentials())
    }
}

impl LoadServiceConfig for Variables {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().replace([' ', '-'], "_").to_ascii_uppercase();
        self.get(&format!("{}_{service}", key.env()))
    }
}

/// The HTTP client: rustls on ring, the machine's root certificates (`SSL_CERT_FILE` where it is set), proxies
/// from the environment as in every AWS SDK.
///
/// The SDK's own client does the same, but builds one more connector to throw away, root certificates and all,
/// for every service client that is made. Here the first request builds it, and the others share it.
#[derive(Debug, Default)]
struct SharedConnectors(Mutex<HashMap<[Option<Duration>; 2], SharedHttpConnector>>);

impl HttpClient for SharedConnectors {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        // Ours all have the same time-outs; the default chain asks the instance for credentials with shorter ones.
        let timeouts = [settings.connect_timeout(), settings.read_timeout()];
        let mut connectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connector = connectors.entry(timeouts).or_insert_with(|| {
            let mut builder = Connector::builder()
                .connector_settings(settings.clone())
                .proxy_config(ProxyConfig::from_env())
                .tls_provider(Provider::rustls(CryptoMode::Ring));
            builder.set_sleep_impl(components.sleep_impl());
            SharedHttpConnector::new(builder.build())
        });
        connector.clone()
    }
}

/// What went wrong, in the service's words or ours. Services do not repeat values in their errors, and an answer
/// that could not be read is not shown.
fn explain<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug,
{
    match error {
        SdkError::ServiceError(_) => match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.into(),
            (None, _) => "an error without a code".into(),
        },
        SdkError::TimeoutError(_) => "no answer in time".into(),
        SdkError::ResponseError(_) => "the answer could not be read".into(),
        _ => {
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        }
    }
}

/// For the ports whose only error is this one.
fn unavailable<E, R>(what: &'static str, error: &SdkError<E, R>) -> Unavailable
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug,
{
    Unavailable { what, message: explain(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &'static [(&'static str, &'static str)]) -> SdkConfig {
        from_variables(move |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())).0
    }

    #[test]
    fn a_service_may_have_an_endpoint_of_its_own() {
        let config = config(&[
            ("AWS_ENDPOINT_URL", "http://all.test"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://secrets.test"),
        ]);
        assert_eq!(config.endpoint_url(), Some("http://all.test"));
        assert!(!config.get_origin("endpoint_url").is_client_config());
        let sdk = Sdk(config);
        assert_eq!(sdk.endpoint("Secrets Manager").as_deref(), Some("http://secrets.test"));
        assert_eq!(sdk.endpoint("SQS").as_deref(), Some("http://all.test"));
    }

    #[test]
    fn configured_endpoints_can_be_ignored() {
        let config = config(&[
            ("AWS_ENDPOINT_URL", "http://all.test"),
            ("AWS_ENDPOINT_URL_SQS", "http://sqs.test"),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ]);
        assert_eq!(config.endpoint_url(), None);
        assert_eq!(Sdk(config).endpoint("SQS"), None);
    }

    #[test]
    fn region_fips_and_dual_stack_come_from_the_environment() {
        let config = config(&[
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "false"),
        ]);
        assert_eq!(config.region().map(AsRef::as_ref), Some("eu-west-1"));
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(true), Some(false)));
    }

    #[tokio::test]
    async fn the_secret_key_is_found_but_cannot_be_printed() {
        let config = config(&[
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "hunter3"),
        ]);
        let provider = config.credentials_provider().expect("there is one");
        let credentials = provider.provide_credentials().await.expect("all is set");
        assert_eq!(credentials.secret_access_key(), "hunter2");
        assert_eq!(credentials.session_token(), Some("hunter3"));
        for printed in [format!("{config:?}"), format!("{provider:?}"), format!("{credentials:?}")] {
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let provider = config(&[("AWS_ACCESS_KEY_ID", "")]).credentials_provider().expect("there is one");
        let error = provider.provide_credentials().await.expect_err("nothing is set");
        assert!(error.source().expect("a cause").to_string().contains("AWS_ACCESS_KEY_ID"), "{error:?}");
    }
}
