//! Azure DevOps service hooks («Web Hooks»), of Services and of Server.
//!
//! A subscription logs in with HTTP Basic, or sends headers of one's own; nothing is signed. Several tries over 408, 502,
//! 503 and 504; other errors put a subscription on probation, and 410 ends it.
//!
//! Oddities: one push may move several refs; a deleted one moves to a commit of zeros; no push lists the paths that it
//! touched. `git.pullrequest.merged` says that a merge was tried: what became of it is the request's status. Clone URLs
//! hold the organisation as a user. The button «Test» sends a push to a made-up repository, under a subscription of zeros.
//! Source: learn.microsoft.com/azure/devops/service-hooks: events, services/webhooks and troubleshoot (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::auth::{Authentic, LoginKeys, Proof};
use super::git::{self, subject};
use super::json::{self, text};
use super::{Found, ParseError, Parsed, Proven};
use crate::domain::event::{Detail, GitEvent, Original};
use crate::relay::format::OneOrMany;

/// The events that are relayed unless `events` says otherwise.
const EVENTS: &[&str] = &["git.push", "git.pullrequest.created", "git.pullrequest.updated", "git.pullrequest.merged"];

/// The subscription that tests are sent under.
const TEST: &str = "00000000-0000-0000-0000-000000000000";

crate::keys! {
    /// An `azure-devops` source.
    pub struct AzureDevOps {
        ..login: LoginKeys,
        /// The events that are relayed, by the name in `eventType`. Left out: pushes, and pull requests that are
        /// created, updated or merged.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Proven for AzureDevOps {
    fn proof(&self) -> &dyn Proof {
        &self.login
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        let payload: Payload = json::read(&request.body)?;
        let id = text(payload.id.clone());
        let parsed = self.events(payload, id.as_deref())?;
        let original = (!parsed.events.is_empty()).then(|| Original {
            content_type: "application/json".into(),
            headers: Vec::new(),
            body: request.body.clone(),
        });
        Ok(Parsed { delivery_id: id, original, ..parsed })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    display_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Repository {
    remote_url: Option<String>,
    ssh_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefUpdate {
    name: Option<String>,
    old_object_id: Option<String>,
    new_object_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commit {
    commit_id: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
}

#[derive(Deserialize)]
struct Links {
    web: Option<Link>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    repository: Option<Repository>,
    // git.push
    #[serde(default, deserialize_with = "json::list")]
    ref_updates: Vec<RefUpdate>,
    #[serde(default, deserialize_with = "json::list")]
    commits: Vec<Commit>,
    pushed_by: Option<Person>,
    #[serde(default, deserialize_with = "json::time")]
    date: Option<Timestamp>,
    // git.pullrequest.*
    title: Option<String>,
    status: Option<String>,
    source_ref_name: Option<String>,
    /// There where it comes from a fork.
    fork_source: Option<IgnoredAny>,
    last_merge_source_commit: Option<Commit>,
    created_by: Option<Person>,
    #[serde(rename = "_links")]
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Message {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    id: Option<String>,
    subscription_id: Option<String>,
    event_type: Option<String>,
    message: Option<Message>,
    resource: Option<Resource>,
    #[serde(default, deserialize_with = "json::time")]
    created_date: Option<Timestamp>,
}

impl AzureDevOps {
    fn events(&self, payload: Payload, id: Option<&str>) -> Result<Parsed, ParseError> {
        let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
        let kind = text(payload.event_type).ok_or_else(|| missing("eventType"))?;
        if payload.subscription_id.as_deref() == Some(TEST) {
            return Ok(Parsed::ignored(kind, "a test; the subscription works"));
        }
        if !git::relays(self.events.as_ref(), EVENTS, &[&kind]) {
            return Ok(Parsed::ignored(kind, git::NOT_RELAYED));
        }
        let resource = payload.resource.ok_or_else(|| missing("resource"))?;
        let Some(repository) = resource.repository else {
            if EVENTS.contains(&kind.as_str()) {
                return Err(missing("resource.repository"));
            }
            return Ok(Parsed::ignored(kind, "the event is about no repository"));
        };
        let mut git = GitEvent { event: kind, ..GitEvent::default() };
        set_repository(&mut git, repository);
        git.message = subject(payload.message.and_then(|message| message.text));
        let person = |person: Option<Person>| text(person.and_then(|person| person.display_name));
        git.actor = person(resource.pushed_by).or(person(resource.created_by));
        let page = resource.links.and_then(|links| links.web).and_then(|link| link.href);
        git.url = text(page).or(git.url);
        let time = resource.date.or(payload.created_date);
        if git.event != "git.push" {
            git.message = subject(resource.title).or(git.message);
            git.status = text(resource.status);
            // A fork's branches are a stranger's to name.
            let source = text(resource.source_ref_name).filter(|_| resource.fork_source.is_none());
            git.branch = source.map(|name| name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned());
            git.commit = text(resource.last_merge_source_commit.and_then(|commit| commit.commit_id));
            let found = Found { identity: id.map(str::to_owned), detail: Detail::Git(Box::new(git.clone())), time };
            return Ok(Parsed::events(git::summary(&git), vec![found]));
        }

        let (mut found, mut summaries, mut deleted) = (Vec::new(), Vec::new(), false);
        for (i, update) in resource.ref_updates.into_iter().enumerate() {
            let name = text(update.name).ok_or_else(|| missing(&format!("resource.refUpdates[{i}].name")))?;
            let mut git = git.clone();
            git.set_reference(&name);
            git.before = text(update.old_object_id).filter(|commit| !git::is_none(commit));
            git.deleted = update.new_object_id.as_deref().is_some_and(git::is_none);
            git.commit = text(update.new_object_id).filter(|commit| !git::is_none(commit));
            git.paths_truncated = true;
            let head =
                resource.commits.iter().find(|commit| commit.commit_id.is_some() && commit.commit_id == git.commit);
            git.message = subject(head.and_then(|commit| commit.comment.clone())).or(git.message);
            summaries.push(git::summary(&git));
            if git.deleted && !self.deletes {
                deleted = true;
                continue;
            }
            let identity = id.map(|id| format!("{id} {name}"));
            found.push(Found { identity, detail: Detail::Git(Box::new(git)), time });
        }
        if summaries.is_empty() {
            return Ok(Parsed::ignored(git.event, "the push moved no ref"));
        }
        let ignored = deleted.then(|| git::DELETED.to_owned());
        Ok(Parsed { ignored, ..Parsed::events(summaries.join(", "), found) })
    }
}

/// Notes where the repository is: `https://acme@dev.azure.com/acme/Delivery/_git/platform`.
fn set_repository(git: &mut GitEvent, repository: Repository) {
    let Some(mut url) = repository.remote_url.and_then(|url| Url::parse(&url).ok()) else { return };
    // The organisation as user is no credential, but two ways to write one URL. Of a URL that has a host neither fails.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    git.repository = git::host(url.as_str()).map(|host| format!("{host}{}", url.path().trim_end_matches('/')));
    let parts: Vec<_> = url.path().trim_matches('/').split('/').collect();
    let ssh = text(repository.ssh_url).or(match (url.host_str(), parts.as_slice()) {
        (Some("dev.azure.com"), [organisation, project, "_git", name]) => {
            Some(format!("git@ssh.dev.azure.com:v3/{organisation}/{project}/{name}"))
        }
        _ => None,
    });
    git.url = Some(url.to_string());
    git.clone_urls = [Some(url.to_string()), ssh].into_iter().flatten().collect();
}
