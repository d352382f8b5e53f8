//! Buildkite Package Registries' webhooks: `package.created`.
//!
//! A webhook's token is sent in `X-Buildkite-Token`, or is the key of a signature: `X-Buildkite-Signature:
//! timestamp=<Unix seconds>,signature=<hex>`, an HMAC-SHA256 over the seconds, a dot and the body. Which of them, `mode`
//! says. Time-out and retries are undocumented.
//!
//! A package has organisation, registry and name, which make the image's: `packages.buildkite.com/ORG/REGISTRY/NAME`. What
//! kind of package it is, its tag and its digest the documented payload does not say: make the webhook in a
//! registry of OCI images, and expect a push of an image without a tag. A `version`, which Buildkite's API has elsewhere,
//! is taken for the tag.
//! Source: buildkite.com/docs/apis/webhooks/package-registries, and package-registries/ecosystems/oci (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, Mode, SignatureHeader};
use super::json::text;
use super::oci::{self, HostKeys};
use super::{Found, ParseError, Parsed, Request, Source, json};
use crate::domain::event::{Detail, ImagePush};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::{OneOrMany, Span};

crate::keys! {
    /// A `buildkite` source.
    pub struct Buildkite {
        ..host: HostKeys,
        /// The webhook's token; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// What Buildkite does with it: `hmac` signs time and body, `token` sends it in `X-Buildkite-Token`.
        mode: Mode = Mode::Hmac,
        /// How long before or after now a message may have been signed.
        tolerance: Span = Span::seconds(300),
    }
}

const TOKEN: &str = "X-Buildkite-Token";
const SIGNATURE: &str = "X-Buildkite-Signature";

/// Where images are unless a domain of one's own is set up.
const HOST: &str = "packages.buildkite.com";

/// What precedes a signature of that time.
fn prefix(timestamp: &str) -> String {
    format!("timestamp={timestamp},signature=")
}

fn header(prefix: &str) -> SignatureHeader<'_> {
    SignatureHeader { name: SIGNATURE, prefix, algorithm: Algorithm::Sha256, encoding: Encoding::Hex }
}

impl Source for Buildkite {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        if self.mode == Mode::Token {
            return auth::header(request, TOKEN, false, &self.secret.0, secrets);
        }
        let value = request.header(SIGNATURE).and_then(|value| value.strip_prefix("timestamp="));
        let Some((timestamp, _)) = value.and_then(|value| value.split_once(',')) else {
            let why = format!("the header {SIGNATURE} is missing, or not timestamp=<Unix seconds>,signature=<hex>");
            return Err(AuthError::Missing(why));
        };
        auth::recent(SIGNATURE, timestamp, self.tolerance.0, now)?;
        let parts = [timestamp.as_bytes(), b".", &request.body];
        auth::hmac_over(request, &parts, header(&prefix(timestamp)), &self.secret.0, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        self.push(json::read(&request.body)?)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String> {
        if self.mode == Mode::Token {
            return auth::repeat(request, TOKEN, &self.secret.0, secrets);
        }
        let (body, timestamp) = (request.body.clone(), now.as_second().to_string());
        let parts = [timestamp.as_bytes(), b".", &body];
        header(&prefix(&timestamp)).sign_over(request, &parts, &self.secret.0[0], secrets)
    }
}

#[derive(Deserialize)]
struct Place {
    slug: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    id: Option<String>,
    name: Option<String>,
    version: Option<String>,
    organization: Option<Place>,
    registry: Option<Place>,
    #[serde(default, deserialize_with = "json::time")]
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Sender {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    event: Option<String>,
    package: Option<Package>,
    sender: Option<Sender>,
}

impl Buildkite {
    fn push(&self, payload: Payload) -> Result<Parsed, ParseError> {
        let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
        let event = text(payload.event).ok_or_else(|| missing("event"))?;
        if event != "package.created" {
            return Ok(Parsed::ignored(event, "not the creation of a package"));
        }
        let package = payload.package.ok_or_else(|| missing("package"))?;
        let slug = |place: Option<Place>, name: &str| {
            text(place.and_then(|place| place.slug)).ok_or_else(|| missing(&format!("package.{name}.slug")))
        };
        let organisation = slug(package.organization, "organization")?;
        let registry = slug(package.registry, "registry")?;
        let name = text(package.name).ok_or_else(|| missing("package.name"))?;
        let host = self.host.host(Some(HOST)).unwrap_or(HOST);
        let repository = format!("{host}/{organisation}/{registry}/{name}");
        let push = oci::push(&repository, package.version, None)
            .unwrap_or_else(|| ImagePush { repository: oci::repository(&repository), ..ImagePush::default() });
        let push = ImagePush { actor: text(payload.sender.and_then(|sender| sender.name)), ..push };
        // A package is created once.
        let identity = text(package.id);
        Ok(oci::pushes(vec![Found { identity, detail: Detail::ImagePush(push), time: package.created_at }]))
    }
}
