//! What GitHub's webhooks have in common, whether they are taken as a Git host's (`github`) or as a registry's (`ghcr`):
//! the envelope, the signature, and the package events.
//!
//! Signed with HMAC-SHA256 over the raw body in `X-Hub-Signature-256`; the older SHA-1 header is never enough.
//! A form delivery carries the JSON in the field `payload`, and its signature covers the form as sent. GitHub
//! gives up after 10 s, never delivers again by itself, and shows the answer's body under «recent deliveries».
//! Source: docs.github.com/webhooks/webhook-events-and-payloads (read 2026-08).
//!
//! Package events become image pushes. `package` comes from hooks, `registry_package` from Apps and from older hooks;
//! they differ in one key. Oddities, all seen in the wild: the kind of package is written in either case and as `docker`
//! or `container`; the tag is an empty text for a manifest pushed by digest; the published examples carry digests that
//! are none; `package_url` of an untagged version ends in a bare colon; `created_at` of a version is in the year 1.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, SignatureHeader};
use super::json::text;
use super::oci::{self, MediaType};
use super::{Found, ParseError, Parsed, json};
use crate::domain::event::{Detail, ImagePush, Original};
use crate::domain::signature::{Algorithm, Encoding};

/// How deliveries are signed.
pub const SIGNATURE: SignatureHeader<'_> = SignatureHeader {
    name: "X-Hub-Signature-256",
    prefix: "sha256=",
    algorithm: Algorithm::Sha256,
    encoding: Encoding::Hex,
};

/// What every delivery has, whatever its event.
#[derive(Debug)]
pub struct Envelope {
    /// The event, by the name in `X-GitHub-Event`.
    pub event: String,
    /// The delivery's id, which a redelivery repeats.
    pub id: Option<String>,
    /// The JSON.
    pub body: Bytes,
}

impl Envelope {
    /// Takes a delivery out of its request.
    pub fn of(request: &Authentic<'_>) -> Result<Self, ParseError> {
        let header = |name| request.header(name).map(str::to_owned);
        let event =
            header("x-github-event").ok_or(ParseError::Malformed("the header X-GitHub-Event is missing".into()))?;
        let body = match request.media_type().as_deref() {
            Some("application/json") => request.body.clone(),
            Some("application/x-www-form-urlencoded") => form_urlencoded::parse(&request.body)
                .find(|(name, _)| name == "payload")
                .map(|(_, payload)| Bytes::from(payload.into_owned()))
                .ok_or(ParseError::Malformed("the form has no field `payload`".into()))?,
            _ => {
                return Err(ParseError::UnsupportedMediaType(
                    "GitHub sends application/json or application/x-www-form-urlencoded".into(),
                ));
            }
        };
        Ok(Self { event, id: text(header("x-github-delivery")), body })
    }

    /// The delivery as targets get it passed through.
    pub fn original(self) -> Original {
        let mut headers = vec![("x-github-event".to_owned(), self.event)];
        headers.extend(self.id.map(|id| ("x-github-delivery".to_owned(), id)));
        // A form's payload is passed on as the JSON that it carries: receivers filter on JSON only.
        Original { content_type: "application/json".into(), headers, body: self.body }
    }
}

#[derive(Deserialize)]
struct Account {
    login: Option<String>,
}

