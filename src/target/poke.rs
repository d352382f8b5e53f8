//! What receivers in a cluster have in common: GitHub's form of a webhook, which several of them take, and what
//! statuses mean at them.
//!
//! Sources: GitHub's "Webhook events and payloads" (docs.github.com) and the fields that Argo CD and Kargo read of
//! them (their files name the places); read 2026-11.

use ::http::HeaderName;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Outbound, RenderError, Response, classify_by_status, excerpt};
use crate::domain::event::{Detail, Event, GitEvent, ImagePush, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};

/// The current value of a secret; an empty one is none.
pub fn current<'s>(secrets: &'s Resolved, reference: &SecretRef) -> Result<&'s Secret, RenderError> {
    let secret = secrets.current(reference).filter(|secret| !secret.is_empty());
    secret.ok_or_else(|| RenderError::NoSecret(reference.clone()))
}

/// A POST of `body` as JSON.
pub fn post_json(url: String, body: &impl serde::Serialize) -> Result<Outbound, RenderError> {
    let body = serde_json::to_vec(body).map_err(|e| RenderError::Unfit(e.to_string()))?;
    Ok(Outbound::post(url, "application/json", body))
}

/// The image push in `event`; the error completes «not told: …» for a type that knows nothing else.
pub fn image_push(event: &Event) -> Result<&ImagePush, String> {
    match &event.detail {
        Detail::ImagePush(push) => Ok(push),
        _ => Err("this type of target is told of image pushes only".into()),
    }
}

/// Why a type that acts on pushes has no use for events of this kind, if it has none.
pub fn refuses_alerts(kind: &str) -> Option<String> {
    (kind == "alert").then(|| NO_ALERTS.to_owned())
}

/// The same, of an event that is one.
pub const NO_ALERTS: &str = "this type of target acts on pushes, not on alerts";

/// The first tag of `push`; the error completes «not told: …».
pub fn first_tag(push: &ImagePush) -> Result<&str, String> {
    let tag = push.tag.as_deref().or_else(|| push.tags.first().map(String::as_str));
    tag.ok_or_else(|| "the push has no tag, and this type of target acts on tags only".into())
}

/// Whether commits or a tag were pushed, in the words of any Git host: `push`, `tag_push`, `repo:push`,
/// `repo:refs_changed`, `git.push`, `referenceUpdated`. A ref that was deleted leaves nothing to fetch.
pub fn is_push(git: &GitEvent) -> bool {
    let word = git.event.as_str();
    let pushed = word.ends_with("push") || word.ends_with("refs_changed") || word.starts_with("reference");
    pushed && git.reference.is_some() && !git.deleted
}

/// The sender's own body, where that is GitHub's. Gitea sends GitHub's headers, too, over a body of other types.
pub fn github_original(original: Option<&Original>) -> Option<&Original> {
    let has = |original: &Original, name: &str| original.headers.iter().any(|(one, _)| one == name);
    original.filter(|one| has(one, "x-github-event") && !has(one, "x-gitea-event") && !has(one, "x-gogs-event"))
}

/// A push as GitHub would tell of it, with the fields that receivers read. The branch stands as default branch, so that
/// what follows `HEAD` looks as well: which branch is the default one is not known. Paths that may lack some are left
/// out, so that nobody concludes from them that nothing of interest changed.
pub fn github_push(git: &GitEvent) -> Value {
    let over = |scheme: fn(&str) -> bool| git.clone_urls.iter().find(|url| scheme(url));
    let page = git.repository.as_ref().map(|repository| format!("https://{repository}"));
    let full_name = git.repository.as_deref().and_then(|repository| repository.split_once('/')).map(|(_, path)| path);
    let mut repository = json!({});
    let fields = [
        ("full_name", full_name.map(str::to_owned)),
        ("name", full_name.and_then(|path| path.rsplit('/').next()).map(str::to_owned)),
        ("html_url", page.clone()),
        ("clone_url", over(|url| url.starts_with("http")).cloned().or_else(|| page.map(|page| format!("{page}.git")))),
        ("ssh_url", over(|url| !url.starts_with("http")).cloned()),
        ("default_branch", git.branch.clone()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            repository[name] = value.into();
        }
    }
    let mut push = json!({ "ref": git.reference, "repository": repository, "commits": [] });
    for (name, value) in [("before", &git.before), ("after", &git.commit)] {
        if let Some(value) = value {
            push[name] = value.as_str().into();
        }
    }
    if !git.paths.is_empty() && !git.paths_truncated {
        push["commits"] = json!([{ "id": git.commit, "added": [], "removed": [], "modified": git.paths }]);
    }
    push
}

/// An image push as GitHub would tell of a package. With one tag it names the tag; with several or none it names none,
/// which receivers take as «look at all of them».
pub fn github_package(push: &ImagePush, tag: Option<&str>) -> Value {
    let path = push.repository.split_once('/').map_or(push.repository.as_str(), |(_, path)| path);
    let (owner, name) = path.split_once('/').unwrap_or(("", path));
    let mut metadata = json!({ "tag": { "name": tag.unwrap_or_default() } });
    if let Some(digest) = &push.digest {
        metadata["tag"]["digest"] = digest.as_str().into();
    }
    // Only a configuration's media type tells a chart from an image; a manifest's says nothing to them.
    if let Some(media_type) = push.media_type.as_ref().filter(|media_type| media_type.contains(".config.")) {
        metadata["manifest"] = json!({ "config": { "media_type": media_type } });
    }
    json!({
        "action": "published",
        "package": {
            "name": name,
            "namespace": owner,
            "owner": { "login": owner },
            "package_type": "CONTAINER",
            "package_version": {
                "version": push.digest,
                "package_url": push.repository,
                "container_metadata": metadata,
            },
        },
    })
}

/// Adds GitHub's headers: event, delivery and the signature under `secret`.
pub fn sign_as_github(request: &mut Outbound, secret: &Secret, event: &str, delivery: &str) -> Result<(), RenderError> {
    let mac = signature::hmac(Algorithm::Sha256, secret, &[&request.body]);
    let value = format!("sha256={}", Encoding::Hex.encode(&mac));
    request.credential(HeaderName::from_static("x-hub-signature-256"), value.as_bytes())?;
    request.header("x-github-event", event)?;
    request.header("x-github-delivery", delivery)
}

/// A failure that every event would share until somebody mends it.
pub fn held(reason: impl Into<String>) -> Outcome {
    Outcome::Retry { blame: Blame::Setup, reason: reason.into() }
}

/// A failure that the next event would share, and that passes by itself.
pub fn busy(reason: impl Into<String>) -> Outcome {
    Outcome::Retry { blame: Blame::Target, reason: reason.into() }
}

/// The outcome that a status has at a receiver in a cluster: what it refuses as malformed may be this event's fault
/// alone, or a slip in the receiver's set-up, so that it is tried again before it is given up.
pub fn classify_in_cluster(response: &Response, now: Timestamp) -> Outcome {
    match response.status {
        400 | 422 => {
            let said = excerpt(response);
            let said = if said.is_empty() { "nothing more is said".to_owned() } else { said };
            Outcome::Retry {
                blame: Blame::Event,
                reason: format!("{}: the receiver refuses this request: {said}", response.status),
            }
        }
        _ => classify_by_status(response, now),
    }
}
