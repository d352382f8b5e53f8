//! Sonatype Nexus Repository 3: its repository webhooks (`rm:repository:component` and `rm:repository:asset`).
//!
//! With a secret key they are signed: `X-Nexus-Webhook-Signature` is the hex HMAC-SHA1 of the body, and there is no other
//! algorithm. Without one they are not, and then they are refused. One try, no test button.
//!
//! Oddities: nothing names the host, and repositories of Docker images may each have a port of their own, or stand in
//! the image's name: `registry_host`, or `repository_hosts`. A component has a tag and no digest. Assets are the
//! manifests and layers of it, in no order: one of both types of webhook is enough, and that is the component's. A proxy
//! repository tells what it caches as created. The time has an offset without a colon.
//! Source: help.sonatype.com, «Example Headers and Payloads» and «Working With HMAC Payloads»; sonatype/nexus-public,
//! components/nexus-webhooks and plugins/nexus-repository-webhooks (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::json::text;
use super::oci::{self, RepositoryKeys};
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, ImagePush};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::OneOrMany;

crate::keys! {
    /// A `nexus` source.
    pub struct Nexus {
        ..repositories: RepositoryKeys,
        /// The webhook's secret key; several are accepted at once.
        secret: OneOrMany<SecretRef>,
    }
}

const SIGNATURE: SignatureHeader<'static> = SignatureHeader {
    name: "X-Nexus-Webhook-Signature",
    prefix: "",
    algorithm: Algorithm::Sha1,
    encoding: Encoding::Hex,
};

impl Source for Nexus {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        auth::hmac(request, SIGNATURE, &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        let header = |name| text(request.header(name).map(str::to_owned));
        let id = header("x-nexus-webhook-delivery");
        let parsed = self.push(json::read(&request.body)?, header("x-nexus-webhook-id"), id.as_deref())?;
        Ok(Parsed { delivery_id: id, ..parsed })
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        SIGNATURE.sign(request, &self.secret.0[0], secrets)
    }
}

/// A component, or an asset.
#[derive(Deserialize)]
struct Thing {
    format: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    initiator: Option<String>,
    repository_name: Option<String>,
    action: Option<String>,
    component: Option<Thing>,
    asset: Option<Thing>,
}

impl Nexus {
    fn push(&self, payload: Payload, kind: Option<String>, id: Option<&str>) -> Result<Parsed, ParseError> {
        let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
        let (thing, place) = match (payload.component, payload.asset) {
            (Some(component), _) => (component, "component"),
            (None, Some(asset)) => (asset, "asset"),
            (None, None) => {
                let kind = kind.ok_or_else(|| missing("component"))?;
                return Ok(Parsed::ignored(kind, "not about a component of a repository"));
            }
        };
        let action = text(payload.action).ok_or_else(|| missing("action"))?;
        let summary = format!("{place} {action}");
        if !matches!(action.as_str(), "CREATED" | "UPDATED") {
            return Ok(Parsed::ignored(summary, "not a push"));
        }
        if thing.format.as_deref() != Some("docker") {
            return Ok(Parsed::ignored(summary, "not an image"));
        }
        let name = text(thing.name).ok_or_else(|| missing(&format!("{place}.name")))?;
        let (image, tag) = match place {
            "component" => (name.as_str(), text(thing.version)),
            _ => match name.trim_start_matches('/').strip_prefix("v2/").and_then(|name| name.split_once("/manifests/"))
            {
                Some((image, reference)) => (image, Some(reference.to_owned())),
                None => return Ok(Parsed::ignored(summary, "not a manifest")),
            },
        };
        let repository = text(payload.repository_name).ok_or_else(|| missing("repositoryName"))?;
        let host = self.repositories.prefix(&repository).or(self.repositories.host.host(None));
        let host = host.ok_or(ParseError::Malformed(
            "the event does not name the registry's host; set `registry_host` or `repository_hosts` at the source"
                .into(),
        ))?;
        let push = oci::push(&format!("{host}/{image}"), tag, None).ok_or_else(|| missing("component.version"))?;
        // user/address
        let user = payload.initiator.as_deref().map(|who| who.rsplit_once('/').map_or(who, |(user, _)| user));
        let push = ImagePush { actor: text(user.map(str::to_owned)), ..push };
        let identity = id.map(|id| format!("{id} {}", oci::reference(&push)));
        Ok(oci::pushes(vec![Found { identity, detail: Detail::ImagePush(push), time: payload.timestamp }]))
    }
}
