//! What registries' events have in common: how an image is named (distribution-spec 1.1, «Pulling manifests»).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Found, Parsed};
use crate::domain::event::{Detail, ImagePush};
use crate::relay::format::{At, Problems, Read, parsed};

/// The host of a registry, with its port if it has one, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl Read for Host {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
            if text.is_empty() || !text.chars().all(fits) {
                return Err("expected a registry's host as images are named by it, such as \
                            registry.example.com:5000, without https:// and without a path"
                    .into());
            }
            Ok(Self(text.to_ascii_lowercase()))
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[-A-Za-z0-9._:\\[\\]]+$" })
    }
}

crate::keys! {
    /// The keys of registries whose events may name another host than the one that images are pulled from, or none.
    pub struct HostKeys {
        /// The registry's host (and port) as images are named by it. Left out: the one that the event names.
        registry_host: Option<Host>,
    }
}

impl HostKeys {
    /// The host to name images by, where an event says that it is `named`.
    pub fn host<'a>(&'a self, named: Option<&'a str>) -> Option<&'a str> {
        self.registry_host.as_ref().map(|host| host.0.as_str()).or(named).filter(|host| !host.is_empty())
    }
}

/// What images of a repository are named by: a host and, where there is one, the path before the images' own names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(pub String);

impl Read for Prefix {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]/".contains(c);
            if text.is_empty() || !text.chars().all(fits) || text.contains("//") {
                return Err("expected what images are named by, such as registry.example.com:5000 or \
                            registry.example.com/team, without https://"
                    .into());
            }
            Ok(Self(text.trim_matches('/').to_ascii_lowercase()))
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[-A-Za-z0-9._:\\[\\]/]+$" })
    }
}

crate::keys! {
    /// The keys of registries that hold several repositories, each of which may have a host or port of its own.
    pub struct RepositoryKeys {
        ..host: HostKeys,
        /// What the images of a repository are named by, where that is not the same for all: the repository's name in the
        /// registry, with a host (and port, and path) after which the image's own name follows.
        repository_hosts: Option<BTreeMap<String, Prefix>>,
    }
}

impl RepositoryKeys {
    /// What the images of `repository` are named by, where it has a host of its own.
    pub fn prefix(&self, repository: &str) -> Option<&str> {
        self.repository_hosts.as_ref()?.get(repository).map(|prefix| prefix.0.as_str())
    }
}

/// What to say where no host is known.
pub const NO_HOST: &str = "the event does not name the registry's host; set `registry_host` at the source";

/// The text, if it is a digest: `sha256:` and 64 hex digits, or `sha512:` and 128.
pub fn digest(text: &str) -> Option<&str> {
    let (algorithm, hex) = text.split_once(':')?;
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    (hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

/// The canonical form of a repository: lower case (a tag never is), no scheme, no slashes at its ends. The port of
/// the host stays.
pub fn repository(name: &str) -> String {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.trim_matches('/').to_lowercase()
}

/// The repository out of a full reference: without `@digest`, and without `:tag` (a colon before the last slash
/// belongs to the host's port). A tag may be empty: GitHub writes `ghcr.io/acme/app:` for an untagged version.
pub fn repository_of(reference: &str) -> Option<&str> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let path = name.rfind('/')?;
    let name = name[path..].find(':').map_or(name, |colon| &name[..path + colon]);
    (!name.is_empty()).then_some(name)
}

/// The host out of a reference or a URL.
pub fn host_of(reference: &str) -> Option<&str> {
    let name = reference.split_once("://").map_or(reference, |(_, rest)| rest);
    name.split_once('/').map(|(host, _)| host).filter(|host| !host.is_empty())
}

/// The push of what `tags` and `digest` name, or `None` where they name nothing. A tag that is a digest is no tag, but
/// tells the digest.
pub fn push(repository: &str, tags: impl IntoIterator<Item = String>, digest: Option<&str>) -> Option<ImagePush> {
    let mut digest = digest.and_then(self::digest).map(str::to_owned);
    let mut named: Vec<String> = Vec::new();
    for tag in tags {
        // No tag has a colon (distribution-spec, «Pulling manifests»).
        if tag.contains(':') {
            digest = digest.or(self::digest(&tag).map(str::to_owned));
        } else if !tag.is_empty() && !named.contains(&tag) {
            named.push(tag);
        }
    }
    (digest.is_some() || !named.is_empty()).then(|| ImagePush {
        repository: self::repository(repository),
        tag: named.first().cloned(),
        tags: named,
        digest,
        ..ImagePush::default()
    })
}

/// A request with these pushes in it, the first of which names it.
pub fn pushes(found: Vec<Found>) -> Parsed {
    let first = found.iter().find_map(|found| match &found.detail {
        Detail::ImagePush(push) => Some(reference(push)),
        _ => None,
    });
    let summary = match (first, found.len()) {
        (Some(first), 0 | 1) => format!("push {first}"),
        (Some(first), all) => format!("push {first} and {} more", all - 1),
        (None, _) => "push".to_owned(),
    };
    Parsed::events(summary, found)
}

/// The tag in a full reference; a digest is none.
pub fn tag_of(reference: &str) -> Option<&str> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let (_, tag) = name[name.rfind('/')?..].split_once(':')?;
    (!tag.is_empty() && digest(tag).is_none()).then_some(tag)
}

