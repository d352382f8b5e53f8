//! Keel's native webhook, `/v1/webhooks/native`.
//!
//! It takes `{"name", "tag", "digest"}`, the name with the registry's host before it. Where AUTHENTICATED_WEBHOOKS is set,
//! it wants the administrator's user name and password (Basic), or a token of its own log-in (bearer). Source:
//! keel-hq/keel, `pkg/http/{native_webhook_trigger,http,auth}.go` and `types/types.go` (read 2026-11).
//!
//! Oddities: an empty tag is refused. Its own tokens expire, so that Basic is the way; a bearer token is for what may
//! stand in front. 200 says that the event was taken, not that a workload follows the image. A request carries one tag;
//! of several the first is told.

use jiff::Timestamp;
use serde_json::json;

use super::poke::{classify_in_cluster, current, first_tag, held, image_push, post_json};
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `keel` target.
    pub struct Keel {
        /// Keel's URL, to which /v1/webhooks/native is added.
        url: BaseUrl,
        /// The password for `username` or, without one, a bearer token. Left out: Keel checks nothing.
        secret: Option<SecretRef>,
        /// The administrator's user name (BASIC_AUTH_USER).
        username: Option<String>,
    }
}

impl Target for Keel {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        first_tag(image_push(event)?).map(|_| ())
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let push = image_push(&delivery.event).map_err(RenderError::Unfit)?;
        let mut body = json!({ "name": push.repository, "tag": first_tag(push).map_err(RenderError::Unfit)? });
        if let Some(digest) = &push.digest {
            body["digest"] = digest.as_str().into();
        }
        let mut request = post_json(self.url.join("/v1/webhooks/native"), &body)?;
        if let Some(secret) = &self.secret {
            let secret = current(secrets, secret)?.expose();
            match &self.username {
                Some(username) => request.basic(username, secret)?,
                None => request.bearer(secret)?,
            }
        }
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            401 => held("401: Keel wants its administrator's user name and password (`username` and `secret`)"),
            404 => held("404: Keel does not answer at this URL; does it end before /v1/webhooks/native?"),
            _ => classify_in_cluster(response, now),
        }
    }
}
