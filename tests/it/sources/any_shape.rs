//! Senders of events of any shape: `cloudevents`, `standard-webhooks` and `generic`.

use sluice::domain::event::Detail;
use sluice::source::Function;

use super::*;

fn git(of: &str, entry: &Value, sample: &str, body: &str) -> Parsed {
    let parsed = folder(of).with(entry).outcome_of_body(sample, body.to_owned()).expect("parsed");
    assert!(parsed.events.iter().all(|found| matches!(found.detail, Detail::Git(_))));
    parsed
}

fn problems_of(entry: &Value) -> String {
    let file = json!({ "sources": { "any": entry }, "targets": {}, "routes": [] });
    Relay::from_value(&file).err().unwrap_or_default()
}

#[test]
fn what_is_emitted_decides_the_function() {
    for of in ["cloudevents", "standard-webhooks", "generic"] {
        for (emits, function) in
            [("image_push", Function::RegistryPush), ("git", Function::GitWebhook), ("alert", Function::AlertIntake)]
        {
            let folder = folder(of).with(&json!({ "type": of, "secret": "env:FIRST", "emits": emits }));
            assert_eq!(folder.entry().function(), function, "{of}");
        }
        let why = problems_of(&json!({ "type": of, "secret": "env:FIRST" }));
        assert!(why.contains("`emits` is missing"), "{why}");
        let why = problems_of(&json!({ "type": of, "secret": "env:FIRST", "emits": "alerts" }));
        assert!(why.contains("sources.any.emits"), "{why}");
    }
}

