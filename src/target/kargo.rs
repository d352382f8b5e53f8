//! A webhook receiver of Kargo, of its type `github`.
//!
//! It checks `X-Hub-Signature-256` under the key `secret` of the Secret that the receiver names, and takes the events
//! `push` and `package`. Of a push it reads `repository.clone_url`, `repository.ssh_url` and `ref`; of a package its
//! `package_url`, which may be of any registry, the tag and the configuration's media type. Warehouses that subscribe to
//! that repository are refreshed. Source: akuity/kargo, `pkg/webhook/external/{github,refresh,receiver}.go` (read 2026-11).
//!
//! Oddities: the URL is the whole one that the ProjectConfig's status shows; its path is a hash over the secret, so that
//! it changes when the secret does. Without a tag every Warehouse of the repository is refreshed: that is what a push by
//! digest or of several tags says. A body of more than 2 MiB is refused.

use jiff::Timestamp;

use super::poke::{
    NO_ALERTS, classify_in_cluster, current, github_original, github_package, github_push, held, is_push, post_json,
    refuses_alerts, sign_as_github,
};
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::HttpUrl;

crate::keys! {
    /// A `kargo` target.
    pub struct Kargo {
        /// The whole URL of a receiver of type github, as the ProjectConfig's status shows it.
        url: HttpUrl,
        /// The key `secret` of the receiver's Secret.
        secret: SecretRef,
    }
}

/// What Kargo takes; a larger push is told in our own words.
const MAX_BODY: usize = 2 << 20;

impl Target for Kargo {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        refuses_alerts(kind)
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        match &event.detail {
            Detail::Alert(_) => Err(NO_ALERTS.into()),
            Detail::ImagePush(_) => Ok(()),
            Detail::Git(git) if git.deleted => Err("a deleted ref leaves nothing to discover".into()),
            Detail::Git(git) if is_push(git) && git.repository.is_some() => Ok(()),
            Detail::Git(git) => Err(format!("Kargo acts on pushes, not on `{}`", git.event)),
        }
    }

    fn needs_original(&self, event: &Event) -> bool {
        matches!(event.detail, Detail::Git(_))
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let secret = current(secrets, &self.secret)?;
        let url = self.url.0.to_string();
        let original = github_original(delivery.original.as_ref()).filter(|original| original.body.len() < MAX_BODY);
        let (mut request, event) = match (&delivery.event.detail, original) {
            (Detail::Git(_), Some(original)) => {
                (Outbound::post(url, "application/json", original.body.clone()), "push")
            }
            (Detail::Git(git), None) => (post_json(url, &github_push(git))?, "push"),
            (Detail::Alert(_), _) => return Err(RenderError::Unfit(NO_ALERTS.into())),
            (Detail::ImagePush(push), _) => {
                let tag = if push.tags.len() > 1 { None } else { push.tag.as_deref() };
                (post_json(url, &github_package(push, tag))?, "package")
            }
        };
        sign_as_github(&mut request, secret, event, &delivery.id)?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            401 => held("401: Kargo refuses the signature; is our secret the key `secret` of the receiver's Secret?"),
            404 => held(
                "404: Kargo has no receiver at this URL; its path changes with its secret, and the ProjectConfig's \
                 status shows the current one",
            ),
            _ => classify_in_cluster(response, now),
        }
    }
}
