//! Bitbucket webhooks: of Cloud, and of Data Center (once Server).
//!
//! Both sign with HMAC-SHA256 over the body, in hexadecimal, in `X-Hub-Signature: sha256=…`: the hash of today under
//! GitHub's header of old. Cloud tries three times, tells of the attempt in `X-Attempt-Number`, and sends nothing at all
//! over 256 KB. Data Center tests a connection with `diagnostics:ping`, which is signed as well.
//! Source: support.atlassian.com/bitbucket-cloud/docs/event-payloads, confluence.atlassian.com/bitbucketserver (event
//! payload) (read 2026-08).
//!
//! Oddities: one push is one request, however many refs it moves; Cloud names refs without `refs/heads/`, and a deleted
//! one has null in `new`; neither lists the paths that were touched, so that conditions on `paths` cannot leave a push
//! out; Cloud names no URL to clone from; the two name the id of a request differently.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::git::{self, subject};
use super::json::text;
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, GitEvent, Original};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::OneOrMany;

/// The events that are relayed unless `events` says otherwise: those about code and builds. Cloud's first.
const EVENTS: &[&str] = &[
    "repo:push",
    "repo:commit_status_created",
    "repo:commit_status_updated",
    "pullrequest:created",
    "pullrequest:updated",
    "pullrequest:fulfilled",
    "pullrequest:rejected",
    "repo:refs_changed",
    "mirror:repo_synchronized",
    "pr:opened",
    "pr:from_ref_updated",
    "pr:modified",
    "pr:merged",
    "pr:declined",
    "pr:deleted",
];

/// The events that move refs, of which those on `changes` come.
const PUSHES: &[&str] = &["repo:push", "repo:refs_changed", "mirror:repo_synchronized"];

/// How requests are signed.
const SIGNATURE: SignatureHeader<'_> = SignatureHeader {
    name: "X-Hub-Signature",
    prefix: "sha256=",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Hex,
};

crate::keys! {
    /// A `bitbucket` source.
    pub struct Bitbucket {
        /// The webhook's secret; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// The events that are relayed, by the name in X-Event-Key. Left out: those about code and builds.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Source for Bitbucket {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        auth::hmac(request, SIGNATURE, &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let header = |name| text(request.header(name).map(str::to_owned));
        let key = header("x-event-key").ok_or(ParseError::Malformed("the header X-Event-Key is missing".into()))?;
        if request.media_type().as_deref() != Some("application/json") {
            return Err(ParseError::UnsupportedMediaType("Bitbucket sends application/json".into()));
        }
        let id = header("x-request-uuid").or_else(|| header("x-request-id"));
        let mut parsed = if key == "diagnostics:ping" {
            Parsed::ignored(&key, "a test of the connection; the webhook works")
        } else if git::relays(self.events.as_ref(), EVENTS, &[&key]) {
            events(&key, id.as_deref(), &request.body, self.deletes)?
        } else {
            Parsed::ignored(&key, git::NOT_RELAYED)
        };
        parsed.delivery_id = id;
        if !parsed.events.is_empty() {
            let names = ["x-event-key", "x-request-uuid", "x-request-id", "x-hook-uuid"];
            let headers = names.into_iter().filter_map(|name| Some((name.to_owned(), header(name)?))).collect();
            let content_type = "application/json".to_owned();
            parsed.original = Some(Original { content_type, headers, body: request.body.clone() });
        }
        Ok(parsed)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        SIGNATURE.sign(request, &self.secret.0[0], secrets)
    }
}

// What is read of the payloads. Cloud and Data Center share few names, so that one shape serves for both.

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Links {
    /// Cloud's.
    html: Option<Link>,
    /// Data Center's: the page. Cloud's is one link, into its API.
    #[serde(rename = "self")]
    page: Option<OneOrSeveral>,
    /// Data Center's.
    #[serde(default, deserialize_with = "json::list")]
    clone: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    Several(Vec<Link>),
    // Only to take it; nothing is read of it.
    One(serde::de::IgnoredAny),
}

impl Links {
    /// The page that people look at.
    fn page(self) -> Option<String> {
        let several = match self.page {
            Some(OneOrSeveral::Several(links)) => links,
            Some(OneOrSeveral::One(_)) | None => Vec::new(),
        };
        self.html.into_iter().chain(several).find_map(|link| text(link.href))
    }
}

