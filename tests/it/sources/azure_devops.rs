use sluice::domain::event::GitEvent;

use super::*;

fn azure() -> Folder {
    folder("azure-devops")
}

fn git(parsed: &Parsed) -> Vec<&GitEvent> {
    let git = |found: &'_ Found| matches!(found.detail, Detail::Git(_));
    assert!(parsed.events.iter().all(git), "only Git events");
    let git = parsed.events.iter().filter_map(|found| match &found.detail {
        Detail::Git(git) => Some(&**git),
        Detail::ImagePush(_) | Detail::Alert(_) => None,
    });
    git.collect()
}

#[test]
fn a_push_is_one_event_for_each_ref_that_moved() {
    let parsed = azure().outcome("push-several-refs.json").expect("parsed");
    let moved: Vec<_> = git(&parsed).iter().map(|git| git.reference.clone().expect("a ref")).collect();
    assert_eq!(moved, ["refs/heads/main", "refs/tags/v1.2.0"]);
    assert_eq!(parsed.ignored.as_deref(), Some("a ref was deleted; `deletes: true` at the source relays that"));
    let ids = identities(&parsed);
    assert!(ids[0].is_some() && ids[0] != ids[1]);
    assert_eq!((git(&parsed)[1].before.as_deref(), git(&parsed)[1].tag.as_deref()), (None, Some("v1.2.0")));
}

#[test]
fn clone_urls_name_no_user_and_are_told_in_both_forms() {
    let parsed = azure().outcome("push.json").expect("parsed");
    let git = git(&parsed)[0];
    assert_eq!(git.repository.as_deref(), Some("dev.azure.com/acme/Delivery/_git/platform"));
    let urls = ["https://dev.azure.com/acme/Delivery/_git/platform", "git@ssh.dev.azure.com:v3/acme/Delivery/platform"];
    assert_eq!(git.clone_urls, urls);
    assert_eq!((git.message.as_deref(), git.paths_truncated), (Some("bump image"), true));
    let parsed = azure().outcome("push-project-with-blank-on-a-server.json").expect("parsed");
    let name = "tfs.example.com:8443/tfs/DefaultCollection/My%20Project/_git/platform";
    assert_eq!(self::git(&parsed)[0].repository.as_deref(), Some(name));
}

#[test]
fn a_deleted_ref_is_relayed_where_the_source_says_so() {
    assert!(azure().outcome("push-branch-deleted.json").expect("a 2xx").events.is_empty());
    let entry = json!({ "type": "azure-devops", "secret": "env:FIRST", "deletes": true });
    let parsed = azure().with(&entry).outcome("push-branch-deleted.json").expect("parsed");
    assert!(git(&parsed)[0].deleted && git(&parsed)[0].commit.is_none());
}

#[test]
fn tests_and_events_that_are_not_listed_are_ignored() {
    for sample in ["test-button.json", "build-completed.json"] {
        let parsed = azure().outcome(sample).expect("a 2xx");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
    }
    let entry = json!({ "type": "azure-devops", "secret": "env:FIRST", "events": "build.complete" });
    let parsed = azure().with(&entry).outcome("build-completed.json").expect("a 2xx");
    assert!(parsed.ignored.is_some_and(|why| why.contains("no repository")));
    assert!(azure().with(&entry).outcome("push.json").expect("a 2xx").events.is_empty());
}

/// `merged` means that a merge was tried.
#[test]
fn what_became_of_a_pull_request_is_its_status() {
    for (sample, status) in
        [("pull-request-created.json", "active"), ("pull-request-merge-attempted.json", "completed")]
    {
        let parsed = azure().outcome(sample).expect("parsed");
        let git = git(&parsed)[0];
        assert_eq!((git.status.as_deref(), git.branch.as_deref()), (Some(status), Some("feature/bump")), "{sample}");
        assert_eq!((git.message.as_deref(), git.actor.as_deref()), (Some("Bump the image"), Some("Jamal Hartnett")));
    }
}

#[test]
fn a_malformed_body_is_refused_with_the_place() {
    for (sample, place) in [
        ("malformed-without-ref-name.json", "`resource.refUpdates[0].name`"),
        ("malformed-without-repository.json", "`resource.repository`"),
    ] {
        let error = azure().outcome(sample).expect_err("malformed").to_string();
        assert!(error.contains(place), "{sample}: {error}");
    }
}
