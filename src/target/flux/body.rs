//! Bodies in the shape of a registry, for the Receivers that read one, made from a push to whatever registry.
//!
//! Each holds what is known and what its registry would say of it, and nothing made up. Where a body has room for one
//! tag only, it is the first one of the push: a Receiver only starts a look at the registry, which sees them all.
//! Shapes: the vendors' pages and real deliveries (read 2026-08).

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::event::{Event, ImagePush};

/// The CDEvent of a push, in the version that CDEvents 0.4 has: Flux refuses every other one.
pub const ARTIFACT_PUBLISHED: &str = "dev.cdevents.artifact.published.0.2.0";

/// Docker Hub's host, in the names of images.
const DOCKER_HUB: &str = "docker.io";

/// A repository, taken apart: `ghcr.io/acme/team/app`.
struct Repository<'a> {
    /// `ghcr.io/acme/team/app`.
    full: &'a str,
    /// `ghcr.io`.
    host: &'a str,
    /// `acme/team/app`.
    path: &'a str,
    /// `acme/team`, if the path has that much.
    namespace: Option<&'a str>,
    /// `app`.
    name: &'a str,
}

impl<'a> Repository<'a> {
    fn of(push: &'a ImagePush) -> Self {
        let full = push.repository.as_str();
        let (host, path) = full.split_once('/').unwrap_or(("", full));
        let (namespace, name) = match path.rsplit_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, path),
        };
        Self { full, host, path, namespace, name }
    }
}

/// Docker Hub's: always of one tag, never with a digest.
pub fn docker_hub(push: &ImagePush, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        push_data: PushData<'a>,
        repository: Named<'a>,
    }
    #[derive(Serialize)]
    struct PushData<'a> {
        pushed_at: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        pusher: Option<&'a str>,
        tag: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        media_type: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        repo_name: &'a str,
        repo_url: String,
    }
    let Repository { full, host, path, namespace, name } = Repository::of(push);
    let repo_url = match (host, path.strip_prefix("library/")) {
        (DOCKER_HUB, Some(official)) => format!("https://hub.docker.com/_/{official}"),
        (DOCKER_HUB, None) => format!("https://hub.docker.com/r/{path}"),
        // The only place in this body for another registry's host.
        _ => format!("https://{full}"),
    };
    serde_json::to_vec(&Body {
        push_data: PushData {
            pushed_at: time.as_second(),
            pusher: push.actor.as_deref(),
            tag: push.tag.as_deref(),
            media_type: push.media_type.as_deref(),
        },
        repository: Named { name, namespace, repo_name: path, repo_url },
    })
}

/// Quay's: all tags, never with a digest.
pub fn quay(push: &ImagePush) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        repository: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        docker_url: &'a str,
        updated_tags: &'a [String],
    }
    let Repository { full, path, namespace, name, .. } = Repository::of(push);
    serde_json::to_vec(&Body { repository: path, namespace, name, docker_url: full, updated_tags: &push.tags })
}

/// Azure Container Registry's: one tag or none, and the digest.
pub fn acr(event: &Event, push: &ImagePush, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        id: &'a str,
        timestamp: Timestamp,
        action: &'static str,
        target: Target<'a>,
        request: Request<'a>,
    }
    #[derive(Serialize)]
    struct Target<'a> {
        #[serde(rename = "mediaType", skip_serializing_if = "Option::is_none")]
        media_type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<&'a str>,
        repository: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tag: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Request<'a> {
        host: &'a str,
        method: &'static str,
    }
    let Repository { host, path, .. } = Repository::of(push);
    serde_json::to_vec(&Body {
        id: &event.id,
        timestamp: time,
        action: "push",
        target: Target {
            media_type: push.media_type.as_deref(),
            digest: push.digest.as_deref(),
            repository: path,
            tag: push.tag.as_deref(),
        },
        request: Request { host, method: "PUT" },
    })
}

