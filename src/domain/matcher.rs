//! `when`: which events a route takes.
//!
//! Every key must match; a list means any of its patterns; a key that the event does not have does not match.

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::domain::alert::Severity;
use crate::domain::event::Subject;
use crate::domain::versions::Range;
use crate::relay::format::{At, Fields, OneOrMany, Problems, Read, parsed, suggestion};

/// The keys that `when` knows; besides them, `labels.<key>`.
pub const KEYS: &[&str] = &[
    "kind",
    "source",
    "event",
    "repository",
    "tag",
    "digest",
    "media_type",
    "ref",
    "branch",
    "paths",
    "actor",
    "severity",
    "status",
    "namespace",
    "name",
    "object_kind",
    "reason",
    "message",
    "cluster",
];

/// The kinds of event.
pub const KINDS: &[&str] = &["image_push", "git", "alert"];

/// The kinds of event, each with the keys that only events of other kinds have.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "image_push",
        &[
            "event",
            "ref",
            "branch",
            "paths",
            "severity",
            "status",
            "namespace",
            "name",
            "object_kind",
            "reason",
            "message",
        ],
    ),
    ("git", &["digest", "media_type", "severity", "namespace", "object_kind", "reason"]),
    ("alert", &["event", "repository", "tag", "digest", "media_type", "ref", "branch", "paths", "actor"]),
];

/// What one value of an event is compared with.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// `re:…`, or a glob as the expression it stands for.
    Expression(Regex),
    /// `semver:…`: a range of versions.
    Versions(Range),
    /// `>=…`: this severity or worse.
    AtLeast(Severity),
}

impl Pattern {
    fn parse(text: &str, key: &str) -> Result<Self, String> {
        if let Some(expression) = text.strip_prefix("re:") {
            return Regex::new(expression).map(Self::Expression).map_err(|e| format!("not a regular expression: {e}"));
        }
        if let Some(range) = text.strip_prefix("semver:") {
            return Range::parse(range).map(Self::Versions).map_err(|why| format!("not a range of versions: {why}"));
        }
        if let ("severity", Some(word)) = (key, text.strip_prefix(">=")) {
            let severity = Severity::from_word(word.trim());
            return severity.map(Self::AtLeast).ok_or_else(|| "after >= comes info, warning, error or critical".into());
        }
        if key == "severity" && !text.contains('*') && Severity::from_word(text).is_none() {
            return Err("a severity is info, warning, error or critical, or `>=` and one of them".into());
        }
        if key == "kind" && !text.contains(['*', '?']) && !KINDS.contains(&text) {
            return Err(format!("a kind is one of {}", KINDS.join(", ")));
        }
        glob(text).map(Self::Expression)
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Expression(expression) => expression.is_match(value),
            Self::Versions(range) => range.contains(value),
            Self::AtLeast(least) => Severity::from_word(value).is_some_and(|severity| severity >= *least),
        }
    }
}

/// A glob as an anchored expression: `*` is any run of characters, slashes too, and `?` is one character.
/// Nothing else is special, so that `dependabot[bot]` means what it says.
fn glob(text: &str) -> Result<Regex, String> {
    let mut expression = String::from("(?s)^");
    for c in text.chars() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            c => expression.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).map_err(|e| format!("the pattern is too long: {e}"))
}

/// The conditions of one route.
#[derive(Debug, Clone, Default)]
pub struct When {
    keys: Vec<(String, Vec<Pattern>)>,
    not: Vec<When>,
}

impl When {
    /// Whether `subject` fulfils every condition. Where that cannot be known, because the sender listed only some of
    /// the changed paths, it is taken to: a needless poke is harmless, a lost push is not.
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        self.matches_if_unknown(subject, true)
    }

    /// [`matches`](Self::matches), with `unknown` for what cannot be known.
    fn matches_if_unknown(&self, subject: Subject<'_>, unknown: bool) -> bool {
        let any = |key: &str, patterns: &[Pattern]| {
            let known = subject.values(key).iter().any(|value| patterns.iter().any(|pattern| pattern.matches(value)));
            known || (unknown && key == "paths" && subject.paths_are_truncated())
        };
        self.keys.iter().all(|(key, patterns)| any(key, patterns))
            && !self.not.iter().any(|when| when.matches_if_unknown(subject, !unknown))
    }

    /// The kinds of event of which it may let one pass. What is under `not` is not looked at.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let may = |kind: &str, foreign: &[&str]| {
            self.keys.iter().all(|(key, patterns)| match key.as_str() {
                "kind" => patterns.iter().any(|pattern| pattern.matches(kind)),
                key => !foreign.contains(&key),
            })
        };
        FOREIGN.iter().filter(move |(kind, foreign)| may(kind, foreign)).map(|(kind, _)| *kind)
    }

    /// The keys that are asked for, those under `not` left out.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(key, _)| key.as_str())
    }
}

