use super::*;

fn distribution() -> Folder {
    folder("distribution")
}

fn sent(change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = distribution().json("push.json");
    change(&mut body["events"][0]);
    distribution().outcome_of_body("push.json", body.to_string())
}

#[test]
fn of_all_that_is_pushed_only_manifests_are_events() {
    let at = |kind: Value, place: &str| {
        let parsed = sent(|event| {
            let digest = event["target"]["digest"].as_str().expect("digest").to_owned();
            event["target"]["mediaType"] = kind.clone();
            event["target"]["url"] = json!(format!("https://registry.example.com/v2/team/blobs/{place}/{digest}"));
            event["target"]["tag"] = Value::Null;
        });
        parsed.expect("a 2xx").events.len()
    };
    for manifest in [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        assert_eq!(at(json!(manifest), "manifests"), 1, "{manifest}");
    }
    for blob in [
        "application/octet-stream",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ] {
        assert_eq!(at(json!(blob), "blobs"), 0, "{blob}");
    }
    // Of what kind it is, the URL tells where the media type does not.
    assert_eq!((at(Value::Null, "manifests"), at(Value::Null, "blobs")), (1, 0));
}

/// Flux looks at no action; an endpoint that answers anything but 2xx gets the event for ever.
#[test]
fn what_is_no_push_gets_a_2xx_and_no_event() {
    for action in ["pull", "mount", "delete", "rename", "PUSH"] {
        let parsed = sent(|event| event["action"] = json!(action)).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{action}");
    }
}

#[test]
fn a_push_without_a_host_is_not_refused_so_that_the_registrys_queue_moves_on() {
    let parsed = distribution().outcome("push-without-host.json").expect("a 2xx");
    assert!(parsed.events.is_empty() && parsed.ignored.is_some_and(|why| why.contains("`registry_host`")));
    let entry = json!({ "type": "distribution", "secret": "env:FIRST", "registry_host": "images.example.com:5000" });
    let folder = distribution().with(&entry);
    for sample in ["push.json", "push-without-host.json"] {
        let parsed = folder.outcome(sample).expect("parsed");
        assert_eq!(pushes(&parsed)[0].repository, "images.example.com:5000/team/search", "{sample}");
    }
}

#[test]
fn where_the_request_names_no_host_the_url_does() {
    let parsed = sent(|event| event["request"] = Value::Null).expect("parsed");
    assert_eq!(pushes(&parsed)[0].repository, "registry.example.com/team/search");
}

#[test]
fn the_manifests_of_an_index_are_pushes_without_tags() {
    let parsed = distribution().outcome("push-of-index-with-references.json").expect("parsed");
    assert_eq!(pushes(&parsed).iter().map(|push| push.tags.len()).collect::<Vec<_>>(), [0, 0, 1]);
    let mut identities = identities(&parsed);
    identities.dedup();
    assert!(identities.len() == 3 && identities.iter().all(Option::is_some));
}

#[test]
fn a_tag_that_moves_there_and_back_is_three_events_and_another_try_is_none() {
    let with = |id: Value| {
        let parsed = sent(|event| event["id"] = id.clone()).expect("parsed");
        identities(&parsed)[0].map(str::to_owned)
    };
    let moves = [with(json!("1")), with(json!("2")), with(json!("3"))];
    assert!(moves[0] != moves[1] && moves[1] != moves[2] && moves[0] != moves[2]);
    assert_eq!(with(json!("1")), moves[0]);
    assert_eq!(with(Value::Null), None);
}

#[test]
fn an_odd_time_or_actor_loses_no_push() {
    for (time, actor) in [(Value::Null, Value::Null), (json!("now"), json!({})), (json!(3), json!({ "name": "" }))] {
        let parsed = sent(|event| {
            event["timestamp"] = time.clone();
            event["actor"] = actor.clone();
        });
        assert_eq!(pushes(&parsed.expect("parsed"))[0].actor, None);
    }
}

#[test]
fn a_chart_is_told_by_its_configuration_where_the_registry_lists_references() {
    let parsed = distribution().outcome("push-of-chart-with-references.json").expect("parsed");
    assert_eq!(pushes(&parsed)[0].media_type.as_deref(), Some("application/vnd.cncf.helm.config.v1+json"));
}

#[test]
fn gitlabs_registry_is_read_as_any_other() {
    let gitlab = folder("gitlab-registry");
    let body = gitlab.json("push.json").to_string();
    let (ours, theirs) = (gitlab.outcome("push.json"), distribution().outcome_of_body("push.json", body));
    assert_eq!(ours, theirs);
    assert_eq!(ours.expect("parsed").events.len(), 1);
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    let error = sent(|event| event["target"]["tag"] = json!(["hunter2"])).expect_err("malformed").to_string();
    assert!(error.contains("events[0].target.tag") && !error.contains("hunter2"), "{error}");
}
