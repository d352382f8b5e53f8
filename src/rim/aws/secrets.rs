//! Secrets in SSM Parameter Store and in Secrets Manager.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use async_trait::async_trait;
use aws_sdk_secretsmanager as secretsmanager;
use aws_sdk_ssm as ssm;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::SdkConfig;
use futures_util::future::{join, join_all};
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::identity::SecretsAndIdentity;
use super::{explain, from_default_chain};
use crate::domain::secret::{Secret, SecretRef};
use crate::port::{FetchError, Fetched, SecretBackend};

/// How many names one `GetParameters` takes.
const NAMES_PER_CALL: usize = 10;

/// Reads `ssm:` and `secretsmanager:` references; for any other it answers [`FetchError::Unusable`].
#[derive(Debug, Clone)]
pub struct AwsSecrets {
    ssm: ssm::Client,
    secrets_manager: secretsmanager::Client,
}

/// A parameter that was asked for: its name, and its version if that is fixed.
type Asked<'a> = (&'a str, Option<u64>);

/// What became of it.
type Answer = Result<Fetched, FetchError>;

impl AwsSecrets {
    /// Makes the clients; nothing is sent yet.
    pub fn new(config: &SdkConfig) -> Self {
        Self { ssm: ssm::Client::new(config), secrets_manager: secretsmanager::Client::new(config) }
    }

    /// Asks for any number of parameters, ten a call, all calls at once.
    async fn parameters<'a>(&self, asked: BTreeSet<Asked<'a>>) -> BTreeMap<Asked<'a>, Answer> {
        let asked = Vec::from_iter(asked);
        let batches = asked.chunks(NAMES_PER_CALL).map(|batch| self.batch(batch));
        join_all(batches).await.into_iter().flatten().collect()
    }

    async fn batch<'a>(&self, asked: &[Asked<'a>]) -> Vec<(Asked<'a>, Answer)> {
        match self.get_parameters(asked).await {
            Ok(answers) => asked.iter().copied().zip(answers).collect(),
            // One name that we may not read, or that AWS does not like, fails all ten: the others have to come
            // nevertheless, and each is to get its own reason.
            Err(error) if asked.len() > 1 && !matches!(error, FetchError::Unavailable(_)) => {
                let alone = asked.iter().map(|one| async {
                    let answer = self.get_parameters(std::slice::from_ref(one)).await;
                    (*one, answer.and_then(|answers| answers.into_iter().next().unwrap_or_else(left_out)))
                });
                join_all(alone).await
            }
            Err(error) => asked.iter().map(|one| (*one, Err(error.clone()))).collect(),
        }
    }

    /// One call; `asked` holds nothing twice. The answers are in the order of `asked`.
    async fn get_parameters(&self, asked: &[Asked<'_>]) -> Result<Vec<Answer>, FetchError> {
        let names = asked.iter().map(|(name, version)| selected(name, *version)).collect();
        let answer = self.ssm.get_parameters().set_names(Some(names)).with_decryption(true).send().await;
        let answer = answer.map_err(|error| fetch_error(&error))?;
        let unknown = answer.invalid_parameters.unwrap_or_default();
        let found: Vec<_> = answer.parameters.unwrap_or_default().into_iter().filter_map(parameter).collect();
        Ok(asked
            .iter()
            .map(|(name, version)| {
                // AWS answers in any order, and one name may have been asked for as it is now and at an older
                // version: what is now is the newest.
                let same = found.iter().filter(|(found, _, _)| found == name);
                let fitting = same.filter(|(_, found, _)| version.is_none_or(|version| version == *found));
                match fitting.max_by_key(|(_, version, _)| *version) {
                    Some((_, _, fetched)) => Ok(fetched.clone()),
                    None if unknown.contains(&selected(name, *version)) => Err(FetchError::NotFound),
                    None => left_out(),
                }
            })
            .collect())
    }

    async fn secret(&self, id: &str, stage: &str) -> Answer {
        let answer = self.secrets_manager.get_secret_value().secret_id(id).version_stage(stage).send().await;
        let answer = answer.map_err(|error| fetch_error(&error))?;
        let value = match (answer.secret_string, answer.secret_binary) {
            (Some(text), _) => Secret::new(text),
            (None, Some(binary)) => Secret::new(binary.into_inner()),
            (None, None) => return Err(FetchError::Unusable("the secret has no value yet".into())),
        };
        let version = answer.version_id.unwrap_or_default();
        Ok(Fetched { value, version, made: answer.created_date.as_ref().and_then(timestamp) })
    }
}

