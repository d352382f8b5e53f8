//! Any HTTP endpoint.

use ::http::header::AUTHORIZATION;
use jiff::Timestamp;

use super::{Class, Outbound, RenderError, Response, Target, classify_by_status};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::HttpUrl;

crate::words! {
    /// What the endpoint gets as body.
    pub enum Body {
        /// The normalised event.
        Event = "event",
        /// The sender's own body, unchanged.
        Passthrough = "passthrough",
    }
}

crate::keys! {
    /// How the endpoint knows us.
    pub struct Auth {
        /// `Authorization: Bearer …`.
        bearer: SecretRef,
    }
}

crate::keys! {
    /// An `http` target.
    pub struct Http {
        /// The endpoint.
        url: HttpUrl,
        /// How it knows us. Left out: not at all.
        auth: Option<Auth>,
        /// What it gets.
        body: Body = Body::Event,
    }
}

impl Target for Http {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn needs_original(&self, _event: &Event) -> bool {
        self.body == Body::Passthrough
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let url = self.url.0.to_string();
        let mut request = match (&delivery.original, self.body) {
            (Some(original), Body::Passthrough) => {
                let mut request = Outbound::post(url, "application/octet-stream", original.body.clone());
                request.header("content-type", &original.content_type)?;
                request
            }
            _ => {
                let body = serde_json::to_vec(&delivery.event).map_err(|e| RenderError::Unfit(e.to_string()))?;
                Outbound::post(url, "application/json", body)
            }
        };
        if let Some(Auth { bearer }) = &self.auth {
            let token = secrets.current(bearer).ok_or_else(|| RenderError::NoSecret(bearer.clone()))?;
            request.credential(AUTHORIZATION, &[b"Bearer ", token.expose()].concat())?;
        }
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        classify_by_status(response, now)
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        crate::relay::format::Keys::secrets(self, seen);
    }
}
