use super::*;

fn cdevents() -> Folder {
    folder("cdevents")
}

fn reference(sample: &str) -> Option<String> {
    let parsed = cdevents().outcome(sample).expect("a 2xx");
    pushes(&parsed).first().map(|push| {
        let tags = push.tags.iter().map(|tag| format!(":{tag}")).collect::<String>();
        format!("{}{tags}{}", push.repository, if push.digest.is_some() { "@digest" } else { "" })
    })
}

/// Flux decodes 0.4 only.
#[test]
fn both_versions_and_both_modes_say_the_same() {
    let push = |sample: &str| {
        let parsed = cdevents().outcome(sample).expect("parsed");
        (parsed.events[0].identity.clone(), pushes(&parsed)[0].clone())
    };
    let (binary, structured) =
        (push("artifact-published-0.4-binary.json"), push("artifact-published-0.5-structured.json"));
    assert_eq!(binary, structured);
    assert_eq!(
        (binary.1.repository.as_str(), binary.1.tag.as_deref()),
        ("registry.example.com/team/search", Some("0.14.0"))
    );
    assert_eq!(binary.1.actor.as_deref(), Some("ci-bot"));
}

#[test]
fn the_qualifier_names_the_repository_and_a_docker_packages_name_is_its_own() {
    assert_eq!(
        reference("oci-with-registry-only.json").as_deref(),
        Some("registry.example.com:5000/search@digest"),
        "a registry alone"
    );
    assert_eq!(reference("docker-of-a-registry.json").as_deref(), Some("registry.example.com/team/search:0.14.0"));
    assert_eq!(reference("docker-official-image.json").as_deref(), Some("docker.io/library/debian@digest"));
    for sample in ["maven.json", "another-event.json"] {
        assert_eq!(reference(sample), None, "{sample}");
    }
}

#[test]
fn without_a_repository_the_relay_files_host_is_needed() {
    let error = cdevents().outcome("oci-without-repository.json").expect_err("malformed").to_string();
    assert!(error.contains("`registry_host`"), "{error}");
    let entry = json!({ "type": "cdevents", "secret": "env:FIRST", "registry_host": "r.example.com" });
    let parsed = cdevents().with(&entry).outcome("oci-without-repository.json").expect("parsed");
    assert_eq!(pushes(&parsed)[0].repository, "r.example.com/search");
}

#[test]
fn what_is_no_package_url_or_names_no_version_is_refused() {
    for sample in ["malformed-purl.json", "malformed-without-version.json"] {
        let error = cdevents().outcome(sample).expect_err("malformed").to_string();
        assert!(error.contains("`subject.id`"), "{sample}: {error}");
    }
}

#[test]
fn the_senders_own_event_is_passed_on_without_the_secret() {
    let entry = json!({ "type": "cdevents", "secret": "env:FIRST", "header": "Ce-Key" });
    let parsed = cdevents().with(&entry).outcome("artifact-published-0.4-binary.json").expect("parsed");
    let original = parsed.original.expect("passed on");
    assert!(original.headers.iter().any(|(name, _)| name == "ce-type"));
    assert!(original.headers.iter().all(|(name, _)| name != "ce-key"), "{:?}", original.headers);
}
