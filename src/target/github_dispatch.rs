//! GitHub's repository dispatch: starts workflows with `on: repository_dispatch`.
//!
//! `POST /repos/{owner}/{repo}/dispatches` with `event_type` (up to 100 characters) and `client_payload` (up to ten keys
//! at its top, less than 64 KB). The normalised event is under `client_payload.event`, so that it may have more than ten
//! fields. The token needs write access to Contents. Success is 204. Source: docs.github.com, "Create a repository dispatch
//! event"; github/rest-api-description (read 2026-11).
//!
//! Oddities: only workflows on the default branch run. A dispatch is itself an event of the repository: what would start
//! it anew without end is not told.

use ::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::code_host::CodeHost as _;
use super::github::Github;
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::Resolved;
use crate::relay::format::{At, Problems, Read, parsed};

/// What a payload may take, with some room below GitHub's 64 KB.
const MAX_PAYLOAD: usize = 60_000;

/// The name that workflows know the event by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(String);

impl Read for EventType {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| match text.chars().count() {
            1..=100 => Ok(Self(text.into())),
            _ => Err("expected 1 to 100 characters".into()),
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 100 })
    }
}

crate::keys! {
    /// A `github-dispatch` target.
    pub struct GithubDispatch {
        ..github: Github,
        /// The event_type. Left out: the event's kind, image_push, git or alert.
        event_type: Option<EventType>,
    }
}

impl GithubDispatch {
    fn body(&self, event: &Event) -> Result<String, RenderError> {
        let event_type = self.event_type.as_ref().map_or(event.kind(), |chosen| &chosen.0);
        // A push of very many files, or a very long text, is better told without it than not at all.
        let event = event
            .json_within(MAX_PAYLOAD)
            .ok_or_else(|| RenderError::Unfit("the event is larger than a dispatch may be (64 KB)".into()))?;
        Ok(format!(r#"{{"event_type":{},"client_payload":{{"event":{event}}}}}"#, json!(event_type)))
    }
}

impl Target for GithubDispatch {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        let Detail::Git(git) = &event.detail else { return Ok(()) };
        let path = git.repository.as_deref().and_then(|repository| repository.split_once('/')).map(|(_, path)| path);
        let own = path.zip(self.github.repository()).is_some_and(|(path, own)| path.eq_ignore_ascii_case(own));
        if git.event == "repository_dispatch" && own {
            return Err("a dispatch in this repository would dispatch itself without end".into());
        }
        Ok(())
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let mut request = self.github.request(Method::POST, "/dispatches", secrets, now)?;
        request.set_body("application/json", self.body(&delivery.event)?);
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        self.github.classify(response, "write this repository's Contents", "the dispatch", now)
    }
}
