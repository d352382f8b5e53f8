//! Zot's events, by the HTTP sink of its events extension: CloudEvents 1.0, binary as it sends them.
//!
//! A sink logs in with user name and password, or sends headers of one's own. 30 s, one try.
//! No event names the registry's host. One event for each tag that changed, with an id of its own; a manifest pushed by
//! digest has the digest as its reference. `zotregistry.image.updated` is a push; the manifest itself, a JSON text, tells
//! what is in it.
//! Source: project-zot/zot, pkg/extensions/events (read 2026-08).

use serde::Deserialize;

use super::auth::{Authentic, LoginKeys, Proof};
use super::cloud_event::CloudEvent;
use super::json::text;
use super::oci::{self, Host, MediaType};
use super::{Found, ParseError, Parsed, Proven};
use crate::domain::event::{Detail, ImagePush};

crate::keys! {
    /// A `zot` source.
    pub struct Zot {
        ..login: LoginKeys,
        /// The registry's host (and port) as images are named by it.
        registry_host: Host,
    }
}

impl Proven for Zot {
    fn proof(&self) -> &dyn Proof {
        &self.login
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let event = CloudEvent::read(&request)?;
        let parsed = match event.kind.as_str() {
            "zotregistry.image.updated" => self.push(&event)?,
            kind => Parsed::ignored(kind, "not a push of an image"),
        };
        Ok(Parsed { delivery_id: Some(event.id), ..parsed })
    }
}

#[derive(Deserialize)]
struct Actor {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    name: Option<String>,
    reference: Option<String>,
    digest: Option<String>,
    media_type: Option<String>,
    manifest: Option<String>,
    actor: Option<Actor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Typed>,
}

impl Zot {
    fn push(&self, event: &CloudEvent<'_>) -> Result<Parsed, ParseError> {
        let data: Data = event.data()?;
        let missing = |place: &str| ParseError::Malformed(format!("the data's `{place}` is missing").into());
        let name = text(data.name).ok_or_else(|| missing("name"))?;
        let name = format!("{}/{name}", self.registry_host.0);
        let push = oci::push(&name, data.reference, data.digest.as_deref()).ok_or_else(|| missing("reference"))?;
        // An index has no configuration, and what is no manifest says nothing.
        let manifest: Option<Manifest> = data.manifest.and_then(|text| serde_json::from_str(&text).ok());
        let config = manifest.and_then(|manifest| manifest.config).and_then(|config| config.media_type);
        let push = ImagePush {
            media_type: MediaType { manifest: data.media_type, config }.best(),
            actor: text(data.actor.and_then(|actor| actor.name)),
            ..push
        };
        let found = Found { identity: Some(event.id.clone()), detail: Detail::ImagePush(push), time: event.time() };
        Ok(oci::pushes(vec![found]))
    }
}
