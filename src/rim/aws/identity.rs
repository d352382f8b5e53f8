//! Tokens by which the role that we run as proves itself to others: STS `GetWebIdentityToken`.
//!
//! The account has to allow it once («outbound identity federation» of IAM), and the role needs
//! `sts:GetWebIdentityToken`. Source: AWS's API reference of STS (read 2026-08).

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_sts as sts;
use aws_types::SdkConfig;
use futures_util::future::{join, join_all};

use super::secrets::{AwsSecrets, fetch_error};
use crate::domain::secret::{Secret, SecretRef};
use crate::port::{FetchError, Fetched, SecretBackend};

/// How long a token is asked to live, in seconds. The store uses one for five minutes, and this leaves room for a
/// delivery that is under way, for clocks that differ, and for some minutes in which STS cannot be reached.
const LIFE: i32 = 900;
/// How long, where the role's own session ends before that: as long as the store uses it. No token may outlive the
/// session.
const SHORT_LIFE: i32 = 300;
/// What every OpenID Connect library can verify; the other choice is ES384.
const ALGORITHM: &str = "RS256";

/// [`AwsSecrets`], and [`SecretRef::WebIdentity`] besides.
#[derive(Debug, Clone)]
pub struct SecretsAndIdentity {
    secrets: AwsSecrets,
    sts: sts::Client,
}

impl SecretsAndIdentity {
    /// Makes the clients; nothing is sent yet.
    pub fn new(config: &SdkConfig) -> Self {
        Self { secrets: AwsSecrets::new(config), sts: sts::Client::new(config) }
    }

    async fn token(&self, audience: &str) -> Result<Fetched, FetchError> {
        let ask = |life| {
            let call = self.sts.get_web_identity_token().audience(audience).signing_algorithm(ALGORITHM);
            call.duration_seconds(life).send()
        };
        let mut answer = ask(LIFE).await;
        let too_long = |error: &sts::operation::get_web_identity_token::GetWebIdentityTokenError| {
            error.is_session_duration_escalation_exception()
        };
        if answer.as_ref().is_err_and(|error| error.as_service_error().is_some_and(too_long)) {
            answer = ask(SHORT_LIFE).await;
        }
        let token = answer.map_err(|error| fetch_error(&error))?.web_identity_token;
        let token = token.ok_or_else(|| FetchError::Unavailable("AWS answered without a token".into()))?;
        // There is no value before it that anybody would accept, so that its age does not matter.
        Ok(Fetched { value: Secret::new(token), version: String::new(), made: None })
    }
}

#[async_trait]
impl SecretBackend for SecretsAndIdentity {
    async fn current(&self, references: &[SecretRef]) -> Vec<Result<Fetched, FetchError>> {
        let audience = |reference: &SecretRef| match reference {
            SecretRef::WebIdentity { audience } => Some(audience.clone()),
            _ => None,
        };
        let kept: Vec<_> = references.iter().filter(|reference| audience(reference).is_none()).cloned().collect();
        let kept = async { if kept.is_empty() { Vec::new() } else { self.secrets.current(&kept).await } };
        let asked: BTreeMap<_, ()> = references.iter().filter_map(audience).map(|audience| (audience, ())).collect();
        let tokens = asked.into_keys().map(|audience| async move {
            let token = self.token(&audience).await;
            (audience, token)
        });
        let (kept, tokens) = join(kept, join_all(tokens)).await;
        let (mut kept, tokens) = (kept.into_iter(), BTreeMap::from_iter(tokens));
        references
            .iter()
            .map(|reference| match audience(reference) {
                Some(audience) => tokens.get(&audience).cloned(),
                None => kept.next(),
            })
            .map(|answer| answer.unwrap_or(Err(FetchError::NotFound)))
            .collect()
    }

    async fn previous(&self, reference: &SecretRef, current: &Fetched) -> Result<Option<Fetched>, FetchError> {
        match reference {
            SecretRef::WebIdentity { .. } => Ok(None),
            _ => self.secrets.previous(reference, current).await,
        }
    }
}