#[test]
fn fields_that_there_are_not_and_pointers_that_are_none_are_problems_with_their_place() {
    let of = |emits: &str, fields: Value| {
        problems_of(&json!({ "type": "generic", "secret": "env:FIRST", "emits": emits, "fields": fields }))
    };
    for (emits, fields, expected) in [
        ("git", json!({ "brunch": "/a" }), "sources.any.fields.brunch: unknown field `brunch`; did you mean `branch`?"),
        ("git", json!({ "digest": "/a" }), "sources.any.fields.digest: no field of what `emits: git` makes"),
        ("git", json!({ "ref": "a.b" }), "sources.any.fields.ref: expected a JSON pointer"),
        ("image_push", json!({ "tag": "/a" }), "sources.any.fields: an image push needs its `repository`"),
        ("image_push", json!(["/a"]), "sources.any.fields: expected names of fields"),
    ] {
        let why = of(emits, fields);
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn without_fields_each_stands_under_its_own_name() {
    let body = r#"{"repository":"github.com/acme/app","ref":"refs/heads/main","commit":"c0ffee"}"#;
    let parsed =
        git("generic", &json!({ "type": "generic", "secret": "env:FIRST", "emits": "git" }), "push.json", body);
    let Detail::Git(event) = &parsed.events[0].detail else { panic!("git") };
    assert_eq!(
        (event.repository.as_deref(), event.branch.as_deref(), event.commit.as_deref(), event.event.as_str()),
        (Some("github.com/acme/app"), Some("main"), Some("c0ffee"), "event")
    );
    let entry = json!({ "type": "cloudevents", "secret": "env:FIRST", "emits": "image_push" });
    let parsed = folder("cloudevents").with(&entry).outcome("structured.json").expect("parsed");
    assert_eq!(parsed.events.len(), 1);
}

#[test]
fn git_events_carry_the_senders_own_body_for_receivers_that_get_it() {
    let entry = json!({
        "type": "cloudevents", "secret": "env:FIRST", "emits": "git",
        "fields": { "repository": "/data/repo", "ref": "/data/ref", "event": "/type" },
    });
    let body = r#"{"repo":"https://git.example.com/acme/app.git","ref":"refs/tags/v1"}"#;
    let parsed = git("cloudevents", &entry, "binary.json", body);
    let Detail::Git(event) = &parsed.events[0].detail else { panic!("git") };
    assert_eq!(
        (event.repository.as_deref(), event.tag.as_deref(), event.event.as_str()),
        (Some("git.example.com/acme/app"), Some("v1"), "com.example.container.image.pushed")
    );
    let original = parsed.original.expect("passed on");
    assert_eq!(original.body, body);
    assert!(original.headers.contains(&("ce-id".into(), "evt-0002".into())));
    assert!(original.headers.iter().all(|(name, _)| name.starts_with("ce-")), "{:?}", original.headers);
}

#[test]
fn a_secret_in_a_header_that_is_named_like_an_attribute_is_not_passed_on() {
    let entry = json!({ "type": "cloudevents", "secret": "env:FIRST", "header": "Ce-Key", "emits": "image_push" });
    let original =
        folder("cloudevents").with(&entry).outcome("binary.json").expect("parsed").original.expect("passed on");
    assert!(original.headers.iter().all(|(name, _)| name != "ce-key"), "{:?}", original.headers);
}

#[test]
fn data_that_is_no_json_and_does_not_say_so_is_ignored() {
    for sample in ["binary-of-plain-text.json", "structured-data-base64-of-no-json.json"] {
        let parsed = folder("cloudevents").outcome(sample).expect("authentic and well-formed");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
    let broken = folder("cloudevents").outcome_of_body("binary.json", "{");
    assert!(matches!(broken, Err(ParseError::Malformed(_))), "{broken:?}");
}

/// Of the peers one reads structured events only, and takes no event without a tag.
#[test]
fn an_event_says_the_same_in_all_three_modes() {
    let push = |sample: &str| folder("cloudevents").outcome(sample).expect("parsed").events[0].detail.clone();
    for other in ["binary.json", "batch.json", "structured-as-plain-json.json", "structured-data-base64.json"] {
        assert_eq!(push("structured.json"), push(other), "{other}");
    }
}

#[test]
fn source_and_id_together_tell_a_cloudevent_from_others() {
    let identity = |source: &str, id: &str| {
        let body = json!({
            "specversion": "1.0", "id": id, "source": source, "type": "x", "data": { "repository": "r.example/a" },
        });
        let parsed = folder("cloudevents").outcome_of_body("structured.json", body.to_string()).expect("parsed");
        parsed.events[0].identity.clone().expect("identity")
    };
    assert_eq!(identity("/a", "1"), identity("/a", "1"));
    assert_ne!(identity("/a", "1"), identity("/a", "2"));
    assert_ne!(identity("/a", "1"), identity("/b", "1"));
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let parsed = folder("cloudevents").outcome("batch-one-of-another-kind.json").expect("parsed");
    assert_eq!((parsed.events.len(), parsed.ignored.is_some()), (1, true));
    let error = folder("cloudevents").outcome("batch-one-malformed.json").expect_err("malformed").to_string();
    assert!(error.contains("`[1].type`"), "{error}");
}

#[test]
fn formats_of_cloudevents_that_are_no_json_are_refused_as_such() {
    for sample in ["other-format.json", "no-cloudevent.json"] {
        let refused = folder("cloudevents").outcome(sample);
        assert!(matches!(refused, Err(ParseError::UnsupportedMediaType(_))), "{sample}: {refused:?}");
    }
}

#[test]
fn a_message_that_is_sent_again_is_the_same_event_whatever_its_time() {
    let folder = folder("standard-webhooks");
    let known = own_secrets(folder.entry());
    let identity = |now: &str| {
        let mut request = folder.request(&folder.path.join("image-pushed.json"));
        let now = now.parse().expect("time");
        folder.entry().source.sign(&mut request, &known, now).expect("signed");
        let authentic = folder.entry().authenticate(&request, &known, now).expect("authentic");
        folder.entry().source.parse(authentic).expect("parsed").events[0].identity.clone()
    };
    assert_eq!(identity("2026-08-20T12:00:00Z"), identity("2026-08-21T12:00:00Z"));
    assert!(identity("2026-08-20T12:00:00Z").is_some());
}

/// The sample of the project's reference notes, with the signature that it carries there.
#[test]
fn a_message_that_others_signed_is_accepted_within_the_tolerance() {
    let check = |tolerance: &str, now: i64| {
        let entry = json!({ "type": "standard-webhooks", "secret": "env:FIRST", "emits": "image_push", "tolerance": tolerance });
        let folder = folder("standard-webhooks").with(&entry);
        let mut request = folder.request(&folder.path.join("image-pushed.json"));
        for (name, value) in [
            ("webhook-timestamp", "1787220344"),
            ("webhook-signature", "v1,qo2DkfL1XVpOVVmJPZcw/c6Y2sPjj8ffDrUPApxhFdM="),
        ] {
            request.headers.insert(name, value.parse().expect("header"));
        }
        let known = secrets(folder.entry(), |_| "whsec_7kpCCwRezU/b00RzN+HYUPL6WYf2EKRRVodoxxL9CnM=");
        let now = jiff::Timestamp::from_second(now).expect("time");
        folder.entry().authenticate(&request, &known, now).is_ok()
    };
    assert!(check("5m", 1_787_220_346) && check("5m", 1_787_220_644));
    assert!(!check("5m", 1_787_220_645) && !check("1s", 1_787_220_346));
}

#[test]
fn a_generic_sender_proves_itself_by_any_hmac_or_by_a_header() {
    let entry = |extra: Value| {
        let mut entry = json!({ "type": "generic", "secret": "env:FIRST", "emits": "image_push" });
        for (key, value) in extra.as_object().expect("keys") {
            entry[key] = value.clone();
        }
        entry
    };
    for (extra, header) in [
        (json!({}), "authorization"),
        (json!({ "header": "X-Token" }), "x-token"),
        (json!({ "signature": { "header": "X-Sum" } }), "x-sum"),
        (json!({ "signature": { "header": "X-Sum", "algorithm": "sha1", "encoding": "base64" } }), "x-sum"),
        (json!({ "signature": { "header": "X-Sum", "algorithm": "sha512", "prefix": "v1:" } }), "x-sum"),
    ] {
        let folder = folder("generic").with(&entry(extra));
        let known = own_secrets(folder.entry());
        let mut request = folder.signed(&folder.path.join("push.json"), &known);
        assert_eq!(folder.authenticate(&request, &known), Ok(()));
        assert!(request.headers.remove(header).is_some(), "{header}");
        assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Missing(_))), "{header}");
    }
    let why = problems_of(&entry(json!({ "header": "X-Token", "signature": { "header": "X-Sum" } })));
    assert!(why.contains("sources.any.header"), "{why}");
}

