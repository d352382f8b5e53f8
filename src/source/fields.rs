//! Events of any shape: the relay file says what they become, and where in their JSON that stands.
//!
//! Values are picked out of the body as it is; no tree is made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json as json_value};

use super::oci::{self, Host};
use super::{Found, Function, ParseError, alert, json, severity};
use crate::domain::alert::{Alert, Alerts, Object, Severity, Status};
use crate::domain::event::{Detail, GitEvent, ImagePush};
use crate::relay::format::{At, Problems, Read, kind_of, parsed, suggestion};

crate::words! {
    /// What a sender's events become.
    pub enum Emits {
        /// A push to a registry.
        ImagePush = "image_push",
        /// Something that happened in a Git repository or at its host.
        Git = "git",
        /// Something is wrong, is over, or just happened.
        Alert = "alert",
    }
}

/// What begins the name of a field that becomes a label of an alert: `labels.team`.
const LABEL: &str = "labels.";

impl Emits {
    /// The names of the fields that such an event can have.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ImagePush => {
                &["id", "registry", "repository", "tag", "tags", "digest", "media_type", "actor", "time"]
            }
            Self::Git => &[
                "id",
                "event",
                "action",
                "repository",
                "ref",
                "branch",
                "tag",
                "before",
                "commit",
                "paths",
                "actor",
                "status",
                "name",
                "message",
                "url",
                "time",
            ],
            Self::Alert => &[
                "id",
                "key",
                "status",
                "severity",
                "title",
                "message",
                "reason",
                "object_kind",
                "namespace",
                "name",
                "cluster",
                "url",
                "started",
                "ended",
                "time",
            ],
        }
    }

    /// Whether such an event can have a field of this name.
    fn has(self, field: &str) -> bool {
        self.fields().contains(&field) || (self == Self::Alert && field.starts_with(LABEL))
    }
}

/// A JSON pointer (RFC 6901), in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a JSON pointer such as /data/repository".to_owned();
        let parts = text.strip_prefix('/').ok_or_else(wrong)?;
        let part = |part: &str| match part.replace("~0", "").replace("~1", "").contains('~') {
            true => Err(wrong()),
            false => Ok(part.replace("~1", "/").replace("~0", "~")),
        };
        parts.split('/').map(part).collect::<Result<_, _>>().map(Self)
    }

    /// The parts.
    pub fn parts(&self) -> &[String] {
        &self.0
    }
}

/// Where the fields of an event stand, by their names.
#[derive(Debug, Clone)]
pub struct Places(BTreeMap<String, Pointer>);

impl Read for Places {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let Value::Object(object) = value else {
            problems.error(at, format!("expected names of fields with JSON pointers, found {}", kind_of(value)));
            return None;
        };
        let known = || Emits::ALL.iter().flat_map(|emits| emits.fields()).copied();
        let mut places = BTreeMap::new();
        for (key, value) in object {
            let at = at.child(key);
            let pointer = parsed(value, &at, problems, Pointer::parse);
            match Emits::ALL.iter().any(|emits| emits.has(key)) {
                true => drop(pointer.map(|pointer| places.insert(key.clone(), pointer))),
                false => {
                    let hint = suggestion(key, known()).unwrap_or_else(|| "see `emits` for what there is".into());
                    problems.error(&at, format!("unknown field `{key}`; {hint}"));
                }
            }
        }
        (places.len() == object.len()).then_some(Self(places))
    }

    fn schema() -> Value {
        let pointer = json_value!({ "type": "string", "pattern": "^/" });
        let names = Emits::ALL.iter().flat_map(|emits| emits.fields());
        let properties: Map<String, Value> = names.map(|name| ((*name).to_owned(), pointer.clone())).collect();
        json_value!({
            "type": "object", "additionalProperties": false, "properties": properties,
            "patternProperties": { "^labels\\.": pointer },
        })
    }
}

crate::keys! {
    /// The keys of senders whose events can be of any shape.
    pub struct FieldKeys {
        /// What its events become. Decides the function, too: image_push is registry-push's, git is git-webhook's, alert
        /// is alert-intake's.
        emits: Emits,
        /// Where in an event's JSON its fields stand: names with JSON pointers. Left out: each under its own name, in
        /// `data` where the sender's format has that. An event in which they find nothing is ignored. An alert's labels
        /// are fields of their own: `labels.team`.
        fields: Option<Places>,
        /// The registry's host (and port) as images are named by it, for events that do not name it.
        registry_host: Option<Host>,
    }
}

