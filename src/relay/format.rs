//! How values of the relay file are read: every problem at once, each with its place and, where one can be
//! guessed, a suggestion. The same descriptions make the JSON Schema, so that the two cannot differ.
//!
//! A type that may stand in the relay file implements [`Read`]; an object with keys is declared with
//! [`keys!`](crate::keys), which writes both the reading and the schema.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::secret::SecretRef;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The relay file works, but probably not as meant.
    Warning,
    /// The relay file is refused.
    Error,
}

/// One thing that is wrong with a relay file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub level: Level,
    /// Where, as a JSON pointer into the relay file (`/sources/github/secret`).
    pub pointer: String,
    /// What is wrong and what to do, one sentence without the place.
    pub message: String,
}

impl Problem {
    /// The place as people write it: `sources.github.secret`.
    pub fn place(&self) -> String {
        if self.pointer.is_empty() {
            return "relay file".into();
        }
        self.pointer[1..].split('/').map(unescape).collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A place in the relay file while it is read.
#[derive(Debug, Clone, Default)]
pub struct At(String);

impl At {
    /// The whole file.
    pub fn root() -> Self {
        Self::default()
    }

    /// As a JSON pointer.
    pub fn pointer(&self) -> &str {
        &self.0
    }

    /// The place of `key` (or of an index) below this one.
    pub fn child(&self, key: impl fmt::Display) -> Self {
        let token = key.to_string().replace('~', "~0").replace('/', "~1");
        Self(format!("{}/{token}", self.0))
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes something for which the file is refused.
    pub fn error(&mut self, at: &At, message: impl Into<String>) {
        self.0.push(Problem { level: Level::Error, pointer: at.0.clone(), message: message.into() });
    }

    /// Notes something that is probably not meant.
    pub fn warning(&mut self, at: &At, message: impl Into<String>) {
        self.0.push(Problem { level: Level::Warning, pointer: at.0.clone(), message: message.into() });
    }

    /// Whether the file has to be refused.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.level == Level::Error)
    }
}

/// A value that may stand in the relay file.
pub trait Read: Sized {
    /// Reads `value`. `None` means that a problem was noted.
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self>;

    /// What stands for a key that is left out; `None` makes the key required.
    fn absent() -> Option<Self> {
        None
    }

    /// The JSON Schema of what [`read`](Self::read) takes.
    fn schema() -> Value;

    /// Shows every secret reference inside to `seen`.
    fn secrets<'a>(&'a self, _seen: &mut dyn FnMut(&'a SecretRef)) {}
}

/// An object with named keys, several of which may share one object of the file (see [`Fields`]).
pub trait Keys {
    /// Takes its keys out of `fields`. `None` means that a problem was noted.
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self>
    where
        Self: Sized;

    /// Adds a description of its keys to `keys`, in the order of their declaration.
    fn describe(keys: &mut Vec<KeyDescription>)
    where
        Self: Sized;

    /// Shows every secret reference inside to `seen`.
    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef));
}

/// One key of an object in the relay file.
#[derive(Debug, Clone)]
pub struct KeyDescription {
    /// Its name in the file.
    pub name: &'static str,
    /// What it means.
    pub doc: String,
    /// Whether it may not be left out.
    pub required: bool,
    /// JSON Schema of its value.
    pub schema: Value,
}

/// The keys of one object of the relay file, taken one after the other; what nobody took is unknown.
pub struct Fields<'v, 'p> {
    object: &'v Map<String, Value>,
    at: At,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'v, 'p> Fields<'v, 'p> {
    /// Starts on `value`, which has to be an object.
    pub fn of(value: &'v Value, at: &At, problems: &'p mut Problems) -> Option<Self> {
        match value {
            Value::Object(object) => Some(Self { object, at: at.clone(), known: Vec::new(), problems }),
            other => {
                problems.error(at, format!("expected keys and values, found {}", kind_of(other)));
                None
            }
        }
    }

    /// Takes `key`; where it is left out, `default` or [`Read::absent`] stands for it, else it is missing.
    pub fn take<T: Read>(&mut self, key: &'static str, default: Option<T>) -> Option<T> {
        self.known.push(key);
        match self.object.get(key) {
            Some(value) if !value.is_null() => T::read(value, &self.at.child(key), self.problems),
            _ => default.or_else(T::absent).or_else(|| {
                self.problems.error(&self.at, format!("`{key}` is missing"));
                None
            }),
        }
    }

    /// Whether `key` stands in the file, without taking it.
    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// The value of `key`, if it was given one, without taking it.
    pub fn peek(&self, key: &str) -> Option<&'v Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The place of this object.
    pub fn at(&self) -> At {
        self.at.clone()
    }

    /// Where to note problems that concern several keys.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Notes every key that nobody took.
    pub fn finish(self) {
        for key in self.object.keys().filter(|key| !self.known.contains(&key.as_str())) {
            let hint = suggestion(key, self.known.iter().copied())
                .unwrap_or_else(|| format!("known here: {}", self.known.join(", ")));
            self.problems.error(&self.at.child(key), format!("unknown key `{key}`; {hint}"));
        }
    }
}

/// «did you mean `x`?», where one of `known` is near enough to `word`.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// What a value is, in the words of an error message. Never its content: it may be a secret pasted by mistake.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
    }
}