#[test]
fn a_bare_secret_is_not_enough_where_bodies_are_signed() {
    let folder = folder("generic");
    let known = own_secrets(folder.entry());
    let mut request = folder.request(&folder.path.join("push.json"));
    request.headers.insert("x-signature", VALUES[0].parse().expect("header"));
    request.headers.insert("authorization", format!("Bearer {}", VALUES[0]).parse().expect("header"));
    assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Missing(_))));
}

#[test]
fn without_an_id_each_request_of_a_generic_sender_is_an_event_of_its_own() {
    let identity = |sample: &str| folder("generic").outcome(sample).expect("parsed").events[0].identity.clone();
    assert_eq!(identity("push-several-tags-without-id.json"), None);
    assert_eq!(identity("push.json").as_deref(), Some("4711"));
}

/// The alert that a generic sender's body becomes.
fn alert_of(fields: Value, body: &Value) -> (sluice::domain::alert::Alert, Option<String>) {
    let entry = json!({ "type": "generic", "secret": "env:FIRST", "emits": "alert", "fields": fields });
    let parsed = folder("generic").with(&entry).outcome_of_body("push.json", body.to_string()).expect("parsed");
    let identity = parsed.events[0].identity.clone();
    (groups(&parsed)[0].alerts[0].clone(), identity)
}

#[test]
fn an_alert_of_any_shape_has_the_fields_that_routes_ask_for() {
    let fields = json!({
        "key": "/check/id", "status": "/state", "severity": "/prio", "title": "/check/name", "message": "/output",
        "reason": "/check/type", "object_kind": "/kind", "namespace": "/ns", "name": "/host", "cluster": "/dc",
        "url": "/link", "started": "/since", "time": "/now", "labels.team": "/team", "labels.tags": "/tags",
    });
    let (alert, _) = alert_of(
        fields,
        &json!({
            "check": { "id": 7, "name": "Disk\nof db-1", "type": "disk" }, "state": "PROBLEM", "prio": "P1",
            "output": "/var is full", "kind": "Host", "ns": "db", "host": "db-1", "dc": "fra", "link": "https://mon.example.com/7",
            "since": 1_787_220_344, "now": "2026-08-20T10:06:00Z", "team": "storage", "tags": ["a", "b"],
        }),
    );
    assert_eq!((alert.key.as_str(), alert.title.as_str(), alert.text.as_deref()), ("7", "Disk", Some("/var is full")));
    assert_eq!((alert.status.word(), alert.severity.word()), ("firing", "critical"));
    let object = alert.object.expect("an object");
    assert_eq!(
        (object.kind.as_deref(), object.namespace.as_deref(), object.name.as_str()),
        (Some("Host"), Some("db"), "db-1")
    );
    assert_eq!((alert.reason.as_deref(), alert.cluster.as_deref()), (Some("disk"), Some("fra")));
    assert_eq!((alert.labels["team"].as_str(), alert.labels["tags"].as_str()), ("storage", "a,b"));
    assert_eq!(alert.started.map(|time| time.to_string()).as_deref(), Some("2026-08-20T10:05:44Z"));
    assert_eq!(alert.links[0].url, "https://mon.example.com/7");
}

