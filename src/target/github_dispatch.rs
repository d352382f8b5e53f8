//! GitHub's repository dispatch: starts workflows with `on: repository_dispatch`.
//!
//! `POST /repos/{owner}/{repo}/dispatches` with `event_type` (up to 100 characters) and `client_payload` (up to ten keys
//! at its top, less than 64 KB). The normalised event is under `client_payload.event`, so that it may have more than ten
//! fields. The token needs write access to Contents. Success is 204. Source: docs.github.com, "Create a repository dispatch
//! event" and "Rate limits for the REST API"; github/rest-api-description (read 2026-11).
//!
//! Oddities: a token that may not write gets 404 as well as 403. Rate limits come as 403 or 429: with `retry-after`, or
//! with `x-ratelimit-remaining: 0` and the time in `x-ratelimit-reset`, or with words alone, and then a minute is asked
//! for. Only workflows on the default branch run. A dispatch is itself an event of the repository: what would start it
//! anew without end is not told.

use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION};
use ::http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pause::{self, asked};
use super::poke::{current, held};
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, BaseUrl, Problems, Read, parsed};

/// What a payload may take, with some room below GitHub's 64 KB.
const MAX_PAYLOAD: usize = 60_000;

/// `owner/name` of a repository at GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(String);

impl Read for Repository {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let valid = |part: &str| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            };
            match text.split_once('/') {
                Some((owner, name)) if valid(owner) && valid(name) => Ok(Self(text.into())),
                _ => Err("expected a repository as owner/name".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$" })
    }
}

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
        /// The repository, as owner/name.
        repository: Repository,
        /// A token that may write its Contents.
        token: SecretRef,
        /// The event_type. Left out: the event's kind, image_push, git or alert.
        event_type: Option<EventType>,
        /// Another API than GitHub's own, such as https://HOST/api/v3 of an Enterprise Server.
        api_url: Option<BaseUrl>,
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
        if git.event == "repository_dispatch" && path.is_some_and(|path| path.eq_ignore_ascii_case(&self.repository.0))
        {
            return Err("a dispatch in this repository would dispatch itself without end".into());
        }
        Ok(())
    }

    fn needs_original(&self, _event: &Event) -> bool {
        false
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let token = current(secrets, &self.token)?;
        let path = format!("/repos/{}/dispatches", self.repository.0);
        let url =
            self.api_url.as_ref().map_or_else(|| format!("https://api.github.com{path}"), |base| base.join(&path));
        let mut request = Outbound::post(url, "application/json", self.body(&delivery.event)?);
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        let version = HeaderName::from_static("x-github-api-version");
        request.headers.insert(version, HeaderValue::from_static("2022-11-28"));
        request.credential(AUTHORIZATION, &[b"Bearer ", token.expose()].concat())?;
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        let status = response.status;
        match status {
            403 | 429 => match rate_limit(response, &said, now) {
                Some(wait) => Outcome::RetryAfter { wait, reason: format!("{status}: GitHub's rate limit: {said}") },
                None => held(format!("{status}: the token may not write this repository's Contents: {said}")),
            },
            401 => held(format!("401: GitHub does not know the token, or it has expired: {said}")),
            404 => held("404: GitHub shows the token no such repository; are its name and the token's access right?"),
            422 => Outcome::Rejected { reason: format!("422: GitHub refuses the dispatch: {said}") },
            _ => classify_by_status(response, now),
        }
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        crate::relay::format::Keys::secrets(self, seen);
    }
}

/// How long a 403 or 429 asks us to wait; `None` where it is no rate limit.
fn rate_limit(response: &Response, said: &str, now: Timestamp) -> Option<Duration> {
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
    let used_up = header("x-ratelimit-remaining") == Some("0");
    let reset = header("x-ratelimit-reset").and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
    let reset =
        reset.filter(|_| used_up).map(|reset| Duration::try_from(reset.duration_since(now)).unwrap_or_default());
    if let Some(wait) = asked(response, now).max(reset) {
        return Some(wait.min(pause::LONGEST));
    }
    let worded = used_up || response.status == 429 || said.to_ascii_lowercase().contains("rate limit");
    worded.then_some(Duration::from_secs(60))
}