impl FieldKeys {
    /// The function that takes the requests.
    pub fn function(&self) -> Function {
        match self.emits {
            Emits::ImagePush => Function::RegistryPush,
            Emits::Git => Function::GitWebhook,
            Emits::Alert => Function::AlertIntake,
        }
    }

    /// Notes fields that the events cannot have; `at` is the place of the entry.
    pub fn check(&self, at: &At, problems: &mut Problems) {
        let Some(Places(places)) = &self.fields else { return };
        for name in places.keys().filter(|name| !self.emits.has(name)) {
            let known = self.emits.fields().join(", ");
            let message = format!("no field of what `emits: {}` makes; there are: {known}", self.emits);
            problems.error(&at.child("fields").child(name), message);
        }
        if self.emits == Emits::ImagePush && !places.contains_key("repository") {
            problems.error(&at.child("fields"), "an image push needs its `repository`");
        }
        if self.emits == Emits::Alert && !["title", "message"].iter().any(|name| places.contains_key(*name)) {
            problems.error(&at.child("fields"), "an alert needs its `title`, or a `message` whose first line is one");
        }
        // What fires and what ends it have to be known for the same.
        if self.emits == Emits::Alert && places.contains_key("status") && !places.contains_key("key") {
            problems.error(&at.child("fields"), "an alert with a `status` needs a `key`, the same for all of its life");
        }
    }

    /// Where each field stands; those that the relay file does not name stand under their own names below `base`.
    fn places(&self, base: &[&str]) -> Vec<(String, Pointer)> {
        let below_base = |name: &str| base.iter().map(|part| (*part).to_owned()).chain([name.to_owned()]).collect();
        match &self.fields {
            Some(Places(places)) => places.iter().map(|(name, pointer)| (name.clone(), pointer.clone())).collect(),
            // What tells an event from others is the sender's own, unless the relay file says otherwise.
            None => {
                let names = self.emits.fields().iter().filter(|name| **name != "id");
                names.map(|name| ((*name).to_owned(), Pointer(below_base(name)))).collect()
            }
        }
    }

    /// Finds the fields of an event: `pick` gets pointers, and gives the texts at each.
    ///
    /// # Errors
    /// Those of `pick`.
    pub fn find(
        &self,
        base: &[&str],
        pick: impl FnOnce(&[&[String]]) -> Result<Vec<Vec<String>>, ParseError>,
    ) -> Result<Fields<'_>, ParseError> {
        let places = self.places(base);
        let pointers: Vec<_> = places.iter().map(|(_, pointer)| pointer.parts()).collect();
        let texts = pick(&pointers)?;
        let names = places.into_iter().map(|(name, _)| name);
        let found = names.zip(texts).filter(|(_, texts)| !texts.is_empty()).collect();
        Ok(Fields { keys: self, found })
    }
}

/// The fields that were found in an event.
#[derive(Debug)]
pub struct Fields<'k> {
    keys: &'k FieldKeys,
    found: BTreeMap<String, Vec<String>>,
}