#[test]
fn what_fires_and_what_ends_it_are_one_alert_and_two_events() {
    let fields = json!({ "id": "/id", "key": "/id", "status": "/state", "title": "/text" });
    let told =
        |state: &str, text: &str| alert_of(fields.clone(), &json!({ "id": "A-7", "state": state, "text": text }));
    let ((fires, one), (ends, other)) = (told("Open", "it burns"), told("Resolved", "it burnt"));
    assert_eq!((fires.key.as_str(), fires.status.word()), ("A-7", "firing"));
    assert_eq!((ends.key.as_str(), ends.status.word()), ("A-7", "resolved"));
    assert!(one.is_some() && one != other);
    assert_eq!(told("Open", "other words").1, one);
    // Without a word for its state it happened, and that is all.
    assert_eq!(told("somehow", "x").0.status.word(), "event");
}

#[test]
fn alerts_of_any_shape_without_an_id_and_a_time_are_events_of_their_own() {
    let fields = json!({ "message": "/text" });
    let (alert, identity) = alert_of(fields, &json!({ "text": "Backup done\nin 5 s" }));
    assert_eq!((alert.title.as_str(), alert.text.as_deref()), ("Backup done", Some("Backup done\nin 5 s")));
    assert_eq!((alert.status.word(), alert.severity.word(), identity), ("event", "info", None));
}

#[test]
fn a_cloudevent_or_standard_webhook_can_be_an_alert() {
    let entry = json!({
        "type": "cloudevents", "secret": "env:FIRST", "emits": "alert",
        "fields": { "title": "/type", "name": "/subject", "message": "/data/text", "labels.source": "/source" },
    });
    let body = json!({
        "specversion": "1.0", "id": "1", "source": "/mon", "type": "com.example.down", "subject": "db-1",
        "data": { "text": "no answer" },
    });
    let parsed =
        folder("cloudevents").with(&entry).outcome_of_body("structured.json", body.to_string()).expect("parsed");
    let alert = &groups(&parsed)[0].alerts[0];
    assert_eq!((alert.title.as_str(), alert.labels["source"].as_str()), ("com.example.down", "/mon"));
    assert!(parsed.events[0].identity.as_deref().is_some_and(|identity| identity.contains("/mon 1")));

    let entry = json!({ "type": "standard-webhooks", "secret": "env:FIRST", "emits": "alert" });
    let body = r#"{"type":"incident.opened","timestamp":"2026-08-20T10:05:44Z","data":{"key":"i-1","title":"Down","status":"firing"}}"#;
    let parsed = folder("standard-webhooks").with(&entry).outcome_of_body("image-pushed.json", body).expect("parsed");
    let alert = &groups(&parsed)[0].alerts[0];
    assert_eq!((alert.key.as_str(), alert.status.word()), ("i-1", "firing"));
}

#[test]
fn an_alert_needs_a_title_and_with_a_status_a_key() {
    let of = |fields: Value| {
        problems_of(&json!({ "type": "generic", "secret": "env:FIRST", "emits": "alert", "fields": fields }))
    };
    for (fields, expected) in [
        (json!({ "severity": "/a" }), "an alert needs its `title`"),
        (json!({ "title": "/a", "status": "/b" }), "needs a `key`"),
        (json!({ "title": "/a", "digest": "/b" }), "sources.any.fields.digest: no field of what `emits: alert` makes"),
        (json!({ "title": "/a", "label.team": "/b" }), "unknown field `label.team`"),
    ] {
        let why = of(fields);
        assert!(why.contains(expected), "{why}");
    }
    let push = json!({ "type": "generic", "secret": "env:FIRST", "emits": "git", "fields": { "labels.a": "/a" } });
    assert!(problems_of(&push).contains("no field of what `emits: git` makes"));
    let entry = json!({ "type": "generic", "secret": "env:FIRST", "emits": "alert" });
    let parsed = folder("generic").with(&entry).outcome_of_body("push.json", r#"{"severity":"info"}"#).expect("parsed");
    assert!(parsed.events.is_empty() && parsed.ignored.is_some_and(|why| why.contains("`title`")));
}