/// The schema of an object with these keys and no others.
pub fn object_schema(keys: &[KeyDescription]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = key.schema.clone();
            if let (Value::Object(schema), false) = (&mut schema, key.doc.is_empty()) {
                schema.insert("description".into(), key.doc.clone().into());
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Declares an object of the relay file: the struct, how it is read and its schema.
///
/// A field is `key: Type` (required unless the type is an `Option`), `key: Type = default`, or
/// `field as "key": Type` where the key is no Rust name. Before those may come `..field: Type`: the keys of another
/// such object, which stand among this one's.
#[macro_export]
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $( .. $shared:ident : $shared_type:ty , )*
            $( $(#[doc = $doc:literal])* $field:ident $(as $key:literal)? : $type:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $visibility struct $name {
            $( #[doc = "Keys that other types have, too."] pub $shared: $shared_type, )*
            $( $(#[doc = $doc])* pub $field: $type ),*
        }

        impl $crate::relay::format::Keys for $name {
            #[allow(unused_variables)]
            fn take(fields: &mut $crate::relay::format::Fields<'_, '_>) -> Option<Self> {
                $( let $shared = <$shared_type as $crate::relay::format::Keys>::take(fields); )*
                $( let $field = fields.take::<$type>(
                    $crate::keys!(@key $field $($key)?), $crate::keys!(@default $($default)?)); )*
                Some(Self { $( $shared: $shared?, )* $( $field: $field? ),* })
            }

            #[allow(unused_variables)]
            fn describe(keys: &mut Vec<$crate::relay::format::KeyDescription>) {
                $( <$shared_type as $crate::relay::format::Keys>::describe(keys); )*
                $( keys.push($crate::relay::format::KeyDescription {
                    name: $crate::keys!(@key $field $($key)?),
                    doc: [$($doc),*].map(str::trim).join(" "),
                    required: $crate::keys!(@default $($default)?)
                        .or_else(<$type as $crate::relay::format::Read>::absent).is_none(),
                    schema: <$type as $crate::relay::format::Read>::schema(),
                }); )*
            }

            #[allow(unused_variables)]
            fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a $crate::domain::secret::SecretRef)) {
                $( $crate::relay::format::Keys::secrets(&self.$shared, seen); )*
                $( $crate::relay::format::Read::secrets(&self.$field, seen); )*
            }
        }

        impl $crate::relay::format::Read for $name {
            fn read(
                value: &serde_json::Value,
                at: &$crate::relay::format::At,
                problems: &mut $crate::relay::format::Problems,
            ) -> Option<Self> {
                let mut fields = $crate::relay::format::Fields::of(value, at, problems)?;
                let taken = <Self as $crate::relay::format::Keys>::take(&mut fields);
                fields.finish();
                taken
            }

            fn schema() -> serde_json::Value {
                let mut keys = Vec::new();
                <Self as $crate::relay::format::Keys>::describe(&mut keys);
                $crate::relay::format::object_schema(&keys)
            }

            fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a $crate::domain::secret::SecretRef)) {
                $crate::relay::format::Keys::secrets(self, seen);
            }
        }
    };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
    (@default $default:expr) => { Some($default) };
    (@default) => { None };
}