impl Fields<'_> {
    fn all(&mut self, name: &str) -> Vec<String> {
        self.found.remove(name).unwrap_or_default()
    }

    fn one(&mut self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    /// Makes the event, and says in a few words what it is. `word` is the sender's own for it; `identity` and `time`
    /// stand where no field says otherwise.
    ///
    /// # Errors
    /// Why it is ignored.
    pub fn into_event(
        mut self,
        word: &str,
        identity: Option<String>,
        time: Option<Timestamp>,
    ) -> Result<(String, Found), String> {
        if self.found.is_empty() {
            return Err("none of the source's `fields` is in it".into());
        }
        let identity = self.one("id").or(identity);
        let time = self.one("time").and_then(|text| read_time(&text)).or(time);
        let (summary, detail) = match self.keys.emits {
            Emits::ImagePush => {
                let push = self.image_push()?;
                (format!("{word} {}", oci::reference(&push)), Detail::ImagePush(push))
            }
            Emits::Git => {
                let git = self.git(word);
                let what = git.reference.as_ref().or(git.action.as_ref()).or(git.status.as_ref());
                let summary = [Some(&git.event), what].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
                (summary, Detail::Git(Box::new(git)))
            }
            Emits::Alert => {
                let alert = self.alert(word, identity.as_deref())?;
                // A sender may have one id for all of an alert's life.
                let news = [identity, alert.started.or(time).map(|time| time.to_string())];
                let identity = news.iter().any(Option::is_some).then(|| {
                    let news = news.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
                    format!("{} {} {news}", alert.key, alert.status.word())
                });
                let detail = Detail::Alert(Box::new(Alerts::one(alert.clone())));
                return Ok((format!("{word} {}", alert.title), Found { identity, detail, time }));
            }
        };
        Ok((summary, Found { identity, detail, time }))
    }

    /// The sender's own id of the event.
    pub fn id(&self) -> Option<String> {
        self.found.get("id")?.first().cloned()
    }

    fn image_push(&mut self) -> Result<ImagePush, String> {
        let named = self.one("repository").ok_or("the field `repository` is not in it")?;
        // Some name the image with its tag or digest.
        let (own_tag, own_digest) = (oci::tag_of(&named).map(str::to_owned), named.split_once('@').map(|(_, it)| it));
        let repository = oci::repository(oci::repository_of(&named).unwrap_or(&named));
        let host = match (self.one("registry"), &self.keys.registry_host) {
            (Some(registry), _) => Some(oci::repository(&registry)),
            (None, Some(host)) if !names_a_host(&repository) => Some(host.0.clone()),
            _ => None,
        };
        let repository = match host {
            Some(host) if !repository.starts_with(&format!("{host}/")) => format!("{host}/{repository}"),
            _ => repository,
        };
        let mut tags: Vec<String> = Vec::new();
        let named_tags = [self.all("tag"), self.all("tags"), own_tag.into_iter().collect()].concat();
        // A tag that is a digest is not a tag.
        let (digests, named_tags): (Vec<_>, Vec<_>) =
            named_tags.into_iter().partition(|tag| oci::digest(tag).is_some());
        for tag in named_tags {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let digest = self.one("digest");
        // Some write the whole reference.
        let digest = digest.as_deref().map(|digest| digest.rsplit_once('@').map_or(digest, |(_, digest)| digest));
        let digest = [digest, own_digest, digests.first().map(String::as_str)];
        Ok(ImagePush {
            repository,
            tag: tags.first().cloned(),
            tags,
            digest: digest.into_iter().flatten().find_map(oci::digest).map(str::to_owned),
            media_type: self.one("media_type"),
            actor: self.one("actor"),
        })
    }

    /// What has no status of its own happened, and that is all. Without a `key` the alert is told by its object and
    /// reason, or is one of its own.
    fn alert(&mut self, word: &str, identity: Option<&str>) -> Result<Alert, String> {
        let status = self.one("status").map_or(Status::Event, |word| status_of(&word));
        let message = self.one("message");
        let title = self.one("title").or_else(|| message.clone());
        let title = title.as_deref().and_then(|title| title.trim().lines().next()).map(str::to_owned);
        let title = title.ok_or("neither the field `title` nor `message` is in it")?;
        let said = self.one("severity").and_then(|word| severity::of(&word));
        let severity = said.unwrap_or(match status {
            Status::Event => Severity::Info,
            Status::Firing | Status::Resolved => Severity::Warning,
        });
        let (kind, namespace, name) = (self.one("object_kind"), self.one("namespace"), self.one("name"));
        let object = name.map(|name| Object { kind, namespace, name });
        let reason = self.one("reason");
        let key = self.one("key").unwrap_or_else(|| {
            let about = object.as_ref().map(|object| alert::object_key(None, object));
            let own = [Some(word.to_owned()), about, reason.clone()];
            let identity = identity.filter(|_| object.is_none()).map(str::to_owned);
            own.into_iter().chain([identity]).flatten().collect::<Vec<_>>().join(" ")
        });
        let mut alert = Alert::new(key, status, severity, title);
        alert.text = message.filter(|message| *message != alert.title);
        alert.reason = reason;
        alert.object = object;
        alert.cluster = self.one("cluster");
        alert.links = alert::link("Source", self.one("url")).into_iter().collect();
        alert.started = self.one("started").and_then(|text| read_time(&text));
        alert.ended = self.one("ended").and_then(|text| read_time(&text)).filter(|_| status == Status::Resolved);
        let labels = std::mem::take(&mut self.found).into_iter();
        let labels = labels.filter_map(|(name, texts)| Some((name.strip_prefix(LABEL)?.to_owned(), texts.join(","))));
        alert.labels = labels.collect();
        Ok(alert)
    }

    fn git(&mut self, word: &str) -> GitEvent {
        let mut git = GitEvent { event: self.one("event").unwrap_or_else(|| word.to_owned()), ..GitEvent::default() };
        if let Some(reference) = self.one("ref") {
            git.set_reference(&reference);
        }
        let repository = self.one("repository");
        git.repository = repository.map(|name| {
            let name = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest).trim_end_matches('/');
            name.strip_suffix(".git").unwrap_or(name).to_owned()
        });
        git.action = self.one("action");
        git.branch = self.one("branch").or(git.branch);
        git.tag = self.one("tag").or(git.tag);
        git.before = self.one("before");
        git.commit = self.one("commit");
        git.paths = self.all("paths");
        git.actor = self.one("actor");
        git.status = self.one("status");
        git.name = self.one("name");
        git.message = self.one("message").and_then(|message| message.lines().next().map(str::to_owned));
        git.url = self.one("url");
        git
    }
}

