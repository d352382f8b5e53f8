//! Notifications of CNCF Distribution (`registry`), and of registries made from it, such as GitLab's.
//!
//! The registry's configuration names fixed headers that go with each of them; there is nothing else. It gives up
//! after 1 s and sends anything that did not get a 2xx or 3xx again, without end, while later events wait behind it.
//! Source: distribution.github.io/distribution/about/notifications and github.com/distribution/distribution,
//! `notifications/` (read 2026-08).
//!
//! Oddities: an envelope may hold several events that have nothing to do with each other, though current versions send
//! one; layers are pushed as manifests are; the manifests of an index come before it, without a tag; the host is the
//! one that the pushing client used, which may be a name inside a cluster.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::json::text;
use super::oci::{self, HostKeys, MediaType};
use super::{Found, ParseError, Parsed, Proven, json};
use crate::domain::event::{Detail, ImagePush};

crate::keys! {
    /// A `distribution` or `gitlab-registry` source.
    pub struct Distribution {
        ..proof: HeaderKeys,
        ..host: HostKeys,
    }
}

impl Proven for Distribution {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        parse(json::read(&request.body)?, &self.host)
    }
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    digest: Option<String>,
    repository: Option<String>,
    url: Option<String>,
    tag: Option<String>,
    /// What the manifest refers to, where the registry is configured to tell.
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Origin {
    host: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    id: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    action: Option<String>,
    target: Option<Target>,
    request: Option<Origin>,
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Envelope {
    events: Option<Vec<Event>>,
}

impl Target {
    /// Layers and configurations are pushed, too: as `application/octet-stream`, and to `/blobs/`.
    fn is_manifest(&self) -> bool {
        let kind = self.media_type.as_deref().unwrap_or_default();
        let known = ["application/vnd.oci.image.", "application/vnd.docker.distribution."]
            .into_iter()
            .filter_map(|family| kind.strip_prefix(family))
            .any(|kind| kind.starts_with("manifest.") || kind.starts_with("index."));
        let tagged = self.tag.as_deref().is_some_and(|tag| !tag.is_empty());
        let at = self.url.as_deref().and_then(|url| url.rsplit('/').nth(1));
        known || tagged || at == Some("manifests")
    }
}

fn parse(envelope: Envelope, host: &HostKeys) -> Result<Parsed, ParseError> {
    let events = envelope.events.ok_or(ParseError::Malformed("the body's `events` is missing".into()))?;
    let delivery_id = match events.as_slice() {
        [event] => text(event.id.clone()),
        _ => None,
    };
    let (mut found, mut others, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (i, event) in events.into_iter().enumerate() {
        let malformed =
            |place: &str, why: &str| ParseError::Malformed(format!("the body's `events[{i}].{place}`{why}").into());
        let action = text(event.action).ok_or_else(|| malformed("action", " is missing"))?;
        let target = match event.target {
            Some(target) if action == "push" && target.is_manifest() => target,
            _ => {
                let what = if action == "push" { "push of a blob".to_owned() } else { action };
                if !others.contains(&what) {
                    others.push(what);
                }
                continue;
            }
        };
        let path = text(target.repository).ok_or_else(|| malformed("target.repository", " is missing"))?;
        let named = text(event.request.and_then(|request| request.host));
        let named = named.as_deref().or_else(|| target.url.as_deref().and_then(oci::host_of));
        let Some(host) = host.host(named) else {
            // To refuse it would have it sent for ever, and all others wait.
            left_out.push(oci::NO_HOST.to_owned());
            continue;
        };
        let push = oci::push(&format!("{host}/{path}"), target.tag, target.digest.as_deref())
            .ok_or_else(|| malformed("target", " has neither a tag nor a digest"))?;
        // The configuration of a manifest is among its references; of an index there is none.
        let config = target
            .references
            .into_iter()
            .flatten()
            .filter_map(|reference| reference.media_type)
            .find(|kind| kind.contains(".config."));
        let push = ImagePush {
            media_type: MediaType { manifest: target.media_type, config }.best(),
            actor: text(event.actor.and_then(|actor| actor.name)),
            ..push
        };
        let identity = text(event.id).map(|id| format!("{id} {}", oci::reference(&push)));
        found.push(Found { identity, detail: Detail::ImagePush(push), time: event.timestamp });
    }
    let summary = others.join(", ");
    if !others.is_empty() {
        left_out.push(format!("no push of a manifest: {summary}"));
    }
    let ignored = (!left_out.is_empty()).then(|| left_out.join("; "));
    let parsed = match ignored {
        None if found.is_empty() => Parsed::ignored("no event", "there is no event in it"),
        Some(why) if found.is_empty() => {
            Parsed::ignored(if summary.is_empty() { "push".to_owned() } else { summary }, why)
        }
        ignored => Parsed { ignored, ..oci::pushes(found) },
    };
    Ok(Parsed { delivery_id, ..parsed })
}
