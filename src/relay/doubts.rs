//! What a relay file may say and can hardly mean: routes that nothing can match, and sources that no route takes. Each is a
//! warning at its place; a file with them is sound.

use std::collections::BTreeMap;

use serde_json::Value;

use super::format::{At, Problems, Read as _, Span};
use super::{Route, SourceEntry};
use crate::domain::alert::Status;
use crate::domain::matcher::KINDS;
use crate::domain::name::Name;

/// For how long a queue knows a message again, in seconds.
const DEDUPLICATION: u64 = 300;

/// Notes what is doubtful in `file`, of which these sources and routes were read.
pub(super) fn note(file: &Value, sources: &BTreeMap<Name, SourceEntry>, routes: &[Route], problems: &mut Problems) {
    let root = At::root();
    for (i, route) in routes.iter().enumerate() {
        let at = root.child("routes").child(i).child("when");
        let of_route = |(name, _): &(&Name, &SourceEntry)| route.comes_from(name);
        let sent: Vec<_> = sources.iter().filter(of_route).flat_map(|(_, entry)| entry.kinds()).collect();
        let asked: Vec<_> = route.when.kinds().collect();
        let kinds: Vec<_> = KINDS.iter().copied().filter(|kind| sent.contains(kind) && asked.contains(kind)).collect();
        if asked.is_empty() {
            problems.warning(&at, "no event can match: no kind of event has all of these keys");
        } else if kinds.is_empty() && !sent.is_empty() {
            let of = |kinds: &[&str]| {
                let named = KINDS.iter().copied().filter(|kind| kinds.contains(kind));
                named.collect::<Vec<_>>().join(" and ")
            };
            let message =
                format!("no event can match: the route's sources send {}, and this asks for {}", of(&sent), of(&asked));
            problems.warning(&at, message);
        }
        let when = file.pointer(&format!("/routes/{i}/when"));
        for (key, value) in when.and_then(Value::as_object).into_iter().flatten() {
            for (text, at) in texts(value, &at.child(key)) {
                if let Some(message) = doubt(key, text, &kinds) {
                    problems.warning(&at, message);
                }
            }
        }
    }
    let is_taken = |name: &Name| routes.iter().any(|route| route.comes_from(name));
    for name in sources.keys().filter(|name| !routes.is_empty() && !is_taken(name)) {
        problems.warning(&root.child("sources").child(name), "no route takes events of this source");
    }
    for name in sources.keys() {
        for place in [&["tolerance"][..], &["signature", "tolerance"]] {
            let at = place.iter().fold(root.child("sources").child(name), |at, key| at.child(key));
            let value = file.pointer(&format!("/sources/{name}/{}", place.join("/")));
            let span = value.and_then(|value| Span::read(value, &at, &mut Problems::default()));
            if span.is_some_and(|span| span.0.as_secs() > DEDUPLICATION) {
                let message = "what is sent again is the same delivery for five minutes only; whoever has read a request \
                               can have it delivered once more until the tolerance is over";
                problems.warning(&at, message);
            }
        }
    }
}

/// The plain texts of a condition, each with its place: what is neither a regular expression nor a range.
fn texts<'v>(value: &'v Value, at: &At) -> Vec<(&'v str, At)> {
    let all = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (item, at.child(i))).collect(),
        one => vec![(one, at.clone())],
    };
    let plain = |text: &&str| !text.starts_with("re:") && !text.starts_with("semver:");
    all.into_iter().filter_map(|(value, at)| Some((value.as_str().filter(plain)?, at))).collect()
}

/// Why a plain text is hardly what is meant, where events of these kinds may match.
fn doubt(key: &str, text: &str, kinds: &[&str]) -> Option<String> {
    let is_open = text.starts_with(['*', '?']);
    match key {
        "tag" if text.starts_with(['>', '<', '^', '~', '=']) => {
            Some(format!("no tag begins like this; did you mean `semver:{text}`?"))
        }
        "ref" if !text.starts_with("refs/") && !text.contains('*') => {
            Some(format!("a ref is written out, as refs/heads/main is; did you mean `branch: {text}`?"))
        }
        "branch" => {
            let name = text.strip_prefix("refs/heads/")?;
            Some(format!("a branch is named without refs/heads/; did you mean `{name}`?"))
        }
        "repository" if kinds == ["image_push"] => {
            if text.contains(char::is_uppercase) {
                let lower = text.to_lowercase();
                return Some(format!("repositories of images are in lower case; did you mean `{lower}`?"));
            }
            let host = text.split('/').next().unwrap_or_default();
            let is_host = host == "localhost" || host.contains(['.', ':', '*', '?']);
            let why = "an image's repository begins with its registry's host";
            (!is_open && !is_host).then(|| format!("{why}; did you mean `*/{text}`?"))
        }
        "status" if kinds == ["alert"] && !text.contains(['*', '?']) && Status::from_word(text).is_none() => {
            Some("no alert has this status; there are firing, resolved and event".into())
        }
        _ => None,
    }
}
