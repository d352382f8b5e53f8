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
//! - `commit_status: update` marks what is sent after every reconciliation, for the sake of commit statuses: no news.
//! - The alert is the object: whatever is wrong with it, it is the same alert until the object is well.
//! - The controllers drop the prefixes of `metadata`; older ones did not, and both are read.
//! - Durations in messages tell no two events apart, and neither do numbers, times and ids where something fails:
//!   `health check failed after 5m0.012345678s` is what it was an hour ago.

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
    if labels.get("commit_status").is_some_and(|status| status == "update") {
        return Ok(Parsed::ignored(title, "sent for commit statuses after every reconciliation, which is no news"));
    }
    let (status, severity) = match fails {
        true => (Status::Firing, Severity::Error),
        false => (Status::Event, Severity::Info),
    };
    let mut alert = Alert::new(alert::object_key(text(involved.uid), &object), status, severity, title);
    alert.recovers = !fails && reason.as_deref().is_some_and(|reason| WELL.contains(&reason));
    alert.text = text(payload.message);
    alert.cluster = labels.get("cluster").cloned();
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    let news = signature::digest(&[
        label("cluster"),
        reason.as_deref().unwrap_or_default(),
        &normalised(alert.text.as_deref().unwrap_or_default(), fails),
        label("revision"),
        &alert::hour(payload.timestamp),
    ]);
    alert.reason = reason;
    alert.object = Some(object);
    alert.labels = labels;
    Ok(alert::parsed(vec![alert::single(alert, &news, payload.timestamp)]))
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

/// A message without what differs each time: durations and, where something fails, numbers, times and ids. Of good news
/// they are the news: the new tag of an image is a number.
fn normalised(message: &str, fails: bool) -> String {
    let differs = |word: &str| is_duration(word) || fails && (is_number(word) || is_id(word));
    let mut normal = String::with_capacity(message.len());
    let part_of_word = |c: char| c.is_alphanumeric() || "-.:_+".contains(c);
    let mut rest = message;
    while !rest.is_empty() {
        let end = rest.find(|c| !part_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let bare = word.trim_end_matches(['.', ':']);
        let (word, tail) = if differs(bare) { ("#", &word[bare.len()..]) } else { (word, "") };
        let next = after.find(part_of_word).unwrap_or(after.len());
        normal.extend([word, tail, &after[..next]]);
        rest = &after[next..];
    }
    normal
}

/// Whether a word is a duration as Go writes them: `1m0.5s`.
fn is_duration(word: &str) -> bool {
    let mut rest = word;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        if number.is_empty() || !matches!(unit, "h" | "m" | "s" | "ms" | "µs" | "us" | "ns") {
            return false;
        }
        rest = after;
    }
    !word.is_empty()
}

/// Whether a word is a number, a version, an address or a time.
fn is_number(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || "-.:+TZ".contains(c))
}

/// Whether a word is an id of a request or the like, or a hash: long, and hexadecimal.
fn is_id(word: &str) -> bool {
    let hexadecimal = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    word.len() >= 8 && hexadecimal && word.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_left_out_of_every_message() {
        for (message, expected) in [
            ("finished in 2.084434647s, next run in 10m0s", "finished in #, next run in #"),
            ("health check failed after 5m0.012345678s: timeout", "health check failed after #: timeout"),
            ("took 1h2m3.5s.", "took #."),
            ("took 12µs or 3ms", "took # or #"),
            ("1.4.3 replaces 1.4.2 for web-5s at 5 s", "1.4.3 replaces 1.4.2 for web-5s at 5 s"),
            ("", ""),
            ("5m", "#"),
        ] {
            assert_eq!(normalised(message, false), expected, "{message}");
        }
    }

    #[test]
    fn numbers_times_and_ids_are_left_out_of_failures() {
        for (message, expected) in [
            (
                "line 12: status code 503, request id: 7e6ce0d4-1f3a-4f5b-9d57-6b3a2f1e0a11",
                "line #: status code #, request id: #",
            ),
            ("dial tcp 10.0.0.7:443: i/o timeout at 2026-01-02T03:04:05Z", "dial tcp #: i/o timeout at #"),
            ("commit 0f1e2d3c4b5a69788796a5b4c3d2e1f001234567", "commit #"),
            ("Deployment/apps/web2 of deadbeef-cafe", "Deployment/apps/web2 of deadbeef-cafe"),
        ] {
            assert_eq!(normalised(message, true), expected, "{message}");
        }
    }
}
