//! Gitea and Forgejo webhooks, of repositories, owners and the whole system: Git events, and packages of their registry.
//!
//! Signed with HMAC-SHA256, in hexadecimal, in headers that say the same under several names: `X-Gitea-Signature`,
//! `X-Gogs-Signature`, Forgejo's `X-Forgejo-Signature`, and with a prefix `X-Hub-Signature-256`. Without a secret they
//! are there and empty. A form delivery is signed over the JSON that it carries in the field `payload`, and not over the
//! form: the reverse of GitHub. Hooks can be set to GET; that is not taken. One attempt, 5 s, no redelivery by itself;
//! one by hand has an id of its own.
//! Source: services/webhook/deliver.go of Gitea, services/webhook/shared/payloader.go and modules/webhook/type.go of
//! Forgejo (read 2026-08).
//!
//! Oddities: `X-Gitea-Event` is empty for packages, which only `X-Gitea-Event-Type` names; lists that nobody filled are
//! null; the removal of a branch comes as `delete` and not as a push; a package's version is its tag or its digest, in
//! lower case, never both; `head_commit` may be null though there are commits.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::git::{self, Commit, PullRequest, Release, Repository, subject};
use super::json::text;
use super::{Found, ParseError, Parsed, Request, Source, json, oci};
use crate::domain::event::{Detail, GitEvent, ImagePush, Original};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::OneOrMany;

/// The events that are relayed unless `events` says otherwise. `create` only repeats what `push` says; `delete` does
/// not.
const EVENTS: &[&str] = &[
    "push",
    "delete",
    "pull_request",
    "package",
    "release",
    "status",
    "workflow_run",
    "action_run_failure",
    "action_run_recover",
    "action_run_success",
];

/// How deliveries are signed: the headers in which the signature may stand, the first that is not empty counts.
const SIGNATURES: [SignatureHeader<'_>; 4] = [
    signature("X-Gitea-Signature", ""),
    signature("X-Forgejo-Signature", ""),
    signature("X-Gogs-Signature", ""),
    signature("X-Hub-Signature-256", "sha256="),
];

const fn signature(name: &'static str, prefix: &'static str) -> SignatureHeader<'static> {
    SignatureHeader { name, prefix, algorithm: Algorithm::Sha256, encoding: Encoding::Hex }
}

crate::keys! {
    /// A `gitea` source.
    pub struct Gitea {
        /// The webhook's secret; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// The events that are relayed, by the name in `X-Gitea-Event` or `X-Gitea-Event-Type`. Left out: those about
        /// code, packages, releases and workflows.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Source for Gitea {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        let Some(message) = payload(request) else {
            return Err(AuthError::Missing("the form has no field `payload`, over which this sender signs".into()));
        };
        let filled = |header: &&SignatureHeader<'_>| {
            let mut values = request.headers.get_all(header.name).iter();
            values.any(|value| !value.is_empty() && value != header.prefix)
        };
        let Some(header) = SIGNATURES.iter().find(filled) else {
            return Err(AuthError::Missing(
                "the header X-Gitea-Signature is missing or empty; is a secret set?".into(),
            ));
        };
        auth::hmac_over(request, &[&message], *header, &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let delivery = Envelope::of(&request)?;
        let mut parsed = if !git::relays(self.events.as_ref(), EVENTS, &[&delivery.event, &delivery.kind]) {
            Parsed::ignored(&delivery.event, git::NOT_RELAYED)
        } else if delivery.event == "package" {
            package(&delivery)?
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
        let message = payload(request).ok_or("the form has no field `payload`")?.into_owned();
        for header in SIGNATURES {
            // Gitea sends none of Forgejo's headers.
            if header.name != "X-Forgejo-Signature" || request.headers.contains_key("x-forgejo-delivery") {
                header.sign_over(request, &[&message], &self.secret.0[0], secrets)?;
            }
        }
        Ok(())
    }

    fn other_kinds(&self) -> &'static [&'static str] {
        &["image_push"]
    }
}

/// The JSON of a delivery, which is what is signed: the body, or the field `payload` of a form.
fn payload(request: &Request) -> Option<Cow<'_, [u8]>> {
    if request.media_type().as_deref() != Some("application/x-www-form-urlencoded") {
        return Some(Cow::Borrowed(&request.body));
    }
    let (_, payload) = form_urlencoded::parse(&request.body).find(|(name, _)| name == "payload")?;
    Some(Cow::Owned(payload.into_owned().into_bytes()))
}

/// What every delivery has, whatever its event.
struct Envelope {
    /// The event, by the name in `X-Gitea-Event`.
    event: String,
    /// The event, by the finer name in `X-Gitea-Event-Type`.
    kind: String,
    id: Option<String>,
    body: Bytes,
}

