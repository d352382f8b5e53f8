//! Events of Flux, as its Providers `generic-hmac` and `generic` post them.
//!
//! `generic-hmac` signs the body: `X-Signature: sha256=` and hex HMAC-SHA256. `generic` never signs: its `address` is
//! the URL with the token (`url_token: true`). There is no time in the signature and no id in the event. A retry
//! repeats the same bytes; several Alerts that take the same event differ in nothing but `metadata`. Flux tries up to
//! 4 times within the Provider's timeout (15 s) where it gets no answer, 429 or 5xx.
//! Source: fluxcd/notification-controller v1.9.3, internal/notifier, internal/server (read 2026-08).
//!
//! What becomes of an event:
//! - `severity: error` fires, as an error; a standing one is sent again every 5 minutes or so. `info` happened, and is
//!   informational. Where its reason says that the object is well now, it ends what fired before.
//! - An object that Flux gave up on and rolled back, or uninstalled, is not well: its `Ready` stays false.
//! - `commit_status: update` marks what is sent after every reconciliation that succeeded, for the sake of commit
//!   statuses. It is news only where the object failed before: of a Kustomization that fails and comes back without
//!   changes nothing else says so.
//! - The alert is the object: whatever is wrong with it, it is the same alert until the object is well.
//! - The controllers drop the prefixes of `metadata`; older ones did not, and both are read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, SignatureHeader};
use super::json::text;
use super::{ParseError, Parsed, Request, Source, alert, json};
use crate::domain::alert::{Alert, Object, Severity, Status};
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::OneOrMany;

/// How a `generic-hmac` Provider signs. It has never used another hash, and a weaker one is not accepted.
const SIGNATURE: SignatureHeader<'static> =
    SignatureHeader { name: "X-Signature", prefix: "sha256=", algorithm: Algorithm::Sha256, encoding: Encoding::Hex };

/// The reasons with which the controllers say that an object is well.
const WELL: &[&str] = &[
    "ChartPackageSucceeded",
    "ChartPullSucceeded",
    "DriftCorrected",
    "InstallSucceeded",
    "NewArtifact",
    "ReconciliationSucceeded",
    "Succeeded",
    "TestSucceeded",
    "UpgradeSucceeded",
];

/// Why a heartbeat is ignored.
const HEARTBEAT: &str = "sent for commit statuses after every reconciliation, which is no news";

/// What a Kustomization's `Progressing`, which goes before the end of the reconciliation, says when its health checks
/// passed that had failed before.
const HEALTHY_AGAIN: &str = "Health check passed in ";

crate::keys! {
    /// A `flux` source.
    pub struct Flux {
        /// The Provider's `token`, byte for byte; several are accepted at once.
        secret: OneOrMany<SecretRef>,
    }
}

impl Source for Flux {
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
        parse(json::read(&request.body)?)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        SIGNATURE.sign(request, &self.secret.0[0], secrets)
    }

    fn has_heartbeats(&self) -> bool {
        true
    }
}

#[derive(Deserialize)]
struct InvolvedObject {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    involved_object: Option<InvolvedObject>,
    severity: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    timestamp: Option<Timestamp>,
    message: Option<String>,
    reason: Option<String>,
    #[serde(default, deserialize_with = "alert::texts")]
    metadata: BTreeMap<String, String>,
}

fn parse(payload: Payload) -> Result<Parsed, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
    let involved = payload.involved_object.ok_or_else(|| missing("involvedObject"))?;
    let object = Object {
        kind: Some(text(involved.kind).ok_or_else(|| missing("involvedObject.kind"))?),
        namespace: text(involved.namespace),
        name: text(involved.name).ok_or_else(|| missing("involvedObject.name"))?,
    };
    let fails = text(payload.severity).ok_or_else(|| missing("severity"))? == "error";
    let reason = text(payload.reason);
    let labels = without_prefixes(payload.metadata);
    let title = alert::title(&object, reason.as_deref());
    let is_heartbeat = labels.get("commit_status").is_some_and(|status| status == "update");
    let (status, severity) = match (is_heartbeat, fails) {
        // It is of use only where the object failed, and has the severity that this had.
        (true, _) => (Status::Resolved, Severity::Error),
        (false, true) => (Status::Firing, Severity::Error),
        (false, false) => (Status::Event, Severity::Info),
    };
    let mut alert = Alert::new(alert::object_key(text(involved.uid), &object), status, severity, &title);
    alert.text = text(payload.message);
    alert.recovers = status == Status::Event && is_well(reason.as_deref(), alert.text.as_deref());
    alert.cluster = labels.get("cluster").cloned();
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    // A retry repeats the bytes, and several Alerts the event with its time. The same failure after a recovery is
    // another one.
    let news = signature::digest(&[
        label("cluster"),
        reason.as_deref().unwrap_or_default(),
        alert.text.as_deref().unwrap_or_default(),
        label("revision"),
        &payload.timestamp.map(|time| time.to_string()).unwrap_or_default(),
    ]);
    alert.reason = reason;
    alert.object = Some(object);
    alert.labels = labels;
    let found = alert::single(alert, &news, payload.timestamp);
    if is_heartbeat {
        let heartbeats = if fails { Vec::new() } else { vec![found] };
        return Ok(Parsed { heartbeats, ..Parsed::ignored(title, HEARTBEAT) });
    }
    Ok(alert::parsed(vec![found]))
}

/// Whether good news says that the object is well now.
fn is_well(reason: Option<&str>, message: Option<&str>) -> bool {
    reason.is_some_and(|reason| {
        WELL.contains(&reason)
            || reason == "Progressing" && message.is_some_and(|message| message.starts_with(HEALTHY_AGAIN))
    })
}

/// The metadata by their bare names. What has no prefix is newer than what has one, and of these the controller's own
/// prefix is stronger than that of annotations.
fn without_prefixes(metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let rank = |name: &str| match name.rsplit_once('/') {
        Some(("event.toolkit.fluxcd.io", _)) => 0,
        Some(_) => 1,
        None => 2,
    };
    let mut ranked: Vec<_> = metadata.into_iter().collect();
    ranked.sort_by_key(|(name, _)| rank(name));
    let bare = |name: String| name.rsplit_once('/').map(|(_, bare)| bare.to_owned()).unwrap_or(name);
    ranked.into_iter().map(|(name, value)| (bare(name), value)).collect()
}
