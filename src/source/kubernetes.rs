//! Kubernetes' own events, of either API: `v1` and `events.k8s.io/v1`, as they are or as exporters pass them on.
//!
//! The API server calls nobody: an exporter watches and posts. It proves itself by a header. Known are the event alone or
//! several in an array or a `List`; in a watch (`type`, `object`); as eventrouter has it (`verb`, `event`); in the
//! `data` of a CloudEvent; and with what kubernetes-event-exporter adds (`clusterName`, the object's labels).
//!
//! Both APIs say the same in different words: `involvedObject` is `regarding`, `message` is `note`, `source.component`
//! is `reportingController`. An event that happens again is no new one: its `count` or `series` goes on. So it is
//! told again under the same identity, and that changes with the hour. Events have no end.
//! Severity: `Normal` is informational; `Warning` is a warning or, with a reason that says that something cannot run,
//! an error. Events of cluster-wide objects, such as Karpenter's NodeClaims, live in the namespace `default` and
//! are about an object without one.
//! Sources: kubernetes/api core/v1 and events/v1 types.go; kubernetes/pkg/kubelet/events and pkg/controller;
//! kubernetes-sigs/karpenter pkg/events/reason.go; resmoio/kubernetes-event-exporter pkg/kube/event.go;
//! vmware-archive/eventrouter sinks (read 2026-08).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::json::text;
use super::{Found, ParseError, Parsed, Proven, alert, json};
use crate::domain::alert::{Alert, Object, Severity, Status};

/// The reasons of warnings that say that something cannot run: of containers, volumes, workloads and nodes; the last
/// three are Karpenter's.
const ERRORS: &[&str] = &[
    "BackOff",
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "ErrImageNeverPull",
    "Evicted",
    "Failed",
    "FailedAttachVolume",
    "FailedCreate",
    "FailedCreatePodContainer",
    "FailedCreatePodSandBox",
    "FailedMount",
    "NodeNotReady",
    "OOMKilling",
    "SystemOOM",
    "InsufficientCapacityError",
    "NodeClassNotReady",
    "UnregisteredTaintMissing",
];

crate::keys! {
    /// A `kubernetes` source.
    pub struct Kubernetes {
        ..proof: HeaderKeys,
    }
}

impl Proven for Kubernetes {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        let bodies: Vec<&RawValue> = json::one_or_many(&request.body)?;
        let (mut found, mut left_out) = (Vec::new(), BTreeSet::new());
        for body in bodies {
            unwrap(body, &mut found, &mut left_out)?;
        }
        if found.is_empty() && left_out.is_empty() {
            left_out.insert("there is no event in it");
        }
        let ignored = (!left_out.is_empty()).then(|| left_out.into_iter().collect::<Vec<_>>().join("; "));
        Ok(match found.is_empty() {
            true => Parsed::ignored("events", ignored.unwrap_or_default()),
            false => Parsed { ignored, ..alert::parsed(found) },
        })
    }
}

/// What events come in; all of it is missing where one stands alone.
#[derive(Deserialize)]
struct Wrapping<'b> {
    #[serde(borrow, alias = "object", alias = "data")]
    event: Option<&'b RawValue>,
    #[serde(borrow)]
    items: Option<Vec<&'b RawValue>>,
    #[serde(rename = "type")]
    kind: Option<String>,
    verb: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
    #[serde(default, deserialize_with = "alert::texts")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Origin {
    component: Option<String>,
    host: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    count: Option<i64>,
    #[serde(default, deserialize_with = "json::time")]
    last_observed_time: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    uid: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    creation_timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: Option<String>,
    metadata: Option<Metadata>,
    #[serde(alias = "regarding")]
    involved_object: Option<Reference>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    reason: Option<String>,
    action: Option<String>,
    #[serde(alias = "note")]
    message: Option<String>,
    #[serde(alias = "deprecatedSource")]
    source: Option<Origin>,
    #[serde(alias = "reportingController")]
    reporting_component: Option<String>,
    #[serde(alias = "deprecatedCount")]
    count: Option<i64>,
    series: Option<Series>,
    #[serde(default, deserialize_with = "json::time")]
    event_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time", alias = "deprecatedFirstTimestamp")]
    first_timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time", alias = "deprecatedLastTimestamp")]
    last_timestamp: Option<Timestamp>,
    cluster_name: Option<String>,
}

