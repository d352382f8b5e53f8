//! Quay notifications, of quay.io and of self-hosted Quay.
//!
//! Nothing in the request authenticates them, so that the URL token has to. Quay gives up after 10 s, tries again
//! after 30 s, and after three failures switches the notification off until somebody resets it by hand.
//! Source: github.com/quay/quay, `notifications/notificationevent.py` and `notificationmethod.py` (read 2026-08).
//!
//! Oddities: what kind of notification it is can be told by its keys only, and only `updated_tags` is a push; there is
//! no digest, no time, no pusher and no id, so that two pushes look the same and each request is its own event; a
//! manifest that is pushed by digest is not told at all; `updated_tags` was an object once. Who sets a body template
//! for the notification decides what is sent, and takes away what is read here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::auth::{Authentic, Proof, UrlKeys};
use super::json::text;
use super::{Found, ParseError, Parsed, Proven, json, oci};
use crate::domain::event::Detail;

crate::keys! {
    /// A `quay` source.
    pub struct Quay {
        ..proof: UrlKeys,
    }
}

impl Proven for Quay {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        push(json::read(&request.body)?)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(clippy::zero_sized_map_values, reason = "JSON has no sets: the values are read, and not kept")]
enum Tags {
    List(Vec<String>),
    /// To ids of v1 images, which are no digests.
    Map(BTreeMap<String, IgnoredAny>),
}

impl Tags {
    fn names(self) -> Vec<String> {
        match self {
            Self::List(names) => names,
            Self::Map(map) => map.into_keys().collect(),
        }
    }
}

#[derive(Deserialize)]
struct Payload {
    namespace: Option<String>,
    docker_url: Option<String>,
    updated_tags: Option<Tags>,
    pruned_image_count: Option<f64>,
}

fn push(payload: Payload) -> Result<Parsed, ParseError> {
    let Payload { namespace, docker_url, updated_tags, pruned_image_count } = payload;
    let (namespace, docker_url) = (text(namespace), text(docker_url));
    let Some(tags) = updated_tags.map(Tags::names) else {
        let why = match (&docker_url, &namespace) {
            (None, None) => {
                "not in the form of Quay's own notifications; a body template hides what was pushed: leave it empty"
            }
            _ => "not a push: it has no `updated_tags`",
        };
        return Ok(Parsed::ignored(docker_url.or(namespace).unwrap_or_else(|| "notification".into()), why));
    };
    let url = docker_url.ok_or(ParseError::Malformed("the body's `docker_url` is missing".into()))?;
    // What the button «Test Notification» sends. Old versions count pruned images in real pushes, too.
    let mut sorted: Vec<&str> = tags.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if pruned_image_count == Some(3.0) && sorted == ["foo", "latest"] {
        return Ok(Parsed::ignored(format!("test {url}"), "a test; the notification works"));
    }
    let Some(push) = oci::push(&url, tags, None) else {
        return Ok(Parsed::ignored(format!("push {url}"), "the push names no tag"));
    };
    Ok(oci::pushes(vec![Found { identity: None, detail: Detail::ImagePush(push), time: None }]))
}
