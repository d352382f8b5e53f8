//! Jenkins with the Generic Webhook Trigger plugin, `/generic-webhook-trigger/invoke`.
//!
//! The plugin starts the jobs whose trigger has the token of the request, which it finds in `Authorization: Bearer …`
//! among other places; jobs pick variables out of the JSON body. We chose it over the GitHub plugin's endpoint because
//! that takes Git pushes only, and image pushes are what a relay is for. Source:
//! jenkinsci/generic-webhook-trigger-plugin, `GenericWebHookRequestReceiver.java` (read 2026-11).
//!
//! Oddities: 404 says that no job has this token. A refusal by its allow-list (403) repeats the request's headers, token
//! included, and a failure (500) what jobs made of the request: no answer's text goes into a reason. 200 says that jobs
//! were found, even if their filter did not match.

use jiff::Timestamp;

use super::poke::{current, held, post_json};
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `jenkins` target. It gets the normalised event.
    pub struct Jenkins {
        /// Jenkins' own URL, to which /generic-webhook-trigger/invoke is added.
        url: BaseUrl,
        /// The token of the jobs' Generic Webhook Trigger.
        secret: SecretRef,
    }
}

impl Target for Jenkins {
    fn class(&self) -> Class {
        Class::InCluster
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let token = current(secrets, &self.secret)?;
        let mut request = post_json(self.url.join("/generic-webhook-trigger/invoke"), &delivery.event)?;
        request.bearer(token.expose())?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            403 => held(
                "403: the allow-list of the Generic Webhook Trigger plugin, or what stands before Jenkins, refuses us",
            ),
            404 => held(
                "404: no job has a Generic Webhook Trigger with this token, or the plugin is not there, or the URL does \
                 not end before /generic-webhook-trigger",
            ),
            status @ (400 | 500) => Outcome::Retry {
                blame: Blame::Event,
                reason: format!("{status}: Jenkins could not start every job; its log says why"),
            },
            _ => {
                let silent = Response { body: bytes::Bytes::new(), ..response.clone() };
                classify_by_status(&silent, now)
            }
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 404)
    }
}