/// Declares a choice of words that may stand in the relay file.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $name { $( $(#[doc = $doc])* $variant ),* }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word that stands for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What `word` stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_word(&word).ok_or_else(|| serde::de::Error::custom(concat!("unknown ", stringify!($name))))
            }
        }

        impl $crate::relay::format::Read for $name {
            fn read(
                value: &serde_json::Value,
                at: &$crate::relay::format::At,
                problems: &mut $crate::relay::format::Problems,
            ) -> Option<Self> {
                $crate::relay::format::one_of(value, at, problems, Self::ALL.iter().map(|one| (one.word(), *one)))
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}

/// Reads one of several words.
pub fn one_of<T>(
    value: &Value,
    at: &At,
    problems: &mut Problems,
    choices: impl Iterator<Item = (&'static str, T)>,
) -> Option<T> {
    let word = String::read(value, at, problems)?;
    let mut known = Vec::new();
    for (name, choice) in choices {
        if name == word {
            return Some(choice);
        }
        known.push(name);
    }
    let hint = suggestion(&word, known.iter().copied()).unwrap_or_else(|| format!("one of {}", known.join(", ")));
    problems.error(at, format!("unknown value; {hint}"));
    None
}

/// Reads a text by its own rules; `parse` says in a sentence what is wrong with it.
pub fn parsed<T>(
    value: &Value,
    at: &At,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = String::read(value, at, problems)?;
    parse(&text).map_err(|why| problems.error(at, why)).ok()
}

impl Read for String {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        match value {
            Value::String(text) => Some(text.clone()),
            other => {
                problems.error(at, format!("expected a text, found {}", kind_of(other)));
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Read for bool {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        value.as_bool().or_else(|| {
            problems.error(at, format!("expected true or false, found {}", kind_of(value)));
            None
        })
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl<T: Read> Read for Option<T> {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        T::read(value, at, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn schema() -> Value {
        T::schema()
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        if let Some(inner) = self {
            inner.secrets(seen);
        }
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let Value::Array(items) = value else {
            problems.error(at, format!("expected a list, found {}", kind_of(value)));
            return None;
        };
        let read: Vec<_> =
            items.iter().enumerate().filter_map(|(i, item)| T::read(item, &at.child(i), problems)).collect();
        (read.len() == items.len()).then_some(read)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        for item in self {
            item.secrets(seen);
        }
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let Value::Object(object) = value else {
            problems.error(at, format!("expected keys and values, found {}", kind_of(value)));
            return None;
        };
        let read: Self = object
            .iter()
            .filter_map(|(key, item)| T::read(item, &at.child(key), problems).map(|item| (key.clone(), item)))
            .collect();
        (read.len() == object.len()).then_some(read)
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        for item in self.values() {
            item.secrets(seen);
        }
    }
}

/// One value, or a list of them; never an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Read> Read for OneOrMany<T> {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        match value {
            Value::Array(items) if items.is_empty() => {
                problems.error(at, "an empty list would accept nothing; leave the key out or name something");
                None
            }
            Value::Array(_) => Vec::read(value, at, problems).map(Self),
            one => T::read(one, at, problems).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), { "type": "array", "minItems": 1, "items": T::schema() }] })
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        self.0.secrets(seen);
    }
}

/// A length of time: `90s`, `5m`, `24h`, `7d`, `1h30m`, or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// `hours` of time.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// `seconds` of time.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads a length of time.
    ///
    /// # Errors
    /// Says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a length of time such as 90s, 5m, 24h, 7d or 0".to_owned();
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut total, mut rest) = (Duration::ZERO, text);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let count: u32 = rest[..digits].parse().map_err(|_| wrong())?;
            let (unit, length) = match &rest[digits..] {
                unit if unit.starts_with("ms") => (Duration::from_millis(1), 2),
                unit if unit.starts_with('s') => (Duration::from_secs(1), 1),
                unit if unit.starts_with('m') => (Duration::from_secs(60), 1),
                unit if unit.starts_with('h') => (Duration::from_secs(3600), 1),
                unit if unit.starts_with('d') => (Duration::from_secs(86_400), 1),
                _ => return Err(wrong()),
            };
            total = unit.checked_mul(count).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = &rest[digits + length..];
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

impl Read for Span {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        match value {
            Value::Number(number) if number.as_u64() == Some(0) => Some(Self(Duration::ZERO)),
            Value::Number(_) => {
                problems.error(at, "a length of time needs its unit, such as 90s, 5m or 24h");
                None
            }
            other => parsed(other, at, problems, Self::parse),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": 0 }, { "type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h|d))+)$" }] })
    }
}

