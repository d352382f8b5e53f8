//! Argo CD's webhook, `/api/webhook` of its API server.
//!
//! It takes pushes in the form of several Git hosts and tells them apart by their headers. We use GitHub's, whatever host
//! the push is from: `X-GitHub-Event: push`, signed in `X-Hub-Signature-256` with `webhook.github.secret` of the Secret
//! `argocd-secret`. It reads `repository.html_url`, `repository.default_branch`, `ref`, `before`, `after` and the paths of
//! `commits`. Newer versions also take `package` events for OCI sources, signed alike; of these they read owner, name
//! and tag, and take the registry to be ghcr.io. Source: argoproj/argo-cd, `util/webhook/{webhook,parser,ghcr,registry}.go`
//! and go-playground/webhooks `github/github.go` (read 2026-11).
//!
//! Oddities: an empty secret on its side checks nothing. Every refusal is 400 with a sentence. 200 says that the event is
//! in its queue, not that an Application matched. A `package` event carries one tag; of several the first is told.

use jiff::Timestamp;

use super::poke::{
    NO_ALERTS, busy, classify_in_cluster, current, first_tag, github_original, github_package, github_push, held,
    is_push, post_json, refuses_alerts, sign_as_github,
};
use super::{Class, Outbound, RenderError, Response, Target, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// An `argocd` target.
    pub struct Argocd {
        /// Argo CD's own URL, to which /api/webhook is added.
        url: BaseUrl,
        /// What argocd-secret holds as webhook.github.secret.
        secret: SecretRef,
    }
}

impl Target for Argocd {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        refuses_alerts(kind)
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        match &event.detail {
            Detail::Alert(_) => Err(NO_ALERTS.into()),
            Detail::Git(git) if git.deleted => Err("a deleted ref leaves nothing to sync".into()),
            Detail::Git(git) if is_push(git) && git.repository.is_some() => Ok(()),
            Detail::Git(git) => Err(format!("Argo CD acts on pushes, not on `{}`", git.event)),
            Detail::ImagePush(push) if !push.repository.starts_with("ghcr.io/") => {
                Err("Argo CD is told of image pushes to ghcr.io only; of other registries it knows no webhook".into())
            }
            Detail::ImagePush(push) => first_tag(push).map(|_| ()),
        }
    }

    fn needs_original(&self, event: &Event) -> bool {
        matches!(event.detail, Detail::Git(_))
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let secret = current(secrets, &self.secret)?;
        let url = self.url.join("/api/webhook");
        let (mut request, event) = match (&delivery.event.detail, github_original(delivery.original.as_ref())) {
            (Detail::Git(_), Some(original)) => {
                (Outbound::post(url, "application/json", original.body.clone()), "push")
            }
            (Detail::Git(git), None) => (post_json(url, &github_push(git))?, "push"),
            (Detail::Alert(_), _) => return Err(RenderError::Unfit(NO_ALERTS.into())),
            (Detail::ImagePush(push), _) => {
                let tag = first_tag(push).map_err(RenderError::Unfit)?;
                (post_json(url, &github_package(push, Some(tag)))?, "package")
            }
        };
        sign_as_github(&mut request, secret, event, &delivery.id)?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            400 if said.contains("HMAC verification failed") || said.contains("signature") => held(
                "400: Argo CD refuses the signature; is our secret the same as webhook.github.secret in argocd-secret?",
            ),
            400 if said.contains("event not defined to be parsed") => Outcome::Rejected {
                reason: "400: this version of Argo CD does not take this event; image pushes need a newer one".into(),
            },
            400 if said.contains("too large or corrupted") => Outcome::Rejected {
                reason: "400: the push is larger than webhook.maxPayloadSizeMB in argocd-cm allows".into(),
            },
            503 if said.contains("Queue is full") => busy("503: Argo CD's queue of webhooks is full"),
            404 => held("404: Argo CD's API server does not answer at this URL; does it end before /api/webhook?"),
            _ => classify_in_cluster(response, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 400 | 401 | 403)
    }
}
