//! Azure Container Registry: its own webhooks, and its events through Event Grid.
//!
//! A webhook can be given headers of one's own, and nothing else; an Event Grid subscription can, too («delivery
//! properties»), or gets the URL token. `Content-Type` may be one of those headers, so that it says nothing here.
//! Sources: learn.microsoft.com/azure/container-registry/container-registry-webhook-reference, and under
//! learn.microsoft.com/azure/event-grid: event-schema-container-registry, end-point-validation-event-grid-events-schema
//! and end-point-validation-cloud-events-schema (read 2026-08).
//!
//! Oddities: nobody is told who pushed; a push by digest has no `tag`; what is told of classic Helm charts
//! (`chart_push`) has no host. Event Grid wraps the same body in `data`, in its own schema (`eventType`) or in that of
//! CloudEvents (`type`), alone or in an array. Before it sends it makes sure of us: in its own schema with an event
//! whose code has to come back, with CloudEvents by `OPTIONS`.

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::json::text;
use super::oci::{self, HostKeys, MediaType};
use super::{Found, ParseError, Parsed, Proven, json};
use crate::domain::event::{Detail, ImagePush};

crate::keys! {
    /// An `acr` source.
    pub struct Acr {
        ..proof: HeaderKeys,
        ..host: HostKeys,
    }
}

impl Proven for Acr {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        parse(json::one_or_many(&request.body)?, &self.host)
    }

    fn shakes_hands(&self) -> bool {
        true
    }
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    digest: Option<String>,
    repository: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Origin {
    host: Option<String>,
}

/// A webhook's body, or what Event Grid wraps around one.
#[derive(Deserialize)]
struct Notice {
    id: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    action: Option<String>,
    target: Option<Target>,
    request: Option<Origin>,
    /// Of Event Grid.
    #[serde(rename = "type", alias = "eventType")]
    kind: Option<String>,
    data: Option<Box<Notice>>,
    /// In the `data` of a handshake.
    #[serde(rename = "validationCode")]
    validation_code: Option<String>,
}

fn parse(notices: Vec<Notice>, host: &HostKeys) -> Result<Parsed, ParseError> {
    let alone = notices.len() == 1;
    let mut delivery_id = None;
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (i, mut notice) in notices.into_iter().enumerate() {
        let malformed = |place: &str, why: &str| {
            let place = if alone { place.to_owned() } else { format!("[{i}].{place}") };
            ParseError::Malformed(format!("the body's `{place}`{why}").into())
        };
        let id = text(notice.id.clone());
        if alone {
            delivery_id.clone_from(&id);
        }
        let (kind, notice, within) = match (text(notice.kind.take()), notice.data.take()) {
            (Some(kind), Some(data)) => (kind, *data, "data."),
            (Some(_), None) => return Err(malformed("data", " is missing")),
            (None, _) => {
                let action = text(notice.action.take()).ok_or_else(|| malformed("action", " is missing"))?;
                (action, notice, "")
            }
        };
        let place = |name: &str| format!("{within}{name}");
        match kind.as_str() {
            "push" | "Microsoft.ContainerRegistry.ImagePushed" => {}
            "Microsoft.EventGrid.SubscriptionValidationEvent" => {
                let code =
                    text(notice.validation_code).ok_or_else(|| malformed(&place("validationCode"), " is missing"))?;
                let reply = serde_json::json!({ "validationResponse": code });
                return Ok(Parsed { reply: Some(reply), ..Parsed::ignored(kind, "Event Grid's handshake") });
            }
            _ => {
                if !others.contains(&kind) {
                    others.push(kind);
                }
                continue;
            }
        }
        let target = notice.target.ok_or_else(|| malformed(&place("target"), " is missing"))?;
        let path = text(target.repository).ok_or_else(|| malformed(&place("target.repository"), " is missing"))?;
        let named = notice.request.and_then(|request| request.host);
        let host = host
            .host(named.as_deref())
            .ok_or_else(|| malformed(&place("request.host"), &format!(" is missing: {}", oci::NO_HOST)))?;
        let push = oci::push(&format!("{host}/{path}"), target.tag, target.digest.as_deref())
            .ok_or_else(|| malformed(&place("target"), " has neither a tag nor a digest"))?;
        let media_type = MediaType { manifest: target.media_type, config: None }.best();
        // The id within is the one that a webhook would send, too; the id of Event Grid's own is another.
        let identity = text(notice.id).or(id).map(|id| format!("{id} {}", oci::reference(&push)));
        found.push(Found {
            identity,
            detail: Detail::ImagePush(ImagePush { media_type, ..push }),
            time: notice.timestamp,
        });
    }
    let left_out = (!others.is_empty()).then(|| match others.first().map(String::as_str) {
        Some("ping") => "a ping; the webhook works".to_owned(),
        _ => format!("not a push of an image: {}", others.join(", ")),
    });
    let parsed = match left_out {
        Some(why) if found.is_empty() => Parsed::ignored(others.swap_remove(0), why),
        None if found.is_empty() => Parsed::ignored("no event", "there is no event in it"),
        ignored => Parsed { ignored, ..oci::pushes(found) },
    };
    Ok(Parsed { delivery_id, ..parsed })
}
