//! Amazon ECR, which tells EventBridge and nobody else.
//!
//! Three ways lead here. A rule with the function as its target invokes it: IAM has authenticated that, and there are no
//! headers. The rule's target is an SNS topic, which invokes the function or posts over HTTPS, signed. Or an API
//! destination posts over HTTPS, with its connection's API key in a header. By all of them comes the event as it is, or
//! what an input transformer makes of it, of which one is known: the CloudEvent `com.amazon.ecr.image.push` that
//! argocd-image-updater documents (sent as plain `application/json`).
//!
//! `ECR Image Action` with `PUSH` and `SUCCESS` is a push. Whether a replicated image, or one that a pull-through cache
//! fetched, raises that too in the registry where it arrives is not documented: their own events are pushes where the
//! source says so (`replications`, `pull_through`). An image action's `image-tag` is missing where a manifest was pushed by
//! digest, as each part of a multi-arch image is. No event names the registry's host: it is made of account and region,
//! or `registry_host`. EventBridge delivers at least once, with the same `id`; ECR emits at best effort. An API
//! destination waits 5 s and tries for 24 h.
//! Source: docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{AuthError, Authentic};
use super::aws::{self, AwsKeys, missing};
use super::json::text;
use super::oci::{self, Host, MediaType};
use super::{Claim, Found, ParseError, Parsed, Request, SNS, Source, json};
use crate::domain::event::{Detail, ImagePush};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, Problems};

crate::keys! {
    /// An `ecr` source.
    pub struct Ecr {
        ..aws: AwsKeys,
        /// The registry's host, where images are named by another one than ACCOUNT.dkr.ecr.REGION.amazonaws.com.
        registry_host: Option<Host>,
        /// Whether the arrival of an image from another region or account (`ECR Replication Action`) is a push.
        replications: bool = false,
        /// Whether it is one that an image was fetched from an upstream registry (`ECR Pull Through Cache Action`).
        pull_through: bool = false,
    }
}

/// Where events without HTTP come from.
const SOURCES: &[&str] = &[ECR, SNS];
/// The EventBridge source of ECR's events.
const ECR: &str = "aws.ecr";

