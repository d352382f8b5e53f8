//! What the events of Git hosts have in common.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::json::{self, text};
use crate::domain::event::GitEvent;
use crate::relay::format::OneOrMany;

/// Why an event is ignored that the source does not relay.
pub const NOT_RELAYED: &str = "this source does not relay events of this type";

/// Why the deletion of a ref is ignored.
pub const DELETED: &str = "a ref was deleted; `deletes: true` at the source relays that";

/// Why a release is ignored that is a draft, or was published before.
pub const NOT_PUBLISHED: &str = "of a release only its publication is relayed";

/// Why a workflow, check, pipeline or job is ignored that is about to run, or runs.
pub const NOT_COMPLETED: &str = "of a run only its end is relayed";

/// GitHub lists at most this many paths of a commit.
const MOST_PATHS: usize = 3000;

/// Whether a source relays events that go by any of these names: as its key `events` says, or by its type's default.
pub fn relays(events: Option<&OneOrMany<String>>, default: &[&str], names: &[&str]) -> bool {
    match events {
        Some(events) => events.0.iter().any(|one| names.contains(&one.as_str())),
        None => default.iter().any(|one| names.contains(one)),
    }
}

/// First line of a text.
pub fn subject(message: Option<String>) -> Option<String> {
    text(message.and_then(|message| message.lines().next().map(str::to_owned)))
}

/// Host (with its port, if it has one) of a URL.
pub fn host(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether a commit is the one that stands for none: all zeros.
pub fn is_none(commit: &str) -> bool {
    !commit.is_empty() && commit.bytes().all(|digit| digit == b'0')
}

/// What an event says, in a few words: `push refs/heads/main`.
pub fn summary(git: &GitEvent) -> String {
    let what = git.reference.as_ref().or(git.action.as_ref()).or(git.status.as_ref());
    [Some(&git.event), what].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A commit of a push, as GitHub, Gitea and GitLab list them.
#[derive(Debug, Deserialize)]
pub struct Commit {
    id: Option<String>,
    message: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    added: Option<Vec<String>>,
    removed: Option<Vec<String>>,
    modified: Option<Vec<String>>,
}

impl Commit {
    /// Whether it says which paths it touched, and all of them.
    fn lists_paths(&self) -> bool {
        let lists = [&self.added, &self.removed, &self.modified];
        let listed: usize = lists.into_iter().flatten().map(Vec::len).sum();
        lists.into_iter().any(Option::is_some) && listed < MOST_PATHS
    }
}

/// Notes of a push the paths that its commits touched, and the message of the commit that the ref is at now: `head`,
/// or the listed one of that id. Returns that commit's time.
///
/// Which paths a push touched is not known where a ref is new, as a tag is whose commits are listed nowhere, or where it
/// moved and no commits are listed: to a commit that was there already, say.
pub fn set_commits(git: &mut GitEvent, mut head: Option<Commit>, commits: Vec<Commit>) -> Option<Timestamp> {
    let is_new = git.before.as_deref().is_none_or(is_none) || git.tag.is_some();
    git.paths_truncated |= !git.deleted && (is_new || commits.is_empty() || !commits.iter().all(Commit::lists_paths));
    let mut paths = BTreeSet::new();
    for commit in commits {
        let Commit { id, message, timestamp, added, removed, modified } = commit;
        paths.extend([added, removed, modified].into_iter().flatten().flatten());
        if head.is_none() && id.is_some() && id == git.commit {
            head = Some(Commit { id, message, timestamp, added: None, removed: None, modified: None });
        }
    }
    git.paths = paths.into_iter().collect();
    let head = head?;
    git.message = subject(head.message);
    head.timestamp
}

/// A repository, as GitHub tells of it, and Gitea after GitHub's manner.
#[derive(Debug, Deserialize)]
pub struct Repository {
    /// Owner and name.
    pub full_name: Option<String>,
    /// Its page.
    pub html_url: Option<String>,
    /// Where it is cloned from over HTTPS.
    pub clone_url: Option<String>,
    /// Where it is cloned from over SSH.
    pub ssh_url: Option<String>,
}

/// Whether a branch of `head` is one of the repository `own`. A fork's branches are a stranger's to name. Of a fork that is
/// gone nothing is left to compare.
pub fn is_own(head: Option<&Repository>, own: Option<&str>) -> bool {
    head.is_some_and(|head| head.full_name.as_deref() == own)
}

/// Notes the ref that was made or deleted, where an event names it barely and says what it is of.
pub fn set_bare_reference(git: &mut GitEvent, kind: Option<&str>, name: Option<&str>) {
    match (kind, name) {
        (Some("branch"), Some(name)) => git.set_reference(&format!("refs/heads/{name}")),
        (Some("tag"), Some(name)) => git.set_reference(&format!("refs/tags/{name}")),
        _ => {}
    }
}

/// A release, as GitHub and Gitea tell of it.
#[derive(Debug, Deserialize)]
pub struct Release {
    draft: Option<bool>,
    tag_name: Option<String>,
    name: Option<String>,
    html_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    published_at: Option<Timestamp>,
}

impl Release {
    /// Whether this event is the release's publication.
    pub fn is_published(&self, git: &GitEvent) -> bool {
        self.draft != Some(true) && git.action.as_deref() == Some("published")
    }
}

/// Notes a release. Returns when it was published.
pub fn set_release(git: &mut GitEvent, release: Release) -> Option<Timestamp> {
    git.tag = text(release.tag_name);
    git.name = text(release.name);
    git.url = text(release.html_url).or(git.url.take());
    release.published_at
}

/// A pull request, as GitHub and Gitea tell of it.
#[derive(Debug, Deserialize)]
pub struct PullRequest {
    title: Option<String>,
    html_url: Option<String>,
    merged: Option<bool>,
    state: Option<String>,
    head: Option<Head>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Head {
    #[serde(rename = "ref")]
    reference: Option<String>,
    sha: Option<String>,
    repo: Option<Repository>,
}

/// Notes a pull request to the repository `own`. Returns when it changed.
pub fn set_pull_request(git: &mut GitEvent, pull: PullRequest, own: Option<&str>) -> Option<Timestamp> {
    git.message = subject(pull.title);
    git.url = text(pull.html_url).or(git.url.take());
    // It is merged once, and may be edited and labelled ever after.
    let merges = pull.merged == Some(true) && git.action.as_deref() == Some("closed");
    git.status = if merges { Some("merged".to_owned()) } else { text(pull.state) };
    if let Some(head) = pull.head {
        git.branch = text(head.reference).filter(|_| is_own(head.repo.as_ref(), own));
        git.commit = text(head.sha);
    }
    pull.updated_at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_keeps_its_port() {
        assert_eq!(host("https://git.example.com:3000/acme/app").as_deref(), Some("git.example.com:3000"));
        assert_eq!(host("https://github.com/acme/app").as_deref(), Some("github.com"));
        assert_eq!(host("git@github.com:acme/app.git"), None);
    }

    #[test]
    fn only_zeros_stand_for_no_commit() {
        assert!(is_none("0000000000000000000000000000000000000000"));
        assert!(!is_none("") && !is_none("0000000a"));
    }
}
