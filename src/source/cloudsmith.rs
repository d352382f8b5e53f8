//! Cloudsmith's webhooks, with its own payload («JSON Object» or «JSON Array»; a template of one's own is another
//! sender: `generic`).
//!
//! With an «HMAC Signature Key» the body's HMAC-SHA1 is in `X-Cloudsmith-Signature`, in hex: bare, as the documentation
//! has it, or after `sha1=`, as others found it. With «Secret Header» and «Secret Value» that is repeated.
//!
//! `package.synced` says that a package can be had from now on; `package.tags_updated`, `package.released` and
//! `package.restored` that it can be had by other names, or again. Of a Docker package the version is the digest of its
//! manifest, without `sha256:`, and the tags are `tags.version`: seen in the pages of public packages, and not
//! documented for webhooks. `meta.trigger_id` is one for all tries.
//! Source: docs.cloudsmith.com/developer-tools/webhooks; superplanehq/superplane, pkg/integrations/cloudsmith;
//! cloudsmith.io, packages of cloudsmith/cli (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::json::text;
use super::oci::{self, HostKeys};
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, ImagePush};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::{HeaderName, OneOrMany};

crate::keys! {
    /// A `cloudsmith` source.
    pub struct Cloudsmith {
        ..host: HostKeys,
        /// The webhook's signature key or, with `header`, its secret value; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// The webhook's secret header, whose whole value is the secret. Left out: the body is signed.
        header: Option<HeaderName>,
    }
}

const HEADER: &str = "X-Cloudsmith-Signature";

/// Where images are unless a domain of one's own is set up.
const HOST: &str = "docker.cloudsmith.io";

/// The signature as it stands in this request.
fn signature(request: &Request) -> SignatureHeader<'static> {
    let prefixed = request.header(HEADER).is_some_and(|value| value.starts_with("sha1="));
    let prefix = if prefixed { "sha1=" } else { "" };
    SignatureHeader { name: HEADER, prefix, algorithm: Algorithm::Sha1, encoding: Encoding::Hex }
}

impl Source for Cloudsmith {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        match &self.header {
            Some(header) => auth::header(request, &header.0, false, &self.secret.0, secrets),
            None => auth::hmac(request, signature(request), &self.secret.0, secrets),
        }
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        self.pushes(json::one_or_many(&request.body)?)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        match &self.header {
            Some(header) => auth::repeat(request, &header.0, &self.secret.0, secrets),
            None => signature(request).sign(request, &self.secret.0[0], secrets),
        }
    }
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default, deserialize_with = "json::list")]
    version: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    format: Option<String>,
    namespace: Option<String>,
    repository: Option<String>,
    name: Option<String>,
    version: Option<String>,
    tags: Option<Tags>,
    uploader: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    event_id: Option<String>,
    trigger_id: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    event_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Payload {
    data: Option<Package>,
    meta: Option<Meta>,
}

impl Cloudsmith {
    fn pushes(&self, payloads: Vec<Payload>) -> Result<Parsed, ParseError> {
        let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
        let (mut found, mut others, mut delivery_id) = (Vec::new(), Vec::new(), None);
        let alone = payloads.len() == 1;
        for payload in payloads {
            let meta = payload.meta.ok_or_else(|| missing("meta"))?;
            let event = text(meta.event_id).ok_or_else(|| missing("meta.event_id"))?;
            let id = text(meta.trigger_id);
            if alone {
                delivery_id.clone_from(&id);
            }
            let relayed = ["package.synced", "package.tags_updated", "package.released", "package.restored"];
            if !relayed.contains(&event.as_str()) {
                others.push(event);
                continue;
            }
            let package = payload.data.ok_or_else(|| missing("data"))?;
            let format = text(package.format).ok_or_else(|| missing("data.format"))?;
            if !matches!(format.as_str(), "docker" | "oci") {
                others.push(format!("{event} of format {format}"));
                continue;
            }
            let part = |part: Option<String>, name: &str| text(part).ok_or_else(|| missing(&format!("data.{name}")));
            let namespace = part(package.namespace, "namespace")?;
            let repository = part(package.repository, "repository")?;
            let name = part(package.name, "name")?;
            let version = text(package.version);
            let digest = version.as_ref().map(|version| format!("sha256:{version}"));
            let digest = digest.filter(|digest| oci::digest(digest).is_some());
            // A version that is no digest is the tag.
            let tag = version.filter(|_| digest.is_none());
            let tags = package.tags.map(|tags| tags.version).unwrap_or_default().into_iter().chain(tag);
            let host = self.host.host(Some(HOST)).unwrap_or(HOST);
            let push = oci::push(&format!("{host}/{namespace}/{repository}/{name}"), tags, digest.as_deref())
                .ok_or_else(|| missing("data.version"))?;
            let push = ImagePush { actor: text(package.uploader), ..push };
            let identity = id.map(|id| format!("{id} {}", oci::reference(&push)));
            found.push(Found { identity, detail: Detail::ImagePush(push), time: meta.event_at });
        }
        let ignored = (!others.is_empty()).then(|| format!("not the push of an image: {}", others.join(", ")));
        let parsed = match ignored {
            Some(why) if found.is_empty() => Parsed::ignored(others.join(", "), why),
            None if found.is_empty() => Parsed::ignored("no event", "there is no event in it"),
            ignored => Parsed { ignored, ..oci::pushes(found) },
        };
        Ok(Parsed { delivery_id, ..parsed })
    }
}
