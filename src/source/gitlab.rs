//! GitLab webhooks, of projects and groups, and its system hooks.
//!
//! Two ways to prove itself. The secret token stands verbatim in `X-Gitlab-Token`. The signing token (`whsec_…`) signs
//! as Standard Webhooks has it: `webhook-id`, `webhook-timestamp`, `webhook-signature`. A hook may have both.
//! GitLab gives up after 10 s; after four failures in a row it switches a hook off, for a 4xx until a person switches it
//! on again. `Idempotency-Key` (which `webhook-id` repeats) stays the same over retries.
//! Source: doc/user/project/integrations/webhook_events.md and doc/administration/system_hooks.md of GitLab, merge
//! requests 230944 and 231325 for the signing token (read 2026-08).
//!
//! Oddities: pushes of tags are an event of their own; `commits` holds 20 at most, and `total_commits_count` the truth;
//! `checkout_sha` is the commit where an annotated tag's `after` is the tag; a deletion has zeros in `after`; times are
//! written in three ways; system hooks name the event in the body only, list no paths, and besides `push` send
//! `repository_update`, once for all refs of a push, also where there were too many for a `push` each.
//! `X-Gitlab-Event-UUID` is no identity: events that hooks bring about share it.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic};
use super::git::{self, Commit, subject};
use super::json::text;
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, GitEvent, Original};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, OneOrMany, Problems, Span};

/// The events that are relayed unless `events` says otherwise: those about code, releases, pipelines and deployments.
const EVENTS: &[&str] =
    &["push", "tag_push", "repository_update", "merge_request", "release", "pipeline", "deployment"];

/// The header with the secret token.
const TOKEN: &str = "X-Gitlab-Token";

