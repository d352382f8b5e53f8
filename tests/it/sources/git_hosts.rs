//! What holds for all Git hosts: what is not known loses no push, and a stranger's branch is none of ours.

use sluice::domain::event::{Detail, GitEvent};

use super::*;

/// The one Git event of a sample; `None` where it is ignored.
fn git(sample: &str) -> Option<GitEvent> {
    let (sender, file) = sample.split_once('/').expect("sender and file");
    let parsed = folder(sender).outcome(&format!("{file}.json")).unwrap_or_else(|error| panic!("{sample}: {error}"));
    match parsed.events.as_slice() {
        [] => {
            assert!(parsed.ignored.is_some(), "{sample}");
            None
        }
        [Found { detail: Detail::Git(git), .. }] => Some(git.as_ref().clone()),
        other => panic!("{sample}: {other:?}"),
    }
}

#[test]
fn which_paths_a_push_touched_is_unknown_where_the_ref_is_new_or_no_commits_are_listed() {
    for (sample, unknown) in [
        ("github/push", false),
        ("github/push-branch-created", true),
        ("github/push-without-commits", true),
        ("github/push-tag", true),
        ("gitea/push", false),
        ("gitea/push-branch-created", true),
        ("gitea/push-tag-null-lists", true),
        ("gitlab/push", false),
        ("gitlab/push-branch-created", true),
        ("gitlab/tag-push", true),
    ] {
        assert_eq!(git(sample).expect("relayed").paths_truncated, unknown, "{sample}");
    }
}

/// GitHub lists 3000 at most.
#[test]
fn which_paths_a_push_touched_is_unknown_where_a_commit_touched_more_than_are_listed() {
    for (paths, unknown) in [(2999, false), (3000, true)] {
        let mut body = folder("github").json("push.json");
        body["commits"][0]["added"] = (0..paths).map(|i| format!("docs/{i}")).collect();
        body["commits"][0]["modified"] = json!([]);
        body["commits"][0]["removed"] = json!([]);
        let parsed = folder("github").outcome_of_body("push.json", body.to_string()).expect("parsed");
        let Detail::Git(git) = &parsed.events[0].detail else { panic!("{parsed:?}") };
        assert_eq!(git.paths_truncated, unknown, "{paths}");
    }
}

#[test]
fn a_release_is_told_once_when_it_is_published() {
    for sample in ["github/release-published", "gitea/release-published", "gitlab/release-created"] {
        assert!(git(sample).is_some_and(|git| git.tag.is_some()), "{sample}");
    }
    for sample in
        ["github/release-draft-created", "github/release-edited", "gitea/release-updated", "gitlab/release-updated"]
    {
        assert!(git(sample).is_none(), "{sample}");
    }
}

/// What is about to run has changed nothing that a receiver could fetch. Of a state that is not known, nobody can say
/// whether it is the end.
#[test]
fn of_a_run_only_its_end_is_relayed() {
    let jobs = json!({ "type": "gitlab", "token": "env:FIRST", "events": ["pipeline", "build"] });
    let action: &[_] = &[("requested", false), ("rerequested", false), ("in_progress", false), ("completed", true)];
    let status: &[_] = &[
        ("created", false),
        ("running", false),
        ("canceling", false),
        ("manual", false),
        ("canceled", true),
        ("success", true),
        ("a status of 2030", true),
    ];
    for (folder, sample, place, states) in [
        (folder("github"), "workflow-run-completed.json", "/action", action),
        (folder("github"), "check-suite-completed.json", "/action", action),
        (folder("gitea"), "workflow-run-completed.json", "/action", action),
        (folder("gitlab"), "pipeline-failed.json", "/object_attributes/status", status),
        (folder("gitlab").with(&jobs), "job.json", "/build_status", status),
    ] {
        for (state, is_relayed) in states {
            let mut body = folder.json(sample);
            *body.pointer_mut(place).expect("a state") = json!(state);
            let parsed = folder.outcome_of_body(sample, body.to_string()).expect("parsed");
            let expected = if *is_relayed { (1, None) } else { (0, Some("of a run only its end is relayed")) };
            assert_eq!((parsed.events.len(), parsed.ignored.as_deref()), expected, "{sample} {state}");
        }
    }
}

#[test]
fn a_pull_request_is_merged_once_and_not_again_when_it_is_edited_later() {
    for (sample, status) in [
        ("github/pull-request-merged", "merged"),
        ("github/pull-request-labeled-after-merge", "closed"),
        ("gitea/pull-request-merged", "merged"),
        ("gitea/pull-request-edited-after-merge", "closed"),
        ("gitlab/merge-request-merged", "merged"),
        ("gitlab/merge-request-updated-after-merge", "closed"),
    ] {
        assert_eq!(git(sample).expect("relayed").status.as_deref(), Some(status), "{sample}");
    }
}

/// GitHub's schema allows null there.
#[test]
fn a_pull_request_of_which_it_is_not_said_whether_it_is_merged_is_not() {
    for of in ["github", "gitea"] {
        for merged in [json!(null), json!(false)] {
            let mut body = folder(of).json("pull-request-merged.json");
            body["pull_request"]["merged"] = merged;
            let parsed = folder(of).outcome_of_body("pull-request-merged.json", body.to_string()).expect("parsed");
            let Detail::Git(git) = &parsed.events[0].detail else { panic!("{parsed:?}") };
            assert_eq!(git.status.as_deref(), Some("closed"), "{of}");
        }
    }
}

#[test]
fn a_branch_of_a_fork_is_no_branch_of_the_repository() {
    for sample in [
        "github/workflow-run-completed",
        "github/pull-request-merged",
        "gitea/workflow-run-completed",
        "gitea/pull-request-merged",
        "gitea/forgejo-action-run-failure",
        "gitlab/merge-request-merged",
        "gitlab/pipeline-failed",
        "bitbucket/cloud-pull-request-merged",
        "bitbucket/data-center-pull-request-merged",
        "azure-devops/pull-request-created",
    ] {
        assert!(git(sample).expect("relayed").branch.is_some(), "{sample}");
    }
    for sample in [
        "github/workflow-run-of-a-fork",
        "github/pull-request-of-a-fork",
        "gitea/pull-request-of-a-fork",
        "gitea/forgejo-action-run-of-a-fork",
        "gitlab/merge-request-of-a-fork",
        "gitlab/pipeline-of-a-fork",
        "bitbucket/cloud-pull-request-of-a-fork",
        "bitbucket/data-center-pull-request-of-a-fork",
        "azure-devops/pull-request-of-a-fork",
    ] {
        let git = git(sample).expect("relayed");
        assert_eq!((git.branch, git.commit.is_some()), (None, true), "{sample}");
    }
}
