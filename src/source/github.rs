//! GitHub webhooks, of repositories, organisations and Apps, as a Git host's: how they are signed, and the package
//! events among them, are in [`github_hook`]; its security alerts are in [`github_alert`].
//!
//! The id in `X-GitHub-Delivery` is one for all hooks that an event goes to, and a redelivery repeats it.
//! Source: docs.github.com/webhooks/webhook-events-and-payloads (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic};
use super::git::{self, Commit, PullRequest, Release, Repository, subject};
use super::github_hook::{self, Envelope, SIGNATURE};
use super::json::text;
use super::{Found, ParseError, Parsed, Request, Source, github_alert, json};
use crate::domain::event::{Detail, GitEvent};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::OneOrMany;

/// The events that are relayed unless `events` says otherwise: those about code, packages, releases, workflows,
/// checks, deployments and dispatches. `create` and `delete` only repeat what `push` says.
const EVENTS: &[&str] = &[
    "push",
    "pull_request",
    "package",
    "registry_package",
    "release",
    "workflow_run",
    "check_run",
    "check_suite",
    "status",
    "deployment",
    "deployment_status",
    "repository_dispatch",
];

/// GitHub lists at most this many commits of a push.
const MOST_COMMITS: usize = 2048;

crate::keys! {
    /// A `github` source.
    pub struct Github {
        /// The webhook's secret; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// The events that are relayed, by the name in `X-GitHub-Event`. Left out: those about code, packages,
        /// releases, workflows, checks, deployments and dispatches. Of security only what is listed here is relayed:
        /// `dependabot_alert`, `code_scanning_alert` and `secret_scanning_alert` become alerts.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Source for Github {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        auth::hmac(request, SIGNATURE, &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let mut delivery = Envelope::of(&request)?;
        let mut parsed = if delivery.event == "ping" {
            Parsed::ignored("ping", "a ping; the webhook works")
        } else if !git::relays(self.events.as_ref(), EVENTS, &[&delivery.event]) {
            Parsed::ignored(&delivery.event, git::NOT_RELAYED)
        } else if matches!(delivery.event.as_str(), "package" | "registry_package") {
            github_hook::package(&delivery)?
        } else if github_alert::EVENTS.contains(&delivery.event.as_str()) {
            let parsed = github_alert::parse(&delivery)?;
            delivery.body = github_alert::without_secret(&delivery)?;
            parsed
        } else {
            event(&delivery, self.deletes)?
        };
        parsed.delivery_id = delivery.id.clone();
        if !parsed.events.is_empty() {
            parsed.original = Some(delivery.original());
        }
        Ok(parsed)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        SIGNATURE.sign(request, &self.secret.0[0], secrets)
    }

    fn other_kinds(&self) -> &'static [&'static str] {
        &["image_push", "alert"]
    }
}

// What is read of the payloads. GitHub leaves out or nulls nearly every field somewhere.

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Account {
    login: Option<String>,
}

#[derive(Deserialize)]
struct App {
    slug: Option<String>,
}

