//! GitHub webhooks, of repositories, organisations and Apps.
//!
//! Signed with HMAC-SHA256 over the raw body in `X-Hub-Signature-256`; the older SHA-1 header is never enough.
//! A form delivery carries the JSON in the field `payload`, and its signature covers the form as sent. GitHub
//! gives up after 10 s, never delivers again by itself, and shows the answer's body under «recent deliveries».
//! Source: docs.github.com/webhooks/webhook-events-and-payloads (read 2026-08).
//!
//! Package events become image pushes. Oddities of those, all seen in the wild: the kind of package is written in
//! either case and as `docker` or `container`; the tag is an empty text for a manifest pushed by digest; the
//! published examples carry digests that are none; `package_url` of an untagged version ends in a bare colon.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::json::text;
use super::oci::{self, MediaType};
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, GitEvent, ImagePush, Original};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
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
        /// releases, workflows, checks, deployments and dispatches.
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
        let relayed = |event: &str| match &self.events {
            Some(events) => events.0.iter().any(|one| one == event),
            None => EVENTS.contains(&event),
        };
        let delivery = Envelope::of(&request)?;
        let mut parsed = if delivery.event == "ping" {
            Parsed::ignored("ping", "a ping; the webhook works")
        } else if !relayed(&delivery.event) {
            Parsed::ignored(&delivery.event, "this source does not relay events of this type")
        } else if matches!(delivery.event.as_str(), "package" | "registry_package") {
            package(&delivery)?
        } else {
            git(&delivery, self.deletes)?
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

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        crate::relay::format::Keys::secrets(self, seen);
    }
}

/// How deliveries are signed.
const SIGNATURE: SignatureHeader<'_> = SignatureHeader {
    name: "X-Hub-Signature-256",
    prefix: "sha256=",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Hex,
};

/// What every delivery has, whatever its event.
struct Envelope {
    event: String,
    id: Option<String>,
    body: Bytes,
}

impl Envelope {
    fn of(request: &Authentic<'_>) -> Result<Self, ParseError> {
        let header = |name| request.header(name).map(str::to_owned);
        let event =
            header("x-github-event").ok_or(ParseError::Malformed("the header X-GitHub-Event is missing".into()))?;
        let body = match request.media_type().as_deref() {
            Some("application/json") => request.body.clone(),
            Some("application/x-www-form-urlencoded") => form_urlencoded::parse(&request.body)
                .find(|(name, _)| name == "payload")
                .map(|(_, payload)| Bytes::from(payload.into_owned()))
                .ok_or(ParseError::Malformed("the form has no field `payload`".into()))?,
            _ => {
                return Err(ParseError::UnsupportedMediaType(
                    "GitHub sends application/json or application/x-www-form-urlencoded".into(),
                ));
            }
        };
        Ok(Self { event, id: text(header("x-github-delivery")), body })
    }

