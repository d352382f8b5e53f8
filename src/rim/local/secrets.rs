//! Secrets out of the environment and out of files, and the backend that knows all forms of reference.

use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join, join_all};

use crate::domain::secret::{Secret, SecretRef};
use crate::port::{FetchError, Fetched, SecretBackend};
use crate::rim::published::Published;

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
        | SecretRef::Certificate(_)
        | SecretRef::WebIdentity { .. } => {
            return Err(FetchError::Unusable("is not kept on this machine".into()));
        }
    };
    Ok(Fetched { value: Secret::new(value), version: String::new(), made: None })
}

/// All forms of reference: local ones are read here, key sets and certificates are fetched from where they are published,
/// the others are left to AWS.
pub struct AllSecrets {
    aws: Arc<dyn SecretBackend>,
    published: Option<Published>,
}

impl AllSecrets {
    /// With `aws` for what is kept there, and without what is published.
    pub fn new(aws: Arc<dyn SecretBackend>) -> Self {
        Self { aws, published: None }
    }

    /// With key sets and certificates, too.
    #[must_use]
    pub fn with_published(self, published: Published) -> Self {
        Self { published: Some(published), ..self }
    }

    async fn published(&self, reference: &SecretRef) -> Result<Fetched, FetchError> {
        match (&self.published, reference) {
            (Some(published), SecretRef::KeySet(url)) => published.key_set(url).await,
            (Some(published), SecretRef::Certificate(url)) => published.certificate(url).await,
            _ => Err(FetchError::Unusable("this function fetches neither key sets nor certificates".into())),
        }
    }
}

#[async_trait]
impl SecretBackend for AllSecrets {
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
        let remote: Vec<_> = references.iter().filter(|reference| comes_from_aws(reference)).cloned().collect();
        let published = references.iter().filter(|reference| !reference.is_secret());
        let published = published.map(|reference| self.published(reference));
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
                SecretRef::KeySet(_) | SecretRef::Certificate(_) => {
                    published.next().unwrap_or(Err(FetchError::NotFound))
                }
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
