//! Bitbucket's webhooks, of Cloud and of Data Center.

use std::collections::BTreeSet;

use sluice::domain::event::{Detail, GitEvent};

use super::*;

fn git(found: &Found) -> &GitEvent {
    match &found.detail {
        Detail::Git(git) => git,
        Detail::ImagePush(_) | Detail::Alert(_) => panic!("no Git event"),
    }
}

/// The signatures of the samples as they were published, made by other code than ours.
#[test]
fn the_published_signatures_are_accepted() {
    let folder = folder("bitbucket");
    let known = secrets(folder.entry(), |_| "sample-bitbucket-secret");
    for (sample, signature) in [
        ("cloud-push.json", "16364181d1f3d9e2c70ae763d9e805b20bd9f738810334f9f057e45bd5e7132f"),
        ("data-center-refs-changed.json", "f47da346ad188ed618b29e7c78c6eb04d2366703e65506b00cb8d92fc08302bf"),
    ] {
        let mut request = folder.request(&folder.path.join(sample));
        request.headers.insert("x-hub-signature", format!("sha256={signature}").parse().expect("header"));
        assert_eq!(folder.authenticate(&request, &known), Ok(()), "{sample}");
    }
}

#[test]
fn a_sha_1_under_the_same_header_is_refused() {
    let folder = folder("bitbucket");
    let mut request = folder.request(&folder.path.join("cloud-push.json"));
    for signature in [format!("sha1={}", "0".repeat(40)), format!("sha256={}", "0".repeat(40)), "0".repeat(64)] {
        request.headers.insert("x-hub-signature", signature.parse().expect("header"));
        let refused = folder.authenticate(&request, &own_secrets(folder.entry()));
        assert!(matches!(refused, Err(AuthError::Missing(_))), "{signature}");
    }
}

#[test]
fn a_push_of_several_refs_is_several_events_of_their_own() {
    for (sample, deleted) in [("cloud-push-three-refs.json", 1), ("data-center-three-refs.json", 1)] {
        let parsed = folder("bitbucket").outcome(sample).expect("parsed");
        let refs: Vec<_> = parsed.events.iter().filter_map(|found| git(found).reference.as_deref()).collect();
        assert_eq!(refs, ["refs/heads/main", "refs/tags/v1.4.0"], "{sample}");
        let identities: BTreeSet<_> = parsed.events.iter().map(|found| found.identity.as_deref()).collect();
        assert!(identities.len() == 2 && !identities.contains(&None), "{sample}: {identities:?}");
        assert!(parsed.ignored.is_some_and(|why| why.contains("1 of 3")), "{sample}");
        let entry = json!({ "type": "bitbucket", "secret": "env:FIRST", "deletes": true });
        let parsed = folder("bitbucket").with(&entry).outcome(sample).expect("parsed");
        assert_eq!(parsed.events.iter().filter(|found| git(found).deleted).count(), deleted, "{sample}");
        assert_eq!((parsed.events.len(), parsed.ignored), (3, None), "{sample}");
    }
}

/// akuity/kargo#6110: Cloud names refs without `refs/heads/`.
#[test]
fn refs_have_one_form_whoever_sent_them() {
    for sample in ["cloud-push.json", "data-center-refs-changed.json"] {
        let parsed = folder("bitbucket").outcome(sample).expect("parsed");
        let git = git(&parsed.events[0]);
        let refs = (git.reference.as_deref(), git.branch.as_deref());
        assert_eq!(refs, (Some("refs/heads/main"), Some("main")), "{sample}");
    }
}

/// akuity/kargo#4962: both ways of cloning have to be known.
#[test]
fn a_repository_can_be_found_by_both_of_its_urls() {
    for (sample, urls) in [
        ("cloud-push.json", ["https://bitbucket.org/acme/platform.git", "git@bitbucket.org:acme/platform.git"]),
        (
            "data-center-refs-changed.json",
            [
                "https://bitbucket.example.com/scm/acme/platform.git",
                "ssh://git@bitbucket.example.com:7999/acme/platform.git",
            ],
        ),
    ] {
        let parsed = folder("bitbucket").outcome(sample).expect("parsed");
        assert_eq!(git(&parsed.events[0]).clone_urls, urls, "{sample}");
    }
}

#[test]
fn a_condition_on_paths_cannot_leave_a_push_out_whose_paths_nobody_lists() {
    for sample in ["cloud-push.json", "data-center-refs-changed.json"] {
        let parsed = folder("bitbucket").outcome(sample).expect("parsed");
        assert!(git(&parsed.events[0]).paths_truncated, "{sample}");
    }
}

#[test]
fn a_test_of_the_connection_is_answered_and_relayed_to_nobody() {
    let entry = json!({ "type": "bitbucket", "secret": "env:FIRST", "events": ["diagnostics:ping"] });
    let parsed = folder("bitbucket").with(&entry).outcome("data-center-ping.json").expect("parsed");
    assert!(parsed.events.is_empty() && parsed.ignored.is_some());
}

#[test]
fn a_change_that_names_no_ref_is_refused_with_its_number() {
    let refused = folder("bitbucket").outcome("cloud-push-without-ref.json").expect_err("malformed").to_string();
    assert!(refused.contains("number 1"), "{refused}");
}
