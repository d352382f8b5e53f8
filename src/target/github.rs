//! GitHub: who we are there, and what its answers mean.
//!
//! A token of a person or a machine user goes out as it is. A GitHub App has none: it signs a statement of who it is (a
//! JWT, RS256, good for ten minutes at most, begun a minute ago against clocks that differ) and is given a token of its
//! installation for it, which ends after an hour: `POST /app/installations/{id}/access_tokens`, 201 with `token` and
//! `expires_at`. The issuer is the App's id or, better, its client id.
//!
//! Oddities: a token that may not write gets 404 as well as 403. Rate limits come as 403 or 429: with `retry-after`, or
//! with `x-ratelimit-remaining: 0` and the time in `x-ratelimit-reset`, or with words alone, and then a minute is asked
//! for. A commit takes 1,000 statuses of one context, and refuses more with 422.
//! Sources: docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App", "Create an installation access token
//! for an app", "Create a commit status", "Create an issue comment" and "Rate limits for the REST API" (read 2026-11).

use std::time::Duration;

use ::http::header::ACCEPT;
use ::http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::code_host::CodeHost;
use super::message::Step;
use super::pause::{self, asked};
use super::poke::{current, held};
use super::{Outbound, RenderError, Response, Statement, TokenRequest, classify_by_status, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, BaseUrl, Fields, KeyDescription, Keys, Problems, Read, parsed};

crate::keys! {
    /// The keys of targets at GitHub.
    pub struct GithubKeys {
        /// The repository, as owner/name.
        repository: Repository,
        /// A token that may do what is asked for; or `app_id`, `installation_id` and `private_key` of a GitHub App.
        token: Option<SecretRef>,
        /// The client id of a GitHub App, or its app id.
        app_id: Option<Id>,
        /// The number of the App's installation that the repository belongs to.
        installation_id: Option<Id>,
        /// A private key of the App, as GitHub hands it out (PEM).
        private_key: Option<SecretRef>,
        /// Another API than GitHub's own, such as https://HOST/api/v3 of an Enterprise Server.
        api_url: BaseUrl = BaseUrl::known("https://api.github.com"),
    }
}

/// `owner/name` of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(pub String);

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

/// What a GitHub App or its installation is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Read for Id {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        if let Some(number) = value.as_u64() {
            return Some(Self(number.to_string()));
        }
        parsed(value, at, problems, |text| {
            let valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
            valid.then(|| Self(text.into())).ok_or_else(|| "expected an id: a number, or letters and digits".into())
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[A-Za-z0-9.]+$" },
        ] })
    }
}

/// A repository at GitHub, and who we are there.
#[derive(Debug, Clone)]
pub struct Github {
    keys: GithubKeys,
    identity: Identity,
}

#[derive(Debug, Clone)]
enum Identity {
    Token(SecretRef),
    App { id: Id, installation: Id, private_key: SecretRef },
}

impl Keys for Github {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = GithubKeys::take(fields)?;
        let identity = match (&keys.token, &keys.app_id, &keys.installation_id, &keys.private_key) {
            (Some(token), None, None, None) => Identity::Token(token.clone()),
            (None, Some(id), Some(installation), Some(private_key)) => {
                Identity::App { id: id.clone(), installation: installation.clone(), private_key: private_key.clone() }
            }
            _ => {
                let at = fields.at();
                let words = "expected either `token`, or `app_id`, `installation_id` and `private_key`";
                fields.problems().error(&at, words);
                return None;
            }
        };
        Some(Self { keys, identity })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        GithubKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

impl Github {
    fn url(&self, path: &str) -> String {
        self.keys.api_url.join(path)
    }
}

/// What GitHub wants of every request.
fn set_headers(request: &mut Outbound) {
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    let version = HeaderName::from_static("x-github-api-version");
    request.headers.insert(version, HeaderValue::from_static("2022-11-28"));
}

impl CodeHost for Github {
    const DESCRIPTION: usize = 140;
    const STATUS_URL: usize = 2000;
    const COMMENT: usize = 65_536;
    const UPDATE: Method = Method::PATCH;

    fn repository(&self) -> Option<&str> {
        Some(&self.keys.repository.0)
    }

    fn request(&self, method: Method, path: &str, secrets: &Resolved, now: Timestamp) -> Result<Outbound, RenderError> {
        let mut request = Outbound::new(method, self.url(&format!("/repos/{}{path}", self.keys.repository.0)));
        set_headers(&mut request);
        match &self.identity {
            Identity::Token(token) => {
                request.bearer(current(secrets, token)?.expose())?;
            }
            Identity::App { id, installation, private_key } => {
                let path = format!("/app/installations/{}/access_tokens", installation.0);
                let mut ask = Outbound::new(Method::POST, self.url(&path));
                set_headers(&mut ask);
                let now = now.as_second();
                request.token = Some(Box::new(TokenRequest {
                    request: ask,
                    claims: json!({ "iat": now - 60, "exp": now + 540, "iss": id.0 }),
                    key: current(secrets, private_key)?.clone(),
                    statement: Statement::Bearer,
                }));
            }
        }
        Ok(request)
    }

    fn status(&self, step: Step, context: &str, description: &str) -> Value {
        let state = if step == Step::Trigger { "failure" } else { "success" };
        json!({ "state": state, "context": context, "description": description })
    }

    fn comments(&self, number: u64) -> String {
        format!("/issues/{number}/comments")
    }

    fn page(&self, page: u32) -> Option<String> {
        Some(format!("?per_page=100&page={page}"))
    }

    fn comment(&self, _number: u64, id: u64) -> String {
        format!("/issues/comments/{id}")
    }

    fn classify(&self, response: &Response, right: &str, what: &str, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        let status = response.status;
        match status {
            403 | 429 => match rate_limit(response, &said, now) {
                Some(wait) => Outcome::RetryAfter { wait, reason: format!("{status}: GitHub's rate limit: {said}") },
                None => held(format!("{status}: the token may not {right}: {said}")),
            },
            401 => held(format!("401: GitHub does not know the token, or it has expired: {said}")),
            404 => held("404: GitHub shows the token no such repository; are its name and the token's access right?"),
            422 => Outcome::Rejected { reason: format!("422: GitHub refuses {what}: {said}") },
            _ => classify_by_status(response, now),
        }
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
    worded.then_some(pause::MINUTE)
}
