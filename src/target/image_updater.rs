//! Argo CD Image Updater's webhook server, `/webhook`.
//!
//! It knows several registries' forms by `?type=`. We use `cloudevents`, whatever registry the push is from: the only one
//! that names the registry's host as a field and takes the secret in a header, `X-Webhook-Secret`, compared with
//! `webhook.cloudevents-secret` of `argocd-image-updater-secret`. Of an event whose type contains `image` it reads
//! `repository`, `tag`, `digest` and `registryUrl` of `data`. Source: argoproj-labs/argocd-image-updater,
//! `pkg/webhook/{webhook,cloudevents,server}.go` and `docs/configuration/webhook.md` (read 2026-11).
//!
//! Oddities: an event without a tag is refused. Every refusal, a wrong secret too, is 400 with a sentence. A type whose
//! secret is not set up is not there at all. The server speaks TLS with a certificate of its own unless told otherwise.
//! An event carries one tag; of several the first is told, and the updater looks at all tags of the image then.

use ::http::HeaderName;
use jiff::Timestamp;
use serde_json::json;

use super::poke::{classify_in_cluster, current, first_tag, held, image_push, post_json};
use super::{Class, Outbound, RenderError, Response, Target, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// An `image-updater` target.
    pub struct ImageUpdater {
        /// The webhook server's URL, to which /webhook is added.
        url: BaseUrl,
        /// What argocd-image-updater-secret holds as webhook.cloudevents-secret.
        secret: SecretRef,
    }
}

impl Target for ImageUpdater {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        first_tag(image_push(event)?).map(|_| ())
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let secret = current(secrets, &self.secret)?;
        let event = &delivery.event;
        let push = image_push(event).map_err(RenderError::Unfit)?;
        let tag = first_tag(push).map_err(RenderError::Unfit)?;
        let (host, path) = push
            .repository
            .split_once('/')
            .ok_or_else(|| RenderError::Unfit("the repository's name has no registry host".into()))?;
        let mut data = json!({ "registryUrl": host, "repository": path, "tag": tag });
        if let Some(digest) = &push.digest {
            data["digest"] = digest.as_str().into();
        }
        let mut whole = json!({
            "specversion": "1.0",
            "id": event.id,
            "type": "sluice.image_push",
            "source": format!("/sluice/{}", event.source),
            "subject": format!("{path}:{tag}"),
            "datacontenttype": "application/json",
            "data": data,
        });
        if let Some(time) = event.time {
            whole["time"] = time.to_string().into();
        }
        let mut request = post_json(self.url.join("/webhook?type=cloudevents"), &whole)?;
        request.credential(HeaderName::from_static("x-webhook-secret"), secret.expose())?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            400 if said.contains("webhook secret") => held(
                "400: Image Updater refuses our secret; is it the same as webhook.cloudevents-secret in \
                 argocd-image-updater-secret?",
            ),
            400 if said.contains("registry type") => held(
                "400: Image Updater takes no CloudEvents; set webhook.cloudevents-secret in argocd-image-updater-secret, \
                 or use a version that knows them",
            ),
            404 => {
                held("404: Image Updater's webhook server does not answer at this URL; does it end before /webhook?")
            }
            _ => classify_in_cluster(response, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 400 | 401 | 403)
    }
}
