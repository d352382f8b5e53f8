//! Google's registries, by Pub/Sub. What a token may be is tested beside `src/source/jwt.rs`.

use sluice::domain::event::Detail;

use super::*;

fn folder() -> Folder {
    super::folder("gcr")
}

fn event_of(sample: &str) -> (Option<String>, Option<String>, Vec<String>) {
    let parsed = folder().outcome(sample).expect("parsed");
    let found = &parsed.events[0];
    let Detail::ImagePush(push) = &found.detail else { panic!("an image push") };
    (found.identity.clone(), push.digest.clone(), push.tags.clone())
}

fn problems_with(key: &str, value: Value) -> String {
    let mut entry = json!({ "type": "gcr", "audience": "https://relay.example.com", "service_account": "a@b.example" });
    entry[key] = value;
    let file = json!({ "sources": { "gcr": entry }, "targets": {}, "routes": [] });
    Relay::from_value(&file).err().unwrap_or_default()
}

#[test]
fn a_notice_says_the_same_wrapped_and_unwrapped() {
    let (_, digest, tags) = event_of("wrapped-insert.json");
    for sample in ["unwrapped-insert.json", "unwrapped-insert-with-metadata.json"] {
        let (_, other_digest, other_tags) = event_of(sample);
        assert_eq!((&digest, &tags), (&other_digest, &other_tags), "{sample}");
    }
}

#[test]
fn without_a_message_id_each_request_is_an_event_of_its_own() {
    assert_eq!(event_of("unwrapped-insert.json").0, None);
    assert!(event_of("unwrapped-insert-with-metadata.json").0.is_some());
    assert!(event_of("wrapped-insert.json").0.is_some());
}

/// Flux accepted every token that Google had signed (CVE-2026-40109).
#[test]
fn googles_signature_alone_is_not_enough() {
    for (key, value) in
        [("audience", "https://other.example.com"), ("service_account", "other@acme-prod.iam.gserviceaccount.com")]
    {
        let signer = folder();
        let known = own_secrets(signer.entry());
        let request = signer.signed(&signer.path.join("wrapped-insert.json"), &known);
        let mut entry = json!({
            "type": "gcr", "audience": "https://relay.example.com/gcr",
            "service_account": "pubsub-push@acme-prod.iam.gserviceaccount.com",
        });
        assert_eq!(folder().with(&entry).authenticate(&request, &known), Ok(()));
        entry[key] = value.into();
        let refused = folder().with(&entry).authenticate(&request, &known);
        assert!(matches!(refused, Err(AuthError::Missing(_))), "{key}: {refused:?}");
    }
}

/// Flux ignores errors of base64; what is redelivered for days must not be refused without need.
#[test]
fn what_others_put_on_the_topic_is_ignored_and_what_is_no_base64_is_refused() {
    for sample in ["wrapped-foreign-message.json", "wrapped-foreign-text.json", "wrapped-attributes-only.json"] {
        let parsed = folder().outcome(sample).expect("parsed");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
    let error = folder().outcome("wrapped-data-not-base64.json").expect_err("malformed").to_string();
    assert!(error.contains("message.data"), "{error}");
}

#[test]
fn both_audience_and_account_have_to_be_named() {
    assert!(problems_with("audience", Value::Null).contains("`audience` is missing"));
    assert!(problems_with("service_account", Value::Null).contains("`service_account` is missing"));
    assert!(problems_with("audience", json!("")).contains("sources.gcr.audience"));
    assert!(problems_with("service_account", json!(["a@b.example", ""])).contains("sources.gcr.service_account"));
}

#[test]
fn keys_are_fetched_by_https_unless_from_nearby() {
    for (url, fine) in [
        ("https://keys.example.com/certs", true),
        ("http://127.0.0.1:8000/certs", true),
        ("http://localhost/certs", true),
        ("http://10.1.2.3/certs", true),
        ("http://keys.example.com/certs", false),
        ("http://192.0.2.1/certs", false),
        ("ftp://keys.example.com/certs", false),
    ] {
        assert_eq!(problems_with("jwks_url", json!(url)).is_empty(), fine, "{url}");
    }
}

#[test]
fn public_keys_make_no_url_token() {
    assert!(problems_with("url_token", json!(true)).contains("sources.gcr.url_token"));
}
