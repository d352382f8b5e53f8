//! Gitea, and Forgejo, which has the same API: a repository there, who we are, and what its answers mean.
//!
//! `Authorization: token …`, with the scope `write:repository` for statuses and `write:issue` for comments, those on pull
//! requests too; who sets a status has to be one who may write to the repository's code. All comments on a pull request come
//! at once. No limits of texts are documented; ours are those of GitHub.
//!
//! Oddities: the status of a commit that is not there is a 500, which says why to administrators only. So the commit is
//! asked for then, of which a 404 says that it is not there.
//! Source: the API's description (/swagger.v1.json), routers/api/v1 (api.go for scopes and rights, repo/status.go,
//! repo/commits.go) and services/context/api.go of go-gitea/gitea, and of forgejo; forgejo.org, "Access Token Scope" (read
//! 2026-11).

use ::http::Method;
use ::http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::code_host::CodeHost;
use super::github::Repository;
use super::message::Step;
use super::poke::{current, held};
use super::{Outbound, RenderError, Response, classify_by_status, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// The keys of targets at Gitea.
    pub struct Gitea {
        /// The repository, as owner/name.
        repository: Repository,
        /// A token with the scope write:repository for statuses, write:issue for comments.
        token: SecretRef,
        /// Another Gitea or Forgejo than gitea.com.
        api_url: BaseUrl = BaseUrl::known("https://gitea.com"),
    }
}

impl CodeHost for Gitea {
    const DESCRIPTION: usize = 140;
    const STATUS_URL: usize = 2000;
    const COMMENT: usize = 65_536;
    const UPDATE: Method = Method::PATCH;

    fn repository(&self) -> Option<&str> {
        Some(&self.repository.0)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Outbound, RenderError> {
        let url = self.api_url.join(&format!("/api/v1/repos/{}{path}", self.repository.0));
        let mut request = Outbound::new(method, url);
        let token = current(secrets, &self.token)?;
        request.credential(AUTHORIZATION, &[b"token ", token.expose()].concat())?;
        Ok(request)
    }

    fn status(&self, step: Step, context: &str, description: &str) -> Value {
        let state = if step == Step::Trigger { "failure" } else { "success" };
        json!({ "state": state, "context": context, "description": description })
    }

    fn comments(&self, number: u64) -> String {
        format!("/issues/{number}/comments")
    }

    fn page(&self, _page: u32) -> Option<String> {
        None
    }

    fn comment(&self, _number: u64, id: u64) -> String {
        format!("/issues/comments/{id}")
    }

    fn commit(&self, hash: &str) -> Option<String> {
        Some(format!("/git/commits/{hash}?stat=false&verification=false&files=false"))
    }

    fn classify(&self, response: &Response, right: &str, what: &str, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            400 | 422 => Outcome::Rejected { reason: format!("{}: Gitea refuses {what}: {said}", response.status) },
            401 => held(format!("401: Gitea does not know the token, or it has expired: {said}")),
            403 => held(format!("403: the token may not {right}: {said}")),
            404 => held("404: Gitea shows the token no such repository; are its name and the token's access right?"),
            _ => classify_by_status(response, now),
        }
    }
}
