use super::*;

fn artifactory() -> Folder {
    folder("artifactory")
}

fn repository(folder: &Folder, sample: &str) -> String {
    let parsed = folder.outcome(sample).expect("parsed");
    pushes(&parsed)[0].repository.clone()
}

/// One header carries either: who expects signatures must not take the bare secret, nor the other way round.
#[test]
fn a_bare_secret_is_not_enough_where_bodies_are_signed_and_a_signature_is_none_where_they_are_not() {
    let token = || artifactory().with(&json!({ "type": "artifactory", "secret": "env:FIRST", "mode": "token" }));
    let (signing, repeating) = (artifactory(), token());
    let known = own_secrets(signing.entry());
    let file = signing.path.join("pushed.json");
    let (signed, repeated) = (signing.signed(&file, &known), repeating.signed(&file, &known));
    assert_eq!(repeated.header("x-jfrog-event-auth"), Some(VALUES[0]));
    assert_eq!((signing.authenticate(&signed, &known), repeating.authenticate(&repeated, &known)), (Ok(()), Ok(())));
    assert!(signing.authenticate(&repeated, &known).is_err());
    assert!(repeating.authenticate(&signed, &known).is_err());
}

/// Kargo took `image_name` (akuity/kargo#4498), which is the last part only.
#[test]
fn the_path_names_the_image_whatever_its_depth() {
    let of = |sample| repository(&artifactory(), sample);
    assert_eq!(of("pushed.json"), "acme.jfrog.example.com/docker-prod-local/payments/gateway");
    assert_eq!(of("pushed-nested.json"), "acme.jfrog.example.com/docker-prod-local/team/payments/gateway/worker");
    assert_eq!(
        of("pushed-origin-with-path-and-port.json"),
        "artifactory.example.com:8443/docker-prod-local/payments/gateway"
    );
}

/// akuity/kargo#4899, #4945 and #5222.
#[test]
fn host_and_repository_can_be_others_than_the_event_says() {
    let with = |extra: Value| {
        let mut entry = json!({ "type": "artifactory", "secret": "env:FIRST" });
        for (key, value) in extra.as_object().expect("keys") {
            entry[key] = value.clone();
        }
        artifactory().with(&entry)
    };
    let own_host = with(json!({ "registry_host": "Docker.example.com" }));
    assert_eq!(repository(&own_host, "pushed.json"), "docker.example.com/docker-prod-local/payments/gateway");
    assert_eq!(
        repository(&own_host, "pushed-without-origin.json"),
        "docker.example.com/docker-prod-local/payments/gateway"
    );
    let virtual_one = with(json!({ "virtual_repository": "docker" }));
    assert_eq!(repository(&virtual_one, "pushed.json"), "acme.jfrog.example.com/docker/payments/gateway");
    let subdomain = with(json!({ "repository_hosts": { "docker-prod-local": "docker-prod.acme.example.com" } }));
    assert_eq!(repository(&subdomain, "pushed.json"), "docker-prod.acme.example.com/payments/gateway");
    assert_eq!(repository(&subdomain, "pushed-chart.json"), "acme.jfrog.example.com/helm-oci-local/charts/gateway");
    let error = artifactory().outcome("pushed-without-origin.json").expect_err("malformed").to_string();
    assert!(error.contains("`jpd_origin`") && error.contains("`registry_host`"), "{error}");
}

#[test]
fn a_repositorys_host_that_is_none_is_a_problem_with_its_place() {
    let entry = json!({ "type": "artifactory", "secret": "env:FIRST", "repository_hosts": { "a": "https://a" } });
    let file = json!({ "sources": { "artifactory": entry }, "targets": {}, "routes": [] });
    let problems = Relay::from_value(&file).expect_err("refused");
    assert!(
        problems.contains("sources.artifactory.repository_hosts.a: expected what images are named by"),
        "{problems}"
    );
}

#[test]
fn a_manifest_under_its_digest_has_no_tag() {
    let parsed = artifactory().outcome("pushed-by-digest.json").expect("parsed");
    assert!(pushes(&parsed)[0].tags.is_empty() && pushes(&parsed)[0].digest.is_some());
}

#[test]
fn what_is_no_push_of_an_image_is_ignored_and_so_is_the_test_button() {
    for sample in ["promoted.json", "deleted.json", "artifact-deployed.json", "test-button.json"] {
        let parsed = artifactory().outcome(sample).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
}

/// Nothing in a request tells it from the same push tomorrow: better a poke too many than one too few.
#[test]
fn each_request_is_an_event_of_its_own() {
    assert_eq!(identities(&artifactory().outcome("pushed.json").expect("parsed")), [None]);
}