impl Read for When {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let Value::Object(object) = value else {
            Fields::of(value, at, problems)?;
            return None;
        };
        let before = problems.0.len();
        let mut when = Self::default();
        for (key, value) in object {
            let at = at.child(key);
            if key == "not" {
                if let Some(OneOrMany(not)) = OneOrMany::<When>::read(value, &at, problems) {
                    if not.iter().any(|when| when.keys.is_empty() && when.not.is_empty()) {
                        problems.error(&at, "an empty condition matches everything, so that `not` would match nothing");
                    }
                    when.not = not;
                }
            } else if KEYS.contains(&key.as_str()) || key.strip_prefix("labels.").is_some_and(|label| !label.is_empty())
            {
                if let Some(patterns) = patterns(key, value, &at, problems) {
                    when.keys.push((key.clone(), patterns));
                }
            } else {
                let hint = suggestion(key, KEYS.iter().copied().chain(["not"]))
                    .unwrap_or_else(|| format!("known here: {}, labels.<key>, not", KEYS.join(", ")));
                problems.error(&at, format!("unknown key `{key}`; {hint}"));
            }
        }
        (problems.0.len() == before).then_some(when)
    }

    fn schema() -> Value {
        let pattern = json!({ "anyOf": [
            { "type": ["string", "number", "boolean"] },
            { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } },
        ] });
        let mut properties: serde_json::Map<_, _> =
            KEYS.iter().map(|key| ((*key).to_owned(), pattern.clone())).collect();
        let not = json!({ "$ref": "#/$defs/when" });
        properties.insert("not".into(), json!({ "anyOf": [not, { "type": "array", "minItems": 1, "items": not }] }));
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
            "patternProperties": { "^labels\\..": pattern },
        })
    }
}

