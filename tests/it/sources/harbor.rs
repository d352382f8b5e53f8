use super::*;

fn harbor() -> Folder {
    folder("harbor")
}

fn sent(change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = harbor().json("push.json");
    change(&mut body);
    harbor().outcome_of_body("push.json", body.to_string())
}

/// Whether a source with this entry believes a request with this header, under this secret.
fn believed(entry: &Value, secret: &'static str, headers: &[(&'static str, &str)]) -> Result<(), AuthError> {
    let folder = harbor().with(entry);
    let mut request = folder.request(&folder.path.join("push.json"));
    for (name, value) in headers {
        request.headers.append(*name, value.parse().expect("header"));
    }
    folder.authenticate(&request, &secrets(folder.entry(), |_| secret))
}

/// argocd-image-updater#1456 expected a scheme; Harbor adds none.
#[test]
fn the_whole_value_of_the_header_is_the_secret_whatever_it_looks_like() {
    let entry = json!({ "type": "harbor", "secret": "env:FIRST" });
    for secret in ["a bare word", "Bearer abc", "Basic dXNlcjpwYXNz", "bare"] {
        assert_eq!(believed(&entry, secret, &[("authorization", secret)]), Ok(()), "{secret}");
    }
    assert_eq!(believed(&entry, "bare", &[("authorization", "Bearer bare")]), Ok(()));
    assert_eq!(believed(&entry, "bare", &[("authorization", "bearer bare")]), Ok(()));
    for wrong in ["Bearer", "bear", "baree", "BARE", "Basic bare", "Bearer  bare", "Bearer Bearer bare", "bare bare"] {
        let refused = believed(&entry, "bare", &[("authorization", wrong)]);
        assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{wrong}: {refused:?}");
    }
    let twice = believed(&entry, "bare", &[("authorization", "bare"), ("authorization", "bare")]);
    assert!(matches!(twice, Err(AuthError::Missing(_))), "{twice:?}");
}

#[test]
fn a_header_that_is_named_is_the_only_one_and_its_value_is_whole() {
    for header in ["X-Harbor-Token", "Authorization"] {
        let entry = json!({ "type": "harbor", "secret": "env:FIRST", "header": header });
        let name = if header == "Authorization" { "authorization" } else { "x-harbor-token" };
        assert_eq!(believed(&entry, "bare", &[(name, "bare")]), Ok(()), "{header}");
        let refused = believed(&entry, "bare", &[(name, "Bearer bare")]);
        assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{header}: {refused:?}");
    }
    let entry = json!({ "type": "harbor", "secret": "env:FIRST", "header": "X-Harbor-Token" });
    let refused = believed(&entry, "bare", &[("authorization", "bare")]);
    assert!(matches!(refused, Err(AuthError::Missing(why)) if why.contains("X-Harbor-Token")));
}

#[test]
fn a_header_that_is_none_is_a_problem_with_its_place() {
    let entry = json!({ "type": "harbor", "secret": "env:FIRST", "header": "X Token", "registry_host": "https://a/b" });
    let file = json!({ "sources": { "harbor": entry }, "targets": {}, "routes": [] });
    let problems = Relay::from_value(&file).expect_err("refused");
    assert!(problems.contains("sources.harbor.header: expected the name of a header"), "{problems}");
    assert!(problems.contains("sources.harbor.registry_host: expected a registry's host"), "{problems}");
}

/// image-updater and Kargo look at the first entry only.
#[test]
fn every_artifact_of_a_request_is_an_event_and_the_tags_of_one_are_together() {
    let parsed = harbor().outcome("push-of-several-artifacts-with-port-and-nested-path.json").expect("parsed");
    let tags: Vec<_> = pushes(&parsed).iter().map(|push| push.tags.join(" ")).collect();
    assert_eq!(tags, ["3.1.0 3.1", "3.2.0-RC1"]);
    let identities = identities(&parsed);
    assert!(identities[0].is_some() && identities[0] != identities[1]);
}

/// Flux takes any type for a push; Keel takes unknown types silently (keel-hq/keel#510).
#[test]
fn what_is_no_push_is_no_event_though_it_looks_like_one_and_the_answer_says_so() {
    for kind in [
        "PULL_ARTIFACT",
        "DELETE_ARTIFACT",
        "SCANNING_COMPLETED",
        "SCANNING_FAILED",
        "SCANNING_STOPPED",
        "QUOTA_EXCEED",
        "QUOTA_WARNING",
        "REPLICATION",
        "TAG_RETENTION",
        "push_artifact",
        "SOMETHING_NEW",
        "harbor.artifact.pulled",
        "harbor.artifact.deleted",
        "harbor.scan.completed",
        "harbor.replication.status.changed",
    ] {
        let parsed = sent(|body| body["type"] = json!(kind)).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some() && parsed.summary == kind, "{kind}");
    }
}

#[test]
fn both_formats_tell_the_same_of_a_push() {
    let (default, cloud) = (harbor().outcome("push.json"), harbor().outcome("cloudevents-push.json"));
    let (default, cloud) = (default.expect("parsed"), cloud.expect("parsed"));
    assert_eq!((pushes(&default), default.events[0].time), (pushes(&cloud), cloud.events[0].time));
}

#[test]
fn a_digest_that_poses_as_a_tag_is_no_tag_in_either_form() {
    for sample in ["push-by-digest.json", "push-by-digest-in-old-form.json"] {
        let parsed = harbor().outcome(sample).expect("parsed");
        let push = pushes(&parsed)[0];
        assert_eq!((push.repository.as_str(), push.tags.len()), ("harbor.example.com/platform/ledger", 0), "{sample}");
        assert!(push.tag.is_none() && push.digest.is_some(), "{sample}");
    }
}

#[test]
fn the_host_may_be_set_and_a_missing_one_names_the_key() {
    let folder = harbor().with(&json!({
        "type": "harbor", "secret": "env:FIRST", "registry_host": "Registry.example.com:8443",
    }));
    for sample in ["push.json", "malformed-without-host.json"] {
        let parsed = folder.outcome(sample).expect("parsed");
        assert_eq!(pushes(&parsed)[0].repository, "registry.example.com:8443/platform/ledger", "{sample}");
    }
    let error = harbor().outcome("malformed-without-host.json").expect_err("malformed").to_string();
    assert!(error.contains("resources[0]") && error.contains("`registry_host`"), "{error}");
}

#[test]
fn a_tag_that_moves_there_and_back_is_three_events_and_another_try_is_none() {
    let push = |digest: char, time: u32| {
        let parsed = sent(|body| {
            body["occur_at"] = json!(time);
            body["event_data"]["resources"][0]["digest"] = json!(format!("sha256:{}", digest.to_string().repeat(64)));
        });
        identities(&parsed.expect("parsed"))[0].map(str::to_owned).expect("an identity")
    };
    let moves = [push('a', 1_787_220_344), push('b', 1_787_220_344), push('a', 1_787_220_350)];
    assert!(moves[0] != moves[1] && moves[1] != moves[2] && moves[0] != moves[2]);
    assert_eq!(push('a', 1_787_220_344), moves[0]);
}

#[test]
fn a_push_without_a_time_is_told_from_no_other() {
    assert_eq!(identities(&sent(|body| body["occur_at"] = Value::Null).expect("parsed")), [None]);
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    let error = sent(|body| body["event_data"]["resources"][0]["tag"] = json!({ "hunter2": 1 }));
    let error = error.expect_err("malformed").to_string();
    assert!(error.contains("event_data.resources[0].tag") && !error.contains("hunter2"), "{error}");
}
