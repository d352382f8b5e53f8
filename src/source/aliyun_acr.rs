//! Alibaba Cloud Container Registry's triggers, of Personal and Enterprise Edition.
//!
//! Nothing authenticates them, so that the URL token is all there is. One push of one tag per request. Time-out and
//! retries are undocumented; of ports, HTTPS knows only 443.
//! No event names the registry's host. Left to itself it is that of the region, `registry.REGION.aliyuncs.com`, which
//! is right for Personal Edition as it was; instances have hosts of their own: `registry_host`. `pushed_at` is a local
//! time without an offset, which tells events apart and is no time.
//! Source: alibabacloud.com/help, «Manage triggers» (Container Registry); argoproj-labs/argocd-image-updater,
//! pkg/webhook/aliyun.go (read 2026-08).

use serde::Deserialize;

use super::auth::{Authentic, Proof, UrlKeys};
use super::json::text;
use super::oci::{self, HostKeys};
use super::{Found, ParseError, Parsed, Proven, json};
use crate::domain::event::Detail;

crate::keys! {
    /// An `aliyun-acr` source.
    pub struct AliyunAcr {
        ..proof: UrlKeys,
        ..host: HostKeys,
    }
}

impl Proven for AliyunAcr {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        push(json::read(&request.body)?, &self.host)
    }
}

#[derive(Deserialize)]
struct PushData {
    digest: Option<String>,
    pushed_at: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    repo_full_name: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    region: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    push_data: Option<PushData>,
    repository: Option<Repository>,
}

fn push(payload: Payload, host: &HostKeys) -> Result<Parsed, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
    let data = payload.push_data.ok_or_else(|| missing("push_data"))?;
    let Repository { repo_full_name, namespace, name, region } =
        payload.repository.ok_or_else(|| missing("repository"))?;
    let named = text(namespace).zip(text(name)).map(|(namespace, name)| format!("{namespace}/{name}"));
    let path = text(repo_full_name).or(named).ok_or_else(|| missing("repository.repo_full_name"))?;
    let of_region = text(region).map(|region| format!("registry.{region}.aliyuncs.com"));
    let host = host.host(of_region.as_deref());
    let host = host
        .ok_or(ParseError::Malformed(format!("the body's `repository.region` is missing: {}", oci::NO_HOST).into()))?;
    let push = oci::push(&format!("{host}/{path}"), data.tag, data.digest.as_deref())
        .ok_or_else(|| missing("push_data.tag"))?;
    let identity = text(data.pushed_at).map(|when| {
        let digest = push.digest.as_deref().unwrap_or_default();
        format!("{} {digest} {when}", oci::reference(&push))
    });
    Ok(oci::pushes(vec![Found { identity, detail: Detail::ImagePush(push), time: None }]))
}
