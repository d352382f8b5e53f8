//! What targets that are hosts of code have in common: which commit or pull request an event is about, and what every
//! host is to know.
//!
//! An alert names its commit by the label `originRevision` or `revision`, as the controllers of Flux and Argo CD send
//! it: `main@sha1:HASH`, `main/HASH` (Flux before 2.0) or `HASH`. It names its pull request by the label
//! `change_request`, which Flux's own comments go by.
//! Sources: fluxcd/notification-controller, internal/notifier/github.go and git_change_request_comment.go; fluxcd/pkg,
//! apis/event (read 2026-11).

use std::collections::BTreeSet;
use std::fmt::Debug;

use ::http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::message::{Message, Step};
use super::text;
use super::{Outbound, RenderError, Response};
use crate::domain::alert::Alert;
use crate::domain::event::{Detail, Event};
use crate::domain::outcome::Outcome;
use crate::domain::secret::Resolved;
use crate::domain::signature;
use crate::relay::format::Keys;

/// A host of code: where a repository is, and who we are there.
pub trait CodeHost: Keys + Debug + Send + Sync {
    /// The longest description of a commit status, in characters.
    const DESCRIPTION: usize;
    /// The longest URL of a commit status, in characters.
    const STATUS_URL: usize;
    /// The longest comment, in UTF-16 code units.
    const COMMENT: usize;
    /// How a comment is changed.
    const UPDATE: Method;

    /// The repository's path; `None` where only its number is known.
    fn repository(&self) -> Option<&str>;

    /// A request with our credential and no body; `path` is below the repository's own.
    fn request(&self, method: Method, path: &str, secrets: &Resolved, now: Timestamp) -> Result<Outbound, RenderError>;

    /// The body of a commit status.
    fn status(&self, step: Step, context: &str, description: &str) -> Value;

    /// The path of the comments on a pull request.
    fn comments(&self, number: u64) -> String;

    /// The query for a page of them, the oldest first; pages are counted from 1. `None` where all come at once.
    fn page(&self, page: u32) -> Option<String>;

    /// The path of one of them.
    fn comment(&self, number: u64, id: u64) -> String;

    /// The path of the commit `hash`, which is asked for where its status could not be set: for a host that says of one
    /// which is not there that it failed itself.
    fn commit(&self, _hash: &str) -> Option<String> {
        None
    }

    /// Judges an answer. `right` completes «the token may not …», `what` completes «refuses …».
    fn classify(&self, response: &Response, right: &str, what: &str, now: Timestamp) -> Outcome;
}

/// The commit of `repository` that `event` is about; the error completes «not told: …».
///
/// # Errors
/// Where it names none, or several, or one of another repository; and for what a commit status itself causes, which
/// would go on without end.
pub fn commit<'e>(event: &'e Event, repository: Option<&str>) -> Result<&'e str, String> {
    let git = match &event.detail {
        Detail::ImagePush(_) => return Err("a push to a registry names no commit".into()),
        Detail::Alert(group) => {
            let commits: BTreeSet<_> = group.alerts.iter().filter_map(revision).collect();
            return match Vec::from_iter(commits)[..] {
                [commit] => Ok(commit),
                [] => Err("no label `revision` of it names a commit".into()),
                _ => Err("it is about several commits".into()),
            };
        }
        Detail::Git(git) => git,
    };
    if ["status", "commit_status", "repo:commit_status_created", "pipeline", "build"].contains(&git.event.as_str()) {
        return Err("a commit status causes such events, and would be told of itself without end".into());
    }
    let path = git.repository.as_deref().and_then(|full| full.split_once('/')).map(|(_, path)| path);
    if let (Some(path), Some(own)) = (path, repository)
        && !path.eq_ignore_ascii_case(own)
    {
        return Err("it is about another repository".into());
    }
    git.commit.as_deref().filter(|hash| is_hash(hash)).ok_or_else(|| "it names no commit".into())
}

fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit in an alert's revision. A digest of an artifact is none.
fn revision(alert: &Alert) -> Option<&str> {
    ["originRevision", "revision"].iter().find_map(|label| {
        let last = alert.labels.get(*label)?.rsplit(['@', '/']).next()?;
        let hash = last.strip_prefix("sha1:").unwrap_or(last);
        is_hash(hash).then_some(hash)
    })
}

/// The number of the pull request that `event` is about; the error completes «not told: …».
///
/// # Errors
/// Where it names none.
pub fn change_request(event: &Event) -> Result<u64, String> {
    let Detail::Alert(group) = &event.detail else {
        return Err("this type of target is told of alerts only, which name a pull request".into());
    };
    let labels: BTreeSet<_> = group.alerts.iter().filter_map(|alert| alert.labels.get("change_request")).collect();
    let numbers: Option<BTreeSet<u64>> = labels.into_iter().map(|label| label.parse().ok()).collect();
    match numbers.map(Vec::from_iter).as_deref() {
        Some([number]) => Ok(*number),
        _ => Err("no label `change_request` of it names the number of one pull request".into()),
    }
}

/// The longest name of what a status is about, in characters.
const SUBJECT: usize = 100;

/// What `event` is about, in a few words that stay the same for as long as it lives: for the context of a status.
pub fn subject(event: &Event) -> String {
    let short = match &event.detail {
        Detail::Alert(group) => signature::digest(&["subject", &group.group])[..8].to_owned(),
        _ => String::new(),
    };
    let words = match &event.detail {
        Detail::Git(git) => vec![Some(git.event.as_str()), git.name.as_deref()],
        Detail::Alert(group) => match group.alerts.as_slice() {
            [Alert { object: Some(object), cluster, .. }] => vec![
                cluster.as_deref().or(event.cluster.as_deref()),
                object.kind.as_deref(),
                object.namespace.as_deref(),
                Some(object.name.as_str()),
            ],
            _ => vec![Some(event.source.as_str()), group.title.as_deref(), Some(&short)],
        },
        Detail::ImagePush(_) => Vec::new(),
    };
    let words: Vec<_> = words.into_iter().flatten().map(text::line).filter(|word| !word.is_empty()).collect();
    let subject = words.join("/");
    // Cut, two of them might become one.
    match subject.chars().count() > SUBJECT {
        true => signature::digest(&["subject", &subject])[..32].to_owned(),
        false => subject,
    }
}

/// The page to look at.
pub fn page(message: &Message) -> Option<&str> {
    let first = || message.items.iter().flat_map(|item| &item.links).next().map(|link| link.url.as_str());
    message.url.as_deref().or_else(first)
}
