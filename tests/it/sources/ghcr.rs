//! The package events of GitHub's hooks, as `ghcr` and as `github` take them.

use serde_json::Value;
use sluice::domain::event::{Detail, ImagePush};
use sluice::source::Parsed;

use super::*;

fn push(parsed: &Parsed) -> &ImagePush {
    match parsed.events.as_slice() {
        [Found { detail: Detail::ImagePush(push), .. }] => push,
        other => panic!("expected one push: {other:?}"),
    }
}

/// A sample's body with changes, under a delivery id of its own.
fn changed(sample: &str, delivery: &str, change: impl FnOnce(&mut Value)) -> Parsed {
    let folder = folder("ghcr");
    let mut request = folder.request(&folder.path.join(sample));
    let mut body: Value = serde_json::from_slice(&request.body).expect("JSON");
    change(&mut body);
    request.body = body.to_string().into();
    request.headers.insert("x-github-delivery", delivery.parse().expect("header"));
    folder.outcome_of(request).expect("parsed")
}

fn identity(parsed: &Parsed) -> &str {
    parsed.events[0].identity.as_deref().expect("an identity")
}

/// argocd-image-updater falls back to the version's name, and Keel to its digest, where there is no tag.
#[test]
fn a_digest_never_becomes_a_tag() {
    for sample in ["package-untagged-child.json", "package-digest-as-tag.json"] {
        let parsed = folder("ghcr").outcome(sample).expect("parsed");
        let push = push(&parsed);
        assert!(push.tag.is_none() && push.tags.is_empty() && push.digest.is_some(), "{sample}: {push:?}");
    }
}

/// Keel takes the source repository for the image (keel-hq/keel#646).
#[test]
fn the_image_is_the_packages_and_not_the_source_repositorys() {
    let parsed = changed("registry-package-published.json", "1", |body| {
        body["repository"]["full_name"] = "octo-acme/somewhere-else".into();
    });
    assert_eq!(push(&parsed).repository, "ghcr.io/octo-acme/checkout-api");
}

/// argocd-image-updater answers 400 to pings and to `updated`; Keel submits an empty image for what is no container.
#[test]
fn what_is_no_push_is_authentic_and_ignored_and_an_updated_version_is_a_push() {
    for (sample, events) in [
        ("ping.json", 0),
        ("push.json", 0),
        ("package-deleted.json", 0),
        ("package-npm.json", 0),
        ("package-without-version.json", 0),
        ("package-updated-tag-moved.json", 1),
    ] {
        let parsed = folder("ghcr").outcome(sample).expect(sample);
        assert_eq!(parsed.events.len(), events, "{sample}");
        assert_eq!(parsed.ignored.is_some(), events == 0, "{sample}");
    }
}

#[test]
fn a_push_that_is_told_by_both_events_is_one() {
    let package = changed("package-published.json", "1", |_| ());
    let registry_package = changed("package-published.json", "2", |body| {
        let package = body["package"].take();
        body.as_object_mut().expect("object").remove("package");
        body["registry_package"] = package;
    });
    assert_eq!(identity(&package), identity(&registry_package));
}

#[test]
fn a_tag_that_goes_there_and_back_within_a_second_is_three_pushes() {
    let other = format!("sha256:{}", "b".repeat(64));
    let to_other = |body: &mut Value| {
        body["package"]["package_version"]["container_metadata"]["tag"]["digest"] = other.as_str().into();
    };
    let first = changed("package-published.json", "1", |_| ());
    let second = changed("package-published.json", "2", to_other);
    let third = changed("package-updated-tag-moved.json", "3", |_| ());
    let again = [
        changed("package-updated-tag-moved.json", "4", to_other),
        changed("package-updated-tag-moved.json", "5", |_| ()),
    ];
    let mut identities =
        vec![identity(&first), identity(&second), identity(&third), identity(&again[0]), identity(&again[1])];
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), 5);
}

#[test]
fn a_time_in_another_form_loses_no_push() {
    let parsed = changed("package-published.json", "1", |body| body["package"]["updated_at"] = "yesterday".into());
    assert_eq!((push(&parsed).tag.as_deref(), identity(&parsed)), (Some("v2.4.1"), "1"));
}

#[test]
fn the_git_source_of_the_same_hook_finds_the_same_push() {
    let (git, registry) = (folder("github"), folder("ghcr"));
    let both = [&git, &registry].map(|folder| {
        let request = folder.request(&registry.path.join("package-published.json"));
        folder.outcome_of(request).expect("parsed")
    });
    assert_eq!(both[0], both[1]);
}