/// `workflow_run`, `check_run` and `check_suite` look alike in what matters.
#[derive(Deserialize)]
struct Run {
    name: Option<String>,
    app: Option<App>,
    status: Option<String>,
    conclusion: Option<String>,
    head_sha: Option<String>,
    head_branch: Option<String>,
    head_repository: Option<Repository>,
    html_url: Option<String>,
    check_suite: Option<Box<Run>>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    completed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Deployment {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    environment: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct DeploymentStatus {
    state: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    repository: Option<Repository>,
    sender: Option<Account>,
    // push, create, delete; also the commit and branch of `status` and `repository_dispatch`
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    forced: bool,
    compare: Option<String>,
    pusher: Option<Named>,
    head_commit: Option<Commit>,
    #[serde(default, deserialize_with = "json::list")]
    commits: Vec<Commit>,
    branch: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    branches: Vec<Named>,
    sha: Option<String>,
    state: Option<String>,
    context: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
    release: Option<Release>,
    workflow_run: Option<Run>,
    check_run: Option<Run>,
    check_suite: Option<Run>,
    deployment: Option<Deployment>,
    deployment_status: Option<DeploymentStatus>,
    pull_request: Option<PullRequest>,
}

/// Host and path of a repository.
fn repository_name(repository: &Repository) -> Option<String> {
    let full_name = repository.full_name.as_deref()?;
    let host = repository.html_url.as_deref().and_then(git::host);
    Some(format!("{}/{full_name}", host.as_deref().unwrap_or("github.com")))
}

fn event(delivery: &Envelope, deletes: bool) -> Result<Parsed, ParseError> {
    let payload: Payload = json::read(&delivery.body)?;
    let mut git = GitEvent { event: delivery.event.clone(), action: text(payload.action), ..GitEvent::default() };
    let mut time = payload.updated_at;
    let Some(repository) = payload.repository else {
        if EVENTS.contains(&git.event.as_str()) {
            return Err(ParseError::Malformed("the body's `repository` is missing".into()));
        }
        return Ok(Parsed::ignored(git::summary(&git), "the event is about no repository"));
    };
    git.repository = repository_name(&repository);
    let own = repository.full_name;
    git.clone_urls = [&repository.clone_url, &repository.ssh_url].into_iter().flatten().cloned().collect();
    git.url = repository.html_url;
    git.actor = text(payload.sender.and_then(|sender| sender.login));
    git.before = payload.before;
    git.commit = text(payload.after.or(payload.sha));
    git.branch = text(payload.branch);
    git.status = text(payload.state);
    git.name = text(payload.context);
    git.message = subject(payload.description);
    git.url = text(payload.target_url).or(text(payload.compare)).or(git.url);
    git.deleted = payload.deleted || delivery.event == "delete";
    match delivery.event.as_str() {
        "push" => {
            let reference = payload.reference.ok_or(ParseError::Malformed("the body's `ref` is missing".into()))?;
            git.set_reference(&reference);
            git.actor = text(payload.pusher.and_then(|pusher| pusher.name)).or(git.actor);
            // What a forced push takes away is in no list.
            git.paths_truncated = payload.commits.len() >= MOST_COMMITS || payload.forced;
            time = git::set_commits(&mut git, payload.head_commit, payload.commits);
        }
        // Here `ref` is a bare name, and `ref_type` says what of.
        "create" | "delete" => {
            git::set_bare_reference(&mut git, payload.ref_type.as_deref(), payload.reference.as_deref());
        }
        // A commit may be on several branches; then none is the one.
        "status" => {
            if let [Named { name: Some(branch) }] = payload.branches.as_slice() {
                git.branch = Some(branch.clone());
            }
        }
        _ => {}
    }
    if let Some(release) = payload.release {
        if !release.is_published(&git) {
            return Ok(Parsed::ignored(git::summary(&git), git::NOT_PUBLISHED));
        }
        time = git::set_release(&mut git, release).or(time);
    }
    let is_workflow = payload.workflow_run.is_some();
    if let Some(run) = payload.workflow_run.or(payload.check_run).or(payload.check_suite) {
        if git.action.as_deref() != Some("completed") {
            return Ok(Parsed::ignored(git::summary(&git), git::NOT_COMPLETED));
        }
        let suite = run.check_suite.and_then(|suite| suite.head_branch);
        // Checks name no branch for a fork's commits.
        let is_own = !is_workflow || git::is_own(run.head_repository.as_ref(), own.as_deref());
        git.branch = text(run.head_branch.or(suite)).filter(|_| is_own);
        git.commit = text(run.head_sha);
        git.status = text(run.conclusion).or(text(run.status));
        // A suite has no name; the App whose checks it holds stands for it.
        git.name = text(run.name).or(text(run.app.and_then(|app| app.slug)));
        git.url = run.html_url.or(git.url);
        time = run.updated_at.or(run.completed_at).or(time);
    }
    if let Some(deployment) = payload.deployment {
        git.commit = text(deployment.sha);
        // A branch, a tag or the commit itself, and nothing says which.
        git.branch = text(deployment.reference).filter(|reference| Some(reference) != git.commit.as_ref());
        git.name = text(deployment.environment);
        time = deployment.created_at.or(time);
    }
    if let Some(status) = payload.deployment_status {
        git.status = text(status.state);
        git.message = subject(status.description);
        git.url = text(status.target_url).or(git.url);
        time = status.updated_at.or(time);
    }
    if let Some(pull) = payload.pull_request {
        time = git::set_pull_request(&mut git, pull, own.as_deref()).or(time);
    }
    let summary = git::summary(&git);
    if git.deleted && !deletes {
        return Ok(Parsed::ignored(summary, git::DELETED));
    }
    let found = Found { identity: delivery.id.clone(), detail: Detail::Git(Box::new(git)), time };
    Ok(Parsed::events(summary, vec![found]))
}
