//! GitLab's webhooks.

use sluice::domain::event::{Detail, GitEvent};

use super::*;

fn signing() -> Folder {
    folder("gitlab").with(&json!({ "type": "gitlab", "secret": ["env:FIRST", "env:SECOND"] }))
}

fn both() -> Folder {
    folder("gitlab").with(&json!({ "type": "gitlab", "token": "env:FIRST", "secret": "env:SECOND" }))
}

fn problems(entry: &Value) -> String {
    let file = json!({ "sources": { "gitlab": entry }, "targets": {}, "routes": [] });
    Relay::from_value(&file).expect_err("unsound")
}

fn git(parsed: &Parsed) -> Vec<&GitEvent> {
    let one = |found: &'_ Found| matches!(&found.detail, Detail::Git(_));
    assert!(parsed.events.iter().all(one), "only Git events");
    parsed
        .events
        .iter()
        .filter_map(|found| match &found.detail {
            Detail::Git(git) => Some(&**git),
            Detail::ImagePush(_) | Detail::Alert(_) => None,
        })
        .collect()
}

#[test]
fn a_source_without_token_and_signing_token_is_a_problem_at_its_place() {
    let why = problems(&json!({ "type": "gitlab" }));
    assert!(why.starts_with("sources.gitlab: ") && why.contains("`token`") && why.contains("`secret`"), "{why}");
}

/// The signature of the sample as it was published, made by other code than ours, at the time it was made for.
#[test]
fn the_published_signature_is_accepted_and_only_near_its_time() {
    let folder = signing();
    let known = secrets(folder.entry(), |_| "whsec_7kpCCwRezU/b00RzN+HYUPL6WYf2EKRRVodoxxL9CnM=");
    let mut request = folder.request(&folder.path.join("push-signed.json"));
    for (name, value) in
        [("webhook-timestamp", "1787220344"), ("webhook-signature", "v1,eNJL+Y8lzsU+1lTZqZhGcPcGqq3rPnlZcwWLpeS50uo=")]
    {
        request.headers.insert(name, value.parse().expect("header"));
    }
    for (second, fine) in [(2, true), (300, true), (-300, true), (301, false), (-301, false)] {
        let now = jiff::Timestamp::from_second(1_787_220_344 + second).expect("time");
        assert_eq!(folder.entry().authenticate(&request, &known, now).is_ok(), fine, "{second}");
    }
    let wider = super::folder("gitlab").with(&json!({ "type": "gitlab", "secret": "env:FIRST", "tolerance": "10m" }));
    let now = jiff::Timestamp::from_second(1_787_220_344 + 600).expect("time");
    assert!(wider.entry().authenticate(&request, &known, now).is_ok());
}

#[test]
fn a_signed_body_or_id_that_was_changed_is_refused() {
    let folder = signing();
    let known = own_secrets(folder.entry());
    let signed = folder.signed(&folder.path.join("push.json"), &known);
    assert_eq!(folder.authenticate(&signed, &known), Ok(()));
    let mut body = signed.body.to_vec();
    body[10] ^= 1;
    let other_body = Request { body: body.into(), ..signed.clone() };
    let mut other_id = signed;
    other_id.headers.insert("webhook-id", "another".parse().expect("header"));
    for request in [other_body, other_id] {
        assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Mismatch(_))));
    }
}

#[test]
fn where_both_are_set_both_have_to_fit() {
    let folder = both();
    let known = own_secrets(folder.entry());
    let request = folder.signed(&folder.path.join("push.json"), &known);
    assert_eq!(folder.authenticate(&request, &known), Ok(()));
    for header in ["x-gitlab-token", "webhook-signature", "webhook-id", "webhook-timestamp"] {
        let mut without = request.clone();
        without.headers.remove(header);
        assert!(matches!(folder.authenticate(&without, &known), Err(AuthError::Missing(_))), "{header}");
    }
    let mut wrong = request;
    wrong.headers.insert("x-gitlab-token", "wrong".parse().expect("header"));
    assert!(matches!(folder.authenticate(&wrong, &known), Err(AuthError::Mismatch(_))));
}