    fn original(self) -> Original {
        let mut headers = vec![("x-github-event".to_owned(), self.event)];
        headers.extend(self.id.map(|id| ("x-github-delivery".to_owned(), id)));
        // A form's payload is passed on as the JSON that it carries: receivers filter on JSON only.
        Original { content_type: "application/json".into(), headers, body: self.body }
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
struct Repository {
    full_name: Option<String>,
    html_url: Option<String>,
    clone_url: Option<String>,
    ssh_url: Option<String>,
}

#[derive(Deserialize)]
struct Commit<'a> {
    message: Option<String>,
    timestamp: Option<Timestamp>,
    #[serde(borrow, default)]
    added: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    removed: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    modified: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Head {
    message: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Release {
    tag_name: Option<String>,
    name: Option<String>,
    html_url: Option<String>,
    published_at: Option<Timestamp>,
}

/// `workflow_run`, `check_run` and `check_suite` look alike in what matters.
#[derive(Deserialize)]
struct Run {
    name: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    head_sha: Option<String>,
    head_branch: Option<String>,
    html_url: Option<String>,
    check_suite: Option<Box<Run>>,
    updated_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Deployment {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    environment: Option<String>,
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct DeploymentStatus {
    state: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Tip {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
}

#[derive(Deserialize)]
struct PullRequest {
    title: Option<String>,
    html_url: Option<String>,
    #[serde(default)]
    merged: bool,
    state: Option<String>,
    head: Option<Tip>,
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Payload<'a> {
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
    compare: Option<String>,
    pusher: Option<Named>,
    head_commit: Option<Head>,
    #[serde(borrow, default)]
    commits: Vec<Commit<'a>>,
    branch: Option<String>,
    sha: Option<String>,
    state: Option<String>,
    context: Option<String>,
    description: Option<String>,
    target_url: Option<String>,
    updated_at: Option<Timestamp>,
    release: Option<Release>,
    workflow_run: Option<Run>,
    check_run: Option<Run>,
    check_suite: Option<Run>,
    deployment: Option<Deployment>,
    deployment_status: Option<DeploymentStatus>,
    pull_request: Option<PullRequest>,
}

/// First line of a text.
fn subject(message: Option<String>) -> Option<String> {
    text(message.and_then(|message| message.lines().next().map(str::to_owned)))
}

/// Host and path of a repository.
fn repository_name(repository: &Repository) -> Option<String> {
    let full_name = repository.full_name.as_deref()?;
    let page = repository.html_url.as_deref().and_then(|page| url::Url::parse(page).ok());
    let host = page.as_ref().and_then(|page| page.host_str()).unwrap_or("github.com");
    Some(format!("{host}/{full_name}"))
}

fn git(delivery: &Envelope, deletes: bool) -> Result<Parsed, ParseError> {
    let payload: Payload<'_> = json::read(&delivery.body)?;
    let mut git = GitEvent { event: delivery.event.clone(), action: text(payload.action), ..GitEvent::default() };
    let mut time = payload.updated_at;
    // Hooks of organisations and Apps tell of repositories, too: only pings come without one.
    let repository = payload.repository.ok_or(ParseError::Malformed("the body's `repository` is missing".into()))?;
    git.repository = repository_name(&repository);
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
            git.paths_truncated = payload.commits.len() >= MOST_COMMITS;
            let paths: BTreeSet<&str> = payload
                .commits
                .iter()
                .flat_map(|commit| [&commit.added, &commit.removed, &commit.modified])
                .flatten()
                .map(AsRef::as_ref)
                .collect();
            git.paths = paths.into_iter().map(str::to_owned).collect();
            let newest = payload.commits.into_iter().next_back();
            let newest = newest.map(|commit| Head { message: commit.message, timestamp: commit.timestamp });
            if let Some(head) = payload.head_commit.or(newest) {
                git.message = subject(head.message);
                time = head.timestamp;
            }
        }
        // Here `ref` is a bare name, and `ref_type` says what of.
        "create" | "delete" => match (payload.ref_type.as_deref(), payload.reference) {
            (Some("branch"), Some(name)) => git.set_reference(&format!("refs/heads/{name}")),
            (Some("tag"), Some(name)) => git.set_reference(&format!("refs/tags/{name}")),
            _ => {}
        },
        _ => {}
    }
    if let Some(release) = payload.release {
        git.tag = text(release.tag_name);
        git.name = text(release.name);
        git.url = release.html_url;
        time = release.published_at.or(time);
    }
    if let Some(run) = payload.workflow_run.or(payload.check_run).or(payload.check_suite) {
        let suite = run.check_suite.and_then(|suite| suite.head_branch);
        git.branch = text(run.head_branch.or(suite));
        git.commit = text(run.head_sha);
        git.status = text(run.conclusion).or(text(run.status));
        git.name = text(run.name);
        git.url = run.html_url.or(git.url);
        time = run.updated_at.or(run.completed_at).or(time);
    }
    if let Some(deployment) = payload.deployment {
        git.commit = text(deployment.sha);
        git.branch = text(deployment.reference);
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
        git.message = subject(pull.title);
        git.url = pull.html_url;
        git.status = if pull.merged { Some("merged".into()) } else { pull.state };
        if let Some(head) = pull.head {
            git.branch = head.reference;
            git.commit = head.sha;
        }
        time = pull.updated_at.or(time);
    }
    let what = git.reference.as_ref().or(git.action.as_ref()).or(git.status.as_ref());
    let summary = [Some(git.event.clone()), what.cloned()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if git.deleted && !deletes {
        return Ok(Parsed::ignored(summary, "a ref was deleted; `deletes: true` at the source relays that"));
    }
    let found = Found { identity: delivery.id.clone(), detail: Detail::Git(Box::new(git)), time };
    Ok(Parsed::events(summary, vec![found]))
}

#[derive(Deserialize)]
struct PackageTag {
    name: Option<String>,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Typed {
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: Option<String>,
    media_type: Option<String>,
    config: Option<Typed>,
}

#[derive(Deserialize)]
struct ContainerMetadata {
    tag: Option<PackageTag>,
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct PackageVersion {
    version: Option<String>,
    name: Option<String>,
    package_url: Option<String>,
    author: Option<Account>,
    container_metadata: Option<ContainerMetadata>,
}

#[derive(Deserialize)]
struct RegistryOf {
    url: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    name: Option<String>,
    namespace: Option<String>,
    ecosystem: Option<String>,
    package_type: Option<String>,
    owner: Option<Account>,
    registry: Option<RegistryOf>,
    package_version: Option<PackageVersion>,
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct PackagePayload {
    action: Option<String>,
    // The two events differ in this key only.
    #[serde(alias = "registry_package")]
    package: Option<Package>,
    sender: Option<Account>,
}

/// `package` and `registry_package`: a manifest was pushed to GitHub's container registry, or got a tag.
fn package(delivery: &Envelope) -> Result<Parsed, ParseError> {
    let PackagePayload { action, package, sender } = json::read(&delivery.body)?;
    let action = action.unwrap_or_default();
    let package = package.ok_or(ParseError::Malformed("the body's `package` is missing".into()))?;
    let summary = format!("{} {action}", delivery.event);
    if !matches!(action.as_str(), "published" | "updated") {
        return Ok(Parsed::ignored(summary, "not a push to the registry"));
    }
    // `npm` with `ecosystem: docker` occurs in published examples.
    let is_container = [&package.package_type, &package.ecosystem]
        .into_iter()
        .flatten()
        .any(|kind| kind.eq_ignore_ascii_case("container") || kind.eq_ignore_ascii_case("docker"));
    if !is_container {
        return Ok(Parsed::ignored(summary, "not a container package"));
    }
    let Some(version) = package.package_version else {
        return Ok(Parsed::ignored(summary, "the event names no version of the package"));
    };
    let (tag, manifest) = version.container_metadata.map_or((None, None), |metadata| (metadata.tag, metadata.manifest));
    let (tag, tag_digest) = tag.map_or((None, None), |tag| (text(tag.name), tag.digest));
    let (manifest_digest, manifest_type, config_type) = manifest.map_or((None, None, None), |manifest| {
        (manifest.digest, manifest.media_type, manifest.config.and_then(|config| config.media_type))
    });
    // A tag that is a digest is not a tag.
    let tag = tag.filter(|tag| oci::digest(tag).is_none());
    let digest = [tag_digest, manifest_digest, version.version, version.name]
        .into_iter()
        .flatten()
        .find_map(|candidate| oci::digest(&candidate).map(str::to_owned));
    let named = || {
        let registry = package.registry.as_ref().and_then(|registry| registry.url.as_deref());
        let registry = registry.and_then(|registry| url::Url::parse(registry).ok());
        // `registry.url` of container packages is the page of the registry, on github.com.
        let host = registry.as_ref().and_then(|url| url.host_str()).filter(|host| host.starts_with("containers."));
        let owner = package.owner.as_ref().and_then(|owner| owner.login.as_deref()).or(package.namespace.as_deref());
        Some(format!("{}/{}/{}", host.unwrap_or("ghcr.io"), owner?, package.name.as_deref()?))
    };
    let repository = version
        .package_url
        .as_deref()
        .and_then(oci::repository_of)
        .map(str::to_owned)
        .or_else(named)
        .ok_or(ParseError::Malformed("neither `package_url` nor owner and name tell the repository".into()))?;
    let author = version.author.and_then(|author| author.login);
    let push = ImagePush {
        repository: oci::repository(&repository),
        tag: tag.clone(),
        tags: tag.iter().cloned().collect(),
        digest,
        media_type: MediaType { manifest: manifest_type, config: config_type }.best(),
        actor: text(sender.and_then(|sender| sender.login)).or(text(author)),
    };
    let summary = format!("{summary} {}", oci::reference(&push));
    // A hook that subscribes to both events tells of each push twice, with different delivery ids.
    let identity = match package.updated_at {
        Some(updated) => Some(format!("{} {updated}", oci::reference(&push))),
        None => delivery.id.clone(),
    };
    let found = Found { identity, detail: Detail::ImagePush(push), time: package.updated_at };
    Ok(Parsed::events(summary, vec![found]))
}
