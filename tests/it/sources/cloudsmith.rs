use super::*;

fn cloudsmith() -> Folder {
    folder("cloudsmith")
}

#[test]
fn a_signature_is_taken_bare_and_after_its_algorithm() {
    let folder = cloudsmith();
    let known = own_secrets(folder.entry());
    let mut request = folder.signed(&folder.path.join("package-synced.json"), &known);
    let signature = request.header("x-cloudsmith-signature").expect("signed").to_owned();
    assert_eq!(signature.len(), 40);
    assert_eq!(folder.authenticate(&request, &known), Ok(()));
    for (value, good) in
        [(format!("sha1={signature}"), true), (format!("sha256={signature}"), false), (VALUES[0].into(), false)]
    {
        request.headers.insert("x-cloudsmith-signature", value.parse().expect("header"));
        assert_eq!(folder.authenticate(&request, &known).is_ok(), good, "{value}");
    }
}

#[test]
fn with_a_secret_header_nothing_else_is_looked_at() {
    let folder = cloudsmith().with(&json!({ "type": "cloudsmith", "secret": "env:FIRST", "header": "X-Key" }));
    let known = own_secrets(folder.entry());
    let request = folder.signed(&folder.path.join("package-synced.json"), &known);
    assert_eq!((request.header("x-key"), folder.authenticate(&request, &known)), (Some(VALUES[0]), Ok(())));
    let signed = cloudsmith().signed(&folder.path.join("package-synced.json"), &known);
    assert!(matches!(folder.authenticate(&signed, &known), Err(AuthError::Missing(_))));
}

#[test]
fn the_version_is_the_digest_and_the_tags_are_those_of_the_version() {
    let push = |sample: &str| pushes(&cloudsmith().outcome(sample).expect("parsed"))[0].clone();
    let synced = push("package-synced.json");
    assert_eq!(
        (synced.repository.as_str(), synced.tags.as_slice()),
        ("docker.cloudsmith.io/acme/prod/gateway", ["4.2.0", "latest"].map(str::to_owned).as_slice())
    );
    assert!(synced.digest.is_some());
    assert_eq!(push("package-synced-in-an-array.json"), synced);
    assert_eq!(push("package-tags-updated.json"), synced);
    assert!(push("package-synced-of-one-platform.json").tags.is_empty());
    let tagged = push("package-synced-with-a-tag-as-version.json");
    assert_eq!((tagged.tag.as_deref(), tagged.digest), (Some("4.2.0"), None));
}

#[test]
fn what_is_no_image_or_cannot_be_had_yet_is_ignored() {
    for sample in ["package-created.json", "package-quarantined.json", "package-synced-of-debian.json", "ping.json"] {
        let parsed = cloudsmith().outcome(sample).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
}

#[test]
fn a_malformed_body_is_refused_with_the_place() {
    for (sample, place) in
        [("malformed-without-name.json", "`data.name`"), ("malformed-without-event.json", "`meta.event_id`")]
    {
        let error = cloudsmith().outcome(sample).expect_err("malformed").to_string();
        assert!(error.contains(place), "{sample}: {error}");
    }
}