/// A network in CIDR notation, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub ipnet::IpNet);

impl Read for Network {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            text.parse::<ipnet::IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
                .map(Self)
                .map_err(|_| "expected a network such as 10.0.0.0/8 or fd00::/8".to_owned())
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "description": "a network in CIDR notation" })
    }
}

/// The name of an HTTP header, spelled as the user spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(pub String);

impl Read for HeaderName {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| match http::HeaderName::try_from(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err("expected the name of a header, such as X-Token".into()),
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$" })
    }
}

/// An absolute `http` or `https` URL without user information, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Cow<'static, str>);

impl BaseUrl {
    /// One that stands in this program: where a key that is left out leads.
    pub const fn known(url: &'static str) -> Self {
        Self(Cow::Borrowed(url))
    }

    /// The URL of `path` (which begins with a slash) below this one, byte for byte.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.trim_end_matches('/'))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let HttpUrl(url) = HttpUrl::parse(text)?;
        if url.query().is_some() {
            return Err("a URL to which a path is added must not have a query".into());
        }
        Ok(Self(String::from(url).into()))
    }
}

impl Read for BaseUrl {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, Self::parse)
    }

    fn schema() -> Value {
        HttpUrl::schema()
    }
}

/// An absolute `http` or `https` URL without user information or fragment. What is secret in a URL does not belong
/// into the relay file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(pub url::Url);

impl HttpUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("expected an http or https URL".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL in the relay file must not hold credentials; use a secret reference".into());
        }
        if url.fragment().is_some() {
            return Err("a URL here must not have a fragment".into());
        }
        Ok(Self(url))
    }
}

impl Read for HttpUrl {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, Self::parse)
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    keys! {
        /// Some keys.
        struct Sample {
            /// The first.
            one: String,
            /// The second.
            two: bool = true,
            /// The third.
            three: Option<Span>,
        }
    }

    keys! {
        /// The same keys and one more.
        struct Larger {
            ..sample: Sample,
            /// The fourth.
            four: Option<HeaderName>,
        }
    }

    #[test]
    fn keys_that_types_share_stand_among_their_own() {
        let larger = |value: Value| {
            let mut problems = Problems::default();
            (Larger::read(&value, &At::root(), &mut problems), problems.0.len())
        };
        let (read, _) = larger(json!({ "one": "a", "four": "X-Token" }));
        let read = read.expect("valid");
        assert_eq!((read.sample.one.as_str(), read.four), ("a", Some(HeaderName("X-Token".into()))));
        assert_eq!(larger(json!({ "four": "X Token" })).1, 2);
        let mut keys = Vec::new();
        Larger::describe(&mut keys);
        assert_eq!(keys.iter().map(|key| key.name).collect::<Vec<_>>(), ["one", "two", "three", "four"]);
    }

    fn read(value: Value) -> (Option<Sample>, Vec<String>) {
        let mut problems = Problems::default();
        let sample = Sample::read(&value, &At::root().child("x"), &mut problems);
        (sample, problems.0.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn every_problem_of_an_object_is_reported_at_once() {
        let (sample, problems) = read(json!({ "two": 1, "tree": "5m", "three": "5x" }));
        assert!(sample.is_none());
        assert_eq!(
            problems,
            [
                "x: `one` is missing",
                "x.two: expected true or false, found a number",
                "x.three: expected a length of time such as 90s, 5m, 24h, 7d or 0",
                "x.tree: unknown key `tree`; did you mean `three`?",
            ]
        );
    }

    #[test]
    fn defaults_and_options_may_be_left_out() {
        let sample = read(json!({ "one": "a" })).0.expect("valid");
        assert_eq!((sample.one.as_str(), sample.two, sample.three), ("a", true, None));
    }

    #[test]
    fn a_wrong_value_is_never_repeated_in_the_message() {
        let (_, problems) = read(json!({ "one": ["hunter2"] }));
        assert!(!problems.join(" ").contains("hunter2"));
    }

    #[test]
    fn lengths_of_time_add_up() {
        assert_eq!(Span::parse("1h30m"), Ok(Span(Duration::from_secs(5400))));
        assert_eq!(Span::parse("250ms"), Ok(Span(Duration::from_millis(250))));
        for wrong in ["", "5", "m", "5y", "-5m", "99999999999999999999h"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
    }
}