fn patterns(key: &str, value: &Value, at: &At, problems: &mut Problems) -> Option<Vec<Pattern>> {
    let one = |value: &Value, at: &At, problems: &mut Problems| {
        // `tag: 1.2` is a number to YAML, and a tag to people.
        let text = match value {
            Value::Number(number) => Value::String(number.to_string()),
            Value::Bool(truth) => Value::String(truth.to_string()),
            other => other.clone(),
        };
        parsed(&text, at, problems, |text| Pattern::parse(text, key))
    };
    match value {
        Value::Array(items) if items.is_empty() => {
            problems.error(at, "an empty list matches nothing; leave the key out or name something");
            None
        }
        Value::Array(items) => {
            let read: Vec<_> =
                items.iter().enumerate().filter_map(|(i, item)| one(item, &at.child(i), problems)).collect();
            (read.len() == items.len()).then_some(read)
        }
        value => one(value, at, problems).map(|pattern| vec![pattern]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Detail, Event, GitEvent, ImagePush};
    use crate::domain::name::Name;

    fn image(repository: &str, tags: &[&str]) -> Event {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        event(Detail::ImagePush(ImagePush {
            repository: repository.into(),
            tag: tags.first().cloned(),
            tags,
            ..ImagePush::default()
        }))
    }

    fn event(detail: Detail) -> Event {
        Event {
            detail,
            id: String::new(),
            source: Name::parse("ghcr").expect("name"),
            cluster: None,
            labels: [("team".to_owned(), "apps".to_owned())].into(),
            time: None,
        }
    }

    fn matches(when: Value, event: &Event) -> bool {
        let mut problems = Problems::default();
        let when = When::read(&when, &At::root(), &mut problems);
        when.unwrap_or_else(|| panic!("{:?}", problems.0)).matches(event.subjects()[0])
    }

    fn problem(when: Value) -> String {
        let mut problems = Problems::default();
        assert!(When::read(&when, &At::root(), &mut problems).is_none());
        problems.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_plain_text_is_a_glob_whose_star_crosses_slashes() {
        let event = image("ghcr.io/acme/team/app", &["1.2.3"]);
        assert!(matches(json!({ "repository": "*/acme/*" }), &event));
        assert!(matches(json!({ "repository": ["nothing", "ghcr.io/*/app"] }), &event));
        assert!(!matches(json!({ "repository": "acme" }), &event));
        assert!(matches(json!({ "tag": "1.?.3" }), &event));
    }

    #[test]
    fn brackets_and_dots_of_a_glob_mean_themselves() {
        let git = GitEvent { event: "push".into(), actor: Some("dependabot[bot]".into()), ..GitEvent::default() };
        let event = event(Detail::Git(Box::new(git)));
        assert!(matches(json!({ "actor": "dependabot[bot]" }), &event));
        assert!(!matches(json!({ "actor": "dependabot.bot." }), &event));
    }

    #[test]
    fn ranges_of_versions_are_read_as_flux_users_write_them() {
        for (range, tag, expected) in [
            (">=1.0.0 <2.0.0", "v1.9.9", true),
            (">=1.0.0", "1.2.3-rc.1", false),
            (">=1.0.0-0", "1.2.3-rc.1", true),
            ("1.2", "1.3.0", false),
            (">=1.0.0", "latest", false),
        ] {
            let when = json!({ "tag": format!("semver:{range}") });
            assert_eq!(matches(when, &image("a/b", &[tag])), expected, "{range} {tag}");
        }
    }

    #[test]
    fn any_of_several_tags_will_do() {
        let event = image("a/b", &["latest", "1.2.3"]);
        assert!(matches(json!({ "tag": "semver:1.2.3" }), &event));
    }

    #[test]
    fn a_key_that_the_event_does_not_have_does_not_match() {
        let event = image("a/b", &[]);
        assert!(!matches(json!({ "tag": "*" }), &event));
        assert!(!matches(json!({ "severity": ">=info" }), &event));
        assert!(!matches(json!({ "labels.none": "*" }), &event));
        assert!(matches(json!({ "labels.team": "apps" }), &event));
    }

    #[test]
    fn not_negates_the_whole_of_what_it_holds() {
        let event = image("a/b", &["latest"]);
        assert!(!matches(json!({ "not": { "tag": "latest" } }), &event));
        assert!(matches(json!({ "not": { "tag": "latest", "repository": "x" } }), &event));
        assert!(!matches(json!({ "not": [{ "tag": "x" }, { "repository": "a/*" }] }), &event));
        assert!(matches(json!({ "not": { "message": "re:no changes" } }), &event));
    }

    #[test]
    fn a_list_of_paths_that_is_not_complete_never_loses_a_push() {
        let git = |paths_truncated| {
            event(Detail::Git(Box::new(GitEvent {
                paths: vec!["docs/a".into()],
                paths_truncated,
                ..GitEvent::default()
            })))
        };
        for (when, complete) in [
            (json!({ "paths": "apps/*" }), false),
            (json!({ "paths": "docs/*" }), true),
            (json!({ "not": { "paths": "apps/*" } }), true),
        ] {
            assert_eq!(matches(when.clone(), &git(false)), complete, "{when}");
            assert!(matches(when, &git(true)));
        }
    }

    #[test]
    fn regular_expressions_are_not_anchored() {
        assert!(matches(json!({ "repository": "re:ac[mn]e" }), &image("ghcr.io/acme/app", &[])));
    }

    #[test]
    fn severities_have_an_order() {
        let pattern = Pattern::parse(">=error", "severity").expect("valid");
        assert!(pattern.matches("critical") && pattern.matches("error"));
        assert!(!pattern.matches("warning") && !pattern.matches("nonsense"));
    }

    #[test]
    fn every_wrong_condition_is_named_with_its_place() {
        let problems = problem(json!({
            "repo": "x", "tag": ["re:(", "semver:x.y.z."], "severity": "fatal", "not": {}, "kind": [],
        }));
        for expected in [
            "repo: unknown key",
            "tag.0: not a regular",
            "tag.1: not a range",
            "severity: a severity",
            "not: an empty",
            "kind: an empty",
        ] {
            assert!(problems.contains(expected), "{expected} in:\n{problems}");
        }
    }
}
