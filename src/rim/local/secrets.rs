//! Secrets out of the environment and out of files, and the backend that knows all forms of reference.

use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join, join_all};

use crate::domain::secret::{Secret, SecretRef};
use crate::port::{FetchError, Fetched, SecretBackend};
use crate::rim::key_sets::KeySets;

fn comes_from_aws(reference: &SecretRef) -> bool {
    matches!(reference, SecretRef::Ssm { .. } | SecretRef::SecretsManager { .. } | SecretRef::WebIdentity { .. })
}

/// Reads an `env:` or `file:` reference.
fn read(reference: &SecretRef) -> Result<Fetched, FetchError> {
    let value = match reference {
        SecretRef::Env(name) => std::env::var_os(name).ok_or(FetchError::NotFound)?.into_vec(),
        SecretRef::File(path) => std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FetchError::NotFound,
            std::io::ErrorKind::PermissionDenied => FetchError::Denied(error.to_string()),
            _ => FetchError::Unavailable(error.to_string()),
        })?,
        SecretRef::Ssm { .. }
        | SecretRef::SecretsManager { .. }
        | SecretRef::KeySet(_)
        | SecretRef::WebIdentity { .. } => {
            return Err(FetchError::Unusable("is not kept on this machine".into()));
        }
    };
    Ok(Fetched { value: Secret::new(value), version: String::new(), made: None })
}

/// All forms of reference: local ones are read here, key sets are fetched from where they are published, the others
/// are left to AWS.
pub struct AllSecrets {
    aws: Arc<dyn SecretBackend>,
    key_sets: Option<KeySets>,
}

impl AllSecrets {
    /// With `aws` for what is kept there, and without key sets.
    pub fn new(aws: Arc<dyn SecretBackend>) -> Self {
        Self { aws, key_sets: None }
    }

    /// With key sets, too.
    #[must_use]
    pub fn with_key_sets(self, key_sets: KeySets) -> Self {
        Self { key_sets: Some(key_sets), ..self }
    }

    async fn key_set(&self, url: &str) -> Result<Fetched, FetchError> {
        match &self.key_sets {
            Some(key_sets) => key_sets.fetch(url).await,
            None => Err(FetchError::Unusable("this function fetches no key sets".into())),
        }
    }
}

#[async_trait]
impl SecretBackend for AllSecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
        let remote: Vec<_> = references.iter().filter(|reference| comes_from_aws(reference)).cloned().collect();
        let published = references.iter().filter_map(|reference| match reference {
            SecretRef::KeySet(url) => Some(self.key_set(url)),
            _ => None,
        });
        let kept = async {
            match remote.is_empty() {
                true => Vec::new(),
                false => self.aws.current(&remote).await,
            }
        };
        let (kept, published) = join(kept, join_all(published)).await;
        let (mut kept, mut published) = (kept.into_iter(), published.into_iter());
        references
            .iter()
            .map(|reference| match reference {
                SecretRef::Env(_) | SecretRef::File(_) => read(reference),
                SecretRef::KeySet(_) => published.next().unwrap_or(Err(FetchError::NotFound)),
                SecretRef::Ssm { .. } | SecretRef::SecretsManager { .. } | SecretRef::WebIdentity { .. } => {
                    kept.next().unwrap_or(Err(FetchError::NotFound))
                }
            })
            .collect()
    }

    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError> {
        match comes_from_aws(reference) {
            true => self.aws.previous(reference, current).await,
            false => Ok(None),
        }
    }
}