impl Envelope {
    fn of(request: &Authentic<'_>) -> Result<Self, ParseError> {
        // The same under the names of everybody that Gitea is compatible with.
        let header = |what: &str| {
            let names = ["gitea", "forgejo", "gogs", "github"];
            names.iter().find_map(|vendor| text(request.header(&format!("x-{vendor}-{what}")).map(str::to_owned)))
        };
        let kind = header("event-type");
        let event = header("event")
            .or_else(|| kind.clone())
            .ok_or(ParseError::Malformed("the header X-Gitea-Event is missing".into()))?;
        let body = match request.media_type().as_deref() {
            Some("application/json") => Some(request.body.clone()),
            Some("application/x-www-form-urlencoded") => {
                payload(request).map(|payload| Bytes::from(payload.into_owned()))
            }
            _ => None,
        };
        let body = body.ok_or(ParseError::UnsupportedMediaType(
            "Gitea sends application/json or application/x-www-form-urlencoded".into(),
        ))?;
        Ok(Self { kind: kind.unwrap_or_else(|| event.clone()), event, id: header("delivery"), body })
    }

    fn original(self) -> Original {
        let Self { event, kind, id, body } = self;
        // GitHub's names are those that receivers look for: Flux has no type for Gitea.
        let headers = ["gitea", "github"].iter().flat_map(|vendor| {
            let one = |what: &str, value: &String| (format!("x-{vendor}-{what}"), value.clone());
            [Some(one("event", &event)), Some(one("event-type", &kind)), id.as_ref().map(|id| one("delivery", id))]
        });
        let headers = headers.flatten().collect();
        // A form's payload is passed on as the JSON that it carries: receivers filter on JSON only.
        Original { content_type: "application/json".into(), headers, body }
    }
}

// What is read of the payloads.

#[derive(Deserialize)]
struct Account {
    login: Option<String>,
    username: Option<String>,
    html_url: Option<String>,
}

impl Account {
    fn name(self) -> Option<String> {
        text(self.login).or(text(self.username))
    }
}

#[derive(Deserialize)]
struct Workflow {
    name: Option<String>,
}

/// Gitea's `workflow_run`, made after GitHub's.
#[derive(Deserialize)]
struct WorkflowRun {
    name: Option<String>,
    display_title: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    head_sha: Option<String>,
    head_branch: Option<String>,
    head_repository: Option<Repository>,
    html_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    completed_at: Option<Timestamp>,
}

/// The run of Forgejo's `action_run_*`.
#[derive(Deserialize)]
struct ActionRun {
    title: Option<String>,
    workflow_id: Option<String>,
    prettyref: Option<String>,
    #[serde(default)]
    is_fork_pull_request: bool,
    commit_sha: Option<String>,
    status: Option<String>,
    html_url: Option<String>,
    repository: Option<Repository>,
    trigger_user: Option<Account>,
    #[serde(default, deserialize_with = "json::time")]
    updated: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    repository: Option<Repository>,
    sender: Option<Account>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    ref_type: Option<String>,
    before: Option<String>,
    after: Option<String>,
    compare_url: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    commits: Vec<Commit>,
    total_commits: Option<usize>,
    head_commit: Option<Commit>,
    pusher: Option<Account>,
    sha: Option<String>,
    state: Option<String>,
    context: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    release: Option<Release>,
    pull_request: Option<PullRequest>,
    workflow: Option<Workflow>,
    workflow_run: Option<WorkflowRun>,
    run: Option<ActionRun>,
}

