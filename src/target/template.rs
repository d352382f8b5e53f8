//! Bodies that a user writes as a template.
//!
//! The language is Jinja, as minijinja 3.0 knows it (docs.rs/minijinja, read 2026-11): no includes, no files, no
//! clock. The variables are the fields of the event's own JSON. Unknown ones are errors, both when the relay file is
//! read and when an event is rendered. In a JSON body a printed text is escaped as the inside of a JSON string, so that
//! `"{{ tag }}"` is right whatever the tag is; `{{ tags | tojson }}` writes a whole JSON value.

use std::fmt;
use std::io::{self, Write};

use jiff::Timestamp;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use crate::domain::alert::{Alert, Alerts, Link, Object, Severity, Status};
use crate::domain::event::{Detail, Event, GitEvent, ImagePush};
use crate::domain::name::Name;
use crate::relay::format::suggestion;

/// What one rendering may do, in instructions of the engine: far more than any body needs, and over in milliseconds.
const FUEL: u64 = 200_000;

/// What one rendering may write, in bytes.
const MAX_OUTPUT: usize = 1024 * 1024;

/// The depth to which macros and the like may nest.
const MAX_DEPTH: usize = 50;

/// A template that was found to be sound.
#[derive(Clone)]
pub struct Template {
    source: String,
    json: bool,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template ({} bytes)", self.source.len())
    }
}

impl Template {
    /// Checks `source`, whose output is JSON if `json` says so: its syntax, its variables, and that at least one kind
    /// of event comes out. The error says what is wrong, with the line.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn new(source: &str, json: bool) -> Result<Self, String> {
        let template = Self { source: source.into(), json };
        let unknown = {
            let environment = template.environment();
            let parsed = environment.template_from_named_str("template", source).map_err(|e| explain(&e))?;
            let known = known_variables();
            let globals: Vec<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
            let mut unknown: Vec<String> = parsed.undeclared_variables(false).into_iter().collect();
            unknown.retain(|name| !known.contains(name) && !globals.contains(name));
            unknown.sort();
            unknown.into_iter().next().map(|name| {
                let hint = suggestion(&name, known.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("known are {}", known.join(", ")));
                format!("unknown variable `{name}`; {hint}")
            })
        };
        if let Some(unknown) = unknown {
            return Err(unknown);
        }
        let mut problems = Vec::new();
        for event in samples() {
            match template.render(&event) {
                Ok(_) => return Ok(template),
                Err(why) if problems.contains(&why) => {}
                Err(why) => problems.push(why),
            }
        }
        Err(format!("it renders for no kind of event: {}", problems.join("; ")))
    }

    /// The body for `event`.
    ///
    /// # Errors
    /// Why there is none, with the line: mostly a field that this event does not have.
    pub fn render(&self, event: &Event) -> Result<String, String> {
        let environment = self.environment();
        let template = environment.template_from_named_str("template", &self.source).map_err(|e| explain(&e))?;
        let mut body = Bounded(Vec::new());
        template.render_captured_to(Value::from(Serde(event)), &mut body).map_err(|e| explain(&e))?;
        let body = String::from_utf8(body.0).map_err(|_| "the template writes what is no text".to_owned())?;
        if self.json
            && let Err(why) = serde_json::from_str::<serde::de::IgnoredAny>(&body)
        {
            return Err(format!(
                "the template writes what is no JSON ({why} of what comes out); texts need quotes around them, and \
                 `| tojson` writes any value whole"
            ));
        }
        Ok(body)
    }

    fn environment(&self) -> Environment<'_> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_DEPTH);
        // What it shows is the engine's inside, not the event.
        environment.remove_global("debug");
        if self.json {
            environment.set_formatter(json_formatter);
        }
        environment
    }
}

/// Prints a value into a JSON body: texts as the inside of a JSON string, all else as JSON.
fn json_formatter(out: &mut Output, _state: &mut State, value: &Value) -> Result<(), Error> {
    let failed = |_| Error::new(ErrorKind::BadSerialization, "a value cannot be written as JSON");
    let text = match value.as_str() {
        // `tojson` and `safe` mark what is JSON already.
        Some(text) if value.is_safe() => text.to_owned(),
        Some(text) => {
            let quoted = serde_json::to_string(text).map_err(failed)?;
            quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
        }
        None if value.kind() == ValueKind::Undefined => String::new(),
        None => serde_json::to_string(value).map_err(failed)?,
    };
    out.write_str(&text).map_err(Error::from)
}

