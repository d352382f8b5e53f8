//! Gitea's and Forgejo's webhooks.

use super::*;

const SIGNATURES: [&str; 4] = ["x-gitea-signature", "x-forgejo-signature", "x-gogs-signature", "x-hub-signature-256"];

/// A sample that is signed as its sender does, with these values of signature headers changed.
fn with_signatures(sample: &str, change: impl Fn(&str, String) -> Option<String>) -> Result<(), AuthError> {
    let folder = folder("gitea");
    let known = own_secrets(folder.entry());
    let mut request = folder.signed(&folder.path.join(sample), &known);
    for name in SIGNATURES {
        let value = request.header(name).map(str::to_owned);
        request.headers.remove(name);
        if let Some(value) = value.and_then(|value| change(name, value)) {
            request.headers.insert(name, value.parse().expect("header"));
        }
    }
    folder.authenticate(&request, &known)
}

#[test]
fn any_one_of_the_signature_headers_is_enough() {
    for sample in ["push.json", "push-form.form", "forgejo-push.json"] {
        for only in SIGNATURES {
            if only != "x-forgejo-signature" || sample.starts_with("forgejo") {
                let kept = |name: &str, value| (name == only).then_some(value);
                assert_eq!(with_signatures(sample, kept), Ok(()), "{sample} {only}");
            }
        }
    }
}

/// Without a secret, Gitea sends the headers with nothing in them.
#[test]
fn empty_signatures_are_missing_ones() {
    let emptied = |name: &str, _| Some(if name == "x-hub-signature-256" { "sha256=".into() } else { String::new() });
    assert!(matches!(with_signatures("push.json", emptied), Err(AuthError::Missing(_))));
    let all_but_one = |name: &str, value| if name == "x-hub-signature-256" { Some(value) } else { Some(String::new()) };
    assert_eq!(with_signatures("push.json", all_but_one), Ok(()));
}

#[test]
fn a_wrong_signature_is_not_made_good_by_another_header() {
    let wrong = |name: &str, value| if name == "x-gitea-signature" { Some("0".repeat(64)) } else { Some(value) };
    assert!(matches!(with_signatures("push.json", wrong), Err(AuthError::Mismatch(_))));
}

#[test]
fn a_sha_1_signature_alone_is_not_enough() {
    let folder = folder("gitea");
    let mut request = folder.request(&folder.path.join("push.json"));
    request.headers.insert("x-hub-signature", format!("sha1={}", "0".repeat(40)).parse().expect("header"));
    assert!(matches!(folder.authenticate(&request, &own_secrets(folder.entry())), Err(AuthError::Missing(_))));
}

/// The signature of the sample as it was published, made by other code than ours.
#[test]
fn a_form_is_signed_over_the_json_that_it_carries() {
    let folder = folder("gitea");
    let known = secrets(folder.entry(), |_| "sample-webhook-secret");
    let signature = "e7fac2978c4972a0d755ed85226e9c1b721692c778f94ca18db7771ce379934f";
    for sample in ["push.json", "push-form.form"] {
        let mut request = folder.request(&folder.path.join(sample));
        request.headers.insert("x-gitea-signature", signature.parse().expect("header"));
        assert_eq!(folder.authenticate(&request, &known), Ok(()), "{sample}");
    }
}

#[test]
fn a_signature_over_the_form_itself_is_refused() {
    let folder = folder("gitea");
    let known = own_secrets(folder.entry());
    let mut request = folder.request(&folder.path.join("push-form.form"));
    let form = sluice::source::auth::SignatureHeader {
        name: "X-Gitea-Signature",
        prefix: "",
        algorithm: sluice::domain::signature::Algorithm::Sha256,
        encoding: sluice::domain::signature::Encoding::Hex,
    };
    form.sign(&mut request, &folder.entry().secrets()[0], &known).expect("signed");
    assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Mismatch(_))));
}

#[test]
fn a_form_without_its_field_is_refused_before_anything_else() {
    let folder = folder("gitea");
    let mut request = folder.request(&folder.path.join("push-form.form"));
    request.body = Bytes::from_static(b"other=1");
    request.headers.insert("x-gitea-signature", "0".repeat(64).parse().expect("header"));
    assert!(matches!(folder.authenticate(&request, &own_secrets(folder.entry())), Err(AuthError::Missing(_))));
}

#[test]
fn a_form_and_a_body_say_the_same() {
    let parsed = ["push.json", "push-form.form"].map(|sample| folder("gitea").outcome(sample).expect("parsed"));
    let events = parsed.each_ref().map(|parsed| &parsed.events[0].detail);
    assert_eq!(events[0], events[1]);
    let bodies = parsed.each_ref().map(|parsed| &parsed.original.as_ref().expect("original").body);
    assert_eq!(bodies[0], bodies[1]);
}

#[test]
fn other_content_types_are_refused_as_such() {
    let folder = folder("gitea");
    let mut request = folder.request(&folder.path.join("push.json"));
    request.headers.insert("content-type", "text/plain".parse().expect("header"));
    assert!(matches!(folder.outcome_of(request), Err(ParseError::UnsupportedMediaType(_))));
}

#[test]
fn a_deleted_ref_is_relayed_where_the_source_says_so_however_it_is_told() {
    for sample in ["branch-deleted.json", "tag-deleted.json"] {
        let plain = folder("gitea").outcome(sample).expect("parsed");
        assert!(plain.events.is_empty() && plain.ignored.is_some(), "{sample}");
        let entry = json!({ "type": "gitea", "secret": "env:FIRST", "deletes": true });
        assert_eq!(folder("gitea").with(&entry).outcome(sample).expect("parsed").events.len(), 1, "{sample}");
    }
}

#[test]
fn events_can_be_named_by_either_header() {
    for name in ["package", "issues"] {
        let entry = json!({ "type": "gitea", "secret": "env:FIRST", "events": name });
        let events = |sample| folder("gitea").with(&entry).outcome(sample).expect("parsed").events.len();
        let expected = if name == "package" { (0, 1, 0) } else { (0, 0, 1) };
        assert_eq!((events("push.json"), events("package-by-digest.json"), events("issue.json")), expected, "{name}");
    }
}

#[test]
fn a_tag_that_is_pushed_again_is_another_event() {
    let folder = folder("gitea");
    let identity = |delivery: &str| {
        let mut request = folder.request(&folder.path.join("package-created.json"));
        request.headers.insert("x-gitea-delivery", delivery.parse().expect("header"));
        folder.outcome_of(request).expect("parsed").events[0].identity.clone()
    };
    assert_ne!(identity("1"), identity("2"));
    assert_eq!(identity("1"), identity("1"));
}
