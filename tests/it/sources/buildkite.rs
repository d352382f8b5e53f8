use super::*;

fn buildkite() -> Folder {
    folder("buildkite")
}

#[test]
fn time_and_body_are_signed_and_old_signatures_are_refused() {
    let folder = buildkite();
    let known = own_secrets(folder.entry());
    let sent: jiff::Timestamp = NOW.parse().expect("time");
    let request = folder.signed(&folder.path.join("package-created.json"), &known);
    let value = request.header("x-buildkite-signature").expect("signed");
    assert!(value.starts_with(&format!("timestamp={},signature=", sent.as_second())), "{value}");
    let at = |seconds: i64| {
        let now = jiff::Timestamp::from_second(sent.as_second() + seconds).expect("time");
        folder.entry().authenticate(&request, &known, now).map(drop)
    };
    assert_eq!((at(300), at(-300)), (Ok(()), Ok(())));
    assert!(matches!(at(301), Err(AuthError::Missing(_))) && matches!(at(-301), Err(AuthError::Missing(_))));
}

#[test]
fn the_time_is_signed_too() {
    let folder = buildkite();
    let known = own_secrets(folder.entry());
    let mut request = folder.signed(&folder.path.join("package-created.json"), &known);
    let value = request.header("x-buildkite-signature").expect("signed").to_owned();
    let sent: jiff::Timestamp = NOW.parse().expect("time");
    let (now, later) = (sent.as_second().to_string(), (sent.as_second() + 60).to_string());
    for (other, mismatch) in [
        (value.replace(&now, &later), true),
        (value.replace("timestamp=", "time="), false),
        (value.replace(",signature=", ",sig="), false),
        (value.replace(&now, "soon"), false),
        (VALUES[0].to_owned(), false),
    ] {
        request.headers.insert("x-buildkite-signature", other.parse().expect("header"));
        let refused = folder.authenticate(&request, &known).expect_err("refused");
        assert_eq!(matches!(refused, AuthError::Mismatch(_)), mismatch, "{other}: {refused:?}");
    }
}

#[test]
fn a_token_is_enough_only_where_the_source_says_so() {
    let folder = buildkite().with(&json!({ "type": "buildkite", "secret": "env:FIRST", "mode": "token" }));
    let known = own_secrets(folder.entry());
    let request = folder.signed(&folder.path.join("package-created.json"), &known);
    assert_eq!((request.header("x-buildkite-token"), folder.authenticate(&request, &known)), (Some(VALUES[0]), Ok(())));
    assert!(matches!(buildkite().authenticate(&request, &known), Err(AuthError::Missing(_))));
}

#[test]
fn a_package_is_a_push_without_a_tag_unless_it_has_a_version() {
    let parsed = buildkite().outcome("package-created.json").expect("parsed");
    let push = pushes(&parsed)[0];
    assert_eq!((push.repository.as_str(), push.tags.len()), ("packages.buildkite.com/acme/images/gateway", 0));
    let parsed = buildkite().outcome("package-created-with-version.json").expect("parsed");
    assert_eq!(pushes(&parsed)[0].tag.as_deref(), Some("4.2.0"));
    assert!(buildkite().outcome("ping.json").expect("a 2xx").ignored.is_some());
    let error = buildkite().outcome("malformed-without-registry.json").expect_err("malformed").to_string();
    assert!(error.contains("`package.registry.slug`"), "{error}");
}
