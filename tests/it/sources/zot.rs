use super::*;

fn zot() -> Folder {
    folder("zot")
}

#[test]
fn a_sink_logs_in_or_repeats_a_header() {
    let file = zot().path.join("image-updated.json");
    for (extra, header) in [
        (json!({ "username": "zot" }), Some("Basic ")),
        (json!({}), Some("whsec_")),
        (json!({ "header": "X-Zot-Key" }), None),
    ] {
        let mut entry = json!({ "type": "zot", "secret": "env:FIRST", "registry_host": "zot.example.com" });
        for (key, value) in extra.as_object().expect("keys") {
            entry[key] = value.clone();
        }
        let folder = zot().with(&entry);
        let known = own_secrets(folder.entry());
        let request = folder.signed(&file, &known);
        let authorization = request.header("authorization");
        assert_eq!(authorization.is_some_and(|value| value.starts_with(header.unwrap_or("-"))), header.is_some());
        assert_eq!(folder.authenticate(&request, &known), Ok(()), "{extra}");
    }
}

#[test]
fn another_user_with_the_same_password_is_refused() {
    let folder = zot();
    let known = own_secrets(folder.entry());
    let mut request = folder.request(&folder.path.join("image-updated.json"));
    let credentials = data_encoding::BASE64.encode(format!("admin:{}", VALUES[0]).as_bytes());
    request.headers.insert("authorization", format!("Basic {credentials}").parse().expect("header"));
    assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Mismatch(_))));
}

#[test]
fn keys_that_contradict_each_other_or_are_missing_are_problems() {
    let problems_of = |entry: Value| {
        let file = json!({ "sources": { "zot": entry }, "targets": {}, "routes": [] });
        Relay::from_value(&file).err().unwrap_or_default()
    };
    let why = problems_of(json!({
        "type": "zot", "secret": "env:FIRST", "registry_host": "a.example", "username": "a", "header": "X-Key",
    }));
    assert!(why.contains("sources.zot.header"), "{why}");
    let why = problems_of(json!({ "type": "zot", "secret": "env:FIRST" }));
    assert!(why.contains("`registry_host` is missing"), "{why}");
}

#[test]
fn an_update_is_a_push_in_either_mode_and_all_else_is_not() {
    let push = |sample: &str| {
        let parsed = zot().outcome(sample).expect("a 2xx");
        pushes(&parsed).first().map(|push| (*push).clone())
    };
    let binary = push("image-updated.json").expect("a push");
    assert_eq!((binary.repository.as_str(), binary.tag.as_deref()), ("zot.example.com/infra/agent", Some("1.3.0")));
    assert_eq!(push("image-updated-structured.json"), Some(binary.clone()));
    let untagged = push("image-updated-by-digest.json").expect("a push");
    assert!(untagged.tags.is_empty() && untagged.digest == binary.digest);
    assert_eq!(
        push("chart-updated.json").and_then(|push| push.media_type).as_deref(),
        Some("application/vnd.cncf.helm.config.v1+json")
    );
    assert!(push("image-updated-before-actors.json").is_some_and(|push| push.actor.is_none()));
    for sample in ["image-deleted.json", "image-lint-failed.json", "repository-created.json"] {
        assert_eq!(push(sample), None, "{sample}");
    }
    let error = zot().outcome("malformed-without-name.json").expect_err("malformed").to_string();
    assert!(error.contains("`name`"), "{error}");
}
