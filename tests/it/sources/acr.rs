use super::*;

fn acr() -> Folder {
    folder("acr")
}

fn sent(change: impl Fn(&mut Value)) -> Result<Parsed, ParseError> {
    let mut body = acr().json("push.json");
    change(&mut body);
    acr().outcome_of_body("push.json", body.to_string())
}

/// Keel never looks at `action`; Flux takes any.
#[test]
fn only_a_push_is_a_push() {
    for action in ["ping", "delete", "chart_push", "chart_delete", "quarantine", "PUSH", "something_new"] {
        let parsed = sent(|body| body["action"] = json!(action)).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some() && parsed.summary == action, "{action}");
    }
}

/// Keel answers 400 to those.
#[test]
fn a_push_by_digest_is_an_event_without_tags() {
    for tag in [Value::Null, json!("")] {
        let parsed = sent(|body| body["target"]["tag"] = tag.clone()).expect("parsed");
        let push = pushes(&parsed)[0];
        assert!(push.tags.is_empty() && push.tag.is_none() && push.digest.is_some());
    }
}

#[test]
fn a_push_is_one_event_whether_the_webhook_or_event_grid_tells_of_it() {
    let event = |sample: &str| acr().outcome(sample).expect("parsed").events.swap_remove(0);
    assert_eq!(event("push.json"), event("eventgrid-cloudevents-push.json"));
    assert_eq!(event("push.json"), event("eventgrid-push-batch.json"));
}

#[test]
fn every_event_of_a_batch_counts() {
    let parsed = acr().outcome("eventgrid-push-batch.json").expect("parsed");
    assert_eq!(pushes(&parsed).iter().map(|push| push.tags.join(" ")).collect::<Vec<_>>(), ["2.0.7", "2.0.8"]);
    assert!(parsed.ignored.is_some_and(|why| why.contains("ImageDeleted")));
}

#[test]
fn the_code_of_event_grids_handshake_comes_back_under_the_name_that_it_wants() {
    let parsed = acr().outcome("eventgrid-validation.json").expect("parsed");
    assert_eq!(parsed.reply, Some(json!({ "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" })));
    let without = acr().json("eventgrid-validation.json").to_string().replace("validationCode", "code");
    let error = acr().outcome_of_body("eventgrid-validation.json", without).expect_err("malformed").to_string();
    assert_eq!(error, "the body's `data.validationCode` is missing");
}

#[test]
fn a_tag_that_moves_there_and_back_is_three_events_and_a_redelivery_is_none() {
    let with = |id: Value| {
        let parsed = sent(|body| body["id"] = id.clone()).expect("parsed");
        identities(&parsed)[0].map(str::to_owned)
    };
    let moves = [with(json!("1")), with(json!("2")), with(json!("3"))];
    assert!(moves[0] != moves[1] && moves[1] != moves[2] && moves[0] != moves[2]);
    assert_eq!(with(json!("1")), moves[0]);
    assert_eq!(with(Value::Null), None);
}

#[test]
fn the_content_type_is_the_operators_and_says_nothing() {
    let mut request = acr().request(&acr().path.join("push.json"));
    request.headers.insert("content-type", "text/plain".parse().expect("header"));
    assert_eq!(acr().outcome_of(request).expect("parsed").events.len(), 1);
}

#[test]
fn the_host_may_be_set_and_a_missing_one_names_the_key() {
    let folder = acr().with(&json!({ "type": "acr", "secret": "env:FIRST", "registry_host": "images.example.com" }));
    for sample in ["push.json", "malformed-without-host.json"] {
        let parsed = folder.outcome(sample).expect("parsed");
        assert_eq!(pushes(&parsed)[0].repository, "images.example.com/orders", "{sample}");
    }
    let error = acr().outcome("malformed-without-host.json").expect_err("malformed").to_string();
    assert!(error.contains("`registry_host`"), "{error}");
}

#[test]
fn a_missing_field_of_a_batch_is_named_with_its_place() {
    let mut body = acr().json("eventgrid-push-batch.json");
    body[1]["data"]["target"]["repository"] = Value::Null;
    let error = acr().outcome_of_body("eventgrid-push-batch.json", body.to_string()).expect_err("malformed");
    assert_eq!(error.to_string(), "the body's `[1].data.target.repository` is missing");
}

#[test]
fn its_sender_may_shake_hands_before_it_sends() {
    assert!(acr().entry().source.shakes_hands());
}
