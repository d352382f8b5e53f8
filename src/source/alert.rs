//! What senders of alerts have in common.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Found, Parsed, fields};
use crate::domain::alert::{Alert, Alerts, Link, Object};
use crate::domain::event::Detail;

/// An alert that was told alone. `news` is what tells this news of it from others, besides its status.
pub fn single(alert: Alert, news: &str, time: Option<Timestamp>) -> Found {
    let identity = Some(format!("{} {} {news}", alert.key, alert.status.word()));
    Found { identity, detail: Detail::Alert(Box::new(Alerts::one(alert))), time }
}

/// A request with these alerts in it, each told alone.
pub fn parsed(found: Vec<Found>) -> Parsed {
    let title = |found: &Found| match &found.detail {
        Detail::Alert(group) => group.alerts.first().map(|alert| alert.title.clone()),
        Detail::ImagePush(_) | Detail::Git(_) => None,
    };
    let summary = found.iter().filter_map(title).collect::<Vec<_>>().join(", ");
    Parsed::events(summary, found)
}

/// The hour of a time, for identities of what is told again and again while it lasts: the news of today is another one
/// than that of yesterday, though nothing else tells them apart.
pub fn hour(time: Option<Timestamp>) -> String {
    time.map(|time| time.as_second().div_euclid(3600).to_string()).unwrap_or_default()
}

/// What an alert about an object says, on one line: `Pod shop/checkout: BackOff`.
pub fn title(object: &Object, reason: Option<&str>) -> String {
    let Object { kind, namespace, name } = object;
    let kind = kind.as_ref().map(|kind| format!("{kind} ")).unwrap_or_default();
    let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{kind}{namespace}{name}{reason}")
}

/// What tells an object from all others: its uid or, where the sender does not give it, kind, namespace and name.
pub fn object_key(uid: Option<String>, object: &Object) -> String {
    let Object { kind, namespace, name } = object;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    uid.unwrap_or_else(|| format!("{}/{}/{name}", part(kind), part(namespace)))
}

/// A link, where there is a URL.
pub fn link(title: &str, url: Option<String>) -> Option<Link> {
    Some(Link { title: title.to_owned(), url: url.filter(|url| !url.is_empty())? })
}

/// A map of texts. Null is an empty one; a number or a truth value is its text, and what is empty or anything else is
/// left out.
pub fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map: Option<BTreeMap<Cow<'de, str>, &'de RawValue>> = Option::deserialize(deserializer)?;
    let text = |value: &RawValue| match value.get().starts_with('[') {
        true => None,
        false => fields::texts(value).into_iter().next(),
    };
    let map = map.into_iter().flatten();
    Ok(map.filter_map(|(name, value)| Some((name.into_owned(), text(value)?))).collect())
}
