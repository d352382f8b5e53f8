//! GitLab: a project there, who we are, and what its answers mean.
//!
//! `PRIVATE-TOKEN` takes tokens of people, groups and projects. Of their scopes `api` alone lets them write by the API;
//! `write_repository` is for Git. A project is named by its number or its path, percent-encoded. Name, description and URL of
//! a status have up to 255 characters each, a note a million.
//!
//! Oddities: a status that is set to what it is already is refused with 400 and "Cannot transition status"; that is
//! taken for done. Setting a status makes a pipeline where the commit has none. A 404 says what there is not: "404 Project
//! Not Found", but also "404 Commit Not Found", or "404 References for commit Not Found" where no branch has it any more.
//! 409 is another update of the same commit's status, which is over within seconds.
//! Sources: docs.gitlab.com, "Commits API" (set the pipeline status of a commit), "Notes API", and "Personal access tokens"
//! for the scopes; gitlab-org/gitlab, lib/api/commit_statuses.rb and app/services/ci/create_commit_status_service.rb for
//! the answers, and for the lengths issues 501079 (a status's URL) and 426314 (a note). What is not
//! documented is the length of a status's name and description: they are taken to be like its URL's (read 2026-11).

use ::http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::code_host::CodeHost;
use super::message::Step;
use super::poke::{busy, current, held};
use super::{Outbound, RenderError, Response, classify_by_status, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, BaseUrl, Problems, Read, parsed};

crate::keys! {
    /// The keys of targets at GitLab.
    pub struct Gitlab {
        /// The project, as group/name or its number.
        repository: Project,
        /// A token of a project, a group or a person, with the scope api.
        token: SecretRef,
        /// Another GitLab than gitlab.com.
        api_url: BaseUrl = BaseUrl::known("https://gitlab.com"),
    }
}

/// A project: its number, or its path with all groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project(String);

impl Project {
    /// The URL of `path` below the project in the API at `api`.
    pub fn url(&self, api: &BaseUrl, path: &str) -> String {
        api.join(&format!("/api/v4/projects/{}{path}", self.0.replace('/', "%2F")))
    }
}

impl Read for Project {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        if let Some(number) = value.as_u64() {
            return Some(Self(number.to_string()));
        }
        parsed(value, at, problems, |text| {
            let part =
                |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            let number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            match number || (text.contains('/') && text.split('/').all(part)) {
                true => Ok(Self(text.into())),
                false => Err("expected a project as group/name or its number".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^([0-9]+|[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+)$" },
        ] })
    }
}

impl CodeHost for Gitlab {
    const DESCRIPTION: usize = 255;
    const STATUS_URL: usize = 255;
    const COMMENT: usize = 1_000_000;
    const UPDATE: Method = Method::PUT;

    fn repository(&self) -> Option<&str> {
        Some(self.repository.0.as_str()).filter(|path| path.contains('/'))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Outbound, RenderError> {
        let mut request = Outbound::new(method, self.repository.url(&self.api_url, path));
        let token = current(secrets, &self.token)?;
        request.credential(HeaderName::from_static("private-token"), token.expose())?;
        Ok(request)
    }

    fn status(&self, step: Step, context: &str, description: &str) -> Value {
        let state = if step == Step::Trigger { "failed" } else { "success" };
        json!({ "state": state, "name": context, "description": description })
    }

    fn comments(&self, number: u64) -> String {
        format!("/merge_requests/{number}/notes")
    }

    fn page(&self, page: u32) -> Option<String> {
        Some(format!("?sort=asc&order_by=created_at&per_page=100&page={page}"))
    }

    fn comment(&self, number: u64, id: u64) -> String {
        format!("/merge_requests/{number}/notes/{id}")
    }

    fn classify(&self, response: &Response, right: &str, what: &str, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            400 if said.contains("Cannot transition status") => Outcome::Delivered,
            400 | 422 => Outcome::Rejected { reason: format!("{}: GitLab refuses {what}: {said}", response.status) },
            401 => held(format!("401: GitLab does not know the token, or it has expired: {said}")),
            403 => held(format!("403: the token may not {right}: {said}")),
            404 if ["404 Commit Not Found", "404 References for commit"].iter().any(|one| said.contains(one)) => {
                Outcome::Rejected { reason: format!("404: the project has no such commit, or no longer: {said}") }
            }
            404 => held(format!(
                "404: GitLab shows the token no such project; are its name and the token's access right? {said}"
            )),
            409 => busy(format!("409: GitLab is at {what} already: {said}")),
            _ => classify_by_status(response, now),
        }
    }
}