#[async_trait]
impl SecretBackend for AwsSecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Answer> {
        let mut parameters = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for reference in references {
            match reference {
                SecretRef::Ssm { name, version } => drop(parameters.insert((name.as_str(), *version))),
                SecretRef::SecretsManager { id, .. } => drop(ids.insert(id.as_str())),
                SecretRef::Env(_)
                | SecretRef::File(_)
                | SecretRef::KeySet(_)
                | SecretRef::Certificate(_)
                | SecretRef::WebIdentity { .. } => {}
            }
        }
        let secrets = ids.into_iter().map(|id| async move { (id, self.secret(id, "AWSCURRENT").await) });
        let (parameters, secrets) = join(self.parameters(parameters), join_all(secrets)).await;
        let secrets = BTreeMap::from_iter(secrets);
        let answer = |reference: &SecretRef| match reference {
            SecretRef::Ssm { name, version } => parameters.get(&(name.as_str(), *version)).cloned(),
            SecretRef::SecretsManager { id, .. } => secrets.get(id.as_str()).cloned(),
            SecretRef::Env(_)
            | SecretRef::File(_)
            | SecretRef::KeySet(_)
            | SecretRef::Certificate(_)
            | SecretRef::WebIdentity { .. } => Some(Err(not_kept())),
        };
        references.iter().map(|reference| answer(reference).unwrap_or_else(left_out)).collect()
    }

    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError> {
        let before = match reference {
            SecretRef::Ssm { version: Some(_), .. } => return Ok(None),
            SecretRef::Ssm { name, version: None } => match current.version.parse::<u64>() {
                Ok(version) if version > 1 => {
                    let answers = self.get_parameters(&[(name, Some(version - 1))]).await?;
                    answers.into_iter().next().unwrap_or_else(left_out)
                }
                _ => return Ok(None),
            },
            SecretRef::SecretsManager { id, .. } => self.secret(id, "AWSPREVIOUS").await,
            SecretRef::Env(_)
            | SecretRef::File(_)
            | SecretRef::KeySet(_)
            | SecretRef::Certificate(_)
            | SecretRef::WebIdentity { .. } => Err(not_kept()),
        };
        match before {
            // Rotated since `current` was read: the stage has moved on to it, and what was before has no name left.
            Ok(fetched) if fetched.version == current.version => Ok(None),
            Ok(fetched) => Ok(Some(fetched)),
            Err(FetchError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// [`SecretsAndIdentity`] by the default chain, which is not gone through before the first secret is asked for.
#[derive(Debug, Default)]
pub struct LazySecrets(OnceCell<SecretsAndIdentity>);

impl LazySecrets {
    async fn get(&self) -> &SecretsAndIdentity {
        self.0.get_or_init(|| async { from_default_chain().await.secrets_and_identity() }).await
    }
}

#[async_trait]
impl SecretBackend for LazySecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Answer> {
        self.get().await.current(references).await
    }

    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError> {
        self.get().await.previous(reference, current).await
    }
}

/// A parameter's name as AWS takes it.
fn selected(name: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{name}:{version}"),
        None => name.into(),
    }
}

/// Takes the value out of an answer: name, version, and what we make of it.
fn parameter(parameter: ssm::types::Parameter) -> Option<(String, u64, Fetched)> {
    let version = u64::try_from(parameter.version).ok()?;
    let made = parameter.last_modified_date.as_ref().and_then(timestamp);
    let fetched = Fetched { value: Secret::new(parameter.value?), version: version.to_string(), made };
    Some((parameter.name?, version, fetched))
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn left_out<T>() -> Result<T, FetchError> {
    Err(FetchError::Unavailable("AWS left it out of its answer".into()))
}

fn not_kept() -> FetchError {
    FetchError::Unusable("this is not kept in Parameter Store or Secrets Manager".into())
}

/// Judges by the error's code: the services do not agree about status codes.
pub(super) fn fetch_error<E>(error: &SdkError<E, HttpResponse>) -> FetchError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let why = explain(error);
    let SdkError::ServiceError(answer) = error else { return FetchError::Unavailable(why) };
    match error.code().unwrap_or_default() {
        "ResourceNotFoundException"
        | "ParameterNotFound"
        | "ParameterVersionNotFound"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "QueueDoesNotExist" => FetchError::NotFound,
        // The others mean that AWS does not know who we are, or that the key cannot be used: as hopeless.
        "AccessDeniedException"
        | "AccessDenied"
        | "DecryptionFailure"
        | "InvalidKeyId"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException" => FetchError::Denied(why),
        "InvalidRequestException" => {
            FetchError::Unusable(format!("cannot be read in its present state, such as pending deletion ({why})"))
        }
        "" => FetchError::Unavailable(why),
        code if code.contains("Throttl") || code.contains("TooManyRequests") || code == "RequestLimitExceeded" => {
            FetchError::Unavailable(why)
        }
        "InternalServerError" | "InternalServiceError" | "ServiceUnavailable" => FetchError::Unavailable(why),
        _ if answer.raw().status().is_server_error() => FetchError::Unavailable(why),
        _ => FetchError::Unusable(why),
    }
}