/// The media types that an event tells of one manifest.
#[derive(Debug, Clone, Default)]
pub struct MediaType {
    /// Of the manifest itself.
    pub manifest: Option<String>,
    /// Of its configuration, which is what tells a Helm chart from an image.
    pub config: Option<String>,
}

impl MediaType {
    /// The one that says most: the configuration's, where it is not just an image's; else the manifest's.
    pub fn best(self) -> Option<String> {
        let image = |kind: &str| {
            matches!(
                kind,
                "application/vnd.oci.image.config.v1+json"
                    | "application/vnd.docker.container.image.v1+json"
                    | "application/vnd.oci.empty.v1+json"
            )
        };
        self.config.filter(|kind| !kind.is_empty() && !image(kind)).or(self.manifest.filter(|kind| !kind.is_empty()))
    }
}

/// The pushed thing as people write it: `repository:tag`, or `repository@digest`.
pub fn reference(push: &ImagePush) -> String {
    match (push.tags.as_slice(), &push.digest) {
        ([], Some(digest)) => format!("{}@{digest}", push.repository),
        ([], None) => push.repository.clone(),
        (tags, _) => format!("{}:{}", push.repository, tags.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_taken_out_of_every_form_of_reference() {
        for (reference, expected) in [
            ("ghcr.io/acme/app:1.2", "ghcr.io/acme/app"),
            ("ghcr.io/acme/app:", "ghcr.io/acme/app"),
            ("localhost:5000/acme/app", "localhost:5000/acme/app"),
            ("localhost:5000/acme/app:1@sha256:00", "localhost:5000/acme/app"),
        ] {
            assert_eq!(repository_of(reference), Some(expected));
        }
        assert_eq!(repository("https://GHCR.io/Acme/App/"), "ghcr.io/acme/app");
    }

    #[test]
    fn a_digest_that_poses_as_a_tag_is_the_digest() {
        let one = format!("sha256:{}", "1".repeat(64));
        let posing = push("a/b", [one.clone()], None).expect("a push");
        assert_eq!((posing.tag, posing.tags, posing.digest), (None, vec![], Some(one)));
        let twice = push("A/b", ["X".into(), "X".into(), String::new()], None).expect("a push");
        assert_eq!((twice.repository.as_str(), twice.tags, twice.digest), ("a/b", vec!["X".into()], None));
        assert_eq!(push("a/b", [String::new(), "sha256:short".into()], Some("")), None);
    }

    #[test]
    fn a_host_is_taken_out_of_references_and_urls() {
        assert_eq!(host_of("https://r.example.com:5000/v2/a"), Some("r.example.com:5000"));
        assert_eq!(host_of("r.example.com/a:1"), Some("r.example.com"));
        assert_eq!((host_of("/v2/a"), host_of("a")), (None, None));
    }

    #[test]
    fn the_tag_of_a_reference_is_what_follows_the_last_colon_of_its_last_part() {
        let digest = format!("host.example/app:sha256:{}", "a".repeat(64));
        for (reference, expected) in [
            ("ghcr.io/acme/app:1.2", Some("1.2")),
            ("localhost:5000/acme/app", None),
            ("localhost:5000/acme/App:RC@sha256:00", Some("RC")),
            ("ghcr.io/acme/app:", None),
            (&digest, None),
        ] {
            assert_eq!(tag_of(reference), expected, "{reference}");
        }
    }

    #[test]
    fn only_whole_digests_are_digests() {
        assert!(digest(&format!("sha256:{}", "a".repeat(64))).is_some());
        for text in ["latest", "sha256:abc", &format!("sha1:{}", "a".repeat(40)), &"a".repeat(64)] {
            assert!(digest(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_charts_configuration_says_more_than_its_manifest() {
        let kind = |config: &str| {
            MediaType { manifest: Some("manifest".into()), config: Some(config.into()) }.best().expect("one")
        };
        assert_eq!(kind("application/vnd.cncf.helm.config.v1+json"), "application/vnd.cncf.helm.config.v1+json");
        assert_eq!(kind("application/vnd.oci.image.config.v1+json"), "manifest");
        assert_eq!(kind(""), "manifest");
    }
}
