use super::*;

fn nexus() -> Folder {
    folder("nexus")
}

#[test]
fn the_host_of_a_repository_is_the_relay_files() {
    let name =
        |folder: Folder, sample: &str| folder.outcome(sample).map(|parsed| pushes(&parsed)[0].repository.clone());
    assert_eq!(name(nexus(), "component-created.json").expect("parsed"), "nexus.example.com:8082/apps/portal");
    let by_path = json!({
        "type": "nexus", "secret": "env:FIRST", "registry_host": "nexus.example.com",
        "repository_hosts": { "docker-hosted": "nexus.example.com/docker-hosted" },
    });
    let found = name(nexus().with(&by_path), "component-created.json").expect("parsed");
    assert_eq!(found, "nexus.example.com/docker-hosted/apps/portal");
    let found = name(nexus().with(&by_path), "component-of-another-repository.json").expect("parsed");
    assert_eq!(found, "nexus.example.com/apps/portal");
    let error = name(nexus(), "component-of-another-repository.json").expect_err("malformed").to_string();
    assert!(error.contains("`repository_hosts`"), "{error}");
}

#[test]
fn components_and_manifests_are_pushes_and_all_else_is_not() {
    for (sample, reference) in [
        ("component-created.json", Some("nexus.example.com:8082/apps/portal:5.0.1")),
        ("component-updated.json", Some("nexus.example.com:8082/apps/portal:5.0.1")),
        ("asset-manifest-created.json", Some("nexus.example.com:8082/apps/portal:5.0.1")),
        ("component-deleted.json", None),
        ("component-of-maven.json", None),
        ("asset-blob-created.json", None),
        ("audit.json", None),
    ] {
        let parsed = nexus().outcome(sample).expect("a 2xx");
        let told = pushes(&parsed).first().map(|push| format!("{}:{}", push.repository, push.tags.join(",")));
        assert_eq!(told.as_deref(), reference, "{sample}");
        assert_eq!(parsed.ignored.is_some(), reference.is_none(), "{sample}");
    }
    let parsed = nexus().outcome("asset-manifest-by-digest.json").expect("parsed");
    assert!(pushes(&parsed)[0].tags.is_empty() && pushes(&parsed)[0].digest.is_some());
}

#[test]
fn who_pushed_is_told_without_the_address() {
    let parsed = nexus().outcome("component-created.json").expect("parsed");
    assert_eq!(pushes(&parsed)[0].actor.as_deref(), Some("ci"));
    assert_eq!(parsed.events[0].time.map(|time| time.to_string()).as_deref(), Some("2026-08-20T10:05:44.219Z"));
}

#[test]
fn a_malformed_body_is_refused_with_the_place() {
    let error = nexus().outcome("malformed-without-action.json").expect_err("malformed").to_string();
    assert!(error.contains("`action`"), "{error}");
    let body =
        r#"{"action":"CREATED","repositoryName":"docker-hosted","component":{"format":"docker","name":["hunter2"]}}"#;
    let error = nexus().outcome_of_body("component-created.json", body).expect_err("malformed").to_string();
    assert!(error.contains("component.name") && !error.contains("hunter2"), "{error}");
}
