use super::*;

fn quay() -> Folder {
    folder("quay")
}

fn sent(change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = quay().json("push.json");
    change(&mut body);
    quay().outcome_of_body("push.json", body.to_string())
}

/// image-updater takes the first and drops the others.
#[test]
fn every_tag_of_a_push_is_in_its_one_event() {
    for tags in [json!(["b", "a"]), json!({ "b": "id", "a": "id" })] {
        let parsed = sent(|body| body["updated_tags"] = tags.clone()).expect("parsed");
        let mut tags = pushes(&parsed)[0].tags.clone();
        tags.sort();
        assert_eq!((tags.as_slice(), parsed.events.len()), (["a".to_owned(), "b".to_owned()].as_slice(), 1));
    }
}

/// Flux takes whatever comes for a push.
#[test]
fn what_has_no_updated_tags_is_no_push() {
    for sample in ["build-success", "vulnerability-found", "mirror-started", "image-expiry", "namespace-quota"] {
        let parsed = quay().outcome(&format!("{sample}.json")).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
}

/// image-updater took the images of every Quay for those of quay.io (argocd-image-updater#1683).
#[test]
fn the_host_of_a_quay_of_ones_own_is_kept_with_its_port() {
    let url = "quay.example.com:8443/acme/billing";
    let parsed = sent(|body| body["docker_url"] = json!(url)).expect("parsed");
    assert_eq!(pushes(&parsed)[0].repository, url);
}

#[test]
fn pushes_look_the_same_so_that_each_request_is_its_own_event() {
    assert_eq!(identities(&sent(|_| ()).expect("parsed")), [None]);
}

#[test]
fn only_exactly_what_the_test_button_sends_is_a_test() {
    let events = |tags: Value, pruned: Value| {
        let change = |body: &mut Value| {
            body["updated_tags"] = tags.clone();
            body["pruned_image_count"] = pruned.clone();
        };
        sent(change).expect("parsed").events.len()
    };
    assert_eq!(events(json!(["latest", "foo"]), json!(3)), 0);
    assert_eq!(events(json!({ "foo": "id", "latest": "id" }), json!(3)), 0);
    assert_eq!(events(json!(["latest", "foo"]), Value::Null), 1);
    assert_eq!(events(json!(["latest", "foo"]), json!(2)), 1);
    assert_eq!(events(json!(["latest"]), json!(3)), 1);
    assert_eq!(events(json!([]), Value::Null), 0);
}

#[test]
fn a_body_template_is_named_as_the_reason() {
    let parsed = quay().outcome("push-with-body-template.json").expect("a 2xx");
    assert!(parsed.ignored.is_some_and(|why| why.contains("body template")));
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    for (field, wrong) in [("updated_tags", json!("hunter2")), ("docker_url", json!(["hunter2"]))] {
        let error = sent(|body| body[field] = wrong.clone()).expect_err("malformed").to_string();
        assert!(error.contains(field) && !error.contains("hunter2"), "{error}");
    }
}