fn event(delivery: &Envelope, deletes: bool) -> Result<Parsed, ParseError> {
    let mut payload: Payload = json::read(&delivery.body)?;
    let mut git = GitEvent { event: delivery.event.clone(), action: text(payload.action), ..GitEvent::default() };
    let mut time = None;
    let in_run = payload.run.as_mut().and_then(|run| run.repository.take());
    let Some(repository) = payload.repository.or(in_run) else {
        if EVENTS.contains(&git.event.as_str()) {
            return Err(ParseError::Malformed("the body's `repository` is missing".into()));
        }
        return Ok(Parsed::ignored(git::summary(&git), "the event is about no repository"));
    };
    let host = [&repository.html_url, &repository.clone_url].into_iter().flatten().find_map(|url| git::host(url));
    let own = repository.full_name;
    git.repository = match (host, &own) {
        (Some(host), Some(name)) => Some(format!("{host}/{name}")),
        (_, name) => name.clone(),
    };
    git.clone_urls = [repository.clone_url, repository.ssh_url].into_iter().filter_map(text).collect();
    git.actor = payload.sender.and_then(Account::name);
    git.before = text(payload.before);
    git.commit = text(payload.after).or(text(payload.sha));
    git.status = text(payload.state);
    git.name = text(payload.context);
    git.message = subject(payload.description);
    git.url = text(payload.target_url).or(text(payload.compare_url)).or(text(repository.html_url));
    match delivery.event.as_str() {
        "push" => {
            let reference = payload.reference.ok_or(ParseError::Malformed("the body's `ref` is missing".into()))?;
            git.set_reference(&reference);
            git.deleted = git.commit.as_deref().is_some_and(git::is_none);
            git.actor = payload.pusher.and_then(Account::name).or(git.actor);
            git.paths_truncated = payload.total_commits.is_some_and(|total| total > payload.commits.len());
            time = git::set_commits(&mut git, payload.head_commit, payload.commits);
        }
        // Here `ref` is a bare name, and `ref_type` says what of.
        "create" | "delete" => {
            git.deleted = delivery.event == "delete";
            git::set_bare_reference(&mut git, payload.ref_type.as_deref(), payload.reference.as_deref());
        }
        _ => {}
    }
    if let Some(release) = payload.release {
        if !release.is_published(&git) {
            return Ok(Parsed::ignored(git::summary(&git), git::NOT_PUBLISHED));
        }
        time = git::set_release(&mut git, release).or(time);
    }
    if let Some(pull) = payload.pull_request {
        time = git::set_pull_request(&mut git, pull, own.as_deref()).or(time);
    }
    if let Some(run) = payload.workflow_run {
        if git.action.as_deref() != Some("completed") {
            return Ok(Parsed::ignored(git::summary(&git), git::NOT_COMPLETED));
        }
        // Where it names no repository, a pull request's run names no branch either.
        let is_own = run.head_repository.is_none() || git::is_own(run.head_repository.as_ref(), own.as_deref());
        git.branch = text(run.head_branch).filter(|_| is_own);
        git.commit = text(run.head_sha);
        git.status = text(run.conclusion).or(text(run.status));
        git.name = text(run.name).or(text(payload.workflow.and_then(|workflow| workflow.name)));
        git.message = subject(run.display_title);
        git.url = text(run.html_url).or(git.url);
        time = run.completed_at;
    }
    if let Some(run) = payload.run {
        // A branch or a tag, and nothing says which; or a pull request's number.
        git.branch = text(run.prettyref).filter(|reference| !reference.starts_with('#') && !run.is_fork_pull_request);
        git.commit = text(run.commit_sha);
        git.status = text(run.status);
        git.name = text(run.workflow_id);
        git.message = subject(run.title);
        git.actor = run.trigger_user.and_then(Account::name).or(git.actor);
        git.url = text(run.html_url).or(git.url);
        time = run.updated;
    }
    let summary = git::summary(&git);
    if git.deleted && !deletes {
        return Ok(Parsed::ignored(summary, git::DELETED));
    }
    let found = Found { identity: delivery.id.clone(), detail: Detail::Git(Box::new(git)), time };
    Ok(Parsed::events(summary, vec![found]))
}

#[derive(Deserialize)]
struct Package {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    version: Option<String>,
    html_url: Option<String>,
    owner: Option<Account>,
    creator: Option<Account>,
    #[serde(default, deserialize_with = "json::time")]
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct PackagePayload {
    action: Option<String>,
    package: Option<Package>,
    sender: Option<Account>,
}

/// `package`: a tag was pushed to the registry, or a manifest by its digest.
fn package(delivery: &Envelope) -> Result<Parsed, ParseError> {
    let PackagePayload { action, package, sender } = json::read(&delivery.body)?;
    let action = action.unwrap_or_default();
    let package = package.ok_or(ParseError::Malformed("the body's `package` is missing".into()))?;
    let summary = format!("package {action}");
    // A tag that is overwritten is created, too.
    if action != "created" {
        return Ok(Parsed::ignored(summary, "not a push to the registry"));
    }
    if package.kind.as_deref() != Some("container") {
        return Ok(Parsed::ignored(summary, "not a container package"));
    }
    let missing = |what: &str| ParseError::Malformed(format!("the body's `package.{what}` is missing").into());
    let version = text(package.version).ok_or_else(|| missing("version"))?;
    let name = text(package.name).ok_or_else(|| missing("name"))?;
    let owner = package.owner.ok_or_else(|| missing("owner"))?;
    let host = [&package.html_url, &owner.html_url].into_iter().flatten().find_map(|url| git::host(url));
    let host = host.ok_or_else(|| missing("html_url"))?;
    let owner = owner.name().ok_or_else(|| missing("owner.login"))?;
    let digest = oci::digest(&version).map(str::to_owned);
    let tag = digest.is_none().then_some(version);
    let push = ImagePush {
        repository: oci::repository(&format!("{host}/{owner}/{name}")),
        tag: tag.clone(),
        tags: tag.into_iter().collect(),
        digest,
        media_type: None,
        actor: sender.and_then(Account::name).or_else(|| package.creator.and_then(Account::name)),
    };
    let summary = format!("{summary} {}", oci::reference(&push));
    // The same tag may be pushed again within a second, and the event does not say what it is now.
    let found = Found { identity: delivery.id.clone(), detail: Detail::ImagePush(push), time: package.created_at };
    Ok(Parsed::events(summary, vec![found]))
}