/// Whether a name begins with a host: as everywhere, one has a dot or a port, or is `localhost`.
fn names_a_host(repository: &str) -> bool {
    let first = repository.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost")
}

/// The status that a sender's word stands for, in any case. A word that is none of these tells that something happened.
///
/// - firing: `firing`, `alerting`, `alarm`, `triggered`, `trigger`, `open`, `opened`, `active`, `problem`, `failed`,
///   `failing`, `failure`, `down`, `critical`
/// - resolved: `resolved`, `resolve`, `ok`, `closed`, `close`, `recovered`, `recovery`, `inactive`, `cleared`,
///   `success`, `succeeded`, `up`
fn status_of(word: &str) -> Status {
    match word.trim().to_ascii_lowercase().as_str() {
        "firing" | "alerting" | "alarm" | "triggered" | "trigger" | "open" | "opened" | "active" | "problem"
        | "failed" | "failing" | "failure" | "down" | "critical" => Status::Firing,
        "resolved" | "resolve" | "ok" | "closed" | "close" | "recovered" | "recovery" | "inactive" | "cleared"
        | "success" | "succeeded" | "up" => Status::Resolved,
        _ => Status::Event,
    }
}

/// RFC 3339, or seconds since 1970.
fn read_time(text: &str) -> Option<Timestamp> {
    let seconds = || Timestamp::from_second(text.split_once('.').map_or(text, |(whole, _)| whole).parse().ok()?).ok();
    text.parse().ok().or_else(seconds)
}

/// The texts that stand at each of these places of a JSON body: one for a text, a number or a truth value, several for
/// a list of such, none for anything else.
///
/// # Errors
/// Where the body is not JSON.
pub fn pick(body: &[u8], pointers: &[&[String]]) -> Result<Vec<Vec<String>>, ParseError> {
    let body: &RawValue = json::read(body)?;
    let mut found = vec![Vec::new(); pointers.len()];
    pick_below(body, pointers.iter().copied().enumerate().collect(), &mut found);
    Ok(found)
}

/// Each of `wanted` is the index of its result, and what is left of its pointer.
fn pick_below(value: &RawValue, wanted: Vec<(usize, &[String])>, found: &mut [Vec<String>]) {
    let deeper: Vec<_> = wanted
        .into_iter()
        .filter(|(index, pointer)| {
            if pointer.is_empty() {
                found[*index] = texts(value);
            }
            !pointer.is_empty()
        })
        .collect();
    if !deeper.is_empty() {
        // It is sound JSON, as it was read before; what is neither object nor list has nothing below it.
        let _ = serde_json::Deserializer::from_str(value.get()).deserialize_any(Below { wanted: deeper, found });
    }
}

