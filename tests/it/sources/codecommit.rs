use sluice::domain::event::GitEvent;
use sluice::source::Function;

use super::*;

fn codecommit() -> Folder {
    folder("codecommit")
}

fn git(sample: &str) -> GitEvent {
    let parsed = codecommit().outcome(sample).expect("parsed");
    match &parsed.events[0].detail {
        Detail::Git(git) => (**git).clone(),
        Detail::ImagePush(_) | Detail::Alert(_) => panic!("no Git event"),
    }
}

/// An event as EventBridge invokes the function with it.
fn invoked(folder: &Folder, sample: &str) -> Result<Parsed, AuthError> {
    let mut request = folder.request(&folder.path.join(sample));
    request.via = Via::Invocation;
    request.headers.clear();
    let known = own_secrets(folder.entry());
    let authentic = folder.entry().authenticate(&request, &known, NOW.parse().expect("time"))?;
    Ok(folder.entry().source.parse(authentic).expect("parsed"))
}

#[test]
fn an_invocation_needs_no_secret_and_belongs_to_the_git_function() {
    assert_eq!(codecommit().entry().function(), Function::GitWebhook);
    let bare = codecommit().with(&json!({ "type": "codecommit" }));
    assert_eq!(invoked(&bare, "reference-updated.json").expect("authentic").events.len(), 1);
    let request = bare.request(&bare.path.join("reference-updated.json"));
    assert!(matches!(bare.authenticate(&request, &Resolved::default()), Err(AuthError::Missing(_))));
    let claim = bare.entry().source.claim().expect("takes events without HTTP");
    let of = |source: &str| sluice::source::Invocation { source: source.into(), ..Default::default() };
    assert!(claim.covers(&of("aws.codecommit")) && !claim.covers(&of("aws.ecr")));
}

#[test]
fn a_push_says_the_same_by_a_rule_a_topic_a_notification_rule_or_a_trigger() {
    let bare = codecommit().outcome("reference-updated.json").expect("parsed");
    assert_eq!(codecommit().outcome("sns-reference-updated.json").expect("parsed"), bare);
    assert_eq!(invoked(&codecommit(), "sns-reference-updated.json").expect("authentic"), bare);
    assert_eq!(git("sns-notification-rule.json"), git("reference-updated.json"));
    // A trigger does not say what the ref was at before.
    assert_eq!(git("sns-trigger.json"), GitEvent { before: None, ..git("reference-updated.json") });
}

#[test]
fn what_has_no_id_of_eventbridge_is_known_again_by_that_of_the_message_or_the_trigger() {
    let identities = |sample: &str| {
        let parsed = codecommit().outcome(sample).expect("parsed");
        parsed.events.into_iter().map(|found| found.identity.expect("an identity")).collect::<Vec<_>>()
    };
    assert_eq!(identities("sns-notification-rule.json"), ["4f0d2c31-20a1-5b6c-9d7e-8f9a0b1c2d02"]);
    let trigger = identities("sns-trigger.json");
    assert!(trigger.len() == 2 && trigger[0] != trigger[1], "{trigger:?}");
    assert!(trigger.iter().all(|one| one.starts_with("31ade2c7-f889-47c5-a937-1cf99e2790e9 ")), "{trigger:?}");
}

#[test]
fn each_ref_of_a_trigger_is_an_event_and_a_deletion_one_only_where_the_source_says_so() {
    let parsed = codecommit().outcome("sns-trigger.json").expect("parsed");
    assert_eq!(
        parsed.summary,
        "referenceUpdated refs/heads/main, referenceCreated refs/tags/v1.2.0, referenceDeleted refs/heads/old"
    );
    assert!(parsed.events.len() == 2 && parsed.ignored.is_some_and(|why| why.contains("deletes: true")));
    let entry = json!({ "type": "codecommit", "secret": "env:FIRST", "header": "X-Api-Key", "deletes": true });
    assert_eq!(codecommit().with(&entry).outcome("sns-trigger.json").expect("parsed").events.len(), 3);
    let elsewhere =
        json!({ "type": "codecommit", "secret": "env:FIRST", "header": "X-Api-Key", "accounts": "210987654321" });
    assert!(codecommit().with(&elsewhere).outcome("sns-trigger.json").expect("a 2xx").events.is_empty());
    assert!(codecommit().outcome("sns-trigger-test.json").expect("a 2xx").events.is_empty());
}

#[test]
fn clone_urls_are_made_of_region_and_name() {
    let push = git("reference-updated.json");
    let repository = "git-codecommit.eu-central-1.amazonaws.com/v1/repos/platform";
    assert_eq!(push.repository.as_deref(), Some(repository));
    assert_eq!(push.clone_urls, [format!("https://{repository}"), format!("ssh://{repository}")]);
    assert_eq!((push.branch.as_deref(), push.actor.as_deref()), (Some("main"), Some("release")));
    assert!(push.paths_truncated && push.commit.is_some() && push.before.is_some());
    let china = git("reference-updated-china.json").repository.expect("a repository");
    assert!(china.starts_with("git-codecommit.cn-north-1.amazonaws.com.cn/"), "{china}");
}

#[test]
fn a_ref_is_told_by_its_full_name_or_by_type_and_name() {
    assert_eq!(git("reference-updated-without-full-name.json").reference.as_deref(), Some("refs/heads/main"));
    assert_eq!(git("reference-created-tag.json").tag.as_deref(), Some("v1.2.0"));
    let error = codecommit().outcome("malformed-without-reference.json").expect_err("malformed").to_string();
    assert!(error.contains("`detail.referenceFullName`"), "{error}");
    let error = codecommit().outcome("malformed-without-detail.json").expect_err("malformed").to_string();
    assert!(error.contains("`detail`"), "{error}");
}

#[test]
fn pull_requests_are_told_with_what_became_of_them() {
    let status = |sample: &str| git(sample).status.expect("a status");
    assert_eq!(
        (status("pull-request-created.json"), status("pull-request-merged.json")),
        ("Open".into(), "merged".into())
    );
    assert_eq!(git("pull-request-merged.json").branch.as_deref(), Some("feature/x"));
}

#[test]
fn deletions_other_accounts_and_other_events_are_ignored() {
    for sample in ["reference-deleted.json", "another-account.json", "comment-on-commit.json", "another-service.json"] {
        let parsed = codecommit().outcome(sample).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
    let entry = json!({
        "type": "codecommit", "secret": "env:FIRST", "header": "X-Api-Key", "deletes": true, "events": "referenceDeleted",
    });
    assert_eq!(codecommit().with(&entry).outcome("reference-deleted.json").expect("parsed").events.len(), 1);
    assert!(codecommit().with(&entry).outcome("reference-updated.json").expect("a 2xx").events.is_empty());
}