impl Source for Ecr {
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
        let told = match self.aws.open(&request.body, &["detail-type", "specversion"])? {
            Ok(told) => told,
            Err(parsed) => return Ok(parsed),
        };
        let body: Body = json::read(&told.body)?;
        match (body.detail_type.is_some(), body.specversion.is_some()) {
            (true, _) => self.event(body),
            (false, true) => self.cloud_event(body),
            (false, false) => Err(ParseError::Malformed(
                "the body has no `detail-type` as EventBridge's events have, and no `specversion` as CloudEvents have"
                    .into(),
            )),
        }
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

/// An event of EventBridge, or a CloudEvent made of one: both have `id`, `source` and `time`.
#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    source: Option<String>,
    time: Option<String>,
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    account: Option<String>,
    region: Option<String>,
    detail: Option<EcrDetail>,
    specversion: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<Transformed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct EcrDetail {
    action_type: Option<String>,
    #[serde(alias = "sync-status")]
    result: Option<String>,
    repository_name: Option<String>,
    image_digest: Option<String>,
    image_tag: Option<String>,
    manifest_media_type: Option<String>,
    artifact_media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transformed {
    repository_name: Option<String>,
    image_digest: Option<String>,
    image_tag: Option<String>,
    registry_id: Option<String>,
}

impl Ecr {
    fn event(&self, body: Body) -> Result<Parsed, ParseError> {
        let kind = body.detail_type.unwrap_or_default();
        let ignored = |summary: &str, why: &str| {
            let mut parsed = Parsed::ignored(summary, why);
            parsed.delivery_id = text(body.id.clone());
            Ok(parsed)
        };
        if body.source.as_deref() != Some(ECR) {
            return ignored(&kind, "not an event of ECR");
        }
        let expected = match kind.as_str() {
            "ECR Image Action" => "PUSH",
            "ECR Replication Action" if self.replications => "REPLICATE",
            "ECR Pull Through Cache Action" if self.pull_through => "",
            "ECR Replication Action" => return ignored(&kind, "`replications: true` at the source relays that"),
            "ECR Pull Through Cache Action" => return ignored(&kind, "`pull_through: true` at the source relays that"),
            _ => return ignored(&kind, "not a push to the registry"),
        };
        let detail = body.detail.ok_or_else(|| missing("detail"))?;
        let summary = match (detail.action_type, expected) {
            // A cache has but one thing to tell.
            (_, "") => kind,
            (Some(action), expected) if action == expected => format!("{kind} {action}"),
            (Some(action), _) => return ignored(&format!("{kind} {action}"), "not a push to the registry"),
            (None, _) => return Err(missing("detail.action-type")),
        };
        if detail.result.as_deref() != Some("SUCCESS") {
            return ignored(&summary, "the push did not succeed");
        }
        let push = Push {
            id: body.id,
            identity: None,
            time: body.time.and_then(|time| time.parse().ok()),
            summary,
            account: body.account.ok_or_else(|| missing("account"))?,
            region: body.region.ok_or_else(|| missing("region"))?,
            repository: detail.repository_name.ok_or_else(|| missing("detail.repository-name"))?,
            tag: detail.image_tag,
            digest: detail.image_digest,
            media_type: MediaType { manifest: detail.manifest_media_type, config: detail.artifact_media_type },
        };
        Ok(self.push(push))
    }

    fn cloud_event(&self, body: Body) -> Result<Parsed, ParseError> {
        let kind = body.kind.ok_or_else(|| missing("type"))?;
        if kind != "com.amazon.ecr.image.push" {
            return Ok(Parsed::ignored(kind, "not a push to the registry"));
        }
        let source = body.source.ok_or_else(|| missing("source"))?;
        let data = body.data.ok_or_else(|| missing("data"))?;
        // urn:aws:ecr:REGION:ACCOUNT:repository/NAME
        let mut urn = source.split(':').skip(3);
        let (region, account) = (urn.next(), urn.next());
        let push = Push {
            identity: body.id.as_ref().map(|id| format!("{source} {id}")),
            id: body.id,
            time: body.time.and_then(|time| time.parse().ok()),
            summary: kind,
            account: text(data.registry_id).or(account.map(str::to_owned)).ok_or_else(|| missing("data.registryId"))?,
            region: region
                .map(str::to_owned)
                .ok_or(ParseError::Malformed("the body's `source` is not urn:aws:ecr:REGION:ACCOUNT:…".into()))?,
            repository: data.repository_name.ok_or_else(|| missing("data.repositoryName"))?,
            tag: data.image_tag,
            digest: data.image_digest,
            media_type: MediaType::default(),
        };
        Ok(self.push(push))
    }

    fn push(&self, push: Push) -> Parsed {
        let id = text(push.id);
        if !self.aws.takes(Some(&push.account), Some(&push.region)) {
            let mut parsed = Parsed::ignored(push.summary, aws::ELSEWHERE);
            parsed.delivery_id = id;
            return parsed;
        }
        let suffix = if push.region.starts_with("cn-") { ".cn" } else { "" };
        let host = match &self.registry_host {
            Some(host) => host.0.clone(),
            None => format!("{}.dkr.ecr.{}.amazonaws.com{suffix}", push.account, push.region),
        };
        // A tag that is a digest is not a tag.
        let tag = text(push.tag).filter(|tag| oci::digest(tag).is_none());
        let image = ImagePush {
            repository: oci::repository(&format!("{host}/{}", push.repository)),
            tags: tag.iter().cloned().collect(),
            tag,
            digest: push.digest.as_deref().and_then(oci::digest).map(str::to_owned),
            media_type: push.media_type.best(),
            actor: None,
        };
        let summary = format!("{} {}", push.summary, oci::reference(&image));
        let identity = push.identity.or_else(|| id.clone());
        let found = Found { identity, detail: Detail::ImagePush(image), time: push.time };
        Parsed { delivery_id: id, ..Parsed::events(summary, vec![found]) }
    }
}

/// A push, in whichever form it was told.
struct Push {
    id: Option<String>,
    /// Where the id alone does not tell it from others.
    identity: Option<String>,
    time: Option<Timestamp>,
    summary: String,
    account: String,
    region: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
    media_type: MediaType,
}
