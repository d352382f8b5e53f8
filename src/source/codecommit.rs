//! AWS CodeCommit, which tells EventBridge and nobody else.
//!
//! As with ECR a rule invokes the function, which IAM authenticates, or an API destination posts with an API key.
//! EventBridge delivers at least once, with the same `id`; CodeCommit emits at best effort.
//! `CodeCommit Repository State Change` says that one ref was created, updated or deleted; what paths that touched, it
//! does not say. `CodeCommit Pull Request State Change` is about pull requests. The event's own word is `detail.event`.
//! Clone URLs are made of region and name.
//! Source: docs.aws.amazon.com/codecommit/latest/userguide: monitoring-events and regions (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{AuthError, Authentic};
use super::aws::{self, Arn, AwsKeys, missing};
use super::git::{self, subject};
use super::json::{self, text};
use super::{Claim, Found, ParseError, Parsed, Request, Source};
use crate::domain::event::{Detail, GitEvent};
use crate::domain::secret::Resolved;
use crate::relay::format::{At, OneOrMany, Problems};

/// The events that are relayed unless `events` says otherwise.
const EVENTS: &[&str] = &[
    "referenceCreated",
    "referenceUpdated",
    "referenceDeleted",
    "pullRequestCreated",
    "pullRequestSourceBranchUpdated",
    "pullRequestStatusChanged",
    "pullRequestMergeStatusUpdated",
];

/// The EventBridge sources that CodeCommit's events have.
const SOURCES: &[&str] = &["aws.codecommit"];

crate::keys! {
    /// A `codecommit` source.
    pub struct CodeCommit {
        ..aws: AwsKeys,
        /// The events that are relayed, by the name in `detail.event`. Left out: those about refs, and pull requests that
        /// are created, updated, closed or merged.
        events: Option<OneOrMany<String>>,
        /// Whether the deletion of a branch or tag is relayed.
        deletes: bool = false,
    }
}

impl Source for CodeCommit {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.aws.authenticate(request, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let event: aws::Event<'_> = json::read(&request.body)?;
        let parsed = self.event(&event)?;
        Ok(Parsed { delivery_id: text(event.id), ..parsed })
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        self.aws.sign(request, secrets)
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.aws.check(at, problems);
    }

    fn claim(&self) -> Option<Claim<'_>> {
        Some(self.aws.claim(Some(SOURCES)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    event: Option<String>,
    repository_name: Option<String>,
    reference_type: Option<String>,
    reference_name: Option<String>,
    reference_full_name: Option<String>,
    commit_id: Option<String>,
    old_commit_id: Option<String>,
    caller_user_arn: Option<String>,
    // Of pull requests.
    #[serde(default, deserialize_with = "json::list")]
    repository_names: Vec<String>,
    source_reference: Option<String>,
    source_commit: Option<String>,
    author: Option<String>,
    title: Option<String>,
    pull_request_status: Option<String>,
    /// A text: `True` or `False`.
    is_merged: Option<String>,
}

impl CodeCommit {
    fn event(&self, event: &aws::Event<'_>) -> Result<Parsed, ParseError> {
        let kind = event.detail_type.as_str();
        if !event.source.as_deref().is_some_and(|source| SOURCES.contains(&source)) {
            return Ok(Parsed::ignored(kind, "not an event of CodeCommit"));
        }
        if !self.aws.takes(event.account.as_deref(), event.region.as_deref()) {
            return Ok(Parsed::ignored(kind, aws::ELSEWHERE));
        }
        if !matches!(kind, "CodeCommit Repository State Change" | "CodeCommit Pull Request State Change") {
            return Ok(Parsed::ignored(kind, git::NOT_RELAYED));
        }
        let change: Change = event.detail()?;
        let word = text(change.event).ok_or_else(|| missing("detail.event"))?;
        if !git::relays(self.events.as_ref(), EVENTS, &[&word]) {
            return Ok(Parsed::ignored(word, git::NOT_RELAYED));
        }
        let region = event.region.as_deref().ok_or_else(|| missing("region"))?;
        let named = text(change.repository_name).or(change.repository_names.into_iter().next());
        let name = named.ok_or_else(|| missing("detail.repositoryName"))?;
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let repository = format!("git-codecommit.{region}.amazonaws.com{suffix}/v1/repos/{name}");

        let mut git = GitEvent { event: word, ..GitEvent::default() };
        git.clone_urls = vec![format!("https://{repository}"), format!("ssh://{repository}")];
        git.repository = Some(repository);
        let console = aws::console(region);
        git.url = Some(format!("https://{console}/codesuite/codecommit/repositories/{name}/browse?region={region}"));
        let who = text(change.caller_user_arn).or(text(change.author));
        git.actor = who.map(|arn| Arn::parse(&arn).map_or(arn.as_str(), |arn| arn.name()).to_owned());
        if kind == "CodeCommit Repository State Change" {
            let full = text(change.reference_full_name).or_else(|| {
                let folder = if change.reference_type.as_deref() == Some("tag") { "tags" } else { "heads" };
                text(change.reference_name).map(|name| match name.starts_with("refs/") {
                    true => name,
                    false => format!("refs/{folder}/{name}"),
                })
            });
            git.set_reference(&full.ok_or_else(|| missing("detail.referenceFullName"))?);
            git.before = text(change.old_commit_id);
            git.commit = text(change.commit_id);
            git.paths_truncated = true;
            git.deleted = git.event == "referenceDeleted";
        } else {
            let source = text(change.source_reference);
            git.branch = source.map(|name| name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned());
            git.commit = text(change.source_commit);
            git.message = subject(change.title);
            let merged = change.is_merged.is_some_and(|word| word.eq_ignore_ascii_case("true"));
            git.status = if merged { Some("merged".into()) } else { text(change.pull_request_status) };
        }
        let summary = git::summary(&git);
        if git.deleted && !self.deletes {
            return Ok(Parsed::ignored(summary, git::DELETED));
        }
        let found = Found { identity: text(event.id.clone()), detail: Detail::Git(Box::new(git)), time: event.time };
        Ok(Parsed::events(summary, vec![found]))
    }
}
