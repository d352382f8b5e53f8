//! GitLab's pipeline triggers: starts a pipeline of a project.
//!
//! `POST /api/v4/projects/:id/trigger/pipeline` as a form with `token`, `ref` and `variables[NAME]`; the id is a number or
//! the project's path, percent-encoded. Jobs find `$CI_PIPELINE_SOURCE == "trigger"` and our variables `SLUICE_KIND`,
//! `SLUICE_ID`, `SLUICE_SOURCE`, `SLUICE_REPOSITORY`, `SLUICE_TAG`, `SLUICE_TAGS` (with commas), `SLUICE_DIGEST`,
//! `SLUICE_EVENT`, `SLUICE_REF`, `SLUICE_COMMIT`, `SLUICE_STATUS` and `SLUICE_SEVERITY`, each where it is known. Success is
//! 201. Source: docs.gitlab.com, "Pipeline trigger tokens API", "Trigger pipelines with the API" and "Where variables can be
//! used" (read 2026-11).
//!
//! Oddities: the token travels in the form, since a URL is what proxies log. GitLab and its runner expand `$NAME`, `${NAME}`
//! and `%NAME%` in values, secrets and all: free texts (messages, titles) are no variables, and what is one (a branch can be
//! named so) loses these characters. Jobs should quote what they use. A project
//! may forbid pipeline variables, and new ones do until a maintainer sets a role that may use them; then GitLab refuses
//! the request with "Insufficient permissions to set pipeline variables" (gitlab-org/gitlab issues 557381 and 502382).

use jiff::Timestamp;

use super::gitlab::Project;
use super::poke::{current, held};
use super::{Class, Outbound, RenderError, Response, Target, classify_by_status, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `gitlab-trigger` target.
    pub struct GitlabTrigger {
        /// The project, as group/name or its number.
        repository: Project,
        /// One of the project's pipeline trigger tokens.
        token: SecretRef,
        /// The branch or tag whose pipeline runs.
        reference as "ref": String = "main".to_owned(),
        /// Another GitLab than gitlab.com.
        api_url: BaseUrl = BaseUrl::known("https://gitlab.com"),
    }
}

/// The variables that tell of `event`.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("SLUICE_KIND", event.kind().to_owned()),
        ("SLUICE_ID", event.id.clone()),
        ("SLUICE_SOURCE", event.source.to_string()),
    ];
    let mut add = |name, value: Option<&str>| all.extend(value.map(|value| (name, value.replace(['$', '%'], ""))));
    match &event.detail {
        Detail::ImagePush(push) => {
            add("SLUICE_REPOSITORY", Some(&push.repository));
            add("SLUICE_TAG", push.tag.as_deref());
            add("SLUICE_TAGS", (!push.tags.is_empty()).then(|| push.tags.join(",")).as_deref());
            add("SLUICE_DIGEST", push.digest.as_deref());
        }
        Detail::Git(git) => {
            add("SLUICE_REPOSITORY", git.repository.as_deref());
            add("SLUICE_EVENT", Some(&git.event));
            add("SLUICE_REF", git.reference.as_deref());
            add("SLUICE_TAG", git.tag.as_deref());
            add("SLUICE_COMMIT", git.commit.as_deref());
        }
        Detail::Alert(group) => {
            add("SLUICE_STATUS", Some(group.status().word()));
            add("SLUICE_SEVERITY", Some(group.severity().word()));
        }
    }
    all
}

impl Target for GitlabTrigger {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let token = current(secrets, &self.token)?;
        let token = token.expose_text().ok_or_else(|| {
            RenderError::UnusableSecret("the secret for `token` is no text, and a trigger token is one".into())
        })?;
        let url = self.repository.url(&self.api_url, "/trigger/pipeline");
        let variables = variables(&delivery.event);
        let variables: Vec<_> = variables.iter().map(|(name, value)| (format!("variables[{name}]"), value)).collect();
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let fields = [("token", token), ("ref", &self.reference)].into_iter().chain(variables);
        Ok(vec![Outbound::form(url, fields)])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match response.status {
            400 if said.contains("Insufficient permissions to set pipeline variables") => held(
                "400: the project lets nobody set pipeline variables, which tell of the event; raise the minimum role to \
                 use pipeline variables in its CI/CD settings",
            ),
            400 => Outcome::Rejected {
                reason: format!(
                    "400: GitLab starts no pipeline: {said}; is there such a `ref`, and does a job run for triggers?"
                ),
            },
            401 | 403 => held(format!("{}: GitLab refuses the trigger token: {said}", response.status)),
            404 => held("404: GitLab has no such project, or the token is not one of its pipeline trigger tokens"),
            _ => classify_by_status(response, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403 | 404)
    }
}
