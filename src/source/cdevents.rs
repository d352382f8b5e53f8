//! CDEvents, of which `artifact.published` is a push: specifications 0.4 (event version 0.2) and 0.5 (0.3), which read alike
//! in what is used.
//!
//! They travel in CloudEvents, structured or binary; nothing is signed: the sender repeats a fixed value in a header.
//! An event's id and source tell it from all others. What was published is a package URL, `subject.id`:
//! `pkg:oci/NAME@DIGEST?repository_url=HOST/PATH&tag=TAG`, in which the qualifier names the repository, and the name is its
//! last part only; or `pkg:docker/NAMESPACE/NAME@TAG-OR-DIGEST?repository_url=HOST`, where it is the registry. Packages
//! of other types are no images.
//! Source: cdevents/spec v0.4.1 and v0.5.0, continuous-integration.md and cloudevents-binding.md; package-url/purl-spec,
//! types oci and docker (read 2026-08).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::cloud_event::CloudEvent;
use super::json::{self, text};
use super::oci::{self, HostKeys};
use super::{Found, ParseError, Parsed, Proven};
use crate::domain::event::{Detail, ImagePush, Original};
use crate::domain::percent;

crate::keys! {
    /// A `cdevents` source.
    pub struct CdEvents {
        ..proof: HeaderKeys,
        ..host: HostKeys,
    }
}

impl Proven for CdEvents {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let event = CloudEvent::read(&request)?;
        let parsed = match event.kind.starts_with("dev.cdevents.artifact.published.") {
            true => self.published(&event)?,
            false => Parsed::ignored(&event.kind, "not the publication of an artifact"),
        };
        let original = (!parsed.events.is_empty()).then(|| {
            // The attributes of a binary event; never the header that authenticates, should that be called like one.
            let secret = self.proof.header.as_ref().map(|name| name.0.to_ascii_lowercase());
            let names = request.headers.keys().map(http::HeaderName::as_str);
            let names = names.filter(|name| name.starts_with("ce-") && Some(*name) != secret.as_deref());
            let headers = names.filter_map(|name| Some((name.to_owned(), request.header(name)?.to_owned()))).collect();
            let content_type = request.header("content-type").unwrap_or("application/json").to_owned();
            Original { content_type, headers, body: request.body.clone() }
        });
        Ok(Parsed { delivery_id: Some(event.id), original, ..parsed })
    }

    fn shakes_hands(&self) -> bool {
        true
    }
}

#[derive(Deserialize)]
struct Context {
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Content {
    user: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    id: Option<String>,
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Published {
    context: Option<Context>,
    subject: Option<Subject>,
}

impl CdEvents {
    fn published(&self, event: &CloudEvent<'_>) -> Result<Parsed, ParseError> {
        let Published { context, subject } = event.data()?;
        let missing = |place: &str| ParseError::Malformed(format!("the event's `{place}` is missing").into());
        let subject = subject.ok_or_else(|| missing("subject"))?;
        let id = text(subject.id).ok_or_else(|| missing("subject.id"))?;
        let wrong = || ParseError::Malformed("the event's `subject.id` is no package URL".into());
        let package = Package::parse(&id).ok_or_else(wrong)?;
        let repository = match package.kind.as_str() {
            "oci" => match package.qualifiers.get("repository_url") {
                Some(url) => named(url, &package.name),
                None => self.host.host(None).map(|host| format!("{host}/{}", package.name)),
            },
            "docker" => {
                let registry = package.qualifiers.get("repository_url").map(|url| bare(url));
                let host = self.host.host(registry).unwrap_or("docker.io");
                let library = if host == "docker.io" && !package.name.contains('/') { "library/" } else { "" };
                Some(format!("{host}/{library}{}", package.name))
            }
            _ => return Ok(Parsed::ignored(&event.kind, "the artifact is no image")),
        };
        let repository = repository.ok_or(ParseError::Malformed(
            format!("the event's `subject.id` has no repository_url: {}", oci::NO_HOST).into(),
        ))?;
        let (digest, version) = match package.version {
            Some(version) if oci::digest(&version).is_some() => (Some(version), None),
            // The version of an OCI package is its digest, and nothing else.
            version => (None, version.filter(|_| package.kind == "docker")),
        };
        let tags = package.qualifiers.get("tag").cloned().into_iter().chain(version);
        let push = oci::push(&repository, tags, digest.as_deref())
            .ok_or(ParseError::Malformed("the event's `subject.id` has neither a digest nor a tag".into()))?;
        let push = ImagePush { actor: text(subject.content.and_then(|content| content.user)), ..push };
        let time = event.time().or(context.and_then(|context| context.timestamp));
        let identity = Some(format!("{} {}", event.source, event.id));
        Ok(oci::pushes(vec![Found { identity, detail: Detail::ImagePush(push), time }]))
    }
}

/// A URL without its scheme, and without slashes at its end.
fn bare(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// The repository that an OCI package's `repository_url` names: the whole of it, or, of a registry, its `name` in there.
fn named(url: &str, name: &str) -> Option<String> {
    let url = bare(url);
    match url.split_once('/') {
        Some(_) => Some(url.to_owned()),
        None => (!url.is_empty()).then(|| format!("{url}/{name}")),
    }
}

/// A package URL, `pkg:TYPE/NAMESPACE/NAME@VERSION?QUALIFIERS#SUBPATH`.
struct Package {
    kind: String,
    /// With its namespace.
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
}

impl Package {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.split_once('#').map_or(text, |(rest, _)| rest).strip_prefix("pkg:")?.trim_start_matches('/');
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.split_once('/')?;
        let (name, version) = rest.rsplit_once('@').map_or((rest, None), |(name, version)| (name, Some(version)));
        let name = percent::decoded(name.trim_matches('/')).filter(|name| !name.is_empty())?;
        let version = match version {
            Some(version) => Some(percent::decoded(version)?),
            None => None,
        };
        // A plus sign is one: these are no forms.
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(key, value)| Some((key.to_ascii_lowercase(), percent::decoded(value)?)));
        let qualifiers = pairs.collect::<Option<BTreeMap<_, _>>>()?;
        Some(Self { kind: kind.to_ascii_lowercase(), name, version: version.filter(|it| !it.is_empty()), qualifiers })
    }
}