/// The texts in a value.
pub fn texts(value: &RawValue) -> Vec<String> {
    let text = |value: &RawValue| match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(value.get()).ok().filter(|text| !text.is_empty()),
        b'[' | b'{' | b'n' => None,
        // A number as it is written: 1.10 is another tag than 1.1.
        _ => Some(value.get().to_owned()),
    };
    match value.get().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
            items.into_iter().filter_map(text).collect()
        }
        _ => text(value).into_iter().collect(),
    }
}

struct Below<'w> {
    wanted: Vec<(usize, &'w [String])>,
    found: &'w mut [Vec<String>],
}

impl<'w> Below<'w> {
    fn under(&self, name: &str) -> Vec<(usize, &'w [String])> {
        let fitting = self.wanted.iter().filter_map(|(index, pointer)| {
            let (first, rest) = pointer.split_first()?;
            (first == name).then_some((*index, rest))
        });
        fitting.collect()
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("keys and values, or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.under(&key) {
                wanted if wanted.is_empty() => drop(map.next_value::<IgnoredAny>()?),
                wanted => pick_below(map.next_value()?, wanted, self.found),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0usize.. {
            match self.under(&index.to_string()) {
                wanted if wanted.is_empty() => match items.next_element::<IgnoredAny>()? {
                    Some(IgnoredAny) => {}
                    None => break,
                },
                wanted => match items.next_element()? {
                    Some(value) => pick_below(value, wanted, self.found),
                    None => break,
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(body: &str, pointer: &str) -> Vec<String> {
        let pointer = Pointer::parse(pointer).expect("pointer");
        pick(body.as_bytes(), &[pointer.parts()]).expect("JSON").remove(0)
    }

    #[test]
    fn pointers_lead_through_objects_and_lists() {
        let body = r#" {"a":{"b":[{"c":"x"},{"c":"y","d/e":"s","f~g":"t","":"empty"}]},"list":["1",2,null,"",[3]]} "#;
        for (pointer, expected) in [
            ("/a/b/1/c", vec!["y"]),
            ("/a/b/1/d~1e", vec!["s"]),
            ("/a/b/1/f~0g", vec!["t"]),
            ("/a/b/1/", vec!["empty"]),
            ("/list", vec!["1", "2"]),
            ("/list/0", vec!["1"]),
            ("/a", vec![]),
            ("/a/b/2/c", vec![]),
            ("/a/b/01/c", vec![]),
            ("/list/0/x", vec![]),
            ("/nowhere", vec![]),
        ] {
            assert_eq!(picked(body, pointer), expected, "{pointer}");
        }
    }

    #[test]
    fn several_pointers_may_share_their_way() {
        let pointers = ["/a/b", "/a", "/a/c/0"].map(|text| Pointer::parse(text).expect("pointer"));
        let parts: Vec<_> = pointers.iter().map(Pointer::parts).collect();
        let found = pick(br#"{"a":{"b":"x","c":["y"]}}"#, &parts).expect("JSON");
        assert_eq!(found, [vec!["x".to_owned()], vec![], vec!["y".to_owned()]]);
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        assert_eq!(picked(r#"{"tag":1.10,"flag":true,"none":null}"#, "/tag"), ["1.10"]);
        assert_eq!(picked(r#"{"tag":1.10,"flag":true,"none":null}"#, "/flag"), ["true"]);
        assert_eq!(picked(r#"{"tag":1.10,"flag":true,"none":null}"#, "/none"), [""; 0]);
    }

    #[test]
    fn a_body_that_is_no_object_holds_nothing_and_one_that_is_no_json_is_refused() {
        for body in ["1", "null", "\"a\"", "[]"] {
            assert_eq!(picked(body, "/a"), [""; 0]);
        }
        assert!(pick(b"{\"a\":1}x", &[]).is_err());
        assert!(pick(b"", &[]).is_err());
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "a", "$.a", "/a~2", "/a~"] {
            assert!(Pointer::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_text_and_as_seconds() {
        let time = "2026-08-20T10:05:44Z".parse().ok();
        for text in ["2026-08-20T10:05:44Z", "1787220344", "1787220344.0"] {
            assert_eq!(read_time(text), time, "{text}");
        }
        assert_eq!(read_time("yesterday"), None);
    }
}