#[derive(Deserialize)]
struct PackageTag {
    name: Option<String>,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Typed {
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: Option<String>,
    media_type: Option<String>,
    config: Option<Typed>,
}

#[derive(Deserialize)]
struct ContainerMetadata {
    tag: Option<PackageTag>,
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct PackageVersion {
    version: Option<String>,
    name: Option<String>,
    package_url: Option<String>,
    author: Option<Account>,
    container_metadata: Option<ContainerMetadata>,
}

#[derive(Deserialize)]
struct RegistryOf {
    url: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    name: Option<String>,
    namespace: Option<String>,
    ecosystem: Option<String>,
    package_type: Option<String>,
    owner: Option<Account>,
    registry: Option<RegistryOf>,
    package_version: Option<PackageVersion>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct PackagePayload {
    action: Option<String>,
    // The two events differ in this key only.
    #[serde(alias = "registry_package")]
    package: Option<Package>,
    sender: Option<Account>,
}

/// `package` and `registry_package`: a manifest was pushed to GitHub's container registry, or got a tag.
pub fn package(delivery: &Envelope) -> Result<Parsed, ParseError> {
    let PackagePayload { action, package, sender } = json::read(&delivery.body)?;
    let action = action.unwrap_or_default();
    let package = package.ok_or(ParseError::Malformed("the body's `package` is missing".into()))?;
    let summary = format!("{} {action}", delivery.event);
    if !matches!(action.as_str(), "published" | "updated") {
        return Ok(Parsed::ignored(summary, "not a push to the registry"));
    }
    // `npm` with `ecosystem: docker` occurs in published examples.
    let is_container = [&package.package_type, &package.ecosystem]
        .into_iter()
        .flatten()
        .any(|kind| kind.eq_ignore_ascii_case("container") || kind.eq_ignore_ascii_case("docker"));
    if !is_container {
        return Ok(Parsed::ignored(summary, "not a container package"));
    }
    let Some(version) = package.package_version else {
        return Ok(Parsed::ignored(summary, "the event names no version of the package"));
    };
    let (tag, manifest) = version.container_metadata.map_or((None, None), |metadata| (metadata.tag, metadata.manifest));
    let (tag, tag_digest) = tag.map_or((None, None), |tag| (text(tag.name), tag.digest));
    let (manifest_digest, manifest_type, config_type) = manifest.map_or((None, None, None), |manifest| {
        (manifest.digest, manifest.media_type, manifest.config.and_then(|config| config.media_type))
    });
    // A tag that is a digest is not a tag.
    let tag = tag.filter(|tag| oci::digest(tag).is_none());
    let digest = [tag_digest, manifest_digest, version.version, version.name]
        .into_iter()
        .flatten()
        .find_map(|candidate| oci::digest(&candidate).map(str::to_owned));
    let named = || {
        let registry = package.registry.as_ref().and_then(|registry| registry.url.as_deref());
        let registry = registry.and_then(|registry| url::Url::parse(registry).ok());
        // `registry.url` of container packages is the page of the registry, on github.com.
        let host = registry.as_ref().and_then(|url| url.host_str()).filter(|host| host.starts_with("containers."));
        let owner = package.owner.as_ref().and_then(|owner| owner.login.as_deref()).or(package.namespace.as_deref());
        Some(format!("{}/{}/{}", host.unwrap_or("ghcr.io"), owner?, package.name.as_deref()?))
    };
    let repository = version
        .package_url
        .as_deref()
        .and_then(oci::repository_of)
        .map(str::to_owned)
        .or_else(named)
        .ok_or(ParseError::Malformed("neither `package_url` nor owner and name tell the repository".into()))?;
    let author = version.author.and_then(|author| author.login);
    let push = ImagePush {
        repository: oci::repository(&repository),
        tag: tag.clone(),
        tags: tag.iter().cloned().collect(),
        digest,
        media_type: MediaType { manifest: manifest_type, config: config_type }.best(),
        actor: text(sender.and_then(|sender| sender.login)).or(text(author)),
    };
    let summary = format!("{summary} {}", oci::reference(&push));
    // A hook that subscribes to both events tells of each push twice, with different delivery ids. A version is
    // published once; its tag may come back to it any time after (`updated`), and nothing says whether the time moves.
    let identity = match (action.as_str(), &push.digest, package.updated_at) {
        ("published", Some(digest), Some(updated)) => {
            let tag = push.tag.as_deref().unwrap_or_default();
            Some(format!("{}:{tag}@{digest} {updated}", push.repository))
        }
        _ => delivery.id.clone(),
    };
    let found = Found { identity, detail: Detail::ImagePush(push), time: package.updated_at };
    Ok(Parsed::events(summary, vec![found]))
}
