//! AWS CodeCommit, which tells EventBridge and SNS.
//!
//! As with ECR a rule invokes the function, which IAM authenticates, or its target is an SNS topic, or an API destination
//! posts with an API key. EventBridge delivers at least once, with the same `id`; CodeCommit emits at best effort.
//! Besides, a notification rule publishes the same events to a topic, with `detailType` in place of `detail-type` and
//! without an `id`; so does a trigger of the repository, in a form of its own: `Records`, each with references, of which
//! `created` and `deleted` say what became of them.
//! `CodeCommit Repository State Change` says that one ref was created, updated or deleted; what paths that touched, it
//! does not say. `CodeCommit Pull Request State Change` is about pull requests. The event's own word is `detail.event`.
//! Clone URLs are made of region and name.
//! Sources: docs.aws.amazon.com/codecommit/latest/userguide: monitoring-events, how-to-notify and regions (read 2026-08);
//! triggers by aws/aws-lambda-go, `events/codecommit.go`, and the Lambda guide, services-codecommit; AWS shows no message
//! of a notification rule, so that its form is that of messages which users have published (read 2026-11).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{AuthError, Authentic};
use super::aws::{self, Arn, AwsKeys, missing};
use super::git::{self, subject};
use super::json::{self, text};
use super::{Claim, Found, ParseError, Parsed, Request, SNS, Source};
use crate::domain::event::{Detail, GitEvent};
use crate::domain::secret::{Resolved, SecretRef};
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

/// Where events without HTTP come from.
const SOURCES: &[&str] = &[CODECOMMIT, SNS];
/// The EventBridge source of CodeCommit's events.
const CODECOMMIT: &str = "aws.codecommit";

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
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.aws.authenticate(request, secrets, now)
    }

    fn named_by(&self, request: &Request) -> Option<SecretRef> {
        self.aws.named_by(request)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let told = match self.aws.open(&request.body, &["detail-type", "detailType", "Records"])? {
            Ok(told) => told,
            Err(parsed) => return Ok(parsed),
        };
        if let Triggered { records: Some(records) } = json::read(&told.body)? {
            return self.triggered(records);
        }
        let mut event: aws::Event<'_> = json::read(&told.body)?;
        event.id = text(event.id).or(told.message_id);
        let parsed = self.event(&event)?;
        Ok(Parsed { delivery_id: event.id, ..parsed })
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

#[derive(Default, Deserialize)]
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

/// What a trigger publishes.
#[derive(Deserialize)]
struct Triggered {
    #[serde(rename = "Records")]
    records: Option<Vec<Record>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_id: Option<String>,
    event_name: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    event_time: Option<Timestamp>,
    #[serde(rename = "eventSourceARN")]
    repository: Option<String>,
    #[serde(rename = "userIdentityARN")]
    user: Option<String>,
    codecommit: Option<References>,
}

#[derive(Deserialize)]
struct References {
    #[serde(default, deserialize_with = "json::list")]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    commit: Option<String>,
    #[serde(rename = "ref")]
    name: Option<String>,
    created: Option<bool>,
    deleted: Option<bool>,
}

impl CodeCommit {
    fn event(&self, event: &aws::Event<'_>) -> Result<Parsed, ParseError> {
        let kind = event.detail_type.as_str();
        if event.source.as_deref() != Some(CODECOMMIT) {
            return Ok(Parsed::ignored(kind, "not an event of CodeCommit"));
        }
        if !self.aws.takes(event.account.as_deref(), event.region.as_deref()) {
            return Ok(Parsed::ignored(kind, aws::ELSEWHERE));
        }
        if !matches!(kind, "CodeCommit Repository State Change" | "CodeCommit Pull Request State Change") {
            return Ok(Parsed::ignored(kind, git::NOT_RELAYED));
        }
        let region = event.region.as_deref().ok_or_else(|| missing("region"))?;
        let (summary, told) = self.told(event.detail()?, region)?;
        Ok(match told {
            Ok(git) => {
                let found =
                    Found { identity: text(event.id.clone()), detail: Detail::Git(Box::new(git)), time: event.time };
                Parsed::events(summary, vec![found])
            }
            Err(why) => Parsed::ignored(summary, why),
        })
    }

    /// A trigger tells each ref that one push changed.
    fn triggered(&self, records: Vec<Record>) -> Result<Parsed, ParseError> {
        let (mut summaries, mut events, mut ignored) = (Vec::new(), Vec::new(), None);
        let delivery_id = records.first().and_then(|record| text(record.event_id.clone()));
        for record in records {
            let name = record.event_name.unwrap_or_default();
            if name != "ReferenceChanges" {
                (summaries, ignored) = (vec![name], Some(git::NOT_RELAYED));
                continue;
            }
            let arn = record.repository.ok_or_else(|| missing("Records.eventSourceARN"))?;
            let arn = Arn::parse(&arn).ok_or_else(|| missing("Records.eventSourceARN"))?;
            if !self.aws.takes(Some(arn.account), Some(arn.region)) {
                (summaries, ignored) = (vec![name], Some(aws::ELSEWHERE));
                continue;
            }
            for reference in record.codecommit.into_iter().flat_map(|changed| changed.references) {
                let event = match (reference.created, reference.deleted) {
                    (_, Some(true)) => "referenceDeleted",
                    (Some(true), _) => "referenceCreated",
                    _ => "referenceUpdated",
                };
                let change = Change {
                    event: Some(event.into()),
                    repository_name: Some(arn.resource.into()),
                    reference_full_name: Some(
                        reference.name.ok_or_else(|| missing("Records.codecommit.references.ref"))?,
                    ),
                    commit_id: reference.commit,
                    caller_user_arn: record.user.clone(),
                    ..Change::default()
                };
                let (summary, told) = self.told(change, arn.region)?;
                match told {
                    Ok(git) => {
                        let identity = record.event_id.as_ref().map(|id| format!("{id} {summary}"));
                        events.push(Found { identity, detail: Detail::Git(Box::new(git)), time: record.event_time });
                    }
                    Err(why) => ignored = Some(why),
                }
                summaries.push(summary);
            }
        }
        if events.is_empty() && ignored.is_none() {
            ignored = Some("there is nothing in it");
        }
        let ignored = ignored.map(str::to_owned);
        Ok(Parsed { delivery_id, ignored, ..Parsed::events(summaries.join(", "), events) })
    }

    /// What a change is in a few words, and the event that it is, or why it is ignored.
    fn told(&self, change: Change, region: &str) -> Result<(String, Result<GitEvent, &'static str>), ParseError> {
        let word = text(change.event).ok_or_else(|| missing("detail.event"))?;
        if !git::relays(self.events.as_ref(), EVENTS, &[&word]) {
            return Ok((word, Err(git::NOT_RELAYED)));
        }
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
        if !git.event.starts_with("pullRequest") {
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
        let told = if git.deleted && !self.deletes { Err(git::DELETED) } else { Ok(git) };
        Ok((summary, told))
    }
}
