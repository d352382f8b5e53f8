//! Secrets out of the environment and out of files, and the backend that knows all forms of reference.

use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::secret::{Secret, SecretRef};
use crate::port::{FetchError, Fetched, SecretBackend};

/// Reads an `env:` or `file:` reference.
fn read(reference: &SecretRef) -> Result<Fetched, FetchError> {
    let value = match reference {
        SecretRef::Env(name) => std::env::var_os(name).ok_or(FetchError::NotFound)?.into_vec(),
        SecretRef::File(path) => std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FetchError::NotFound,
            std::io::ErrorKind::PermissionDenied => FetchError::Denied(error.to_string()),
            _ => FetchError::Unavailable(error.to_string()),
        })?,
        SecretRef::Ssm { .. } | SecretRef::SecretsManager { .. } | SecretRef::WebIdentity { .. } => {
            return Err(FetchError::Unusable("is kept in AWS".into()));
        }
    };
    Ok(Fetched { value: Secret::new(value), version: String::new(), made: None })
}

/// All forms of reference: local ones are read here, the others are left to AWS.
pub struct AllSecrets {
    aws: Arc<dyn SecretBackend>,
}

impl AllSecrets {
    /// With `aws` for what is kept there.
    pub fn new(aws: Arc<dyn SecretBackend>) -> Self {
        Self { aws }
    }
}

#[async_trait]
impl SecretBackend for AllSecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
        let remote: Vec<_> = references.iter().filter(|reference| !reference.is_local()).cloned().collect();
        let mut fetched = match remote.is_empty() {
            true => Vec::new(),
            false => self.aws.current(&remote).await,
        }
        .into_iter();
        references
            .iter()
            .map(|reference| match reference.is_local() {
                true => read(reference),
                false => fetched.next().unwrap_or(Err(FetchError::NotFound)),
            })
            .collect()
    }

    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError> {
        match reference.is_local() {
            true => Ok(None),
            false => self.aws.previous(reference, current).await,
        }
    }
}