#[derive(Deserialize)]
struct Project {
    key: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
    slug: Option<String>,
    project: Option<Project>,
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Actor {
    /// Cloud's.
    nickname: Option<String>,
    /// Cloud's; Data Center writes `displayName`.
    #[serde(alias = "displayName")]
    display_name: Option<String>,
    /// Data Center's.
    name: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    hash: Option<String>,
    message: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    date: Option<Timestamp>,
}

/// A branch or tag of Cloud at one time.
#[derive(Deserialize)]
struct State {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    target: Option<Target>,
    links: Option<Links>,
}

impl State {
    fn reference(&self) -> Option<String> {
        let name = self.name.as_deref().filter(|name| !name.is_empty())?;
        match self.kind.as_deref() {
            Some("tag" | "annotated_tag") => Some(format!("refs/tags/{name}")),
            _ => Some(format!("refs/heads/{name}")),
        }
    }
}

#[derive(Deserialize)]
struct Ref {
    id: Option<String>,
    #[serde(rename = "displayId")]
    display_id: Option<String>,
    #[serde(rename = "latestCommit")]
    latest_commit: Option<String>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Change {
    // Cloud's
    old: Option<State>,
    new: Option<State>,
    // Data Center's
    #[serde(rename = "ref")]
    reference: Option<Ref>,
    #[serde(rename = "refId")]
    reference_id: Option<String>,
    #[serde(rename = "fromHash")]
    from: Option<String>,
    #[serde(rename = "toHash")]
    to: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(default, deserialize_with = "json::list")]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Branch {
    name: Option<String>,
}

#[derive(Deserialize)]
struct End {
    branch: Option<Branch>,
    commit: Option<Target>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct PullRequest {
    title: Option<String>,
    state: Option<String>,
    links: Option<Links>,
    // Cloud's
    source: Option<End>,
    #[serde(default, deserialize_with = "json::time")]
    updated_on: Option<Timestamp>,
    // Data Center's
    #[serde(rename = "fromRef")]
    from: Option<Ref>,
    #[serde(rename = "toRef")]
    to: Option<Ref>,
    #[serde(rename = "updatedDate", default, deserialize_with = "json::time")]
    updated: Option<Timestamp>,
}

#[derive(Deserialize)]
struct CommitStatus {
    name: Option<String>,
    key: Option<String>,
    state: Option<String>,
    description: Option<String>,
    url: Option<String>,
    refname: Option<String>,
    commit: Option<Target>,
    #[serde(default, deserialize_with = "json::time")]
    updated_on: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Payload {
    actor: Option<Actor>,
    repository: Option<Repository>,
    // Cloud's
    push: Option<Push>,
    pullrequest: Option<PullRequest>,
    commit_status: Option<CommitStatus>,
    // Data Center's
    #[serde(default, deserialize_with = "json::time")]
    date: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::list")]
    changes: Vec<Change>,
    #[serde(rename = "pullRequest")]
    pull_request: Option<PullRequest>,
}

/// The path of a repository. Data Center writes keys of projects in capitals, but paths not.
fn path(repository: &Repository) -> Option<String> {
    let project = repository.project.as_ref().and_then(|project| text(project.key.clone()));
    let in_project = project.zip(text(repository.slug.clone()));
    text(repository.full_name.clone())
        .or(in_project.map(|(project, slug)| format!("{}/{slug}", project.to_lowercase())))
}

/// Notes where the repository is: host and path, the URLs it can be cloned from, and its page.
fn set_repository(git: &mut GitEvent, repository: Repository) {
    let path = path(&repository);
    let Repository { full_name, links, .. } = repository;
    let clone = |links: &Links, name: &str| {
        let link = links.clone.iter().find(|link| link.name.as_deref() == Some(name));
        link.and_then(|link| text(link.href.clone()))
    };
    let (http, ssh) = links.as_ref().map_or((None, None), |links| (clone(links, "http"), clone(links, "ssh")));
    git.url = links.and_then(Links::page);
    let host = [&git.url, &http].into_iter().flatten().find_map(|url| git::host(url));
    let cloud = text(full_name);
    git.clone_urls = match (&host, &cloud) {
        (Some(host), Some(path)) => vec![format!("https://{host}/{path}.git"), format!("git@{host}:{path}.git")],
        _ => [http, ssh].into_iter().flatten().collect(),
    };
    git.repository = path.map(|path| host.map_or(path.clone(), |host| format!("{host}/{path}")));
}

/// The events in a request; `id` names the request.
fn events(key: &str, id: Option<&str>, body: &[u8], deletes: bool) -> Result<Parsed, ParseError> {
    let mut payload: Payload = json::read(body)?;
    let mut git = GitEvent { event: key.to_owned(), ..GitEvent::default() };
    let actor = payload.actor.map(|actor| text(actor.name).or(text(actor.nickname)).or(text(actor.display_name)));
    git.actor = actor.flatten();
    let mut pull = payload.pullrequest.or(payload.pull_request);
    let of_pull = pull.as_mut().and_then(|pull| pull.to.as_mut()).and_then(|to| to.repository.take());
    let Some(repository) = payload.repository.or(of_pull) else {
        if EVENTS.contains(&key) {
            return Err(ParseError::Malformed("the body's `repository` is missing".into()));
        }
        return Ok(Parsed::ignored(key, "the event is about no repository"));
    };
    let own = path(&repository);
    // A fork's branches are a stranger's to name. Of a fork that is gone nothing is left to compare.
    let is_own = |head: Option<Repository>| head.is_some_and(|head| path(&head) == own);
    set_repository(&mut git, repository);
    if PUSHES.contains(&key) {
        if key == "repo:push" && payload.push.is_none() {
            return Err(ParseError::Malformed("the body's `push` is missing".into()));
        }
        payload.changes.extend(payload.push.into_iter().flat_map(|push| push.changes));
        return changes(&git, payload.changes, id, payload.date, deletes);
    }
    let mut time = payload.date;
    if let Some(pull) = pull {
        git.message = subject(pull.title);
        git.status = text(pull.state);
        git.url = pull.links.and_then(Links::page).or(git.url);
        if let Some(source) = pull.source {
            let name = source.branch.and_then(|branch| branch.name);
            git.branch = text(name).filter(|_| is_own(source.repository));
            git.commit = text(source.commit.and_then(|commit| commit.hash));
        }
        if let Some(from) = pull.from {
            git.branch = text(from.display_id).filter(|_| is_own(from.repository));
            git.commit = text(from.latest_commit);
        }
        time = time.or(pull.updated_on).or(pull.updated);
    }
    if let Some(status) = payload.commit_status {
        git.status = text(status.state);
        git.name = text(status.name).or(text(status.key));
        git.message = subject(status.description);
        git.url = text(status.url).or(git.url);
        git.branch = text(status.refname);
        git.commit = text(status.commit.and_then(|commit| commit.hash));
        time = time.or(status.updated_on);
    }
    let summary = git::summary(&git);
    let found = Found { identity: id.map(str::to_owned), detail: Detail::Git(Box::new(git)), time };
    Ok(Parsed::events(summary, vec![found]))
}

/// One event for each ref that moved.
fn changes(
    about: &GitEvent,
    changes: Vec<Change>,
    id: Option<&str>,
    date: Option<Timestamp>,
    deletes: bool,
) -> Result<Parsed, ParseError> {
    let all = changes.len();
    let mut found = Vec::new();
    let mut names = Vec::new();
    for (i, change) in changes.into_iter().enumerate() {
        let mut git = about.clone();
        let mut time = date;
        let by_state = change.new.as_ref().or(change.old.as_ref()).and_then(State::reference);
        let by_id = text(change.reference_id).or(text(change.reference.and_then(|reference| reference.id)));
        let reference = by_id.or(by_state).ok_or_else(|| {
            ParseError::Malformed(format!("the change number {} in the body's `changes` names no ref", i + 1).into())
        })?;
        git.set_reference(&reference);
        // Neither sender lists paths: whatever they are, the push may have touched them.
        git.paths_truncated = true;
        git.deleted = match (&change.to, change.kind.as_deref()) {
            (_, Some("DELETE")) => true,
            (Some(to), _) => git::is_none(to),
            (None, _) => change.new.is_none(),
        };
        let old = change.old.and_then(|old| old.target).and_then(|target| target.hash);
        git.before = text(change.from).or(text(old));
        git.commit = text(change.to);
        if let Some(new) = change.new {
            git.url = new.links.and_then(Links::page).or(git.url);
            if let Some(target) = new.target {
                git.commit = text(target.hash).or(git.commit);
                git.message = subject(target.message);
                time = time.or(target.date);
            }
        }
        names.push(reference.clone());
        if !git.deleted || deletes {
            let identity = id.map(|id| format!("{id} {reference}"));
            found.push(Found { identity, detail: Detail::Git(Box::new(git)), time });
        }
    }
    let ignored = match (all, all - found.len()) {
        (0, _) => Some("no ref moved".to_owned()),
        (1, 1) => Some(git::DELETED.to_owned()),
        (_, 0) => None,
        (_, left_out) => Some(format!("{left_out} of {all} refs: {}", git::DELETED)),
    };
    let summary = match names.as_slice() {
        [one] => format!("{} {one}", about.event),
        _ => format!("{} of {all} refs", about.event),
    };
    Ok(Parsed { ignored, ..Parsed::events(summary, found) })
}