/// Adds to `found` the events in `body`, and to `left_out` why others are of no use.
fn unwrap(body: &RawValue, found: &mut Vec<Found>, left_out: &mut BTreeSet<&'static str>) -> Result<(), ParseError> {
    let Wrapping { event, items, kind, verb } = json::read(body.get().as_bytes())?;
    let gone = |word: &Option<String>| word.as_ref().is_some_and(|word| word.eq_ignore_ascii_case("deleted"));
    match (event, items) {
        // Events are kept for an hour; that one goes is no news.
        (Some(_), _) if gone(&kind) || gone(&verb) => drop(left_out.insert("an event was deleted")),
        (Some(event), _) => read(event, found, left_out)?,
        (None, Some(items)) => items.into_iter().try_for_each(|item| read(item, found, left_out))?,
        (None, None) => read(body, found, left_out)?,
    }
    Ok(())
}

fn read(body: &RawValue, found: &mut Vec<Found>, left_out: &mut BTreeSet<&'static str>) -> Result<(), ParseError> {
    let event: Event = json::read(body.get().as_bytes())?;
    match event.kind.as_deref() {
        // In a list, and from some exporters, it does not say what it is.
        None | Some("" | "Event") => found.push(told(event)?),
        Some(_) => drop(left_out.insert("an object that is not an event")),
    }
    Ok(())
}

fn told(event: Event) -> Result<Found, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the event's {place} is missing").into());
    let about = event.involved_object.ok_or_else(|| missing("`involvedObject` (or `regarding`)"))?;
    let object = Object {
        kind: Some(text(about.kind).ok_or_else(|| missing("object's `kind`"))?),
        namespace: text(about.namespace),
        name: text(about.name).ok_or_else(|| missing("object's `name`"))?,
    };
    let reason = text(event.reason).ok_or_else(|| missing("`reason`"))?;
    let severity = match event.event_type.as_deref() {
        Some("Warning") if ERRORS.contains(&reason.as_str()) => Severity::Error,
        Some("Warning") => Severity::Warning,
        _ => Severity::Info,
    };
    let part = text(about.field_path);
    let of = [Some(alert::object_key(text(about.uid), &object)), Some(reason.clone()), part.clone()];
    let key = of.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut alert = Alert::new(key, Status::Event, severity, alert::title(&object, Some(&reason)));

    let series = event.series.as_ref();
    let count = series.and_then(|series| series.count).or(event.count).filter(|count| *count > 1);
    let words = [text(event.message), count.map(|count| format!("({count} times)"))];
    alert.text = text(Some(words.into_iter().flatten().collect::<Vec<_>>().join(" ")));
    alert.reason = Some(reason);
    alert.object = Some(object);
    alert.cluster = text(event.cluster_name);
    alert.labels = about.labels;
    let (component, host) = event.source.map(|source| (source.component, source.host)).unwrap_or_default();
    let component = text(component).or_else(|| text(event.reporting_component));
    for (name, value) in [("component", component), ("host", host), ("action", event.action), ("field_path", part)] {
        if let Some(value) = text(value) {
            alert.labels.entry(name.to_owned()).or_insert(value);
        }
    }
    let created = event.metadata.as_ref().and_then(|metadata| metadata.creation_timestamp);
    let last = series.and_then(|series| series.last_observed_time).or(event.last_timestamp);
    alert.started = event.first_timestamp.or(event.event_time).or(created);
    let time = last.or(event.event_time).or(event.first_timestamp).or(created);
    let id = event.metadata.and_then(|metadata| text(metadata.uid).or(text(metadata.name))).unwrap_or_default();
    let news = format!("{} {id} {}", severity.word(), alert::hour(time));
    Ok(alert::single(alert, &news, time))
}
