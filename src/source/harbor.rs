//! Harbor webhooks, in its default format and as CloudEvents.
//!
//! The text that the policy calls «Auth Header» is sent verbatim as `Authorization`, with no scheme added. Harbor
//! gives up after 3 s and tries three times; only a 2xx counts. There is no test button.
//! Source: goharbor.io/docs, «Configure Webhook Notifications», and github.com/goharbor/harbor (read 2026-08).
//!
//! Oddities: what is pushed by digest has the digest as its `tag`, joined with `@` to the `resource_url` (with a
//! colon in old releases); a finished scan looks like a push in everything but `type`; a tag that is added to an
//! artifact in the user interface is not told at all; `repository.name` may have slashes and lacks the project; a
//! first pull through a proxy project is a push by `harbor#proxy-cache-service`. The CloudEvents have the same data
//! under another name, in structured mode.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::json::text;
use super::oci::{self, HostKeys};
use super::{Found, ParseError, Parsed, Proven, json};
use crate::domain::event::{Detail, ImagePush};

crate::keys! {
    /// A `harbor` source.
    pub struct Harbor {
        ..proof: HeaderKeys,
        ..host: HostKeys,
    }
}

impl Proven for Harbor {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        parse(json::read(&request.body)?, &self.host)
    }
}

#[derive(Deserialize)]
struct Resource {
    digest: Option<String>,
    tag: Option<String>,
    resource_url: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_full_name: Option<String>,
}

#[derive(Deserialize)]
struct EventData {
    resources: Option<Vec<Resource>>,
    repository: Option<Repository>,
}

/// Either format: the default one has `occur_at` and `event_data`, CloudEvents `id`, `time` and `data`.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    #[serde(default, alias = "time", deserialize_with = "json::time")]
    occur_at: Option<Timestamp>,
    operator: Option<String>,
    #[serde(alias = "data")]
    event_data: Option<EventData>,
}

fn parse(payload: Payload, host: &HostKeys) -> Result<Parsed, ParseError> {
    let kind = text(payload.kind).ok_or(ParseError::Malformed("the body's `type` is missing".into()))?;
    // Harbor 1 wrote `pushImage`.
    if !matches!(kind.as_str(), "PUSH_ARTIFACT" | "pushImage" | "harbor.artifact.pushed") {
        return Ok(Parsed::ignored(kind, "not a push"));
    }
    let data = payload.event_data.ok_or(ParseError::Malformed("the body's `event_data` is missing".into()))?;
    let path = text(data.repository.and_then(|repository| repository.repo_full_name));
    let actor = text(payload.operator);
    let time = payload.occur_at;
    let id = text(payload.id);
    let mut pushes: Vec<ImagePush> = Vec::new();
    for (i, resource) in data.resources.into_iter().flatten().enumerate() {
        let wrong = |why: &str| ParseError::Malformed(format!("the body's `event_data.resources[{i}]`: {why}").into());
        let named = resource.resource_url.as_deref().and_then(oci::repository_of);
        let host = host.host(named.and_then(oci::host_of)).ok_or_else(|| wrong(oci::NO_HOST))?;
        let path = path
            .as_deref()
            .or_else(|| named.and_then(|named| named.split_once('/')).map(|(_, path)| path))
            .ok_or_else(|| wrong("neither it nor `event_data.repository` tells the repository"))?;
        let digest = resource.digest.as_deref();
        let push = oci::push(&format!("{host}/{path}"), resource.tag, digest)
            .ok_or_else(|| wrong("it has neither a tag nor a digest"))?;
        let same = |one: &&mut ImagePush| {
            push.digest.is_some() && one.digest == push.digest && one.repository == push.repository
        };
        // Several tags of one manifest are one push.
        match pushes.iter_mut().find(same) {
            Some(known) => {
                let new: Vec<_> = push.tags.into_iter().filter(|tag| !known.tags.contains(tag)).collect();
                known.tags.extend(new);
                known.tag = known.tags.first().cloned();
            }
            None => pushes.push(ImagePush { actor: actor.clone(), ..push }),
        }
    }
    if pushes.is_empty() {
        return Ok(Parsed::ignored(kind, "the push names no artifact"));
    }
    let found = |push: ImagePush| {
        // An id is stable over tries. Without one it is the time, and what was pushed.
        let when = id.clone().or_else(|| time.map(|time| time.to_string()));
        let digest = push.digest.as_deref().unwrap_or_default();
        let identity = when.map(|when| format!("{} {digest} {when}", oci::reference(&push)));
        Found { identity, detail: Detail::ImagePush(push), time }
    };
    let parsed = oci::pushes(pushes.into_iter().map(found).collect());
    Ok(Parsed { delivery_id: id, ..parsed })
}