#[test]
fn a_bearer_of_the_token_is_not_the_token() {
    let folder = folder("gitlab");
    let known = own_secrets(folder.entry());
    let mut request = folder.request(&folder.path.join("push.json"));
    let value = format!("Bearer {}", VALUES[0]);
    request.headers.insert("x-gitlab-token", value.parse().expect("header"));
    assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Mismatch(_))));
}

#[test]
fn an_event_is_the_same_when_it_is_sent_again_and_another_one_without_a_key() {
    let identities = |sample| {
        let parsed = folder("gitlab").outcome(sample).expect("parsed");
        parsed.events.into_iter().map(|found| found.identity).collect::<Vec<_>>()
    };
    assert_eq!(identities("push.json"), [Some("da7b7f4c-8964-5c0b-89c0-f65ca5e9e6a5".to_owned())]);
    // The event's UUID is shared by events that hooks bring about.
    assert_eq!(identities("push-without-idempotency-key.json"), [None]);
    let several = identities("system-repository-update.json");
    assert!(several.len() == 2 && several[0] != several[1], "{several:?}");
}

/// akuity/kargo#4712: tag pushes are an event of their own.
#[test]
fn a_pushed_tag_is_told_with_the_commit_and_not_with_the_tags_own_object() {
    let parsed = folder("gitlab").outcome("tag-push-annotated.json").expect("parsed");
    let git = git(&parsed)[0];
    assert_eq!((git.event.as_str(), git.tag.as_deref(), git.branch.as_deref()), ("tag_push", Some("v1.4.0"), None));
    assert_eq!(git.commit.as_deref(), Some("77f17754242881b1ef281198da0a3fbe1d2a4298"));
}

/// Kargo skips path filters where the commits are not all listed.
#[test]
fn paths_are_incomplete_where_commits_or_their_paths_are_not_listed() {
    for (sample, truncated) in [("push.json", false), ("push-truncated.json", true), ("system-push.json", true)] {
        let parsed = folder("gitlab").outcome(sample).expect("parsed");
        assert_eq!(git(&parsed)[0].paths_truncated, truncated, "{sample}");
    }
}

#[test]
fn a_system_hook_tells_of_pushes_like_any_other() {
    let of = |sample| folder("gitlab").outcome(sample).expect("parsed");
    let (own, system) = (of("push.json"), of("system-push.json"));
    let what = |git: &GitEvent| (git.event.clone(), git.repository.clone(), git.reference.clone(), git.commit.clone());
    assert_eq!(what(git(&own)[0]), what(git(&system)[0]));
}

#[test]
fn deleted_refs_are_relayed_where_the_source_says_so() {
    for (sample, plain, with) in [("push-branch-deleted.json", 0, 1), ("system-repository-update.json", 2, 3)] {
        let parsed = folder("gitlab").outcome(sample).expect("parsed");
        assert_eq!((parsed.events.len(), parsed.ignored.is_some()), (plain, true), "{sample}");
        let entry = json!({ "type": "gitlab", "token": "env:FIRST", "deletes": true });
        let parsed = folder("gitlab").with(&entry).outcome(sample).expect("parsed");
        assert_eq!((parsed.events.len(), parsed.ignored.is_some()), (with, false), "{sample}");
    }
}

#[test]
fn events_can_be_named_by_the_body_or_by_the_header() {
    for name in ["build", "Job Hook"] {
        let entry = json!({ "type": "gitlab", "token": "env:FIRST", "events": name });
        let events = |sample| folder("gitlab").with(&entry).outcome(sample).expect("parsed").events.len();
        assert_eq!((events("push.json"), events("job.json")), (0, 1), "{name}");
    }
}

#[test]
fn a_body_that_a_template_made_is_known_by_its_header() {
    let body = r#"{"ref":"refs/heads/main","project":{"path_with_namespace":"acme/platform"}}"#;
    let parsed = folder("gitlab").outcome_of_body("push.json", body).expect("parsed");
    assert_eq!((git(&parsed)[0].event.as_str(), git(&parsed)[0].branch.as_deref()), ("push", Some("main")));
}