/// Nexus Repository's: a component has one tag. What was pushed by digest alone is an asset, by the name that Nexus
/// gives it. Its repositories have names of their own, which say no host; here the host stands for them.
pub fn nexus(push: &ImagePush, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        initiator: Option<&'a str>,
        #[serde(rename = "repositoryName")]
        repository_name: &'a str,
        action: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        component: Option<Component<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        asset: Option<Asset>,
    }
    #[derive(Serialize)]
    struct Component<'a> {
        format: &'static str,
        name: &'a str,
        version: &'a str,
    }
    #[derive(Serialize)]
    struct Asset {
        format: &'static str,
        name: String,
    }
    let Repository { host, path, .. } = Repository::of(push);
    let component = push.tag.as_deref().map(|version| Component { format: "docker", name: path, version });
    let digest = push.digest.as_deref().filter(|_| component.is_none());
    serde_json::to_vec(&Body {
        // Nexus writes the offset without a colon.
        timestamp: time.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string(),
        initiator: push.actor.as_deref(),
        repository_name: host,
        action: "CREATED",
        component,
        asset: digest.map(|digest| Asset { format: "docker", name: format!("v2/{path}/manifests/{digest}") }),
    })
}

/// Where a CDEvent of ours comes from, as a reference relative to nothing.
pub fn cdevent_source(event: &Event) -> String {
    format!("/sluice/{}", event.source)
}

/// A CDEvent: one tag or none, and the digest, in the artifact's package URL.
///
/// The Receiver's library reads every event into one and the same object, so that a field which is left out may keep
/// the value that an earlier event had. Nothing that could matter is left out.
pub fn cdevent(event: &Event, push: &ImagePush, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        context: Context<'a>,
        subject: Subject<'a>,
    }
    #[derive(Serialize)]
    struct Context<'a> {
        version: &'static str,
        id: &'a str,
        source: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        timestamp: Timestamp,
    }
    #[derive(Serialize)]
    struct Subject<'a> {
        id: String,
        source: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        content: Content<'a>,
    }
    #[derive(Serialize)]
    struct Content<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
    }
    let source = cdevent_source(event);
    serde_json::to_vec(&Body {
        context: Context {
            version: "0.4.1",
            id: &event.id,
            source: &source,
            kind: ARTIFACT_PUBLISHED,
            timestamp: time,
        },
        subject: Subject {
            id: package_url(push),
            source: &source,
            kind: "artifact",
            content: Content { user: push.actor.as_deref() },
        },
    })
}

/// The package URL of an artifact in a registry: type `oci` of the purl specification.
fn package_url(push: &ImagePush) -> String {
    let Repository { full, name, .. } = Repository::of(push);
    let mut url = format!("pkg:oci/{}", encoded(name));
    if let Some(digest) = &push.digest {
        url.push('@');
        url.push_str(&encoded(digest));
    }
    url.push_str("?repository_url=");
    url.push_str(&encoded(full));
    if let Some(tag) = &push.tag {
        url.push_str("&tag=");
        url.push_str(&encoded(tag));
    }
    url
}

/// Everything percent-encoded but what RFC 3986 calls unreserved.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            // Writing into a text cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_is_the_one_of_the_purl_specification() {
        let push = ImagePush {
            repository: "registry.example.com:5000/team/search".into(),
            tag: Some("0.14.0".into()),
            tags: vec!["0.14.0".into(), "latest".into()],
            digest: Some("sha256:90".into()),
            ..ImagePush::default()
        };
        let repository = "repository_url=registry.example.com%3A5000%2Fteam%2Fsearch";
        assert_eq!(package_url(&push), format!("pkg:oci/search@sha256%3A90?{repository}&tag=0.14.0"));
        let by_digest = ImagePush { tag: None, tags: vec![], ..push.clone() };
        assert_eq!(package_url(&by_digest), format!("pkg:oci/search@sha256%3A90?{repository}"));
        let by_tag = ImagePush { digest: None, ..push };
        assert_eq!(package_url(&by_tag), format!("pkg:oci/search?{repository}&tag=0.14.0"));
    }

    #[test]
    fn docker_hubs_own_repositories_get_the_pages_they_have_there() {
        let url = |repository: &str| {
            let push = ImagePush { repository: repository.into(), tag: Some("1".into()), ..ImagePush::default() };
            let body = docker_hub(&push, Timestamp::UNIX_EPOCH).expect("JSON");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            body["repository"]["repo_url"].as_str().expect("text").to_owned()
        };
        assert_eq!(url("docker.io/acme/app"), "https://hub.docker.com/r/acme/app");
        assert_eq!(url("docker.io/library/nginx"), "https://hub.docker.com/_/nginx");
        assert_eq!(url("localhost:5000/app"), "https://localhost:5000/app");
    }
}