crate::keys! {
    /// A `gitlab` source. What is set of `token` and `secret` has to fit; at least one of them is needed.
    pub struct Gitlab {
        /// The secret token that GitLab sends in X-Gitlab-Token; several are accepted at once.
        token: Option<OneOrMany<SecretRef>>,
        /// The signing token, `whsec_` and base64; several are accepted at once.
        secret: Option<OneOrMany<SecretRef>>,
        /// How long before or after now a signed request may have been sent.
        tolerance: Span = Span::seconds(300),
        /// The events that are relayed, by `object_kind` or `event_name` in the body (`tag_push`) or by the name in
        /// X-Gitlab-Event (`Tag Push Hook`). Left out: those about code, releases, pipelines and deployments.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Source for Gitlab {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        // Where both are set, both have to fit: whoever has got hold of the token cannot leave the signature out.
        let token = self.token.as_ref().map(|token| auth::header(request, TOKEN, false, &token.0, secrets));
        let signature = self
            .secret
            .as_ref()
            .map(|secret| auth::standard_webhooks(request, self.tolerance.0, &secret.0, secrets, now));
        match (token, signature) {
            (Some(token), Some(signature)) => token.and(signature),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => Err(AuthError::Missing("this source has neither `token` nor `secret`".into())),
        }
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let header = |name| text(request.header(name).map(str::to_owned));
        if request.media_type().as_deref() != Some("application/json") {
            return Err(ParseError::UnsupportedMediaType("GitLab sends application/json".into()));
        }
        let hook = header("x-gitlab-event").unwrap_or_default();
        // `webhook-id` is the same text, and the one that is signed.
        let key = header("webhook-id").or_else(|| header("idempotency-key"));
        let Kind { object_kind, event_name } = json::read(&request.body)?;
        // Body templates may leave both out.
        let kind = text(object_kind)
            .or(text(event_name))
            .or_else(|| hook.strip_suffix(" Hook").map(|name| name.to_ascii_lowercase().replace(' ', "_")))
            .ok_or(ParseError::Malformed(
                "neither `object_kind` nor the header X-Gitlab-Event names the event".into(),
            ))?;
        let mut parsed = if git::relays(self.events.as_ref(), EVENTS, &[&kind, &hook]) {
            events(&kind, key.as_deref(), &request.body, self.deletes)?
        } else {
            Parsed::ignored(&kind, git::NOT_RELAYED)
        };
        parsed.delivery_id = key.or_else(|| header("x-gitlab-event-uuid"));
        if !parsed.events.is_empty() {
            let names = ["x-gitlab-event", "x-gitlab-event-uuid", "x-gitlab-instance", "idempotency-key"];
            let headers = names.into_iter().filter_map(|name| Some((name.to_owned(), header(name)?))).collect();
            let content_type = "application/json".to_owned();
            parsed.original = Some(Original { content_type, headers, body: request.body.clone() });
        }
        Ok(parsed)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String> {
        if let Some(token) = &self.token {
            let value =
                secrets.current(&token.0[0]).ok_or_else(|| format!("the secret {} cannot be had", token.0[0]))?;
            let value = value.expose_text().ok_or_else(|| format!("the secret {} is no text", token.0[0]))?.to_owned();
            auth::set_header(request, TOKEN, &value)?;
        }
        if let Some(secret) = &self.secret {
            let id = request.header("idempotency-key").or_else(|| request.header("webhook-id"));
            let id = id.ok_or("the header Idempotency-Key is missing")?.to_owned();
            auth::sign_standard_webhooks(request, &id, &secret.0[0], secrets, now)?;
        }
        Ok(())
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        if self.token.is_none() && self.secret.is_none() {
            problems.error(at, "`token` (X-Gitlab-Token) or `secret` (the signing token, whsec_…) is missing");
        }
    }
}

// What is read of the payloads.

#[derive(Deserialize)]
struct Kind {
    object_kind: Option<String>,
    event_name: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    web_url: Option<String>,
    path_with_namespace: Option<String>,
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
}

#[derive(Deserialize)]
struct User {
    username: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Change {
    before: Option<String>,
    after: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct LastCommit {
    id: Option<String>,
}

/// The projects that a merge request goes from and to.
#[derive(Deserialize, Default)]
struct Projects {
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
}

impl Projects {
    /// A fork's branches are a stranger's to name.
    fn differ(&self) -> bool {
        self.source_project_id != self.target_project_id
    }
}

/// What pipelines and merge requests say about themselves.
#[derive(Deserialize)]
struct Attributes {
    // of both
    url: Option<String>,
    // of a pipeline
    name: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    tag: Option<bool>,
    sha: Option<String>,
    status: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    finished_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    created_at: Option<Timestamp>,
    // of a merge request
    action: Option<String>,
    title: Option<String>,
    state: Option<String>,
    source_branch: Option<String>,
    #[serde(flatten)]
    projects: Projects,
    last_commit: Option<LastCommit>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
}

/// The commit of a pipeline, a job or a release. A job's `id` is a number, its pipeline's.
#[derive(Deserialize)]
struct About {
    message: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    project: Option<Project>,
    user: Option<User>,
    user_username: Option<String>,
    user_name: Option<String>,
    object_attributes: Option<Attributes>,
    /// The one that a pipeline is for.
    #[serde(default)]
    merge_request: Option<Projects>,
    commit: Option<About>,
    // push, tag_push
    #[serde(rename = "ref")]
    reference: Option<String>,
    before: Option<String>,
    after: Option<String>,
    checkout_sha: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    commits: Vec<Commit>,
    total_commits_count: Option<usize>,
    // release
    action: Option<String>,
    tag: Option<TagOrWhether>,
    name: Option<String>,
    url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    released_at: Option<Timestamp>,
    // deployment
    status: Option<String>,
    environment: Option<Environment>,
    commit_url: Option<String>,
    commit_title: Option<String>,
    short_sha: Option<String>,
    deployable_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    status_changed_at: Option<Timestamp>,
    // build (a job)
    build_name: Option<String>,
    build_status: Option<String>,
    sha: Option<String>,
}

/// A release names its tag; a job says whether its ref is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum TagOrWhether {
    Tag(String),
    Whether(bool),
}

/// A deployment names its environment; a job's is an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Environment {
    Name(String),
    Object { name: Option<String> },
}

/// The part of `repository_update` that holds the refs. Merge requests have something else under this key.
#[derive(Deserialize)]
struct Update {
    #[serde(default, deserialize_with = "json::list")]
    changes: Vec<Change>,
}

/// Whether a pipeline or a job of this status is one that has not ended: it waits, runs, or is being cancelled.
/// Source: the statuses that are available and not completed in `Ci::HasStatus` of GitLab's own code (read 2026-11).
fn is_under_way(status: &str) -> bool {
    matches!(
        status,
        "created"
            | "waiting_for_resource"
            | "waiting_for_callback"
            | "preparing"
            | "pending"
            | "running"
            | "canceling"
            | "manual"
            | "scheduled"
    )
}

/// The events in a request; `key` is the same when it is sent again.
fn events(kind: &str, key: Option<&str>, body: &[u8], deletes: bool) -> Result<Parsed, ParseError> {
    let payload: Payload = json::read(body)?;
    let mut git = GitEvent { event: kind.to_owned(), ..GitEvent::default() };
    if let Some(project) = payload.project {
        let host = [&project.web_url, &project.git_http_url].into_iter().flatten().find_map(|url| git::host(url));
        git.repository = match (host, project.path_with_namespace) {
            (Some(host), Some(path)) => Some(format!("{host}/{path}")),
            (_, path) => path,
        };
        git.clone_urls = [project.git_http_url, project.git_ssh_url].into_iter().filter_map(text).collect();
        git.url = text(project.web_url);
    } else if EVENTS.contains(&kind) {
        return Err(ParseError::Malformed("the body's `project` is missing".into()));
    } else {
        return Ok(Parsed::ignored(kind, "the event is about no project"));
    }
    let user = payload.user.and_then(|user| text(user.username).or(text(user.name)));
    git.actor = user.or(text(payload.user_username)).or(text(payload.user_name));
    git.message = subject(payload.commit.and_then(|commit| commit.message));
    let mut time = None;
    match kind {
        "push" | "tag_push" => {
            let reference = payload.reference.ok_or(ParseError::Malformed("the body's `ref` is missing".into()))?;
            git.set_reference(&reference);
            git.deleted = payload.after.as_deref().is_some_and(git::is_none);
            git.before = text(payload.before);
            git.commit = text(payload.checkout_sha).or(text(payload.after));
            let listed = payload.commits.len();
            git.paths_truncated = payload.total_commits_count.is_some_and(|total| total > listed);
            time = git::set_commits(&mut git, None, payload.commits);
        }
        "repository_update" => {
            let Update { changes } = json::read(body)?;
            return Ok(updates(&git, changes, key, deletes));
        }
        "release" => {
            git.action = text(payload.action);
            if git.action.as_deref() != Some("create") {
                return Ok(Parsed::ignored(git::summary(&git), git::NOT_PUBLISHED));
            }
            git.name = text(payload.name);
            git.url = text(payload.url).or(git.url);
            if let Some(TagOrWhether::Tag(tag)) = payload.tag {
                git.tag = Some(tag);
            }
            time = payload.released_at;
        }
        "deployment" => {
            git.status = text(payload.status);
            git.name = match payload.environment {
                Some(Environment::Name(name)) => text(Some(name)),
                Some(Environment::Object { name }) => text(name),
                None => None,
            };
            // The only place where the commit is written out.
            let whole = payload.commit_url.as_deref().and_then(|url| url.rsplit_once("/commit/"));
            git.commit = text(whole.map(|(_, commit)| commit.to_owned())).or(text(payload.short_sha));
            git.message = subject(payload.commit_title);
            git.url = text(payload.deployable_url).or(git.url);
            time = payload.status_changed_at;
        }
        "build" => {
            git.status = text(payload.build_status);
            if git.status.as_deref().is_some_and(is_under_way) {
                return Ok(Parsed::ignored(git::summary(&git), git::NOT_COMPLETED));
            }
            git.name = text(payload.build_name);
            git.commit = text(payload.sha);
            match payload.tag {
                Some(TagOrWhether::Whether(true)) => git.tag = text(payload.reference),
                _ => git.branch = text(payload.reference),
            }
        }
        _ => {
            git.action = text(payload.action);
            if let Some(about) = payload.object_attributes {
                git.action = text(about.action).or(git.action);
                git.status = text(about.status).or(text(about.state));
                if kind == "pipeline" && git.status.as_deref().is_some_and(is_under_way) {
                    return Ok(Parsed::ignored(git::summary(&git), git::NOT_COMPLETED));
                }
                // It is merged once, and may be edited and labelled ever after.
                if git.status.as_deref() == Some("merged") && git.action.as_deref() != Some("merge") {
                    git.status = Some("closed".into());
                }
                git.name = text(about.name);
                git.message = subject(about.title).or(git.message);
                git.url = text(about.url).or(git.url);
                git.commit = text(about.sha).or(text(about.last_commit.and_then(|commit| commit.id)));
                match about.tag {
                    Some(true) => git.tag = text(about.reference),
                    _ if about.projects.differ() || payload.merge_request.is_some_and(|of| of.differ()) => {}
                    _ => git.branch = text(about.source_branch).or(text(about.reference)),
                }
                time = about.updated_at.or(about.finished_at).or(about.created_at);
            }
        }
    }
    let summary = git::summary(&git);
    if git.deleted && !deletes {
        return Ok(Parsed::ignored(summary, git::DELETED));
    }
    let found = Found { identity: key.map(str::to_owned), detail: Detail::Git(Box::new(git)), time };
    Ok(Parsed::events(summary, vec![found]))
}

/// `repository_update`: one event for each ref that moved.
fn updates(about: &GitEvent, changes: Vec<Change>, key: Option<&str>, deletes: bool) -> Parsed {
    let all = changes.len();
    let mut found = Vec::new();
    for change in changes {
        let Some(reference) = text(change.reference) else { continue };
        let mut git = about.clone();
        git.set_reference(&reference);
        git.deleted = change.after.as_deref().is_some_and(git::is_none);
        git.before = text(change.before);
        git.commit = text(change.after);
        git.paths_truncated = true;
        if !git.deleted || deletes {
            let identity = key.map(|key| format!("{key} {reference}"));
            found.push(Found { identity, detail: Detail::Git(Box::new(git)), time: None });
        }
    }
    let ignored = match (all, all - found.len()) {
        (0, _) => Some("no ref moved".to_owned()),
        (1, 1) => Some(git::DELETED.to_owned()),
        (_, 0) => None,
        (_, left_out) => Some(format!("{left_out} of {all} refs: {}", git::DELETED)),
    };
    Parsed { ignored, ..Parsed::events(format!("{} of {all} refs", about.event), found) }
}
