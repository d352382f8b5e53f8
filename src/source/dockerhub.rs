//! Docker Hub webhooks.
//!
//! Nothing authenticates them: no secret, no signature, no published addresses. The URL token is all there is. One
//! push of one tag per request; no test button, no event for deletions. Time-out and retries are undocumented.
//! Source: docs.docker.com/docker-hub/repos/manage/webhooks (read 2026-08).
//!
//! Oddities: names come without a host, and official images may come without `library/`; there is no digest; older
//! deliveries write numbers as floats (`1.417566161e+09`); the digests in `dhi_metadata` are those of single platforms,
//! not of what was pushed; `callback_url` must never be called, as anybody who knows our URL can set it.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, Proof, UrlKeys};
use super::json::text;
use super::oci::{self, MediaType};
use super::{Found, ParseError, Parsed, Proven, json};
use crate::domain::event::{Detail, ImagePush};

crate::keys! {
    /// A `dockerhub` source.
    pub struct DockerHub {
        ..proof: UrlKeys,
    }
}

impl Proven for DockerHub {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        push(json::read(&request.body)?)
    }
}

#[derive(Deserialize)]
struct PushData {
    tag: Option<String>,
    pusher: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    pushed_at: Option<Timestamp>,
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_name: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    push_data: Option<PushData>,
    repository: Option<Repository>,
    callback_url: Option<String>,
}

fn push(payload: Payload) -> Result<Parsed, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
    let data = payload.push_data.ok_or_else(|| missing("push_data"))?;
    let repository = payload.repository.ok_or_else(|| missing("repository"))?;
    let name = text(repository.repo_name)
        .or_else(|| match (text(repository.namespace), text(repository.name)) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (None, name) => name,
            (Some(_), None) => None,
        })
        .ok_or_else(|| missing("repository.repo_name"))?;
    let official = if name.contains('/') { "" } else { "library/" };
    let push =
        oci::push(&format!("docker.io/{official}{name}"), data.tag, None).ok_or_else(|| missing("push_data.tag"))?;
    let push = ImagePush {
        media_type: MediaType { manifest: data.media_type, config: None }.best(),
        actor: text(data.pusher),
        ..push
    };
    // Seconds do not tell two pushes of one tag apart, and there is no digest; the URL that belongs to the request
    // may. It is compared only.
    let callback = payload.callback_url.unwrap_or_default();
    let identity = data.pushed_at.map(|time| format!("{} {time} {callback}", oci::reference(&push)));
    Ok(oci::pushes(vec![Found { identity, detail: Detail::ImagePush(push), time: data.pushed_at }]))
}
