use super::*;

fn hub() -> Folder {
    folder("dockerhub")
}

/// A push of a tag at a time.
fn pushed(change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = hub().json("push.json");
    change(&mut body);
    hub().outcome_of_body("push.json", body.to_string())
}

fn identity(change: impl Fn(&mut Value)) -> Option<String> {
    identities(&pushed(change).expect("parsed"))[0].map(str::to_owned)
}

#[test]
fn an_official_image_is_below_library_however_it_is_named() {
    for name in ["nginx", "library/nginx", "Library/Nginx"] {
        let parsed = pushed(|body| body["repository"]["repo_name"] = json!(name)).expect("parsed");
        assert_eq!(pushes(&parsed)[0].repository, "docker.io/library/nginx", "{name}");
    }
}

#[test]
fn a_time_is_the_same_written_as_integer_and_as_float() {
    let at = |time: &str| {
        let body = hub().json("push.json").to_string().replace("1787220344", time);
        let parsed = hub().outcome_of_body("push.json", body).expect("parsed");
        (parsed.events[0].time, parsed.events[0].identity.clone())
    };
    assert_eq!(at("1787220344"), at("1.787220344e+09"));
}

#[test]
fn a_tag_that_moves_there_and_back_is_three_events_and_a_redelivery_is_none() {
    let at = |time: u32| identity(|body| body["push_data"]["pushed_at"] = json!(time));
    let moves = [at(1_787_220_344), at(1_787_220_350), at(1_787_220_356)];
    assert!(moves[0] != moves[1] && moves[1] != moves[2] && moves[0] != moves[2]);
    assert_eq!(at(1_787_220_344), moves[0]);
}

#[test]
fn two_pushes_of_a_tag_within_a_second_are_told_apart_by_their_callbacks() {
    let with = |url: &str| identity(|body| body["callback_url"] = json!(url));
    assert_ne!(
        with("https://registry.hub.docker.com/u/a/b/hook/1/"),
        with("https://registry.hub.docker.com/u/a/b/hook/2/")
    );
}

#[test]
fn a_push_without_a_time_is_told_from_no_other() {
    for time in [Value::Null, json!("yesterday"), json!({})] {
        assert_eq!(identity(|body| body["push_data"]["pushed_at"] = time.clone()), None);
    }
}

/// Kargo takes such an event for a push of everything.
#[test]
fn a_push_that_names_no_tag_is_malformed() {
    for tag in [Value::Null, json!("")] {
        let error = pushed(|body| body["push_data"]["tag"] = tag.clone()).expect_err("malformed");
        assert_eq!(error.to_string(), "the body's `push_data.tag` is missing");
    }
}

#[test]
fn the_digests_of_single_platforms_are_not_the_digest_of_the_push() {
    let parsed = hub().outcome("push-of-hardened-image.json").expect("parsed");
    assert_eq!(pushes(&parsed)[0].digest, None);
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    let error = pushed(|body| body["push_data"]["tag"] = json!(["hunter2"])).expect_err("malformed").to_string();
    assert!(error.contains("push_data.tag") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_body_that_is_declared_as_something_else_than_json_is_refused_as_such() {
    let mut request = hub().request(&hub().path.join("push.json"));
    request.headers.insert("content-type", "text/plain".parse().expect("header"));
    assert!(matches!(hub().outcome_of(request.clone()), Err(ParseError::UnsupportedMediaType(_))));
    request.headers.remove("content-type");
    assert_eq!(hub().outcome_of(request).expect("parsed").events.len(), 1);
}