/// Takes up to [`MAX_OUTPUT`] bytes and fails on more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error of the engine as a sentence of ours.
fn explain(error: &Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "the template works too long".to_owned(),
        (ErrorKind::WriteFailure, _) => format!("the template writes more than {MAX_OUTPUT} bytes"),
        (ErrorKind::UndefinedError, None) => {
            "a field that this event does not have; `is defined` asks for it, `| default(\"\")` stands in for it".into()
        }
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// Every field that any kind of event can have.
fn known_variables() -> Vec<String> {
    let fields = samples().into_iter().filter_map(|event| serde_json::to_value(event).ok());
    let mut known: Vec<String> =
        fields.flat_map(|value| value.as_object().cloned().unwrap_or_default()).map(|(name, _)| name).collect();
    known.sort();
    known.dedup();
    known
}

/// An event of each kind that has everything an event can have. A kind that is added is added here.
fn samples() -> Vec<Event> {
    let some = |text: &str| Some(text.to_owned());
    let image = Detail::ImagePush(ImagePush {
        repository: "ghcr.io/acme/app".into(),
        tag: some("1.2.3"),
        tags: vec!["1.2.3".into(), "latest".into()],
        digest: some("sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"),
        media_type: some("application/vnd.oci.image.manifest.v1+json"),
        actor: some("octocat"),
    });
    let git = Detail::Git(Box::new(GitEvent {
        event: "push".into(),
        action: some("created"),
        repository: some("github.com/acme/app"),
        clone_urls: vec!["https://github.com/acme/app.git".into()],
        reference: some("refs/heads/main"),
        branch: some("main"),
        tag: some("1.2.3"),
        before: some("0000000000000000000000000000000000000000"),
        commit: some("9049f1265b7d61be4a8904a9a27120d2064dab3b"),
        paths: vec!["README.md".into()],
        paths_truncated: true,
        deleted: true,
        actor: some("octocat"),
        status: some("success"),
        name: some("build"),
        message: some("A \"quoted\" message"),
        url: some("https://github.com/acme/app"),
    }));
    let alert = Alert {
        text: some("5 % of requests fail"),
        reason: some("HighErrorRate"),
        object: Some(Object { kind: some("Pod"), namespace: some("shop"), name: "checkout-0".into() }),
        cluster: some("prod"),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        links: vec![Link { title: "Source".into(), url: "https://prometheus.example.com/graph".into() }],
        started: Some(Timestamp::UNIX_EPOCH),
        ended: Some(Timestamp::UNIX_EPOCH),
        ..Alert::new("6f3c1d0a9b2e4f58", Status::Firing, Severity::Critical, "Error rate above 5 % on checkout")
    };
    let alert = Detail::Alert(Box::new(Alerts {
        group: "team/HighErrorRate".into(),
        title: some("HighErrorRate"),
        url: some("https://alertmanager.example.com"),
        left_out: 1,
        alerts: vec![alert],
    }));
    let Ok(source) = Name::parse("sample") else { return Vec::new() };
    let event = |detail| Event {
        detail,
        id: "00000000000000000000000000000000".into(),
        source: source.clone(),
        cluster: some("prod"),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        time: Some(Timestamp::UNIX_EPOCH),
    };
    vec![event(image), event(git), event(alert)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Event {
        samples().remove(0)
    }

    fn with_tag(tag: &str) -> Event {
        let mut event = image();
        if let Detail::ImagePush(push) = &mut event.detail {
            push.tag = Some(tag.into());
        }
        event
    }

    #[test]
    fn a_text_in_a_json_body_cannot_leave_its_quotes() {
        let template = Template::new(r#"{"text": "{{ repository }}:{{ tag }}", "all": {{ tags | tojson }}}"#, true);
        let body = template.expect("sound").render(&with_tag(r#"a", "admin": "\"#)).expect("rendered");
        let read: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(read["text"], r#"ghcr.io/acme/app:a", "admin": "\"#);
        assert_eq!(read["all"][1], "latest");
        assert!(read.get("admin").is_none());
    }

    #[test]
    fn tojson_is_not_escaped_twice_and_numbers_and_lists_are_json() {
        let template = Template::new(r#"[{{ tag | tojson }}, {{ tags }}, {{ tags | length }}, {{ none }}]"#, true);
        assert_eq!(
            template.expect("sound").render(&image()).expect("rendered"),
            r#"["1.2.3", ["1.2.3","latest"], 2, null]"#
        );
    }

    #[test]
    fn outside_json_nothing_is_escaped() {
        let template = Template::new("{{ message }}", false).expect("sound");
        assert_eq!(template.render(&samples().remove(1)).expect("rendered"), "A \"quoted\" message");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_with_its_line() {
        for (source, json, words) in [
            ("a\n{{ tag", false, "line 2"),
            ("{{ repositry }}", false, "unknown variable `repositry`; did you mean `repository`?"),
            ("{{ secret }}", false, "unknown variable `secret`; known are "),
            ("{{ tag | nofilter }}", false, "nofilter"),
            ("{% include 'etc/passwd' %}", false, "include"),
            ("{{ debug() }}", false, "debug"),
            ("{{ labels.team.x.y }}", false, "line 1: a field that this event does not have"),
            (r#"{"tag": {{ tag }}}"#, true, "no JSON"),
        ] {
            let why = Template::new(source, json).expect_err(source);
            assert!(why.contains(words), "{source}: {why}");
        }
    }

    #[test]
    fn a_field_that_an_event_lacks_is_an_error_unless_the_template_asks_first() {
        let mut event = image();
        if let Detail::ImagePush(push) = &mut event.detail {
            push.tag = None;
        }
        let strict = Template::new("{{ tag }}", false).expect("sound");
        assert!(strict.render(&event).expect_err("no tag").contains("`is defined` asks for it"));
        let asking = Template::new("{% if tag is defined %}{{ tag }}{% else %}{{ digest[:10] }}{% endif %}", false);
        assert_eq!(asking.expect("sound").render(&event).expect("rendered"), "sha256:6c3");
        let standing_in = Template::new("{{ tag | default('none') }}", false).expect("sound");
        assert_eq!(standing_in.render(&event).expect("rendered"), "none");
    }

    #[test]
    fn neither_time_nor_memory_is_without_end() {
        let long = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
        assert!(Template::new(long, false).expect_err("long").contains("works too long"));
        let large = format!("{{% for a in range(2000) %}}{}{{% endfor %}}", "x".repeat(1000));
        assert!(Template::new(&large, false).expect_err("large").contains("writes more than"));
    }
}
